"""What is remembered of a run's re-pipes: a line when one is begun, and one when it has ended well."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfpipe.ids import RunId
from halfpipe.storage import paths
from halfpipe.storage.json_lines import JsonLines


def record(work: Path, run: RunId) -> JsonLines:
    """Return the list of what was re-piped of a run."""
    return JsonLines(work / paths.repipe_record(run))


def done(work: Path, run: RunId) -> tuple[Mapping[str, Any], ...]:
    """Return what the list says of the re-pipes that ended well, in order."""
    return tuple(value for value in record(work, run).values if "events" in value)
