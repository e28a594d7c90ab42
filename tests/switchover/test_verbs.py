"""The verbs of the switch-over as a person types them."""

import re
from pathlib import Path

import pytest

from halfpipe.ids import DownlinkId, RunId
from tests.support import documents
from tests.support.documents import commands, sections
from tests.support.golden_cases import build
from tests.support.ledger_files import Database, whole
from tests.support.private_postgresql import PASSWORD
from tests.support.workflow import Site
from tests.switchover.support.legacy_ledger import LegacyLedger

RUN = RunId("2c2e5787")
COMPARE = "docs/switch-over/compare.md"


def status(site: Site, *words: str) -> int:
    ended = site.halfpipe(*words)
    assert PASSWORD not in ended.said
    return ended.status


def figures(site: Site, *words: str) -> list[str]:
    """Return the numbers that a person reads, with their nouns."""
    said = site.halfpipe(*words).good().out
    return re.findall(r"\b\d+ (?:rows|runs?|tables)\b", said)


@pytest.mark.workflow
def test_commands_of_the_page_print_the_output_that_is_shown(tmp_path: Path) -> None:
    wanted = [each for section in sections(COMPARE).values() for each in commands(section)]
    assert len(wanted) > 10
    documents.check(wanted, documents.run(documents.project(tmp_path), wanted))


def test_an_invalid_command_line_does_nothing(site: Site) -> None:
    (downlink,) = build("complete_basic", site).downlinks
    site.by_hand(downlink)
    before = site.tree()
    for words in (
        ["compare", downlink, "--with", "no such"],
        ["compare", downlink],
        ["takeover", "no such", "--do"],
    ):
        assert status(site, *words) == 2, words
    assert site.tree() == before


def test_adopt_and_go_back(database: Database, site: Site) -> None:
    (first, _) = build("split2", site).downlinks
    site.configure(ledger={"url": database.url})
    legacy = LegacyLedger(database)
    legacy.load(DownlinkId("230331001"), {RUN: [whole(956, 3)]})
    before, answers = legacy.content(), legacy.level1(RUN)
    site.by_hand(first)

    found = site.told("adopt")
    assert (found["problems"], len(found["tables"])) == ([], 5)
    assert not [each for each in found["statements"] if ":" in each or "?" in each]
    assert (status(site, "adopt"), status(site, "ledger", "load", first), legacy.content()) == (0, 1, before)
    lines = site.halfpipe("adopt").out.splitlines()
    assert [line.split()[2] for line in lines[1:6]] == [str(each["rows"]) for each in found["tables"]]
    assert figures(site, "adopt", "--do") == ["5 tables", "6 rows", "1 run"]
    assert (status(site, "adopt", "--do"), legacy.level1(RUN)) == (1, answers)
    assert (status(site, "ledger", "rebuild"), status(site, "ledger", "check")) == (0, 0)
    month = legacy.level1(RUN)
    assert month.keys() == answers.keys()
    assert (status(site, "adopt", "--undo"), legacy.level1(RUN)) == (0, month)
    assert (status(site, "adopt", "--undo", "--do"), legacy.level1(RUN)) == (0, answers)
    assert status(site, "adopt", "--undo") == 1
    assert status(site, "adopt", first) == 2
    database.by_others("ALTER TABLE glastops_acqsummary RENAME COLUMN moot_key TO moot")
    assert status(site, "adopt", "--do") == 1
