"""All pictures of a downlink: of itself and of its runs, beside what it brought."""

import time
from typing import Any

from halfpipe import paths
from halfpipe.files.durable import make_directory, write_bytes
from halfpipe.ids import DownlinkId, RunId
from halfpipe.pages import downlink_picture as downlinks
from halfpipe.pages import run_picture as runs
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import Site


def draw(settings: Settings, downlink: DownlinkId) -> dict[str, Any]:
    """Draw a downlink that was handed off and its runs; return what vouches for the pictures.

    Raises
    ------
    MissingInputError, ReceiptError
        As `halfpipe.run.receipt_file.read_receipt`.
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
