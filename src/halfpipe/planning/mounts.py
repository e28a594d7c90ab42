"""Whether working directory and stage are those that belong together, or empty mount points.

On an empty mount point every downlink would look as if it had never been processed: it would be delivered again, and
submitted again. So the stage keeps a mark of each working directory that handed something off to it.
"""

import hashlib
from pathlib import Path

from halfpipe.errors import ConfigError
from halfpipe.settings import Settings
from halfpipe.storage import paths
from halfpipe.storage.durable import make_directory, write_text


def refuse_unmounted(settings: Settings) -> None:
    """Refuse a working directory or a stage that is not mounted, as far as that can be told.

    Raises
    ------
    ConfigError
        If the directory above one of them is not there, or the stage knows a working directory at this path that has
        handed off, and there is nothing of that here.
    """
    work, stage = settings.paths.work, settings.paths.stage
    for key, place in (("work", work), ("stage", stage)):
        if not place.exists() and not place.parent.is_dir():
            raise ConfigError(
                f"paths.{key}: there is no {place.parent}, so {place} is not made. See that its file system is "
                f"mounted. If the site is new: mkdir -p -m 2775 {place}"
            )
    mark = _mark(settings)
    if mark.exists() and not (work / paths.runs()).exists():
        raise ConfigError(
            f"downlinks of {work} were handed off to the stage {stage}, and {work} knows nothing of them: all would be "
            "delivered and submitted again. Nothing was done. See that its file system is mounted. If it was emptied "
            f"on purpose: rm {mark}"
        )


def mark(settings: Settings) -> None:
    """Leave the mark of the working directory in the stage."""
    path = _mark(settings)
    if not path.exists():
        make_directory(settings.paths.stage, paths.stage_marks())
        write_text(path, f"{settings.paths.work}\n")


def _mark(settings: Settings) -> Path:
    name = hashlib.sha256(str(settings.paths.work).encode()).hexdigest()[:16]
    return settings.paths.stage / paths.stage_marks() / name
