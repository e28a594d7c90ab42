"""`halfpipe online` as operators run it, and kills at any moment: one complete file, one command."""

import shutil
from datetime import datetime

import pytest
from sqlalchemy import insert

from halfpipe.files.leases import all_leases
from halfpipe.formats import evt
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import ACQUISITIONS
from halfpipe.state.online_record import OnlineState
from tests.support import forks, in_process, verbs
from tests.support.in_process import ROOT
from tests.support.leases import time_passes
from tests.support.online_site import FIRST, GID, NAME, RUN, Online, on_site, staged, without_downlink
from tests.support.workflow import Running, Site

LIMIT = 1.0  # seconds that the command may take
EVERY = 3  # moments: at three in a row the command may have run, and its end was not recorded


def with_online(online: Online, command: str | None = None) -> Online:
    """Switch the hand-off on in the site's config."""
    online.site.configure(paths={"online": str(online.home)}, online={"command": command, "seconds": LIMIT})
    return online


@pytest.mark.workflow
@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
def test_after_a_kill_at_any_moment_there_is_one_file_and_one_command(
    every: int, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    online = on_site(site, "lci_acd", FIRST)
    with_online(online, online.command())
    before = shutil.copytree(site.home, tmp_path_factory.mktemp("before"), dirs_exist_ok=True)
    expected = {NAME: without_downlink(staged("lci_acd", FIRST)[0])}

    def hand_off(*arguments: str) -> int:
        with in_process.as_in_a_process(ROOT):  # whose moments are counted
            return verbs.halfpipe("online", *arguments, configfile=site.configfile).exit_code

    every_moment = forks.moments(hand_off, site.home)
    assert online.files() == expected
    assert any("fsync" in moment and ".part" in moment for moment in every_moment)
    open_ = 0
    for moment in forks.deaths(hand_off, site.home, before, every_moment, every):
        time_passes(site.work)
        visible = {name: content for name, content in online.files().items() if not name.startswith(".")}
        assert visible in ({}, expected), moment
        if online.state() is OnlineState.OPEN:
            open_ += 1
            # The command is running or was never started: the record does not tell which.
            assert hand_off() == 1, moment
            assert len(online.told) <= 1, moment
            assert hand_off(RUN, "--settle", "started" if online.told else "not-started") == 0
        assert hand_off() == 0, moment
        assert (online.files(), len(online.told), online.state()) == (expected, 1, OnlineState.DONE), moment
        assert "online" not in {each.name for each in all_leases(site.work)}, moment
    assert hand_off() == 0
    assert len(online.told) == 1
    assert open_ > 0


def test_key_and_alias_are_those_of_the_event_files(site: Site) -> None:
    """They are from the tables of the ledger, unless the operators' file has them."""
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
    site.halfpipe("online").good()
    (event_file,) = site.staged(FIRST).values()
    assert online.files() == {NAME: without_downlink(event_file)}
    header = evt.read_header(online.home / NAME)
    assert (header["moot_key"], header["moot_alias"]) == (9, b"calibOps")
    assert online.told[0].endswith(" 9 calibOps")

    (site.home / "keys.sqlite").unlink()
    before = online.files()
    assert site.halfpipe("online", "--again", RUN).status == 1
    assert (online.files(), len(online.told)) == (before, 1)
    site.configure(moot={"file": by_hand})
    site.halfpipe("online", "--again", RUN).good()
    assert online.files() == {NAME: without_downlink(staged("lci_acd", FIRST)[0])}


@pytest.mark.workflow
def test_two_at_once_make_one_file_and_run_one_command(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    with_online(online, online.command("sleep 0.5"))
    words = [*verbs.COMMAND, "online", "--configfile", str(site.configfile)]
    both = [Running(words, site.home) for _ in "ab"]
    ended = [one.ended().good() for one in both]
    assert len(online.told) == 1
    assert sum("1 made\n" in one.said for one in ended) == 1
    assert sum("1 before\n" in one.said for one in ended) == 1
