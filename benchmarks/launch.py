"""Runs the commands of the benchmarks, one a line of standard input, and says what each cost.

A process of its own that imports next to nothing: the kernel counts the memory of the process that
starts a command into the command's peak. Each line is JSON: `command`, `cwd`, `env` and `said`, the
file that takes what the command prints. The answer is a line of JSON: `status`, wall-clock and CPU
seconds, and the peak memory of the largest process among the command and what it waited for, in bytes.
"""

import json
import os
import sys
import time


def run(command: list[str], cwd: str, env: dict[str, str], said: str) -> dict[str, float]:
    """Run one command and return what it cost."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(cwd)
            os.execvpe(command[0], command, env)  # noqa: S606 - commands come from the benchmarks alone
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
