"""The task HalfPipe in Pipeline-II: streams of a stand-in server, from the dispatcher to Level-1."""

import os
import signal
from pathlib import Path

import pytest

from halfpipe import paths
from tests.support.golden_cases import build, check, read_case
from tests.support.level1 import submit_commands
from tests.support.pipeline_server import Server
from tests.support.workflow import BAD_DECODER, Site

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


def delivered(server: Server) -> None:
    """Assert that the stage has of the first downlink what must come out, byte for byte."""
    check(server.site, CASE.steps[0])


def test_a_stream_goes_from_retdefs_to_the_submission(server: Server) -> None:
    server.create(FIRST, CHUNKS[FIRST]).good()
    server.run()
    assert server.states(FIRST) == GOOD, server.log(FIRST, "process")
    delivered(server)
    receipt = server.site.receipt(FIRST)
    runs = receipt["runs"]
    assert server.variables(FIRST) == {
        "handoff": 1,
        "runs": len(runs),
        "events": sum(run["delivered"] for run in runs),
        "orphans": sum(run["orphans"] for run in runs),
        "level1": 1,
    }
    logs = server.place(FIRST) / "process" / "logs"
    assert logs.resolve() == (server.site.work / paths.job_logs(FIRST)).resolve()
    server.site.halfpipe("hold", "stage", "--reason", "what is done needs no staging").good()
    before = server.site.tree()
    server.roll_back(FIRST)
    assert "held" not in server.variables(FIRST)
    assert server.states(FIRST) == {name: f"{state} {state}" for name, state in GOOD.items()}
    assert server.site.tree() == before
    # The same downlink in a version of its own, as after a change of the task, and Level-1's task in another, too.
    server.client("load", str(server.checkout / "profiles" / "s3df" / "HalfPipe.xml")).good()
    server.create(FIRST, CHUNKS[FIRST]).good()
    server.run()
    assert server.states(FIRST) == GOOD
    assert server.site.tree() == before
    assert server.level1(FIRST) == ["createStream"]


def test_again_hands_off_anew_and_level1_waits_for_its_roll_back(server: Server) -> None:
    server.create(FIRST, CHUNKS[FIRST]).good()
    server.run()
    server.roll_back(FIRST, again=1)
    assert server.site.receipt(FIRST)["handoff"] == 2
    delivered(server)
    assert server.states(FIRST) == {"process": "SUCCESS SUCCESS", "launchL1": "SUCCESS FAILED FAILED"}
    assert f"halfpipe submit {FIRST} --rollback" in server.log(FIRST, "launchL1")
    server.site.halfpipe("submit", FIRST, "--rollback").good()
    server.client("rollbackStream", "--minimum", f"HalfPipe[{FIRST}]").good()
    server.run(FIRST)
    assert server.states(FIRST)["launchL1"] == "SUCCESS FAILED FAILED SUCCESS"
    assert server.variables(FIRST)["level1"] == 2
    assert server.level1(FIRST) == ["createStream", "rollbackStream"]


def test_a_chunk_that_fails_makes_the_stream_fail_with_its_cause(server: Server) -> None:
    server.site.misbehave(IN, "--fault", f"{FIRST}-00002=exit3")
    server.configure()
    server.create(FIRST, CHUNKS[FIRST]).good()
    server.run()
    assert server.states(FIRST) == {"process": "FAILED FAILED", "launchL1": "WAITING"}
    cause = server.variables(FIRST)["cause"]
    assert "decode_chunk 00002" in cause
    assert cause.replace("'", "") in server.log(FIRST, "process").replace("'", "")
    server.site.misbehave(IN)
    server.roll_back(FIRST)
    assert server.states(FIRST) == {"process": "FAILED FAILED SUCCESS", "launchL1": "WAITING SUCCESS"}
    delivered(server)


def test_a_job_that_is_killed_is_gone_on_with(server: Server) -> None:
    server.configure(decoder={"command": f"python {BAD_DECODER} --source {IN} --slow 00002=4"})
    server.create(FIRST, CHUNKS[FIRST]).good()
    running = server.running(FIRST)
    decoded = server.site.work / paths.chunk(FIRST, "00001")
    running.wait_for("a chunk", decoded.exists)
    os.kill(int((server.place(FIRST) / "process" / "pid").read_text()), signal.SIGKILL)
    first = decoded.stat().st_mtime_ns
    running.ended().good()
    assert server.states(FIRST) == {"process": "FAILED SUCCESS", "launchL1": "SUCCESS"}
    assert decoded.stat().st_mtime_ns == first
    delivered(server)
    assert server.level1(FIRST) == ["createStream"]


def test_two_streams_of_one_downlink_do_its_work_once(server: Server) -> None:
    server.configure(decoder={"command": f"python {BAD_DECODER} --source {IN} --pause 2"})
    both = []
    for _ in range(2):
        server.client("load", str(server.checkout / "profiles" / "s3df" / "HalfPipe.xml")).good()
        server.create(FIRST, CHUNKS[FIRST]).good()
        both.append((server.place(FIRST), server.running(FIRST)))
    for _, running in both:
        running.ended().good()
    logs = [(place / "process" / "logFile.txt").read_text() for place, _ in both]
    assert any("waiting for " in log for log in logs), logs
    delivered(server)
    assert [server.site.receipt(FIRST)["handoff"], server.level1(FIRST)] == [1, ["createStream"]]
    for place, _ in both:
        instances = (place / "stream.json").read_text()
        assert '"FAILED"' not in instances


@pytest.mark.parametrize("switch", ["stage", "l1"])
def test_what_is_held_is_no_failure(switch: str, server: Server) -> None:
    server.site.work.mkdir()
    server.site.halfpipe("hold", switch, "--reason", "disk full").good()
    server.create(FIRST, CHUNKS[FIRST]).good()
    server.run()
    assert server.states(FIRST) == GOOD
    assert "disk full" in server.variables(FIRST)["held"]
    assert (server.site.work / paths.receipt(FIRST)).exists() == (switch == "l1")
    server.site.halfpipe("hold", switch, "--resume").good()
    server.roll_back(FIRST)
    assert "held" not in server.variables(FIRST)
    delivered(server)
    assert server.level1(FIRST) == ["createStream"]


def test_retdefs_that_come_late_are_waited_for_and_missing_ones_are_named(server: Server) -> None:
    (late,) = (server.site.retdefs / FIRST).glob("*-00002.xml")
    content = late.read_bytes()
    late.unlink()
    command = "${halfpipeRoot}/.venv/bin/python ${halfpipeRoot}/scripts/pipeline_task.py --retdef-seconds "
    server.create(FIRST, CHUNKS[FIRST], command=f"{command}1").good()
    server.run()
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
    delivered(server)


def test_a_stream_of_trials_has_a_config_of_its_own(server: Server) -> None:
    dev = Server(server.site, mode="DEV")
    dev.client("load", str(server.checkout / "profiles" / "s3df" / "HalfPipe.xml")).good()
    places = {name: str(server.site.home / f"dev-{name}") for name in ("work", "stage")}
    config = server.checkout / "config" / "dev.yaml"
    config.write_text(f"paths: {places}\nsubmit: {{command: null, check: null}}\n")
    trial = {"fosFlavor": "ISOC_TEST", "pipelineFlavor": "TEST"}
    dev.create(FIRST, CHUNKS[FIRST], **trial, startL1=0).good()
    dev.create(SECOND, CHUNKS[SECOND]).good()  # in production's words
    dev.run()
    assert dev.states(FIRST) == GOOD
    assert dev.states(SECOND)["process"] == "FAILED FAILED"
    assert "PIPELINE_MODE=DEV" in dev.variables(SECOND)["cause"]
    assert (Path(places["work"]) / paths.receipt(FIRST)).exists()
    assert not server.site.work.exists()
    assert dev.level1(FIRST) == []
    # Without a command Level-1 has nothing, and the stream says so.
    dev.roll_back(FIRST, startL1=1)
    assert dev.states(FIRST)["launchL1"] == "SUCCESS FAILED FAILED"
    assert "halfpipe submit" in dev.log(FIRST, "launchL1")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"outputBase": "/else/where"}, "/else/where"),
        ({"maxEvents": 5}, "5"),
        ({"level1Name": "Other"}, "Other"),
    ],
)
def test_what_the_stream_expects_otherwise_is_refused(
    variables: dict[str, str], says: str, server: Server
) -> None:
    server.create(FIRST, CHUNKS[FIRST], **variables).good()
    server.run()
    assert server.states(FIRST)["process"] == "FAILED FAILED"
    assert says in server.variables(FIRST)["cause"]
    assert not server.site.work.exists()
