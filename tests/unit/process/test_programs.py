"""External programs: how they end, what is kept of their output, and that no wait is endless."""

import io
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe.process import programs
from halfpipe.process.programs import Lines, Log
from tests.support.servers import command_lines


def shell(code: str) -> list[str]:
    return ["sh", "-c", code]


def test_both_streams_go_into_the_log_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    file = io.StringIO()
    heard = list[str]()
    words = shell(
        r"pwd; printf '\033]0;x\007a\tb\r\n' >&2; for i in 1 2 3; do echo $i; done; printf 'c\rd\377\n\n'"
    )
    ending = programs.run(words, tmp_path, Log(file, heard.append))
    assert (ending.status, ending.well, ending.words) == (0, True, words)
    assert file.getvalue().splitlines() == [str(tmp_path), "?]0;x?a\tb", *"123", "c", "d\ufffd", ""]
    assert "".join(heard) == file.getvalue()
    assert ending.said == ("2", "3", "c", "d\ufffd", "")
    assert ending.saying == 'ended with exit status 0, saying: "d\ufffd"'
    assert ending.shown.endswith("\nIts last lines were:\n  | 2\n  | 3\n  | c\n  | d\ufffd\n  | \n")


def test_streams_can_be_separated(tmp_path: Path) -> None:
    out = list[bytes]()
    errors = list[bytes]()
    code = r"printf 'a\377\n'; printf b >&2"
    assert programs.run(shell(code), tmp_path, out.append, errors.append).well
    assert (b"".join(out), b"".join(errors)) == (b"a\xff\n", b"b")
    assert (out[-1], errors[-1]) == (b"", b""), "each is called at the end"


@pytest.mark.parametrize(
    ("words", "status", "how"),
    [
        (shell("exit 200"), 200, "ended with exit status 200"),
        (shell("kill -SEGV $$"), -11, "was ended by a crash (SIGSEGV)"),
        (shell("kill -40 $$"), -40, "was killed by signal 40"),
        (shell("exec >&- 2>&-; sleep 0.3; exit 3"), 3, "ended with exit status 3"),
        (["/no/such"], None, "cannot be started: No such file or directory"),
        (["/dev/null"], None, "cannot be started: Permission denied"),
    ],
)
def test_endings_in_words(tmp_path: Path, words: list[str], status: int | None, how: str) -> None:
    ending = programs.run(words, tmp_path, Log(io.StringIO()))
    assert (ending.status, ending.how, ending.well, ending.saying) == (status, how, False, how)


def test_it_has_no_input_and_gets_its_environment(tmp_path: Path) -> None:
    code = 'test -z "$(cat)" && test "$A" = b && test -z "$HOME"'
    both = {"A": "b", "PATH": os.environ["PATH"]}
    assert programs.run(shell(code), tmp_path, print, environment=both).well


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("echo begun; sleep 60", -signal.SIGTERM),
        ("exec >&- 2>&-; while :; do sleep 0.05; done", -signal.SIGTERM),
        ("trap '' TERM; while :; do echo x; done", -signal.SIGKILL),
        ("trap 'exit 0' TERM; while :; do sleep 0.05; done", 0),
    ],
    ids=["quiet", "closed", "deaf", "obedient"],
)
def test_a_time_limit(tmp_path: Path, code: str, status: int) -> None:
    begun = time.monotonic()
    words = shell(f"{code} # {tmp_path}")
    ending = programs.run(words, tmp_path, lambda _: None, seconds=0.2, grace=0.3, whole_group=True)
    assert (ending.status, ending.late, ending.well) == (status, True, False)
    assert time.monotonic() - begun < 10
    assert not command_lines(str(tmp_path))


def lives(number: str) -> bool:
    """Tell whether a process lives that is not our child."""
    try:
        return Path("/proc", number, "stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


LEAVES_A_CHILD = 'echo done; "$@" & echo $!; exit 4'  # a script for sh, and what it leaves


@pytest.mark.parametrize("child", [["sleep", "60"], ["yes"]], ids=["quiet", "loud"])
def test_a_child_that_keeps_the_output_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, child: list[str]
) -> None:
    monkeypatch.setattr(programs, "HELD_SECONDS", 0.3)
    file = io.StringIO()
    begun = time.monotonic()
    assert programs.run([*shell(LEAVES_A_CHILD), "sh", *child], tmp_path, Log(file)).status == 4
    assert time.monotonic() - begun < 10
    assert len(caplog.messages) == 1
    (number,) = re.findall(r"^[0-9]+$", file.getvalue(), re.MULTILINE)
    if child == ["sleep", "60"]:
        os.kill(int(number), signal.SIGTERM)
    while lives(number):  # the loud one ends at its next line, which is not read
        assert time.monotonic() - begun < 10
        time.sleep(0.01)


@pytest.mark.parametrize("seconds", [None, 0.3])
def test_a_whole_group_ends_with_its_program(tmp_path: Path, seconds: float | None) -> None:
    code = f"sh -c 'sleep 60; : {tmp_path}' & {'exit 4' if seconds is None else 'wait'}"
    begun = time.monotonic()
    ending = programs.run(shell(code), tmp_path, Log(io.StringIO()), whole_group=True, seconds=seconds)
    assert (ending.late, time.monotonic() - begun < programs.HELD_SECONDS) == (seconds is not None, True)
    assert not command_lines(str(tmp_path))


@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize(
    ("first", "then"), [("", ""), ("trap '' TERM;", ""), ("", "exec >&- 2>&-;")], ids=["", "deaf", "closed"]
)
def test_it_is_ended_when_this_process_ends(tmp_path: Path, first: str, then: str, whole_group: bool) -> None:
    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    def told(line: bytes) -> None:
        if line:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()

    before = signal.signal(signal.SIGUSR1, end)
    code = f"{first} echo begun; {then} exec sleep 60"
    try:
        with pytest.raises(SystemExit, match="138"):
            programs.run(shell(code), tmp_path, Lines(told), grace=0.3, whole_group=whole_group)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


LIVES = "trap 'touch asked; exit' TERM; echo x; while :; do sleep 0.05; done"


@pytest.mark.parametrize("code", [LIVES, "echo x"], ids=["lives", "has just ended"])
def test_an_error_of_the_output_callback_ends_it(tmp_path: Path, code: str) -> None:
    def gone(data: bytes) -> None:
        if data:
            time.sleep(0.1)
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        programs.run(shell(f"{code} # {tmp_path}"), tmp_path, gone)
    assert not command_lines(str(tmp_path))
    assert (tmp_path / "asked").exists() is (code == LIVES), "SIGTERM comes first"


@pytest.mark.parametrize(("lines", "kept"), [(3, 3), (4, 4), (100_000, 4)])
def test_a_log_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, kept: int) -> None:
    monkeypatch.setattr(programs, "LOG_BYTES", 12)
    file = io.StringIO()
    ending = programs.run(shell(f"yes 123 | head -n {lines}"), tmp_path, Log(file))
    written = file.getvalue().splitlines()
    assert (written[:3], len(written), ending.said[-1]) == (["123"] * 3, kept, "123")
    assert (written[-1] == "123") == (lines == 3)


def test_a_log_on_a_full_disk_fails_no_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Path("/dev/full").open("w") as full:
        try:
            ending = programs.run(["seq", "100000"], tmp_path, Log(full))
        finally:
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert (ending.well, ending.said[-1], len(caplog.messages)) == (True, "100000", 1)


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\x0b", b"\xe2\x80\xa8", b"xyz" * 6]), max_size=12
    ),
    st.lists(st.integers(1, 20), min_size=1, max_size=9),
)
def test_lines_do_not_depend_on_the_pieces_of_a_stream(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    heard = list[bytes]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "LINE_LIMIT", 16)
        lines = Lines(heard.append)
        at = 0
        turn = 0
        while at < len(stream):
            step = sizes[turn % len(sizes)]
            lines(stream[at : at + step])
            at = at + step
            turn = turn + 1
        lines(b"")
    assert b"".join(heard) == stream
    assert all(len(line) < 16 + max(sizes) for line in heard)
    whole = stream.splitlines(keepends=True)
    if all(len(line) < 16 for line in whole):
        assert heard == whole
