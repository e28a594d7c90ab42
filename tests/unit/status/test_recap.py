"""The end of an invocation that failed: its last lines are the whole story, in words."""

import shutil
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import Remedy, rerun
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.process.failure_record import Failure
from halfpipe.process.usage import recorded
from halfpipe.status import recap
from halfpipe.status.account import account
from halfpipe.status.failed_jobs import FailedJob, failed
from tests.support.golden_cases import GOLDEN, build
from tests.support.harness import job_log
from tests.support.workflow import Site

DL, OTHER, THIRD = (DownlinkId(dl) for dl in ("240601001", "240601002", "240601003"))
DECODER = Failure(
    "decoder", "the decoder ended with exit status 3, saying: cannot go on", command="python do --it"
)
KILLED = Failure.by_signal(9, "python do --it")


def job(work: Path, why: Failure | None, dl: str = DL, rule: str = "decode_chunk") -> FailedJob:
    """Return a job of chunk 00001 with a log, and with a record of why it failed, if there is a why."""
    return failed(rule, job_log(work, f"{rule}-00001", why, dl, "begins\ncannot go on\n"))


def test_each_cause_is_told_with_its_log_and_what_to_do(tmp_path: Path) -> None:
    jobs = [job(tmp_path, DECODER), job(tmp_path, KILLED, OTHER), job(tmp_path, DECODER, THIRD)]
    lines = recap.recap(jobs, "snakemake", tmp_path).splitlines()
    assert lines == [
        f"downlink {DL}, downlink {THIRD}: decode_chunk 00001: {DECODER.text}",
        "  → snakemake",
        f"  log: logs/{DL}/decode_chunk-00001.log (and 1 more)",
        f"downlink {OTHER}: decode_chunk 00001: {KILLED.text}",
        "  → snakemake",
        f"  log: logs/{OTHER}/decode_chunk-00001.log",
    ]
    silent = recap.recap([job(tmp_path, None, rule="receipt")], "snakemake", tmp_path).splitlines()
    assert silent[1:3] == ["  | begins", "  | cannot go on"], "what it said last, where it did not say why"
    more = [job(tmp_path, Failure(f"c{n}", "it is so"), rule=f"r{n}") for n in range(7)]
    assert "2 more causes: halfpipe status" in recap.recap(more, "again", tmp_path).splitlines()


def test_what_ended_an_invocation_is_told(tmp_path: Path) -> None:
    assert recap.recap([], "again", tmp_path) == "the invocation failed; see above"
    ctrl_c = "the invocation was ended by Ctrl-C"
    assert recap.recap([], "again", tmp_path, "ended by Ctrl-C") == f"{ctrl_c}\n  → again"
    # What ended with it, or had ended well at that moment, did not fail.
    with recorded(job_log(tmp_path, "receipt")):
        pass
    cut = [job(tmp_path, Failure.by_signal(2)), failed("receipt", tmp_path / paths.log("receipt", DL))]
    assert [one.why.code for one in cut] == ["interrupted", "unseen"]
    assert recap.recap(cut, "again", tmp_path, "ended by Ctrl-C") == f"{ctrl_c}\n  → again"
    said = recap.recap([*cut, job(tmp_path, DECODER, OTHER)], "again", tmp_path, "ended by Ctrl-C")
    assert said.count("\n") == 3


@pytest.mark.parametrize("quiet", [(), ("--quiet", "all")], ids=["plain", "quiet"])
def test_the_recap_is_the_last_that_is_said(site: Site, quiet: tuple[str, ...]) -> None:
    build("split2", site)
    site.misbehave(GOLDEN / "split2" / "in", *(f"--fault={DL}-{chunk}=exit3" for chunk in ("00001", "00002")))
    ended = site.snakemake(f"dl={DL}", f"dl={OTHER}", *quiet)
    assert ended.status == 1
    last = ended.said.splitlines()[-10:]
    (cause,) = [line for line in last if line.startswith(f"downlink {DL}: decode_chunk 00001, 00002: ")]
    assert "exit status 3" in cause
    assert last[-1] == f"  log: logs/{DL}/decode_chunk-00001.log (and 1 more)"
    assert ended.said.count("exit status 3") == 1, "nothing twice"
    assert quiet or f"\n{OTHER}: handed off 1, 1 run, " in ended.said, "what its downlinks have now"


def test_what_downlinks_have_now_and_what_needs_action(site: Site) -> None:
    build("split2", site)
    said = site.process(DL).said
    waiting = site.receipt(DL).runs[0].delivery.books.in_texts
    assert f"\n{DL}: handed off 1, 1 run, 51 events, {waiting} waiting\n" in said
    (site.stage / DL).rename(site.home / "gone")
    lines = recap.standing(site.settings, [DL, OTHER])
    assert [line.partition(":")[0] for line in lines[:2]] == [DL, OTHER]
    assert lines[2].startswith(
        f"{DL} needs action: hand-off 1 (51 events of run 2c2e5787) is gone from the stage"
    )


def test_a_defect_of_an_account_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    build("split2", site, DL)
    monkeypatch.setattr(recap, "account", lambda survey, dl: account(survey, {DL: dl}[dl]))
    said = [line.split(":")[:2] for line in recap.standing(site.settings, [DL, OTHER])]
    assert (said[0][0], said[1]) == (DL, [OTHER, " not known"])


def test_where_no_downlink_is_processed_it_is_said_what_waits(site: Site) -> None:
    build("split2", site)
    retdefs = sorted((site.retdefs / OTHER).iterdir())
    assert recap.standing(site.settings, []) == ["no downlink was processed"]
    retdefs[0].unlink()
    (line,) = recap.standing(site.settings, [])
    assert line.startswith(f"downlink {OTHER}: waits for the RetDef of chunk 00001")
    (site.work / "halts").mkdir(parents=True)
    held = site.work / "halts" / "haltStage"
    held.touch()
    assert recap.standing(site.settings, []) == [f"held by {held}: 2 downlinks, {DL} to {OTHER}"]
    last = site.snakemake().good().said.splitlines()[-1]
    assert last == f"held by {held}: 2 downlinks, {DL} to {OTHER}"


def test_the_end_of_a_command_for_all_names_each_that_it_left_out(site: Site) -> None:
    """Row 14: one is processed, one waits for a RetDef, one is held."""
    build("split2", site)
    site.configure(ledger={"url": None})
    (site.retdefs / THIRD).mkdir()
    retdef = site.retdefs / paths.retdef(THIRD, ChunkId("00002"))
    retdef.touch()
    site.work.mkdir()
    site.halfpipe("hold", "stage", OTHER, "--reason", "tape").good()
    said = site.snakemake().good().said
    assert "nothing is outstanding" not in said
    assert said.count(f"downlink {OTHER}") == said.count(f"downlink {THIRD}") == 1, "nothing twice"
    done, *left = said.splitlines()[-3:]
    assert done.startswith(f"{DL}: handed off 1")
    assert all(line.startswith("not processed: ") for line in left)
    assert {dl for dl in (OTHER, THIRD) if any(dl in line for line in left)} == {OTHER, THIRD}

    named = site.snakemake(f"dl={DL}", "-F").good().said
    assert "not processed" not in named, "of a downlink that was named only its own end is said"
    found = site.told("find", "--run", "2c2e5787")
    assert found["do"] == f"snakemake dl={OTHER}"
    assert "nothing is outstanding" not in site.snakemake("-n").good().said
    site.halfpipe("hold", "stage", OTHER, "--undo").good()
    shutil.rmtree(site.retdefs / THIRD)
    site.snakemake().good()
    assert "nothing is outstanding" in site.snakemake().good().said


def test_what_is_to_be_done_comes_before_the_command_that_tries_again(tmp_path: Path) -> None:
    def steps(why: Failure, rule: str = "decode_chunk") -> list[str]:
        said = recap.recap([job(tmp_path, why, rule=rule)], "again", tmp_path).splitlines()
        return [line.removeprefix("  → ") for line in said if line.startswith("  → ")]

    ends_with_it = rerun(DL, "decode_chunk", "To go on")
    assert steps(Failure("shrunk", "it would lose events", ends_with_it)) == [*ends_with_it.do]
    assert steps(Failure("other-system", "it is torn", Remedy("halfpipe show"))) == ["halfpipe show", "again"]
    assert steps(Failure("id", "it is none"), "misspelt") == [], "what can only fail again is not proposed"
