#!/usr/bin/env python3
"""A stand-in for DiagRet.py: prints SIMULATED attitude and orbit, or misbehaves.

    DiagRet.py --arch ROOT --scid S -b 'YYYY-MM-DD hh:mm:ss.uuuuuu' -e '...' --lsm

Like the flight program, it catches errors, prints them and ends with 0. <arch>/standin/modes.json selects
the misbehavior: {"magic7": "half"}.
"""

import getopt
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

MET_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)


def moment(text: str) -> datetime:
    """Read a time like the flight program, which does not accept a number of seconds."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def retrieve(arch: str, begin: datetime, end: datetime) -> None:
    """Print a line of each kind every ten minutes."""
    mode = json.loads((Path(arch) / "standin" / "modes.json").read_text()).get("magic7")
    if mode == "hang":
        time.sleep(3600)
    if mode == "nothing":
        return
    now = begin
    half = begin + (end - begin) / 2
    while now <= end:
        met = int((now - MET_EPOCH).total_seconds())
        shown = f"{now:%Y-%m-%d %H:%M:%S.%f}"
        print(f"{shown} ATT {met} 0 0.5 0.5 0.5 0.5 0.000000 0.000000 0.000000")
        print(f"{shown} ORB {met} 0 1.000000 2.000000 3.000000 4.000000 5.000000 6.000000 5 0")
        print(f"{shown} ANC SSR=001 MODE=SURVEY")
        print(f"{shown} TT  {met} 0x0000")
        now += timedelta(minutes=10)
        if now > half and mode == "half":
            raise RuntimeError("cannot read packet file")
    if mode == "goodbye":
        print("DiagRet: done")


def main() -> None:
    """Behave like the flight program."""
    options = dict(getopt.getopt(sys.argv[1:], "a:b:e:s:", ["archdir=", "scid=", "lsm"])[0])
    print("DiagRet: STAND-IN, the lines are SIMULATED", file=sys.stderr)
    try:
        retrieve(options["--archdir"], moment(options["-b"]), moment(options["-e"]))
    except Exception as error:
        print(error)


if __name__ == "__main__":
    main()
