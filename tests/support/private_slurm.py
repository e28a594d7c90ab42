"""A private Slurm with one node, set up like S3DF's, for tests. It runs as root, without systemd or cgroups.

Munge, MariaDB, slurmdbd, slurmctld and slurmd run with their own configuration, key, sockets and ports in one
temporary directory. As at S3DF:

- An account is `facility:repo`, and job_submit.lua turns `fermi:L1` in partition ``milano`` into `fermi:l1@milano`.
- slurmdbd knows the accounts, and Slurm refuses an account, a QOS or a partition that the user has no right to.
- A job in QOS ``normal`` preempts jobs in QOS ``preemptable``. Slurm cancels them and does not requeue them.

Memory is a consumable resource. Slurm kills a job that exceeds its memory or its time.

A keeper process ends everything and removes the directory, both after the tests and when the tests are killed.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support import servers

NODE = "private0"
PARTITION = "milano"
ACCOUNT = "fermi:L1"  # as people write it
HISTORY_ACCOUNT = "fermi:users"  # only this one may be preempted
NORMAL = "normal"
PREEMPTABLE = "preemptable"
CPUS = 16  # of the node
MEMORY_MB = 100_000  # of the node; the machine may have less, because the test jobs are small
STOP_SECONDS = 20
# At some starts, slurmdbd 24.11.5 with MariaDB's client library 11.8.9 loses an answer of the database. Then
# slurmdbd ends, or sacctmgr cannot add the cluster. With a new database, both work.
ACCOUNTING_TRIES = 8

SLURM_CONF = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={slurmdbd}
# Without the socket of this munge here, sacctmgr asks the munge of the machine.
AccountingStoragePass={home}/munge/socket
AccountingStorageEnforce=associations,limits,qos
JobSubmitPlugins=lua
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
PriorityType=priority/multifactor
PriorityWeightQOS=1000
PreemptType=preempt/qos
PreemptMode=CANCEL
SchedulerParameters=sched_interval=2,bf_interval=2
OverTimeLimit=0
KillWait=2
ReturnToService=2
SlurmctldTimeout=300
SlurmdTimeout=300
MinJobAge=3600
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd} CPUs={cpus} RealMemory={memory}
PartitionName={partition} Nodes={node} Default=NO MaxTime=10:00:00 State=UP
"""
# Root needs no password on MariaDB's socket; MYSQL_UNIX_PORT in the environment of slurmdbd names the socket.
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
DbdHost=localhost
DbdPort={slurmdbd}
SlurmUser=root
PidFile={home}/slurmdbd.pid
LogFile={home}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""
# slurmdbd 24.11.5 with MariaDB's client library 11.8.9 ends with "Number of columns in result ..." if it
# creates the database itself, so MariaDB creates the database.
INIT_SQL = "CREATE DATABASE IF NOT EXISTS slurm_acct_db;\n"
JOB_SUBMIT_LUA = """\
function slurm_job_submit(job, partitions, uid)
   if job.account and job.partition and not job.account:find("@") then
      job.account = job.account:lower() .. "@" .. job.partition
   end
   return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
   return slurm.SUCCESS
end
"""


def full_account(account: str) -> str:
    """Return slurmdbd's name for an account, as job_submit.lua makes it."""
    return account if "@" in account else f"{account.lower()}@{PARTITION}"


class PrivateSlurm:
    """The daemons and their directory; `env` makes Slurm's commands talk to them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {"SLURM_CONF": str(home / "slurm.conf")}
        self._munge = home / "munge" / "socket"
        self._mariadb = home / "mariadb.socket"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._script_time = 0.0
        self._ports = free_ports("slurmctld", "slurmd", "slurmdbd")

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = self.done(*command)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def works(self, *command: str) -> bool:
        """Return whether one of Slurm's commands succeeds."""
        return self.done(*command).returncode == 0

    def done(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run one of Slurm's commands and return its exit status and both outputs."""
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)

    def start(self) -> None:
        """Start everything; a job can be submitted when this returns."""
        self._configure()
        self.start_daemon("munged")
        for tries_left in reversed(range(ACCOUNTING_TRIES)):
            try:
                self._start_accounting()
                break
            except AssertionError:
                if not tries_left:
                    raise
                self._remove_accounting()
        for name in ("slurmctld", "slurmd"):
            self.start_daemon(name)
        servers.wait_for("the node", lambda: self.node_state() == "idle")

    def _start_accounting(self) -> None:
        install = ("--skip-test-db", "--auth-root-socket-user=root")
        self.run("mariadb-install-db", *self._mariadb_options(), *install)
        for name in ("mariadbd", "slurmdbd"):
            self.start_daemon(name)
        self._add_accounts()

    def _remove_accounting(self) -> None:
        for name in ("slurmdbd", "mariadbd"):
            if name in self._daemons:
                self.stop_daemon(name)
        shutil.rmtree(self.home / "mariadb")

    def _configure(self) -> None:
        for name in ("state", "spool", "munge"):
            (self.home / name).mkdir()
        values = {
            "home": self.home,
            "host": socket.gethostname().split(".")[0],
            "node": NODE,
            "partition": PARTITION,
            "cpus": CPUS,
            "memory": MEMORY_MB,
            **self._ports,
        }
        texts = {
            "slurm.conf": SLURM_CONF.format(**values),
            "slurmdbd.conf": SLURMDBD_CONF.format(**values),
            "cgroup.conf": "CgroupPlugin=disabled\n",
            "job_submit.lua": JOB_SUBMIT_LUA,
            "init.sql": INIT_SQL,
        }
        for name, text in texts.items():
            (self.home / name).write_text(text)
        (self.home / "slurmdbd.conf").chmod(0o600)
        key = self.home / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))

    def _add_accounts(self) -> None:
        account = full_account(ACCOUNT)
        history = full_account(HISTORY_ACCOUNT)
        for command in (
            f"add qos {PREEMPTABLE}",
            f"modify qos {NORMAL} set preempt={PREEMPTABLE} priority=1000",
            "add cluster private",
            f"add account {account}",
            f"add account {history} qos={NORMAL},{PREEMPTABLE}",
            f"add user root account={account},{history}",
        ):
            self.run("sacctmgr", "-i", *command.split())

    def _mariadb_options(self) -> list[str]:
        # The machine does not crash in these tests, so nothing needs to be flushed.
        return ["--no-defaults", "--user=root", f"--datadir={self.home / 'mariadb'}", "--debug-no-sync"]

    def start_daemon(self, name: str) -> None:
        """Start or restart munged, mariadbd, slurmdbd, slurmctld or slurmd, and wait until it answers."""
        munge = [f"--{each}-file={self._munge.with_name(each)}" for each in ("key", "pid", "log", "seed")]
        mariadb = [f"--socket={self._mariadb}", "--skip-networking", f"--init-file={self.home / 'init.sql'}"]
        options = {
            "munged": ["--foreground", "--force", f"--socket={self._munge}", *munge],
            "mariadbd": [*self._mariadb_options(), *mariadb],
            "slurmdbd": ["-D"],
            "slurmctld": ["-D"],
            "slurmd": ["-D", "-N", NODE],
        }
        answers = {
            "munged": lambda: self.works("munge", "-n", f"--socket={self._munge}"),
            "mariadbd": lambda: connects(self._mariadb),
            "slurmdbd": lambda: self.works("sacctmgr", "ping"),
            "slurmctld": lambda: self.works("scontrol", "ping"),
            "slurmd": lambda: self.works("scontrol", "show", "slurmd", NODE),
        }
        with (self.home / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [name, *options[name]],
                env={**os.environ, **self.env, "MYSQL_UNIX_PORT": str(self._mariadb)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
                start_new_session=True,  # a Ctrl-C reaches the tests, but not the daemons
            )
        servers.wait_for(name, lambda: self._runs(name) and answers[name]())

    def _runs(self, name: str) -> bool:
        """Return True, or raise an AssertionError if the daemon has ended."""
        status = self._daemons[name].poll()
        assert status is None, f"{name} ended with status {status}"
        return True

    def stop_daemon(self, name: str) -> None:
        """Stop one daemon; its state is on disk."""
        daemon = self._daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def reap(self) -> None:
        """Collect the daemons that the keeper has ended."""
        for daemon in self._daemons.values():
            daemon.wait(STOP_SECONDS)

    def modify(self, *words: str) -> None:
        """Run `sacctmgr -i modify` with these words, which name accounts as slurmdbd does (`full_account`)."""
        self.run("sacctmgr", "-i", "modify", *words)

    def limit(self, account: str, nodes: int) -> None:
        """Limit the nodes that an account uses at a time; -1: no limit. With 0 its jobs wait (AssocGrpNodeLimit)."""
        self.modify("account", full_account(account), "set", f"GrpTRES=node={nodes}")

    def refuse(self, number: int = 0) -> None:
        """Have slurmctld refuse every job with one of Slurm's error numbers; 0: accept jobs again."""
        script = self.home / "job_submit.lua"
        script.write_text(JOB_SUBMIT_LUA.replace("return slurm.SUCCESS", f"return {number}", 1))
        self._script_time = max(
            self._script_time + 1, time.time()
        )  # slurmctld looks for a newer script, in seconds
        os.utime(script, (self._script_time, self._script_time))

    def partition(self, state: str) -> None:
        """Set the state of the partition: ``UP``, ``DOWN``, ``DRAIN`` or ``INACTIVE``."""
        self.run("scontrol", "update", f"PartitionName={PARTITION}", f"State={state}")

    def fail_node(self) -> None:
        """Fail the node; its jobs end with ``NODE_FAIL``, and it is down until `resume`."""
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")

    def drain(self) -> None:
        """Keep the node from starting jobs; running jobs continue."""
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=test")

    def resume(self) -> None:
        """Let the node start jobs again; a node that was down may have done so by itself."""
        self.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME", check=False)

    def node_state(self) -> str:
        """Return the state of the node, such as ``idle``, ``mixed``, ``draining`` or ``drained``."""
        return self.run("sinfo", "-h", "-n", NODE, "-o", "%T", check=False).strip()

    def submit(self, *options: str) -> str:
        """Submit a small job of ten minutes, and return its id."""
        named = (f"--partition={PARTITION}", f"--account={ACCOUNT}", "--output=/dev/null", "--mem=500")
        return self.run("sbatch", "--parsable", *named, *options, "--wrap=sleep 600").strip()

    def fill(self) -> str:
        """Submit a job that needs the whole node and preempts others; return its id, for `cancel`."""
        return self.submit("--exclusive", f"--qos={NORMAL}")

    def cancel(self, job: str) -> None:
        """Cancel a job and wait until it has ended."""
        self.run("scancel", job)
        servers.wait_for(f"the end of job {job}", lambda: not self.run("squeue", "-h", "-j", job))

    def last_words(self) -> str:
        """Return the ends of all logs, to find out why something did not start."""
        logs = sorted([*self.home.glob("*.log"), *self.home.glob("*.out"), *self.home.glob("munge/log")])
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def free_ports(*names: str) -> dict[str, int]:
    """Return a free port of this machine for each name."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def connects(path: Path) -> bool:
    """Return whether a server listens on a Unix socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False


def processes_of(home: Path) -> list[int]:
    """Return the processes that belong to the Slurm of `home`, and all their descendants.

    A process is recognized by its environment or, like a slurmstepd that overwrote its environment, by its directory.
    """
    mark = f"SLURM_CONF={home}/".encode()
    children = defaultdict(list)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            children[int(after_name[1])].append(int(entry.name))
            if mark in (entry / "environ").read_bytes() or (entry / "cwd").readlink() == home:
                found.append(int(entry.name))
    for pid in found:  # the list grows while the loop runs
        found.extend([child for child in children[pid] if child not in found])
    return found


def keep() -> None:
    """Wait for the end of the tests, then kill the daemons, the jobs and the heads, and remove their directory.

    The tests hold the other end of standard input. They write a line, or the kernel closes that end if they are killed.
    """
    home = Path(sys.argv[1])
    sys.stdin.readline()
    while processes := processes_of(home):
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def private_slurm() -> Iterator[PrivateSlurm]:
    """Start a private Slurm; its keeper ends it and removes its directory, whatever happens to this process."""
    servers.needed("slurm")
    with servers.directory("halfpipe-slurm-") as home:
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, str(home)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        slurm = PrivateSlurm(home)
        try:
            slurm.start()
            yield slurm
        except Exception as error:
            error.add_note(slurm.last_words())
            raise
        finally:
            keeper.communicate(b"end\n")
            slurm.reap()


if __name__ == "__main__":
    keep()
