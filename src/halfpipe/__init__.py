"""HalfPipe: from a downlink of the Fermi Large Area Telescope to per-run event files for Level-1.

This module is for notebooks and scripts of other people. No module of the package imports it.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from halfpipe.version import __version__ as __version__

if TYPE_CHECKING:
    import pandas as pd

    from halfpipe.tables.site_frames import SiteFrames


def open(profile: str | PathLike[str] | None = None) -> "SiteFrames":
    """Open a site to read what HalfPipe knows, as pandas frames.

    Nothing is written and no lease is taken. A frame is read when it is first used.

    Parameters
    ----------
    profile
        The name or path of a Snakemake profile, or the path of a config file; None: the environment variable
        ``SNAKEMAKE_PROFILE``.

    Raises
    ------
    ConfigError
        If there is no such profile, or its config is not valid.

    Examples
    --------
    >>> site = halfpipe.open("s3df")
    >>> site.downlinks.set_index("end").latency.resample("MS").median()  # doctest: +SKIP
    """
    from halfpipe.cli.verbs import Site  # noqa: PLC0415 - nothing is imported before it is needed
    from halfpipe.tables.site_frames import SiteFrames  # noqa: PLC0415 - pandas only when a frame is wanted

    if profile is not None and Path(profile).is_file() and not Path(profile).name.endswith("v9+.yaml"):
        return SiteFrames(Site(given_configfiles=(Path(profile),)).settings)
    return SiteFrames(Site(None if profile is None else str(profile)).settings)


def events(file: str | PathLike[str]) -> "pd.DataFrame":
    """Return the header fields of the events in an event file, with the position of each.

    Times are the whole seconds of their time tones. `halfpipe.tables.columns.EVENTS` describes the columns.

    Raises
    ------
    FormatError, MissingInputError
        If this is not an event file, or it cannot be read.
    """
    from halfpipe.tables.site_frames import events_of_file  # noqa: PLC0415 - pandas only when a frame is wanted

    return events_of_file(Path(file))
