"""The board: its pages tell what the account tells and ask nobody, and its matrix."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.ids import DownlinkId
from halfpipe.pages import board_pages
from halfpipe.pages.board_pages import OF_CODE, Cell, alike, cells, phase_of, rows
from halfpipe.status.account import PHASES, Account
from halfpipe.status.account import Site as Looked
from halfpipe.status.acknowledged import Acknowledged, say
from halfpipe.status.overview import overview, recent
from tests.support.board_site import DAYS, FAILED, FIRST, HOSTILE, SECOND, lay_out
from tests.support.series import sealed_text
from tests.support.verbs import halfpipe
from tests.support.workflow import Site


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site of all tests here, which change copies of it."""
    return lay_out(tmp_path_factory.mktemp("board"))


@pytest.fixture
def site(processed: Site, tmp_path: Path) -> Site:
    """The same, of the test's own."""
    return processed.clone(tmp_path / "site")


def make(site: Site, home: Path) -> int:
    looked = Looked(site.settings)
    return board_pages.make(looked, overview(looked, recent(looked, DAYS)), home)


class Seen(HTMLParser):
    """What a browser sees: elements with their attributes, and text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data

    def named(self, *tags: str) -> Iterator[dict[str, str | None]]:
        """Yield the attributes of elements."""
        return (attributes for tag, attributes in self.elements if tag in tags)


def test_what_needs_action_is_first_with_its_cause_and_command(site: Site, tmp_path: Path) -> None:
    assert make(site, tmp_path / "board") == 5
    page = tmp_path / "board" / paths.BOARD
    text = Seen(page).text
    assert "1 downlink needs action" in text
    table = page.read_text().split("<tbody>")[1].split("</tbody>")[0]
    head = re.findall(r"<tr(?: class=(\w))?><th>(.*?)<td>", table)
    assert [(verdict, re.findall(r"href=(\d+)\.html", links)) for verdict, links in head] == [
        ("a", [FAILED]),
        ("n", [SECOND, FIRST]),
    ], "equal notes are one row"
    assert "2 downlinks" in text
    cells = re.findall(r"<td(?: class=(\w))?>([✓✗!·–/ 0-9]+)(?=<|$)", table)
    assert cells[:7] == [("", "✓"), ("", "–"), ("a", "✗"), *[("", "·")] * 4]
    assert cells[7:] == [("", "✓"), ("", "–"), ("", "✓"), ("", "✓"), ("", "·"), ("n", "!"), ("", "·")]
    assert f"decode_chunk 00001: the decoder said {HOSTILE}" in text, "as text, and so escaped"
    assert f"<code>snakemake dl={FAILED}</code>" in page.read_text()
    own = Seen(tmp_path / "board" / paths.board_page(FAILED)).text
    assert "| its last line" in own


def test_a_page_runs_its_own_script_alone_and_asks_nobody(site: Site, tmp_path: Path) -> None:
    make(site, tmp_path / "board")
    made = sorted((tmp_path / "board").glob("*.html"))
    assert len(made) == 5
    for path in made:
        seen = Seen(path)
        assert len(list(seen.named("script"))) == len(list(seen.named("style"))) == 1
        policy = next(
            a["content"] for a in seen.named("meta") if a.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        links = [a["href"] for a in seen.named("a") if a.get("href")]
        assert all(link and (link.startswith("#") or (path.parent / link).exists()) for link in links)
        assert not re.search(r"https?://|src=|@import|url\(", path.read_text())


def test_a_page_of_simulated_data_says_so(site: Site, tmp_path: Path) -> None:
    receipt = site.work / paths.receipt(FIRST)
    receipt.write_text(sealed_text({**site.receipt(FIRST), "simulated": True}))
    make(site, tmp_path / "board")
    pages = (paths.BOARD, paths.board_page(FIRST), paths.board_page(SECOND))
    assert ["SIMULATED" in Seen(tmp_path / "board" / page).text for page in pages] == [False, True, False]


def test_open_runs_have_a_page_with_what_is_missing_and_who_is_on_them(site: Site, tmp_path: Path) -> None:
    run, next_century = "2c2e5787", 4_102_444_800.0
    say(site.work, Acknowledged(run, "N. N.", next_century, "asks for the data"))
    make(site, tmp_path / "board")
    text = Seen(tmp_path / "board" / paths.BOARD_RUNS).text
    assert "1 open run" in text
    rows = re.findall(r"<td>([0-9,]+)<td>2<td>", (tmp_path / "board" / paths.BOARD_RUNS).read_text())
    assert rows == ["11"], "what waits now, once, with both downlinks"
    assert all(words in text for words in (run, "r0741234567", "end", f"halfpipe explain {run}"))
    assert "N. N. is on it until 2100-01-01 00:00:00 UTC: asks for the data" in text
    links = [a["href"] for a in Seen(tmp_path / "board" / paths.BOARD).named("a")]
    assert paths.BOARD_RUNS in links


def test_lights_go_out_with_the_causes_of_the_site_and_say_who_is_on_it(site: Site, tmp_path: Path) -> None:
    def lights() -> list[tuple[str, str]]:
        make(site, tmp_path / "board")
        page = (tmp_path / "board" / paths.BOARD).read_text()
        return re.findall(r"<li class=\"(\w)\"><i>.</i> (\w+) ", page)

    assert lights() == [("g", "disk"), ("g", "mounts"), ("g", "ledger"), ("g", "timer")]
    turn = site.work / paths.LAST_TURN
    turn.parent.mkdir(parents=True, exist_ok=True)
    turn.write_text('{"ended": 1000, "status": 0}')
    say(site.work, Acknowledged("timer-dead", "N. N.", 4_102_444_800.0, "new host"))
    assert lights() == [("g", "disk"), ("g", "mounts"), ("g", "ledger"), ("a", "timer")]
    text = Seen(tmp_path / "board" / paths.BOARD).text
    assert "timer-dead" in text
    assert "N. N. is on it until 2100-01-01 00:00:00 UTC: new host" in text


def test_a_page_of_a_downlink_is_written_when_it_changes(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "board"
    make(site, home)
    assert make(site, home) == 1, "only that of the site tells when it was made"
    (site.work / paths.log("decode_chunk", FAILED, "00001")).write_text("error: another\n")
    assert make(site, home) == 2
    stray = home / paths.board_page("230401009")
    stray.write_text("of a downlink that is on the board no more")
    (home / "notes.html").write_text("somebody's own")
    make(site, home)
    assert not stray.exists()
    assert (home / "notes.html").exists()


def test_a_receipt_that_cannot_be_read_hides_no_downlink(site: Site, tmp_path: Path) -> None:
    (site.work / paths.receipt(FIRST)).write_text("{")
    make(site, tmp_path / "board")
    assert "2 downlinks need action" in Seen(tmp_path / "board" / paths.BOARD).text
    assert "not JSON" in Seen(tmp_path / "board" / paths.board_page(FIRST)).text


def test_the_verb_says_where_the_pages_are(site: Site, tmp_path: Path) -> None:
    ended = halfpipe("board", configfile=site.configfile)
    assert ended.exit_code == 2
    assert "board.dir" in ended.stderr
    ended = halfpipe(
        "board", "-o", tmp_path / "board", "--config", f"board.days={DAYS}", configfile=site.configfile
    )
    assert ended.exit_code == 1, "a downlink needs action"
    assert ended.stdout == f"{tmp_path / 'board' / 'index.html'}: 3 downlinks, 5 pages written\n"


DECODED = ((9, 9), (40, 40), (7, 9), (0, 1), (0, 0), (0, 1), (0, 1))
TAKEN = ((9, 9), (0, 0), (9, 9), (1, 1), (1, 1), (1, 1), (1, 1))


def one(
    number: int, *causes: Cause, phases: tuple[tuple[int, int], ...] = TAKEN, state: str = "taken by Level-1"
) -> Account:
    return Account(
        DownlinkId(f"23040100{number}"), state, causes, phases=dict(zip(PHASES, phases, strict=True))
    )


def cause(code: str, verdict: Verdict = Verdict.NOTE, failed: str = "", on_it: str = "") -> Cause:
    return Cause(code, verdict, f"{code} is so", failed=failed, on_it=on_it)


def test_a_cell_says_how_far_it_is_and_the_worst_of_its_causes() -> None:
    bad = (
        cause("memory", Verdict.ACTION, "decode_chunk 00001, 00002"),
        cause("level0-missing"),
        cause("events-missing"),
    )
    assert list(map(str, cells(one(1, *bad, phases=DECODED)))) == ["✓", "!", "✗ 7/9", "·", "–", "·", "·"]
    assert list(map(str, cells(one(1)))) == ["✓", "–", "✓", "✓", "✓", "✓", "✓"]
    assert list(map(str, cells(Account(DownlinkId("230401001"), "taken over")))) == ["–"] * len(PHASES)


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        (cause("memory", failed="deliver_run 29d7d35d; receipt"), "staged"),
        (cause("waits-retdef"), "RetDefs"),
        (cause("ledger-lacks"), "ledger"),
        (cause("outstanding"), "decoded"),
        (cause("whatever-comes"), "decoded"),
    ],
)
def test_a_cause_is_of_its_phase_or_of_the_first_that_is_not_done(given: Cause, phase: str) -> None:
    assert phase_of(given, one(1, given, phases=DECODED)) == phase
    assert set(OF_CODE) == set(PHASES)


def test_equal_notes_are_one_row_with_a_count() -> None:
    note, other = cause("not-submitted"), cause("late-events")
    waits = (*TAKEN[:5], (0, 1), (0, 1))
    accounts = [
        one(9, cause("stage-gone", Verdict.ACTION)),
        one(8),
        one(7, note, phases=waits, state="handed off 1"),
        one(6, note, other),
        one(5, note, phases=waits, state="handed off 1"),
        one(4, cause("stage-gone", Verdict.ACTION)),
        one(3, cause("not-submitted", on_it="N. N. is on it")),
        one(2, note, state="submitted 1"),
        one(1),
    ]
    found = list(rows(accounts))
    assert ["".join(each.downlink[-1] for each in row.accounts) for row in found] == [*"98", "752", *"6431"]
    several = found[2]
    assert several.cells[PHASES.index("submitted")] == Cell(Verdict.NOTE, 1, 3)
    assert list(map(str, several.cells)) == ["✓", "–", "✓", "✓", "✓", "! 1/3", "1/3"]
    assert (several.state, several.accounts[0].downlink, found[1].state) == ("", "230401007", "taken")
    assert next(rows(accounts[2:3])).state == "handed off 1"


def test_notes_of_one_code_are_together_and_what_needs_action_is_not() -> None:
    lost, held = cause("level0-missing", Verdict.ACTION), cause("run-held")
    again = Cause("run-held", Verdict.NOTE, "another run")
    other = Cause("level0-missing", Verdict.ACTION, "another chunk")
    assert alike([lost, other, held, again]) == [[lost], [other], [held, again]]
