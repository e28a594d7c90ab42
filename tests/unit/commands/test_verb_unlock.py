"""`halfpipe unlock`: what it lists, what it removes, and what it refuses to remove."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from halfpipe.storage.locks import FileLock, Holder
from tests.support.verbs import halfpipe
from tests.support.workflow import Ended, Site

LOCKS = ("downlink-230401001", "jobs-230401001/0123456789abcdef", "run-2c2e5787", "unattended")


@pytest.fixture
def site(site: Site) -> Site:
    """A site in which something may have been processed."""
    site.work.mkdir()
    return site


def unlock(site: Site, *names: str) -> Ended:
    """Return how it ended, and what it said but for where it looked."""
    ended = halfpipe("unlock", "--configfile", site.configfile, "--", *names)
    assert ended.stderr.startswith(f"HalfPipe at {site.work} ")
    return Ended(ended.exit_code, ended.stdout + ended.stderr.partition("\n")[2])


def write(site: Site, name: str, holder: Holder) -> Path:
    path = site.work / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(holder)))
    return path


@pytest.fixture
def elsewhere() -> Holder:
    return replace(Holder.myself(), user="shift", host="elsewhere", boot="another", pid=4711)


def test_lists_all_kinds_and_says_which_stop_somebody(site: Site, elsewhere: Holder) -> None:
    assert unlock(site) == Ended(0, "0 locks\n")
    write(site, LOCKS[1], elsewhere)
    write(site, LOCKS[2], replace(Holder.myself(), pid=4712, boot="before the machine restarted"))
    mine = FileLock(site.work / "locks" / LOCKS[0])
    assert mine.try_take()
    said = unlock(site).good().said.splitlines()
    found = json.loads(halfpipe("unlock", "--json", configfile=site.configfile).stdout)["locks"]
    mine.give_back()
    head, *rows, last = [re.split(" {2,}", line) for line in said]
    assert head == ["lock", "state", "holder"]
    assert rows == [
        [LOCKS[0], "held", str(mine.holder)],
        [LOCKS[1], "held_from_another_host", str(elsewhere)],
        [LOCKS[2], "dead,_will_be_taken_over", str(replace(mine.holder, pid=4712, since=rows[2][2][-25:]))],
    ]
    assert last == ["3 locks"]
    assert "shift, process 4711 on elsewhere, since 2" in said[2]
    assert [lock["state"] for lock in found] == ["held", "held from another host", "dead, will be taken over"]
    assert found[1]["holder"] == asdict(elsewhere)


@pytest.mark.parametrize("name", LOCKS)
def test_removes_the_lock_of_another_host_and_no_other(name: str, site: Site, elsewhere: Holder) -> None:
    paths = {each: write(site, each, elsewhere) for each in LOCKS}
    assert not FileLock(paths[name]).try_take(), "nobody takes it over unasked"
    assert unlock(site, name) == Ended(0, f"removed {name}, held by {elsewhere}\n")
    assert [each for each in LOCKS if paths[each].exists()] == [each for each in LOCKS if each != name]
    lock = FileLock(paths[name])
    assert lock.try_take()
    lock.give_back()


def test_refuses_what_lives_here_and_what_is_no_lock(site: Site, elsewhere: Holder) -> None:
    lock = FileLock(site.work / "locks" / "unattended")
    assert lock.try_take()
    outside = site.work / "dl=230401001"
    outside.touch()
    (site.work / "format.json").write_text(json.dumps({"format": 1, "id": "0" * 32}))
    ended = unlock(site, "unattended")
    assert ended.status == 1
    assert ended.said == (
        f"error: unattended is held by {lock.holder}, which lives on this host: end that process instead.\n"
    )
    for name in ("run-2c2e5788", "../dl=230401001", str(outside), ""):
        ended = unlock(site, name)
        assert ended.status == 1
        assert f"there is no lock {name!r} in {site.work}/locks" in ended.said
    assert lock.path.exists()
    assert outside.exists()
    lock.give_back()


def test_a_killed_holder_on_this_host_needs_no_unlocking(site: Site) -> None:
    path = site.work / "locks" / "run-2c2e5787"
    program = (
        f"import os, signal; from pathlib import Path; from halfpipe.storage.locks import FileLock\n"
        f"assert FileLock(Path({str(path)!r})).try_take(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert re.search(r"^run-2c2e5787 +dead,_will_be_taken_over +", unlock(site).good().said, re.MULTILINE)
    lock = FileLock(path)
    assert lock.try_take()
    lock.give_back()
    assert unlock(site) == Ended(0, "0 locks\n")
