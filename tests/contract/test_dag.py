"""What is outstanding: the jobs that a dry run lists, as sets of (rule, dl, run, chunk).

The downlink is put together from two golden cases: chunk 1 is an LCI run, chunks 2 and 3 bring an LPA run with
a hole, and chunk 4, which some tests keep back, fills the hole.
"""

import base64
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from snakemake.scheduling.job_scheduler import JobScheduler

from halfpipe import paths
from halfpipe.files.leases import HEAD_VARIABLE
from halfpipe.ids import DownlinkId
from halfpipe.status.checks import check
from tests.support.golden_cases import GOLDEN, take_chunk
from tests.support.harness import path_of
from tests.support.in_process import ROOT
from tests.support.leases import held_by_another, leases
from tests.support.workflow import SNAKEMAKE, Job, Site, run

pytestmark = pytest.mark.either

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
    per_chunk = {Job(rule, DL, chunk=chunk) for rule in ("stage_retdef", "decode_chunk") for chunk in chunks}
    per_run = {Job("deliver_run", DL, run) for run in runs}
    return per_chunk | per_run | {RECEIPT}


def take_stage(site: Site) -> None:
    """Take a hand-off as Level-1 does: the event files one by one, then everything."""
    for path in site.stage.glob(f"{DL}/*/*.evt"):
        path.unlink()
    shutil.rmtree(site.stage / DL)


@pytest.fixture(scope="module")
def three(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that has processed the first three chunks: never changed, only copied."""
    site = put_together(tmp_path_factory.mktemp("three"), products)
    site.process(DL)
    return site


@pytest.fixture(scope="module")
def four(three: Site, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that was given the fourth RetDef after its receipt: never changed, only copied."""
    site = three.clone(tmp_path_factory.mktemp("four"))
    site.add_retdefs(products, DL)
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
    assert site.process(DL).jobs == everything
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


def one_file_taken(site: Site) -> None:
    next(iter(site.stage.glob(f"{DL}/*/*.evt"))).unlink()


def retdefs_copied_again(site: Site) -> None:
    for path in site.retdefs.glob("*/*.xml"):
        os.utime(path)


def source_gone(site: Site) -> None:
    shutil.rmtree(site.retdefs / DL)


def source_elsewhere(site: Site) -> None:
    site.retdefs.rename(site.home / "elsewhere")
    site.configure(paths={"retdef": [str(site.home / "elsewhere")]})


def policy_changed(site: Site) -> None:
    site.configure(merge={"max_events": 10, "min_events": 3}, moot={"file": str(site.configfile)})
    site.configure(decoder={"command": "another-decoder"}, magic7={"command": "another-magic7"})


def head_killed_after_its_jobs(site: Site) -> None:
    """Its marks say that they have begun; somebody has gone on by hand, and Level-1 has taken the hand-off."""
    for path in (*site.work.glob(f"{DL}/**/*.*"), *site.work.glob(f"runs/*/{DL}/*.json")):
        name = base64.urlsafe_b64encode(str(path.relative_to(site.work)).encode()).decode()
        (site.work / ".snakemake" / "incomplete" / name).write_text('{"external_jobid": null}')
    take_stage(site)
    policy = ["--workflow-profile", "none", "--rerun-triggers", "mtime", "input", "--rerun-incomplete"]
    assert Job("deliver_run", DL, LPA) in site.snakemake("-n", f"dl={DL}", *policy).good().jobs


@pytest.mark.parametrize(
    "happens",
    [
        one_file_taken,
        take_stage,
        retdefs_copied_again,
        source_gone,
        source_elsewhere,
        policy_changed,
        head_killed_after_its_jobs,
    ],
)
def test_finished_work_stays_finished(happens: Callable[[Site], None], done: Site) -> None:
    happens(done)
    assert done.outstanding(DL) == frozenset()


@contextmanager
def touched(*patterns: str) -> Iterator[int]:
    """Give files of the project new times, and the old ones back."""
    times = {path: path.stat() for pattern in patterns for path in ROOT.glob(pattern)}
    try:
        for path in times:
            os.utime(path)
        yield len(times)
    finally:
        for path, stat in times.items():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_new_times_of_the_code_make_nothing_outstanding(done: Site) -> None:
    with touched("scripts/*.py", "src/halfpipe/**/*.py", "workflow/**/*.smk", "Snakefile") as number:
        assert number > 30
        assert done.outstanding(DL) == frozenset()


def test_an_edited_project_makes_nothing_outstanding(done: Site, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("workflow", "scripts", "config", "profiles", "envs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", project)
    for path in [*project.glob("scripts/*.py"), *project.glob("workflow/rules/*.smk")]:
        text = path.read_text().replace(" --log {log}", " --log {log} --new-option")
        path.write_text(text + "\n# edited\n")
    ended = run([str(SNAKEMAKE), "-c2", "-n", f"dl={DL}", "--configfile", str(done.configfile)], cwd=project)
    assert ended.good().jobs == frozenset()


@pytest.mark.parametrize("taken", [False, True], ids=["stage-there", "stage-taken"])
def test_a_lost_receipt_alone_is_outstanding_and_comes_back_the_same(taken: bool, done: Site) -> None:
    before = done.tree()
    if taken:
        take_stage(done)
        before = done.tree()
    (done.work / paths.receipt(DL)).unlink()
    assert done.outstanding(DL) == {RECEIPT}
    assert done.process(DL).jobs == {RECEIPT}
    assert done.tree() == before
    assert (done.stage / DL).exists() is not taken
    assert done.receipt(DL)["handoff"] == 1
    assert done.outstanding(DL) == frozenset()


def test_a_receipt_made_again_mends_the_texts(done: Site) -> None:
    before = done.tree()
    (done.stage / DL / f"delivered_events_{DL}.txt").unlink()
    (done.stage / DL / f"event_gaps_{DL}.txt").write_text("torn")
    (done.work / paths.receipt(DL)).unlink()
    done.process(DL)
    assert done.tree() == before


def test_a_failed_job_takes_nothing_away_that_another_head_has_made(done: Site) -> None:
    """Its head stood still, and another one has handed the downlink off, which Level-1 has taken."""
    made, kept = [paths.receipt(DL), *(paths.manifest(run, DL) for run in CHUNKS)], done.home / "kept"
    for name in made:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(done.work / name, kept / name)
    take_stage(done)
    for path in done.work.glob(f"{DL}/chunks/*.evt"):  # cleaned up
        path.unlink()
    # What a merge calls to decode them, while it runs; then the merge fails.
    other = f"cp -a {kept}/. {done.work} && touch {done.home}/done && exit 1"
    done.configure(decoder={"command": shlex.join(["sh", "-c", other])})
    assert done.snakemake(f"dl={DL}", "-R", "deliver_run").status != 0
    assert (done.home / "done").exists()
    assert [name for name in made if not (done.work / name).exists()] == []
    assert done.outstanding(DL) == frozenset()


@pytest.mark.parametrize(("rule", "of"), [("decode_chunk", "chunk=00002"), ("deliver_run", f"run={LPA}")])
def test_a_job_of_slurm_that_starts_after_its_head_was_followed_removes_nothing(
    rule: str, of: str, done: Site
) -> None:
    """It reads the workflow anew; another head has handed the downlink off, and Level-1 has taken that."""
    take_stage(done)
    before = done.tree()
    words = ["--mode", "subprocess", "--executor", "local", "--force", "--directory", str(done.work)]
    job = ["--target-jobs", f"{rule}:dl={DL},{of}", "--allowed-rules", rule]
    env = {
        "HALFPIPE_SETTINGS": str(next(done.work.glob(paths.settings("*")))),
        HEAD_VARIABLE: "host-1-of-one-gone",
    }
    assert run(done.command(*words, *job), env).status != 0
    assert done.tree() == before


def findings(site: Site) -> list[tuple[str, Path]]:
    """Return the codes and the files of what `check` finds; what is missing has one code."""
    missing = {"receipt-missing", "stage-partly-gone"}
    return [
        ("file-missing" if found.code in missing else found.code, path_of(found))
        for found in check(site.settings, DownlinkId(DL))
    ]


def test_check_names_every_missing_file_and_every_damaged_one(four: Site, tmp_path: Path) -> None:
    site = four.clone(tmp_path)
    assert findings(site) == []
    # Level-1 removes the tokens of a chunk when it has it, so their absence says nothing.
    every = [site.home / name for name in site.tree() if not name.startswith("stage/chunktokens/")]
    records = [path for path in every if path.parent.name in {"deliveries", "receipts"}]
    vouched = [path for path in every if path not in records]
    # Two copies each: of two hand-offs, of two deliveries of the LPA run, and of one of the LCI run.
    assert len(records) == 2 * (2 + 2 + 1)
    for path in records:
        content = path.read_bytes()
        path.unlink()
        assert [what for what, _ in findings(site)] == ["record-mended"], path
        assert path.read_bytes() == content
        path.write_bytes(content[:-9])
        assert [what for what, _ in findings(site)] == ["record-mended"], path
        assert path.read_bytes() == content
    kinds = {re.sub(r"[0-9a-f]{5,}|\d+", "N", path.name) for path in vouched}
    assert kinds == {
        "dl=N", "RetDef-N-N.xml", "N.json", "N.crcN", "N-N-N-N.evt", "N-N-N-N.idx",
        "index.json", "datagrams.idx", "events.npy", "chunks.json", "manifest.json", "rN-N.evt",
        *(f"{text}_N.txt" for text in ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys")),
    }  # fmt: skip
    for path in vouched:
        aside = path.rename(site.home / "aside")
        found = findings(site)
        aside.rename(path)
        assert found == [("file-missing", path)], path
    for path in vouched:
        if path.suffix in {".evt", ".idx", ".xml", ".txt"} and path.name != "datagrams.idx":
            content = path.read_bytes()
            if content:
                path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
                assert findings(site) == [("file-differs", path)], path
                path.write_bytes(content[:-1])
                assert findings(site) == [("file-differs", path)], path
                path.write_bytes(content)
    assert findings(site) == []


def test_check_ends_with_1_where_something_is_missing(done: Site) -> None:
    done.halfpipe("status", "--check", DL).good()
    lost = done.work / paths.chunk(DL, "00002")
    lost.unlink()
    bad = done.halfpipe("status", "--check", f"dl={DL}")
    assert bad.status == 1
    assert f"{DL}: {lost}: missing" in bad.said
    # What a receipt vouches for is nobody's outstanding work.
    assert done.outstanding(DL) == frozenset()
    lost.touch()
    done.halfpipe("submit", DL, "--settle", "submitted").good()
    take_stage(done)
    taken = done.halfpipe("status", "--check", DL)
    assert "Level-1 has taken the hand-off" in taken.said


@pytest.mark.parametrize("taken", [False, True], ids=["stage-there", "stage-taken"])
def test_a_late_retdef_makes_its_chunk_its_run_and_the_receipt_outstanding(
    taken: bool, products: Path, done: Site
) -> None:
    first, first_receipt = done.staged(DL), (done.work / paths.receipt(DL)).read_bytes()
    of_lpa = {name for name in first if name.startswith("r0741234567/")}
    assert 0 < len(of_lpa) < len(first)
    if taken:
        take_stage(done)
    done.add_retdefs(products, DL)
    expected = jobs_of(["00004"], [LPA])
    assert done.outstanding(DL) == expected
    assert done.snakemake("-n").good().jobs == expected  # it is outstanding for all, too
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
    assert findings(done) == []
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
    for said in (done.snakemake("-n", f"dl={DL}").good(), done.process(DL)):
        assert said.jobs == frozenset()
        assert f"downlink {DL}: the RetDef of chunk 00002 was issued again: {source}" in said.said
        assert f"-F dl={DL}" in said.said
    assert staged.read_bytes() == original
    everything = jobs_of(["00001", "00002", "00003"], [LCI, LPA])
    assert done.process(DL, again=True).jobs == everything
    assert staged.read_bytes() == new
    assert done.receipt(DL)["handoff"] == 2
    quiet = done.snakemake("-n", f"dl={DL}").good()
    assert quiet.jobs == frozenset()
    assert "issued again" not in quiet.said
    # A bad one does not replace what is staged, and there is no receipt over what failed.
    source.write_bytes(new[:-20])
    bad = done.snakemake(f"dl={DL}", "-F")
    assert bad.status != 0
    assert f"{source}: not XML" in bad.said
    assert staged.read_bytes() == new
    assert not (done.work / paths.receipt(DL)).exists()
    # Nor is a staged one lost where the source is gone.
    shutil.rmtree(done.retdefs / DL)
    files = done.staged(DL)
    done.process(DL, again=True)
    assert staged.read_bytes() == new
    assert done.staged(DL) == files
    assert done.outstanding(DL) == frozenset()


def prune(site: Site) -> None:
    """Give the command of docs/bookkeeping.md that removes the records nothing depends on."""
    commands = re.findall(r"^    (grep .*)$", (ROOT / "docs" / "bookkeeping.md").read_text(), re.MULTILINE)
    (command,) = commands
    run(["sh", "-c", command], cwd=site.work).good()


def test_a_late_retdef_is_noticed_by_the_records_of_runs_and_receipts(products: Path, done: Site) -> None:
    records = done.work / ".snakemake" / "metadata"
    assert len(list(records.iterdir())) == 3 + 3 + 2 * 2 + 1
    prune(done)
    assert len(list(records.iterdir())) == 2 * 2 + 1
    assert done.outstanding(DL) == frozenset()
    done.add_retdefs(products, DL)
    assert done.outstanding(DL) == jobs_of(["00004"], [LPA])


def records_lost(site: Site) -> None:
    shutil.rmtree(site.work / ".snakemake")


def records_emptied(site: Site) -> None:
    for path in (site.work / ".snakemake" / "metadata").iterdir():
        path.write_bytes(b"")


@pytest.mark.parametrize("happens", [records_lost, records_emptied])
def test_a_late_retdef_is_noticed_without_records(
    happens: Callable[[Site], None], products: Path, done: Site
) -> None:
    """By what the receipt was made of: a crash may leave Snakemake's records empty."""
    happens(done)
    assert done.outstanding(DL) == frozenset()
    assert done.snakemake("-n").good().jobs == frozenset()
    done.add_retdefs(products, DL)
    expected = jobs_of(["00004"], [LPA])
    said = f"downlink {DL}: the RetDef of chunk 00004 has come since it was handed off"
    for target in ((f"dl={DL}",), ()):
        dry = done.snakemake("-n", *target).good()
        assert dry.jobs == expected
        assert said in dry.said
    assert done.snakemake("-n", f"submit={DL}").good().jobs == {
        *expected,
        Job("ledger", DL),
        Job("submit", DL),
    }
    real = done.snakemake().good()
    assert real.jobs == expected
    assert said in real.said
    assert done.receipt(DL)["handoff"] == 2
    assert done.outstanding(DL) == frozenset()
    assert done.snakemake("-n").good().jobs == frozenset()
    happens(done)
    assert done.outstanding(DL) == frozenset()


def test_without_records_a_late_retdef_concerns_its_own_downlink_alone(tmp_path: Path) -> None:
    site = two_downlinks(tmp_path)
    second = retdef(site, "00002").rename(tmp_path / "later.xml")
    site.process(DL, LATER)
    records_lost(site)
    assert site.outstanding(DL, LATER) == frozenset()
    second.rename(retdef(site, "00002"))
    expected = jobs_of(["00002"], [LPA])
    assert site.outstanding(DL, LATER) == expected
    assert site.snakemake("-n").good().jobs == expected
    # Decoded already, as by a job that a crash cut off from its followers.
    site.snakemake(paths.chunk(DL, "00002")).good()
    records_lost(site)
    assert site.outstanding(DL, LATER) == {RECEIPT, Job("deliver_run", DL, LPA)}
    assert site.snakemake().good().jobs == {RECEIPT, Job("deliver_run", DL, LPA)}
    assert site.outstanding(DL, LATER) == frozenset()


def test_a_damaged_receipt_makes_nothing_outstanding(done: Site) -> None:
    receipt = done.work / paths.receipt(DL)
    for content in (b"", b"{", b"[]", b'{"chunks": 1}'):
        receipt.write_bytes(content)
        assert done.outstanding(DL) == frozenset(), content
        assert done.snakemake("-n").good().jobs == frozenset(), content


def two_downlinks(home: Path) -> Site:
    """Return a site whose search path holds two downlinks of one run."""
    site = Site(home)
    site.replay(GOLDEN / "split2" / "in")
    site.add_retdefs(GOLDEN / "split2" / "in", DL, LATER)
    return site


def downlinks_of(jobs: frozenset[Job]) -> set[str]:
    """Return the downlinks that have jobs."""
    return {job.dl for job in jobs}


def test_several_downlinks_in_one_invocation(tmp_path: Path) -> None:
    site = two_downlinks(tmp_path)
    per_downlink = {
        dl: {job._replace(dl=dl) for job in jobs_of(["00001", "00002"], [LPA])} for dl in (DL, LATER)
    }
    listed = site.outstanding(DL, LATER)
    assert listed == per_downlink[DL] | per_downlink[LATER]
    assert site.snakemake("-n").good().jobs == listed
    # No edge leads from one downlink to another.
    site.process(DL)
    assert site.outstanding(DL, LATER) == per_downlink[LATER]
    assert site.snakemake().good().jobs == per_downlink[LATER]
    nothing = site.snakemake().good()
    assert nothing.jobs == frozenset()
    assert f"nothing is outstanding on {site.retdefs}" in nothing.said


def test_downlinks_named_in_the_config(tmp_path: Path) -> None:
    site = two_downlinks(tmp_path)
    assert downlinks_of(site.snakemake("-n", "--config", f"dl={LATER}").good().jobs) == {LATER}
    site.configure(dl=[LATER, DL])
    assert downlinks_of(site.snakemake("-n").good().jobs) == {DL, LATER}
    site.configure(dl=f"{LATER}")
    assert downlinks_of(site.snakemake("-n").good().jobs) == {LATER}
    # A target that is named wins.
    assert downlinks_of(site.snakemake("-n", f"dl={DL}").good().jobs) == {DL}


def test_a_lost_leading_zero_is_refused(tmp_path: Path) -> None:
    site = two_downlinks(tmp_path)
    by_option = site.snakemake("-n", "--config", "dl=077000123")
    assert by_option.status != 0
    site.configfile.write_text(site.configfile.read_text() + "dl: 077000123\n")
    by_yaml = site.snakemake("-n")
    assert by_yaml.status != 0
    assert "16515155" in by_yaml.said
    site.configfile.write_text(site.configfile.read_text().replace("dl: 077000123", 'dl: ["077000123"]'))
    spelt = site.snakemake("-n")
    assert spelt.status == 1
    assert f"downlink 077000123 has no RetDefs; looked in {site.retdefs}/077000123." in spelt.said


def test_all_outstanding_downlinks_but_those_that_are_not_ready(tmp_path: Path) -> None:
    site = two_downlinks(tmp_path)
    young, holey, busy = "240603001", "240603002", "240603003"
    for downlink in (young, holey, busy):
        (site.retdefs / downlink).mkdir()
        for path in (site.retdefs / DL).iterdir():
            shutil.copy2(path, site.retdefs / downlink / path.name.replace(DL, downlink))
    soon = time.time() + 300  # by the clock of a file server
    os.utime(site.retdefs / young / f"RetDef-{young}-00001.xml", (soon, soon))
    (site.retdefs / holey / f"RetDef-{holey}-00001.xml").unlink()
    (site.retdefs / "not-a-downlink").mkdir()
    site.configure(retdef={"settle_seconds": 0.001})
    with held_by_another(site.work, paths.downlink_lease(busy)):
        ended = site.snakemake("-n").good()
    assert downlinks_of(ended.jobs) == {DL, LATER}
    assert f"downlink {young}: waits: its youngest RetDef is younger than 0.001 s" in ended.said
    assert f"downlink {holey}: waits for the RetDef of chunk 00001" in ended.said
    assert re.search(rf"downlink {busy} is in work: .*process 4711 on elsewhere", ended.said)
    # A hole that is there on purpose keeps nobody waiting; a RetDef grows older.
    site.configure(ignore={"chunks": [{"dl": holey, "chunk": "00001", "reason": "the antenna was down"}]})
    old = time.time() - 7200
    os.utime(site.retdefs / young / f"RetDef-{young}-00001.xml", (old, old))
    ready = site.snakemake("-n").good()
    assert downlinks_of(ready.jobs) == {DL, LATER, young, holey, busy}
    assert Job("stage_retdef", holey, chunk="00001") not in ready.jobs
    site.configure(outstanding={"max": 4})
    many = site.snakemake("-n")
    assert many.status != 0
    assert f"5 downlinks are outstanding, {DL} to {busy}: more than outstanding.max (4)" in many.said
    assert f"snakemake dl={DL} dl={LATER}" in many.said


def test_the_default_profile_is_policy_alone() -> None:
    content = yaml.safe_load((ROOT / "profiles" / "default" / "profile.v9+.yaml").read_text())
    assert content == {
        "rerun-triggers": ["mtime", "input"],
        "ignore-incomplete": True,
        "keep-incomplete": True,
        "keep-going": True,
        "nolock": True,
        "scheduler": "greedy",
        "logger": ["halfpipe"],
    }


def test_the_head_starts_no_timers(products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", lambda _, seconds: started.append(seconds))
    monkeypatch.setattr(Site, "typing", False)  # the scheduler of this process is looked at
    site = put_together(tmp_path, products)
    site.process(DL)
    assert started == []
    site.snakemake(f"dl={DL}", "-F", "--no-hooks").good()
    assert len(started) > 1, "else start_no_timers of workflow/head.smk is needed no more"


def test_the_rules_stand_in_the_order_of_the_data(tmp_path: Path) -> None:
    dot = two_downlinks(tmp_path).snakemake(f"dl={DL}", "--rulegraph").good().said
    names = dict(re.findall(r'^\s*(\d+)\s*\[\s*label = "(\w+)"', dot, re.MULTILINE))
    edges = {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE)}
    assert edges == {
        ("stage_retdef", "decode_chunk"),
        ("decode_chunk", "deliver_run"),
        ("deliver_run", "receipt"),
        ("decode_chunk", "receipt"),
    }


@pytest.mark.parametrize(
    "words",
    [["--config", "dl=2024-06-01"], ["--config", f"dl={DL}..{DL}"]],
)
def test_a_range_stands_for_its_downlinks(words: list[str], products: Path, tmp_path: Path) -> None:
    site = put_together(tmp_path, products)
    everything = jobs_of(["00001", "00002", "00003"], [LCI, LPA])
    assert site.snakemake("-n", *words).good().jobs == everything
    assert site.snakemake(*words).good().jobs == everything
    assert sorted(path.name for path in site.work.glob("dl=*")) == [f"dl={DL}"]
    assert site.snakemake("-n", *words).good().jobs == frozenset()
    assert site.snakemake("-n", "-F", *words).good().jobs == everything


def test_a_range_may_lie_in_the_config(done: Site) -> None:
    done.configure(dl=["2024-06-01", f"{DL}..240601009"])
    assert done.snakemake("-n", "-F").good().jobs == jobs_of(["00001", "00002", "00003"], [LCI, LPA])


def test_a_range_in_which_nothing_is_found_is_an_error(done: Site) -> None:
    ended = done.snakemake("--config", "dl=240701001..240701009")
    assert ended.status == 1
    assert ": there is no downlink from 240701001 to" in ended.said
