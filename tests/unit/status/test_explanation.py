"""`explain`: what is said of events that were not delivered, and that what is to be done delivers them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.merge.undelivered import NotDelivered
from halfpipe.notify.submissions import submissions
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.status.account import account
from halfpipe.status.explanation import Explained, State
from halfpipe.status.survey import Survey
from halfpipe.words import utc
from tests.support.golden_cases import build, copied, read_case, take_chunk
from tests.support.workflow import Site

RUN = RunId("2c2e5787")
FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
NORMALLY = "The missing data normally come with the next downlink."


@contextmanager
def gone(path: Path) -> Iterator[None]:
    path.rename(path.with_name("aside"))
    yield
    path.with_name("aside").rename(path)


def said_of(site: Site, run: RunId = RUN, now: float | None = None) -> State:
    return State(Survey(site.settings, time.time() if now is None else now), run)


def books_of(site: Site) -> Books:
    found = Survey(site.settings).books(RUN).books
    assert found
    return found


def place(group: Explained) -> tuple[str, int, int, int, int]:
    return group.kind, group.apid, group.first, group.last, group.events


def test_waiting_events_whose_datagrams_an_outstanding_chunk_may_bring(site: Site) -> None:
    build("gap_one_filled", site, FIRST)
    said = said_of(site)
    before = books_of(site).delivered
    (group,) = said.groups
    assert place(group) == (NotDelivered.WAITING, 957, 1069, 1130, 18)
    assert {(one.apid, one.datagrams, one.downlink) for one in group.waits_for} == {(956, (2, 3), SECOND)}
    ((chunk, *_), *more) = {(one.chunk, one.downlink) for one in group.waits_for}
    assert (more, f"Chunk {chunk} of downlink {SECOND} " in " ".join(group.why)) == ([], True)
    assert group.do == f"snakemake dl={SECOND}"
    for path in (site.retdefs, site.retdefs / SECOND, next((site.retdefs / SECOND).glob("*-00001.xml"))):
        with gone(path):
            path.symlink_to(path)  # cannot be read or listed
            (unsure,) = site.told("explain", RUN)["groups"]
            assert (unsure["do"], str(path) in " ".join(unsure["why"])) == ("halfpipe status", True), path
            path.unlink()
    site.by_hand(SECOND)
    assert said_of(site).groups == ()
    delivered = sum(run.delivery.events for run in site.receipt(SECOND).runs)
    assert books_of(site).delivered == before + delivered


@pytest.mark.parametrize("name", ["gap_one_filled", "split2", "withheld_lone", "rerun_first"])
def test_what_waits_is_what_waits_now_in_every_account(site: Site, name: str) -> None:
    steps = [step.downlink for step in read_case(name).steps]
    for number, downlink in enumerate(steps):
        build(name, site, downlink)
        survey = Survey(site.settings)
        accounts = [account(survey, DownlinkId(dl)).waiting for dl in sorted(set(steps[: number + 1]))]
        waiting = said_of(site).count(NotDelivered.WAITING, NotDelivered.DUE)
        assert sum(filter(None, accounts)) == waiting, (name, downlink)
    for path in site.work.glob("*/chunks/*-*"):  # as cleanup does
        path.unlink()
    assert site.halfpipe("explain", RUN).status == (1 if waiting or name == "withheld_lone" else 0)


def test_where_nothing_is_announced_an_old_run_may_be_abandoned(site: Site) -> None:
    build("gap_one", site, FIRST)
    (group,) = said_of(site).groups
    assert [(one.apid, one.datagrams, one.downlink) for one in group.waits_for] == [(956, (3, 4), None)]
    *_, normally, since, last = group.why
    assert (normally, last) == (NORMALLY, "Abandon the run only if the data will never arrive.")
    assert f"since {utc((site.work / paths.receipts(FIRST) / '000001.json').stat().st_mtime)}." in since
    assert group.do == f'halfpipe accept {RUN} abandoned --reason "..."'
    (young,) = said_of(site, now=1719541762.0).groups
    assert (young.do, young.why[-2]) == ("", NORMALLY)

    site.halfpipe("accept", RUN, "abandoned", "--reason", "lost").good()
    (due,) = said_of(site).groups
    assert due.kind == NotDelivered.DUE
    assert due.do == f"snakemake dl={FIRST} -R runs/{RUN}/{FIRST}/manifest.json"
    site.configure(retire={"deliver_waiting": False})
    (kept,) = said_of(site).groups
    assert kept.why == ("The run is abandoned, and retire.deliver_waiting keeps back what is not settled.",)
    for deliver, waiting in ((False, due.events), (True, 0)):
        site.configure(retire={"deliver_waiting": deliver})
        site.by_hand(FIRST)
        (run,) = site.receipt(FIRST).runs
        made = run.delivery
        assert (made.abandoned, made.complete, made.books.in_texts) == (True, False, waiting)
        assert made.events == made.books.known - waiting
        assert site.text("retired_runs", FIRST) == [f"{RUN.l1} INCOMPLETE"]
        with gone(next((site.work / paths.chunks(FIRST)).glob("*.rows"))):
            state = said_of(site)
            assert (state.groups, [*state.unread]) == ((), [FIRST] if waiting else []), (
                "which they are is not known"
            )
            assert books_of(site).all_waiting == waiting
            ended = site.halfpipe("explain", RUN)
            assert (ended.status, FIRST in ended.out) == (bool(waiting), bool(waiting))
        assert not said_of(site).unread, "all is looked at"
    assert said_of(site).groups == ()


def test_a_chunk_that_is_left_out_is_named(site: Site) -> None:
    build("gap_one", site, FIRST)
    (before,) = said_of(site).groups
    site.decide(f"{FIRST}/00009", What.LEFT_OUT)
    (group,) = said_of(site).groups
    (added,) = set(group.why) - set(before.why)
    assert all(part in added for part in (FIRST, "00009", "a test, says N. N."))


def test_how_long_waits_of_other_runs_took_is_told(site: Site) -> None:
    build("gap_one", site, FIRST)
    for run, numbers in [("2c2e5000", (1, 2, 3)), ("2c2e5001", (2, 3)), ("2c2e5002", (3,))]:
        for number in numbers:
            (site.work / paths.run(run) / f"24053100{number}").mkdir(parents=True)
    for downlink, when in [("240531001", 0), ("240531002", 86400), ("240531003", 86400 + 5400)]:
        record = site.work / paths.receipts(downlink) / "000001.json"
        record.parent.mkdir(parents=True)
        record.touch()
        os.utime(record, (1e9 + when, 1e9 + when))
    since = said_of(site).groups[0].why[-2]
    assert since.endswith(
        "UTC; here the next downlink of a run usually comes after 1.5 h, at most after 24.0 h (3 waits)."
    )


def test_an_epu_whose_first_datagram_opens_nothing_waits_for_no_chunk(site: Site) -> None:
    case = build(copied("split2", site), site)
    for path in (case.directory / "in" / FIRST).glob("*-0957-*.idx"):
        path.write_text(path.read_text().replace("   start", "continue"))
    site.by_hand(FIRST)
    waits = [one for group in said_of(site).groups for one in group.waits_for if one.what == "start"]
    assert {(one.apid, one.datagrams, one.downlink) for one in waits} == {(957, None, None)}


def in_part_and_whole(site: Site) -> tuple[Path, list[int]]:
    """Process a datagram that lacks its last 4 events; where the second downlink is that has all, and which lack."""
    case = build(copied("complete_basic", site), site)
    source = case.directory / "in"
    for chunk in (1, 2):
        take_chunk("complete_basic", FIRST, chunk, source / SECOND, SECOND, chunk)
    (index,) = (source / FIRST).glob("*-0956-00001.idx")
    taken = take_from_datagram(index, 1, 4)
    site.add_retdefs(source, SECOND)
    site.by_hand(FIRST)
    return source, taken


def test_a_datagram_that_came_in_part_and_later_whole(site: Site) -> None:
    source, taken = in_part_and_whole(site)
    site.by_hand(SECOND)

    first, second = (site.receipt(dl).runs[0].delivery for dl in (FIRST, SECOND))
    lines = [line for path in source.glob(f"{SECOND}/*.idx") for line in path.read_bytes().splitlines()]
    everything = sum(line.startswith(b"EVT:") for line in lines)
    assert (first.events, first.books.known) == (everything - 4, everything - 4)
    assert second.events == 0
    assert second.books == Books(known=everything, delivered=everything - 4, late=4)
    (group,) = said_of(site).groups
    assert place(group) == (NotDelivered.LATE, 956, taken[0], taken[-1], 4)
    with gone(next((site.work / paths.chunks(FIRST)).glob("*.rows"))):
        assert [(one.kind, one.events) for one in said_of(site).groups] == [(NotDelivered.LATE, 4)], (
            "which of them, nobody knows"
        )
    assert "late-events" in {cause.code for cause in account(Survey(site.settings), SECOND).causes}
    submissions(site.work, FIRST).intend(
        (), outcome=Outcome.SUBMITTED, by=By.PERSON, action=Action.SUBMIT, handoff=1
    )
    assert "Level-1 has hand-off 1 " in " ".join(said_of(site).groups[0].why)
    site.snakemake(*group.do.split()[1:]).good()
    assert said_of(site).groups == ()
    assert site.receipt(FIRST).runs[0].delivery.events == everything


def take_from_datagram(index: Path, number: int, events: int) -> list[int]:
    """Take the last events of a datagram out of an index, as if only a part had come; return their sequences."""
    kept, taken = [], []
    lines = index.read_bytes().splitlines()
    of_it = [line.split() for line in lines if line.startswith(b"EVT:") and int(line.split()[8]) == number]
    gone = {int(words[2]) for words in of_it[-events:]}
    last = int(of_it[-events - 1][2])
    for whole in lines:
        line, words = whole, whole.split()
        if words[0] == b"EVT:" and int(words[2]) in gone:
            taken.append(int(words[2]))
            continue
        if words[0] == b"DGM:" and int(words[5]) == number:
            before = b"%20d %10d" % (int(words[19]), int(words[20]))
            assert before in line
            line = line.replace(before, b"%20d %10d" % (last, int(words[20]) - events))
        kept.append(line)
    index.write_bytes(b"\n".join(kept) + b"\n")
    return taken


def test_the_verb(site: Site) -> None:
    build("gap_one_filled", site, FIRST)
    assert site.halfpipe("explain", FIRST).status == 1
    assert site.halfpipe("explain", f"{RUN}:1068").status == 0
    (group,) = site.told("explain", RUN)["groups"]
    assert group.keys() == {
        "run", "kind", "apid", "first", "last", "events", "waits_for", "why", "do",
    }  # fmt: skip
    assert {tuple(one) for one in group["waits_for"]} == {("apid", "what", "datagrams", "downlink", "chunk")}
    with gone(site.work / paths.datagrams(RUN, FIRST)):
        assert f"--repair {FIRST}" in site.halfpipe("explain", FIRST).bad().errors
