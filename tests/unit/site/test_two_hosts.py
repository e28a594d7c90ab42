"""What the numbers of two sides are taken for, and a job that Slurm refuses."""

from pathlib import Path
from typing import Any

import pytest

from halfpipe.config import Profile
from halfpipe.settings import Paths, Settings
from halfpipe.site import two_hosts
from halfpipe.site.two_hosts import RACES, judge

WINS = [*range(1, 600)]
OTHER: dict[str, Any] = {"host": "node2", "wins": [*range(600, RACES + 1)], "node": []}


def verdicts(home: Path, wins: list[int] = WINS, **other: Any) -> dict[str, str]:
    return {each["code"]: each["verdict"] for each in judge(home, "node1", wins, OTHER | other)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "race").mkdir()
    for number in range(1, RACES + 1):
        (tmp_path / "race" / f"{number:06d}").write_text("1" if number < 600 else "2")
    return tmp_path


def test_a_number_that_went_to_both_to_none_or_to_the_wrong_host_is_found(home: Path) -> None:
    assert verdicts(home) == {"two-hosts": "good", "link": "good"}
    assert verdicts(home, [*WINS, 600])["link"] == "problem"
    assert verdicts(home, WINS[:-1])["link"] == "problem"
    (home / "race" / "000001").write_text("2")
    assert verdicts(home)["link"] == "problem"


def test_one_host_proves_nothing_of_two(home: Path) -> None:
    assert verdicts(home, host="node1") == {"two-hosts": "unknown", "link": "good"}


def test_a_job_that_slurm_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\necho Invalid account >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(sbatch.parent))
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    (found,) = two_hosts.probe(settings, Profile("x", tmp_path, (), {}, {}), {})
    assert (found["verdict"], found["code"]) == ("problem", "probe-unmet")
    assert "Invalid account" in found["seen"]
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
