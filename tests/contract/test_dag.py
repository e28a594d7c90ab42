"""What is outstanding: the jobs that a dry run lists, as sets of (rule, dl, run, chunk).

The downlink is put together from two golden cases: chunk 1 is an LCI run, chunks 2 and 3 bring an LPA run with
a hole, and chunk 4, which some tests keep back, fills the hole.
"""

import base64
import os
import shlex
import shutil
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.files.leases import HEAD_VARIABLE
from tests.support import documents
from tests.support.golden_cases import build, take_chunk
from tests.support.leases import held_by_another, leases
from tests.support.workflow import SNAKEMAKE, Job, Site, run

DL, LATER, LAST = "240601001", "240601002", "240602001"
LCI, LPA = "2c2e6cc0", "2c2e5787"
CHUNKS = {LCI: ["00001"], LPA: ["00002", "00003", "00004"]}
PARTS = [
    ("multi3", DL, 3),
    ("gap_one_filled", DL, 1),
    ("gap_one_filled", DL, 2),
    ("gap_one_filled", LATER, 1),
]
RECEIPT = Job("receipt", DL)


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the decoder knows of all four chunks, and their RetDefs."""
    home = tmp_path_factory.mktemp("products")
    (home / DL).mkdir()
    for number, part in enumerate(PARTS, 1):
        take_chunk(*part, home / DL, DL, number)
    return home


def put_together(home: Path, products: Path) -> Site:
    """Return a site whose search path holds the first three RetDefs of `DL`; its decoder knows all four."""
    site = Site(home)
    site.replay(products)
    site.configure(merge={"min_events": 1})
    site.add_retdefs(products, DL)
    retdef(site, "00004").unlink()
    return site


def retdef(site: Site, chunk: str) -> Path:
    """Return the place of a RetDef of `DL` on the search path."""
    return site.retdefs / DL / f"RetDef-{DL}-{chunk}.xml"


def jobs_of(chunks: list[str], runs: list[str]) -> set[Job]:
    """Return the jobs that make `chunks` and `runs` of `DL`, and its receipt."""
    per_chunk = {Job("decode_chunk", DL, chunk=chunk) for chunk in chunks}
    per_run = {Job("deliver_run", DL, run) for run in runs}
    return per_chunk | per_run | {RECEIPT}


@pytest.fixture(scope="module")
def three(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that has processed the first three chunks: never changed, only copied."""
    site = put_together(tmp_path_factory.mktemp("three"), products)
    site.process(DL)
    return site


@pytest.fixture
def done(three: Site, tmp_path: Path) -> Site:
    """A site of the test's own that has processed the first three chunks."""
    return three.clone(tmp_path)


def test_a_dry_run_lists_exactly_what_then_runs(products: Path, tmp_path: Path) -> None:
    site = put_together(tmp_path, products)
    everything = jobs_of(["00001", "00002", "00003"], [LCI, LPA])
    assert site.outstanding(DL) == everything
    assert not (site.work / DL).exists()  # a dry run makes nothing
    assert leases(site.work) == []
    processed = site.process(DL)
    assert processed.jobs == everything
    assert processed.listed == [], "a line for each job is the default,"
    assert len(processed.said.splitlines()) < len(everything) + 30
    left = sorted(path.name for path in (site.work / paths.job_logs(DL)).iterdir())
    assert left == ["done.log", "receipt.log", "usage.jsonl"]
    assert list((site.work / ".snakemake" / "metadata").iterdir()) == [], "nothing goes by them"
    assert (site.work / paths.done_log(DL)).read_text().count(" --log logs/") == len(everything)
    assert site.outstanding(DL) == frozenset()
    again = site.process(DL)
    assert again.jobs == frozenset()
    assert "Nothing to be done" in again.said
    assert leases(site.work) == []
    assert [path for path in site.work.rglob(".*") if path.suffix == ".part"] == []
    # The kept receipt is the receipt, and nothing else of the earlier one is left.
    assert (site.work / paths.receipt(DL)).read_bytes() == (
        site.work / paths.receipts(DL) / "000001.json"
    ).read_bytes()
    assert len(site.snakemake(f"dl={DL}", "-F", "--printshellcmds").listed) == len(everything), (
        "more is there"
    )


def one_file_taken(site: Site) -> None:
    next(iter(site.stage.glob(f"{DL}/*/*.evt"))).unlink()


def retdefs_copied_again(site: Site) -> None:
    for path in site.retdefs.glob("*/*.xml"):
        os.utime(path)


def source_elsewhere(site: Site) -> None:
    site.retdefs = site.retdefs.rename(site.home / "elsewhere")
    site.configure(paths={"retdef": [str(site.retdefs)]})


def source_gone(site: Site) -> None:
    shutil.rmtree(site.retdefs / DL)


def policy_changed(site: Site) -> None:
    site.configure(merge={"max_events": 10, "min_events": 3}, moot={"file": str(site.configfile)})
    site.configure(decoder={"command": "another-decoder"}, magic7={"command": "another-magic7"})


def head_killed_after_its_jobs(site: Site) -> None:
    """Its marks say that they have begun; somebody has gone on by hand, and Level-1 has taken the hand-off."""
    for path in (*site.work.glob(f"{DL}/**/*.*"), *site.work.glob(f"runs/*/{DL}/*.json")):
        name = base64.urlsafe_b64encode(str(path.relative_to(site.work)).encode()).decode()
        (site.work / ".snakemake" / "incomplete" / name).write_text('{"external_jobid": null}')
    site.take(DL)
    policy = ["--workflow-profile", "none", "--rerun-triggers", "mtime", "--rerun-incomplete"]
    assert Job("deliver_run", DL, LPA) in site.snakemake("-n", f"dl={DL}", *policy).good().jobs


def test_finished_work_stays_finished(done: Site) -> None:
    for happens in (
        one_file_taken,
        retdefs_copied_again,
        source_elsewhere,
        policy_changed,
        lambda site: site.take(DL),
        source_gone,
    ):
        happens(done)
        assert done.outstanding(DL) == frozenset(), happens


def test_a_head_that_was_killed_after_its_jobs_leaves_nothing_outstanding(done: Site) -> None:
    head_killed_after_its_jobs(done)
    assert done.outstanding(DL) == frozenset()


@pytest.mark.workflow
def test_an_edited_project_makes_nothing_outstanding(done: Site, tmp_path: Path) -> None:
    project = documents.project(tmp_path / "project")
    for path in [*project.glob("scripts/*.py"), *project.glob("workflow/rules/*.smk")]:
        text = path.read_text().replace(" --log {log}", " --log {log} --new-option")
        path.write_text(text + "\n# edited\n")
    ended = run([str(SNAKEMAKE), "-c2", "-n", f"dl={DL}", "--configfile", str(done.configfile)], cwd=project)
    assert ended.good().jobs == frozenset()


@pytest.mark.parametrize("taken", [False, True], ids=["stage-there", "stage-taken"])
def test_a_lost_receipt_alone_is_outstanding_and_comes_back_the_same(taken: bool, done: Site) -> None:
    if taken:
        done.take(DL)
    before = done.tree()
    if not taken:
        (done.stage / DL / f"delivered_events_{DL}.txt").unlink()
        (done.stage / DL / f"event_gaps_{DL}.txt").write_text("torn")
    (done.work / paths.receipt(DL)).unlink()
    assert done.outstanding(DL) == {RECEIPT}
    assert done.process(DL).jobs == {RECEIPT}
    assert done.tree() == before
    assert (done.stage / DL).exists() is not taken
    assert done.receipt(DL)["handoff"] == 1
    assert done.outstanding(DL) == frozenset()


def test_a_failed_job_takes_nothing_away_that_another_head_has_made(done: Site) -> None:
    """Its head stood still, and another one has handed the downlink off, which Level-1 has taken."""
    made, kept = [paths.receipt(DL), *(paths.manifest(run, DL) for run in CHUNKS)], done.home / "kept"
    for name in made:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(done.work / name, kept / name)
    done.take(DL)
    for path in done.work.glob(f"{DL}/chunks/*.evt"):  # cleaned up
        path.unlink()
    # What a merge calls to decode them, while it runs; then the merge fails.
    other = f"cp -a {kept}/. {done.work} && touch {done.home}/done && exit 1"
    done.configure(decoder={"command": shlex.join(["sh", "-c", other])})
    assert done.snakemake(f"dl={DL}", "-R", "deliver_run").status != 0
    assert (done.home / "done").exists()
    assert [name for name in made if not (done.work / name).exists()] == []
    assert done.outstanding(DL) == frozenset()


@pytest.mark.workflow
def test_a_job_of_slurm_that_starts_after_its_head_was_followed_removes_nothing(done: Site) -> None:
    """It reads the workflow anew; another head has handed the downlink off, and Level-1 has taken that."""
    done.take(DL)
    before = done.tree()
    words = ["--mode", "subprocess", "--executor", "local", "--force", "--directory", str(done.work)]
    job = ["--target-jobs", f"deliver_run:dl={DL},run={LPA}", "--allowed-rules", "deliver_run"]
    env = {
        "HALFPIPE_SETTINGS": str(next(done.work.glob(paths.settings("*")))),
        HEAD_VARIABLE: "host-1-of-one-gone",
    }
    assert run(done.command(*words, *job), env).status != 0
    assert done.tree() == before


@pytest.mark.parametrize("taken", [False, True], ids=["stage-there", "stage-taken"])
def test_a_late_retdef_makes_its_chunk_its_run_and_the_receipt_outstanding(
    taken: bool, products: Path, done: Site
) -> None:
    first, first_receipt = done.staged(DL), (done.work / paths.receipt(DL)).read_bytes()
    of_lpa = {name for name in first if name.startswith("r0741234567/")}
    assert 0 < len(of_lpa) < len(first)
    if taken:
        done.take(DL)
    done.add_retdefs(products, DL)
    expected = jobs_of(["00004"], [LPA])
    assert done.snakemake("-n").good().jobs == expected  # it is outstanding for all
    assert done.process(DL).jobs == expected
    assert done.outstanding(DL) == frozenset()
    receipt, second = done.receipt(DL), done.staged(DL)
    assert receipt["handoff"] == 2
    assert (done.work / paths.receipts(DL) / "000001.json").read_bytes() == first_receipt
    # The run is there whole: what was delivered before in the same files, and what filled the hole.
    now = {name for name in second if name.startswith("r0741234567/")}
    assert of_lpa < now
    assert {name: second[name] for name in of_lpa} == {name: first[name] for name in of_lpa}
    assert {name for name in second if name not in now} == (set() if taken else set(first) - of_lpa)
    lines = [line.split()[0] for line in done.text("delivered_events", DL)]
    assert lines == (["r0741234567"] if taken else ["r0741234567", "r0741240000"])
    assert "r0741234567 130 0 LPA" in done.text("delivered_events", DL)
    assert "r0741234567 COMPLETE" in done.text("retired_runs", DL)
    named = {run["run"]: run["named"] for run in receipt["runs"]}
    assert named == {LPA: True, LCI: not taken}
    # A receipt that is made again keeps its number and what it names.
    before = done.tree()
    (done.work / paths.receipt(DL)).unlink()
    assert done.process(DL).jobs == {RECEIPT}
    assert done.tree() == before


def test_a_reissued_retdef_is_reported_and_counts_when_asked_for(done: Site) -> None:
    staged, source = done.work / paths.retdef(DL, "00002"), retdef(done, "00002")
    original = staged.read_bytes()
    new = original.replace(b"<retdef ", b"<!-- again -->\n<retdef ")
    source.write_bytes(new)
    told = done.process(DL)
    assert told.jobs == frozenset()
    assert f"-F dl={DL}" in told.said
    assert staged.read_bytes() == original
    everything = jobs_of(["00001", "00002", "00003"], [LCI, LPA])
    assert done.process(DL, again=True).jobs == everything
    assert staged.read_bytes() == new
    assert done.receipt(DL)["handoff"] == 2
    # A bad one does not replace what is staged, and there is no receipt over what failed.
    source.write_bytes(new[:-20])
    done.snakemake(f"dl={DL}", "-F").bad(f"{source}: ")
    assert staged.read_bytes() == new
    assert not (done.work / paths.receipt(DL)).exists()
    # Nor is a staged one lost where the source is gone.
    shutil.rmtree(done.retdefs / DL)
    files = done.staged(DL)
    done.process(DL, again=True)
    assert staged.read_bytes() == new
    assert done.staged(DL) == files
    assert done.outstanding(DL) == frozenset()


def test_a_late_retdef_is_outstanding_for_every_target(products: Path, done: Site) -> None:
    """The receipt names the chunks that it was made of."""
    done.add_retdefs(products, DL)
    expected = jobs_of(["00004"], [LPA])
    assert done.outstanding(DL) == expected
    assert done.snakemake("-n", f"submit={DL}").good().jobs == {
        *expected,
        Job("ledger", DL),
        Job("submit", DL),
    }
    assert done.snakemake().good().jobs == expected
    assert done.receipt(DL)["handoff"] == 2
    assert done.snakemake("-n").good().jobs == frozenset()


def test_a_chunk_that_is_ignored_makes_its_run_and_the_receipt_outstanding(done: Site) -> None:
    done.configure(ignore={"chunks": [{"dl": DL, "chunk": "00003", "reason": "test"}]})
    assert done.outstanding(DL) == {RECEIPT, Job("deliver_run", DL, LPA)}


def test_a_late_retdef_concerns_its_own_downlink_alone(site: Site) -> None:
    build("split2", site)
    second = retdef(site, "00002").rename(site.home / "later.xml")
    site.process(DL, LATER)
    assert site.outstanding(DL, LATER) == frozenset()
    second.rename(retdef(site, "00002"))
    assert site.outstanding(DL, LATER) == jobs_of(["00002"], [LPA])
    # Decoded already, as by a job that a crash cut off from its followers.
    site.snakemake(paths.chunk(DL, "00002")).good()
    assert site.snakemake().good().jobs == {RECEIPT, Job("deliver_run", DL, LPA)}
    assert site.outstanding(DL, LATER) == frozenset()


def downlinks_of(jobs: frozenset[Job]) -> set[str]:
    """Return the downlinks that have jobs."""
    return {job.dl for job in jobs}


def test_several_downlinks_in_one_invocation(site: Site) -> None:
    build("split2", site)
    per_downlink = {
        dl: {job._replace(dl=dl) for job in jobs_of(["00001", "00002"], [LPA])} for dl in (DL, LATER)
    }
    assert site.snakemake("-n").good().jobs == per_downlink[DL] | per_downlink[LATER]
    # No edge leads from one downlink to another.
    site.process(DL)
    assert site.outstanding(DL, LATER) == per_downlink[LATER]
    with held_by_another(site.work, paths.downlink_lease(LATER)):
        assert site.snakemake("-n").good().jobs == frozenset(), "what another process has is left out"
    assert site.snakemake().good().jobs == per_downlink[LATER]
    assert site.snakemake().good().jobs == frozenset()


def test_downlinks_named_in_the_config(site: Site) -> None:
    build("split2", site)
    assert downlinks_of(site.snakemake("-n", "--config", f"dl={LATER}").good().jobs) == {LATER}
    assert downlinks_of(site.snakemake("-n", "--config", "dl=2024-06-01").good().jobs) == {DL, LATER}
    site.configure(dl=[LATER, f"{DL}..{DL}"])
    assert downlinks_of(site.snakemake("-n").good().jobs) == {DL, LATER}
    # A target that is named wins.
    assert downlinks_of(site.snakemake("-n", f"dl={DL}").good().jobs) == {DL}
    assert site.snakemake("--config", "dl=240701001..240701009").status == 1
    many = [f"2408010{number:02d}" for number in range(20)]
    for words in (many[1:], many):
        said = site.snakemake("-n", "--config", f"dl={','.join(words)}").said
        assert ("halfpipe process 240801000..240801019" in said) == (words == many)
