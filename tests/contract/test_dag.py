"""What is outstanding: the jobs that a dry run lists, as sets of (rule, dl, run, chunk).

The downlink is put together from two golden cases: chunk 1 is an LCI run, chunks 2 and 3 bring an LPA run with
a hole, and chunk 4, which some tests keep back, fills the hole.
"""

import base64
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from snakemake.scheduling.job_scheduler import JobScheduler

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.decode.chunk import read_chunk
from halfpipe.files.json_files import read_json, seal_of
from halfpipe.files.leases import HEAD_VARIABLE
from halfpipe.files.typed import write_stored
from tests.support import documents
from tests.support.golden_cases import build, take_chunk
from tests.support.leases import held_by_another, leases
from tests.support.workflow import LONG_AGO, SNAKEMAKE, Job, Site, run

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
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose search path holds the first three RetDefs of `DL`; its decoder knows all four. Tests copy it."""
    site = Site(tmp_path_factory.mktemp("fresh"))
    for number, part in enumerate(PARTS, 1):
        take_chunk(*part, site.home / "in" / DL, DL, number)
    site.replay(site.home / "in", DL)
    site.configure(merge={"min_events": 1})
    retdef(site, "00004").unlink()
    return site


def retdef(site: Site, chunk: str) -> Path:
    return site.retdefs / DL / f"RetDef-{DL}-{chunk}.xml"


def jobs_of(chunks: list[str], runs: list[str]) -> set[Job]:
    """Return the jobs that make `chunks` and `runs` of `DL`, and its receipt."""
    per_chunk = {Job("decode_chunk", DL, chunk=chunk) for chunk in chunks}
    per_run = {Job("deliver_run", DL, run) for run in runs}
    return per_chunk | per_run | {RECEIPT}


@pytest.fixture(scope="module")
def three(fresh: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that has processed the first three chunks. Tests copy it and do not change it."""
    site = fresh.clone(tmp_path_factory.mktemp("three"))
    site.by_hand(DL)
    return site


@pytest.fixture
def done(three: Site, tmp_path: Path) -> Site:
    """A site of the test's own that has processed the first three chunks."""
    return three.clone(tmp_path)


def test_a_dry_run_lists_exactly_what_then_runs(fresh: Site, tmp_path: Path) -> None:
    site = fresh.clone(tmp_path)
    everything = jobs_of(["00001", "00002", "00003"], [LCI, LPA])
    assert site.outstanding(DL) == everything
    assert not (site.work / DL).exists()  # a dry run makes nothing
    assert leases(site.work) == []
    processed = site.process(DL)
    assert processed.jobs == everything
    assert processed.listed == [], "by default a job is one line"
    assert len(processed.said.splitlines()) < len(everything) + 30
    left = sorted(path.name for path in (site.work / paths.job_logs(DL)).iterdir())
    assert left == ["done.log", "receipt.log", "usage.jsonl"]
    assert list((site.work / ".snakemake" / "metadata").iterdir()) == [], "Snakemake's records are not used"
    assert (site.work / paths.done_log(DL)).read_text().count(" --log logs/") == len(everything)
    assert site.outstanding(DL) == frozenset()
    again = site.process(DL)
    assert again.jobs == frozenset()
    assert "Nothing to be done" in again.said
    assert leases(site.work) == []
    assert [path for path in site.work.rglob(".*") if path.suffix == ".part"] == []
    kept = site.work / paths.receipts(DL) / "000001.json"
    assert site.receipt(DL).seal == seal_of(kept.read_bytes())
    assert len(site.snakemake(f"dl={DL}", "-F", "--printshellcmds").listed) == len(everything)


def changes(site: Site) -> Iterator[str]:
    """Change what is around the products; yield what was changed."""
    next(iter(site.stage.glob(f"{DL}/*/*.evt"))).unlink()
    yield "Level-1 has taken one file"
    for path in site.retdefs.glob("*/*.xml"):
        os.utime(path)
    yield "RetDefs were copied again"
    site.retdefs = site.retdefs.rename(site.home / "elsewhere")
    site.configure(paths={"retdef": [str(site.retdefs)]})
    yield "RetDefs have moved"
    site.configure(merge={"max_events": 10, "min_events": 3}, moot={"file": str(site.configfile)})
    site.configure(decoder={"command": "another-decoder"}, magic7={"command": "another-magic7"})
    yield "the policy has changed"
    site.abandon(LPA)
    yield "a run was abandoned"
    site.take(DL)
    yield "Level-1 has taken everything"
    shutil.rmtree(site.retdefs / DL)
    yield "the RetDefs are gone"


def test_finished_work_stays_finished(done: Site) -> None:
    for change in changes(done):
        assert done.outstanding(DL) == frozenset(), change


def test_a_head_that_was_killed_after_its_jobs_leaves_nothing_outstanding(done: Site) -> None:
    """Its marks remain. Another command finished the downlink, and Level-1 took the hand-off."""
    for path in (*done.work.glob(f"{DL}/**/*.*"), *done.work.glob(f"runs/*/{DL}/*.json")):
        name = base64.urlsafe_b64encode(str(path.relative_to(done.work)).encode()).decode()
        (done.work / ".snakemake" / "incomplete" / name).write_text('{"external_jobid": null}')
    done.take(DL)
    policy = ["--workflow-profile", "none", "--rerun-triggers", "mtime", "--rerun-incomplete"]
    assert Job("deliver_run", DL, LPA) in done.snakemake("-n", f"dl={DL}", *policy).good().jobs
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
    assert done.receipt(DL).number == 1
    assert done.outstanding(DL) == frozenset()


def test_a_failed_job_removes_nothing_that_another_head_has_made(done: Site) -> None:
    """The head stood still. Meanwhile another one handed the downlink off, and Level-1 took it."""
    made, kept = [paths.receipt(DL), *(paths.manifest(run, DL) for run in CHUNKS)], done.home / "kept"
    for name in made:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(done.work / name, kept / name)
    done.take(DL)
    for path in done.work.glob(f"{DL}/chunks/*.evt"):  # cleaned up
        path.unlink()
    # The merge calls this to decode the chunks, and fails after it.
    other = f"cp -a {kept}/. {done.work} && touch {done.home}/done && exit 1"
    done.configure(decoder={"command": shlex.join(["sh", "-c", other])})
    assert done.snakemake(f"dl={DL}", "-R", "deliver_run").status != 0
    assert (done.home / "done").exists()
    assert [name for name in made if not (done.work / name).exists()] == []
    assert done.outstanding(DL) == frozenset()


@pytest.mark.workflow
def test_a_late_job_of_slurm_removes_nothing_that_another_head_has_made(done: Site) -> None:
    """The job reads the workflow again. Meanwhile another head handed the downlink off, and Level-1 took it."""
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
def test_a_late_retdef_makes_its_chunk_its_run_and_the_receipt_outstanding(taken: bool, done: Site) -> None:
    first = done.staged(DL)
    first_receipt = (done.work / paths.receipts(DL) / "000001.json").read_bytes()
    of_lpa = {name for name in first if name.startswith("r0741234567/")}
    assert 0 < len(of_lpa) < len(first)
    if taken:
        done.take(DL)
    done.add_retdefs(done.home / "in", DL)
    expected = jobs_of(["00004"], [LPA])
    assert done.outstanding(DL) == done.snakemake("-n").good().jobs == expected
    with_submission = done.snakemake("-n", f"submit={DL}").good().jobs
    assert with_submission == {*expected, Job("ledger", DL), Job("submit", DL)}
    assert done.snakemake().good().jobs == expected
    assert done.outstanding(DL) == frozenset()
    receipt, second = done.receipt(DL), done.staged(DL)
    assert receipt.number == 2
    assert (done.work / paths.receipts(DL) / "000001.json").read_bytes() == first_receipt
    # The run is complete: the same files as before, and those with the events that were missing.
    now = {name for name in second if name.startswith("r0741234567/")}
    assert of_lpa < now
    assert {name: second[name] for name in of_lpa} == {name: first[name] for name in of_lpa}
    assert {name for name in second if name not in now} == (set() if taken else set(first) - of_lpa)
    lines = [line.split()[0] for line in done.text("delivered_events", DL)]
    assert lines == (["r0741234567"] if taken else ["r0741234567", "r0741240000"])
    assert "r0741234567 130 0 LPA" in done.text("delivered_events", DL)
    assert "r0741234567 COMPLETE" in done.text("retired_runs", DL)
    named = {run.run: run.named for run in receipt.runs}
    assert named == {LPA: True, LCI: not taken}
    # A receipt that is made again keeps its number and its content, and restores a text with the runs that it names.
    before = done.tree()
    (done.work / paths.receipt(DL)).unlink()
    (done.stage / DL / f"delivered_events_{DL}.txt").unlink()
    assert done.process(DL).jobs == {RECEIPT}
    assert done.tree() == before


def test_a_reissued_retdef_is_reported_and_used_on_request(done: Site) -> None:
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
    assert done.receipt(DL).number == 2
    # A bad RetDef does not replace the staged one, and the receipt is withdrawn.
    source.write_bytes(new[:-20])
    done.snakemake(f"dl={DL}", "-F").bad(f"{source}: ")
    assert staged.read_bytes() == new
    assert not (done.work / paths.receipt(DL)).exists()
    # The staged RetDef stays where the source is gone.
    shutil.rmtree(done.retdefs / DL)
    files = done.staged(DL)
    done.process(DL, again=True)
    assert staged.read_bytes() == new
    assert done.staged(DL) == files
    assert done.outstanding(DL) == frozenset()


def test_a_chunk_that_was_decoded_alone_is_merged_again_whatever_its_time(done: Site) -> None:
    chunk = paths.chunk(DL, "00003")
    done.snakemake(f"dl={DL}", "-R", chunk, "--until", "decode_chunk").good()
    os.utime(done.work / chunk, (LONG_AGO, LONG_AGO))
    assert done.outstanding(DL) == {RECEIPT}, "its products are the same"
    product = read_chunk(done.work, DL, "00003")
    write_stored(done.work / chunk, replace(product, files=product.files[:-1]))
    os.utime(done.work / chunk, (LONG_AGO, LONG_AGO))
    assert done.outstanding(DL) == {Job("deliver_run", DL, LPA), RECEIPT}


def test_a_chunk_that_is_ignored_makes_its_run_and_the_receipt_outstanding(done: Site) -> None:
    done.decide(f"{DL}/00003", What.LEFT_OUT)
    assert done.outstanding(DL) == {RECEIPT, Job("deliver_run", DL, LPA)}


def test_several_downlinks_in_one_command_and_a_late_retdef_of_one(site: Site) -> None:
    build("split2", site)
    late = retdef(site, "00002").rename(site.home / "later.xml")
    first, both = jobs_of(["00001"], [LPA]), jobs_of(["00001", "00002"], [LPA])
    second = {job._replace(dl=LATER) for job in both}
    assert site.snakemake("-n").good().jobs == first | second
    site.process(DL)
    assert site.outstanding(DL, LATER) == second, "no edge leads from one downlink to another"
    with held_by_another(site.work, paths.downlink_lease(LATER)):
        assert site.snakemake("-n").good().jobs == frozenset(), "a downlink in progress is left out"
    assert site.snakemake().good().jobs == second
    assert site.snakemake().good().jobs == frozenset()
    late.rename(retdef(site, "00002"))
    assert site.outstanding(DL, LATER) == jobs_of(["00002"], [LPA])
    # Decoded already, as by a job that a crash cut off from its followers.
    site.snakemake(paths.chunk(DL, "00002")).good()
    assert site.snakemake().good().jobs == {RECEIPT, Job("deliver_run", DL, LPA)}
    assert site.outstanding(DL, LATER) == frozenset()


def test_a_command_starts_no_timers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for the last one, up to a second."""
    build("split2", site)
    started = list[int]()
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", lambda _, seconds: started.append(seconds))
    site.process(DL)
    assert started == []
    site.snakemake(f"dl={DL}", "-F", "--no-hooks").good()
    assert started != [], "otherwise `start_no_timers` is not needed"


def test_downlinks_named_in_the_config(site: Site) -> None:
    build("split2", site)

    def named(*words: str) -> set[str]:
        return {job.dl for job in site.snakemake("-n", *words).good().jobs}

    assert named("--config", f"dl={LATER}") == {LATER}
    assert named("--config", "dl=2024-06-01") == {DL, LATER}
    site.configure(dl=[LATER, f"{DL}..{DL}"])
    assert named() == {DL, LATER}
    assert named(f"dl={DL}") == {DL}, "a target goes before the config"
    assert site.snakemake("--config", "dl=240701001..240701009").status == 1
    many = [f"2408010{number:02d}" for number in range(20)]
    for words in (many[1:], many):
        said = site.snakemake("-n", "--config", f"dl={','.join(words)}").said
        assert ("halfpipe process 240801000..240801019" in said) == (words == many)


def test_pictures_are_made_after_the_receipt_and_leave_it_alone(done: Site) -> None:
    pictures, receipts = Job("pictures", DL), (paths.receipt(DL), f"{paths.receipts(DL)}/000001.json")

    def state() -> list[tuple[bytes, int]]:
        return [((done.work / name).read_bytes(), (done.work / name).stat().st_mtime_ns) for name in receipts]

    before = state()
    assert done.snakemake(f"pictures={DL}").good().jobs == {pictures}
    assert state() == before
    assert done.outstanding(DL) == frozenset()
    made = read_json(done.work / paths.drawn(DL))
    assert made == {"downlink": DL, "handoff": 1, "pictures": [f"run-{run}.svg" for run in (LPA, LCI)]}
    drawn = (done.work / paths.pictures(DL)).glob("[!.]*")
    assert sorted(path.name for path in drawn) == made["pictures"]
    assert done.snakemake("-n", f"pictures={DL}").good().jobs == frozenset()

    # Lost pictures make only themselves outstanding. After another hand-off they are drawn again.
    (done.work / paths.drawn(DL)).unlink()
    assert done.outstanding(DL) == frozenset()
    assert done.snakemake("-n", f"pictures={DL}").good().jobs == {pictures}
    again = done.snakemake("-n", f"pictures={DL}", "-R", "deliver_run").good().jobs
    assert {job.rule for job in again} == {"deliver_run", "receipt", "pictures"}
