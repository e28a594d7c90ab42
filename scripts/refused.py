#!/usr/bin/env python3
"""Fail with the reason why a target was refused: every refused target depends on this job."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Leave an empty log, and fail. The command prints the reason when it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, help="not used, but given to every job")
    parser.add_argument("--why", required=True, help="the reason")
    parser.add_argument("--log", type=Path, required=True, help="log file")
    arguments = parser.parse_args(argv)
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    arguments.log.touch()
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
