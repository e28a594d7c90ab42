"""Programs of rules after a signal, and with a log that cannot be written."""

import argparse
import logging
import os
import signal
from pathlib import Path
from typing import IO

import pytest

from halfpipe.config import write_down
from halfpipe.process import rule_program
from halfpipe.process.programs import Log, run
from halfpipe.settings import Paths, Settings


def test_a_job_handles_one_signal_and_ignores_more(tmp_path: Path) -> None:
    unwound = []
    written = write_down(Settings(Paths(tmp_path, tmp_path / "stage")))
    words = ["--settings", str(written), "--downlink", "230401001"]

    def job(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            unwound.append("all of it")

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            rule_program.run(job, rule_program.parser(None), words)
        os.kill(os.getpid(), signal.SIGTERM)  # its caller unwinds, too
        assert (ended.value.code, unwound) == (128 + signal.SIGTERM, ["all of it"])
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("log", ["/dev/full", "/proc/no/such/job.log"])
def test_a_log_that_cannot_be_written_does_not_fail_the_job(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    written = write_down(Settings(Paths(tmp_path, tmp_path / "stage")))
    words = ["--settings", str(written), "--downlink", "230401001", "--log", log]

    def job(_settings: Settings, _arguments: argparse.Namespace, output: IO[str]) -> None:
        assert run(["echo", "what a program prints"], tmp_path, Log(output)).well
        rule_program.log.warning("heard")

    assert rule_program.run(job, rule_program.parser(None), words) == 0
    assert capsys.readouterr().err.endswith("heard\n")
