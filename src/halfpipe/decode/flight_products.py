"""What the flight decoder has made: judged by where it lies, and put where it was asked for."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from halfpipe.decode.decoder_log import DecoderLog
from halfpipe.decode.working_copy import WorkingCopy
from halfpipe.errors import DecoderError
from halfpipe.files.durable import replacing

PRODUCT_SUFFIXES = frozenset({".evt", ".idx"})
_NOTHING_TAKEN = "Nothing of this chunk was taken. Fix this, then re-run the command."


def check_products(work: WorkingCopy, said: DecoderLog) -> list[Path]:
    """Return the products of a decoder that ended with 0, all of them plain files in ``out``.

    Raises
    ------
    DecoderError
        If it wrote products elsewhere, or none of a run that it said it processed without an exception.
    """
    products = sorted(path for path in work.out.iterdir() if path.suffix in PRODUCT_SUFFIXES)
    for path in products:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DecoderError(
                f"{path.name}: the decoder wrote no plain file under this name. {_NOTHING_TAKEN}"
            )
    strays = [
        Path(directory, name).relative_to(work.source)
        for directory, _, names in os.walk(work.source)
        for name in names
        if Path(name).suffix in PRODUCT_SUFFIXES and Path(directory) != work.out
    ]
    if strays:
        raise DecoderError(
            f"{min(strays)}: the decoder left {len(strays)} of its products in scratch and not in the output "
            f"directory. {_NOTHING_TAKEN}"
        )
    written = {path.name[:17] for path in products}
    if (missing := sorted(said.processing - written)) and not said.exceptions:
        raise DecoderError(
            f"{missing[0]}: the decoder said that it processed this ground id and run, met no exception, and "
            f"wrote nothing of it into the output directory. {_NOTHING_TAKEN}"
        )
    return products


def take(products: Sequence[Path], out: Path) -> None:
    """Copy products into `out`, each under its final name only when it is whole and on disk.

    Raises
    ------
    HalfPipeError
        If one cannot be written: the owner of what is in the way, or the cause.
    """
    for path in products:
        with path.open("rb") as source, replacing(out / path.name) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
