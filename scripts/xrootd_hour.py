#!/usr/bin/env python3
"""Fetch an hour of some APIDs from a copy of level-0 behind XRootD, each file with its checksum: for level0.fetch.

Status 0: the directory has all files of the hour and APIDs that the copy has, perhaps none. Any other status: the copy
cannot be read, or a file is incomplete. `LIMITS` exist because a client otherwise tries a dead server for many minutes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

LIMITS = {  # seconds and attempts; values in the environment take precedence
    "XRD_CONNECTIONRETRY": "1",
    "XRD_CONNECTIONWINDOW": "20",
    "XRD_REQUESTTIMEOUT": "120",
    "XRD_STREAMTIMEOUT": "60",
    "XRD_TIMEOUTRESOLUTION": "5",
    "XRD_STREAMERRORWINDOW": "0",
}
NAME = re.compile(r"s[0-9]{4}a([0-9]{4})t[0-9.]+")  # a file of level-0, with its APID
NOT_FOUND = "[3011]"  # kXR_NotFound (XProtocol.hh)


def files(server: str, directory: str, environment: dict[str, str]) -> list[str] | None:
    """Return the paths of the files in a directory of a server, none if it does not exist; None if this is unknown."""
    listed = subprocess.run(
        ["xrdfs", server, "ls", directory], env=environment, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return listed.stdout.split()
    print(listed.stdout, listed.stderr, sep="", end="", file=sys.stderr)
    return [] if NOT_FOUND in listed.stderr + listed.stdout else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Fetch an hour of level-0 from a copy behind XRootD.")
    parser.add_argument("root", help="root of the copy, root://host//path")
    parser.add_argument("hour", help="directory of the hour below the root")
    parser.add_argument("apids", help="the APIDs, separated by commas")
    parser.add_argument("out", type=Path, help="directory for its files")
    arguments = parser.parse_args(argv)
    environment = LIMITS | os.environ
    url = urlsplit(arguments.root)
    server = f"{url.scheme}://{url.netloc}"
    for program in ("xrdfs", "xrdcp"):
        if shutil.which(program) is None:
            print(f"{program} is not on the path: have XRootD's client programs installed", file=sys.stderr)
            return 1
    found = files(server, f"{url.path.rstrip('/')}/{arguments.hour}".replace("//", "/"), environment)
    if found is None:
        return 1
    apids = {int(apid) for apid in arguments.apids.split(",")}
    for path in found:
        name = NAME.fullmatch(Path(path).name)
        if name is None or int(name[1]) not in apids:
            continue
        words = [
            "xrdcp",
            "--nopbar",
            "--cksum",
            "adler32",
            f"{server}/{path}",
            str(arguments.out / Path(path).name),
        ]
        if status := subprocess.run(words, env=environment, check=False).returncode:
            print(f"{path}: xrdcp ended with status {status}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
