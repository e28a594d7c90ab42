"""Bad input in the workflow: it is named, and nothing beside it is lost."""

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.decisions import What
from halfpipe.decode.chunk import DecoderLog
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.moot_file import UNSET
from halfpipe.state.deliveries import MootKey
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from tests.support.bad_decoder import CRIES
from tests.support.golden_cases import GOLDEN, Expected, build, read_case
from tests.support.harness import failure_code
from tests.support.settings import put
from tests.support.workflow import Site

DL = "240601001"
LPA_RUN, LCI_RUN, OPEN_RUN = "r0741234567", "r0741240000", "r0741246000"  # of the case multi3
RETDEF = (GOLDEN / "multi3" / "in" / DL / f"RetDef-{DL}-00001.xml").read_text()


def expected(case: str) -> Expected:
    return read_case(case).steps[0].expected


BAD_RETDEFS = {
    "240601011": "",
    "240601012": RETDEF[: len(RETDEF) // 2],
    "240601015": '<!DOCTYPE retdef [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    + RETDEF[RETDEF.index("<retdef") :].replace("/nfs", "/&x;"),
}


def test_bad_downlinks_beside_a_good_one(site: Site) -> None:
    build("runid_small", site)
    looked = site.snakemake("-n", f"dl={DL}", "dl=240601009").good()
    assert {job.dl for job in looked.jobs if job.rule == "decode_chunk"} == {DL}
    assert "refused" in {job.rule for job in looked.jobs}
    assert not (site.work / "logs").exists()
    paths_of = [put(site.retdefs, 1, dl=downlink, text=content) for downlink, content in BAD_RETDEFS.items()]
    bad = [*BAD_RETDEFS, "240601009"]
    ended = site.snakemake(f"dl={DL}", *(f"dl={downlink}" for downlink in bad))
    ended.bad(*(f"decode_chunk 00001: {path}: " for path in paths_of), f"{site.retdefs}/240601009")
    assert "root:x:" not in ended.said
    assert site.staged(DL) == expected("runid_small").files
    assert [downlink for downlink in (DL, *bad) if site.has_receipt(downlink)] == [DL]
    assert not [path for downlink in bad for path in (site.work / downlink).glob("RetDef*")]
    assert sorted(path.name for path in site.stage.iterdir()) == [paths.STAGE_MARK, DL, "chunktokens"]


def test_a_hand_off_lacks_a_chunk_whose_bad_retdef_was_removed(site: Site) -> None:
    build("runid_small", site)
    last = max((site.retdefs / DL).iterdir())
    good = last.read_text()
    last.write_text(good[:-9])
    site.snakemake(f"dl={DL}").bad()
    last.unlink()
    assert "no-retdefs" not in codes(site)
    site.process(DL)
    assert codes(site)["no-retdefs"] is Verdict.ACTION
    (accept,) = site.causes(DL)["no-retdefs"].remedy.accept
    assert accept == f"{DL}/{last.stem[-5:]} {What.LEFT_OUT}"
    last.write_text(good)
    site.process(DL)
    assert "no-retdefs" not in codes(site)
    assert site.staged(DL) == expected("runid_small").files


def codes(site: Site) -> dict[str, Verdict]:
    """Return the causes of the downlink's account."""
    return {cause.code: cause.verdict for cause in account(Survey(site.settings), DownlinkId(DL)).causes}


def test_after_the_loss_of_all_declared_files_nothing_is_delivered_twice(site: Site) -> None:
    build("runid_small", site)
    site.process(DL)
    staged = site.staged(DL)
    (before,) = site.receipt(DL).runs
    for job in site.listed(f"dl={DL}"):
        for name in job.outputs:
            (site.work / name).unlink()
    assert not site.has_receipt(DL)
    site.process(DL)
    assert site.staged(DL) == staged
    (after,) = site.receipt(DL).runs
    assert after.delivery == replace(before.delivery, handoff=2)


def test_chunks_whose_decoder_fails_are_repeated_alone(site: Site) -> None:
    build("multi3", site)
    source, chunks = GOLDEN / "multi3" / "in", site.work / DL / "chunks"
    site.misbehave(source, f"--fault={DL}-00003=cut", f"--fault={DL}-00005=sigsegv")
    site.snakemake(f"dl={DL}").bad("-00003.evt: record at byte ", "SIGSEGV")
    log = site.work / paths.log("decode_chunk", DL, "00005")
    assert f"-r {site.work}/{DL}/RetDef-{DL}-00005.xml" in log.read_text()
    assert site.staged(DL) == {}, "a chunk may contain any run, so no run is merged without it"
    assert not site.has_receipt(DL)
    assert site.halted() == []
    assert {path.name for path in chunks.glob("*.json")} == {f"0000{number}.json" for number in (1, 2, 4)}
    assert not list(chunks.glob("*-0000[35].*"))

    site.misbehave(source)
    site.snakemake(f"dl={DL}").good()
    assert site.staged(DL) == expected("multi3").files
    for text in ("delivered_events", "retired_runs", "event_gaps"):
        assert site.text(text, DL) == expected("multi3").lines(text)
    assert site.halted() == []
    assert not list(chunks.glob(".*"))


def test_exceptions_of_a_decoder_an_unannounced_run_and_a_bad_moot_file(site: Site) -> None:
    """The decoder prints exceptions and succeeds, and a chunk contains a run that no RetDef announces."""
    build("multi3", site)
    for chunk in (3, 4, 5):
        (site.retdefs / DL / f"RetDef-{DL}-{chunk:05d}.xml").unlink()
    source, moot = GOLDEN / "multi3" / "in", site.home / "moot.txt"
    site.misbehave(source, f"--fault={DL}-00001=exception", f"--bring={DL}-00002=00003")
    moot.write_text(f"# keys\nnot a key\n{LPA_RUN} 2959 nomSciOps\n{LCI_RUN} 0x1FFFFFFFF nomSciOps\n")
    ended = site.snakemake(f"dl={DL}").bad(
        *CRIES, f"{moot}: 2 lines", "line 2, 4", "run 2c2e6cc0", "of chunk 00002"
    )
    assert failure_code(site.work / paths.log("receipt", DL)) == "books"
    assert not site.has_receipt(DL)
    assert {job.run for job in ended.jobs if job.run} == {"2c2e5787"}

    ended = site.process(DL)
    assert {(job.rule, job.run) for job in ended.jobs} == {("deliver_run", "2c2e6cc0"), ("receipt", "")}
    last = site.receipt(DL)
    first, second, *_ = last.receipt.chunks
    by_run = {RunId("2c2e5787"): {"DFI": 1, "PktRetriever": 2}}
    assert first.log == DecoderLog(("0077014d-2c2e5787",), by_run, tuple(CRIES))
    assert second.log.exceptions == {}
    delivered = {one.run.l1: (one.delivery.events, one.delivery.moot) for one in last.runs}
    assert delivered == {LPA_RUN: (60, MootKey(2959, "nomSciOps")), LCI_RUN: (40, UNSET)}
    name = next(name for name in expected("multi3").files if LPA_RUN in name)
    assert site.staged(DL)[name] == expected("multi3").files[name]
    assert site.halted() == []

    # A late chunk contains a run that was merged before, and that no job of this command merges again.
    site.misbehave(source, f"--bring={DL}-00003=00001")
    site.add_retdefs(source, DL)
    for chunk in (4, 5):
        (site.retdefs / DL / f"RetDef-{DL}-{chunk:05d}.xml").unlink()
    site.snakemake(f"dl={DL}").bad("run 2c2e5787", "of chunk 00003")
    assert failure_code(site.work / paths.log("receipt", DL)) == "books"
    again = site.process(DL)
    assert {(job.rule, job.run) for job in again.jobs} == {("deliver_run", "2c2e5787"), ("receipt", "")}


def test_a_run_that_level_1_would_refuse_is_not_staged(site: Site) -> None:
    build("multi3", site)
    bad_limits = {"min_events": 1, "max_events": 39, "chunk_scale": 1.0}  # 40 events: 39 and a single one
    good_limits = {"min_events": 2, "max_events": 125000, "chunk_scale": 0.9}
    site.configure(merge=bad_limits)
    site.process(DL)
    lpa, lci, last = (one.delivery for one in site.receipt(DL).runs)
    assert (bool(lci.refused), lci.files, lci.spans) == (True, (), ())
    assert lci.books.refused == 40
    assert [len(run.files) for run in (lpa, last)] == [2, 1]
    assert not (site.stage / DL / LCI_RUN).exists()
    assert all(LCI_RUN not in line for line in site.text("retired_runs", DL))
    assert site.halted() == []
    said = site.told("explain", "2c2e6cc0")["groups"]
    assert ({group["kind"] for group in said}, sum(group["events"] for group in said)) == ({"refused"}, 40)

    # With good limits it is delivered. With the bad ones again, the delivered files stay.
    site.configure(merge=good_limits)
    site.snakemake(*said[0]["do"].split()[1:]).good()
    assert site.told("explain", "2c2e6cc0")["groups"] == []
    site.by_hand(DL)
    assert site.staged(DL) == expected("multi3").files
    of_run = {name: content for name, content in site.tree().items() if LCI_RUN in name}
    spans = site.receipt(DL).runs[1].delivery.spans
    assert len(of_run) == 2, "event file and token"
    site.configure(merge=bad_limits)
    site.process(DL, again=True)
    lci = site.receipt(DL).runs[1].delivery
    assert (bool(lci.refused), lci.spans, lci.events) == (True, spans, 40)
    tree = site.tree()
    assert {name: tree[name] for name in of_run} == of_run
    assert len(list((site.stage / DL / LPA_RUN).iterdir())) == 2, "the other runs go on"
