"""What was delivered, over many downlinks, as a table."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from halfpipe import paths
from halfpipe.files import read_json
from halfpipe.handoff.receipt import state_of
from halfpipe.ids import DownlinkId

COLUMNS = ("downlink", "hand-off", "run", "L1 run", "kind", "files", "events", "orphans", "late", "state")


def table(work: Path, downlinks: Iterable[DownlinkId]) -> pd.DataFrame:
    """Return a table of what the receipts say, one row a downlink and run.

    Parameters
    ----------
    work
        `paths.work`.
    downlinks
        Downlinks that have a receipt.

    Raises
    ------
    MissingInputError
        If one has none.
    """
    rows = []
    for downlink in downlinks:
        receipt = read_json(work / paths.receipt(downlink))
        for run in receipt["runs"]:
            rows.append(
                (
                    receipt["downlink"],
                    receipt["handoff"],
                    run["run"],
                    run["l1_run"],
                    run["kind"],
                    len(run["files"]),
                    run["delivered"],
                    run["orphans"],
                    run["late"],
                    state_of(run),
                )
            )
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))
