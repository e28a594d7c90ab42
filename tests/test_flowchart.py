"""Flow charts in documents become SVG by `make docs`, whole, without a script."""

import re
from itertools import pairwise

import pytest
from defusedxml.ElementTree import fromstring

from docs import flowchart
from tests.support.in_process import ROOT

SVG = "{http://www.w3.org/2000/svg}"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("config/*.md")]
SOURCES = [block for path in DOCUMENTS for block in BLOCK.findall(path.read_text())]


@pytest.mark.parametrize("source", SOURCES)
def test_the_drawings_of_all_documents_have_all_boxes_and_arrows(source: str) -> None:
    drawn = fromstring(flowchart.html(source))
    texts = {"".join(text.itertext()) for text in drawn.iter(f"{SVG}text")}
    labels = re.findall(r'\["(.*)"\]', source)
    assert texts == {re.sub(r"</?b>", "", line) for label in labels for line in label.split("<br>")}
    assert len(list(drawn.iter(f"{SVG}rect"))) == len(labels)
    arrows = [path for path in drawn.iter(f"{SVG}path") if "marker-end" in path.attrib]
    assert len(arrows) == source.count("-->")
    (title,) = drawn.iter(f"{SVG}title")
    assert title.text
    assert not list(drawn.iter(f"{SVG}script"))


def test_there_are_drawings() -> None:
    assert SOURCES


def test_an_arrow_passes_below_the_boxes_between_and_nothing_is_cut_off() -> None:
    boxes = "\n".join(f'{name}["{name}"]' for name in "abc")
    drawn = fromstring(flowchart.html(f"flowchart LR\n{boxes}\na --> b\nb --> c\na --> c\n"))
    (svg,) = drawn.iter(f"{SVG}svg")
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    rects = [
        {key: float(rect.attrib[key]) for key in ("x", "y", "width", "height")}
        for rect in drawn.iter(f"{SVG}rect")
    ]
    assert all(one["x"] + one["width"] < other["x"] for one, other in pairwise(rects))
    bottom = max(rect["y"] + rect["height"] for rect in rects)
    long = [path.attrib["d"] for path in drawn.iter(f"{SVG}path") if "marker-end" in path.attrib][2]
    below = float(long.partition("H")[0].split()[-1])
    assert bottom < below < height
    assert max(rect["x"] + rect["width"] for rect in rects) < width


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("flowchart TD\n", "begins with 'flowchart LR'"),
        ("", "begins with 'flowchart LR'"),
        ('flowchart LR\na["x"]\na -.-> a\n', "a -.-> a"),
        ('flowchart LR\na["x"]\na --> b\n', "no box: b"),
        ('flowchart LR\na["x"]\nb["y"]\na --> b\nb --> a\n', "in a circle"),
        ("flowchart LR\n", "has no box"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        flowchart.html(source)
