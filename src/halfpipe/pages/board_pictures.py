"""The pictures of downlinks that the board shows: some are drawn each time, and none tells of an earlier hand-off."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId
from halfpipe.pages import downlink_picture as downlinks
from halfpipe.status import explanation
from halfpipe.status.account import Site


def draw(site: Site, shown: Sequence[DownlinkId], home: Path, most: int) -> None:
    """Draw downlinks that were handed off and have no picture, and remove those that tell of an earlier hand-off.

    Parameters
    ----------
    site
        What was looked at.
    shown
        The downlinks that the board has, in its order; pictures of others are removed.
    home
        The directory of the board.
    most
        How many are drawn, each in about a second; the next time goes on with the others.

    Raises
    ------
    HalfPipeError
        If a picture cannot be written. One that cannot be drawn is not there: its downlink's causes say why.
    """
    work = site.settings.paths.work
    handed_off = {dl: at for dl in shown if (at := modified(f"{work}/{paths.receipt(dl)}")) is not None}
    for path in home.glob(paths.board_picture("*")):
        if DownlinkId.matches(path.stem) and path.stat().st_mtime < handed_off.get(
            DownlinkId(path.stem), float("inf")
        ):
            remove_file(path)
    looked = explanation.Site(site.settings, site.now)
    lacking = [dl for dl in handed_off if not (home / paths.board_picture(dl)).exists()]
    for downlink in lacking[:most]:
        with suppress(HalfPipeError):
            drawn = downlinks.picture(looked, downlink, "svg")
            write_bytes(home / paths.board_picture(downlink), drawn, lasting=False)
