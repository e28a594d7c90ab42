"""Receipts on disk: each holds a checksum of itself, and whoever reads one reads it here.

It tells what a person has changed in an editor, or a disk has, from what HalfPipe wrote; it keeps nobody out.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.ids import DownlinkId
from halfpipe.storage import paths
from halfpipe.storage.advice import advice
from halfpipe.storage.json_files import dump_json

CHECKSUM = "checksum"
DAMAGED, EDITED = "receipt-damaged", "receipt-edited"
# It sorts first among the keys, so the rest of the file is what was summed up: nothing need be written to compare.
_HEAD = re.compile(rb'\{\n "checksum": "([0-9a-f]{64})",\n')


class ReceiptError(FormatError):
    """A receipt that cannot be believed: the `code` of its cause, what is wrong with it, and what to `do`."""

    def __init__(self, code: str, path: Path, what: str, do: str) -> None:
        super().__init__(f"{path}: {what}.", f"To have it written anew: {do}", code=code)
        self.path, self.what, self.do = path, what, do


def sealed(content: Mapping[str, Any]) -> str:
    """Return the text of a receipt with the checksum of what it says: SHA-256 of its JSON, as `dump_json` writes it."""
    plain = dump_json({key: value for key, value in content.items() if key != CHECKSUM})
    checksum = hashlib.sha256(plain.encode()).hexdigest()
    return plain.replace("{\n", f'{{\n "{CHECKSUM}": "{checksum}",\n', 1)


def copies(work: Path, downlink: DownlinkId) -> list[tuple[int, Path]]:
    """Return the copies of a downlink's receipts by the number of their hand-off, in order."""
    home = (work / paths.receipt_history(downlink, 0)).parent
    try:
        names = os.listdir(home)  # noqa: PTH208 - asked of the whole mission
    except (FileNotFoundError, NotADirectoryError):
        return []
    parts = [(name, *name.partition(".json")) for name in names]
    return sorted(
        (int(number), home / name)
        for name, number, end, rest in parts
        if number.isdecimal() and end and not rest
    )


def read_receipt(work: Path, downlink: DownlinkId, path: Path | None = None) -> Mapping[str, Any]:
    """Read the receipt of a downlink, or one of its copies at `path`.

    One that holds no checksum was written by an earlier version, and is believed.

    Raises
    ------
    MissingInputError
        If there is none.
    ReceiptError
        If it cannot be read, is no receipt, or is not what was written.
    """
    path, do = path or work / paths.receipt(downlink), f"snakemake dl={downlink} -R receipt"
    try:
        written = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except OSError as error:
        raise ReceiptError(DAMAGED, path, f"{error.strerror}. {advice(error)}".rstrip("."), do) from error
    code, what, content = _believed(written)
    if code:
        raise ReceiptError(code, path, what, do)
    return content


@lru_cache(maxsize=4)  # a receipt and its copy are the same bytes, and an account reads one after the other
def _believed(written: bytes) -> tuple[str, str, Mapping[str, Any]]:
    """Return what a receipt holds; else the code of the cause why it cannot be believed, and what is wrong."""
    try:
        content = json.loads(written)
    except (ValueError, RecursionError) as error:
        return DAMAGED, f"not JSON ({error})", {}
    if not (
        isinstance(content, dict)
        and isinstance(content.get("handoff"), int)
        and isinstance(content.get("runs"), list)
    ):
        return DAMAGED, "it is no receipt: it has no hand-off or no runs", {}
    if CHECKSUM in content and not _is_whole(written, content):
        return EDITED, "it was changed after it was written: its checksum is another one", {}
    return "", "", content


def _is_whole(written: bytes, content: Mapping[str, Any]) -> bool:
    if head := _HEAD.match(written):
        summed = hashlib.sha256(b"{\n")
        summed.update(memoryview(written)[head.end() :])
        if summed.hexdigest().encode() == head[1]:
            return True
    # Only its blanks may be others.
    return bool(json.loads(sealed(content))[CHECKSUM] == content[CHECKSUM])
