"""The board in a real browser, opened from files: sorting, search, and the checks of axe-core; it loads nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import Remedy
from halfpipe.ids import DownlinkId
from halfpipe.pages import board_pages
from halfpipe.status.account import Account
from halfpipe.status.overview import Overview, recent
from halfpipe.status.survey import Survey
from tests.support.board_site import DAYS, FAILED, FIRST, HANDED_OFF, HOSTILE, RUN, SECOND, lay_out
from tests.support.browser import DESK, TELEPHONE, Browser, browser
from tests.support.workflow import Site

pytestmark = pytest.mark.browser
URGENT = [FAILED, SECOND, FIRST]  # downlinks that need action, then the newest
# Elements of a page that are wider than their place, so that they are cut or scroll.
CUT = """return [...document.querySelectorAll("body *")].filter((each) =>
  each.clientWidth && each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX !== "visible")
  .map((each) => each.outerHTML.slice(0, 100))"""

# Left edges and bottoms of the cells of the time axis: of the links, and of the first that is drawn.
PLACES = """const place = (box) => [Math.round(box.left), Math.round(box.bottom)];
  const path = document.querySelector("#days .cell"), start = path.getPointAtLength(0);
  const drawn = new DOMPoint(start.x - 6, start.y).matrixTransform(path.getScreenCTM());
  return {drawn: [Math.round(drawn.x), Math.round(drawn.y)],
    links: [...document.querySelectorAll("#days a rect")].map((each) => place(each.getBoundingClientRect()))}"""


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


def test_a_cell_of_the_time_axis_names_its_downlink_and_leads_to_it(board: Browser) -> None:
    cells = board.driver.find_elements(By.CSS_SELECTOR, "#days a")
    assert [cell.find_element(By.TAG_NAME, "title").get_attribute("textContent") for cell in cells] == [
        f"{FIRST}: handed off 1",
        f"{SECOND}: handed off 1",
        f"{FAILED}: failed",
    ]
    places = board.driver.execute_script(PLACES)
    assert len({tuple(place) for place in places["links"]}) == 3
    assert places["links"][0] == places["drawn"], "the first cell covers the start of what is drawn"
    cells[-1].click()
    assert board.driver.title.startswith(FAILED)


def test_a_command_is_copied(board: Browser) -> None:
    row = board.driver.find_element(By.CSS_SELECTOR, "#board tr.a")
    button = row.find_element(By.CSS_SELECTOR, "button.copy")
    button.click()
    assert board.driver.execute_script("return getSelection().toString()") == f"snakemake dl={FAILED}"
    WebDriverWait(board.driver, 5).until(lambda _: button.text == "copied")


def test_an_old_page_shows_a_warning(board: Browser, home: Path) -> None:
    assert not board.driver.find_element(By.ID, "stale").is_displayed()
    old = home / "old.html"
    old.write_text(
        (home / paths.BOARD).read_text().replace('id="made" datetime="20', 'id="made" datetime="19')
    )
    board.driver.get(old.as_uri())
    assert board.driver.find_element(By.ID, "stale").is_displayed()


@pytest.mark.parametrize(("size", "dark"), [(DESK, True), (TELEPHONE, False)], ids=["dark", "telephone"])
@pytest.mark.parametrize(
    "page",
    [paths.BOARD, paths.board_page(FIRST), paths.board_page(FAILED), paths.BOARD_RUNS, paths.board_run(RUN)],
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
