"""Pictures: the words of each case, their size, equal bytes, and text for screen readers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from halfpipe import paths
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.undelivered import NotDelivered
from halfpipe.pages import pictures
from halfpipe.pages.pictures import run_picture
from halfpipe.status.survey import Survey
from tests.support import gallery
from tests.support.golden_cases import build
from tests.support.workflow import Site

MOST = 50_000  # bytes of an SVG
SVG = "{http://www.w3.org/2000/svg}"


def written(content: bytes) -> list[str]:
    """Return all text of an SVG, the title and the description for screen readers first."""
    root = fromstring(content)
    title, description = root[0], root[1]
    assert title.text
    assert description.text
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {description.attrib['id']}"
    return [title.text, description.text, *("".join(each.itertext()) for each in root.iter(f"{SVG}text"))]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            gallery.gap,
            ["of EPU 956 is missing.", "waiting: 104", "staged · 230401001", pictures.MISSING.label],
        ),
        (
            gallery.late_epu,
            ["EPU 957 · 230401002", "late: 1,306", pictures.NOT_DELIVERED[NotDelivered.LATE].label],
        ),
        (gallery.duplicate_chunk, [pictures.REPEATED.label]),
        (gallery.lci_run, [", LCI)", "2,000 events staged", "EPU 965 · 230401001"]),
        (gallery.refused_run, ["0 events staged, 2,001 "]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_picture_of_a_run(case: Callable[[Path], Site], expected: list[str], tmp_path: Path) -> None:
    site = case(tmp_path)
    svg = gallery.picture(site)
    assert len(svg) < MOST
    text = "\n".join(written(svg))
    assert [words for words in expected if words not in text] == []
    assert "SIMULATED" in text
    assert b"dc:date" not in svg
    if case is gallery.gap:
        assert svg == gallery.picture(site), "the same input gives the same bytes"


def test_a_run_without_deliveries_and_without_rows(site: Site) -> None:
    downlink, run = DownlinkId("240601001"), RunId("2c2e5787")
    build("one_epu_then_other", site, downlink)
    survey = Survey(site.settings, gallery.NOW)
    assert "0 events staged, 68 waiting" in written(run_picture(survey, run))[0]
    next((site.work / paths.chunks(downlink)).glob("*.rows")).unlink()
    assert any("no events are known" in text for text in written(run_picture(survey, run)))


def test_sequences_of_64_bits(tmp_path: Path) -> None:
    made = gallery.scenario().lpa_run(events=300, first_sequence=2**64 - 100_000, lost_datagrams=1)
    site = gallery.site_of(tmp_path, made)
    site.by_hand(gallery.FIRST)
    text = written(gallery.picture(site))
    assert any(one.startswith("18 446 744 073 709 4") for one in text)
