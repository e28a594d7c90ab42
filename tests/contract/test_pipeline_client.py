"""The interface to Pipeline-II: the XML of the task, the forms of the client, the variables of a stream."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from halfpipe.errors import ConfigError
from tests.support.in_process import ROOT, module
from tests.support.level1 import CLIENT
from tests.support.pipeline_server import TASK_XML, variables_of
from tests.support.standin import task_xml

DL = "240601001"
GIVEN = {name: str(value) for name, value in variables_of("080819007", 12, Path("/downlinks")).items()}


def test_the_task_has_the_variables_of_the_dispatcher() -> None:
    assert (ROOT / "s3df" / TASK_XML.name).read_bytes() == TASK_XML.read_bytes()
    text = TASK_XML.read_text()
    assert task_xml.problems(text) == []
    (task,) = task_xml.tasks(TASK_XML)
    assert task.name == "HalfPipe"
    texts = ("taskBase", "outputBase", "level1Name", "fosFlavor", "fmxRoot", "pipelineFlavor", "onlineName")
    numbers = ("downlinkID", "numChunks", "startL1", "maxEvents", "startOnline")
    assert task.prerequisites == dict.fromkeys(texts, "string") | dict.fromkeys(numbers, "integer")
    assert [each.name for each in task.processes] == ["process", "launchL1"]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('name="HalfPipe"', f'name="{"H" * 31}"'),
        ('version="3.0"', 'version="3.0-2026-11-26"'),
        ("--mem 8G", f"--mem 8G {'--nice=1 ' * 30}"),
        ('process="process"', 'process="mergeEvt"'),
        ('status="SUCCESS"', 'status="GOOD"'),
        ('type="integer"', 'type="number"'),
        ("<prerequisites>", "<prerequisites><var name='a'>1</var>"),
        ("</task>", ""),
        ("autoRetryMaxAttempts", "retries"),
        ("<notation>", f"<notation>{'n' * 200}"),
    ],
)
def test_our_check_finds_a_task_that_the_server_would_refuse(good: str, bad: str) -> None:
    text = TASK_XML.read_text()
    assert good in text
    assert len(task_xml.problems(text.replace(good, bad))) >= 1


def test_the_variables_of_a_stream_must_agree() -> None:
    program = module(str(ROOT / "scripts" / "pipeline_task.py"))
    stream = program.Stream.of(GIVEN)
    assert (stream.downlink, stream.profile, stream.again) == ("080819007", "profiles/pipeline", False)
    trial = GIVEN | {"fosFlavor": "ISOC_TEST", "pipelineFlavor": "DEV"}
    for mode in ({}, {"PIPELINE_MODE": "DEV"}):
        assert program.Stream.of(trial | mode | {"again": "1"}).profile == "profiles/dev"
    for wrong in (
        {"fosFlavor": "ISOC_TEST"},
        {"pipelineFlavor": "DEV"},
        {"PIPELINE_MODE": "DEV"},
        {"downlinkID": "x"},
        {"numChunks": ""},
    ):
        with pytest.raises(ConfigError):
            program.Stream.of(GIVEN | wrong)
    with pytest.raises(ConfigError, match="startL1"):
        program.Stream.of({key: value for key, value in GIVEN.items() if key != "startL1"})


def ask(server: Path, *words: str) -> tuple[int, str]:
    """Run scripts/pipeline_stream.py with the stand-in; return its exit status and what it prints."""
    client = f"{sys.executable} {CLIENT} --server {server}"
    command = [sys.executable, str(ROOT / "scripts" / "pipeline_stream.py"), "--client", client, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def test_the_client_is_called_in_its_public_forms(tmp_path: Path) -> None:
    create = [sys.executable, str(CLIENT), "--server", str(tmp_path), "createStream", "-S"]
    assert ask(tmp_path, "check", DL)[0] == 2, "an empty list proves nothing"
    assert ask(tmp_path, "check", DL, "--new-version")[0] == 1
    subprocess.run([*create, "240601002", "L1Proc"], check=True)
    assert ask(tmp_path, "check", DL) == (1, f"L1Proc[{DL}] findRunDirs does not exist\n")
    assert ask(tmp_path, "rollback", DL)[0] == 1
    subprocess.run([*create, DL, "L1Proc"], check=True)
    assert ask(tmp_path, "check", DL) == (0, f"L1Proc[{DL}] findRunDirs SUCCESS\n")
    assert ask(tmp_path, "rollback", DL)[0] == 0
    assert ask(tmp_path, "status", DL)[0] == 2, "there is no task HalfPipe"
    assert ask(tmp_path, "check", DL, "--mode", "DEV")[0] == 2
    (tmp_path / "modes.json").write_text(json.dumps({"find": "refuse", "rollbackStream": "refuse"}))
    assert [ask(tmp_path, command, DL)[0] for command in ("check", "rollback")] == [2, 3]
    assert ask(tmp_path, "check", DL, "--client", "/no/such/client")[0] == 2
