"""A private Slurm of a single node, for tests: started as root, without systemd or cgroups.

Munge, slurmctld and slurmd run as children of this process, with their own configuration, key, sockets
and ports below one temporary directory. The partition is ``milano``, as in the profile `s3df`; memory is
a consumable resource, and a job that exceeds its memory or time is killed.

It has no accounting database, because Debian 13's slurmdbd does not start with its MariaDB client library 11.8.9
("Number of columns in result ..."). Stand-ins of ``sacct``, ``sacctmgr`` and ``sshare`` answer the executor with data
from slurmctld. They can also fail as they do without slurmdbd.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import servers

NODE, PARTITION, ACCOUNT = "private0", "milano", "fermi:L1"
CPUS, MEMORY_MB = 8, 18000  # of the node, whatever the machine has: the jobs of the tests are small
STOP_SECONDS = 20

SLURM_CONF = """\
ClusterName=private
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
PriorityType=priority/basic
SchedulerParameters=sched_interval=2,bf_interval=2
OverTimeLimit=0
KillWait=2
ReturnToService=2
SlurmctldTimeout=300
SlurmdTimeout=300
MinJobAge=3600
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={d_port} CPUs={cpus} RealMemory={memory}
PartitionName={partition} Nodes={node} Default=NO MaxTime=10:00:00 State=UP
"""

# Stand-ins: each fails while the file `outage` is there, as it would without slurmdbd.
SACCT = """\
#!/bin/sh
[ -e {outage} ] && {{ echo 'sacct: error: slurmdbd is away (simulated)' >&2; exit 1; }}
name=; while [ $# -gt 0 ]; do [ "$1" = --name ] && name=$2; shift; done
[ -z "$name" ] || exec squeue --noheader --states=all --format='%i|%T' --name "$name"
"""
SACCTMGR = """\
#!/bin/sh
[ -e {outage} ] && {{ echo 'sacctmgr: error: slurmdbd is away (simulated)' >&2; exit 1; }}
echo {account}
"""
# The executor takes SLURM_CONF out of a job's environment; a Slurm in its usual place needs none.
SRUN = """\
#!/bin/sh
SLURM_CONF={home}/slurm.conf exec {srun} "$@"
"""
SSHARE = """\
#!/bin/sh
scontrol ping >/dev/null && echo {account}
"""


class PrivateSlurm:
    """The daemons and their directory; `env` makes Slurm's commands talk to them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            "SLURM_CONF": str(home / "slurm.conf"),
            "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        self.outage = home / "slurmdbd-is-away"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            self._ports = {"ctld_port": one.getsockname()[1], "d_port": other.getsockname()[1]}

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = self._done(command)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def works(self, *command: str) -> bool:
        """Tell whether one of Slurm's commands ends well."""
        return self._done(command).returncode == 0

    def _done(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)

    def start(self) -> None:
        """Start everything; a job can be submitted when this returns."""
        self._configure()
        self._start_munge()
        self.start_daemon("slurmctld")
        servers.wait_for("slurmctld", lambda: self.works("scontrol", "ping"))
        self.start_daemon("slurmd")
        servers.wait_for(
            "the node", lambda: self.run("sinfo", "-h", "-n", NODE, "-o", "%T", check=False) == "idle\n"
        )

    def _configure(self) -> None:
        for name in ("state", "spool", "munge", "bin"):
            (self.home / name).mkdir()
        host, socket_of = socket.gethostname().split(".")[0], self.home / "munge" / "socket"
        values = {
            "home": self.home,
            "host": host,
            "munge_socket": socket_of,
            "node": NODE,
            "partition": PARTITION,
        }
        (self.home / "slurm.conf").write_text(
            SLURM_CONF.format(**values, **self._ports, cpus=CPUS, memory=MEMORY_MB)
        )
        (self.home / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        programs = {"sacct": SACCT, "sacctmgr": SACCTMGR, "sshare": SSHARE, "srun": SRUN}
        srun = shutil.which("srun")
        for name, text in programs.items():
            program = self.home / "bin" / name
            program.write_text(text.format(home=self.home, outage=self.outage, account=ACCOUNT, srun=srun))
            program.chmod(0o755)

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
                preexec_fn=servers.die_with_parent,  # noqa: PLW1509 - nothing here has threads
            )

    def _start_munge(self) -> None:
        home = self.home / "munge"
        key = home / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        options = [f"--{name}-file={home / name}" for name in ("key", "pid", "log", "seed")]
        options.append(f"--socket={home / 'socket'}")
        self._spawn("munged", "munged", "--foreground", "--force", *options)
        servers.wait_for("munged", lambda: self.works("munge", "-n", f"--socket={home / 'socket'}"))

    def start_daemon(self, name: str) -> None:
        """Start or restart slurmctld or slurmd."""
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
                servers.wait_for("the jobs' end", lambda: not self.run("squeue", "-h"), STOP_SECONDS)
        for name in ("slurmd", "slurmctld", "munged"):
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
    servers.needed("slurm")
    with servers.directory("halfpipe-slurm-") as home:
        slurm = PrivateSlurm(home)
        try:
            slurm.start()
            yield slurm
        except Exception as error:
            error.add_note(slurm.last_words())
            raise
        finally:
            slurm.stop()
