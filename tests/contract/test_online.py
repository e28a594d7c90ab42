"""`halfpipe online` as an operator runs it, and death at every moment: one file, one command, never half-written."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.formats import evt
from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import ACQUISITIONS
from halfpipe.site.online_records import Record, State
from tests.support.golden_cases import GOLDEN, build, read_case
from tests.support.in_process import ROOT
from tests.support.leases import time_passes
from tests.support.online_site import FIRST, GID, NAME, RUN, SECOND, Online, on_site, staged, without_downlink
from tests.support.series import forget
from tests.support.workflow import Ended, Site, run

COMMAND = [sys.executable, "-m", "halfpipe", "online"]
LIMIT = 1.0  # seconds that the command may take
EVERY = 3  # moments: at three that follow each other the command may have run and nobody saw its end

# Runs `halfpipe online` again and again, each time in a fork that has everything imported, killed at a moment:
# reads lines of JSON with `at` (0 lists all moments into `once`, below 0 it is not killed), `once`, `home`,
# `arguments`; says how it ended.
REPEATER = """
import json, os, runpy, sys
import halfpipe.site.online_handoff
from tests.support.injected.sitecustomize import Fault, harm
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        sys.argv = ["halfpipe", *order["arguments"]]
        do = harm("job" if order["at"] else "list", order["once"], order["home"])
        Fault(order["home"], order["at"], do).install()
        try:
            runpy.run_module("halfpipe", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def at_online(online: Online, *arguments: str) -> Ended:
    """Give the operator's command."""
    return online.site.halfpipe("online", *arguments)


def with_online(online: Online, command: str | None = None) -> Online:
    """Switch the hand-off on in the site's config."""
    online.site.configure(paths={"online": str(online.home)}, online={"command": command, "seconds": LIMIT})
    return online


@dataclass
class Killed:
    """A process that hands off and is killed."""

    online: Online

    def __post_init__(self) -> None:
        self.once = self.online.site.home / "once"
        self.said = self.online.site.home / "said.txt"
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", REPEATER],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )

    def hand_off(self, at: int, *arguments: str) -> int:
        """Give the command, killed at a moment; return how it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.once.unlink(missing_ok=True)
        site = self.online.site
        words = ["online", *arguments, "--configfile", str(site.configfile)]
        order = {"at": at, "once": str(self.once), "home": str(site.home), "arguments": words}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def begin_anew(self) -> None:
        """Forget the hand-off."""
        site = self.online.site
        shutil.rmtree(self.online.home, ignore_errors=True)
        shutil.rmtree(site.work / paths.leases(), ignore_errors=True)
        forget(site.work, paths.online_record(RUN))
        shutil.rmtree(site.stage / paths.stage_mark(), ignore_errors=True)  # which knows of it
        shutil.rmtree(site.work / paths.stage_mark_copy(), ignore_errors=True)
        (site.home / "told.txt").unlink(missing_ok=True)

    def moments(self) -> list[str]:
        """Hand off, and return the moments at which it could have been killed."""
        self.begin_anew()
        assert self.hand_off(0) == 0, self.said.read_text()
        return self.once.read_text().splitlines()


@pytest.fixture
def killed(site: Site) -> Iterator[Killed]:
    """A run that is ready, with a command."""
    online = on_site(site, "lci_acd", FIRST)
    made = Killed(with_online(online, online.command()))
    yield made
    made.process.communicate()


def sweep(killed: Killed, every: int) -> None:
    """Kill the hand-off at every so many moments, and give the command again until it is done."""
    online, expected = killed.online, {NAME: without_downlink(staged("lci_acd", FIRST)[0])}
    moments = killed.moments()
    assert online.files() == expected
    assert any("fsync" in moment and ".part" in moment for moment in moments)
    open_ = 0
    for at, moment in list(enumerate(moments, 1))[every - 1 :: every]:
        killed.begin_anew()
        assert killed.hand_off(at) == -signal.SIGKILL, moment
        time_passes(online.site.work)
        visible = {name: content for name, content in online.files().items() if not name.startswith(".")}
        assert visible in ({}, expected), moment
        if online.state() is State.OPEN:
            open_ += 1
            # The command is running or was never started, and nobody saw which.
            assert killed.hand_off(-1) == 1, moment
            assert len(online.told) <= 1, moment
            assert killed.hand_off(-1, "--started" if online.told else "--not-started", RUN) == 0
        assert killed.hand_off(-1) == 0, (moment, killed.said.read_text())
        assert (online.files(), len(online.told), online.state()) == (expected, 1, State.DONE), moment
        assert not (online.site.work / paths.online_lease()).exists(), moment
    assert killed.hand_off(-1) == 0
    assert len(online.told) == 1
    assert open_ > 0
    print(len(moments) // every, "kills,", open_, "open")


def test_killed_at_some_moments_there_is_one_whole_file_and_one_command(killed: Killed) -> None:
    sweep(killed, EVERY)


@pytest.mark.long
def test_killed_at_any_moment_there_is_one_whole_file_and_one_command(killed: Killed) -> None:
    sweep(killed, 1)


def test_a_full_disk_leaves_nothing_and_the_same_command_goes_on(site: Site) -> None:
    online = with_online(on_site(site, "lci_acd", FIRST))
    injected = {"PYTHONPATH": str(ROOT / "tests" / "support" / "injected"), "FAULT_SCRIPT": "online"}
    fault = {"FAULT_KIND": "short", "FAULT_AT": "1", "FAULT_SIZE": "50000", "FAULT_BELOW": str(site.home)}
    # What is harmed is known by the name of its program.
    program = site.home / "scripts" / "online.py"
    program.parent.mkdir()
    program.write_text("import runpy; runpy.run_module('halfpipe', run_name='__main__', alter_sys=True)\n")
    words = [sys.executable, str(program), "online", "--configfile", str(site.configfile)]
    ended = run(words, {**injected, **fault, "FAULT_ONCE": str(site.home / "once")})
    assert ended.status == 1
    assert f"{online.home / NAME}: cannot be written: File too large" in ended.said
    assert online.files() == {}
    assert "1 made" in at_online(online).good().said


@pytest.mark.either
def test_the_story_of_a_site(site: Site) -> None:
    online = on_site(site, "lci_gap_filled")
    site.work.mkdir()
    assert "switched off" in at_online(online).good().said
    ended = at_online(online, "--again", RUN)
    assert (ended.status, "paths.online is null" in ended.said) == (2, True)

    with_online(online)
    assert at_online(online).good().said.endswith("no run is known\n")
    site.by_hand(FIRST)
    waits = f"{RUN}  {RUN.l1}  waits: datagrams 6 to 7 of EPU 965 are missing\n1 waits\n"
    assert at_online(online).good().said.endswith(waits)
    ended = at_online(online, "--again", RUN)
    assert (ended.status, ended.said.endswith(waits)) == (1, True), "whoever names a run wants it now"

    site.by_hand(SECOND)
    assert f"{NAME} made, " in at_online(online).good().said
    assert at_online(online).good().said.endswith("1 before\n")
    assert f"{NAME} made, " in at_online(online, "--again", RUN.l1).good().said


@pytest.mark.either
def test_switches_and_the_operators_list(site: Site) -> None:
    online = with_online(on_site(site, "lci_acd", FIRST))
    switch = site.work / "halts" / "haltOnline"
    switch.parent.mkdir()
    switch.touch()
    assert at_online(online).good().said.endswith(f"the hand-off to Online is held by {switch}\n")
    switch.rename(site.work / FIRST / "haltOnline")
    assert f"held by {site.work / FIRST / 'haltOnline'}\n1 held\n" in at_online(online).good().said
    assert at_online(online, "--again", RUN).status == 1
    assert online.files() == {}
    (site.work / FIRST / "haltOnline").unlink()
    (site.work / "force").mkdir()
    (site.work / "force" / "README").touch()
    said = at_online(online).good().said
    assert "force/README: gives up no run" in said
    assert "1 made\n" in said


@pytest.mark.either
def test_key_and_alias_are_those_of_the_event_files(site: Site) -> None:
    """By the ledger's tables where the config says so; the operators' own file goes before."""
    url = f"sqlite:///{site.home}/keys.sqlite"
    planned = {"id": int(GID, 16), "trequested": datetime(2024, 6, 1), "type": "LCI"}
    planned |= {"moot_key": 9, "moot_alias": "calibOps"}
    online = on_site(site, "lci_acd")
    online = with_online(online, online.command())
    by_hand = site.config["moot"]["file"]
    site.configure(ledger={"url": url}, moot={"file": None, "mapping": True})
    ledger = Ledger(url, waits=())
    ledger.upgrade()
    ledger.write(lambda connection: connection.execute(insert(ACQUISITIONS), [planned]))
    site.by_hand(FIRST)
    at_online(online).good()
    (event_file,) = site.staged(FIRST).values()
    assert online.files() == {NAME: without_downlink(event_file)}
    header = evt.read_header(online.home / NAME)
    assert (header["moot_key"], header["moot_alias"]) == (9, b"calibOps")
    assert online.told[0].endswith(" 9 calibOps")

    (site.home / "keys.sqlite").unlink()
    before = online.files()
    ended = at_online(online, "--again", RUN)
    assert (ended.status, "its MOOT key cannot be looked up" in ended.said) == (1, True)
    assert (online.files(), len(online.told)) == (before, 1)
    site.configure(moot={"file": by_hand})
    at_online(online, "--again", RUN).good()
    assert online.files() == {NAME: without_downlink(staged("lci_acd", FIRST)[0])}


def test_two_at_once_make_one_file_and_run_one_command(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    with_online(online, online.command("sleep 0.5"))
    words = [*COMMAND, "--configfile", str(site.configfile)]
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in "ab"]
    said = sorted(process.communicate()[0].decode() for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    assert len(online.told) == 1
    assert sum("1 made\n" in text for text in said) == 1
    assert sum("1 before\n" in text for text in said) == 1


def test_of_a_downlink_only_its_calibration_runs(tmp_path: Path) -> None:
    """Two runs, of which one is LPA and stays with Level-1."""
    other = RunId("2c2e9c11")
    site = Site(tmp_path)
    build(read_case(GOLDEN / "lci_acd"), site)
    home = tmp_path / "in"
    shutil.copytree(GOLDEN / "lci_acd" / "in", home)
    for path in (GOLDEN / "complete_basic" / "in" / FIRST).iterdir():
        number = int(path.stem.rpartition("-")[2]) + 2
        name = path.name.replace(RUN, other).replace(path.stem[-5:], f"{number:05d}")
        content = path.read_bytes()
        if path.suffix != ".evt":
            text = content.decode().replace(path.stem, Path(name).stem).replace(str(RUN.met), str(other.met))
            content = text.replace(f'chunkid="{number - 2}"', f'chunkid="{number}"').encode()
        (home / FIRST / name).write_bytes(content)
    site.replay(home)
    site.add_retdefs(home, FIRST)
    site.by_hand(FIRST)
    online = with_online(Online(site))
    said = at_online(online).good().said
    assert "1 other" in said
    assert f"{RUN}  {RUN.l1}  {NAME} made" in said
    assert list(online.files()) == [NAME]
    assert Record(site.work, other).state is State.NOTHING
