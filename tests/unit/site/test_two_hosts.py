"""Two sides that meet in a directory: two processes, two hosts of namespaces, and an unreliable file system."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.files import heartbeat
from halfpipe.files.durable import write_bytes
from halfpipe.settings import Paths, Settings
from halfpipe.site import two_hosts
from halfpipe.site.doctor import Finding
from halfpipe.site.two_hosts import LINES, Report, exchange, look
from tests.support.forks import ended, started
from tests.support.servers import put_program

WELL = dict.fromkeys(("clock", "rename", "link", "lease"), "good")


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {each.code: each.verdict for each in findings}


def torn(home: Path, me: int, number: int) -> tuple[float, int]:
    late, incomplete = exchange(home, me, number)
    return late, incomplete + (number == 2)


def slow(home: Path, me: int, number: int) -> tuple[float, int]:
    late, incomplete = exchange(home, me, number)
    return late + two_hosts.SHOWN_SECONDS * (number == 2), incomplete


def overwriting(path: Path, content: bytes, *, lasting: bool) -> bool:
    """Write as on a file system whose link(2) replaces files, where the other side always comes second."""
    write_bytes(path, b"2" if content == b"1" else b"1", lasting=lasting, locked=False)
    return True


@pytest.mark.parametrize(
    ("code", "name", "fault"),
    [
        ("", "exchange", exchange),
        ("clock", "file_server_time", lambda _: time.time() - 2 * two_hosts.CLOCK_SECONDS),
        ("rename", "exchange", torn),
        ("rename", "exchange", slow),
        ("link", "publish", overwriting),
        ("lease", "Lease.try_take", lambda _: True),
        ("lease", "Lease.try_take", lambda _: False),
    ],
)
def test_an_unreliable_file_system_is_found(
    code: str, name: str, fault: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant, value in (("EXCHANGES", 3), ("LIFETIME", 0.5), ("RACES", 200)):
        monkeypatch.setattr(two_hosts, constant, value)
    monkeypatch.setattr(f"halfpipe.site.two_hosts.{name}", fault)
    other = started(partial(look, tmp_path, 2))
    found = verdicts(look(tmp_path, 1))
    assert ended(other) == 0
    assert found == WELL | ({code: "problem"} if code else {})
    assert tmp_path not in heartbeat.hearts, "the lease is released"


def test_a_side_that_is_unseen_stops_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has begun, and nothing more of it shows: as on a file system that each host caches alone."""
    monkeypatch.setattr(two_hosts, "STEP_SECONDS", 0.1)
    write_bytes(tmp_path / "side-2", b"1 0.0\n" * LINES)
    (found,) = look(tmp_path, 1)
    assert (found.code, found.verdict, "number 2" in found.seen) == ("probe-unseen", "problem", True)


def test_a_file_that_is_seen_in_part_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([b"", b"3", b"3 0.0\n2 0.0\n", b"2 0.0\n" * LINES, b"3 0.0\n" * LINES])
    monkeypatch.setattr(Path, "read_text", lambda _: next(looks).decode())
    assert exchange(tmp_path, 1, 3)[1] == 3


@pytest.mark.workflow
def test_two_hosts(tmp_path: Path) -> None:
    """Of names and mounts of their own, on one kernel; the second one looks by the doctor's script besides."""
    names = {"config": "c", "profile": "p", "flight": "f"}
    site = {"config": {"paths": {}}, "profile": {}, "flight": {}, "names": names}
    (tmp_path / two_hosts.SITE).write_text(json.dumps(site))
    inside = 'hostname node2 && mount --bind "$1" "$1" && exec "$2" -m halfpipe.site.two_hosts "$1"'
    on_a_host = ["unshare", "--map-root-user", "--uts", "--mount", "sh", "-c", inside, "sh"]
    with subprocess.Popen([*on_a_host, str(tmp_path), sys.executable]) as job:
        found = verdicts(look(tmp_path, 1))
    other = msgspec.json.decode((tmp_path / two_hosts.REPORT).read_bytes(), type=Report)
    assert job.returncode == 0
    assert found == WELL
    theirs = verdicts(other.findings)
    assert (other.host, {code: theirs[code] for code in ("clock", "rename", "link")}) == (
        "node2", {"clock": "good", "rename": "good", "link": "good"}
    )  # fmt: skip
    assert theirs.keys() >= {"host-umask", "person"}


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
