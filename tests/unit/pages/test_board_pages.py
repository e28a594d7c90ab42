"""The pages tell what the account tells, escape it, ask nobody for anything, and are written when they change."""

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.pages import board_pages
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
    page = tmp_path / "board" / paths.board()
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
        assert not re.search(r"https?://|src=|@import|url\(", re.sub(r"img-src", "", path.read_text()))


def test_a_page_of_simulated_data_says_so(site: Site, tmp_path: Path) -> None:
    receipt = site.work / paths.receipt(FIRST)
    receipt.write_text(sealed_text({**site.receipt(FIRST), "simulated": True}))
    make(site, tmp_path / "board")
    pages = (paths.board(), paths.board_page(FIRST), paths.board_page(SECOND))
    assert ["SIMULATED" in Seen(tmp_path / "board" / page).text for page in pages] == [False, True, False]


def test_open_runs_have_a_page_with_what_is_missing_and_who_is_on_them(site: Site, tmp_path: Path) -> None:
    run, next_century = "2c2e5787", 4_102_444_800.0
    say(site.work, Acknowledged(run, "N. N.", next_century, "asks for the data"))
    make(site, tmp_path / "board")
    text = Seen(tmp_path / "board" / paths.board_runs()).text
    assert "1 open run" in text
    rows = re.findall(r"<td>([0-9,]+)<td>2<td>", (tmp_path / "board" / paths.board_runs()).read_text())
    assert rows == ["11"], "what waits now, once, with both downlinks"
    assert all(words in text for words in (run, "r0741234567", "end", f"halfpipe explain {run}"))
    assert "N. N. is on it until 2100-01-01 00:00:00 UTC: asks for the data" in text
    links = [a["href"] for a in Seen(tmp_path / "board" / paths.board()).named("a")]
    assert paths.board_runs() in links


def test_lights_go_out_with_the_causes_of_the_site_and_say_who_is_on_it(site: Site, tmp_path: Path) -> None:
    def lights() -> list[tuple[str, str]]:
        make(site, tmp_path / "board")
        page = (tmp_path / "board" / paths.board()).read_text()
        return re.findall(r"<li class=\"(\w)\"><i>.</i> (\w+) ", page)

    assert lights() == [("g", "disk"), ("g", "mounts"), ("g", "ledger"), ("g", "timer")]
    turn = site.work / paths.last_turn()
    turn.parent.mkdir(parents=True, exist_ok=True)
    turn.write_text('{"ended": 1000, "status": 0}')
    shutil.rmtree(site.stage)
    say(site.work, Acknowledged("timer-dead", "N. N.", 4_102_444_800.0, "new host"))
    assert lights() == [("g", "disk"), ("a", "mounts"), ("g", "ledger"), ("a", "timer")]
    text = Seen(tmp_path / "board" / paths.board()).text
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


def test_pictures_are_drawn_some_each_time_and_none_tells_of_what_was(site: Site, tmp_path: Path) -> None:
    home, looked = tmp_path / "board", Looked(site.settings)
    found = overview(looked, recent(looked, DAYS))

    def drawn(new: int) -> list[str]:
        board_pages.make(looked, found, home, new)
        return sorted(path.stem for path in home.glob(paths.board_picture("*")))

    assert drawn(0) == []
    assert drawn(1) == [SECOND], "the board has it first"
    before = (home / paths.board_picture(SECOND)).stat().st_mtime_ns
    assert drawn(1) == [FIRST, SECOND], "one that failed has none"
    for downlink, number in ((FIRST, 1), (FAILED, 0)):
        images = list(Seen(home / paths.board_page(downlink)).named("img"))
        assert [a["src"] for a in images] == [f"pictures/{FIRST}.svg"] * number
        assert all(a["alt"] for a in images)
    assert (home / paths.board_picture(SECOND)).stat().st_mtime_ns == before, "it is not drawn again"
    os.utime(home / paths.board_picture(FIRST), (0, 0))
    (home / paths.board_picture("230401009")).write_text("of a downlink that is on the board no more")
    assert drawn(0) == [SECOND], "what is older than the hand-off is removed"
    assert drawn(3) == [FIRST, SECOND]


def test_a_receipt_that_cannot_be_read_hides_no_downlink(site: Site, tmp_path: Path) -> None:
    (site.work / paths.receipt(FIRST)).write_text("{")
    make(site, tmp_path / "board")
    assert "2 downlinks need action" in Seen(tmp_path / "board" / paths.board()).text
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
    assert len(list((tmp_path / "board").glob(paths.board_picture("*")))) == 2, "board.pictures is 3"
