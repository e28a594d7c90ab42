"""The end of an invocation that failed: its last ten lines are the whole story, in words."""

import re
from pathlib import Path

import pytest

from halfpipe.account.why_failed import Unfinished, cause
from halfpipe.ids import DownlinkId
from halfpipe.reports import recap
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import Site

DL, OTHER, THIRD = (DownlinkId(dl) for dl in ("240601001", "240601002", "240601003"))
BEGINS = "2024-06-01 00:00:00,000 INFO    python decode_chunk.py --chunk 00001\n"
DECODER = (
    "2024-06-01 00:00:01,000 ERROR   error: the decoder {how}: /usr/bin/python /a/decoder.py -o /b/8d1c\n"
    "Its last lines were:\n{last}\nNothing of this chunk was taken. Mend the cause, then give the same command again.\n"
)


def job(
    work: Path, log: str, how: str = "", dl: str = DL, rule: str = "decode_chunk", **limits: str
) -> Unfinished:
    """Return a job of chunk 00001, or of another rule, with a log."""
    place = work / "logs" / dl / f"{rule}-00001.log"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(log)
    return Unfinished(rule, f"{dl}/chunks/00001.json", (place,), "python do --it", how, limits)


@pytest.mark.parametrize(
    ("log", "how", "interrupted", "words"),
    [
        (
            BEGINS,
            "SIGKILL",
            "",
            "the job was killed from outside (SIGKILL), most often because memory ran out",
        ),
        (BEGINS, "SIGINT", "ended by Ctrl-C", "the job was ended by Ctrl-C (SIGINT)"),
        (BEGINS, "", "ended by Ctrl-C", "the job was ended by Ctrl-C before it had ended"),
        (BEGINS, "SIGSEGV", "", "the job was ended by a crash (SIGSEGV)"),
        (
            BEGINS,
            "OUT_OF_MEMORY",
            "",
            "killed by Slurm because it needed more memory than it was given (4000 MB)",
        ),
        (BEGINS, "TIMEOUT", "", "ended by Slurm at its time limit (30 min)"),
        (
            BEGINS + DECODER.format(how="ended with exit status 3", last="cannot go on"),
            "",
            "",
            "the decoder ended with exit status 3, saying: cannot go on",
        ),
        (
            BEGINS + DECODER.format(how="was killed by SIGKILL", last="(none)"),
            "",
            "",
            "the decoder was killed from outside (SIGKILL), most often because memory ran out",
        ),
        (
            BEGINS
            + "x ERROR   error: this is a defect of the program, please report it with its log\n"
            + "Traceback (most recent call last):\n  File\nMemoryError\n",
            "",
            "",
            "it needs more memory than there is (MemoryError)",
        ),
        (
            BEGINS
            + "x ERROR   error: this is a defect of the program, please report it with its log\n"
            + "Traceback (most recent call last):\n  File\nKeyError: 'x'\n",
            "",
            "",
            "a defect of the program, please report it with its log: KeyError: 'x'",
        ),
        (BEGINS + "x ERROR   error: the stage is full. Make room\n", "", "", "the stage is full. Make room"),
        ("", "", "", "the job ended without saying why; its last line: "),
    ],
)
def test_causes_in_words(tmp_path: Path, log: str, how: str, interrupted: str, words: str) -> None:
    assert cause(job(tmp_path, log, how, mem_mb="4000", runtime="30"), interrupted) == words


def test_a_signal_is_read_from_what_snakemake_says(tmp_path: Path) -> None:
    told = """\
Command 'set -euo pipefail;  python x.py --chunk 1 --log logs/1/decode_chunk-1.log' {end}
Error in rule decode_chunk:
    jobid: 1
    output: 1/chunks/1.json
    log: logs/1/decode_chunk-1.log (check log file(s) for error details)
"""
    for end, how in (
        ("died with <Signals.SIGKILL: 9>.", "SIGKILL"),
        ("returned non-zero exit status 137.", "SIGKILL"),
        ("returned non-zero exit status 130.", "SIGINT"),
        ("returned non-zero exit status 1.", ""),
    ):
        (found,) = recap.unfinished_jobs(told.replace("{end}", end).splitlines(keepends=True), tmp_path)
        assert found.how == how


def test_the_last_ten_lines_are_the_whole_story_of_one_downlink_or_two(tmp_path: Path) -> None:
    bad = BEGINS + DECODER.format(how="ended with exit status 3", last="cannot go on")
    jobs = [
        job(tmp_path, bad),
        job(tmp_path, BEGINS, "SIGKILL", OTHER),
        job(tmp_path, bad, dl=OTHER, rule="stage_retdef"),
    ]
    jobs += [job(tmp_path, bad, dl=THIRD)]
    begun = {DL: 6, OTHER: 4, THIRD: 2}
    for several in (jobs[:1], jobs[:3], jobs):
        of = {dl: begun[dl] for dl in begun if any(one.downlink == dl for one in several)}
        last = recap.recap(several, of, "snakemake dl=x", tmp_path).splitlines()[-10:]
        told = "\n".join(last)
        assert f"downlink {DL} is not handed off: 1 of 6 jobs failed\n" in told
        for one in several[:2]:
            assert f"  decode_chunk 00001   {cause(one)}\n" in told
            assert f"  log                  {one.logs[0]}\n" in told
        assert f"  repeat this job      cd {tmp_path} && python do --it\n" in told
        assert last[-1] == "  try again            snakemake dl=x"
    whole = recap.recap(jobs, begun, "snakemake dl=x", tmp_path)
    assert f"\ndownlink {THIRD} is not handed off: decode_chunk 00001: the decoder ended with" in whole


def test_a_downlink_whose_jobs_were_not_begun_is_named(tmp_path: Path) -> None:
    said = recap.recap([job(tmp_path, BEGINS)], {DL: 3, OTHER: 5}, "again", tmp_path, "ended by Ctrl-C")
    assert f"downlink {OTHER} is not handed off: ended by Ctrl-C\n" in said
    assert f"downlink {DL} is not handed off: ended by Ctrl-C; not finished: 1 of 3 jobs\n" in said
    (tmp_path / f"dl={DL}").touch()
    assert "is handed off, but not finished: 1 job failed" in recap.recap(
        [job(tmp_path, BEGINS)], {}, "again", tmp_path
    )


def failing(site: Site) -> None:
    """Let the decoder of one downlink fail, and that of another be killed; a third is good."""
    program = site.home / "decoder.py"
    replay = site.config["decoder"]["command"].split(maxsplit=1)[1]
    program.write_text(
        "import os, re, shlex, sys\n"
        "dl = re.search('RetDef-([0-9]{9})', ' '.join(sys.argv))[1]\n"
        f"if dl == {str(DL)!r}: sys.exit('cannot go on')\n"
        f"os.execv(sys.executable, [sys.executable, *shlex.split({replay!r}), *sys.argv[1:]])\n"
    )
    site.configure(decoder={"command": f"python {program}"})


def test_the_recap_is_the_last_that_is_said(site: Site) -> None:
    case = GOLDEN / "split2"
    site.replay(case / "in")
    site.add_retdefs(case / "in", DL, OTHER)
    failing(site)
    for given in ((), ("--quiet", "rules", "host", "reason")):
        ended = site.snakemake(f"dl={DL}", f"dl={OTHER}", *given)
        assert ended.status == 1
        last = ended.said.splitlines()[-10:]
        heading = next(line for line in last if line.startswith("downlink"))
        assert re.fullmatch(rf"downlink {DL} is not handed off: 2 of \d+ jobs failed", heading)
        assert (
            "  decode_chunk 00001, 00002  the decoder ended with exit status 1, saying: cannot go on" in last
        )
        assert f"  log                  {site.work}/logs/{DL}/decode_chunk-00001.log" in last
        assert last[-4].startswith(f"  repeat this job      cd {site.work} && ")
        assert last[-1].startswith("  try again            snakemake ")
        assert f"\n{OTHER}         1     1" in ended.said, "what its downlinks have now"


def test_what_downlinks_have_now_and_what_wants_a_person(site: Site) -> None:
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
        f"{DL} wants a person: hand-off 1 (51 events of run 2c2e5787) is gone from the stage"
    )


def test_where_no_downlink_is_processed_it_is_said_what_waits(site: Site) -> None:
    case = GOLDEN / "split2"
    site.add_retdefs(case / "in", DL, OTHER)
    retdefs = sorted((site.retdefs / OTHER).iterdir())
    assert recap.standing(site.settings, []) == ["no downlink was processed"]
    retdefs[0].unlink()
    assert recap.standing(site.settings, []) == [f"downlink {OTHER} waits for the RetDef of chunk 00001"]
    (site.work / "halts").mkdir(parents=True)
    held = site.work / "halts" / "haltStage"
    held.touch()
    assert recap.standing(site.settings, []) == [f"held by {held}: 2 downlinks, {DL} to {OTHER}"]
    last = site.snakemake().good().said.splitlines()[-4:-2]
    assert last == [
        "nothing was handed off or merged in 0 s",
        f"held by {held}: 2 downlinks, {DL} to {OTHER}",
    ]


def test_what_is_long_is_cut_in_its_middle_and_the_remedy_has_a_line_of_its_own(tmp_path: Path) -> None:
    why = f"record 1 is gone in both copies: {'/a/long/path/000001.json; ' * 60}and that is all"
    remedy = "To see it: halfpipe show 2c2e5787; then give the same command again."
    said = recap.recap(
        [job(tmp_path, f"{BEGINS}x ERROR   error: {why}. {remedy}\n")], {}, "snakemake dl=x", tmp_path
    ).splitlines()
    assert said[-2:] == [
        f"  remedy               {remedy}",
        "  once that is done    snakemake dl=x",
    ]
    assert said[-3].startswith("  decode_chunk 00001   record 1 is gone in both copies: /a/long")
    assert said[-3].endswith("; and that is all.")
    assert len(said[-3]) < 520
    assert said[1].endswith(remedy), "of a log too"


def test_a_remedy_that_ends_with_the_command_is_the_last_line(tmp_path: Path) -> None:
    one, other = f"To go on: snakemake dl={DL} -R decode_chunk", "To see it: halfpipe show 2c2e5787"
    first = job(tmp_path, f"{BEGINS}x ERROR   error: it SHRINKS. {one}\n")
    assert recap.recap([first], {}, "again", tmp_path).splitlines()[-1] == f"  remedy               {one}"
    second = job(tmp_path, f"{BEGINS}x ERROR   error: it is torn. {other}\n", dl=OTHER)
    last = recap.recap([first, second], {}, "again", tmp_path).splitlines()[-1]
    assert last == "  once that is done    again"


def test_what_can_only_fail_again_is_not_proposed(tmp_path: Path) -> None:
    log = f"{BEGINS}x ERROR   error: downlink {DL} has no RetDefs; looked in /r/{DL}. Check the id.\n"
    last = recap.recap(
        [job(tmp_path, log, rule="stage_retdef")], {}, "snakemake dl=x", tmp_path
    ).splitlines()[-1]
    assert last == "  once they are there  snakemake dl=x"
    said = recap.recap(
        [job(tmp_path, f"{BEGINS}x ERROR   error: '24' is no id\n", rule="misspelt")],
        {},
        "snakemake",
        tmp_path,
    )
    assert said.splitlines()[-1].endswith("'24' is no id")
