"""The mark of a working directory: which format its state has, and an id that it keeps wherever it lies.

It is made once, when a command first changes state there. Another format is refused: nothing of it is read.
"""

import re
from pathlib import Path
from uuid import uuid4

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files.advice import cannot_be_read
from halfpipe.files.durable import publish
from halfpipe.files.json_files import dump_json
from halfpipe.files.reading import names_in

FORMAT = 2
_MARK = re.compile(rb'\{\n "format": %d,\n "id": "([0-9a-f]{32})"\n\}\n' % FORMAT)


def begin(work: Path) -> str:
    """Make the mark of the working directory `work` if it has none; return its id.

    Heads that do so at the same moment agree: the mark is linked to its name, which only one of them can.

    Raises
    ------
    ConfigError
        As for `refuse_other`.
    OSError
        If the mark cannot be made.
    """
    place = work / paths.FORMAT_MARK
    while (known := refuse_other(work)) is None:
        publish(place, dump_json({"format": FORMAT, "id": uuid4().hex}).encode())
    return known


def refuse_other(work: Path) -> str | None:
    """Return the id of the working directory `work`; None if nothing was processed there.

    Raises
    ------
    ConfigError
        If it has another format, its mark is damaged, or it has none though something was processed there.
    """
    place = work / paths.FORMAT_MARK
    back = f"bring {place} back from the backup of {work}, or have another working directory in the config: paths.work"
    try:
        mark = _MARK.fullmatch(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        # That downlinks were processed.
        if found := [
            name for name in names_in(work) if name == paths.RUNS or name.startswith(paths.receipt(""))
        ]:
            raise ConfigError(
                f"{work} has {found[0]} and no {place.name}: it is of an earlier HalfPipe, or the file is lost. "
                f"Nothing was done. If it is lost, {back}"
            ) from None
        return None
    except OSError as error:
        raise ConfigError(cannot_be_read(place, error)) from error
    if mark is None:
        raise ConfigError(
            f"{place}: damaged, or of another HalfPipe than this one, which knows format {FORMAT} alone. Nothing was "
            f"done. If it is damaged, {back}"
        )
    return mark[1].decode()
