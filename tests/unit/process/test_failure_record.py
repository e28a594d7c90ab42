"""Why a job failed, as the job or its head records it."""

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_executor_plugin_halfpipe as executor
import snakemake_logger_plugin_halfpipe as plugin
from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.deliver.shrinking import ShrunkError
from halfpipe.errors import DecoderError, HalfPipeError, Remedy
from halfpipe.process import rule_program
from halfpipe.process.failure_record import Failure, forget
from halfpipe.settings import Paths, Settings
from tests.support.harness import failure_code
from tests.support.workflow import Site


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ShrunkError("it shrinks", Remedy("snakemake -F")), "shrunk"),
        (DecoderError("it is long", code="magic7", text="in short"), "magic7"),
        (OSError(errno.EACCES, "Permission denied", "/proc/x"), "file-system"),
        (OSError(errno.ENOSPC, "No space left", "/proc/x"), "disk-full"),
        (MemoryError(), "memory"),
        (KeyError("x"), "defect"),
        (SystemExit(143), "interrupted"),
        (SystemExit(130), "interrupted"),
    ],
)
def test_a_job_that_fails_records_why(
    tmp_path: Path, error: BaseException, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "job.log"
    argv = ["--settings", str(write_down(Settings(Paths(tmp_path, tmp_path)))), "--log", str(log)]
    parser = rule_program.parser("", downlink=False)

    def fails(*_: object) -> None:
        assert Failure.read(log) is None, "it begins again"
        raise error

    for _ in range(2):
        if isinstance(error, Exception):
            assert rule_program.run(fails, parser, argv) == 1
        else:
            with pytest.raises(type(error)):
                rule_program.run(fails, parser, argv)
        why = Failure.read(log)
        assert why is not None
        assert why.code == code
        assert why.command.endswith(f"--log {log}")
        assert re.match(rf"[0-9-]+ [0-9:,]+ INFO .* --log {log}\n", log.read_text())
        assert (", in fails\n" in why.trace) is (code == "defect")
        if code == "file-system":
            assert why.text.startswith("/proc/x: Permission denied. /proc belongs to ")
            assert re.search(rf"\buid {Path('/proc').stat().st_uid}\)?, mode d", why.text)
            assert f"error: {why.text}\n" in capsys.readouterr().err
        if code == "disk-full":
            assert why.text.startswith("DISK FULL /proc: ")
        if isinstance(error, HalfPipeError):
            assert (why.text, str(why.remedy)) == (error.text, str(error.remedy))
    assert rule_program.run(lambda *_: None, parser, argv) == 0
    assert Failure.read(log) is None


def test_a_full_disk_that_is_not_known_and_a_record_that_cannot_be_written() -> None:
    assert (Failure.full(None).code, Failure.full(None).place) == ("disk-full", "")
    assert not Failure("decoder", "it failed").write(Path("/proc/job.log"))


@pytest.mark.parametrize(
    "change", [{"code": 1}, {"commands": "misspelt"}, {"text": None}, {"remedy": {"do": [], "first": ""}}]
)
def test_a_damaged_record_is_the_reason_with_its_name(change: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    record = tmp_path / "job.failure.json"
    Failure("decoder", "it failed").write(log)
    good = json.loads(record.read_bytes())
    for content in (json.dumps(good | change), "{"):
        record.write_text(content)
        why = Failure.read(log)
        assert why is not None
        assert (why.code, str(record) in why.text) == ("format", True)


def common(*, dryrun: bool) -> Any:
    return SimpleNamespace(dryrun=dryrun, verbose=False, printshellcmds=False, debug_dag=False, quiet=None)


@pytest.fixture
def head() -> Iterator[plugin.LogHandler]:
    handler = plugin.LogHandler(common(dryrun=False), None)
    yield handler
    handler.close()


def log_event(head: plugin.LogHandler, event: LogEvent, **what: Any) -> None:
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, "said", (), None)
    vars(record).update(event=event, **what)
    assert head._take(record)


def failing(head: plugin.LogHandler, *logs: Path, said: str | None = None) -> None:
    names = [str(log) for log in logs]
    log_event(head, LogEvent.JOB_ERROR, jobid=1, log=names, rule_msg=said, shellcmd="do it")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("OUT_OF_MEMORY", "memory"), ("TIMEOUT", "time-limit"), ("CANCELLED by 1000", "interrupted"),
        ("NODE_FAIL", "node-failed"), ("PREEMPTED", "interrupted"), ("FAILED", "decoder"),
        ("FAILED\nFAILED\nOUT_OF_MEMORY", "memory"), ("TIMEOUT\nCANCELLED\nOUT_OF_MEMORY", "time-limit"),
        ("FAILED\nCANCELLED by 0", "decoder"),
    ],
)  # fmt: skip
def test_the_state_in_slurm_replaces_the_record_of_the_job(
    head: plugin.LogHandler, tmp_path: Path, state: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: list[str], **_: Any) -> Any:
        assert (words[0], words[-1]) == ("sacct", "4711")
        return SimpleNamespace(stdout=f"{state}\n")

    monkeypatch.setattr("halfpipe.process.programs.subprocess.run", run)
    log = tmp_path / "job.log"
    of_slurm = tmp_path / "slurm_logs" / "4711.log"
    given = {"mem_mb": 4000, "runtime": 30}
    log_event(head, LogEvent.JOB_INFO, jobid=1, log=[str(log)], resources=given)
    Failure("decoder", "the decoder was killed").write(log)
    failing(head, log, of_slurm)
    why = Failure.read(log)
    assert why is not None
    assert why.code == code
    assert ("(mem_mb: 4000)" in why.text) == (code == "memory")
    assert ("(runtime: 30)" in why.text) == (code == "time-limit")


@pytest.mark.parametrize(
    ("logged", "used", "code"), [("", False, "executor"), ("a line", False, ""), ("", True, "")]
)
def test_a_program_that_could_not_start_is_a_failure(
    logged: str, used: bool, code: str, head: plugin.LogHandler, tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    log.write_text(logged)
    if used:
        (tmp_path / paths.USAGE).write_text('{"job": "job"}\n')
    failing(head, log)
    assert failure_code(log) == code


def test_a_program_that_was_interrupted_at_its_start_needs_action(
    head: plugin.LogHandler, tmp_path: Path
) -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        log_event(head, LogEvent.ERROR)
    failing(head, tmp_path / "job.log")
    assert failure_code(tmp_path / "job.log") == "interrupted"


@pytest.mark.parametrize("submitted", [False, True])
def test_the_error_of_the_executor_counts_without_a_record_of_the_job(
    submitted: bool, head: plugin.LogHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "halfpipe.process.programs.subprocess.run",
        lambda *_, **__: SimpleNamespace(stdout="FAILED\nFAILED\n"),
    )
    log = tmp_path / "job.log"
    of_slurm = tmp_path / "slurm_logs" / "4711.log"
    failing(head, log, *([of_slurm] if submitted else []), said="sbatch: no such\npartition")
    why = Failure.read(log)
    assert why is not None
    assert (why.code, why.text, why.command) == ("executor", "sbatch: no such partition", "do it")
    assert (str(of_slurm) in str(why.remedy)) is submitted


def test_a_state_that_does_not_explain_the_record_of_the_job_leaves_it(
    head: plugin.LogHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm ended the whole group, and this job had failed before."""
    monkeypatch.setattr(
        "halfpipe.process.programs.subprocess.run", lambda *_, **__: SimpleNamespace(stdout="TIMEOUT\n")
    )
    before = Failure("shrunk", "it would lose events")
    before.write(tmp_path / "job.log")
    failing(head, tmp_path / "job.log", tmp_path / "slurm_logs" / "4711.log")
    assert Failure.read(tmp_path / "job.log") == before


def test_the_executor_reads_the_state_of_a_job_in_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "11|CANCELLED by 1000\n12|PREEMPTED\n13|\n\n14|RUNNING\n"
    monkeypatch.setattr(
        "halfpipe.process.programs.subprocess.run", lambda *_, **__: SimpleNamespace(stdout=said)
    )
    one = object.__new__(executor.Executor)
    one.run_uuid = "a"
    assert one._states() == {"11": "CANCELLED", "12": "PREEMPTED", "14": "RUNNING"}


def test_what_sbatch_prints_names_the_key_to_correct_or_passes() -> None:
    by_a_limit = "{}; Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)"
    assert executor.key_for(by_a_limit.format("QOSMaxSubmitJobPerUserLimit")) is None
    assert "mem_mb" in str(executor.key_for(by_a_limit.format("QOSMaxCpuPerJobLimit")))
    assert "slurm_account" in str(
        executor.key_for("Invalid account or account/partition combination specified")
    )
    assert executor.key_for("Socket timed out on send/recv operation") is None
    assert executor.key_for("Unspecified error") == executor.UNKNOWN


def test_the_record_of_an_earlier_start_does_not_count(head: plugin.LogHandler, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    Failure("decoder", "it failed").write(log)
    os.utime(log.with_suffix(paths.FAILURE_SUFFIX), (1, 1))
    log_event(head, LogEvent.JOB_INFO, jobid=1, log=[str(log)], resources={})
    failing(head, log)
    assert failure_code(log) == "executor"


def test_failures_in_a_row_are_counted_and_a_crash_is_reported(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    crash = Failure("decoder", "it crashed at 0x7f01")
    crash.after(forget(log), "R. Doe").write(log)
    os.utime(log.with_suffix(paths.FAILURE_SUFFIX), (1000, 1000))
    for times in (2, 3):
        again = Failure("decoder", f"it crashed at {times}").after(forget(log), "R. Doe")
        assert (again.times, again.since, again.contact) == (times, 1000, "R. Doe")
        again.write(log)
    other = Failure("memory", "it needed more").after(forget(log), "R. Doe")
    assert (other.times, other.contact) == (1, "")
    assert Failure.read(log) is None
    for may_help in (Failure("killed", "it was killed"), replace(crash, remedy=Remedy(first="mount it"))):
        assert may_help.after(may_help, "R. Doe").contact == ""


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("words", "sentence", "status"),
    [
        (["240601007"], "no target is called 240601007: snakemake dl=240601007", 1),
        (["dl=", "--quiet", "all"], "'' is no", 1),
        (["-n", "dl=2406", "--quiet", "rules", "progress"], "'2406' is no", 0),
        (["-n", "dl=2406", "--quiet", "all"], "'2406' is no", 0),
    ],
)
def test_quiet_hides_no_misspelt_target(site: Site, words: list[str], sentence: str, status: int) -> None:
    ended = site.typed(*words)
    assert (ended.status, ended.said.count(sentence)) == (status, 1), ended.said
    assert not re.search("Traceback|Error in|Error:", ended.said), "without Snakemake's frame"


@pytest.mark.workflow
def test_another_plugin_may_print(site: Site) -> None:
    other = site.home / "plugins" / "snakemake_logger_plugin_noisy"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text(
        "from snakemake_interface_logger_plugins.base import LogHandlerBase\n"
        "class LogHandler(LogHandlerBase):\n"
        "    writes_to_stream, writes_to_file, needs_rulegraph = True, False, False\n"
        "    has_filter = has_formatter = True\n"
        "    def emit(self, record):\n"
        "        print('noisy', getattr(record, 'event', None), flush=True)\n"
    )
    site.work.mkdir(exist_ok=True)
    there = os.pathsep.join([str(other.parent), *sys.path])
    ended = site.typed("dl=240601001", "--logger", "halfpipe", "noisy", env={"PYTHONPATH": there})
    assert ended.status == 1
    assert "noisy job_error" in ended.said
    assert "Error in rule decode_chunk:" not in ended.said
    why = Failure.read(site.work / paths.LOGS / "240601001" / "decode_chunk-00001.log")
    assert why is not None
    assert why.code == "no-retdefs"
    assert f"\ndownlink 240601001: decode_chunk 00001: {why.text.rstrip('.')}\n" in ended.said, (
        "the end is printed in any case"
    )
