"""The books balance: no event and no delivery is lost without a word, and all screens say the same numbers."""

import re
import shlex
import shutil
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import PHASES, Phase, Verdict
from halfpipe.decisions import What
from halfpipe.deliver.deliver_run import merge_and_deliver
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.merge.intervals import Interval
from halfpipe.merge.undelivered import NotDelivered
from halfpipe.pages.board_pages import cells
from halfpipe.plan.plan import DownlinkPlan
from halfpipe.staging import event_files, stage
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from halfpipe_simulator.scenario import Scenario
from tests.support.decided import without
from tests.support.golden_cases import GOLDEN, Case, build, copied, take_chunk
from tests.support.harness import failure_code
from tests.support.series import homes
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN, LCI, OTHER = RunId("2c2e5787"), RunId("2c2e6cc0"), RunId("2c2e8430")


def entry(site: Site, downlink: str, run: str = RUN) -> Delivery:
    (found,) = [each.delivery for each in site.receipt(downlink).runs if each.run == run]
    return found


def closed(site: Site, downlink: DownlinkId) -> tuple[Interval, ...]:
    return Deliveries(site.work, RUN).closed(downlink)


def failed(site: Site, rule: str, *ids: str) -> str:
    return failure_code(site.work / paths.log(rule, *ids))


def books_of(site: Site, run: RunId = RUN) -> Books:
    """Return the books of a run, which balance. The stories check that all screens show the same."""
    now = Survey(site.settings).books(run)
    assert now.books
    assert (now.old, now.books.lost) == ("", 0)
    return now.books


def on_site(home: Path, name: str = "dup_later_dl", **merge: Any) -> tuple[Site, Case, Path]:
    """Return a site for a golden case, and a copy of the products that the test may change."""
    site = Site(home)
    case = build(copied(name, site), site)
    site.configure(merge=merge, ledger={"url": None})
    return site, case, case.directory / "in"


@pytest.fixture
def multi3(site: Site) -> Site:
    build("multi3", site)
    site.configure(ledger={"url": None})
    return site


def test_a_chunk_that_also_contains_a_run_of_other_chunks(
    multi3: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 1: chunk 1 is announced for one run, and also contains a part of another, which chunk 4 announces."""
    site = multi3
    (site.retdefs / paths.retdef(FIRST, ChunkId("00005"))).unlink()
    site.misbehave(GOLDEN / "multi3" / "in", f"--bring={FIRST}-00001=00005")
    with monkeypatch.context() as as_planned:
        announced = lambda of, run: tuple(c for c in of.chunks if run in of.runs_of[c])  # noqa: E731
        as_planned.setattr(DownlinkPlan, "chunks_for", announced)
        site.snakemake(f"dl={FIRST}").bad("chunk 00001, 10 events")
    assert failed(site, "receipt", FIRST) == "books"
    assert not site.has_receipt(FIRST)
    assert not (site.stage / FIRST / f"delivered_events_{FIRST}.txt").exists()
    site.process(FIRST)
    assert entry(site, FIRST, OTHER).books.known == 38
    books_of(site, OTHER)


@pytest.mark.parametrize("words", [None, ["-F"], ["-R", "decode_chunk"]])
def test_a_chunk_that_contains_another_run_needs_no_second_command(
    words: list[str] | None, multi3: Site
) -> None:
    """It is decoded for the first time, or again."""
    (multi3.retdefs / paths.retdef(FIRST, ChunkId("00005"))).unlink()
    if words:
        multi3.process(FIRST)
        assert entry(multi3, FIRST, OTHER).books.known == 28
    multi3.misbehave(GOLDEN / "multi3" / "in", f"--bring={FIRST}-00001=00005")
    multi3.snakemake(f"dl={FIRST}", *(words or [])).good()
    assert entry(multi3, FIRST, OTHER).books.known == 38


@pytest.mark.parametrize("number", ["00003", "00005"])
def test_a_retdef_that_arrives_after_planning(number: str, multi3: Site) -> None:
    """Row 2: in a hole of the numbers, with a run that nothing else announces; or behind the last number."""
    site = multi3
    home = site.retdefs / paths.retdef(FIRST, ChunkId(number))
    content = home.read_bytes()
    home.unlink()
    jobs = site.listed(f"dl={FIRST}")
    home.write_bytes(content)
    with pytest.raises(AssertionError):
        site.by_hand(FIRST, jobs=jobs)
    assert failed(site, "receipt", FIRST) == "books"
    assert not site.has_receipt(FIRST)
    site.process(FIRST)
    runs = {run.run: run.delivery.books.known for run in site.receipt(FIRST).runs}
    assert runs == {RUN: 60, LCI: 40, OTHER: 38}
    for run in runs:
        books_of(site, RunId(run))


def with_another_run(home: Path) -> Site:
    """Return a site that has processed a downlink with a chunk of another run, too, and one that repeats events."""
    site, _, source = on_site(home)
    take_chunk("multi3", FIRST, 3, source / FIRST, FIRST, 3)
    site.add_retdefs(source, FIRST)
    site.process(SECOND)
    site.process(FIRST)
    return site


def vanish(site: Site) -> None:
    """Leave out the chunks of the first downlink that contain the run."""
    for chunk in ("00001", "00002"):
        site.decide(f"{FIRST}/{chunk}", What.LEFT_OUT)


def accept(site: Site, events: int | None = None) -> None:
    site.decide(f"{FIRST}/{RUN}", What.SHRUNK, events)


@pytest.mark.parametrize("words", [(), ("-F",)], ids=["plain", "again"])
def test_a_run_that_vanished_from_a_downlink_delivers_nothing_of_another(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 3 and 4: events of it are repeated in another downlink. Its job may be killed once."""
    site = with_another_run(tmp_path)
    before = entry(site, FIRST)
    vanish(site)
    site.snakemake(f"dl={FIRST}", *words).bad(f"{before.events} delivered events")
    assert failed(site, "deliver_run", FIRST, RUN) == "shrunk"
    assert not site.has_receipt(FIRST)
    accept(site)
    with monkeypatch.context() as killed, leases.downlink_job(site.settings, FIRST) as lease:
        killed.setattr(stage, "place", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            merge_and_deliver(site.settings, lease, FIRST, RUN, (), threads=1, output=StringIO())
    site.process(FIRST)
    after = entry(site, FIRST)
    assert (after.brought, after.handoff) == (0, 2)
    assert str(after.accepted).startswith("a test, says N. N. (")
    assert (after.events, after.files, closed(site, FIRST)) == (0, (), before.spans)
    assert site.receipt(FIRST).number == 2
    assert not any(name.startswith(RUN.l1) for name in site.staged(FIRST))
    assert "stage-foreign" not in site.causes(FIRST)
    assert site.causes(FIRST)["shrunk"].verdict is Verdict.NOTE
    assert site.outstanding(FIRST) == frozenset()

    books = books_of(site)
    assert books.closed > 0
    cause = site.causes(SECOND)["closed"]
    assert cause.verdict is Verdict.ACTION
    explained = {
        group["do"] for group in site.told("explain", RUN)["groups"] if group["kind"] == NotDelivered.CLOSED
    }
    assert explained == {f'halfpipe accept {FIRST}/{RUN} reopened --reason "..."'}
    reopen, again = (words.split(" ") for words in cause.remedy.do)
    site.halfpipe(*reopen[1:-1], "rolled back").good()
    books_of(site)
    site.snakemake(*again[1:]).good()
    left = books_of(site)
    assert left.closed == 0
    assert left.known == books.known
    assert "closed" not in site.causes(SECOND)
    assert site.process(FIRST, again=True)
    assert site.receipt(FIRST).number == 3
    assert entry(site, FIRST).events == 0


def test_a_token_stays_if_another_downlink_delivers_a_file_of_its_name(tmp_path: Path) -> None:
    site = with_another_run(tmp_path)
    (file,) = entry(site, FIRST).files
    vanish(site)
    accept(site)
    deliveries = Deliveries(site.work, RUN)
    theirs = deliveries.latest()[SECOND]
    deliveries.publish(replace(theirs, files=(replace(theirs.files[0], name=file.name),)))
    site.process(FIRST)
    assert entry(site, FIRST).files == ()
    assert (site.stage / paths.tokens(RUN.l1) / Path(file.name).stem).exists()


def test_closed_events_that_level_1_still_has_need_a_roll_back_first(tmp_path: Path) -> None:
    site = with_another_run(tmp_path)
    site.configure(submit={"command": "true {dl}"})
    site.snakemake(f"submit={FIRST}").good()
    vanish(site)
    accept(site)
    site.process(FIRST)
    assert site.causes(SECOND)["closed"].verdict is Verdict.NOTE
    assert site.causes(FIRST)["handoff-not-submitted"].verdict is Verdict.ACTION
    site.halfpipe("submit", FIRST, "--settle", "submitted").good()
    assert site.causes(SECOND)["closed"].verdict is Verdict.ACTION, "it was rolled back"


def test_what_is_ignored_is_in_no_later_merge_and_never_needed(site: Site) -> None:
    """Row 7: waiting events of a chunk that is ignored afterwards, and whose products are then gone."""
    build("gap_one_filled", site)
    site.configure(ledger={"url": None})
    site.by_hand(FIRST)
    site.decide(f"{FIRST}/00002", What.LEFT_OUT)
    for path in (site.work / paths.chunks(FIRST)).glob("*-00002.*"):
        path.unlink()
    site.misbehave(GOLDEN / "gap_one_filled" / "in", f"--fault={FIRST}-00002=crash")
    site.process(SECOND)
    second = entry(site, SECOND)
    assert second.epus == (956,)
    assert (second.complete, second.events, second.brought) == (False, 0, 18)
    books = second.books
    assert books.in_texts + books.late == books.known - books.delivered
    books = books_of(site)
    assert books.delivered == entry(site, FIRST).events


def test_a_lone_event_in_a_closed_span_is_withheld(tmp_path: Path) -> None:
    """Row 8: an accepted loss, and one event of it comes back."""
    site, _, source = on_site(tmp_path, min_events=2)
    site.process(FIRST)
    before = {path: path.read_text() for path in (source / FIRST).glob("*.idx")}
    whole = entry(site, FIRST).events
    without(source, FIRST, lambda sequence: 1060 < sequence <= 1102)
    accept(site)
    site.process(FIRST, again=True)
    lost = whole - entry(site, FIRST).events
    assert lost > 2
    for path, content in before.items():
        path.write_text(content)
    without(source, FIRST, lambda sequence: 1060 < sequence <= 1102 and sequence != 1067)
    site.process(FIRST, again=True)
    run = entry(site, FIRST)
    assert (run.books.withheld, run.books.known) == (1, run.events + run.books.in_texts)
    books = books_of(site)
    assert (books.withheld, books.closed) == (1, 0)
    (group,) = [each for each in site.told("explain", RUN)["groups"] if each["kind"] == NotDelivered.WITHHELD]
    assert (group["first"], group["events"]) == (1067, 1)


@pytest.mark.parametrize(
    "fails", [(event_files, "write_all"), (stage, "place"), None], ids=["merge", "staging", "receipt"]
)
def test_a_downlink_that_fails_before_its_receipt(
    fails: tuple[ModuleType, str] | None, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 9: what it contains is known from its merge on, and counts on every screen."""
    build("split2", site)
    site.configure(ledger={"url": None})
    site.by_hand(FIRST)
    before = books_of(site)

    def no_space(*_: object) -> None:
        raise HalfPipeError("no space left on device")

    if fails:
        with monkeypatch.context() as full:
            full.setattr(*fails, no_space)
            with pytest.raises(AssertionError):
                site.by_hand(SECOND, "decode_chunk", "deliver_run")
    else:
        site.by_hand(SECOND, "decode_chunk", "deliver_run")
    assert not site.has_receipt(SECOND)
    after = books_of(site)
    assert after.known == 130 > before.known
    if fails and fails[0] is event_files:
        assert (after.delivered, after.due) == (before.delivered, 130 - before.delivered)
    site.process(SECOND)
    assert books_of(site).delivered == 130


def open_runs(site: Site) -> dict[str, str]:
    """Return the waiting events of each open run, as its page on the board shows them."""
    site.halfpipe("board", "-o", site.home / "board", "--config", "board.days=100000")
    page = (site.home / "board" / paths.BOARD_RUNS).read_text()
    return dict(
        re.findall(r"<tr><th><a [^>]*>([0-9a-f]{8})</a>(?:<td>[^<]*){4}<td class=.r.>([^<]*)<td", page)
    )


def test_events_of_an_abandoned_run_are_due_until_it_is_delivered(site: Site) -> None:
    build("gap_one", site, FIRST)
    waiting = books_of(site).waiting
    assert waiting
    site.halfpipe("accept", RUN, "abandoned", "--reason", "lost").good()
    books = books_of(site)
    assert (books.waiting, books.due) == (0, waiting)
    cause = site.causes(FIRST)["events-due"]
    assert cause.verdict is Verdict.NOTE
    (again,) = cause.remedy.do
    site.configure(ledger={"url": None})
    site.snakemake(*again.split()[1:]).good()
    assert books_of(site).due == 0
    assert "events-due" not in site.causes(FIRST)


@pytest.mark.parametrize("is_handed_off", [True, False])
def test_numbers_that_cannot_be_counted_are_those_of_the_last_merge(is_handed_off: bool, site: Site) -> None:
    """The run has changed since its last merge, and its events are gone."""
    build("gap_one", site, FIRST)
    waiting = books_of(site).waiting
    for path in (site.work / paths.chunks(FIRST)).glob("*.rows"):
        path.unlink()
    assert account(Survey(site.settings), FIRST).waiting == waiting, "nothing has changed since"
    assert "books" not in site.causes(FIRST)
    site.halfpipe("accept", RUN, "abandoned", "--reason", "lost").good()
    if not is_handed_off:
        (site.work / paths.receipt(FIRST)).unlink()
        shutil.rmtree(site.work / paths.receipts(FIRST))
        shutil.rmtree(site.work / "copies" / paths.receipts(FIRST))
    shown = account(Survey(site.settings), FIRST)
    assert shown.waiting == waiting
    assert site.causes(FIRST)["books"].verdict is Verdict.NOTE
    assert open_runs(site) == {RUN: f"{waiting} at the last merge"}
    (table,) = site.told("show", "--books", RUN)["shown"]
    (row,) = table["accounts"]
    assert (row["due"], row["waiting"]) == (0, waiting)
    assert row["old"]
    ended = site.halfpipe("explain", RUN)
    assert ended.status == 1
    assert "not known" not in ended.out


def test_the_board_lists_a_run_whose_only_downlink_has_no_receipt(site: Site) -> None:
    build("gap_one", site, FIRST)
    books = books_of(site)
    for what in (RUN, FIRST):
        (shown,) = site.told("show", "--books", what)["shown"]
        (row,) = shown["runs"]
        assert (row["run"], row["downlink"]) == (RUN, FIRST)
        assert {row[key] for key in ("decoded", "merged")} == {books.known}
        assert {row[key] for key in ("delivered", "in_files", "in_stage", "named")} == {books.delivered}
    assert site.halfpipe("show", "--books", "240601009").status == 1
    (site.work / paths.receipt(FIRST)).unlink()
    assert open_runs(site) == {RUN: str(books.waiting)}


def test_a_chunk_without_data_is_ignored_without_another_hand_off(site: Site) -> None:
    made = site.simulate(Scenario(seed=7, downlinks=(FIRST,)).lpa_run(events=100))
    for path in made.level0.rglob("s*a0957*"):
        path.write_bytes(bytes(path.stat().st_size))
    site.configure(merge={"min_epus": 1}, submit={"command": "true {dl}"})
    site.snakemake(f"submit={FIRST}").good()
    site.decide(f"{FIRST}/00002", What.LEFT_OUT)
    site.process(FIRST)
    receipt = site.receipt(FIRST).receipt
    assert receipt.handoff == 1, "no run was delivered again"
    assert [receipt.chunks[0].chunk, receipt.ignored[0].chunk] == ["00001", "00002"]
    assert site.outstanding(FIRST) == frozenset()
    assert site.causes(FIRST) == {}


def test_chunks_that_are_ignored_are_not_listed_as_known(site: Site) -> None:
    build("one_epu_then_other", site, FIRST, SECOND)
    before = site.told("show", "--table", "waiting", "--days", "0")["waiting"]
    chunks = {str(chunk.chunk) for chunk in site.receipt(SECOND).receipt.chunks}
    for chunk in chunks:
        site.decide(f"{SECOND}/{chunk}", What.LEFT_OUT)
    after = site.told("show", "--table", "waiting", "--days", "0")["waiting"]
    assert ([run["run"] for run in before], [run["run"] for run in after]) == ([], [RUN])


def test_a_downlink_whose_events_all_wait_says_so(site: Site) -> None:
    """Row 14: the RetDefs of one EPU are missing, and nobody can know that."""
    build("split2", site)
    for path in (site.retdefs / FIRST).iterdir():
        if int(path.stem.rpartition("-")[2]) > 1:
            path.unlink()
    site.by_hand(FIRST)
    assert entry(site, FIRST).events == 0
    cause = site.causes(FIRST)["nothing-delivered"]
    assert cause.verdict is Verdict.NOTE
    assert f"{books_of(site).waiting} events" in cause.text
    for path in (site.retdefs / SECOND).iterdir():
        path.unlink()
    assert site.causes(SECOND).keys() == {"waits-retdef"}, "a downlink without any RetDef is not good"
    for home in (site.work, site.work / "copies", site.retdefs):
        shutil.rmtree(home / FIRST)
    (site.work / paths.receipt(FIRST)).unlink()
    assert site.causes(FIRST)["damaged"].verdict is Verdict.ACTION, "the run still knows its events"


@pytest.mark.parametrize("decoded", [False, True])
def test_phases_that_have_not_begun_are_not_shown_as_none(site: Site, decoded: bool) -> None:
    """Row 14: level-0 of chunks that are not decoded yet."""
    build("split2", site)
    if decoded:
        site.by_hand(FIRST, "decode_chunk")
    shown = dict(zip(PHASES, map(str, cells(account(Survey(site.settings), FIRST))), strict=True))
    assert "-" not in {shown[phase] for phase in PHASES if phase != Phase.LEDGER}
    if decoded:
        assert (shown[Phase.LEVEL0], shown[Phase.DECODED], shown[Phase.STAGED]) == ("·", "✓", "!"), (
            "no hours are reported"
        )


def recorded(site: Site, downlink: str) -> dict[str, bytes]:
    """Return the delivery records of the run, and what a downlink contains of it."""
    home = site.work / "runs" / RUN
    brought = [home / downlink / "datagrams.idx"]
    records = [*(home / "deliveries").glob("*.json"), *(site.work / paths.receipts(downlink)).glob("*.json")]
    return {str(path.relative_to(site.work)): path.read_bytes() for path in [*brought, *records]}


@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_delivery_that_is_lost_in_both_copies_stops_the_run(tmp_path: Path, content: bytes) -> None:
    """Otherwise the other downlink of the run would deliver the same events again."""
    site, case, _ = on_site(tmp_path)
    site.process(FIRST)
    files = [home / "000001.json" for home in homes(site.work, paths.deliveries(RUN))]
    before = files[0].read_bytes()
    for path in files:
        path.write_bytes(content)
    site.snakemake(f"dl={SECOND}").bad(*map(str, files))
    assert site.staged(SECOND) == {}
    assert site.causes(FIRST)["damaged"].verdict is Verdict.ACTION
    files[1].write_bytes(before)
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files
    assert "damaged" not in site.causes(FIRST)
    assert [path.read_bytes() for path in files] == [before, before]


def test_a_smaller_delivery_is_refused(tmp_path: Path) -> None:
    """No record and no staged file changes, and when the input is back, everything is good."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    before, staged = recorded(site, FIRST), site.staged(FIRST)
    whole = shutil.copytree(source, tmp_path / "whole")
    without(source, FIRST, lambda sequence: sequence > 1060)
    again = f"snakemake dl={FIRST} -R decode_chunk"
    site.snakemake(f"dl={FIRST}", "-F").bad(
        "51 delivered events", "chunk 00001", again, f"halfpipe accept {FIRST}/{RUN} shrunk="
    )
    assert failed(site, "deliver_run", FIRST, RUN) == "shrunk"
    site.snakemake(f"dl={FIRST}").bad()  # nor does a plain command deliver less
    assert (recorded(site, FIRST), site.staged(FIRST), site.has_receipt(FIRST)) == (before, staged, False)

    # Meanwhile other downlinks of the run go on, with what the first one delivered and contains.
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files

    shutil.copytree(whole, source, dirs_exist_ok=True)
    site.snakemake(*again.split()[1:]).good()
    assert (site.staged(FIRST), site.receipt(FIRST).number) == (staged, 2)
    assert "shrunk" not in site.causes(FIRST)


def test_an_accepted_loss_stays_closed_until_it_is_reopened(tmp_path: Path) -> None:
    """Level-1 may have the lost events, so another downlink must not deliver its copies of them."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    assert entry(site, FIRST).loss == 0
    without(source, FIRST, lambda sequence: 1060 < sequence <= 1102)
    accept(site, events=1)
    site.snakemake(f"dl={FIRST}", "-F").bad("of 51 delivered events")
    accept(site)
    site.process(FIRST, again=True)
    run = entry(site, FIRST)
    last = run.spans[-1].last
    assert last <= 1060
    assert closed(site, FIRST) == ((last + 1, 1102),)
    assert str(run.accepted).startswith("a test, says N. N. (")
    assert run.loss == 51 - run.events > 0
    assert site.causes(FIRST)["shrunk"].verdict is Verdict.NOTE
    # Processed again the downlink delivers the same, and the accepted loss is kept.
    site.process(FIRST, again=True)
    again = entry(site, FIRST)
    assert again.loss == 0
    assert (again.spans, again.accepted) == (run.spans, run.accepted)
    assert closed(site, FIRST) == ((last + 1, 1102),)

    site.process(SECOND)
    before = site.staged(SECOND)
    assert before == case.steps[1].expected.files, "as if nothing had been lost"
    reopen, _ = site.causes(SECOND)["closed"].remedy.do
    site.halfpipe(*shlex.split(reopen)[1:]).good()
    assert "closed" not in site.causes(SECOND)
    site.process(SECOND, again=True)
    assert last < entry(site, SECOND).spans[0].first <= 1102, "now they go with the second downlink"
    assert site.staged(SECOND) != before


def test_a_run_without_datagrams_is_refused(tmp_path: Path) -> None:
    """An abandoned run of which only events are known cannot be in a text for Level-1."""
    site, _, source = on_site(tmp_path)
    for path in (source / FIRST).glob("*.idx"):
        kept = [line for line in path.read_text().splitlines(keepends=True) if line.startswith("EVT:")]
        path.write_text("".join(kept))
    site.abandon(RUN.l1)
    site.process(FIRST)
    run = entry(site, FIRST)
    assert (bool(run.refused), run.state_word, site.staged(FIRST)) == (True, "REFUSED", {})
    assert run.books.known == run.books.refused == 70
    assert site.causes(FIRST)["level1-refuses"].verdict is Verdict.ACTION
