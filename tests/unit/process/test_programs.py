"""Programs of others: how they end, what is kept of their output, and that nothing is waited for for ever."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.process import programs
from halfpipe.process.programs import Ending, Lines, Log


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def shell(code: str) -> list[str]:
    return ["sh", "-c", code]


def alive(marker: object) -> bool:
    """Tell whether a process lives that has `marker` in its command line."""
    return not subprocess.run(["pgrep", "-f", str(marker)], capture_output=True, check=False).returncode


def test_both_streams_go_into_the_log_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    file = io.StringIO()
    log = Log(file)
    code = "import os, sys; print(os.getcwd(), flush=True); print(*range(9), sep='\\n', file=sys.stderr)"
    ending = programs.run(python(code), tmp_path, log)
    assert ending == Ending("ended with exit status 0", 0)
    assert ending.well
    assert file.getvalue().splitlines() == [str(tmp_path), *"012345678"]
    assert log.said == ("4", "5", "6", "7", "8")


def test_streams_can_be_told_apart(tmp_path: Path) -> None:
    out, errors = list[bytes](), list[bytes]()
    code = "import sys; sys.stdout.buffer.write(b'a\\xff\\n'); sys.stderr.write('b')"
    assert programs.run(python(code), tmp_path, out.append, errors.append).well
    assert (b"".join(out), b"".join(errors)) == (b"a\xff\n", b"b")
    assert (out[-1], errors[-1]) == (b"", b""), "each is told of the end"


@pytest.mark.parametrize(
    ("code", "status", "how"),
    [
        ("raise SystemExit(200)", 200, "ended with exit status 200"),
        ("import os; os.kill(os.getpid(), 11)", -11, "was ended by a crash (SIGSEGV)"),
        ("import os; os.kill(os.getpid(), 40)", -40, "was killed by signal 40"),
        ("import os; os.close(1); os.close(2); import time; time.sleep(0.3); os._exit(3)", 3,
         "ended with exit status 3"),
    ],
)  # fmt: skip
def test_endings_in_words(tmp_path: Path, code: str, status: int, how: str) -> None:
    ending = programs.run(python(code), tmp_path, Log(io.StringIO()))
    assert ending == Ending(how, status)
    assert not ending.well


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    for word, why in (("/no/such", "No such file or directory"), (tmp_path / "text", "Permission denied")):
        ending = programs.run([str(word)], tmp_path, Log(io.StringIO()))
        assert ending == Ending(f"cannot be started: {why}", None)
        assert not ending.well


def test_it_gets_no_input_its_environment_and_the_files_that_are_handed_down(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        code = (
            "import os, sys; assert not sys.stdin.read(); assert os.environ['A'] == 'b' and 'HOME' not in os.environ;"
            f"os.fstat({lock.fileno()})"
        )
        words = python(code)
        assert programs.run(words, tmp_path, print, environment={"A": "b"}, pass_fds=[lock.fileno()]).well
        assert not programs.run(words, tmp_path, lambda _: None, environment={"A": "b"}).well


def test_a_time_limit(tmp_path: Path) -> None:
    log = Log(io.StringIO())
    begun = time.monotonic()
    ending = programs.run(shell("echo begun; sleep 60"), tmp_path, log, seconds=0.5, whole_group=True)
    assert ending == Ending("was still running after 0.5 s and was ended", -signal.SIGTERM, late=True)
    assert log.said == ("begun",)
    # It has closed its output, is deaf, or ends well once it is told to: its time was up all the same.
    for code, status in (
        ("exec >&- 2>&-; while :; do sleep 0.05; done", -signal.SIGTERM),
        ("trap '' TERM; while :; do echo x; done", -signal.SIGKILL),
        ("trap 'exit 0' TERM; while :; do sleep 0.05; done", 0),
    ):
        ending = programs.run(
            shell(f"{code} # {tmp_path}"), tmp_path, lambda _: None, seconds=0.5, grace=1, whole_group=True
        )
        assert (ending.status, ending.late, ending.well) == (status, True, False), code
    assert time.monotonic() - begun < 10
    assert not alive(tmp_path)
    assert programs.run(shell("echo"), tmp_path, log, seconds=60).well


LEAVES_A_CHILD = (
    "import subprocess, sys; print('done', flush=True); subprocess.Popen(sys.argv[1:]); sys.exit(4)"
)


NAMES_ITS_CHILD = LEAVES_A_CHILD.replace(
    "subprocess.Popen(sys.argv[1:])", "print(subprocess.Popen(sys.argv[1:]).pid)"
)


def test_what_outlives_a_program_with_its_output_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(programs, "HELD_SECONDS", 0.5)
    quiet = python(f"import time; time.sleep(60) # {tmp_path}")
    loud = python(f"while True: print('x' * 999, flush=True) # {tmp_path}")
    for child in (quiet, loud):
        file, begun = io.StringIO(), time.monotonic()
        ending = programs.run([*python(NAMES_ITS_CHILD), *child], tmp_path, Log(file))
        assert ending.status == 4
        assert time.monotonic() - begun < 10
        (number,) = re.findall(r"^[0-9]+$", file.getvalue(), re.MULTILINE)
        if child is quiet:
            os.kill(int(number), signal.SIGTERM)
        assert file.getvalue().startswith("done\n")
        (message,) = caplog.messages
        assert re.search(r"^'?/.*python\S* -c .* has ended, but something that it started holds", message)
        caplog.clear()
    deadline = time.monotonic() + 10
    while alive(tmp_path):  # nobody reads the loud one: its next line has ended it
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_lets_go_of_the_output_soon_is_heard_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.StringIO()
    child = python("import time; time.sleep(0.5); print('later')")
    assert programs.run([*python(LEAVES_A_CHILD), *child], tmp_path, Log(file)).status == 4
    assert file.getvalue() == "done\nlater\n"
    assert caplog.messages == []


def test_a_whole_group_ends_with_its_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = python(f"import time; time.sleep(60) # {tmp_path}")
    begun = time.monotonic()
    ending = programs.run([*python(LEAVES_A_CHILD), *child], tmp_path, Log(io.StringIO()), whole_group=True)
    assert ending.status == 4
    waits = [*python(LEAVES_A_CHILD.replace("sys.exit(4)", "import time; time.sleep(60)")), *child]
    assert programs.run(waits, tmp_path, Log(io.StringIO()), whole_group=True, seconds=1).late
    assert time.monotonic() - begun < programs.HELD_SECONDS
    assert caplog.messages == []
    assert not alive(tmp_path)


@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize(
    ("first", "then"), [("", ""), ("trap '' TERM;", ""), ("", "exec >&- 2>&-;")], ids=["", "deaf", "closed"]
)
def test_it_is_ended_when_we_are_told_to_end(
    tmp_path: Path, first: str, then: str, whole_group: bool
) -> None:
    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    def told(line: bytes) -> None:
        if line:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()

    before = signal.signal(signal.SIGUSR1, end)
    code = f"{first} echo begun; {then} exec sleep 60"
    try:
        with pytest.raises(SystemExit, match="138"):
            programs.run(shell(code), tmp_path, Lines(told), grace=0.5, whole_group=whole_group)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_error_of_who_takes_the_output_ends_it(tmp_path: Path) -> None:
    def gone(data: bytes) -> None:
        if data:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        programs.run(
            python(f"import time; print(1, flush=True); time.sleep(60) # {tmp_path}"), tmp_path, gone
        )
    assert not alive(tmp_path)


def test_told_to_end_when_it_has_just_ended(tmp_path: Path) -> None:
    def told(_: bytes) -> None:
        time.sleep(0.3)  # it has ended by now, and nobody has asked how
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        programs.run(shell("echo x"), tmp_path, lambda data: told(data) if data else None)


def test_300_megabytes_are_held_nowhere(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(3000): sys.stdout.write(f'{n:06d} {\"x\" * 9992}\\n' * 10)\nprint('the end')"
    program = (
        "import re, sys; from pathlib import Path; from halfpipe.process.programs import *\n"
        "with open(sys.argv[1], 'w') as file: assert run(sys.argv[2:], Path(), Log(file)).well\n"
        "print(re.search(r'VmHWM:\\s*([0-9]+) kB', Path('/proc/self/status').read_text())[1])"
    )
    path = tmp_path / "log"
    done = subprocess.run(
        [*python(program), str(path), *python(code)], stdout=subprocess.PIPE, text=True, check=True
    )
    assert int(done.stdout) < 60_000, "KiB"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("000000 x")
    (limit,) = (
        n for n, line in enumerate(lines) if line.startswith("halfpipe: the program has printed 32 MiB")
    )
    said = re.fullmatch(
        r"halfpipe: ([\d,]+) bytes that the program printed are left out here, .*", lines[limit + 1]
    )
    assert said is not None
    kept = sum(len(line) + 1 for line in [*lines[:limit], *lines[limit + 2 :]])
    assert kept + int(said[1].replace(",", "")) == 300_000_000 + len("the end\n")
    assert programs.LOG_HEAD + programs.LOG_TAIL - 20_000 < kept <= programs.LOG_HEAD + programs.LOG_TAIL
    assert lines[-1] == "the end"
    assert lines[-2].startswith("002999 x")


def test_output_that_fits_just_so_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LOG_HEAD", 10)
    monkeypatch.setattr(programs, "LOG_TAIL", 7)
    for printed, left_out in ((b"123\n" * 3 + b"45\n", 0), (b"123\n" * 4 + b"45\n", 4)):
        file = io.StringIO()
        log = Log(file)
        log(printed)
        log(b"")
        assert ("halfpipe: " in file.getvalue()) == bool(left_out)
        assert file.getvalue().endswith("45\n")
        assert (f"{left_out} bytes" in file.getvalue()) == bool(left_out)


def test_a_log_on_a_full_disk_fails_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Path("/dev/full").open("w") as full:
        log = Log(full)
        try:
            assert programs.run(["seq", "100000"], tmp_path, log).well
        finally:
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert log.said[-1] == "100000"
    assert caplog.messages == [
        "the log takes no more: No space left on device. What the program prints is lost."
    ]


def test_who_listens_says_what_the_log_gets(tmp_path: Path) -> None:
    file, heard = io.StringIO(), list[str]()

    def hear(line: str) -> bool:
        heard.append(line)
        return "not this" not in line

    log = Log(file, hear)
    printed = r"a\nnot this\r\nprogress\rb\xff\r\n\xc3\xa9"
    assert programs.run(["printf", printed], tmp_path, log).well
    assert heard == ["a\n", "not this\n", "progress\n", "b\ufffd\n", "\u00e9"]
    assert file.getvalue() == "a\nprogress\nb\ufffd\n\u00e9"
    assert log.said == ("a", "progress", "b\ufffd", "\u00e9")


@given(
    st.lists(
        st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\x0b", b"\xe2\x80\xa8", b"xyz" * 6]), max_size=12
    ),
    st.lists(st.integers(1, 20), min_size=1, max_size=9),
)
def test_lines_are_those_of_the_stream_however_it_is_cut(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    heard = list[bytes]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "LINE_LIMIT", 16)
        lines = Lines(heard.append)
        at, turn = 0, 0
        while at < len(stream):
            step = sizes[turn % len(sizes)]
            lines(stream[at : at + step])
            at, turn = at + step, turn + 1
        lines(b"")
    assert b"".join(heard) == stream
    assert all(len(line) < 16 + max(sizes) for line in heard)
    whole = stream.splitlines(keepends=True)
    if all(len(line) < 16 for line in whole):
        assert heard == whole
