"""`halfpipe doctor`: findings of the script and of the package, the kept result, and the probe by two hosts."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe import paths
from halfpipe.files.json_files import read_json
from tests.support.in_process import ROOT
from tests.support.settings import put
from tests.support.verbs import halfpipe

pytestmark = pytest.mark.workflow  # the doctor starts many programs

# A SIMULATED Slurm: its one job runs at once, on a host with its own name and mounts.
SRUN = """\
#!/bin/sh
while case "$1" in --*) true;; *) false;; esac; do shift; done
exec unshare --map-root-user --uts --mount sh -c 'hostname node2; MOUNTS; exec "$@"' sh "$@"
"""


class Here:
    """A site on this host, without Slurm and container, with a profile."""

    def __init__(self, home: Path) -> None:
        self.home, self.bin = home, home / "bin"
        for name in ("retdefs", "bin"):
            (home / name).mkdir()
        for name in ("work", "stage"):
            (home / name).mkdir()
            (home / name).chmod(0o2775)
        for name in ("bash", "sh", "make", "git", "tee", "unshare", "hostname", "mount"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        (self.bin / "python3").symlink_to(sys.executable)
        put(home / "retdefs", 1)
        self.config: dict[str, Any] = {
            "paths": {"work": f"{home}/work", "stage": f"{home}/stage", "retdef": [f"{home}/retdefs"],
                      "level0": f"{home}/level0"},
            "alarm": {"command": f"tee {home}/told"},
        }  # fmt: skip
        self.profile: dict[str, Any] = {"configfile": f"{home}/config.yaml", "cores": 1}
        at = datetime.fromtimestamp(time.time(), UTC)
        day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[at.weekday()]
        (home / f"level0/src0077/{at:%Y/%m/%j.%m.%d}.{day}/utc{at:%H}").mkdir(parents=True)

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def doctor(self, *words: str) -> tuple[int, dict[str, str], list[dict[str, str]]]:
        """Run the command; return its status, the verdict of each code, and all findings."""
        (self.home / "config.yaml").write_text(yaml.safe_dump(self.config))
        (self.home / "profile.yaml").write_text(yaml.safe_dump(self.profile))
        env = {"PATH": str(self.bin), "PIP_INDEX_URL": "file:///nowhere"}
        ended = halfpipe("doctor", "--format", "json", *words, "--profile", self.home, env=env)
        found = json.loads(ended.stdout)
        assert found["ready"] == (ended.exit_code == 0)
        return ended.exit_code, {one["code"]: one["verdict"] for one in found["findings"]}, found["findings"]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    mask = os.umask(0o002)
    yield Here(tmp_path)
    os.umask(mask)


def test_a_site_that_is_ready_is_recorded_and_a_message_was_sent(here: Here) -> None:
    status, verdicts, found = here.doctor()
    assert [one for one in found if one["verdict"] == "problem"] == []
    assert status == 0
    assert {"state", "person", "retdefs", "level0"} <= verdicts.keys()
    assert "test message" in (here.home / "told").read_text()
    kept = read_json(here.home / "work" / paths.EXAMINED)
    assert kept["problems"] == []
    assert str(here.home / "profile.yaml") in kept["site"]
    assert abs(kept["at"] - time.time()) < 600
    said = halfpipe("doctor", "--profile", here.home, env={"PATH": str(here.bin)})
    assert said.stdout.splitlines()[-1] == "ready"


def test_a_site_is_not_ready_without_a_way_to_reach_a_person(here: Here) -> None:
    status, verdicts, _ = here.doctor("--no-message")
    assert (status, verdicts["person"]) == (1, "unknown")
    here.config["alarm"] = {}
    status, verdicts, _ = here.doctor()
    assert (status, verdicts["person"]) == (1, "problem")
    told = halfpipe("status", "--format", "json", "--profile", here.home)
    causes = {cause["code"]: cause["verdict"] for cause in json.loads(told.stdout)["site"]}
    assert causes["doctor"] == "action"
    assert told.exit_code == 1


def test_a_working_directory_of_another_format_and_a_stage_of_another_one(here: Here) -> None:
    (here.home / "work" / "runs").mkdir()
    assert here.doctor()[1]["state"] == "problem"
    (here.home / "work" / "runs").rmdir()
    copy = here.home / "work" / paths.STAGE_MARK_COPY
    copy.mkdir()
    (copy / "000001.json").write_text("{}")
    assert here.doctor()[1]["state"] == "problem"


def test_a_ledger_that_cannot_be_used(here: Here) -> None:
    here.config["ledger"] = {"url": None}
    assert here.doctor()[1]["ledger-driver"] == "problem"
    here.config["ledger"] = {"url": f"sqlite:///{here.home}/none/ledger.sqlite"}
    assert here.doctor()[1]["ledger-driver"] == "unknown"
    (here.home / "work" / paths.LEDGER).write_bytes(b"no database" * 100)
    for url in ("built-in", "nosuch://host/name"):
        here.config["ledger"] = {"url": url}
        (found,) = (one for one in here.doctor()[2] if one["code"] == "ledger-driver")
        assert (found["verdict"], found["do"] != "") == ("problem", True)


def test_an_invalid_config_is_a_problem_and_the_rest_is_checked(here: Here) -> None:
    here.config["paths"] |= {"retdef": [f"{here.home}/none"], "no_key": "x"}
    status, verdicts, _ = here.doctor()
    assert (status, verdicts["config"], verdicts["path-missing"]) == (1, "problem", "problem")
    assert not (here.home / "work" / paths.EXAMINED).exists()


@pytest.mark.parametrize("sees", [True, False])
def test_the_probe_meets_a_second_host_and_leaves_nothing(here: Here, sees: bool) -> None:
    """With its own name and mounts; the doctor also runs there."""
    mounts = "true" if sees else f"mount -t tmpfs none {here.home}/work"
    here.program("srun", SRUN.replace("MOUNTS", mounts))
    resources = {"slurm_partition": "milano", "slurm_account": "a"}
    here.profile |= {"executor": "slurm", "default-resources": resources}
    _, verdicts, found = here.doctor("--probe")
    assert not list((here.home / "work").glob(paths.probe("*")))
    if not sees:
        assert verdicts["probe-unmet"] == "problem"
        return
    expected = dict.fromkeys(("two-hosts", "clock", "rename", "link", "lease"), "good")
    assert expected.items() <= verdicts.items(), found
    assert any(one["seen"].startswith("on node2: ") for one in found)


BAD_PYTHON = "#!/bin/sh\necho 'Python 3.6.8'; exit 1\n"


def test_make_says_at_once_which_python_it_needs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / "python3").write_text(BAD_PYTHON)
    (tmp_path / "python3").chmod(0o755)
    for python in (f"{tmp_path}/python3", f"{tmp_path}/absent"):
        words = ["make", "-C", str(tmp_path), ".venv", f"PYTHON={python}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "3.11 to 3.13" in done.stderr
        assert python in done.stderr
        assert "make .venv PYTHON=" in done.stderr
        assert ("Python 3.6.8" in done.stderr) == python.endswith("python3")
        assert not (tmp_path / ".venv").exists()
