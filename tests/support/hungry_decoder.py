"""A decoder that replays products made before, after a sleep, and asks much of the job that runs it.

``--hungry 00001=800`` takes 800 MB for chunk 00001 and holds them for some seconds; ``--slow 00002=70``
sleeps 70 s over chunk 00002, and ``--pause 5`` sleeps 5 s over each.
"""

import argparse
import subprocess
import time
from pathlib import Path

HOLD_SECONDS = 8  # Slurm looks at the memory of its jobs from time to time
REPLAY = Path(__file__).with_name("replay_decoder.sh")


def _pair(text: str) -> tuple[str, int]:
    chunk, number = text.split("=")
    return chunk, int(number)


def main() -> int:
    """Be hungry and slow, then replay."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hungry", type=_pair, action="append", default=[])
    parser.add_argument("--slow", type=_pair, action="append", default=[])
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("-r", dest="retdef", type=Path, required=True)
    own, others = parser.parse_known_args()
    chunk = own.retdef.stem[-5:]
    time.sleep(own.pause + dict(own.slow).get(chunk, 0))
    if megabytes := dict(own.hungry).get(chunk):
        held = bytearray(b"\1") * (megabytes << 20)
        time.sleep(HOLD_SECONDS)
        del held
    return subprocess.run(["sh", str(REPLAY), "-r", str(own.retdef), *others], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
