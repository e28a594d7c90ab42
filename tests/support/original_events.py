"""One simulated event of each kind, written by the original event file library: the bytes and the values in them.

In tests/original_events, `header.evt` is the header of a file with the LPA event. For each kind, there is a file with
the record, and a file with its fields, each as ``name@byte=value``.
"""

from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / "original_events"
RECORDS = {kind: (HOME / f"{kind}.bin").read_bytes() for kind in ("LPA", "LCI_ACD", "LCI_CAL", "LCI_TKR")}
FIELDS = {kind: (HOME / f"{kind}.txt").read_text() for kind in RECORDS}
LPA_RECORD, ACD_RECORD, CAL_RECORD, TKR_RECORD = RECORDS.values()
LPA_FILE = (HOME / "header.evt").read_bytes() + LPA_RECORD
