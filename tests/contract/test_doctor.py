"""profiles/s3df/doctor.sh on a model of S3DF: ready, or with one fault."""

import ast
import os
import re
import runpy
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.flight_site import needs_container
from tests.support.in_process import ROOT
from tests.support.s3df_site import (
    ARCHIVE,
    CHECKOUT,
    DOWNLINKS,
    HANGS,
    IMAGE,
    ISOC,
    PIPELINE,
    STAGE,
    THIS,
    WORK,
    Examined,
    S3df,
)
from tests.support.servers import command_lines, wait_for

SCRIPT = ROOT / "profiles" / "s3df" / "doctor.sh"
DOCTOR = runpy.run_path(str(SCRIPT))
# Parts of the standard library that Python 3.6 does not have. The parser finds new syntax.
NEWER = (
    r"capture_output|removeprefix|removesuffix|fromisoformat|shlex\.join|nullcontext|dataclass|import_module|"
    r"\btext=|missing_ok|math\.prod|functools\.(cache\b|cached_property)|time_ns|breakpoint|Path\.readlink|datetime\.UTC"
)


@pytest.fixture
def s3df(tmp_path: Path) -> S3df:
    needs_container()
    return S3df(tmp_path)


def test_a_site_that_is_ready(s3df: S3df) -> None:
    examined = s3df.doctor()
    assert examined.all("problem", "unknown") == []
    assert (examined.status, examined.result["ready"]) == (0, True)
    assert len(examined.all("good")) >= 25
    assert examined.result["seconds"] < 30
    assert str(s3df.home) not in examined.said


def gone(*names: str) -> Callable[[S3df], object]:
    """Take programs from the path."""
    return lambda site: list(map(os.unlink, (site.bin / name for name in names)))


def answers(name: str, *lines: str, at: int = 0) -> Callable[[S3df], object]:
    """Have a stand-in answer so, before its other lines or at a place among them."""

    def change(site: S3df) -> None:
        site.says[name][at:at] = lines

    return change


def has(**fields: Any) -> Callable[[S3df], object]:
    """Set fields of the site."""
    return lambda site: vars(site).update(fields)


def both(*changes: Callable[[S3df], object]) -> Callable[[S3df], object]:
    return lambda site: [change(site) for change in changes]


def before(words: str) -> Callable[[S3df], object]:
    """Have the shell do more before it calls the doctor."""
    return lambda site: vars(site).update(before=f"{site.before}; {words}")


def a_file_is_the_working_directory(site: S3df) -> None:
    site.at(WORK).rmdir()
    site.at(WORK).touch()


def a_board_elsewhere(site: S3df) -> None:
    elsewhere = site.at("/sdf/data/fermi/board")
    elsewhere.mkdir()
    elsewhere.chmod(0o2775)
    site.at(BOARD).parent.mkdir()
    site.at(BOARD).symlink_to("/sdf/data/fermi/board")
    site.config.update(PUBLIC)


def no_retdef_for_a_day(site: S3df) -> None:
    then = time.time() - 2 * 86400
    for path in site.at(DOWNLINKS).rglob("*.xml"):
        os.utime(path, (then, then))
        os.utime(path.parent, (then, then))


def no_level_0_for_a_day(site: S3df) -> None:
    shutil.rmtree(site.at(ARCHIVE))
    site.hour(time.time() - 30 * 3600)


def no_vsyscall(site: S3df) -> None:
    (site.home / "cmdline").write_text("quiet vsyscall=none\n")
    site.mounts = ["--ro-bind", "{home}/cmdline", "/proc/cmdline"]


def no_client(site: S3df) -> None:
    site.at(PIPELINE).unlink()
    site.config["submit"] = {"command": f"{PIPELINE} -m PROD createStream -S {{dl}} L1Proc"}


TMPFS = f"mount -t tmpfs -o {{}},mode=2775 none {{{{home}}}}{STAGE}"
FILLS = f"head -c 2m /dev/zero >{{home}}{STAGE}/fill 2>/dev/null || true"
TOUCHES = f"for n in 1 2 3 4 5 6 7 8 9; do touch {{home}}{STAGE}/$n 2>/dev/null || true; done"
SAYS = "import sys; print('3.12.4'); import no_ensurepip"
NO_VENV = f'case "$*" in *ensurepip*) exec {sys.executable} -c "{SAYS}";; esac'
PUBLIC_HOME = "/sdf/data/fermi/public_html"
BOARD = f"{PUBLIC_HOME}/halfpipe"
PUBLIC = {"board": {"dir": BOARD}}
BINDS = ["/sdf", "/scratch", "/sdf/group/fermi/a:/afs/slac/g/glast"]
PROXY = "export PIP_INDEX_URL=file:///opt/no-index https_proxy=http://me:secret@proxy:3128"

# What is wrong, besides Slurm (tests/site/test_doctor.py).
# The codes that the doctor finds, what the first remedy contains, and how the site becomes so.
FAULTS: dict[str, tuple[str, str, Callable[[S3df], object]]] = {
    "Python is 3.6": ("python", "make .venv PYTHON=",
        lambda site: site.python('case "$*" in *ensurepip*) echo 3.6.8; echo whole; exit;; esac', THIS)),
    "Python has no venv": ("python", "make .venv PYTHON=", lambda site: site.python(NO_VENV, THIS)),
    "no Python at all": ("python-none", "log in to another host", gone("python3")),
    "pip reaches nothing": ("pip", "export https_proxy=",
        both(lambda site: site.python(THIS), before(PROXY))),
    "no make": ("tools", "login hosts mount only homes", gone("make")),
    "no Slurm on the path": ("host-slurm slurm-away limits", "PATH, which jobs inherit",
        gone("sbatch", "squeue", "sacctmgr", "sacct", "scontrol", "sinfo", "scancel")),
    "no apptainer on the path": ("host-container", "PATH, which jobs inherit", gone("apptainer")),
    "no xrootd on the path": ("host-xrootd", "login hosts mount only homes", gone("xrdfs")),
    "the umask shuts the group out": ("host-umask", "umask 0002", has(before="umask 0077")),
    "the timer is in a crontab of this host": ("host-cron", "ssh sdfcron001",
        lambda site: site.program("/opt/bin/crontab", "echo '0 * * * * halfpipe unattended --timer'")),
    "a link leads out of the public directory": ("path-public", "correct board.dir", a_board_elsewhere),
    "the board is closed to the web server": ("path-public", f"chmod o+rx {BOARD}",
        has(config=PUBLIC, before=f"umask 0002; mkdir -p {PUBLIC_HOME}; mkdir -m 2770 {BOARD}")),
    "the quota is used up": ("quota", "quota -s",
        answers("quota", "-q|1|Disk quotas for user shift: block limit reached on /sdf/home")),
    "no stage": ("path-missing", f"mkdir -p -m 2775 {STAGE}; or correct paths.stage in {CHECKOUT}/config/s3df.yaml",
        lambda site: site.at(STAGE).rmdir()),
    "the working directory is a file": ("path-kind", "correct paths.work", a_file_is_the_working_directory),
    "level-0 is closed to us": ("path-closed archive", "ask 1000 for access",
        lambda site: site.at("/sdf/group/fermi/n").chmod(0o000)),
    "the stage is mounted read-only": ("path-readonly", "use another host",
        has(mounts=["--ro-bind", f"{{home}}{STAGE}", STAGE])),
    "we may not write into the stage": ("path-not-writable path-group", f"have 1000 run: chmod g+rwxs {STAGE}",
        lambda site: site.at(STAGE).chmod(0o2555)),
    "no setgid": ("path-group", f"chgrp GROUP {WORK}; chmod 2775 {WORK}", lambda site: site.at(WORK).chmod(0o775)),
    "the board is on a disk of the host": ("path-local", "board.dir in",
        both(has(config={"board": {"dir": "/tmp/board"}}), before("mkdir -m 2775 /tmp/board"))),
    "the stage is full": ("path-full", "free some", has(host=f"{TMPFS.format('size=1m')}; {FILLS}")),
    "the stage has no inodes": ("path-inodes", "more inodes",
        has(host=f"{TMPFS.format('size=1g,nr_inodes=9')}; {TOUCHES}")),
    "no vsyscall": ("image-vsyscall", "vsyscall=xonly", no_vsyscall),
    "a bind has no source": ("bind-missing image-true", "optional_binds", has(flight={"binds": BINDS})),
    "no image": ("image-missing", "correct image", lambda site: site.at(IMAGE).unlink()),
    "the image is damaged": ("image-true",
        "apptainer exec --cleanenv --bind /sdf --bind /sdf/group/fermi/n:/nfs/farm/g/glast",
        lambda site: site.at(IMAGE).write_bytes(b"hsqs" + bytes(96))),
    "no decoder in the image": ("image-decoder", "correct decoder.program",
        lambda site: site.at(f"{ISOC}/getLSEChunk.exe").unlink()),
    "no RetDef for a day": ("retdefs", "ask the ISOC where ProcessSCI writes RetDefs", no_retdef_for_a_day),
    "a RetDef names an archive that is not mapped": ("archive", "correct paths.map",
        lambda site: site.retdef(f"{datetime.fromtimestamp(time.time()):%y%m%d}999", "/nfs/elsewhere/level0")),
    "no level-0 for a day": ("level0", "ask the ISOC where level-0 is ingested", no_level_0_for_a_day),
    "the copy of level-0 is down": ("level0-copy", "set level0.fetch to null",
        answers("xrdfs", "*|54|[FATAL] Connection error")),
    "no client of the pipeline": ("client-missing", "submit.command", no_client),
    "the client of the pipeline is refused": ("client", "send this to the pipeline's maintainers",
        answers("pipeline", "*|1|java.rmi.ConnectException: Connection refused to host")),
    "the ledger does not answer": ("ledger", "password file or wallet",
        answers("psql", '*|2|psql: error: connection to server at "db" failed: Connection refused')),
    "no client of Oracle": ("ledger", "the package's own driver",
        has(config={"ledger": {"url": "oracle+oracledb://isocflight"}})),
    "an alarm reaches nobody": ("person", f"alarm.command in {CHECKOUT}/config/s3df.yaml",
        has(config={"alarm": {"command": None}})),
    "an alarm goes to a placeholder": ("person", "alarm.command",
        has(config={"alarm": {"command": "mail -s {subject} halfpipe-shift@localhost"}})),
    "an alarm cannot be sent": ("person", "use a host that has mail",
        answers("mail", "*|67|mail: cannot send message: Process exited with a non-zero status")),
}  # fmt: skip


@pytest.mark.workflow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_own_line_with_a_remedy(name: str, s3df: S3df) -> None:
    codes, do, change = FAULTS[name]
    change(s3df)
    examined = s3df.doctor()
    wrong = examined.all("problem", "unknown")
    assert {one["code"] for one in wrong} == set(codes.split()), wrong
    assert do in next(one["do"] for one in wrong if one["code"] == codes.split()[0])
    assert all(one["do"] and examined.has_line(one) for one in wrong)
    assert "secret" not in examined.said
    ready = not examined.codes("problem")
    assert (examined.status == 0) == ready == examined.result["ready"]


@pytest.mark.workflow
def test_a_mailed_copy_works_alone(s3df: S3df) -> None:
    """The copy takes the built-in values, and lists what only the site's config tells."""
    shutil.copy(SCRIPT, s3df.home / "opt" / "mailed.txt")
    examined = Examined.of(s3df.run("bash", "/opt/mailed.txt"))
    assert examined.codes("problem") == {"person"}
    assert "config/s3df.yaml (built in)" in examined.said
    s3df.shared = False
    examined = Examined.of(s3df.run("bash", "/opt/mailed.txt"))
    assert {"host-mounts", "image-missing", "retdefs"} <= examined.codes("problem")
    assert examined.codes("unknown") == {"path", "client-missing", "ledger"}


def test_what_is_built_in_is_what_ships() -> None:
    shipped = {name: yaml.safe_load((ROOT / file).read_text()) for name, file in DOCTOR["NAMES"].items()}

    def within(part: Any, whole: Any) -> bool:
        if isinstance(part, dict):
            return all(within(value, whole[key]) for key, value in part.items())
        return bool(part == whole)

    assert [name for name, part in DOCTOR["BUILT_IN"].items() if not within(part, shipped[name])] == []


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("config/*.yaml"), *ROOT.glob("profiles/*/*.yaml")]), ids=str
)
def test_it_reads_the_yaml_of_this_project_without_a_library(path: Path) -> None:
    text = path.read_text()
    assert DOCTOR["yaml"](text) == yaml.safe_load(text)
    as_snakemake_has_it = yaml.safe_dump(yaml.safe_load(text))
    assert DOCTOR["yaml"](as_snakemake_has_it) == yaml.safe_load(text)


def test_it_needs_no_newer_python_than_3_6() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    assert re.findall(NEWER, SCRIPT.read_text()) == []


@pytest.mark.workflow
def test_it_writes_nothing(s3df: S3df) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    shutil.copy(s3df.bin / "sinfo", s3df.bin / "apptainer")  # the other stand-in makes a container of its own
    s3df.says["apptainer"] = ["*/bin/true|0|", "*|1|usage: getLSEChunk"]
    s3df.python(THIS)  # so that it asks pip, too
    s3df.checkout()
    trace = ["strace", "-fqqs300", "-o", "/opt/trace", "-e", "trace=%file,ftruncate,fchmod,fchown"]
    examined = Examined.of(s3df.run(*trace, "bash", f"{CHECKOUT}/profiles/s3df/doctor.sh"))
    assert examined.status == 0
    calls = (s3df.home / "opt" / "trace").read_text().splitlines()
    assert any("O_RDONLY" in call for call in calls)
    writes = re.compile(
        r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|^\d+ +(creat|mkdir|mknod|rename|link|symlink|unlink|rmdir|truncate|ftruncate|"
        r"f?chmod|f?l?chown|utime|setxattr|mount)"
    )
    done = [call for call in calls if writes.search(call) and not call.endswith(")") and " = -1 " not in call]
    assert [call for call in done if '"/dev/null"' not in call and '"/dev/tty"' not in call] == []


@pytest.mark.workflow
def test_programs_that_hang_cost_a_line_each_and_30_seconds_together(s3df: S3df) -> None:
    for name in ("scontrol", "quota", "pipeline", "psql", "mail", "xrdfs", "sacctmgr"):
        s3df.says[name] = ["*|hang|"]
    examined = s3df.doctor()
    late = [one["seen"].split(":")[0] for one in examined.all("unknown") if one["code"] == "late"]
    assert late == ["account", "host", "data", "limits", "client", "ledger", "person"]
    assert "path" in examined.codes("good")
    assert examined.result["seconds"] < 30
    assert examined.status == 1
    wait_for("the end of what hangs", lambda: command_lines("sleep", HANGS) == {})


@pytest.mark.workflow
def test_a_file_that_cannot_be_used_is_named(s3df: S3df) -> None:
    s3df.checkout()
    (s3df.home / "opt" / "bad.yaml").write_text("- no\n- keys\n")
    script = f"{CHECKOUT}/profiles/s3df/doctor.sh"
    for words in (["--config", "/opt/bad.yaml"], ["--profile", "/opt/none.yaml"]):
        done = s3df.run("bash", script, *words)
        assert (done.returncode, f"{words[1]}: cannot be read" in done.stderr) == (2, True)
