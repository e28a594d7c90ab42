"""Start the programs of jobs as forks of this process, which has loaded their modules already.

A decoder that starts Python and imports numpy costs more than its work, and this is a fifth of a test run.
`halfpipe.process.programs` starts every program by its one name `Popen`, and `install` puts `start` in its place.
`start` calls the real `Popen`, with a `preexec_fn` if the program is a Python file of this interpreter. `Popen` calls
that function in the new process, with pipes, directory and process group as they shall be, before the new program would
replace it. The function does not return: it runs the file's `main` and ends the process. So `Popen` and its caller
see an ordinary child with a number, pipes and an exit status.

Three things differ from a program that is started. A program with an environment of its own or in a session of its own
is started, not forked. So is everything that is not a Python file. And ``timeout SECONDS`` before the program is left
out if no test can reach it.
"""

import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from halfpipe.process import programs

NO_TEST_WAITS = 60  # seconds


def install(main_of: Callable[[str], Callable[[], object] | None], signals: Sequence[int]) -> None:
    """Fork from now on. `main_of` returns the `main` of a file that is loaded; the `signals` get their defaults."""
    setattr(programs, "Popen", partial(start, main_of, signals))  # noqa: B010 - to a name that types know as a class


def start(
    main_of: Callable[[str], Callable[[], object] | None],
    signals: Sequence[int],
    words: Sequence[str],
    **keys: Any,
) -> "subprocess.Popen[bytes]":
    """Start a program, or fork if it is a Python file."""
    named = words[3:] if words[0] == "timeout" and float(words[2]) > NO_TEST_WAITS else words
    is_file = named[0] == sys.executable and not named[1].startswith("-")
    if is_file and not keys.get("env") and not keys.get("start_new_session"):
        words = named
        main = main_of(named[1]) or partial(runpy.run_path, named[1], run_name="__main__")
        keys["preexec_fn"] = partial(_become, main, named[1:], signals)
    return subprocess.Popen(words, **keys)


def _become(main: Callable[[], object], words: Sequence[str], signals: Sequence[int]) -> NoReturn:
    """Run the program in the new process, and end it."""
    status = 1
    try:
        os.closerange(3, 1024)  # also a pipe of Popen, which waits until it is closed
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        sys.argv = list(words)
        with (
            open(0, closefd=False) as sys.stdin,
            open(1, "w", closefd=False) as sys.stdout,
            open(2, "w", closefd=False) as sys.stderr,
        ):
            try:
                status = ended(main)
            except Exception:
                traceback.print_exc()
    finally:
        os._exit(status)


def ended(main: Callable[[], object]) -> int:
    """Run a program's `main`; return its exit status."""
    try:
        status = main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return status if isinstance(status, int) else 0
