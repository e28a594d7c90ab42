"""The MOOT key and alias of a run (ground-chain §10; `moot.file` of the config)."""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from halfpipe.errors import ConfigError, FormatError
from halfpipe.files.reading import open_regular
from halfpipe.formats.evt import MOOT_UNSET_ALIAS, MOOT_UNSET_KEY
from halfpipe.formats.idx import Datagrams
from halfpipe.ids import RunId
from halfpipe.state.deliveries import MootKey

# Longer keys are never valid, and take long to convert to a number.
LINE = re.compile(rb"r([0-9]{10})\s+(0[xX][0-9a-fA-F]{1,18}|[0-9]{1,20})\s+([!-~]{1,1000})")
MOST_NAMED = 20  # numbers of skipped lines in a message
LARGEST = 64 << 20  # bytes; 100,000 runs take some four million

log = logging.getLogger(__name__)


UNSET = MootKey(MOOT_UNSET_KEY, MOOT_UNSET_ALIAS)


def is_good(moot: MootKey) -> bool:
    """Tell whether an event file and a line of `moot.file` can hold it."""
    return 0 <= moot.key < 2**32 and re.fullmatch(r"[!-~]+", moot.alias) is not None


def moot_of(run: RunId, path: Path | None) -> MootKey:
    """Return the key of `run` from a file of lines ``r%010d key alias``; `UNSET` if the file does not list the run.

    Raises
    ------
    ConfigError
        If the file cannot be read, is larger than `LARGEST`, or has lines and none is of this form.
    FormatError
        If two lines give the run different keys. Lines of other runs do not matter.
    """
    if path is None:
        return UNSET
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"moot.file {path}: cannot be read: {error.strerror}") from error
    if len(content) > LARGEST:
        raise ConfigError(
            f"moot.file {path}: more than {LARGEST >> 20} MiB, so it is not a list of keys. Name the right file."
        )
    found = _parsed(path, content).get(run, UNSET)
    if isinstance(found, str):
        raise FormatError(found)
    return found


@lru_cache(maxsize=1)  # rebuilding the ledger looks up every run of the mission
def _parsed(path: Path, content: bytes) -> Mapping[RunId, MootKey | str]:
    """Return the key of each run, or a message if lines contradict each other.

    A line of another form is reported and skipped, so that one bad line does not affect other runs.
    """
    known: dict[RunId, MootKey | str] = {}
    skipped = []
    for number, line in enumerate(map(bytes.strip, content.splitlines()), 1):
        if not line or line.startswith(b"#"):
            continue
        match = LINE.fullmatch(line)
        met, key, alias = match.groups() if match else (b"-1", b"-1", b"")
        moot = MootKey(int(key, 16 if b"x" in key.lower() else 10), alias.decode())
        if not 0 <= int(met) < 2**32 or not is_good(moot):
            skipped.append(number)
            continue
        run = RunId.from_met(int(met))
        before = known.setdefault(run, moot)
        if isinstance(before, MootKey) and before != moot:
            known[run] = (
                f"{path}, line {number}: run {run.l1} ({run}) has key {moot.key} {moot.alias} here and "
                f"{before.key} {before.alias} before. Remove the wrong line."
            )
    if skipped:
        few = ", ".join(map(str, skipped[:MOST_NAMED]))
        form = "of the form 'r%010d key alias'"
        if not known:
            raise ConfigError(f"moot.file {path}: no line is {form}. Name the right file.")
        log.warning("%s: %d lines skipped, not %s: line %s", path, len(skipped), form, few)
    return known


def first_datagram(rows: Datagrams) -> int:
    """Return the number of the row whose keys the ledger uses for a run: the first in order of time, APID and number.

    The legacy took the datagram of its first segment, which is the first one of the lowest APID.

    Parameters
    ----------
    rows
        All known datagrams of the run, at least one.
    """
    return int(np.lexsort((rows.datagram, rows.apid, rows.utc))[0])
