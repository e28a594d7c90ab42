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

import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.formats import evt
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import ACQUISITIONS
from halfpipe.site.online_records import State
from tests.support.in_process import ROOT
from tests.support.leases import time_passes
from tests.support.online_site import FIRST, GID, NAME, RUN, SECOND, Online, on_site, staged, without_downlink
from tests.support.series import forget
from tests.support.workflow import Ended, Site

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


@pytest.mark.workflow
def test_killed_at_some_moments_there_is_one_whole_file_and_one_command(killed: Killed) -> None:
    sweep(killed, EVERY)


@pytest.mark.long
def test_killed_at_any_moment_there_is_one_whole_file_and_one_command(killed: Killed) -> None:
    sweep(killed, 1)


def test_the_story_of_a_site(site: Site) -> None:
    online = on_site(site, "lci_gap_filled")
    site.work.mkdir()
    assert "switched off" in at_online(online).good().said
    assert at_online(online, "--again", RUN).status == 2

    with_online(online)
    at_online(online).good()
    site.by_hand(FIRST)
    assert at_online(online).good().said.endswith("\n1 waits\n")
    assert at_online(online, "--again", RUN).status == 1, "whoever names a run wants it now"

    site.by_hand(SECOND)
    assert f"{NAME} made, " in at_online(online).good().said
    assert at_online(online).good().said.endswith("1 before\n")
    assert f"{NAME} made, " in at_online(online, "--again", RUN.l1).good().said


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
    ledger.write(lambda _: None)
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
    assert at_online(online, "--again", RUN).status == 1
    assert (online.files(), len(online.told)) == (before, 1)
    site.configure(moot={"file": by_hand})
    at_online(online, "--again", RUN).good()
    assert online.files() == {NAME: without_downlink(staged("lci_acd", FIRST)[0])}


@pytest.mark.workflow
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
