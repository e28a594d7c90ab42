"""Which MOOT key and alias a run carries (ground-chain §10; `moot.file` of the config)."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import ConfigError, FormatError
from halfpipe.files.reading import open_regular
from halfpipe.formats.evt import MOOT_UNSET_ALIAS, MOOT_UNSET_KEY
from halfpipe.ids import RunId

LINE = re.compile(r"(r[0-9]{10})\s+(0[xX][0-9a-fA-F]+|[0-9]+)\s+(\S+)", re.ASCII)
MAX_SIZE = 1 << 26  # bytes: ten times what the whole mission has
LONGEST_LINE = 1024  # bytes
MOST_SHOWN = 50  # lines that are passed over, one by one; the others are counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moot:
    """Key (32 bits) and alias of one run's configuration."""

    key: int
    alias: str


UNSET = Moot(MOOT_UNSET_KEY, MOOT_UNSET_ALIAS)


def is_good(moot: Moot) -> bool:
    """Tell whether an event file and a line of words can hold it."""
    return 0 <= moot.key < 2**32 and re.fullmatch(r"[!-~]+", moot.alias) is not None


def read_moot(path: Path) -> Mapping[RunId, Moot]:
    """Read lines ``r%010d key alias``.

    A line that is something else is reported and passed over, so that one bad line costs no other run
    its key.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    FormatError
        If two lines give one run different keys, or the file is larger than `MAX_SIZE`.
    """
    known: dict[RunId, Moot] = {}
    for run, moot in _moots(path, known):
        known[run] = moot
    return known


def moot_of(run: RunId, path: Path | None) -> Moot:
    """Return what the MOOT file says of `run`; a run that it does not name has `UNSET`.

    Raises
    ------
    ConfigError, FormatError
        As `read_moot`, but what the file says of other runs does not matter.
    """
    if path is None:
        return UNSET
    known: dict[RunId, Moot] = {}
    for other, moot in _moots(path, known):
        if other == run:
            known[run] = moot
    return known.get(run, UNSET)


def first_datagram(rows: NDArray[np.void]) -> np.void:
    """Return the datagram by which a run is mapped: the first in the order of time, APID and number.

    The earlier system took that of the first segment, which is the first of the lowest APID.

    Parameters
    ----------
    rows
        All that are known of the run, at least one (dtype `halfpipe.formats.idx.DATAGRAM`).
    """
    first: np.void = rows[np.lexsort((rows["datagram"], rows["apid"], rows["utc"]))[0]]
    return first


def _moots(path: Path, known: Mapping[RunId, Moot]) -> Iterator[tuple[RunId, Moot]]:
    """Yield what the good lines say, one line in memory at a time; each must agree with what is `known`."""
    passed_over = 0
    for number, line in _lines(path):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        moot = _moot(match[2], match[3]) if match else None
        if match is None or moot is None or int(match[1][1:]) >= 2**32:
            passed_over += 1
            if passed_over <= MOST_SHOWN:
                log.warning("%s, line %d: passed over, not 'r%%010d key alias': %.80r", path, number, line)
            continue
        run = RunId.from_l1(match[1])
        if known.get(run, moot) != moot:
            raise FormatError(
                f"{path}, line {number}: run {match[1]} ({run}) has key {moot.key} {moot.alias} here and "
                f"{known[run].key} {known[run].alias} before. Remove the wrong line."
            )
        yield run, moot
    if passed_over > MOST_SHOWN:
        log.warning("%s: %d more lines were passed over", path, passed_over - MOST_SHOWN)


def _moot(key: str, alias: str) -> Moot | None:
    if len(key) > 20:
        return None
    moot = Moot(int(key, 0 if key[:2].lower() == "0x" else 10), alias)
    return moot if is_good(moot) else None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines and their numbers from 1; of one that is too long, its beginning and three dots."""
    try:
        with open_regular(path) as file:
            if path.stat().st_size > MAX_SIZE:
                raise FormatError(
                    f"moot.file {path}: more than {MAX_SIZE} bytes, expected a line a run. Name the right file."
                )
            number = 1
            while piece := file.readline(LONGEST_LINE):
                whole = rest = piece
                while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST_LINE)
                    whole = piece + b" ..."
                yield number, whole.decode(errors="replace").rstrip("\r\n")
                number += 1
    except OSError as error:
        raise ConfigError(f"moot.file {path}: cannot be read: {error.strerror}") from error
