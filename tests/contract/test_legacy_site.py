"""Runs of which a model of the legacy delivers the first downlinks and HalfPipe the others."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from halfpipe.formats import evt
from tests.support.golden_cases import Case, build, cases, read_case
from tests.support.in_process import ROOT
from tests.support.legacy_model import deliver, read_spans
from tests.support.workflow import Site

CASES = ROOT / "tests" / "takeover"
NAMES = sorted(path.parent.name for path in CASES.glob("*/case.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_model_gives_what_the_legacy_wrote(name: str, tmp_path: Path) -> None:
    case, number = (
        read_case(CASES / name),
        yaml.safe_load((CASES / name / "case.yaml").read_text())["taken_over"],
    )
    for step in case.steps[:number]:
        deliver(tmp_path, case.directory / "in", step.downlink)
    recorded = sorted((CASES / name / "legacy").rglob("*-spans.txt"))
    assert len(recorded) >= (name != "one_epu")
    for path in recorded:
        mine = tmp_path / path.relative_to(CASES / name / "legacy")
        assert mine.read_bytes() == path.read_bytes()
        assert read_spans(mine)
    for path in (CASES / name / "legacy").rglob("r*-e*.idx"):
        mine = tmp_path / path.relative_to(CASES / name / "legacy")
        assert [line.split()[2:4] for line in mine.read_text().splitlines()] == [
            line.split()[2:4] for line in path.read_text().splitlines()
        ]
    if name == "one_epu":
        assert not list(tmp_path.rglob("*-spans.txt"))


def is_shared(case: Case) -> bool:
    """Tell whether a case has downlinks for both, none of them twice."""
    return len(case.steps) > 1 and len(case.downlinks) == len(case.steps)


SHARED = [(case.name, number) for case in cases() if is_shared(case) for number in range(1, len(case.steps))]


Event = tuple[int, int]  # sequence and APID


def events_of(files: dict[str, bytes], home: Path) -> Counter[tuple[str, Event]]:
    """Return the events of evt files by run, as they are named in indexes."""
    found = Counter[tuple[str, Event]]()
    for name, content in files.items():
        path = home / "one.evt"
        path.write_bytes(content)
        opened = evt.open_evt(path)
        offsets = evt.walk(opened.data, name)
        columns = [evt.context_column(opened.data, offsets, of) for of in ("scalers_sequence", "ccsds_apid")]
        run = f"{int(name[1:11]):08x}"
        found.update(
            (run, key) for key in zip(*(np.asarray(column).tolist() for column in columns), strict=True)
        )
    return found


@pytest.mark.workflow
@pytest.mark.parametrize(("name", "number"), SHARED)
def test_every_event_is_at_level1_once_but_for_what_the_legacy_swallows(
    name: str, number: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Site, "typing", False)  # in this process: nobody is killed
    case = read_case(ROOT / "tests" / "golden" / name)
    build(case, site)
    site.work.mkdir()
    home = site.home / "legacy"
    at_level1 = Counter[tuple[str, Event]]()
    spans: dict[str, list[tuple[int, int]]] = {}
    for step in case.steps[:number]:
        for run, merged in deliver(home, case.directory / "in", step.downlink).items():
            at_level1.update((run, (event.sequence, event.apid)) for file in merged.spans for event in file)
            spans.setdefault(run, []).extend(merged.recorded)
    site.halfpipe("takeover", str(home), "--do").good()
    for step in case.steps[number:]:
        site.process(step.downlink)
        at_level1.update(events_of(site.staged(step.downlink), site.home))
    assert {event for event, count in at_level1.items() if count > 1} == set()
    alone = Counter[tuple[str, Event]]()
    for step in case.steps:
        alone.update(events_of(step.expected.files, site.home))
    missing = [
        (run, event)
        for run, event in alone.keys() - at_level1.keys()
        if not any(first <= event[0] <= last for first, last in spans.get(run, []))
    ]
    assert missing == []
