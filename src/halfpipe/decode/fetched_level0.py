"""Level-0 hours that have left the archive: the job that decodes a chunk fetches them into its own scratch.

No other job sees these files, and they are removed when the decoder has ended. The decoder starts when all hours of
the chunk are complete.

The hours are not inputs of a rule, because another set of inputs would make all earlier downlinks outstanding.
"""

import logging
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from halfpipe.decode.archive_listing import ArchiveListing, directories, list_archive
from halfpipe.errors import MissingInputError
from halfpipe.formats.retdef import RetDef
from halfpipe.process import command_words
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings

log = logging.getLogger(__name__)


@contextmanager
def source(
    settings: Settings, retdef: RetDef, root: Path, archive: ArchiveListing, scratch: Path, output: IO[str]
) -> Iterator[tuple[Path, ArchiveListing]]:
    """Yield the archive root that a decoder must read for a chunk, and a listing of it.

    This is the archive itself if it has all hours of the chunk, or if the config does not fetch hours. Otherwise all
    hours are fetched, and this is `scratch` if it lacks fewer hours than the archive.

    Parameters
    ----------
    settings, retdef
        Settings with the command that fetches an hour; the RetDef of the chunk.
    root, archive
        The archive, and a listing of it.
    scratch
        A directory that does not exist. It gets the fetched hours in the layout of an archive, and is removed at the
        end.
    output
        Gets the output of the command.

    Raises
    ------
    MissingInputError
        If hours are missing and cannot be fetched: then nothing may be decoded, because events would be missing.
    """
    command = settings.level0.fetch
    if command is None or archive.missing == ():
        yield root, archive
        return
    apids = ",".join(str(apid) for apid in sorted({span.apid for span in retdef.spans}))
    try:
        for hour in directories(retdef):
            out = scratch / hour
            out.mkdir(parents=True)
            words = command_words.filled_in(command, {"hour": hour, "apids": apids, "out": str(out)})
            log.info("fetching level-0 of %s: %s", hour, shlex.join(words))
            ended = run(words, ROOT, Log(output), seconds=settings.level0.seconds, whole_group=True)
            if not ended.well:
                raise MissingInputError(
                    f"level-0 of {hour} is not in the archive and cannot be fetched: the command of level0.fetch "
                    f"{ended.how}: {ended.shown}The chunk was not decoded. Fix this, then rerun the command."
                )
        fetched = list_archive(scratch, retdef)
        if archive.missing is None or len(fetched.missing or ()) < len(archive.missing):
            yield scratch, fetched
        else:
            yield root, archive
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
