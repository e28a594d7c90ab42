"""The golden cases through the whole workflow, with a replay decoder as `decoder.command`."""

import pytest

from tests.golden_cases import GOLDEN, TEXTS, Case, case_names, read_case
from tests.workflow import Site

# Every case that processes a downlink twice, and some of each other kind; `make golden` runs them all.
EVERY_DAY = {
    "complete_multichunk",
    "dup_two_previous",
    "eventless_edges",
    "gap_both_partially_filled",
    "latc_lpa",
    "lci_gap_filled",
    "maxev_last_single_min2",
    "moot_default_alias",
    "multi3",
    "order_reversed",
    "rerun_first",
    "rerun_last",
    "runid_small",
    "seq_over_32bit",
    "third_epu_late_again",
    "withheld_lone",
}


def build(case: Case, site: Site) -> Site:
    """Set `site` up with the knobs and the RetDefs of `case`."""
    moot = site.home / "moot.txt"
    moot.write_text("".join(f"r{run:010d} {key} {alias}\n" for run, (key, alias) in case.moot.items()))
    knobs = ("max_events", "chunk_scale", "chunk_floor", "min_events", "min_epus")
    site.replay(case.directory / "in")
    site.configure(
        merge={knob: getattr(case, knob) for knob in knobs} | {"latc_override": case.latc},
        moot={"file": str(moot)},
    )
    site.add_retdefs(case.directory / "in", *case.downlinks)
    return site


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in EVERY_DAY else pytest.mark.golden) for n in case_names()]
)
def test_golden_workflow(name: str, site: Site) -> None:
    case = read_case(GOLDEN / name)
    build(case, site)
    processed: set[str] = set()
    for step in case.steps:
        site.process(step.downlink, again=step.downlink in processed)
        processed.add(step.downlink)
        assert site.staged(step.downlink) == step.expected.files
        for text in TEXTS:
            assert site.text(text, step.downlink) == step.expected.lines(text)
        spans = {run["l1_run"]: run["spans"] for run in site.receipt(step.downlink)["runs"] if run["spans"]}
        expected = {
            run: [list(span) for span in of_run] for run, of_run in step.expected.spans.items() if of_run
        }
        assert spans == expected
    assert site.outstanding(*case.downlinks) == frozenset()
