"""What a turn of unattended processing makes for those who look: the board, and numbers for Prometheus."""

import time
from collections.abc import Iterator

from halfpipe.causes import Cause, Verdict
from halfpipe.files.durable import write_bytes
from halfpipe.settings import Settings
from halfpipe.status.account import Site
from halfpipe.status.overview import DAY, overview, recent
from halfpipe.tables.metrics import text

CODE = "board-failed"


def publish(settings: Settings) -> Iterator[Cause]:
    """Write what the config asks for, and yield why it could not be: nothing here stops a turn."""
    board, metrics = settings.board.dir, settings.metrics.file
    if board is None and metrics is None:
        return
    now = time.time()
    site = Site(settings, now, now - settings.board.days * DAY)
    try:
        found = overview(site, recent(site, settings.board.days))
        if board is not None:
            from halfpipe.pages import board_pages  # noqa: PLC0415 - the library of templates

            board_pages.make(site, found, board, settings.board.pictures)
        if metrics is not None:
            write_bytes(metrics, text(site, found).encode(), lasting=False)
    except Exception as error:  # whatever is wrong with pages, downlinks are processed
        what = f"the board or the metrics could not be written: {error or type(error).__name__}"
        yield Cause(CODE, Verdict.ACTION, what, "halfpipe board", now)
