"""Two sides that meet in a directory: on two hosts of namespaces, and what their reports are taken for."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.files.durable import write_bytes
from halfpipe.files.leases import Lease
from halfpipe.settings import Paths, Settings
from halfpipe.site import two_hosts
from halfpipe.site.two_hosts import RACES, RENAMES, Side, judge
from tests.support.leases import left_by_another
from tests.support.servers import put_program

ONE: dict[str, Any] = {
    "host": "node1", "late": -0.1, "tries": 700, "lost": True,
    "wins": [*range(1, 600)], "owners": {str(n): 1 + (n >= 600) for n in range(1, RACES + 1)},
}  # fmt: skip
OTHER: dict[str, Any] = {
    "host": "node2", "late": 0.3, "owners": {}, "torn": 0, "back": 0, "renamed": RENAMES, "slowest": 0.5, "tries": 500,
    "wins": [*range(600, RACES + 1)], "refused": True, "followed": 3.4,
}  # fmt: skip


def verdicts(one: dict[str, Any] | None = None, other: dict[str, Any] | None = None) -> dict[str, str]:
    return {each["code"]: each["verdict"] for each in judge(ONE | (one or {}), OTHER | (other or {}))}


@pytest.mark.parametrize(
    ("code", "one", "other"),
    [
        ("clock", {"late": 600.0}, {"late": -599.9, "slowest": -599.0}),
        ("rename", {}, {"torn": 1}),
        ("rename", {}, {"back": 1}),
        ("rename", {}, {"renamed": RENAMES - 1}),
        ("rename", {}, {"slowest": 61.0}),
        ("link", {"wins": [*range(1, 601)]}, {}),
        ("link", {"wins": [*range(1, 599)]}, {}),
        ("link", {"owners": ONE["owners"] | {"1": 2}}, {}),
        ("lease", {"lost": False}, {}),
        ("lease", {}, {"refused": False}),
        ("lease", {}, {"followed": None}),
    ],
)  # fmt: skip
def test_an_unreliable_file_system_is_found(code: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    well = dict.fromkeys(("two-hosts", "clock", "rename", "link", "lease"), "good")
    assert verdicts() == well
    assert verdicts(one, other) == well | {code: "problem"}


def test_one_host_proves_nothing_of_two() -> None:
    assert verdicts(other={"host": "node1"})["two-hosts"] == "unknown"


def test_a_side_that_is_unseen_stops_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has begun, and nothing more of it shows: as on a file system that each host caches alone."""
    monkeypatch.setattr(two_hosts, "STEP_SECONDS", 0.1)
    write_bytes(tmp_path / "clock-2", b'""')
    side = Side(tmp_path, 1)
    side.go()
    assert "time0-2" in side.seen["stopped"]
    assert json.loads((tmp_path / "report-1").read_bytes()) == side.seen
    assert [each["code"] for each in judge(side.seen, OTHER) if each["verdict"] == "problem"] == [
        "probe-unseen"
    ]


def test_a_holder_that_was_suspended_beyond_its_time_notices_that_it_lost_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def suspended(seconds: float, later: float = time.monotonic() + 3600.0) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: later)
        left_by_another(tmp_path, "leases/probe", number=2)

    monkeypatch.setattr(time, "sleep", suspended)
    with Lease(tmp_path, "leases/probe", 300.0) as lease:
        assert Side(tmp_path, 1)._hold(lease) == 0


@pytest.mark.workflow
def test_two_hosts(tmp_path: Path) -> None:
    """Of names and mounts of their own, on one kernel; the second one looks by the doctor's script besides."""
    names = {"config": "c", "profile": "p", "flight": "f"}
    site = {"config": {"paths": {}}, "profile": {}, "flight": {}, "names": names}
    (tmp_path / two_hosts.SITE).write_text(json.dumps(site))
    inside = 'hostname node$1 && mount --bind "$2" "$2" && exec "$3" -m halfpipe.site.two_hosts "$2" "$1"'
    on_a_host = ["unshare", "--map-root-user", "--uts", "--mount", "sh", "-c", inside, "sh"]
    sides = [subprocess.Popen([*on_a_host, side, str(tmp_path), sys.executable]) for side in "12"]
    assert [each.wait(120) for each in sides] == [0, 0]
    one, other = (json.loads((tmp_path / f"report-{side}").read_bytes()) for side in "12")
    assert {each["code"]: each["verdict"] for each in judge(one, other)} == {
        "two-hosts": "good", "clock": "good", "rename": "good", "link": "good", "lease": "good"
    }  # fmt: skip
    assert one["tries"] + other["tries"] > RACES, "they met at numbers"
    assert {each["code"] for each in other["node"]} >= {"host-umask", "person"}


@pytest.mark.parametrize(
    ("sbatch", "state", "verdict"),
    [("exit 1", "", "problem"), ("echo 4711", "", "problem"), ("echo 4711", "PENDING", "unknown")],
)
def test_a_job_that_is_not_seen_is_cancelled(
    sbatch: str, state: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_hosts, "MEET_SECONDS", 0.0)
    asked, cancelled = tmp_path / "asked", tmp_path / "cancelled"
    put_program(tmp_path, "sbatch", f'echo "$*" > {asked}; {sbatch}', monkeypatch)
    put_program(tmp_path, "squeue", f"echo '{state}'", monkeypatch)
    put_program(tmp_path, "scancel", f'echo "$*" > {cancelled}', monkeypatch)
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    content = {"default-resources": {"slurm_partition": "milano"}}
    (found,) = two_hosts.probe(settings, Profile("x", tmp_path, (), {}, content), {})
    assert (found["verdict"], found["code"]) == (verdict, "probe-unmet")
    assert ("--partition=milano" in asked.read_text(), "--qos" in asked.read_text()) == (True, False)
    assert (cancelled.read_text() if cancelled.exists() else "") == ("" if sbatch == "exit 1" else "4711\n")
    assert not list(tmp_path.glob(paths.probe("*")))
