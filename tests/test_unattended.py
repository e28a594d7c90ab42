"""Unattended processing: what fails or hangs costs its own downlink only, and the summary is of use."""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.golden_cases import GOLDEN
from tests.workflow import REPLAY, ROOT, Site, run

FIRST, SECOND, THIRD = "240601001", "240601002", "240601003"
CASE = GOLDEN / "split2"
PATIENCE = 60  # seconds, on a machine that is busy with other tests
PROGRAM = ROOT / "scripts" / "unattended.py"

# A decoder that fails or hangs for the downlinks whose names lie beside it. It hangs with a child that is in
# no process group of anybody's and deaf to SIGTERM.
DECODER = """
import os, pathlib, re, subprocess, sys, time
home = pathlib.Path(__file__).parent
downlink = re.search("RetDef-([0-9]{9})-", " ".join(sys.argv))[1]
if (home / ("fails-" + downlink)).exists():
    sys.exit("decoder: cannot go on \\x1b[31m")
if (home / ("hangs-" + downlink)).exists():
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; exec sleep 300"], start_new_session=True)
    (home / f"pid-{os.getpid()}").touch()
    (home / f"pid-{child.pid}").touch()
    time.sleep(300)
os.execv(sys.executable, [sys.executable, REPLAY, "--source", SOURCE, *sys.argv[1:]])
"""


@pytest.fixture
def outstanding(site: Site) -> Site:
    """A site with two outstanding downlinks."""
    program = site.home / "decoder.py"
    program.write_text(DECODER.replace("REPLAY", repr(str(REPLAY))).replace("SOURCE", repr(str(CASE / "in"))))
    # As in the config of s3df, where cron knows no program of that name.
    site.configure(decoder={"command": f"python {program}"}, magic7={"command": None})
    site.add_retdefs(CASE / "in", FIRST, SECOND)
    return site


def command(site: Site, *arguments: str) -> list[str]:
    """Return the command as cron has it; the config file is named relative to where it is given."""
    return [sys.executable, str(PROGRAM), "--cores", "2", *arguments, "--configfile", site.configfile.name]


def unattended(site: Site, *arguments: str) -> tuple[int, str]:
    """Run it as cron does, with nothing much on the path; return its exit status and what it printed."""
    ended = run(command(site, *arguments), {"PATH": "/usr/bin:/bin"}, cwd=site.home)
    return ended.status, ended.said


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def hanging(site: Site) -> list[int]:
    """Return the ids of decoders that were started to hang, and of their children."""
    return [int(path.name[4:]) for path in site.home.glob("pid-*")]


def alive(site: Site) -> list[str]:
    """Return the command lines of all processes that have to do with the site or hang."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(site.home) in words or int(place.name) in hanging(site):
            found.append(words)
    return [words for words in found if words]  # a zombie has none


def left(site: Site) -> list[str]:
    return sorted(path.name for path in site.work.glob("locks/**/*"))


def logs(site: Site) -> list[Path]:
    return sorted(site.work.glob("logs/unattended/*"))


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unattended", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def test_nothing_outstanding_is_silence_and_a_bad_config_is_not(site: Site) -> None:
    old, young = (site.work / "logs" / "unattended" / f"{name}-{FIRST}.log" for name in ("old", "young"))
    old.parent.mkdir(parents=True)
    for path, days in ((old, 30.1), (young, 29.9)):
        path.touch()
        os.utime(path, (then := time.time() - days * 86400, then))
    assert unattended(site) == (0, "")
    assert logs(site) == [young]
    assert left(site) == []

    site.add_retdefs(CASE / "in", FIRST, SECOND)
    site.configure(outstanding={"max": 1})
    status, said = unattended(site)
    assert status == 2
    assert said.startswith(f"2 downlinks are outstanding, {FIRST} to {SECOND}: more than outstanding.max")
    site.configure(outstanding={"maximum": 1})
    status, said = unattended(site)
    assert status == 2
    assert "unknown key outstanding.maximum" in said
    assert logs(site) == [young]
    assert left(site) == []


def test_a_downlink_that_waits_for_a_retdef_is_told_when_it_has_waited_long(site: Site) -> None:
    site.add_retdefs(CASE / "in", FIRST)
    (site.retdefs / FIRST / f"RetDef-{FIRST}-00001.xml").unlink()
    (left_over,) = (site.retdefs / FIRST).iterdir()
    for hours, status in ((24.1, 1), (23.9, 0)):
        os.utime(left_over, (then := time.time() - hours * 3600, then))
        said = f"downlink {FIRST} waits for the RetDef of chunk 00001, and has done so for more than 24 h\n"
        assert unattended(site) == (status, said if status else "")
    assert logs(site) == []


def test_one_that_fails_does_not_stop_the_next(outstanding: Site) -> None:
    site = outstanding
    (site.home / f"fails-{FIRST}").touch()
    status, said = unattended(site)
    assert status == 1
    assert [path.name[-13:] for path in logs(site)] == [f"{dl}.log" for dl in (FIRST, SECOND)]
    assert not (site.work / f"dl={FIRST}").exists()
    assert site.receipt(SECOND)["downlink"] == SECOND
    assert SECOND not in said
    assert len(said) < 10_000
    assert f"downlink {FIRST} failed; all that was printed: {logs(site)[0]}\n" in said
    for chunk in ("00001", "00002"):
        assert f"  job decode_chunk of {FIRST}/chunks/{chunk}.json\n" in said
        assert f"    log: {site.work}/logs/{FIRST}/decode_chunk-{chunk}.log\n" in said
    assert said.count(f"error: the decoder ended with exit status 1: {sys.executable} {site.home}/") == 2
    assert "| decoder: cannot go on ?[31m\n" in said, "nothing that a terminal obeys"

    # What it says repeats the job does so, with the same end as long as nothing is mended.
    by_hand = [line.split(": ", 1)[1] for line in said.splitlines() if "to repeat it by hand" in line]
    assert len(by_hand) == 2
    log = site.work / "logs" / FIRST / "decode_chunk-00001.log"
    log.unlink()
    again = next(words for words in by_hand if "--chunk 00001" in words)
    assert run(["sh", "-c", again]).status == 1
    assert "decoder: cannot go on" in log.read_text()
    (site.home / f"fails-{FIRST}").unlink()
    run(["sh", "-c", again]).good()
    vouched = site.work / FIRST / "chunks" / "00001.json"
    assert json.loads(vouched.read_text())["chunk"] == "00001"
    found = re.search(r"^  to process the downlink again: (.*)$", said, re.MULTILINE)
    assert found is not None
    run(["sh", "-c", found[1]]).good()
    assert site.receipt(FIRST)["downlink"] == FIRST
    assert unattended(site) == (0, "")
    assert left(site) == []


def test_one_that_hangs_is_ended_at_the_time_limit(outstanding: Site) -> None:
    site = outstanding
    (site.home / f"hangs-{FIRST}").touch()
    status, said = unattended(site, "--timeout-minutes", "0.2", FIRST)
    assert status == 3
    assert f"downlink {FIRST} ran out of time and was ended; all that was printed: {logs(site)[0]}\n" in said
    for chunk in ("00001", "00002"):
        assert f"  job decode_chunk of {FIRST}/chunks/{chunk}.json\n" in said
    assert f"to process the downlink again: cd {shlex.quote(str(ROOT))} && " in said
    assert "ended after 12 s, the time limit" in logs(site)[0].read_text()
    assert len(hanging(site)) == 4
    assert alive(site) == []
    assert left(site) == []


def test_a_second_one_is_told_so_and_the_first_ends_all_that_it_started(outstanding: Site) -> None:
    site = outstanding
    (site.home / f"hangs-{FIRST}").touch()
    # As a shell starts what it puts into the background.
    in_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command(site)]
    first = subprocess.Popen(in_background, cwd=site.home)
    wait_for(lambda: len(hanging(site)) == 4)
    status, said = unattended(site)
    assert status == 4
    assert re.fullmatch(rf"another unattended invocation is running: \S+, process {first.pid} on .*\n", said)
    assert unattended(site, "--quiet") == (4, "")
    lock = site.work / "locks" / "unattended"
    mine = lock.read_text()
    lock.write_text(json.dumps(json.loads(mine) | {"host": "elsewhere"}))
    status, said = unattended(site, "--quiet")
    assert status == 4
    assert "if that process is dead: scripts/unlock.py unattended" in said, "only a person can know"
    lock.write_text(mine)
    assert len(logs(site)) == 1

    first.terminate()
    assert first.wait(PATIENCE) == 128 + signal.SIGTERM
    assert alive(site) == []
    assert left(site) == []
    assert not (site.work / f"dl={SECOND}").exists()


def test_what_is_in_a_persons_hands_or_still_arriving_is_left_alone(outstanding: Site) -> None:
    site = outstanding
    (site.home / f"hangs-{FIRST}").touch()
    source = site.home / "source" / THIRD
    source.mkdir(parents=True)
    for path in (CASE / "in" / FIRST).glob("RetDef-*"):
        (source / path.name.replace(FIRST, THIRD)).write_text(path.read_text().replace(FIRST, THIRD))
    site.add_retdefs(site.home / "source", THIRD)
    for path in (site.retdefs / THIRD).iterdir():
        path.touch()
    with (site.home / "said.txt").open("w") as out:
        person = subprocess.Popen(site.command(f"dl={FIRST}"), cwd=ROOT, stdout=out, stderr=out)
    try:
        wait_for(lambda: len(hanging(site)) == 4)
        assert unattended(site) == (0, "")
        assert site.receipt(SECOND)["downlink"] == SECOND
        assert [path.name[-13:] for path in logs(site)] == [f"{SECOND}.log"]
        assert not (site.work / THIRD).exists()
        assert person.poll() is None
    finally:
        for pid in hanging(site):
            os.kill(pid, signal.SIGKILL)
        person.wait(PATIENCE)


def test_those_that_were_tried_before_come_last(outstanding: Site) -> None:
    from halfpipe.config import load

    program, settings = module(), load(ROOT, [outstanding.configfile])
    home = outstanding.home / "logs"
    home.mkdir()
    assert program.outstanding(settings, home)[0] == [FIRST, SECOND]
    (home / f"20240601T000000Z-{FIRST}.log").touch()
    assert program.outstanding(settings, home)[0] == [SECOND, FIRST]


BEGUN = """\
[Sat Jun  1 00:00:00 2024]
rule decode_chunk:
    input: a b
    output: 1/chunks/0000{n}.json
    log: logs/1/decode_chunk-0000{n}.log
    jobid: {n}
    resources: tmpdir=<TBD>
Job {n} has been submitted with SLURM jobid 1{n} (log: /w/1{n}.log).
"""
FAILED = """\
Error in rule decode_chunk:
    message: SLURM-job '12' failed, SLURM status is: 'FAILED'.
    jobid: {n}
    input: a b
    output: 1/chunks/0000{n}.json
    log: logs/1/decode_chunk-0000{n}.log, /w/.snakemake/slurm_logs/1{n}.log (check log file(s) for error details)
    shell:
        the command --log logs/1/decode_chunk-0000{n}.log
        (command exited with non-zero exit code)
    external_jobid: 12

"""
FINISHED = "Finished jobid: {n} (Rule: decode_chunk)\n"


def test_the_summary_has_each_job_that_failed_in_the_end_or_did_not_end_once(tmp_path: Path) -> None:
    program = module()
    begun = tmp_path / "logs/1/decode_chunk-00003.log"
    begun.parent.mkdir(parents=True)
    begun.write_text("2024-06-01 00:00:00,000 INFO    python decode_chunk.py --chunk 00003\nmore\n")
    first = BEGUN + FAILED + "Trying to restart job {n}.\n" + BEGUN + FAILED
    said = first.replace("{n}", "1") + first.replace("{n}", "2")
    said += (BEGUN + FINISHED).replace("{n}", "2") + BEGUN.replace("{n}", "3") + BEGUN.replace("{n}", "4")
    said += FAILED.replace("{n}", "5").split("    external")[0]
    found = program.unfinished_jobs(said.splitlines(keepends=True), tmp_path)
    assert [job.output for job in found] == [f"1/chunks/0000{n}.json" for n in (1, 3, 4, 5)]
    assert [job.command for job in found] == [
        "the command --log logs/1/decode_chunk-00001.log",
        "python decode_chunk.py --chunk 00003",
        "",
        "the command --log logs/1/decode_chunk-00005.log",
    ]
    assert found[0].logs == (
        tmp_path / "logs/1/decode_chunk-00001.log",
        Path("/w/.snakemake/slurm_logs/11.log"),
    )


def test_the_summary_fits_into_a_mail(tmp_path: Path) -> None:
    program = module()
    log = tmp_path / "said.log"
    every = (FAILED.replace("0000{n}", f"{n:05d}").replace("{n}", str(n)) for n in range(1, 21))
    log.write_text("".join(every) + "x" * 3_000_000)
    told = program.summary(FIRST, program.FAILED, ["snakemake"], log, tmp_path)
    assert told.count("  job decode_chunk of ") == 5
    assert "  and 15 more jobs\n" in told
    assert len(told) < 5_000
    log.write_text("x" * 3_000_000)
    assert len(program.summary(FIRST, program.FAILED, ["snakemake"], log, tmp_path)) < 1_000


def test_the_units_and_the_cron_line_give_what_the_program_takes() -> None:
    program = module()
    unit = (ROOT / "profiles" / "s3df" / "halfpipe.service").read_text()
    timer = (ROOT / "profiles" / "s3df" / "halfpipe.timer").read_text()
    page = (ROOT / "docs" / "operations.md").read_text()
    setting = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    (cron,) = re.findall(r"^    \S+ \* \* \* \* (cd .*)$", page, re.MULTILINE)
    where = setting["WorkingDirectory"]
    assert cron.startswith(f"cd {where} && umask 0002 && .venv/bin/python scripts/unattended.py ")
    assert setting["ExecStart"].startswith(f"{where}/.venv/bin/python scripts/unattended.py ")
    for line in (cron, setting["ExecStart"]):
        words = shlex.split(line.partition("scripts/unattended.py")[2])
        given = program.parser().parse_args(words)
        assert (ROOT / given.profile / "profile.v9+.yaml").is_file()
        assert all((ROOT / path).is_file() for path in given.configfile)
        assert given.downlinks == []
    assert "%" not in cron, "cron takes it for a new line"
    assert setting["SuccessExitStatus"].split() == [str(program.RUNNING), "143"]
    assert float(setting["TimeoutStopSec"]) > 2 * program.GRACE_SECONDS
    assert "OnUnitInactiveSec=" in timer
    for status in range(5):
        assert f"\n| {status} | " in page
