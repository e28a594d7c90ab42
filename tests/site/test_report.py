"""Snakemake's report of pictures in a real browser: it shows them with their captions, and nobody is asked."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.board_site import FIRST, HANDED_OFF, lay_out
from tests.support.browser import DESK, Browser, browser
from tests.support.workflow import Site

pytestmark = pytest.mark.browser

SHOWN = "return [...document.images].filter(i => i.src.endsWith('.svg')).map(i => [i.src, i.naturalWidth])"
# Of the style sheets that Snakemake puts into its page, as a warning.
FORGIVEN = "cdn.tailwindcss.com should not be used in production"


def press(one: Browser, where: str) -> None:
    """Press what is there, or comes in a moment."""
    WebDriverWait(one.driver, 10).until(lambda driver: driver.find_elements(By.XPATH, where))
    one.driver.find_element(By.XPATH, where).click()


def expected(picture: str) -> Callable[[WebDriver], bool]:
    """Return what tells whether a picture is shown."""
    return lambda driver: any(
        source.endswith(picture) and wide for source, wide in driver.execute_script(SHOWN)
    )


def test_a_report_shows_pictures_with_captions_and_asks_nobody(
    worked: Callable[..., Site], tmp_path: Path
) -> None:
    site = lay_out(worked(*HANDED_OFF))
    site.snakemake(f"pictures={FIRST}").good()
    site.snakemake(f"pictures={FIRST}", "--report", str(tmp_path / "report.zip")).good()
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        archive.extractall(tmp_path)
    names = [path.stem.replace("-", " ") for path in (site.work / FIRST / "pictures").glob("*.svg")]
    assert names
    with browser() as one:
        one.look(DESK)
        one.driver.get((tmp_path / "report" / "report.html").as_uri())
        press(one, "//li//*[text()='Results']")
        press(one, f"//*[text()='Downlink {FIRST}']")
        for name in names:
            press(one, f"//tr[td='{name}']//a[1]")
            WebDriverWait(one.driver, 10).until(expected(f"{name.replace(' ', '-')}.svg"))
        press(one, f"//tr[td='{names[0]}']//a[2]")
        press(one, f"//*[text()='halfpipe explain {names[0].split()[1]}']")
        assert [said for said in one.complaints() if FORGIVEN not in said] == []
        asked = one.asked()
        assert len([url for url in asked if url.endswith(".svg")]) >= len(names)
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
