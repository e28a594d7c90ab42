"""Pictures: the words of each case, their size, equal bytes, and text for screen readers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from halfpipe import paths
from halfpipe.formats.met import unix_to_met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import HIGHEST, LOWEST, Interval
from halfpipe.notify.submissions import submissions
from halfpipe.pages import pictures
from halfpipe.pages.pictures import Scale, picture, run_picture
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.status.survey import Survey
from tests.support import gallery
from tests.support.golden_cases import build
from tests.support.workflow import Site

MOST = 10_000  # bytes of an SVG
MISSING, NOT_SUBMITTED = "missing: events may still arrive here", "staged, not submitted · 230401001"
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
        (gallery.gap, ["of EPU 956 is missing.", "waiting for missing data: 104", NOT_SUBMITTED, MISSING]),
        (gallery.late_epu, ["230401002", "late: arrived after the delivery: 1,306"]),
        (gallery.duplicate_chunk, ["230401002", "arrived again"]),
        (gallery.lci_run, [", LCI)", "2,000 events staged", "EPU 965: events that arrived", "230401001"]),
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
    assert b"prefers-color-scheme: dark" in svg
    if case is gallery.gap:
        assert svg == gallery.picture(site), "the same input gives the same bytes"


def test_a_run_without_deliveries_and_without_rows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    downlink, run = DownlinkId("240601001"), RunId("2c2e5787")
    build("one_epu_then_other", site, downlink)
    survey = Survey(site.settings, gallery.NOW)
    assert "0 events staged, 68 waiting" in written(run_picture(survey, run))[0]
    monkeypatch.setattr(pictures, "MOST_LINES", 1)
    assert "…" in written(run_picture(survey, run))
    next((site.work / paths.chunks(downlink)).glob("*.rows")).unlink()
    title, *others = written(run_picture(survey, run))
    assert "68 waiting at the last merge" in title
    assert any("no events can be read" in text for text in others)


def test_sequences_of_64_bits(tmp_path: Path) -> None:
    made = gallery.scenario().lpa_run(events=300, first_sequence=2**64 - 100_000, lost_datagrams=1)
    site = gallery.site_of(tmp_path, made)
    site.by_hand(gallery.FIRST)
    text = written(gallery.picture(site))
    assert any(one.startswith("18 446 744 073 709 4") for one in text)


def test_an_epu_is_one_row_with_its_downlinks_and_staged_rows_are_in_order(tmp_path: Path) -> None:
    site = gallery.duplicate_chunk(tmp_path)
    (run,) = (RunId(path.name) for path in (site.work / "runs").iterdir())
    lanes = picture(Survey(site.settings, gallery.NOW), run).lanes
    for handoff, label in enumerate(("staged, not submitted", "submitted to Level-1")):
        submissions(site.work, gallery.FIRST).intend(
            (), outcome=Outcome.SUBMITTED, by=By.PERSON, action=Action.SUBMIT, handoff=handoff
        )
        now = picture(Survey(site.settings, gallery.NOW), run).lanes
        assert now[3].label.startswith(f"{label} · {gallery.FIRST}")
    assert [lane.label.partition(":")[0] for lane in lanes] == [
        *("EPU 956", "EPU 957", "settled"),
        *(f"staged, not submitted · {downlink}" for downlink in (gallery.FIRST, gallery.SECOND)),
    ]
    for lane in lanes[:2]:
        named = [(bar.downlink, bar.left) for bar in lane.bars if bar.downlink]
        assert [downlink for downlink, _ in named] == [gallery.FIRST, gallery.SECOND]
        assert named == sorted(named, key=lambda one: one[1])
    assert [lane.bars[0].left for lane in lanes[3:]] == sorted(lane.bars[0].left for lane in lanes[3:])


def test_bars_end_at_the_edges_and_the_widest_has_the_name() -> None:
    first = 2**64 - 1_000
    spans = ((LOWEST, first + 10), (first + 50, HIGHEST), (first + 20, first + 20))
    bars = Scale(first, first + 100).bars("arrived", [Interval(*span) for span in spans], "x")
    expected = [(0, 12.4, ""), (50, 50, "x"), (21.8, 0.25, "")]
    assert [(bar.left, bar.width, bar.downlink) for bar in bars] == expected


def test_a_delivered_run_without_its_products_fills_the_picture(tmp_path: Path) -> None:
    site = gallery.lci_run(tmp_path)
    (run,) = (RunId(path.name) for path in (site.work / "runs").iterdir())
    before = picture(Survey(site.settings, gallery.NOW), run)
    times = [
        f"MET {unix_to_met(unix):.0f}" for unix in site.receipt(gallery.FIRST).runs[0].delivery.times or ()
    ]
    assert [before.ticks[place].lines[1] for place in (0, -1)] == times
    for path in (site.work / paths.chunks(gallery.FIRST)).iterdir():
        if path.suffix in {".evt", ".idx", ".rows"}:
            path.unlink()
    after = picture(Survey(site.settings, gallery.NOW), run)
    assert after.lanes == before.lanes
    assert [tick.lines for tick in after.ticks] == [tick.lines[-1:] for tick in before.ticks]
