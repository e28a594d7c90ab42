"""Runs the commands of the benchmarks, one per line of standard input, and prints the cost of each.

This is a separate process with few imports, because the kernel includes the memory of the process that starts a command
in the command's peak. Each line is JSON: `command`, `cwd`, `env` and `said`, the file for the command's output. The
answer is a line of JSON: `status`, wall-clock and CPU seconds, and the peak memory in bytes of the largest process of
the command and its children.
"""

import json
import os
import sys
import time


def run(command: list[str], cwd: str, env: dict[str, str], said: str) -> dict[str, float]:
    """Run one command and return its cost."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(cwd)
            os.execvpe(command[0], command, env)  # noqa: S606 - commands come only from the benchmarks
        finally:
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    os.close(out)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(**json.loads(line))) + "\n")
        sys.stdout.flush()
