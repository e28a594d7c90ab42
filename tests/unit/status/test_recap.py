"""The end of an invocation that failed: its last ten lines are the whole story, in words."""

import re
import shlex
from pathlib import Path

from halfpipe.errors import Remedy, rerun
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from halfpipe.status import recap
from halfpipe.status.failures import FailedJob, failed
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import Site

DL, OTHER, THIRD = (DownlinkId(dl) for dl in ("240601001", "240601002", "240601003"))
DECODER = Failure(
    "decoder", "the decoder ended with exit status 3, saying: cannot go on", command="python do --it"
)
KILLED = Failure.by_signal(9, "python do --it")


def job(work: Path, why: Failure | None, dl: str = DL, rule: str = "decode_chunk") -> FailedJob:
    """Return a job of chunk 00001 with a log, and with a record of why it failed, if there is a why."""
    log = work / "logs" / dl / f"{rule}-00001.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("begins\ncannot go on\n")
    if why is not None:
        why.write(log)
    return failed(rule, log)


def test_the_last_ten_lines_are_the_whole_story_of_one_downlink_or_two(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, DECODER),
        job(tmp_path, KILLED, OTHER),
        job(tmp_path, DECODER, OTHER, "deliver_run"),
    ]
    jobs += [job(tmp_path, DECODER, THIRD)]
    begun = {DL: 6, OTHER: 4, THIRD: 2}
    for several in (jobs[:1], jobs[:3], jobs):
        of = {dl: begun[dl] for dl in begun if any(one.downlink == dl for one in several)}
        last = recap.recap(several, of, "snakemake dl=x", tmp_path).splitlines()[-10:]
        told = "\n".join(last)
        assert f"downlink {DL} is not handed off: 1 of 6 jobs failed\n" in told
        for one in several[:2]:
            assert f"  decode_chunk 00001   {one.text}\n" in told
            assert f"  log                  {one.log}\n" in told
        assert f"  repeat this job      cd {tmp_path} && python do --it\n" in told
        assert last[-1] == "  try again            snakemake dl=x"
    whole = recap.recap(jobs, begun, "snakemake dl=x", tmp_path)
    assert f"\ndownlink {THIRD} is not handed off: decode_chunk 00001: the decoder ended with" in whole


def test_a_downlink_whose_jobs_were_not_begun_is_named(tmp_path: Path) -> None:
    said = recap.recap([job(tmp_path, None)], {DL: 3, OTHER: 5}, "again", tmp_path, "ended by Ctrl-C")
    assert f"downlink {OTHER} is not handed off: ended by Ctrl-C\n" in said
    assert f"downlink {DL} is not handed off: ended by Ctrl-C; not finished: 1 of 3 jobs\n" in said
    (tmp_path / f"dl={DL}").touch()
    said = recap.recap([job(tmp_path, None)], {}, "again", tmp_path)
    assert "is handed off, but not finished: 1 job failed" in said


def failing(site: Site) -> None:
    """Let the decoder of one downlink fail, and that of another be killed; a third is good."""
    program = site.home / "decoder.py"
    replay = shlex.split(site.config["decoder"]["command"])
    program.write_text(
        "import os, re, sys\n"
        "dl = re.search('RetDef-([0-9]{9})', ' '.join(sys.argv))[1]\n"
        f"if dl == {str(DL)!r}: sys.exit('cannot go on')\n"
        f"os.execvp({replay[0]!r}, [*{replay!r}, *sys.argv[1:]])\n"
    )
    site.configure(decoder={"command": f"python {program}"})


def test_the_recap_is_the_last_that_is_said(site: Site) -> None:
    case = GOLDEN / "split2"
    site.replay(case / "in")
    site.add_retdefs(case / "in", DL, OTHER)
    failing(site)
    ended = site.snakemake(f"dl={DL}", f"dl={OTHER}")
    assert ended.status == 1
    last = ended.said.splitlines()[-10:]
    heading = next(line for line in last if line.startswith(f"downlink {DL}"))
    assert re.fullmatch(rf"downlink {DL} is not handed off: 2 of \d+ jobs failed", heading)
    assert '  decode_chunk 00001, 00002  the decoder ended with exit status 1, saying: "cannot go on"' in last
    assert f"  log                  {site.work}/logs/{DL}/decode_chunk-00001.log" in last
    assert last[-4].startswith(f"  repeat this job      cd {site.work} && ")
    assert last[-1].startswith("  try again ")
    assert f"\n{OTHER}         1     1" in ended.said, "what its downlinks have now"


def test_what_downlinks_have_now_and_what_needs_action(site: Site) -> None:
    case = GOLDEN / "split2"
    site.replay(case / "in")
    site.add_retdefs(case / "in", DL, OTHER)
    said = site.process(DL).said
    table = re.search(r"^downlink +hand-off +runs +events +waiting +state\n(.*)$", said, re.MULTILINE)
    assert table is not None
    assert table[1].split()[:4] == [DL, "1", "1", "51"]
    (site.stage / DL).rename(site.home / "gone")
    lines = recap.standing(site.settings, [DL, OTHER])
    assert lines[1].split()[:4] == [DL, "1", "1", "51"]
    assert lines[2].split()[:5] == [OTHER, *"----"]
    assert lines[3].startswith(
        f"{DL} needs action: hand-off 1 (51 events of run 2c2e5787) is gone from the stage"
    )


def test_where_no_downlink_is_processed_it_is_said_what_waits(site: Site) -> None:
    case = GOLDEN / "split2"
    site.add_retdefs(case / "in", DL, OTHER)
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


def test_a_remedy_that_ends_with_the_command_is_the_last_line(tmp_path: Path) -> None:
    one = rerun(DL, "decode_chunk", "To go on")
    other = Remedy("halfpipe show 2c2e5787", first="To see it")
    first = job(tmp_path, Failure("shrunk-refused", "it would lose events", one))
    assert recap.recap([first], {}, "again", tmp_path).splitlines()[-1] == f"  remedy               {one}"
    of_submission = job(tmp_path, Failure("stage", "checksum mismatch", one), rule="submit")
    assert recap.recap([of_submission], {}, "again", tmp_path).splitlines()[-1].endswith(" again")
    second = job(tmp_path, Failure("takeover-refused", "it is torn", other), OTHER)
    last = recap.recap([first, second], {}, "again", tmp_path).splitlines()[-1]
    assert last == "  once that is done    again"


def test_what_can_only_fail_again_is_not_proposed(tmp_path: Path) -> None:
    for code, rule, last in (
        ("no-retdefs", "decode_chunk", "  once they are there  snakemake"),
        ("id", "misspelt", "  misspelt 00001       it is none"),
        ("decoder", "decode_chunk", "  try again            snakemake"),
    ):
        one = job(tmp_path, Failure(code, "it is none"), rule=rule)
        assert recap.recap([one], {}, "snakemake", tmp_path).splitlines()[-1] == last
