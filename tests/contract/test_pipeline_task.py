"""The task HalfPipe of Pipeline-II: streams in a stand-in server, from the dispatcher to Level-1."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from tests.support.golden_cases import build, check, read_case
from tests.support.level1 import submit_commands
from tests.support.pipeline_server import TASK_XML, Server
from tests.support.servers import wait_for
from tests.support.workflow import BAD_DECODER, PATIENCE, Site

pytestmark = pytest.mark.workflow

FIRST, SECOND = "240601001", "240601002"
CASE = read_case("split2")
IN = CASE.directory / "in"
CHUNKS = {downlink: len(list((IN / downlink).glob("RetDef-*.xml"))) for downlink in (FIRST, SECOND)}
GOOD = {"process": "SUCCESS", "launchL1": "SUCCESS"}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with the task, and a site that submits to its Level-1."""
    site = Site(tmp_path)
    build("split2", site)
    site.configure(ledger={"url": None}, submit=submit_commands(tmp_path / "server"))
    return Server(site)


def run_stream(server: Server, **variables: Any) -> None:
    """Create a stream for the first downlink, and run it to its end."""
    server.create(FIRST, CHUNKS[FIRST], **variables).good()
    server.run()


def test_a_stream_goes_from_retdefs_to_the_submission(server: Server) -> None:
    run_stream(server)
    assert server.states(FIRST) == GOOD, server.log(FIRST, "process")
    check(server.site, CASE.steps[0])
    runs = server.site.receipt(FIRST).runs
    events = sum(run.delivery.events for run in runs)
    waiting = sum(run.delivery.books.in_texts for run in runs)
    figures = {"handoff": 1, "runs": len(runs), "events": events, "waiting": waiting, "level1": 1}
    assert server.variables(FIRST) == figures
    logs = server.place(FIRST) / "process" / "logs"
    assert logs.resolve() == (server.site.work / paths.job_logs(FIRST)).resolve()
    server.site.halfpipe("hold", "stage", "--reason", "what is done needs no staging").good()
    before = server.site.tree()
    server.roll_back(FIRST)
    assert "held" not in server.variables(FIRST)
    assert server.states(FIRST) == {name: f"{state} {state}" for name, state in GOOD.items()}
    assert server.site.tree() == before
    # The same downlink in a version of its own, as after a change of the task, and Level-1's task in another, too.
    server.client("load", str(TASK_XML)).good()
    run_stream(server)
    assert server.states(FIRST) == GOOD
    assert server.site.tree() == before
    assert server.level1(FIRST) == ["createStream"]

    # `again` makes another hand-off, which waits for a rollback of Level-1.
    server.site.halfpipe("hold", "stage", "--undo").good()
    server.roll_back(FIRST, again=1)
    assert server.site.receipt(FIRST).number == 2
    check(server.site, CASE.steps[0])
    assert server.states(FIRST) == {"process": "SUCCESS SUCCESS", "launchL1": "SUCCESS FAILED FAILED"}
    assert f"halfpipe submit {FIRST} --rollback" in server.log(FIRST, "launchL1")
    server.site.halfpipe("submit", FIRST, "--rollback").good()
    server.client("rollbackStream", "--minimum", f"HalfPipe[{FIRST}]").good()
    server.run(FIRST)
    assert server.states(FIRST)["launchL1"] == "SUCCESS FAILED FAILED SUCCESS"
    assert server.variables(FIRST)["level1"] == 2
    assert server.level1(FIRST) == ["createStream", "rollbackStream"]


def test_a_stream_with_a_bad_chunk_fails_with_its_cause(server: Server) -> None:
    server.site.misbehave(IN, "--fault", f"{FIRST}-00002=exit3")
    server.configure()
    run_stream(server)
    assert server.states(FIRST) == {"process": "FAILED FAILED", "launchL1": "WAITING"}
    cause = server.variables(FIRST)["cause"]
    assert "decode_chunk 00002" in cause
    assert cause.replace("'", "") in server.log(FIRST, "process").replace("'", "")
    server.site.misbehave(IN)
    server.roll_back(FIRST)
    assert server.states(FIRST) == {"process": "FAILED FAILED SUCCESS", "launchL1": "WAITING SUCCESS"}
    check(server.site, CASE.steps[0])


def test_a_stream_continues_after_a_killed_job(server: Server) -> None:
    server.configure(decoder={"command": f"python {BAD_DECODER} --source {IN} --slow 00002=4"})
    server.create(FIRST, CHUNKS[FIRST]).good()
    running = server.running(FIRST)
    decoded = server.site.work / paths.chunk(FIRST, "00001")
    # Snakemake sets the times of a job's outputs once more when the job has ended.
    running.wait_for("a chunk", lambda: decoded.exists() and time.time() - decoded.stat().st_mtime > 1)
    os.kill(int((server.place(FIRST) / "process" / "pid").read_text()), signal.SIGKILL)
    first = decoded.stat().st_mtime_ns
    running.ended().good()
    assert server.states(FIRST) == {"process": "FAILED SUCCESS", "launchL1": "SUCCESS"}
    assert decoded.stat().st_mtime_ns == first
    check(server.site, CASE.steps[0])
    assert server.level1(FIRST) == ["createStream"]


def test_two_streams_of_one_downlink_do_its_work_once(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"  # no chunk is decoded before a stream waits for the other one
    server.configure(decoder={"command": f"python {BAD_DECODER} --source {IN} --after {gate}"})
    streams = {}
    for _ in range(2):
        server.client("load", str(TASK_XML)).good()
        server.create(FIRST, CHUNKS[FIRST]).good()
        log = server.place(FIRST) / "process" / "logFile.txt"
        streams[log] = server.running(FIRST)
        streams[log].wait_for("its job", log.exists)
    wait_for(
        "a stream that waits", lambda: any("waiting for " in log.read_text() for log in streams), PATIENCE
    )
    gate.touch()
    for running in streams.values():
        running.ended().good()
    check(server.site, CASE.steps[0])
    assert [server.site.receipt(FIRST).number, server.level1(FIRST)] == [1, ["createStream"]]
    assert not any('"FAILED"' in (log.parents[1] / "stream.json").read_text() for log in streams)


@pytest.mark.parametrize("switch", ["stage", "l1"])
def test_a_stream_that_a_switch_holds_does_not_fail(switch: str, server: Server) -> None:
    server.site.work.mkdir()
    server.site.halfpipe("hold", switch, "--reason", "disk full").good()
    run_stream(server)
    assert server.states(FIRST) == GOOD
    assert "disk full" in server.variables(FIRST)["held"]
    assert (server.site.work / paths.receipt(FIRST)).exists() == (switch == "l1")
    server.site.halfpipe("hold", switch, "--undo").good()
    server.roll_back(FIRST)
    assert "held" not in server.variables(FIRST)
    check(server.site, CASE.steps[0])
    assert server.level1(FIRST) == ["createStream"]


def test_a_stream_waits_for_late_retdefs_and_names_missing_ones(server: Server) -> None:
    (late,) = (server.site.retdefs / FIRST).glob("*-00002.xml")
    content = late.read_bytes()
    late.unlink()
    command = "${halfpipeRoot}/.venv/bin/python ${halfpipeRoot}/scripts/pipeline_task.py --retdef-seconds "
    run_stream(server, command=f"{command}1")
    assert server.states(FIRST)["process"] == "FAILED FAILED"
    assert "00002" in server.variables(FIRST)["cause"]
    words = ["rollbackStream", f"-Dcommand={command}600", f"HalfPipe[{FIRST}]"]
    server.client(*words).good()
    running = server.running(FIRST)
    log = server.place(FIRST) / "process" / "logFile.txt"
    running.wait_for("the job", lambda: log.exists() and "downlink" in log.read_text())
    late.write_bytes(content)
    running.ended().good()
    assert server.states(FIRST)["process"] == "FAILED FAILED SUCCESS"
    check(server.site, CASE.steps[0])


def test_a_trial_stream_has_its_own_config(server: Server) -> None:
    dev = Server(server.site, mode="DEV")
    dev.client("load", str(TASK_XML)).good()
    places = {name: str(server.site.home / f"dev-{name}") for name in ("work", "stage")}
    config = server.checkout / "config" / "dev.yaml"
    config.write_text(f"paths: {places}\nsubmit: {{command: null, check: null}}\n")
    trial = {"fosFlavor": "ISOC_TEST", "pipelineFlavor": "TEST"}
    dev.create(FIRST, CHUNKS[FIRST], **trial, startL1=0).good()
    dev.create(SECOND, CHUNKS[SECOND]).good()  # with the variables of production
    dev.run()
    assert dev.states(FIRST) == GOOD
    assert dev.states(SECOND)["process"] == "FAILED FAILED"
    assert "PIPELINE_MODE=DEV" in dev.variables(SECOND)["cause"]
    assert (Path(places["work"]) / paths.receipt(FIRST)).exists()
    assert not server.site.work.exists()
    assert dev.level1(FIRST) == []
    # Without submit.command nothing is submitted, and the stream fails with this reason.
    dev.roll_back(FIRST, startL1=1)
    assert dev.states(FIRST)["launchL1"] == "SUCCESS FAILED FAILED"
    assert "halfpipe submit" in dev.log(FIRST, "launchL1")


def test_a_stream_with_other_expectations_is_refused(server: Server) -> None:
    for name, value in {"outputBase": "/else/where", "maxEvents": 5, "level1Name": "Other"}.items():
        server.client("load", str(TASK_XML)).good()
        run_stream(server, **{name: value})
        assert server.states(FIRST)["process"] == "FAILED FAILED"
        assert str(value) in server.variables(FIRST)["cause"]
        assert not server.site.work.exists()
