"""The golden cases through the whole workflow, with a replay decoder as `decoder.command`."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe.cli.show import TABLES
from halfpipe.ids import RunId
from halfpipe.operate import cleanup
from halfpipe.settings import Paths, Settings
from halfpipe.version import DOCUMENTS
from tests.support.golden_cases import build, case_names, cases, check, read_case
from tests.support.workflow import Ended, Site

# Typed before each merge: several runs, three downlinks, a repeat, an option, many files. `make golden` types all.
TYPED = ("multi3", "split3", "rerun_last", "latc_lci", "maxev_small")


def golden(name: str, site: Site, command: Callable[..., Ended]) -> None:
    """Process a case and compare all output."""
    case = build(name, site)
    known: dict[str, set[tuple[int, int]]] = {}  # sequences and APIDs of the events in the indexes, by run
    processed: set[str] = set()
    for step in case.steps:
        command(f"dl={step.downlink}", *(["-F"] if step.downlink in processed else [])).good()
        processed.add(step.downlink)
        check(site, step)
        for met in step.runs:
            events = {(e.sequence, e.apid) for chunk in case.chunks(step.downlink, met) for e in chunk.events}
            known.setdefault(RunId.from_met(met), set()).update(events)
        for one in site.receipt(step.downlink).runs:
            books = one.delivery.books
            assert books.known == len(known.get(one.run, ())) == books.parts


@pytest.mark.parametrize("name", case_names())
def test_golden_in_process(name: str, site: Site) -> None:
    golden(name, site, site.snakemake)
    downlinks = read_case(name).downlinks
    assert site.outstanding(*downlinks) == frozenset()
    for words in (
        ["status", "--all"],
        ["show", *downlinks],
        ["show", "--books", *downlinks],
        ["explain", *downlinks],
    ):
        assert site.told(*words)["version"] == DOCUMENTS, "it has the form of its schema"
    for table in TABLES:
        assert site.told("show", "--table", table)["version"] == DOCUMENTS


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
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in TYPED else pytest.mark.long) for name in case_names()],
)
def test_golden_as_typed(name: str, site: Site) -> None:
    golden(name, site, site.typed)
