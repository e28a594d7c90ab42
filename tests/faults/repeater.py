"""Processes a downlink again and again without Snakemake, each time in a fork, killed at a moment or not at all.

Reads lines of JSON: `at` (the moment; 0 lists all into `once`, below 0 never), `once`, `shadow` (where what is
flushed is kept, or nothing), `missing` (only what is outstanding). Says how each ended.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import yaml

from halfpipe import locks
from halfpipe.ids import DownlinkId
from tests.faults.injected.sitecustomize import Fault, Shadow, harm
from tests.workflow import Site


def work(home: Path, downlink: str, order: dict[str, object]) -> None:
    """Process the downlink as `order` says."""
    os.setpgid(0, 0)
    at = int(str(order["at"]))
    do = harm("job" if at else "list", str(order["once"]), str(home))
    shadow = Shadow(str(order["shadow"])) if order["shadow"] else None
    Fault(str(home), at, do).install(shadow)
    if not order["shadow"]:
        locks.BOOT_ID = home / "no-boot-id"
    site = Site(home, yaml.safe_load((home / "config.yaml").read_text()))
    with locks.downlink_job(site.work, DownlinkId(downlink)):
        pass  # Snakemake's head takes the lock even if there is nothing to do
    site.by_hand(downlink, missing=bool(order["missing"]))


def main(home: str, downlink: str) -> None:
    """Follow the orders."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)
            try:
                work(Path(home), downlink, json.loads(line))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(99)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
