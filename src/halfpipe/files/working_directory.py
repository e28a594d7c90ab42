"""The mark of a working directory: the format of its state, and an id that stays the same if the directory is moved.

The mark is made once, when a command first changes state there. A directory with another format is refused.
"""

import errno
import os
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from msgspec import Meta

from halfpipe import paths
from halfpipe.errors import ConfigError, FormatError
from halfpipe.files import typed
from halfpipe.files.advice import cannot_be_read
from halfpipe.files.durable import publish
from halfpipe.files.json_files import dump_json
from halfpipe.files.reading import names_in
from halfpipe.files.typed import Stored

FORMAT = 4


class _Mark(Stored, frozen=True):
    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]


def begin(work: Path) -> str:
    """Make the mark of the working directory `work` if it does not exist; return its id.

    If several heads do this at the same moment, they get the same id, because only one can link the mark to its name.

    Raises
    ------
    ConfigError
        As for `refuse_other`.
    OSError
        If the mark cannot be made.
    """
    place = work / paths.FORMAT_MARK
    while (known := refuse_other(work)) is None:
        publish(place, dump_json(typed.values(_Mark(FORMAT, uuid4().hex))).encode())
    return known


def refuse_unwritable(work: Path) -> None:
    """Refuse a directory without permission to write. Even a dry run of Snakemake writes there.

    Raises
    ------
    OSError
        If this user cannot write there, or the file system is read-only.
    """
    if work.is_dir() and not os.access(work, os.W_OK):
        is_read_only = os.statvfs(work).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(work))


def refuse_other(work: Path) -> str | None:
    """Return the id of the working directory `work`; None if nothing was processed there.

    Raises
    ------
    ConfigError
        If the directory has another format, or its mark is damaged, or missing although downlinks were processed.
    """
    place = work / paths.FORMAT_MARK
    restore = f"restore {place} from the backup of {work}, or set another working directory in the config (paths.work)"
    try:
        return typed.decode(place.read_bytes(), _Mark, place).id
    except (FileNotFoundError, NotADirectoryError):
        # Signs that downlinks were processed.
        if found := [
            name for name in names_in(work) if name == paths.RUNS or name.startswith(paths.receipt(""))
        ]:
            raise ConfigError(
                f"{work} has {found[0]} but no {place.name}: the directory belongs to an earlier version of HalfPipe, "
                f"or the file is lost. Nothing was done. If it is lost, {restore}."
            ) from None
        return None
    except OSError as error:
        raise ConfigError(cannot_be_read(place, error)) from error
    except FormatError as error:
        raise ConfigError(
            f"{error}: damaged, or of another version of HalfPipe; this one reads only format {FORMAT}. Nothing was "
            f"done. If it is damaged, {restore}."
        ) from error
