"""Processes a downlink again and again without Snakemake, each time in a fork, killed at a moment or not at all.

Reads lines of JSON: `at` (the moment; 0 lists all into `once`, below 0 never), `once`, `shadow` (where what is
flushed is kept, or nothing), `missing` (only what is outstanding). Says how each ended.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from halfpipe import paths
from halfpipe.files import leases
from halfpipe.files.durable import write_text
from halfpipe.ids import DownlinkId
from tests.support.injected.sitecustomize import Fault, Shadow, harm
from tests.support.leases import time_passes
from tests.support.workflow import Listed, Site


def work(
    site: Site,
    downlink: str,
    jobs: Sequence[Listed],
    settings: Mapping[Path, str],
    order: Mapping[str, object],
) -> None:
    """Process the downlink as `order` says: what the head does, then `jobs`."""
    os.setpgid(0, 0)
    at = int(str(order["at"]))
    do = harm("job" if at else "list", str(order["once"]), str(site.home))
    shadow = Shadow(str(order["shadow"])) if order["shadow"] else None
    Fault(str(site.home), at, do).install(shadow)
    leases.lifetime = site.settings.lease.seconds
    time_passes(site.work)  # since the one before was killed
    with leases.downlink_job(site.work, DownlinkId(downlink)):
        pass  # Snakemake's head takes the lease even if there is nothing to do
    for path, text in settings.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    site.by_hand(downlink, missing=bool(order["missing"]), jobs=jobs)


def main(home: str, downlink: str) -> None:
    """Follow the orders."""
    site = Site(Path(home), yaml.safe_load((Path(home) / "config.yaml").read_text()))
    jobs: list[Listed] = []
    for line in sys.stdin:
        if not jobs:
            jobs = site.listed(f"dl={downlink}")
            settings = {path: path.read_text() for path in site.work.glob(paths.settings("*"))}
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)
            try:
                work(site, downlink, jobs, settings, json.loads(line))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(99)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
