"""The board in a real browser, opened from files: sorting, search, and the checks of axe-core; it loads nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from halfpipe import paths
from halfpipe.causes import CODES, Cause, Verdict
from halfpipe.errors import Remedy
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.pages import board_pages
from halfpipe.status.account import Account
from halfpipe.status.overview import Overview, recent
from halfpipe.status.survey import Survey
from tests.support import servers
from tests.support.board_site import DAYS, FAILED, FIRST, HANDED_OFF, HOSTILE, RUN, SECOND, lay_out
from tests.support.browser import DESK, TELEPHONE, Browser, browser
from tests.support.workflow import Site

pytestmark = pytest.mark.browser
URGENT = [FAILED, SECOND, FIRST]  # downlinks that need action, then the newest
# Elements of a page that are wider than their place, so that they are cut or scroll.
CUT = """return [...document.querySelectorAll("body *")].filter((each) =>
  each.clientWidth && each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX !== "visible")
  .map((each) => each.outerHTML.slice(0, 100))"""

HOUR = 3600.0
TOP = "return Math.round(document.getElementById('board').getBoundingClientRect().top)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, worked_once: Callable[..., Site]) -> Path:
    root = tmp_path_factory.mktemp("board")
    settings = lay_out(worked_once(*HANDED_OFF).clone(root / "site")).settings
    survey = Survey(settings)
    board_pages.make(survey, recent(survey, DAYS), root / "board")
    return root / "board"


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    """One browser for all."""
    with browser() as one:
        yield one


@pytest.fixture
def board(opened: Browser, home: Path) -> Iterator[Browser]:
    """The page of the site; at the end there were no browser errors, and only files were loaded."""
    opened.look(DESK)
    opened.driver.get((home / paths.BOARD).as_uri())
    yield opened
    assert opened.complaints() == []
    asked = opened.asked()
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def shown(board: Browser) -> list[str]:
    rows = board.driver.find_elements(By.CSS_SELECTOR, "#board tbody tr")
    return [row.find_element(By.CSS_SELECTOR, "th > a").text for row in rows if row.is_displayed()]


def column(board: Browser, number: int) -> list[str]:
    cells = board.driver.find_elements(By.CSS_SELECTOR, f"#board tbody tr > :nth-child({number})")
    return [cell.text for cell in cells]


def test_headings_sort_the_table_with_the_keyboard(board: Browser) -> None:
    assert shown(board) == URGENT
    heading = board.driver.find_elements(By.CSS_SELECTOR, "#board thead button")[1]
    assert heading.text.startswith("state")
    heading.send_keys(Keys.ENTER)
    assert column(board, 2) == ["handed off 1", "handed off 1", "failed"]
    heading.send_keys(Keys.ENTER)
    assert column(board, 2) == ["failed", "handed off 1", "handed off 1"]
    assert board.driver.find_elements(By.CSS_SELECTOR, "#board th[aria-sort=ascending]")
    heading.send_keys(Keys.ENTER)
    assert shown(board) == URGENT


def test_search_and_filter(board: Browser) -> None:
    board.driver.find_element(By.TAG_NAME, "body").send_keys("/")
    find = board.driver.switch_to.active_element
    assert find.get_attribute("id") == "find"
    find.send_keys("Decoder failed")
    assert shown(board) == [FAILED]
    assert board.driver.find_element(By.ID, "count").text == "1 of 3 downlinks"
    find.clear()
    find.send_keys(Keys.SPACE, Keys.BACKSPACE)
    which = Select(board.driver.find_element(By.ID, "which"))
    which.select_by_value("n")
    assert shown(board) == URGENT[1:]
    which.select_by_value("g")
    assert shown(board) == []
    which.select_by_value("")
    assert shown(board) == URGENT
    find.send_keys(FIRST)
    assert shown(board) == [FIRST]


def test_links_lead_to_pages_and_back_and_log_lines_are_text(board: Browser) -> None:
    board.driver.find_element(By.LINK_TEXT, FIRST).click()
    assert board.driver.find_element(By.TAG_NAME, "h1").text.startswith(f"Downlink {FIRST}")
    board.driver.find_element(By.LINK_TEXT, RUN).click()
    assert board.driver.find_element(By.TAG_NAME, "h1").text == f"Run {RUN} open"
    assert board.driver.find_element(By.CSS_SELECTOR, "svg.picture .arrived").is_displayed()
    board.driver.find_element(By.LINK_TEXT, FIRST).click()
    board.driver.find_element(By.LINK_TEXT, "All downlinks").click()
    assert shown(board) == URGENT
    board.driver.find_element(By.LINK_TEXT, FAILED).click()
    assert HOSTILE in board.driver.find_element(By.TAG_NAME, "pre").text
    assert board.driver.title.startswith(FAILED)


def titles(board: Browser, of: str) -> list[str]:
    found = board.driver.find_elements(By.CSS_SELECTOR, f"#days {of} title")
    return [str(each.get_attribute("textContent")) for each in found]


def test_a_cell_of_the_time_axis_names_its_downlink_and_leads_to_it(board: Browser) -> None:
    assert titles(board, "a") == [
        f"{FIRST}: handed off 1",
        f"{SECOND}: handed off 1",
        f"{FAILED}: failed at decode_chunk 00001",
    ]
    board.driver.find_elements(By.CSS_SELECTOR, "#days a")[-1].click()
    assert board.driver.title.startswith(FAILED)


def test_a_point_of_a_trend_names_its_downlink_and_value(board: Browser) -> None:
    board.driver.find_element(By.LINK_TEXT, "trends").click()
    latencies, waiting, open_runs = (titles(board, f"g:nth-of-type({number}) circle") for number in (2, 3, 4))
    assert [each.partition(":")[0] for each in latencies] == [FIRST, SECOND]
    assert (waiting, open_runs) == ([f"{FIRST}: 12", f"{SECOND}: 11"], [f"{FIRST}: 1", f"{SECOND}: 1"])
    points = board.driver.find_elements(By.CSS_SELECTOR, "#days circle")
    heights = [point.rect["y"] for point in points[2:4]]
    assert heights[0] < heights[1], "more events are higher"


def test_each_code_has_a_link_to_its_meaning(board: Browser, home: Path) -> None:
    board.driver.find_element(By.LINK_TEXT, "decoder").click()
    row = board.driver.find_element(By.CSS_SELECTOR, "tr:target")
    assert CODES["decoder"].meaning in row.text
    for code in CODES:
        board.driver.get(f"{(home / paths.BOARD_CODES).as_uri()}#{code}")
        assert board.driver.find_element(By.CSS_SELECTOR, "tr:target > th").text == code


def test_a_command_is_copied(board: Browser) -> None:
    row = board.driver.find_element(By.CSS_SELECTOR, "#board tr.a")
    button = row.find_element(By.CSS_SELECTOR, "button.copy")
    button.click()
    assert board.driver.execute_script("return getSelection().toString()") == f"snakemake dl={FAILED}"
    WebDriverWait(board.driver, 5).until(lambda _: button.text == "copied")


class Tab:
    """A board that is opened in a tab with a clock; `turn` makes its pages at a time, Unix seconds."""

    def __init__(self, board: Browser, site: Site, home: Path, address: str) -> None:
        self.board, self.site, self.home, self.address = board, site, home, address
        self.begun = time.time()

    def turn(self, seconds: float, *, timer: bool = True) -> None:
        now = self.begun + seconds
        if timer:
            write_json(self.site.work / paths.LAST_TURN, {"ended": now, "status": 0, "host": "here"})
        survey = Survey(self.site.settings, now)
        board_pages.make(survey, recent(survey, DAYS), self.home)
        for page in self.home.iterdir():
            os.utime(page, (now, now))

    def is_shown(self, name: str) -> bool:
        return bool(self.board.driver.find_element(By.ID, name).is_displayed())

    @property
    def read(self) -> float:
        """When the data on the page were read, seconds since the beginning."""
        read = str(self.board.driver.find_element(By.ID, "read").get_attribute("datetime"))
        return datetime.fromisoformat(read).timestamp() - self.begun


@contextmanager
def served(home: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve a directory by a process; give its address, and a function that ends the server."""
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(home)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[-2].strip("()/"), server.kill
        finally:
            server.kill()


@pytest.fixture
def tab(opened: Browser, site: Site, tmp_path: Path) -> Iterator[Tab]:
    lay_out(site)
    (tmp_path / "open").mkdir()
    yield Tab(opened, site, tmp_path / "open", (tmp_path / "open").as_uri())
    opened.complaints()
    opened.asked()


@pytest.fixture
def site(worked: Callable[..., Site]) -> Site:
    return worked(*HANDED_OFF)


def two_hours(tab: Tab, *, timer: bool) -> None:
    """Leave a page open; the reader has sorted, filtered and scrolled. With `timer`, a turn ends every nine minutes."""
    driver = tab.board.driver
    tab.board.look(TELEPHONE)
    tab.turn(0, timer=timer)
    with tab.board.clock() as move:
        driver.get(f"{tab.address}/{paths.BOARD}")
        driver.find_element(By.ID, "find").send_keys("2304010")
        Select(driver.find_element(By.ID, "order")).select_by_visible_text("downlink")
        order = sorted([FIRST, SECOND, FAILED])
        driver.execute_script("scrollTo(0, 300)")
        move(1)
        top = driver.execute_script(TOP)
        for minute in range(0, 126, 3):
            if timer and minute % 9 == 0:
                tab.turn(60 * minute)
            move(180)
            assert tab.is_shown("stale") == (not timer and 60 * minute + 181 >= HOUR)
            assert not tab.is_shown("lost")
            assert shown(tab.board) == order
            if not tab.is_shown("stale"):  # which moves the rest down
                assert abs(driver.execute_script(TOP) - top) <= 2, "scrolled to the same place"
        assert (tab.read >= 116 * 60) == timer, "the newest page is shown"


@pytest.mark.parametrize("timer", [True, False], ids=["timer", "no-timer"])
@pytest.mark.parametrize("by", ["file", "server"])
def test_a_page_that_is_left_open_for_two_hours(tab: Tab, by: str, timer: bool) -> None:
    if by == "file":
        two_hours(tab, timer=timer)
        return
    with served(tab.home) as (tab.address, end):
        two_hours(tab, timer=timer)
        with tab.board.clock() as move:
            tab.board.driver.get(f"{tab.address}/{paths.BOARD}")
            end()
            move(600)
            WebDriverWait(tab.board.driver, 10).until(lambda _: tab.is_shown("lost"))


def test_prometheus_takes_the_numbers(home: Path, tmp_path: Path) -> None:
    numbers = (home / paths.BOARD_METRICS).read_bytes()
    found = subprocess.run(["promtool", "check", "metrics"], input=numbers, capture_output=True, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    with served(home) as (address, _), socket.create_server(("127.0.0.1", 0)) as free:
        target, port = address.removeprefix("http://"), free.getsockname()[1]
        free.close()
        job = {"job_name": "board", "metrics_path": f"/{paths.BOARD_METRICS}"}
        content = {
            "scrape_configs": [{**job, "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}]
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(content))
        words = [
            "prometheus",
            "--config.file=prometheus.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.path=data",
        ]
        with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as server:
            try:
                asked = f"http://127.0.0.1:{port}/api/v1/query?query=halfpipe_downlinks"

                def answer() -> dict[str, str]:
                    with suppress(OSError), urlopen(asked) as said:
                        rows = json.load(said)["data"]["result"]
                        return {row["metric"]["verdict"]: row["value"][1] for row in rows}
                    return {}

                servers.wait_for("a scrape", lambda: bool(answer()))
                assert answer() == {"good": "0", "note": "2", "action": "1"}
            finally:
                server.terminate()


@pytest.mark.parametrize(("size", "dark"), [(DESK, True), (TELEPHONE, False)], ids=["dark", "telephone"])
@pytest.mark.parametrize(
    "page",
    [
        *(paths.BOARD, paths.board_page(FIRST), paths.board_page(FAILED), paths.BOARD_RUNS),
        *(paths.board_run(RUN), paths.BOARD_TRENDS, paths.BOARD_CODES),
    ],
)
def test_pages_are_accessible_on_a_desktop_and_a_telephone(
    board: Browser, home: Path, page: str, size: tuple[int, int], dark: bool
) -> None:
    board.look(size, dark=dark)
    board.driver.get((home / page).as_uri())
    assert board.faults() == []
    wide = board.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= size[0], "no sideways scrolling"
    for each in board.driver.find_elements(By.TAG_NAME, "details"):
        board.driver.execute_script("arguments[0].open = true", each)
    assert board.driver.execute_script(CUT) == [], "nothing is cut off"


def test_the_page_is_complete_without_its_script(board: Browser) -> None:
    board.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        board.driver.refresh()
        assert shown(board) == URGENT
        assert not board.driver.find_element(By.ID, "find").is_displayed(), (
            "controls that need the script are hidden"
        )
        assert f"snakemake dl={FAILED}" in board.driver.find_element(By.CSS_SELECTOR, "#board tr.a").text
    finally:
        board.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_ten_of_two_thousand_that_need_action_fit_on_the_screen(
    opened: Browser, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = "12 late events of run 29d7d35d inside what other downlinks have delivered"
    refused = "run 29d7d35d is refused, 1,204 events of it not staged: two files overlap"
    show = Remedy("halfpipe show 29d7d35d")
    action = Cause("level1-refuses", Verdict.ACTION, refused, show)
    note = Cause("late-events", Verdict.NOTE, late, show)
    accounts = [
        Account(DownlinkId(f"23{n:07}"), "handed off 1", of, (9, 9), 3, 2_412_077, {}, 1, 1)
        for n, of in enumerate([(action,)] * 10 + [(note,)] * 90 + [()] * 1900)
    ]
    page = tmp_path / "board" / paths.BOARD
    monkeypatch.setattr(board_pages, "overview", lambda *_, **__: Overview(tuple(accounts), ()))
    board_pages.make(Survey(site.settings), (), page.parent)
    assert page.stat().st_size < 300_000
    opened.look(DESK)
    opened.driver.get(page.as_uri())
    rows = opened.driver.find_elements(By.CSS_SELECTOR, "#board tr.a")
    assert len(rows) == 10
    assert max(row.rect["y"] + row.rect["height"] for row in rows) <= DESK[1]
