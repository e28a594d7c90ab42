"""Helpers: differences of trees, events of event files, paths of causes, logs of failed jobs, and messages."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from halfpipe.causes import Cause
from halfpipe.formats import evt
from halfpipe.process.failure_record import Failure
from halfpipe_simulator.troubles import failed_job


def differing(tree: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Return the names of the files that differ between two trees."""
    return sorted(name for name in {*tree, *expected} if tree.get(name) != expected.get(name))


def event_records(files: Iterable[Path]) -> list[bytes]:
    return sorted(record for path in files for record in records_of(path.read_bytes()))


def records_of(content: bytes) -> list[bytes]:
    """Return the event records of an event file, in order."""
    offsets = evt.walk(np.frombuffer(content, np.uint8), "").tolist()
    return [content[a:b] for a, b in pairwise([*offsets, len(content)])]


def events_of(content: bytes) -> list[tuple[int, int]]:
    """Return sequence and APID of each event of an event file, in order."""
    data = np.frombuffer(content, np.uint8)
    offsets = evt.walk(data, "an event file")
    columns = (evt.context_column(data, offsets, name) for name in ("scalers_sequence", "ccsds_apid"))
    return list(zip(*(column.tolist() for column in columns), strict=True))


def path_of(cause: Cause) -> Path:
    """Return the file that a cause of `halfpipe.status.receipt_check.check` is about."""
    return Path(cause.text.partition(": ")[0])


def failure_code(log: Path) -> str:
    """Return the code of the failure that is recorded for a log, or an empty text."""
    why = Failure.read(log)
    return why.code if why else ""


def job_log(
    work: Path, name: str, why: Failure | None = None, downlink: str = "240601001", said: str = "begun\n"
) -> Path:
    """Write the log of a job, and a record of its failure if there is one; return the log."""
    return failed_job(work, downlink, name, why, said)


class Messages(list[str]):
    """Collects messages; fails the first `missed` times."""

    def __init__(self, missed: int = 0) -> None:
        super().__init__()
        self._missed = missed

    def __call__(self, text: str) -> bool:
        """Store a message; return whether it was sent."""
        self.append(text)
        return len(self) > self._missed
