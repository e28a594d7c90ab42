"""Pictures in the workflow: they are made on request, and change nothing else."""

from halfpipe import paths
from halfpipe.files.json_files import read_json
from tests.support.golden_cases import build
from tests.support.workflow import Job, Site

DL = "240601001"
PICTURES = Job("pictures", DL)


def state(site: Site) -> dict[str, tuple[bytes, int]]:
    """Return the receipt and its copy, with their times."""
    names = [paths.receipt(DL), f"{paths.receipts(DL)}/000001.json"]
    return {name: ((site.work / name).read_bytes(), (site.work / name).stat().st_mtime_ns) for name in names}


def test_pictures_are_made_after_the_receipt_and_leave_it_alone(site: Site) -> None:
    build("gap_one", site)
    assert PICTURES not in site.process(DL).jobs, "not by default"
    before = state(site)
    assert site.snakemake(f"pictures={DL}").good().jobs == {PICTURES}
    assert state(site) == before
    assert site.outstanding(DL) == frozenset()
    made = read_json(site.work / paths.drawn(DL))
    assert made == {"downlink": DL, "handoff": 1, "pictures": ["run-2c2e5787.svg"]}
    home = site.work / paths.pictures(DL)
    assert sorted(path.name for path in home.glob("[!.]*")) == made["pictures"]
    assert site.snakemake("-n", f"pictures={DL}").good().jobs == frozenset()

    # Lost pictures make only themselves outstanding. After another hand-off they are drawn again.
    (site.work / paths.drawn(DL)).unlink()
    assert site.outstanding(DL) == frozenset()
    assert site.snakemake("-n", f"pictures={DL}").good().jobs == {PICTURES}
    again = site.snakemake("-n", f"pictures={DL}", "-R", "deliver_run").good().jobs
    assert {job.rule for job in again} == {"deliver_run", "receipt", "pictures"}
