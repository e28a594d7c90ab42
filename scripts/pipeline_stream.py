#!/usr/bin/env python3
"""Ask Pipeline-II's client about the streams of a downlink, or roll one back: for submit.check and submit.rollback.

``check`` and ``status`` end with 0 if each stream exists, 1 if one does not exist, and 2 if this is unknown. This
program uses public commands of the client: ``find TASK PROCESS FIELD...`` prints a line for each stream, and
``rollbackStream --force TASK[ID]`` rolls one back. docs/submission.md has the sources.
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

LEVEL1 = ("L1Proc", "findRunDirs")  # the task, and the first process of each stream
OURS = (("HalfPipe", "process"), ("HalfPipe", "launchL1"), LEVEL1)
ROW = re.compile(r"(\d+),(\w+)")  # stream, status
SECONDS = 240.0  # for the client; below submit.seconds
EXISTS, NONE, UNKNOWN = 0, 1, 2


class Client:
    """The client, for one mode of the server."""

    def __init__(self, words: Sequence[str], mode: str) -> None:
        self.words = [*words, "-m", mode]

    def run(self, *words: str) -> tuple[int | None, str]:
        """Run the client; return its exit status (None if it did not start or end in time) and its output."""
        command = [*self.words, *words]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{shlex.join(command)}: {error}", file=sys.stderr)
            return None, ""
        return done.returncode, done.stdout

    def state(self, task: str, process: str, stream: int, new_version: bool) -> str | None:
        """Return the status of a stream's process: empty if there is no such stream, None if this is unknown."""
        status, output = self.run("find", task, process, "stream", "status")
        rows = [row for line in output.splitlines() if (row := ROW.fullmatch(line.strip()))]
        found = [row[2] for row in rows if int(row[1]) == stream]
        if status != 0:
            print(f"the client ended with status {status}", file=sys.stderr)
            return None
        if not (rows or new_version):
            print(
                f"{task} has no streams. Check its name and that of its process {process}. For the first stream of a "
                "new version of the task: --new-version",
                file=sys.stderr,
            )
            return None
        return found[-1] if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Ask Pipeline-II's client about streams, or roll one back.")
    parser.add_argument("command", choices=["check", "status", "rollback"])
    parser.add_argument("downlink", help="nine digits")
    parser.add_argument("--client", default="pipeline", help="the client, as words of a command line")
    parser.add_argument("--mode", default="PROD", choices=["PROD", "DEV"])
    parser.add_argument(
        "--new-version",
        action="store_true",
        help="if the task has no streams, report that this one does not exist",
    )
    given = parser.parse_args(argv)
    client, stream = Client(shlex.split(given.client), given.mode), int(given.downlink)
    if given.command == "rollback":
        task, _ = LEVEL1
        status, output = client.run("rollbackStream", "--force", f"{task}[{stream}]")
        print(output, end="")
        if status:
            print(
                "the server refuses while a process of the stream is running; try again later",
                file=sys.stderr,
            )
        return UNKNOWN if status is None else status
    worst = EXISTS
    for task, process in [LEVEL1] if given.command == "check" else OURS:
        state = client.state(task, process, stream, given.new_version)
        print(f"{task}[{stream}] {process} {'unknown' if state is None else state or 'does not exist'}")
        worst = max(worst, UNKNOWN if state is None else EXISTS if state else NONE)
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
