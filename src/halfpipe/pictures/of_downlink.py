"""All pictures of a downlink: of itself and of its runs, beside what it brought."""

import time
from typing import Any

from halfpipe.ids import DownlinkId, RunId
from halfpipe.pictures import downlink as downlinks
from halfpipe.pictures import run as runs
from halfpipe.reports.explain import Site
from halfpipe.runs.receipt_file import read_receipt
from halfpipe.settings import Settings
from halfpipe.storage import paths
from halfpipe.storage.durable import make_directory, write_bytes


def draw(settings: Settings, downlink: DownlinkId) -> dict[str, Any]:
    """Draw a downlink that was handed off and its runs; return what vouches for the pictures.

    Raises
    ------
    MissingInputError, ReceiptError
        As `halfpipe.runs.receipt_file.read_receipt`.
    HalfPipeError
        If what is known of a run is damaged.
    """
    work, site = settings.paths.work, Site(settings, time.time())
    receipt = read_receipt(work, downlink)
    home = make_directory(work, paths.pictures(downlink))
    made = [f"downlink-{downlink}.svg"]
    write_bytes(home / made[0], downlinks.picture(site, downlink, "svg"))
    for run in receipt["runs"]:
        if run["epus"]:
            made.append(f"run-{run['run']}.svg")
            write_bytes(home / made[-1], runs.picture(site, RunId(run["run"]), "svg"))
    return {"downlink": downlink, "handoff": receipt["handoff"], "pictures": made}
