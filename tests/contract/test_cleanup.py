"""After a clean-up, at any time and of anything, all that follows comes out as it would have without it."""

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfpipe.settings import Paths, Settings
from halfpipe.site import clean_up
from tests.support.golden_cases import build, read_case
from tests.support.workflow import Site

SMALL = ("dup_two_previous", "lci_gap_filled", "order_reversed")
LARGE = (
    "split2_late_head",
    "third_epu_late_again",
    "gap_both_same_filled",
    "withheld_lone",
    "split3",
    "multi3",
)
EVERY_DAY = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = settings(EVERY_DAY, max_examples=60, derandomize=False)


@dataclass(frozen=True)
class Step:
    """A downlink to be processed, whether Level-1 takes it then, and what is cleaned up afterwards.

    `cleaned` are parts of all removable files, as a clean-up leaves them that was killed; None is all.
    """

    downlink: str
    taken: bool
    cleaned: frozenset[int] | None


@st.composite
def stories(draw: st.DrawFn, cases: Sequence[str]) -> tuple[str, list[Step]]:
    """Draw a golden case and an order in which its downlinks are processed, some of them twice."""
    name = draw(st.sampled_from(cases))
    downlinks = read_case(name).downlinks
    order = [*draw(st.permutations(downlinks)), *draw(st.lists(st.sampled_from(downlinks), max_size=2))]
    some = st.one_of(st.none(), st.none(), st.frozensets(st.integers(0, 12)))
    return name, [Step(dl, draw(st.booleans()), draw(some)) for dl in order]


def removable(site: Site) -> list[Path]:
    """Return the files that can be made again."""
    found = clean_up.removable(Settings(Paths(site.work, site.stage)), time.time())
    return [Path(path) for each in found if each.what is clean_up.What.RUN for path in each.sizes]


def staged(site: Site) -> dict[str, bytes]:
    """Return all of the stage, texts and tokens too."""
    return {name: content for name, content in site.tree().items() if name.startswith("stage/")}


def lasting(site: Site, without: Collection[str]) -> dict[str, bytes]:
    """Return what lies in the stage and in the working directory, but for the files `without`."""
    return {name: content for name, content in site.tree().items() if name not in without}


def tell(home: Path, name: str, steps: Sequence[Step]) -> None:
    """Process the steps on one site with clean-ups and on one without, and compare after each."""
    cleaned, kept = sites = [Site(home / which) for which in ("cleaned", "kept")]
    for site in sites:
        build(name, site)
    for step in steps:
        for site in sites:
            site.by_hand(step.downlink)
        assert staged(cleaned) == staged(kept)
        if step.taken:
            for site in sites:
                site.take(step.downlink)
        where = Settings(Paths(cleaned.work, cleaned.stage))
        before = removable(cleaned)
        goes = [f for number, f in enumerate(before) if step.cleaned is None or number in step.cleaned]
        with pytest.MonkeyPatch.context() as patch:
            # A clean-up that knows no reason to keep anything: worse than the real one can ever be.
            patch.setattr(
                clean_up,
                "why_kept",
                lambda *of, keeps=step.cleaned: keeps is not None and of[2].what is clean_up.What.RUN,
            )
            later = time.time() + 2 * clean_up.DAY  # what is half-made is old then
            assert not any(each.failed for each in clean_up.clean(where, later, "", remove=True))
        for path in goes:
            path.unlink(missing_ok=True)
        assert removable(cleaned) == [file for file in before if file not in goes]
    without = {str(path.relative_to(site.home)) for site in sites for path in removable(site)}
    assert lasting(cleaned, without) == lasting(kept, without)


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "many"])
def test_nothing_that_follows_differs(many: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    @(LONG if many else EVERY_DAY)
    @given(stories(SMALL + LARGE if many else SMALL))
    def holds(story: tuple[str, list[Step]]) -> None:
        home = tmp_path_factory.mktemp("story")
        tell(home, *story)
        shutil.rmtree(home)

    holds()
