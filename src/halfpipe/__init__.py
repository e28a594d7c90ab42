"""HalfPipe: from a downlink of the Fermi Large Area Telescope to per-run event files for Level-1.

The functions of this module are for users' notebooks and scripts. The package itself does not use them.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from halfpipe.version import __version__ as __version__

if TYPE_CHECKING:
    import pandas as pd

    from halfpipe.tables.site_frames import SiteFrames


def open(profile: str | PathLike[str] | None = None) -> "SiteFrames":
    """Open a site to read HalfPipe's records as pandas frames.

    Nothing is written and no lease is taken. A frame is read when it is first used.

    Parameters
    ----------
    profile
        The name or path of a Snakemake profile, or the path of a config file; None: the environment variable
        ``SNAKEMAKE_PROFILE``.

    Raises
    ------
    ConfigError
        If there is no such profile or file, or the config is not valid.

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
        If the file is not an event file, or cannot be read.
    """
    from halfpipe.tables.site_frames import events_of_file  # noqa: PLC0415 - pandas only when a frame is wanted

    return events_of_file(Path(file))
