"""A model of S3DF in a container: real directories, files and mounts below /sdf, and stand-ins for programs.

`standin/says` prints the output of the real programs: the commands of Slurm 24.11 with accounts, the pipeline client,
xrdfs, psql, quota and mail. `standin/apptainer` is the container runtime. Of the host's programs, only those in `REAL`
are on the path.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.support.in_process import ROOT

CHECKOUT = "/sdf/group/fermi/ground/halfpipe"
FLIGHT = "/sdf/data/fermi/ground/ISOC/flight"
WORK, STAGE, DOWNLINKS = (f"{FLIGHT}/{name}" for name in ("HalfPipe", "HalfPipe-stage", "Downlinks"))
ARCHIVE = "/sdf/group/fermi/n/u23/ISOC-flight/Archive/level0"
IMAGE = "/sdf/group/fermi/sw/containers/fermi-rhel6.sif"
PIPELINE = "/sdf/group/fermi/sw/pipeline-II/dev/pipeline"
ISOC = "/sdf/group/fermi/a/isoc/flightOps/rhel6_gcc44/ISOC_PROD/bin"
SAYS = {
    "scontrol": [
        "ping|0|Slurmctld(primary) at sdfctl is UP",
        "*partition milano|0|PartitionName=milano State=UP",
    ],
    "sacctmgr": [
        "*where user=*|0|fermi:l1@milano|shift|fermi|||||||",
        "*where account=fermi:l1@milano|0|fermi:l1@milano||fermi||node=40|||||",
        "*where account=fermi:users@milano|0|fermi:users@milano|shift|fermi|preemptable||||||500",
        "*where account=fermi|0|fermi||root|||||||",
        "*where name=*|0|normal||||||||||",
        "*|0|",
    ],
    "sbatch": [
        "--test-only*|0|sbatch: Job 1 to start at 2026-11-30T06:06:02 using 1 processors in partition milano"
    ],
    "sinfo": ["*|0|200 mixed\\n12 drained"],
    "squeue": ["*|0|"],
    "sacct": ["*|0|"],
    "scancel": ["*|0|"],
    "quota": ["*|0|"],
    "mail": ["*|0|"],
    "xrdcp": ["*|0|"],
    "xrdfs": ["glast-rdr ls /glast/level0|0|/glast/level0/src0077"],
    "psql": ["*|0|801234567|Complete|2959|nomSciOps|2026-05-23 11:22:33|2026-05-23 12:52:01"],
    "pipeline": ["-m PROD find --count L1Proc findRunDirs status|0|41,SUCCESS"],
}
THIS = f'exec {sys.executable} "$@"'  # a script that runs this Python
HANGS = "4711"  # seconds
REAL = (
    "sh", "bash", "make", "git", "sleep", "env", "bwrap", "strace", "true", "mkdir", "chmod", "touch", "rm", "head",
)  # fmt: skip


def script(path: Path, *lines: str) -> None:
    """Write a shell script."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


@dataclass
class S3df:
    """The site. A test changes it, and then runs the doctor."""

    home: Path
    account: str = "fermi:l1@milano"
    config: dict[str, Any] = field(default_factory=dict)
    flight: dict[str, Any] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    before: str = "umask 0002"  # first command of the shell
    mounts: list[str] = field(default_factory=list)  # options of bubblewrap, after all others
    says: dict[str, list[str]] = field(
        default_factory=lambda: {name: list(lines) for name, lines in SAYS.items()}
    )
    shared: bool = True  # whether /sdf is mounted; login hosts have only homes
    host: str = ""  # shell commands for mounts of the host, as root in a new mount namespace

    def __post_init__(self) -> None:
        opt = self.home / "opt"
        self.bin = opt / "bin"
        self.said = opt / "says"
        for path in (self.bin, self.said, opt / "index" / "wheel", self.at("/sdf/group/fermi/n")):
            path.mkdir(parents=True)
        (opt / "index/wheel/index.html").write_text('<a href="wheel-1-py3-none-any.whl">wheel</a>')
        for name in filter(shutil.which, REAL):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name in self.says:
            shutil.copy(ROOT / "tests/support/standin/says", self.bin / name)
        script(
            self.bin / "apptainer", f'exec {sys.executable} {ROOT / "tests/support/standin/apptainer"} "$@"'
        )
        self.python(THIS)
        for place in (WORK, STAGE):
            self.at(place).mkdir(parents=True)
            self.at(place).chmod(0o2775)
        self.at(f"{WORK}-moot_keys.txt").touch()
        for name in ("group/fermi/sw/package", "group/fermi/sw/containers/rhel6/opt/TWWfsw",
                     "group/fermi/sw/containers/rhel6/usr/local", "group/fermi/sw/java/jdk/jdk8",
                     "group/fermi/ground/fmx"):  # fmt: skip
            self.at(f"/sdf/{name}").mkdir(parents=True)
        self.program(f"{ISOC}/shisoc", 'shift; exec "${0%/*}/$@"')
        self.program(f"{ISOC}/getLSEChunk.exe", "echo usage: getLSEChunk -r RetDef -o dir; exit 1")
        self.at(PIPELINE).parent.mkdir(parents=True)
        (self.bin / "pipeline").rename(self.at(PIPELINE))
        names = ("/usr/bin", "/bin", "/lib", "/lib64", "/usr/lib64")
        inside = [*filter(os.path.exists, names), *map(str, Path("/usr/lib").glob("*-linux-gnu"))]
        mark = "halfpipe stand-in image: SIMULATED, no flight software inside"
        self.at(IMAGE).write_text("\n".join([mark, *inside]) + "\n")
        self.program(f"{CHECKOUT}/.venv/bin/python", THIS)
        self.retdef(f"{datetime.fromtimestamp(time.time()):%y%m%d}001")
        self.hour(time.time())

    def at(self, path: str) -> Path:
        """Return the path outside the container for a path below /sdf."""
        return self.home / path.lstrip("/")

    def program(self, path: str, *lines: str) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        script(self.at(path), *lines)

    def python(self, *lines: str) -> None:
        """Replace python3 by a shell script, and remove the environment of the checkout."""
        shutil.rmtree(self.at(f"{CHECKOUT}/.venv"), ignore_errors=True)
        script(self.bin / "python3", *lines)

    def retdef(self, dl: str, arch: str = "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0") -> Path:
        """Write a RetDef of a downlink to the legacy's directory."""
        path = self.at(f"{DOWNLINKS}/{dl}/RetDef-{dl}-00001.xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'<retdef type="LSEP"><arch scid="77">{arch}</arch></retdef>\n')
        return path

    def hour(self, when: float) -> Path:
        """Make the level-0 directory of an hour."""
        at = datetime.fromtimestamp(when, UTC)
        path = self.at(f"{ARCHIVE}/src0077/{at:%Y/%m/%j.%m.%d.%a}/utc{at:%H}")
        path.mkdir(parents=True)
        return path

    def checkout(self) -> None:
        """Write the checkout: the shipped files with the changes of this site."""
        home = self.at(CHECKOUT)
        shutil.copytree(ROOT / "profiles" / "s3df", home / "profiles" / "s3df", dirs_exist_ok=True)
        shutil.copy(ROOT / "pyproject.toml", home)
        (home / "config").mkdir(exist_ok=True)
        ours = {
            "ledger": {"url": "postgresql+psycopg://halfpipe@db.slac.stanford.edu/halfpipe"},
            "alarm": {"command": "mail -s {subject} shift@slac.stanford.edu"},
        }
        resources = {"slurm_account": self.account, "slurm_partition": "milano"}
        for name, changes in (
            ("config/s3df.yaml", [ours, self.config]),
            ("config/flight.yaml", [self.flight]),
            ("profiles/s3df/profile.v9+.yaml", [{"default-resources": resources}, self.profile]),
        ):
            content = yaml.safe_load((ROOT / name).read_text())
            for change in changes:
                for key, value in change.items():
                    content[key] = {**(content.get(key) or {}), **value} if isinstance(value, dict) else value
            (home / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def command(self, *words: str) -> list[str]:
        """Return the command that runs `words` in the container, as an ordinary user."""
        options = ["bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--die-with-parent"]
        options += ["--tmpfs", "/", "--tmpfs", "/tmp"]
        for path in dict.fromkeys(("/usr", "/etc", sys.base_prefix, sys.prefix, str(ROOT))):
            options += ["--ro-bind", path, path]
        for name in ("bin", "lib", "lib64", "sbin"):
            options += ["--symlink", f"usr/{name}", f"/{name}"] if Path(f"/{name}").is_symlink() else []
        options += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/lscratch"]
        options += ["--bind", str(self.home / "opt"), "/opt"]
        options += ["--bind", str(self.home / "sdf"), "/sdf"] if self.shared else []
        options += [word.replace("{home}", str(self.home)) for word in self.mounts]
        environment = {"PATH": "/opt/bin", "USER": "shift", "LOGNAME": "shift", "HOME": "/tmp",
                       "PIP_INDEX_URL": "file:///opt/index"}  # fmt: skip
        options += ["--clearenv", *(word for pair in environment.items() for word in ("--setenv", *pair))]
        return [*options, "--chdir", "/tmp", "sh", "-c", f'{self.before}\nexec "$@"', "sh", *words]

    def run(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        for name, lines in self.says.items():
            (self.said / name).write_text("".join(f"{line}\n" for line in lines))
        command = self.command(*words)
        if self.host:
            shell = self.host.replace("{home}", str(self.home)) + '\nexec "$@"'
            command = ["unshare", "--map-root-user", "--mount", "sh", "-ec", shell, "sh", *command]
        return subprocess.run(
            command, input=stdin, capture_output=True, encoding="utf-8", check=False, timeout=120
        )

    def doctor(self, *options: str, script: str = f"{CHECKOUT}/profiles/s3df/doctor.sh") -> "Examined":
        self.checkout()
        return Examined.of(self.run("bash", script, *options))


@dataclass(frozen=True)
class Examined:
    """The output of the doctor: exit status, lines, and the JSON at the end."""

    status: int
    said: str
    result: dict[str, Any]

    @classmethod
    def of(cls, done: "subprocess.CompletedProcess[str]") -> "Examined":
        lines = done.stdout.splitlines()
        assert lines, done.stderr
        assert lines[-1].startswith("{"), f"{done.stdout}{done.stderr}"
        assert done.stderr == ""
        return cls(done.returncode, "\n".join(lines[:-1]), json.loads(lines[-1]))

    def all(self, *verdicts: str) -> list[dict[str, str]]:
        """Return the findings with these verdicts."""
        return [one for one in self.result["findings"] if one["verdict"] in verdicts]

    def codes(self, *verdicts: str) -> set[str]:
        """Return the codes of the findings with these verdicts."""
        return {one["code"] for one in self.all(*verdicts)}

    def has_line(self, one: dict[str, str]) -> bool:
        """Tell whether the lines contain a finding: verdict, code, observation and remedy."""
        return f"{one['verdict']:8} {one['code']:18} {one['seen']}\n{'':27} do: {one['do']}" in self.said
