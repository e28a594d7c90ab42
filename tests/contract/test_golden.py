"""The golden cases through the whole workflow, with a replay decoder as `decoder.command`."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe.ids import RunId
from halfpipe.settings import Paths, Settings
from halfpipe.site import cleanup
from tests.support.golden_cases import Case, Step, build, case_names, cases, check, read_case
from tests.support.workflow import Ended, Site

PARTS = ("delivered", "waiting", "late", "refused_events", "elsewhere")
Known = dict[str, set[tuple[str, str]]]
"""Sequences and APIDs of the events in the indexes, by run."""


def golden(name: str, site: Site, command: Callable[..., Ended]) -> None:
    """Process a case and compare all output."""
    case = build(name, site)
    known: Known = {}
    processed: set[str] = set()
    for step in case.steps:
        command(f"dl={step.downlink}", *(["-F"] if step.downlink in processed else [])).good()
        processed.add(step.downlink)
        check(site, step)
        add_known(known, case, step)
        for run in site.receipt(step.downlink)["runs"]:
            assert run["known"] == len(known.get(run["run"], ())) == sum(run[part] for part in PARTS)


def add_known(known: Known, case: Case, step: Step) -> None:
    """Add the events in the indexes of a step."""
    for met in step.runs:
        for path in case.products(step.downlink, met):
            events = [line.split() for line in path.read_text().splitlines() if line.startswith("EVT:")]
            known.setdefault(RunId.from_met(met), set()).update((words[2], words[7]) for words in events)


@pytest.mark.parametrize("name", case_names())
def test_golden_in_process(name: str, site: Site) -> None:
    golden(name, site, site.snakemake)
    assert site.outstanding(*read_case(name).downlinks) == frozenset()


@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.workflow)])
@pytest.mark.parametrize("name", [case.name for case in cases() if len(case.steps) > 1])
def test_golden_after_cleanups(name: str, every: int, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleanup that keeps nothing runs before each step; with `every` 2 it is killed half-way."""
    monkeypatch.setattr(Site, "typing", False)
    monkeypatch.setattr(cleanup, "why_kept", lambda *_: "")
    where, later = Settings(Paths(site.work, site.stage)), time.time() + 2 * cleanup.DAY

    def after_one(*words: str) -> Ended:
        if every == 1:
            assert not any(each.failed for each in cleanup.clean(where, later, "", remove=True))
        for each in cleanup.removable(where, later):
            assert every == 2 or each.what is cleanup.FileKind.LOGS
            for path in list(each.sizes)[::every]:
                Path(path).unlink()
        return site.snakemake(*words)

    golden(name, site, after_one)


@pytest.mark.workflow
@pytest.mark.parametrize("name", case_names())
def test_golden_as_typed(name: str, site: Site) -> None:
    golden(name, site, site.typed)
