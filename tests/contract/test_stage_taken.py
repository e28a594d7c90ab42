"""Level-1 takes what it was handed, and old chunk products are cleaned up: later downlinks come out right."""

from collections.abc import Iterable
from pathlib import Path

from halfpipe import paths
from tests.support.golden_cases import GOLDEN, Case, build, build_copy, check, read_case
from tests.support.leases import leases
from tests.support.series import values
from tests.support.workflow import Job, Site

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"


def clean_up(site: Site, *downlinks: str) -> list[Path]:
    """Remove everything that can be made again of `downlinks`; return what was removed."""
    gone = [
        path
        for downlink in downlinks
        for pattern in (
            f"{downlink}/chunks/*.evt",
            f"{downlink}/chunks/*.idx",
            f"runs/*/{downlink}/events.npy",
        )
        for path in site.work.glob(pattern)
    ]
    for path in gone:
        path.unlink()
    return gone


def none_came_back(paths: Iterable[Path]) -> bool:
    """Tell whether none of the files exists."""
    return not any(path.exists() for path in paths)


def test_only_asking_for_it_makes_the_files_anew(site: Site) -> None:
    case = read_case(GOLDEN / "split2")
    build(case, site)
    site.process(FIRST)
    site.process(SECOND)
    files = {downlink: site.take(downlink) for downlink in (FIRST, SECOND)}
    assert all(files.values())
    before = values(site.work, paths.deliveries(RUN))
    assert site.process(FIRST, SECOND).jobs == frozenset()
    assert not (site.stage / FIRST).exists()
    site.process(FIRST, again=True)
    assert site.staged(FIRST) == files[FIRST]
    assert not (site.stage / SECOND).exists()
    assert site.receipt(FIRST)["handoff"] == 2
    assert site.receipt(SECOND)["handoff"] == 1
    # It is recorded again, for more datagrams are known now, but nothing else of it is new.
    first, second, third = values(site.work, paths.deliveries(RUN))
    assert before == [first, second]
    for key in ("sha256", "previous"):
        assert first.pop(key) != third.pop(key)
    assert third.pop("datagrams") != first.pop("datagrams")
    assert (first.pop("handoff"), third.pop("handoff")) == (1, 2)
    assert third == first
    tokens = {path.name for path in site.stage.glob("chunktokens/*/*")}
    assert tokens == {Path(name).stem for name in files[FIRST]}


def prepare(site: Site) -> tuple[Case, Path, list[Path]]:
    """Process the first downlink of a run, have it taken and cleaned up; return what its decoder reads."""
    case = build_copy("split3", site)
    site.process(FIRST)
    site.take(FIRST)
    return case, case.directory / "in" / FIRST, clean_up(site, FIRST)


def test_chunks_that_were_cleaned_up_are_decoded_again_as_context(site: Site) -> None:
    case, level0, gone = prepare(site)
    assert len(gone) == 9
    level0.rename(level0.with_name("away"))
    site.snakemake(f"dl={SECOND}").bad(
        f"chunk 00001 of downlink {FIRST}", "APID 956", "2024-06-28 02:29:", "merge.without_context"
    )
    assert not (site.work / f"dl={SECOND}").exists()
    assert not (site.stage / SECOND).exists()
    assert none_came_back(gone)
    # Nothing was recorded, so with the level-0 back the same command gives what it always gives.
    level0.with_name("away").rename(level0)
    ended = site.process(SECOND)
    assert ended.jobs == {Job("deliver_run", SECOND, RUN), Job("receipt", SECOND)}
    check(site, case.steps[1])
    assert none_came_back(gone)
    assert not (site.work / "runs" / RUN / ".context").exists()
    assert leases(site.work) == []
    # The first downlink has nothing to do with it.
    assert site.outstanding(FIRST, SECOND) == frozenset()
