"""profiles/s3df/doctor.sh on a site as s3df is believed to be, ready, or with a fault that has a line of its own."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
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
# Of the standard library, what is newer than Python 3.6; new syntax is found by the parser.
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


FAULTS: dict[str, tuple[Callable[[S3df], Any], str, str]] = {}


def fault(codes: str, do: str) -> Callable[[Callable[[S3df], Any]], Callable[[S3df], Any]]:
    """Note a fault, the codes by which it is found, and what its first remedy says."""

    def note(make: Callable[[S3df], Any]) -> Callable[[S3df], Any]:
        FAULTS[make.__name__] = make, codes, do
        return make

    return note


@fault("account-spelling", f'write slurm_account: "fermi:l1@milano" into {CHECKOUT}/profiles/s3df/profile')
def the_account_is_spelled_otherwise(site: S3df) -> None:
    site.account = "fermi:L1"
    site.says["sbatch"].insert(
        0, "*-A fermi:L1*|1|Invalid account or account/partition combination specified"
    )


@fault("account-refused limits", "have shift added to nonsense")
def no_spelling_of_the_account_is_taken(site: S3df) -> None:
    site.account = "nonsense"


@fault("account-list limits", "ask s3df whether slurmdbd is up")
def slurmdbd_is_away(site: S3df) -> None:
    site.says["sacctmgr"] = ["*|1|sacctmgr: error: _open_persist_conn: failed to open persistent connection"]


@fault("partition", f"write slurm_partition into {CHECKOUT}/profiles/s3df/profile")
def there_is_no_such_partition(site: S3df) -> None:
    site.profile = {"default-resources": {"slurm_account": "fermi:l1@milano", "slurm_partition": "nowhere"}}
    site.says["sinfo"] = ["*|0|"]


@fault("partition-nodes", "sinfo -R")
def all_nodes_are_drained(site: S3df) -> None:
    site.says["sinfo"] = ["*|0|200 drained*\\n70 down"]


@fault("qos", "ask s3df")
def history_has_a_qos_that_is_not_ours(site: S3df) -> None:
    site.profile["set-resources"] = {"batch": {"qos": "gold"}}


@fault("slurm-away", "wait")
def slurmctld_does_not_answer(site: S3df) -> None:
    site.says["scontrol"] = ["ping|1|Slurmctld(primary) at sdfctl is DOWN"]


@fault("python", "make .venv PYTHON=")
def python_is_3_6(site: S3df) -> None:
    site.python('case "$*" in *ensurepip*) echo 3.6.8; echo whole; exit;; esac', THIS)


@fault("python", "make .venv PYTHON=")
def python_has_no_venv(site: S3df) -> None:
    said = "import sys; print('3.12.4'); import no_ensurepip"
    site.python(f'case "$*" in *ensurepip*) exec {sys.executable} -c "{said}";; esac', THIS)


@fault("pip", "export https_proxy=")
def pip_reaches_nothing(site: S3df) -> None:
    site.python(THIS)
    site.before += "; export PIP_INDEX_URL=file:///opt/no-index https_proxy=http://me:secret@proxy:3128"


@fault("tools", "login hosts mount homes only")
def make_is_missing(site: S3df) -> None:
    (site.bin / "make").unlink()


@fault("host-slurm slurm-away limits", "PATH, which jobs inherit")
def slurm_is_not_on_the_path(site: S3df) -> None:
    for name in ("sbatch", "squeue", "sacctmgr", "scontrol", "sinfo", "scancel"):
        (site.bin / name).unlink()


@fault("host-container", "PATH, which jobs inherit")
def apptainer_is_not_on_the_path(site: S3df) -> None:
    (site.bin / "apptainer").unlink()


@fault("host-xrootd", "login hosts mount homes only")
def xrootd_is_not_on_the_path(site: S3df) -> None:
    (site.bin / "xrdfs").unlink()


@fault("host-umask", "umask 0002")
def the_umask_shuts_the_group_out(site: S3df) -> None:
    site.before = "umask 0077"


@fault("quota", "quota -s")
def the_quota_is_used_up(site: S3df) -> None:
    site.says["quota"] = ["-q|1|Disk quotas for user shift: block limit reached on /sdf/home"]


@fault("path-missing", f"mkdir -p -m 2775 {STAGE}; or correct paths.stage in {CHECKOUT}/config/s3df.yaml")
def the_stage_is_missing(site: S3df) -> None:
    site.at(STAGE).rmdir()


@fault("path-kind", "correct paths.work")
def the_working_directory_is_a_file(site: S3df) -> None:
    site.at(WORK).rmdir()
    site.at(WORK).touch()


@fault("path-closed archive", "ask 1000 to open it to you")
def level_0_is_closed_to_us(site: S3df) -> None:
    site.at("/sdf/group/fermi/n").chmod(0o000)


@fault("path-readonly", "use another host")
def the_stage_is_mounted_read_only(site: S3df) -> None:
    site.mounts = ["--ro-bind", f"{{home}}{STAGE}", STAGE]


@fault("path-not-writable path-group", f"have 1000 run: chmod g+rwxs {STAGE}")
def we_may_not_write_into_the_stage(site: S3df) -> None:
    site.at(STAGE).chmod(0o2555)


@fault("path-group", f"chgrp GROUP {WORK}; chmod 2775 {WORK}")
def the_working_directory_has_no_setgid(site: S3df) -> None:
    site.at(WORK).chmod(0o775)


@fault("path-local", "name a shared one: level0.cache")
def the_cache_lies_on_a_disk_of_the_host(site: S3df) -> None:
    site.config["level0"] = {"cache": "/tmp/cache"}
    site.before += "; mkdir -m 2775 /tmp/cache"


@fault("path-full", "free some")
def the_stage_is_full(site: S3df) -> None:
    site.host = (
        f"mount -t tmpfs -o size=1m,mode=2775 none {{home}}{STAGE}; head -c 2m /dev/zero >{{home}}{STAGE}/fill "
        "2>/dev/null || true"
    )


@fault("path-inodes", "more inodes")
def the_stage_has_no_inodes(site: S3df) -> None:
    site.host = (
        f"mount -t tmpfs -o size=1g,nr_inodes=9,mode=2775 none {{home}}{STAGE}; "
        f"for n in 1 2 3 4 5 6 7 8 9; do touch {{home}}{STAGE}/$n 2>/dev/null || true; done"
    )


@fault("image-vsyscall", "vsyscall=xonly")
def vsyscall_is_off(site: S3df) -> None:
    (site.home / "cmdline").write_text("quiet vsyscall=none\n")
    site.mounts = ["--ro-bind", "{home}/cmdline", "/proc/cmdline"]


@fault("bind-missing image-true", "optional_binds")
def a_bind_has_no_source(site: S3df) -> None:
    site.flight = {"binds": ["/sdf", "/scratch", "/sdf/group/fermi/a:/afs/slac/g/glast"]}


@fault("image-missing", "correct image")
def there_is_no_image(site: S3df) -> None:
    site.at(IMAGE).unlink()


@fault("image-true", "apptainer exec --cleanenv --bind /sdf --bind /sdf/group/fermi/n:/nfs/farm/g/glast")
def the_image_is_damaged(site: S3df) -> None:
    site.at(IMAGE).write_bytes(b"hsqs" + bytes(96))


@fault("image-decoder", "correct decoder.program")
def the_decoder_is_not_in_the_image(site: S3df) -> None:
    site.at(f"{ISOC}/getLSEChunk.exe").unlink()


@fault("retdefs", "ask the ISOC where ProcessSCI writes RetDefs")
def no_retdef_came_for_a_day(site: S3df) -> None:
    for path in site.at(DOWNLINKS).rglob("*.xml"):
        then = time.time() - 2 * 86400
        path.touch()
        os.utime(path, (then, then))


@fault("archive", "correct paths.map")
def a_retdef_names_an_archive_that_is_mapped_nowhere(site: S3df) -> None:
    site.retdef(f"{time.strftime('%y%m%d')}999", "/nfs/elsewhere/level0")


@fault("level0", "ask the ISOC where level-0 is ingested")
def no_level_0_came_for_a_day(site: S3df) -> None:
    shutil.rmtree(site.at(ARCHIVE))
    site.hour(time.time() - 30 * 3600)


@fault("level0-copy", "set level0.fetch to null")
def the_copy_of_level_0_is_down(site: S3df) -> None:
    site.says["xrdfs"] = ["*|54|[FATAL] Connection error"]


@fault("limits", "usage is above 100 %")
def the_facility_is_at_zero_nodes(site: S3df) -> None:
    site.says["sacctmgr"].insert(1, "*account=fermi|0|fermi||root|node=0||||")


@fault("limit-submit", "write jobs: 20 into")
def the_queue_is_shorter_than_the_profile_has_jobs(site: S3df) -> None:
    site.says["sacctmgr"].insert(1, "*account=fermi:l1@milano|0|fermi:l1@milano|shift||||||20")


@fault("client-missing", "submit.command")
def the_pipelines_client_is_missing(site: S3df) -> None:
    site.at(PIPELINE).unlink()
    site.config["submit"] = {"command": f"{PIPELINE} -m PROD createStream -S {{dl}} L1Proc"}


@fault("client", "send this to the pipeline's maintainers")
def the_pipelines_client_is_refused(site: S3df) -> None:
    site.says["pipeline"] = ["*|1|java.rmi.ConnectException: Connection refused to host"]


@fault("ledger", "password file or wallet")
def the_ledger_does_not_answer(site: S3df) -> None:
    site.says["psql"] = ['*|2|psql: error: connection to server at "db" failed: Connection refused']


@fault("ledger", "the package's own driver")
def the_ledger_is_oracle_and_its_client_is_missing(site: S3df) -> None:
    site.config["ledger"] = {"url": "oracle+oracledb://isocflight"}


@fault("person", f"write alarm.command in {CHECKOUT}/config/s3df.yaml")
def an_alarm_reaches_nobody(site: S3df) -> None:
    site.config["alarm"] = {"command": None}


@fault("person", "write alarm.command")
def an_alarm_goes_to_a_placeholder(site: S3df) -> None:
    site.config["alarm"] = {"command": "mail -s {subject} halfpipe-shift@localhost"}


@fault("person", "use a host that has mail")
def an_alarm_cannot_be_sent(site: S3df) -> None:
    site.says["mail"] = ["*|67|mail: cannot send message: Process exited with a non-zero status"]


@pytest.mark.workflow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_own_line_with_what_to_do(name: str, s3df: S3df) -> None:
    make, codes, do = FAULTS[name]
    make(s3df)
    examined = s3df.doctor()
    wrong = examined.all("problem", "unknown")
    assert {one["code"] for one in wrong} == set(codes.split()), wrong
    assert do in next(one["do"] for one in wrong if one["code"] == codes.split()[0])
    assert all(one["do"] and examined.has_line(one) for one in wrong)
    assert "secret" not in examined.said
    ready = not examined.codes("problem")
    assert (examined.status == 0) == ready == examined.result["ready"]


def test_a_mailed_copy_works_alone(s3df: S3df) -> None:
    """It takes what s3df has by default, and says what cannot be known without the site's config."""
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


def test_it_needs_no_newer_python_than_3_6(s3df: S3df) -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    assert re.findall(NEWER, SCRIPT.read_text()) == []
    old = shutil.which("python3.6")
    if old is None or subprocess.run([old, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip("no python3.6 to run it with: it was parsed as one")
    code = "import sys; print(sys.executable, sys.base_prefix)"
    executable, home = subprocess.check_output([old, "-c", code], text=True).split()
    s3df.mounts = ["--ro-bind", home, home]
    (s3df.bin / "python3").unlink()
    (s3df.bin / "python3").symlink_to(executable)
    examined = s3df.doctor()
    assert (examined.status, examined.all("problem", "unknown")) == (0, [])


def test_without_any_python_it_says_so(s3df: S3df) -> None:
    (s3df.bin / "python3").unlink()
    examined = s3df.doctor()
    assert (examined.status, examined.codes("problem")) == (1, {"python-none"})
    assert examined.has_line(examined.all("problem")[0])


def test_it_writes_nothing(s3df: S3df) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    shutil.copy(s3df.bin / "sinfo", s3df.bin / "apptainer")  # the other stand-in makes a container of its own
    s3df.says["apptainer"] = ["*/bin/true|0|", "*|1|usage: getLSEChunk"]
    s3df.python(THIS)  # so that it asks pip, too
    s3df.checkout()
    trace = [
        "strace",
        "-f",
        "-qq",
        "-s",
        "300",
        "-o",
        "/opt/trace",
        "-e",
        "trace=%file,ftruncate,fchmod,fchown",
    ]
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


@pytest.mark.parametrize("seconds", [3, pytest.param(27, marks=pytest.mark.workflow)])
def test_what_never_answers_costs_a_line_and_no_more_than_30_seconds(s3df: S3df, seconds: int) -> None:
    for name in ("scontrol", "quota", "pipeline", "psql", "mail", "xrdfs", "sacctmgr"):
        s3df.says[name] = ["*|hang|"]
    s3df.checkout()
    script = s3df.at(f"{CHECKOUT}/profiles/s3df/doctor.sh")
    script.write_text(script.read_text().replace("SECONDS = 27 ", f"SECONDS = {seconds} "))
    examined = Examined.of(s3df.run("bash", f"{CHECKOUT}/profiles/s3df/doctor.sh"))
    late = [one["seen"].split(":")[0] for one in examined.all("unknown") if one["code"] == "late"]
    assert late == ["account", "host", "data", "limits", "client", "ledger", "person"]
    assert "path" in examined.codes("good")
    assert examined.result["seconds"] < min(seconds + 10, 30)
    assert examined.status == 1
    wait_for("the end of what hangs", lambda: command_lines("sleep", HANGS) == {})


def test_a_file_that_cannot_be_used_is_named(s3df: S3df) -> None:
    s3df.checkout()
    (s3df.home / "opt" / "bad.yaml").write_text("- no\n- keys\n")
    script = f"{CHECKOUT}/profiles/s3df/doctor.sh"
    for words in (["--config", "/opt/bad.yaml"], ["--profile", "/opt/none.yaml"]):
        done = s3df.run("bash", script, *words)
        assert (done.returncode, f"{words[1]}: cannot be read" in done.stderr) == (2, True)
