"""The level-0 hours that a chunk needs, found or missing: whatever decoder reads them.

A decoder that finds no packets of an hour ends well: it has decoded all that there was.
"""

from pathlib import Path
from typing import Any

from halfpipe.formats import archive_hours, level0, met
from halfpipe.formats.retdef import RetDef

EDGE_SECONDS = 60  # of an hour: which one a packet stands in is not known to the second


def directories(retdef: RetDef) -> dict[str, int]:
    """Return the directories of an archive in which packets of a RetDef may lie, each with its hour's begin.

    They are relative to the archive's root, in order; times are Unix seconds.
    """
    spans = [(span.begin - EDGE_SECONDS, span.end + EDGE_SECONDS) for span in retdef.spans]
    begins = [hour * met.HOUR for hour in sorted(level0.hours_inside(spans))]
    return {str(level0.hour_path(Path(), retdef.scid, begin)): begin for begin in begins}


def needed(retdef: RetDef) -> list[tuple[int, int]]:
    """Return the hours that the spans of a RetDef need, each with its APID; counted from the Unix epoch, in order."""
    spans: dict[int, list[tuple[float, float]]] = {}
    for span in retdef.spans:
        spans.setdefault(span.apid, []).append((span.begin, span.end))
    return sorted((hour, apid) for apid in spans for hour in level0.hours_inside(spans[apid]))


def look(root: Path, retdef: RetDef) -> dict[str, Any]:
    """Look for the hours that the spans of a RetDef need.

    Parameters
    ----------
    root
        Root of the archive, as it is seen from here.
    retdef
        The chunk's RetDef.

    Returns
    -------
    dict
        ``needed``: how many hours of an APID; ``missing``: those of which the archive has no file, each with its
        ``hour`` (the directory, relative to the root) and ``apid``, None if the archive could not be looked at: a
        container may see another one; ``files``: their bytes and times of modification (Unix seconds), by names
        relative to the root.
    """
    wanted, missing, files = needed(retdef), list[dict[str, Any]](), dict[str, list[int]]()
    try:
        if not level0.source_path(root, retdef.scid).is_dir():
            return {"needed": len(wanted), "missing": None, "files": {}}
        for hour, apid in wanted:
            directory = level0.hour_path(root, retdef.scid, hour * met.HOUR)
            found = archive_hours.files(directory, retdef.scid, apid)
            if not found:
                missing.append({"hour": str(directory.relative_to(root)), "apid": apid})
            for path in found:
                status = path.stat()
                files[str(path.relative_to(root))] = [status.st_size, int(status.st_mtime)]
    except OSError:
        return {"needed": len(wanted), "missing": None, "files": {}}
    return {"needed": len(wanted), "missing": missing, "files": files}
