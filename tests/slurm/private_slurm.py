"""A private Slurm of a single node, for tests: started as root, without systemd or cgroups.

Munge, the accounting database, slurmdbd, slurmctld and slurmd run as children of this process, with
their own configuration, key, sockets and ports below one temporary directory. It has what a production
site has and what the profile `s3df` names: the partition ``milano``, accounting with enforced accounts,
memory as a consumable resource, and jobs killed when they exceed their memory or time.

``python -m tests.slurm.private_slurm COMMAND ...`` runs one command on such a Slurm.
"""

import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
NEEDED = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacctmgr")
CLUSTER, NODE, PARTITION, ACCOUNT = "private", "private0", "milano", "fermi:L1"
CPUS, MEMORY_MB = 8, 12000  # of the node, whatever the machine has: the jobs of the tests are small
PR_SET_PDEATHSIG = 1
STOP_SECONDS = 20
START_SECONDS = 60

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge_socket}
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
# No cgroups in a bare container: processes are found by their parents, memory by polling.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
OverTimeLimit=0
KillWait=2
ReturnToService=2
SlurmctldTimeout=300
SlurmdTimeout=300
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={munge_socket}
AccountingStorageEnforce=associations,limits
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={d_port} CPUs={cpus} RealMemory={memory}
PartitionName={partition} Nodes={node} Default=NO MaxTime=10:00:00 State=UP
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={munge_socket}
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
LogFile={home}/slurmdbd.log
PidFile={home}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
"""


def missing() -> list[str]:
    """Return the programs that are not here; Debian's `PACKAGES` have them all."""
    return [name for name in NEEDED if shutil.which(name) is None]


def _die_with_parent() -> None:
    """Have the kernel end this child when its parent dies, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(what: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait until `ready`; AssertionError names `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)


class PrivateSlurm:
    """The daemons and their directory; `env` makes Slurm's commands talk to them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {"SLURM_CONF": str(home / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = dict(zip(("ctld_port", "d_port", "dbd_port", "sql_port"), _free_ports(4), strict=True))

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.env}, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def works(self, *command: str) -> bool:
        """Tell whether one of Slurm's commands ends well."""
        return (
            subprocess.run(
                command, env={**os.environ, **self.env}, capture_output=True, check=False, timeout=120
            ).returncode
            == 0
        )

    def start(self) -> None:
        """Start everything; a job can be submitted when this returns."""
        self._configure()
        self._start_munge()
        self._start_database()
        self.start_daemon("slurmdbd")
        wait_for("slurmdbd", lambda: self.works("sacctmgr", "-n", "list", "cluster"))
        for what in (
            ("cluster", CLUSTER),
            ("account", ACCOUNT, f"Cluster={CLUSTER}"),
            ("user", getpass.getuser(), f"Account={ACCOUNT}", f"Cluster={CLUSTER}"),
        ):
            self.run("sacctmgr", "-i", "add", *what)
        self.start_daemon("slurmctld")
        wait_for("slurmctld", lambda: self.works("scontrol", "ping"))
        self.start_daemon("slurmd")
        wait_for("the node", lambda: self.node_state() == "idle")

    def node_state(self) -> str:
        """Return the state of the node, as sinfo says it."""
        return self.run("sinfo", "-h", "-n", NODE, "-o", "%T", check=False).strip()

    def _configure(self) -> None:
        for name in ("state", "spool", "munge", "sql"):
            (self.home / name).mkdir()
        values = {
            "home": self.home,
            "host": socket.gethostname().split(".")[0],
            "munge_socket": self.home / "munge" / "socket",
            "cluster": CLUSTER,
            "node": NODE,
            "partition": PARTITION,
            "cpus": CPUS,
            "memory": MEMORY_MB,
            "password": secrets.token_hex(16),
            **self._ports,
        }
        (self.home / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (self.home / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        dbd = self.home / "slurmdbd.conf"
        dbd.touch(mode=0o600)
        dbd.write_text(SLURMDBD_CONF.format(**values))
        user = "slurm@localhost"
        (self.home / "init.sql").write_text(
            f"CREATE USER {user} IDENTIFIED BY '{values['password']}';\n"
            f"GRANT ALL ON slurm_acct.* TO {user};\n"
        )

    def _spawn(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
                start_new_session=True,  # a Ctrl-C reaches the tests first, and they stop the daemons
                preexec_fn=_die_with_parent,
            )

    def _start_munge(self) -> None:
        home = self.home / "munge"
        key = home / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        places = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "socket": "socket"}
        options = [f"--{option}={home / name}" for option, name in places.items()]
        self._spawn("munged", "munged", "--foreground", "--force", *options)
        wait_for("munged", lambda: self.works("munge", "-n", f"--socket={home / 'socket'}"))

    def _start_database(self) -> None:
        data = self.home / "sql"
        self.run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db")
        self._spawn(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            f"--socket={self.home / 'sql.socket'}",
            f"--pid-file={self.home / 'sql.pid'}",
            "--bind-address=127.0.0.1",
            f"--port={self._ports['sql_port']}",
            f"--init-file={self.home / 'init.sql'}",
            "--innodb-lock-wait-timeout=900",
        )
        wait_for("mariadbd", self._database_answers)

    def _database_answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._ports["sql_port"]), timeout=1):
            return True
        return False

    def start_daemon(self, name: str) -> None:
        """Start slurmdbd, slurmctld or slurmd, for the first time or again."""
        node = ["-N", NODE] if name == "slurmd" else []
        self._spawn(name, name, "-D", *node)

    def stop_daemon(self, name: str) -> None:
        """Stop one daemon; its state is on disk."""
        daemon = self._daemons.pop(name, None)
        if daemon is None or daemon.poll() is not None:
            return
        daemon.terminate()
        try:
            daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def stop(self) -> None:
        """Cancel all jobs and stop everything; nothing that was started here runs on."""
        if "slurmctld" in self._daemons:
            with suppress(Exception):
                self.run("scancel", "--partition", PARTITION)
                wait_for("the jobs' end", lambda: not self.run("squeue", "-h"), STOP_SECONDS)
        for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
            self.stop_daemon(name)
        for process in self.left():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def last_words(self) -> str:
        """Return the ends of all logs, for whoever must find out why something did not start."""
        logs = sorted([*self.home.glob("*.log"), *self.home.glob("*.out"), *self.home.glob("munge/log")])
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def left(self) -> list[int]:
        """Return processes that live in this Slurm's environment, this one and its parents excepted."""
        mark = f"SLURM_CONF={self.home}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found


@contextmanager
def private_slurm() -> Iterator[PrivateSlurm]:
    """Start a private Slurm; whatever happens, it is stopped and its directory removed."""
    home = Path(tempfile.mkdtemp(prefix="halfpipe-slurm-"))
    home.chmod(0o755)
    slurm = PrivateSlurm(home)
    try:
        try:
            slurm.start()
        except Exception as error:
            error.add_note(slurm.last_words())
            raise
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(home, ignore_errors=True)


def main(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> int:
    """Run the command `argv` on a private Slurm and return its exit status."""
    if missing():
        print(f"not here: {', '.join(missing())}; install Debian's {' '.join(PACKAGES)}", file=sys.stderr)
        return 1
    with private_slurm() as slurm:
        return subprocess.run(argv, env={**env, **slurm.env}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
