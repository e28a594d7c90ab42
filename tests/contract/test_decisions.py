"""Each cause that a person can decide about, by the command that it prints, pasted as printed."""

import re
import shlex
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.decisions import DECIDED_OF, What
from halfpipe.files.records import numbers
from halfpipe.ids import RunId
from tests.support.decided import EVERY, REOPENED, RUN, Decided, table
from tests.support.workflow import Site

OTHER = "2c2e0000"


def command_of(site: Site, one: Decided) -> list[str]:
    """Return the words of the command that is printed for a problem; empty if the problem is over."""
    if one.what == What.ABANDONED:
        printed = site.halfpipe("explain", one.downlink).out
    else:
        cause = site.causes(one.downlink).get(one.code.strip("`"))
        lines = cause.lines if cause else []
        printed = "\n".join(lines)
        assert (
            "".join(f"  {line}\n" for line in lines) in site.halfpipe("status", one.downlink, "--check").out
        )
    found = re.findall(rf"→ (halfpipe accept .* {one.what}.*)", printed)
    return shlex.split(found[0])[1:] if found else []


def recorded(site: Site) -> dict[str, set[int]]:
    """Return the numbers of the decisions, and of the deliveries of the run, in both copies."""
    homes = (paths.DECISIONS, paths.deliveries(RunId(RUN)))
    return {home: numbers(site.work / home) for each in homes for home in (each, paths.copies(each))}


def refused(site: Site, *words: str) -> None:
    before = site.tree()
    site.halfpipe(*words).bad()
    assert site.tree() == before, words


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.code.strip("`"))
def test_the_command_that_a_cause_prints(one: Decided, site: Site) -> None:
    site.configure(ledger={"url": None})
    one.make(site)
    words = command_of(site, one)
    verb, subject, what, *reason = words
    assert (verb, what.partition("=")[0], reason) == ("accept", one.what, ["--reason", "..."])
    # Nothing is recorded about another subject, or with a number that is not that of now.
    downlink, _, of = subject.rpartition("/")
    wrong = {f"240709001/{of}", f"{downlink}/{'00099' if len(of) == 5 else OTHER}"} if downlink else {OTHER}
    for each in wrong:
        refused(site, verb, each, what, *reason)
    name, equals, number = what.partition("=")
    for other in {int(number) + 1, int(number) - 1, 0} - {int(number)} if equals else ():
        refused(site, verb, subject, f"{name}={other}", *reason)
    undo = (verb, subject, name, "--undo", "--reason", "it was found")
    refused(site, *undo)

    before = recorded(site)
    site.halfpipe(*words).good()
    after = recorded(site)
    home = paths.deliveries(RunId(RUN)) if name == REOPENED else paths.DECISIONS
    assert after == before | {
        each: before[each] | {len(before[each]) + 1} for each in (home, paths.copies(home))
    }
    if name == REOPENED:  # it is done at once, and for good
        assert command_of(site, one) == []
        refused(site, *words)
        refused(site, *undo)
        return
    site.halfpipe(*words).good()
    assert recorded(site) == after, "twice is the same as once"
    assert site.told("status", one.downlink, "--check")["checked"]["decision"] == 1
    (listed,) = [each for each in site.told("accept")["decisions"] if each["subject"] == subject]
    assert (listed["what"], listed["number"], listed["reason"]) == (
        name,
        int(number) if equals else None,
        "...",
    )
    covers = f"{number} of {number}" if equals else one.covers
    assert listed["covers"] == covers

    site.halfpipe(*undo).good()
    refused(site, *undo)
    assert site.told("accept")["decisions"] == []
    if one.fails:
        site.snakemake(*one.after).bad()
    assert command_of(site, one) == words, "the cause is back"

    site.halfpipe(*words).good()
    if one.after:
        site.snakemake(*one.after).good()
    assert command_of(site, one) == []
    cause = site.causes(one.downlink).get(one.code.strip("`"))
    assert cause is None or cause.verdict is Verdict.NOTE


def test_the_table_of_the_documents_is_that_of_the_test() -> None:
    assert table() in (Path(__file__).parents[2] / "docs" / "deciding.md").read_text()
    assert {one.what for one in EVERY} == {*DECIDED_OF, REOPENED}
