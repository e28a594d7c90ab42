"""The board: its pages show the accounts and load nothing; the matrix of downlinks and phases."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from html import unescape
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import CODES, PHASES, Cause, Verdict
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.notify.submissions import submissions
from halfpipe.pages import board_pages
from halfpipe.pages.board_pages import cells, phase_of, ticks, timeline
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.state.hand_offs import series
from halfpipe.status.account import Account
from halfpipe.status.overview import recent
from halfpipe.status.survey import Survey
from tests.support import gallery
from tests.support.board_site import DAYS, FAILED, FIRST, HANDED_OFF, HOSTILE, RUN, SECOND, lay_out
from tests.support.verbs import check_document
from tests.support.workflow import Site


@pytest.fixture
def site(worked: Callable[..., Site]) -> Site:
    return lay_out(worked(*HANDED_OFF))


def make(site: Site, home: Path) -> None:
    survey = Survey(site.settings)
    board_pages.make(survey, recent(survey, DAYS), home)


def text(page: Path) -> str:
    return unescape(
        re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", "", page.read_text(), flags=re.DOTALL)
    )


@pytest.fixture
def home(site: Site, tmp_path: Path) -> Path:
    make(site, tmp_path / "board")
    return tmp_path / "board"


def test_downlinks_that_need_action_come_first_with_their_cause_escaped(home: Path) -> None:
    assert len(list(home.iterdir())) == 10
    page, words = (home / paths.BOARD).read_text(), text(home / paths.BOARD)
    assert "1 of 3 downlinks needs action" in words
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    head = re.findall(r"<tr(?: class=(\w))?><th>(.*?)<td>", table)
    order = [(verdict, re.findall(r"href=(\d+)\.html", links)) for verdict, links in head]
    assert order == [("a", [FAILED]), ("n", [SECOND]), ("n", [FIRST])]
    marks = re.findall(r"<td(?: class=(\w))?>([-✓✗!·/ 0-9]+)(?=<|$)", table)
    assert marks[:7] == [("", "✓"), ("", "·"), ("a", "✗"), *[("", "·")] * 4], "hours are not known yet"
    handed_off = [("", "✓"), ("", "·"), ("", "✓"), ("", "✓"), ("", "·"), ("n", "!"), ("", "·")]
    assert marks[7:] == handed_off * 2
    assert (HOSTILE in words, HOSTILE in page) == (True, False)
    assert f"<code>snakemake dl={FAILED}</code>" in page
    assert f"log: logs/{FAILED}/decode_chunk-00001.log" in words
    assert "| its last line" in text(home / paths.board_page(FAILED))


def test_pages_run_only_their_own_script_and_load_nothing(home: Path) -> None:
    for path in home.glob("*.html"):
        content = path.read_text()
        assert (content.count("<script>"), content.count("<style>"), content.count("<script")) == (1, 1, 1)
        assert "default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-" in unescape(
            content
        )
        links = re.findall(r"<a [^>]*href=\"?([^\" >]+)", content)
        assert all((home / link.partition("#")[0]).exists() for link in links)
        assert {link.partition("#")[2] for link in links if link.startswith("codes.html#")} <= set(CODES)
        assert not re.search(r"https?://|src=|@import|url\((?!#)|unsafe", content)


def test_simulated_data_and_damage_are_shown(site: Site, home: Path) -> None:
    recorded = series(site.work, FIRST)
    recorded.publish({**recorded.records[-1].values, "simulated": True})
    make(site, home)
    pages = (paths.BOARD, paths.board_page(FIRST), paths.board_page(SECOND), paths.board_run(RUN))
    assert ["SIMULATED" in text(home / page) for page in pages] == [False, True, False, True]
    (site.work / paths.receipt(FIRST)).write_text("{")
    (site.work / paths.submissions(FIRST)).mkdir()
    (site.work / paths.submissions(FIRST) / "000001.json").write_text("{")
    make(site, home)
    assert "2 of 3 downlinks need action" in text(home / paths.BOARD)
    assert "does not point to the record of the last hand-off" in text(home / paths.board_page(FIRST))


def test_the_page_of_a_downlink_has_its_submissions_with_their_times(site: Site, home: Path) -> None:
    submissions(site.work, FIRST).intend(
        (), outcome=Outcome.SUBMITTED, by=By.PERSON, action=Action.SUBMIT, handoff=1
    )
    (told,) = submissions(site.work, FIRST).every
    make(site, home)
    when = f"{datetime.fromtimestamp(told.since, UTC):%Y-%m-%d %H:%M} UTC"
    assert f"{when}1submitsubmitted" in text(home / paths.board_page(FIRST))


def test_open_runs_have_a_page_with_their_missing_data(home: Path) -> None:
    page = home / paths.BOARD_RUNS
    assert re.findall(r">([0-9,]+)<td class=\"r\">2<td>", page.read_text()) == ["11"], (
        "events wait, counted once"
    )
    for words in ("1 open run", "r0741234567", "stops after datagram", "halfpipe explain 2c2e5787"):
        assert words in text(page)


def test_a_run_has_a_page_with_its_picture_and_numbers_linked_to_its_downlinks(
    site: Site, home: Path
) -> None:
    page = home / paths.board_run(RUN)
    words, content = text(page), page.read_text()
    assert "67 of 78 events staged, 11 wait" in words
    assert content.count('<svg class="picture"') == 1
    assert all(f'<a href="{paths.board_page(downlink)}">' in content for downlink in (FIRST, SECOND))
    board_pages.make(Survey(site.settings), [SECOND, FAILED], home)
    assert FIRST in text(page), "a part of the run, though not on the board"
    assert not (home / paths.board_page(FIRST)).exists()
    make(site, home)
    for other in (paths.board_page(FIRST), paths.BOARD_RUNS):
        assert f'<a href="{page.name}">{RUN}</a>' in (home / other).read_text()


def test_a_damaged_run_says_why_it_is_not_drawn(site: Site, home: Path) -> None:
    (site.work / paths.datagrams(RUN, FIRST)).write_text("damaged")
    make(site, home)
    assert "It cannot be drawn: " in text(home / paths.board_run(RUN))


def test_only_the_latest_open_runs_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_runs = gallery.scenario().lpa_run(events=300, no_stop=True).lpa_run(events=300, no_stop=True)
    site = gallery.site_of(tmp_path, open_runs.lci_run(events=100), gallery.FIRST)
    for most, drawn in {40: [True, True, False], 1: [False, True, False]}.items():
        monkeypatch.setattr(board_pages, "MOST_PICTURES", most)
        make(site, tmp_path / "board")
        pages = sorted((tmp_path / "board").glob(paths.board_run("*")))
        assert ['<svg class="picture"' in page.read_text() for page in pages] == drawn
        assert [f"snakemake pictures={gallery.FIRST}" not in text(page) for page in pages] == drawn


def test_lights_go_out_with_the_causes_of_the_site(site: Site, home: Path) -> None:
    def lights() -> list[tuple[str, str]]:
        make(site, home)
        return re.findall(r"<li class=\"(\w)\"><i>.</i> (\w+) ", (home / paths.BOARD).read_text())

    assert lights() == [("g", "disk"), ("g", "mounts"), ("g", "ledger")]
    assert "- timer none" in text(home / paths.BOARD), "a site without a timer has no light for it"
    turn = site.work / paths.LAST_TURN
    turn.parent.mkdir(parents=True, exist_ok=True)
    turn.write_text('{"ended": 1000, "status": 0, "host": "here"}')
    assert lights() == [("g", "disk"), ("g", "mounts"), ("g", "ledger"), ("a", "timer")]


def test_pages_of_other_downlinks_and_runs_are_removed_and_other_files_stay(site: Site, home: Path) -> None:
    names = (paths.board_page("230401009"), paths.board_run("29d7d35d"), "notes.html", "run-notes.html")
    for name in names:
        (home / name).write_text("")
    make(site, home)
    assert [(home / name).exists() for name in names] == [False, False, True, True]


def test_the_verb_writes_the_board(site: Site, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "board", "--config", f"board.days={DAYS}")
    ended = site.halfpipe("board", *words)
    assert ended.status == 1, "a downlink needs action"
    assert ended.out == f"{tmp_path / 'board' / 'index.html'}: 3 downlinks\n"


DECODED = ((9, 9), (40, 40), (7, 9), (0, 1), (0, 0), (0, 1), (0, 1))
TAKEN = ((9, 9), (0, 0), (9, 9), (1, 1), (1, 1), (1, 1), (1, 1))


def one(
    number: int, *causes: Cause, phases: tuple[tuple[int, int], ...] = TAKEN, state: str = "taken by Level-1"
) -> Account:
    done = dict(zip(PHASES, phases, strict=True))
    return Account(DownlinkId(f"23040100{number}"), state, causes, phases=done)


def cause(code: str, verdict: Verdict = Verdict.NOTE, failed: str = "") -> Cause:
    return Cause(code, verdict, f"{code} is so", failed=failed)


def test_a_cell_has_the_progress_and_the_worst_cause_of_its_phase() -> None:
    failed = cause("memory", Verdict.ACTION, "decode_chunk 00001, 00002")
    bad = (failed, cause("level0-missing"), cause("events-missing"))
    assert list(map(str, cells(one(1, *bad, phases=DECODED)))) == ["✓", "!", "✗ 7/9", "·", "-", "·", "·"]
    assert list(map(str, cells(one(1)))) == ["✓", "-", "✓", "✓", "✓", "✓", "✓"]
    assert list(map(str, cells(Account(DownlinkId("230401001"), "taken over")))) == ["-"] * len(PHASES)


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        (cause("memory", failed="deliver_run 29d7d35d; receipt"), "staged"),
        (cause("waits-retdef"), "RetDefs"), (cause("ledger-lacks"), "ledger"), (cause("held"), "decoded"),
        (cause("not-mounted"), "decoded"), (cause("of-an-earlier-version"), "decoded"),
    ],
)  # fmt: skip
def test_a_cause_belongs_to_its_phase_or_to_the_first_that_is_not_done(given: Cause, phase: str) -> None:
    assert phase_of(given, one(1, given, phases=DECODED)) == phase
    assert phase_of(cause("held"), one(1)) == "taken", "all is done"


HOUR = 3600.0


def accounts(*names: str) -> list[Account]:
    return [Account(DownlinkId(name), "handed off 1") for name in names]


def test_days_have_their_downlinks_in_order_and_days_without_any_are_there() -> None:
    line = timeline(accounts("230403001", "230401002", "230401001", "230499001"), {})
    assert [day.date for day in line.days] == [date(2023, 4, number) for number in (1, 2, 3)]
    names = [[one.downlink for one in day.downlinks] for day in line.days]
    assert names == [["230401001", "230401002"], [], ["230403001"]], "99 is no day"
    assert line.downlinks == 2
    assert [(trend.name, trend.points, trend.ticks[-1]) for trend in line.trends] == [
        ("latency, hours", [], 10),
        ("waiting events", [], 1),
        ("open runs", [], 1),
    ]


def test_a_trend_has_a_point_for_each_value_that_is_known() -> None:
    handed_off: dict[str, dict[str, float | None]] = {
        "230401001": {"latency": 12 * HOUR, "waiting": 0, "open": 2},
        "230401002": {"latency": 2 * HOUR, "waiting": 40_000, "open": 0},
        "230402001": {"latency": None, "waiting": 100, "open": 1},
    }
    line = timeline(accounts(*handed_off, "230402002"), handed_off)
    values = [[(point.day, point.value) for point in trend.points] for trend in line.trends]
    assert values == [
        [(0.25, 12.0), (0.75, 2.0)],
        [(0.25, 0), (0.75, 40_000), (1.25, 100)],
        [(0.25, 2), (0.75, 0), (1.25, 1)],
    ]
    latency, waiting, _ = line.trends
    assert (latency.ticks, waiting.ticks) == ([0, 5, 10, 15], [0, 100, 10_000, 1_000_000])
    assert [latency.height(7.5), waiting.height(0), waiting.height(1_000_000)] == [0.5, 0.0, 1.0]


@pytest.mark.parametrize("most", [1, 3, 4.1, 9, 27, 1339.5])
def test_ticks_reach_the_largest_value_in_few_steps(most: float) -> None:
    found = ticks(most)
    assert found[-2] < most <= found[-1]
    assert len(found) <= 5


@pytest.mark.parametrize(("names", "days"), [(("230401001", "220401001"), 92), (("230401001",), 1), ((), 0)])
def test_old_days_are_left_out_and_a_board_may_be_empty(names: tuple[str, ...], days: int) -> None:
    assert len(timeline(accounts(*names), {}).days) == days
    assert len(timeline(accounts("230401001", "230101001"), {}).days) == 91


def samples(home: Path) -> dict[str, float]:
    lines = (home / paths.BOARD_METRICS).read_text().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
    }


def test_programs_read_the_same_numbers(site: Site, home: Path) -> None:
    write_json(site.work / paths.LAST_TURN, {"ended": 1_700_000_000, "status": 0, "host": "here"})
    make(site, home)
    found, states = samples(home), json.loads((home / paths.BOARD_STATUS).read_text())
    given = site.told("status", "--all")
    check_document(["status"], json.dumps(states))
    assert {**states, "at": 0} == {**given, "at": 0}
    assert found["halfpipe_waiting_events"] == sum(one["waiting"] for one in states["downlinks"]) == 11
    assert [found[f'halfpipe_downlinks{{verdict="{each}"}}'] for each in Verdict] == [0, 2, 1]
    assert found['halfpipe_causes{of="downlink",code="decoder",verdict="action"}'] == 1
    assert found["halfpipe_open_runs"] == 1
    assert found["halfpipe_turn_ended_timestamp_seconds"] == 1_700_000_000
    assert found['halfpipe_free_bytes{of="work"}'] > 0
    latencies = [found[f'halfpipe_latency_seconds{{percentile="{each}"}}'] for each in (50, 90, 100)]
    assert latencies == sorted(latencies)


def test_a_page_leads_to_the_stream_and_names_whom_to_call(site: Site, home: Path) -> None:
    site.configure(board={"stream": "https://pipeline/{dl}?a&b", "contacts": {"decoded": "R. Doe <5-1234>"}})
    make(site, home)
    page = home / paths.board_page(FAILED)
    assert f'<a href="https://pipeline/{FAILED}?a&amp;b">Pipeline-II</a>' in page.read_text()
    for each in (paths.board_page(FAILED), paths.BOARD):
        assert "Call R. Doe <5-1234>" in text(home / each)
    assert "decoded: call R. Doe <5-1234>" in text(home / paths.BOARD_CODES)
    codes = re.findall(r'<tr id="([-\w]+)">', (home / paths.BOARD_CODES).read_text())
    assert codes == list(CODES)
