"""`halfpipe ledger` on a site with processed downlinks."""

import re
import shlex
import shutil
from io import StringIO

import pytest

from halfpipe import paths
from halfpipe.errors import LedgerError
from halfpipe.files.leases import Lease
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.notify.submit import submit
from tests.support.golden_cases import build
from tests.support.ledger_files import Database, content, named_in
from tests.support.private_postgresql import PASSWORD
from tests.support.workflow import Site

RUN = RunId("2c2e5787")


def status(site: Site, *words: str) -> int:
    ended = site.halfpipe("ledger", *words)
    assert PASSWORD not in ended.said
    return ended.status


def figures(site: Site, *words: str) -> list[str]:
    """Return the numbers that a person reads, with their nouns."""
    said = site.halfpipe("ledger", *words).good().out
    return re.findall(r"\b\d+ (?:downlinks|rows|runs?|tables)\b", said)


def compared(site: Site, *words: str) -> tuple[list[str], list[str]]:
    """Return the downlinks that `check` finds to differ, and the runs that MOOT has not received."""
    found = site.told("ledger", "check", *words)
    differ = [downlink for each in found["differences"] for downlink in named_in(each["text"])]
    return differ, found["moot_lacks"]


def test_load_check_remove_and_rebuild(database: Database, site: Site) -> None:
    first, second = downlinks = build("split2", site).downlinks
    site.configure(
        ledger={"url": database.url}, moot={"update": shlex.join(["sh", "-c", f"test ! -e {site.home}/down"])}
    )
    site.by_hand(first)
    site.by_hand(second)

    database.ledger().write(lambda _: None)
    assert "\n1 difference between " in site.halfpipe("ledger", "check").bad().out
    assert (compared(site), compared(site, first)) == (([first, second], []), ([first], []))
    assert (status(site, "load", f"dl={first}", second), status(site, "check")) == (0, 0)
    assert (site.work / paths.loaded(first)).exists()
    before = content(database.ledger())
    keys = {f"{row['id']:09d}": row["l0key"] for row in before["glastops_downlink"]}
    assert keys == {dl: read_retdef(site.work / paths.retdef(dl, "00001")).l0key for dl in downlinks}

    # A downlink in progress is neither loaded nor removed.
    lease = Lease.of(site.settings, paths.downlink_lease(first))
    assert lease.try_take()
    try:
        assert (status(site, "load", first), status(site, "remove", first)) == (1, 1)
    finally:
        lease.release()
    assert (site.work / paths.loaded(first)).exists()
    assert content(database.ledger()) == before

    assert figures(site, "remove", first) == ["1 run", "1 run"], "of the downlink, and to be sent"
    assert not (site.work / paths.loaded(first)).exists()
    assert compared(site, second) == ([], [RUN])
    assert compared(site) == ([first], [RUN])
    assert figures(site, "rebuild") == ["2 downlinks", "1 run"]
    assert content(database.ledger()) == before
    assert (status(site, "moot"), compared(site)) == (0, ([], []))
    (site.home / "down").touch()
    assert (status(site, "remove", first), status(site, "moot")) == (0, 1)
    assert (site.work / paths.loaded(second)).exists()
    for words in (("rebuild", first), ("load",)):
        assert status(site, *words) == 2
    for url, ends in ((None, 2), ("sqlite:////no/such/directory/ledger.sqlite", 1)):
        site.configure(ledger={"url": url})
        assert (status(site, "check"), status(site, "load", second)) == (ends, ends)
    assert not (site.work / paths.loaded(second)).exists()
    site.configure(ledger={"url": f"sqlite:///{site.home}/ledger"})
    (site.home / "ledger").write_bytes(bytes(4096))
    (cause,) = (each for each in site.told("status")["site"] if each["code"] == "ledger")
    assert cause["do"] == f"mv {site.home}/ledger {site.home}/ledger.aside\nhalfpipe ledger rebuild"


def test_a_ledger_that_is_newer_than_work_and_stage_is_told(database: Database, site: Site) -> None:
    """Both come from one backup, so they agree, and a part of the lost downlink was decoded before the backup."""
    first, second, third = build("split3", site).downlinks
    site.configure(ledger={"url": database.url}, submit={"command": "true {dl} {rawdir}"})
    site.snakemake(f"submit={first}").good()
    site.by_hand(second, "decode_chunk")
    for place in (site.work, site.stage):
        shutil.copytree(place, site.home / "backup" / place.name)
    site.snakemake(f"submit={second}").good()
    site.halfpipe("status", "--check").good()
    for place in (site.work, site.stage):
        shutil.rmtree(place)
        (site.home / "backup" / place.name).rename(place)

    do = f"halfpipe ledger remove {second}"
    for words in (["status"], ["status", "--check"]):
        of_site = site.told(*words)["site"]
        assert [(one["code"], one["do"]) for one in of_site if one["verdict"] == "action"] == [
            ("restored", do)
        ]
        assert site.halfpipe(*words).status == 1
    assert compared(site)[0] == [second]
    for target in (f"dl={third}", f"submit={third}"):
        site.snakemake(target).bad(do)
        assert site.staged(third) == {}
    site.by_hand(third)  # without the check of a command, as jobs that were queued before the restore
    with pytest.raises(LedgerError) as refused:
        submit(site.settings, DownlinkId(third), StringIO())
    assert (refused.value.code, refused.value.remedy.do) == ("restored", (do,))

    site.halfpipe(*do.split()[1:]).good()
    assert "restored" not in [one["code"] for one in site.told("status")["site"]]
    site.snakemake(f"submit={second}", f"submit={third}").good()
    assert compared(site) == ([], [])
