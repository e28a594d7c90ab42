"""The golden cases through the whole workflow, with a replay decoder as `decoder.command`."""

from collections.abc import Callable

import pytest

from tests.support.golden_cases import GOLDEN, TEXTS, build, case_names, read_case
from tests.support.workflow import Ended, Site

# Through the command as well in what every change must pass: three runs, and a downlink that is processed again.
TYPED = {"multi3", "rerun_first"}


def golden(name: str, site: Site, command: Callable[..., Ended]) -> None:
    """Process a case and compare everything that comes out."""
    case = read_case(GOLDEN / name)
    build(case, site)
    processed: set[str] = set()
    for step in case.steps:
        command(f"dl={step.downlink}", *(["-F"] if step.downlink in processed else [])).good()
        processed.add(step.downlink)
        assert site.staged(step.downlink) == step.expected.files
        for text in TEXTS:
            assert site.text(text, step.downlink) == step.expected.lines(text)
        spans = {run["l1_run"]: run["spans"] for run in site.receipt(step.downlink)["runs"] if run["spans"]}
        expected = {
            run: [list(span) for span in of_run] for run, of_run in step.expected.spans.items() if of_run
        }
        assert spans == expected
    assert command("-n", *(f"dl={downlink}" for downlink in case.downlinks)).good().jobs == frozenset()


@pytest.mark.parametrize("name", case_names())
def test_golden_in_process(name: str, site: Site) -> None:
    golden(name, site, site.snakemake)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in TYPED else pytest.mark.workflow) for n in case_names()]
)
def test_golden_as_typed(name: str, site: Site) -> None:
    golden(name, site, site.typed)
