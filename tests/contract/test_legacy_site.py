"""A model of the legacy delivers the first downlinks of a run, and HalfPipe the others."""

from collections import Counter
from pathlib import Path

import pytest

from halfpipe.ids import RunId
from tests.support.golden_cases import TAKEOVER, Case, build, case_names, cases, read_case
from tests.support.harness import events_of
from tests.support.legacy_merge import Legacy
from tests.support.workflow import Site


@pytest.mark.parametrize("name", case_names(TAKEOVER))
def test_the_model_gives_what_the_legacy_wrote(name: str, tmp_path: Path) -> None:
    case, wrote, tree = read_case(TAKEOVER / name), TAKEOVER / name / "legacy", tmp_path / "tree"
    for step in case.steps[: case.taken_over]:
        Legacy(case, tmp_path).process(step)
    recorded = sorted(wrote.rglob("*-spans.txt"))
    assert len(recorded) >= (name != "one_epu")
    for path in recorded:
        assert (tree / path.relative_to(wrote)).read_bytes() == path.read_bytes()
    for path in wrote.rglob("r*-e*.idx"):
        mine = tree / path.relative_to(wrote)
        assert [line.split()[2:4] for line in mine.read_text().splitlines()] == [
            line.split()[2:4] for line in path.read_text().splitlines()
        ]
    if name == "one_epu":
        assert not list(tree.rglob("*-spans.txt"))


def is_shared(case: Case) -> bool:
    """Tell whether a case has several downlinks, each of them once."""
    return len(case.steps) > 1 and len(case.downlinks) == len(case.steps)


SHARED = [(case.name, number) for case in cases() if is_shared(case) for number in range(1, len(case.steps))]


Event = tuple[int, int]  # sequence and APID


def by_run(files: dict[str, bytes]) -> Counter[tuple[str, Event]]:
    """Return how often each event is in event files, by run."""
    return Counter(
        (RunId.from_l1(name[:11]), e) for name, content in files.items() for e in events_of(content)
    )


@pytest.mark.workflow
@pytest.mark.parametrize(("name", "number"), SHARED)
def test_every_event_is_delivered_once_except_those_that_the_legacy_loses(
    name: str, number: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Site, "typing", False)  # in this process
    case = build(name, site)
    site.work.mkdir()
    legacy = Legacy(case, site.home / "legacy")
    at_level1 = Counter[tuple[str, Event]]()
    spans: dict[str, list[tuple[int, int]]] = {}
    for step in case.steps[:number]:
        for run, merged in legacy.process(step).items():
            at_level1.update((run, (e.sequence, e.apid)) for events in merged.indexes for e in events)
            spans.setdefault(run, []).extend(merged.recorded)
    site.halfpipe("takeover", str(legacy.tree), "--do").good()
    for step in case.steps[number:]:
        site.process(step.downlink)
        at_level1.update(by_run(site.staged(step.downlink)))
    assert {event for event, count in at_level1.items() if count > 1} == set()
    alone = Counter[tuple[str, Event]]()
    for step in case.steps:
        alone.update(by_run(step.expected.files))
    missing = [
        (run, event)
        for run, event in alone.keys() - at_level1.keys()
        if not any(first <= event[0] <= last for first, last in spans.get(run, []))
    ]
    assert missing == []
