"""Two sides that meet in a directory: on two hosts of namespaces, and what their reports are taken for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.files.durable import write_bytes
from halfpipe.settings import Paths, Settings
from halfpipe.site import two_hosts
from halfpipe.site.two_hosts import LINES, RACES, Seen, Side, judge
from tests.support.servers import put_program

NAMES = [f"{number:06d}" for number in range(1, RACES + 1)]
CONTENTS = {name: "1" if name < "000600" else "2" for name in NAMES}
ONE = Seen("node1", late=[-0.1], tries=700, wins=NAMES[:599], contents=CONTENTS, refused=True, followed=3.4)
OTHER = Seen("node2", late=[0.3, 0.5], tries=500, wins=NAMES[599:], contents=CONTENTS)


def verdicts(one: dict[str, Any] | None = None, other: dict[str, Any] | None = None) -> dict[str, str]:
    sides = (msgspec.structs.replace(ONE, **(one or {})), msgspec.structs.replace(OTHER, **(other or {})))
    return {each.code: each.verdict for each in judge(*sides)}


@pytest.mark.parametrize(
    ("code", "one", "other"),
    [
        ("clock", {"late": [600.0]}, {"late": [-599.9]}),
        ("rename", {}, {"torn": 1}),
        ("rename", {"back": 1}, {}),
        ("rename", {}, {"late": [0.3, 61.0]}),
        ("link", {"wins": NAMES[:600]}, {}),
        ("link", {"wins": NAMES[:598]}, {}),
        ("link", {"contents": CONTENTS | {NAMES[0]: "2"}}, {}),
        ("lease", {"refused": False}, {}),
        ("lease", {"followed": None}, {}),
    ],
)
def test_an_unreliable_file_system_is_found(code: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    well = dict.fromkeys(("two-hosts", "clock", "rename", "link", "lease"), "good")
    assert verdicts() == well
    assert verdicts(one, other) == well | {code: "problem"}


def test_one_host_proves_nothing_of_two() -> None:
    assert verdicts(other={"host": "node1"})["two-hosts"] == "unknown"


def test_a_side_that_is_unseen_stops_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has begun, and nothing more of it shows: as on a file system that each host caches alone."""
    monkeypatch.setattr(two_hosts, "STEP_SECONDS", 0.1)
    write_bytes(tmp_path / "side-2", b"1 0.0\n" * LINES)
    seen = Side(tmp_path, 1).go()
    assert "number 2" in seen.stopped
    assert [each.code for each in judge(seen, OTHER) if each.verdict == "problem"] == ["probe-unseen"]


def test_a_file_that_is_seen_in_part_and_one_that_goes_back_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = Side(tmp_path, 1)
    looks = iter([b"", b"3", b"3 0.0\n2 0.0\n", b"1 0.0\n" * LINES, b"3 0.0\n" * LINES])
    side.number = 2
    monkeypatch.setattr(Path, "read_text", lambda _: next(looks).decode())
    side.exchange()
    assert (side.seen.torn, side.seen.back) == (3, 1)


@pytest.mark.workflow
def test_two_hosts(tmp_path: Path) -> None:
    """Of names and mounts of their own, on one kernel; the second one looks by the doctor's script besides."""
    names = {"config": "c", "profile": "p", "flight": "f"}
    site = {"config": {"paths": {}}, "profile": {}, "flight": {}, "names": names}
    (tmp_path / two_hosts.SITE).write_text(json.dumps(site))
    inside = 'hostname node2 && mount --bind "$1" "$1" && exec "$2" -m halfpipe.site.two_hosts "$1"'
    on_a_host = ["unshare", "--map-root-user", "--uts", "--mount", "sh", "-c", inside, "sh"]
    with subprocess.Popen([*on_a_host, str(tmp_path), sys.executable]) as job:
        one = Side(tmp_path, 1).go()
    other = msgspec.json.decode((tmp_path / two_hosts.REPORT).read_bytes(), type=Seen)
    assert job.returncode == 0
    assert {each.code: each.verdict for each in judge(one, other)} == {
        "two-hosts": "good", "clock": "good", "rename": "good", "link": "good", "lease": "good"
    }  # fmt: skip
    assert one.tries + other.tries > RACES, "they met at numbers"
    assert {each.code for each in other.node} >= {"host-umask", "person"}


@pytest.mark.parametrize(
    ("srun", "verdict"),
    [
        ("exit 1", "problem"),
        ("echo srun: error: Unable to allocate resources: Requested nodes are busy; exit 1", "unknown"),
    ],
)
def test_a_job_that_does_not_show_is_reported(
    srun: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    put_program(tmp_path, "srun", f'echo "$*" > {asked}; {srun}', monkeypatch)
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    content = {"default-resources": {"slurm_partition": "milano"}}
    (found,) = two_hosts.probe(settings, Profile("x", tmp_path, (), {}, content), {})
    assert (found.verdict, found.code) == (verdict, "probe-unmet")
    assert ("--partition=milano" in asked.read_text(), "--qos" in asked.read_text()) == (True, False)
    assert not list(tmp_path.glob(paths.probe("*")))
