"""Which MOOT key and alias a run carries (ground-chain §10; `moot.file` of the config)."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halfpipe.errors import ConfigError, FormatError
from halfpipe.formats.evt import MOOT_UNSET_ALIAS, MOOT_UNSET_KEY
from halfpipe.ids import RunId

LINE = re.compile(r"(r[0-9]{10})\s+(0[xX][0-9a-fA-F]+|[0-9]+)\s+(\S+)", re.ASCII)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moot:
    """Key (32 bits) and alias of one run's configuration."""

    key: int
    alias: str


UNSET = Moot(MOOT_UNSET_KEY, MOOT_UNSET_ALIAS)


def read_moot(path: Path) -> Mapping[RunId, Moot]:
    """Read lines ``r%010d key alias``.

    A line that is something else is reported and passed over, so that one bad line costs no other run
    its key.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    FormatError
        If two lines give one run different keys.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"moot.file {path}: cannot be read: {error.strerror}") from error
    known: dict[RunId, Moot] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        key = int(match[2], 0 if match[2][:2].lower() == "0x" else 10) if match else 2**32
        if match is None or max(key, int(match[1][1:])) >= 2**32 or not match[3].isascii():
            log.warning("%s, line %d: passed over, not 'r%%010d key alias': %.80r", path, number, line)
            continue
        run, moot = RunId.from_l1(match[1]), Moot(key, match[3])
        if known.get(run, moot) != moot:
            raise FormatError(
                f"{path}, line {number}: run {match[1]} ({run}) has key {moot.key} {moot.alias} here and "
                f"{known[run].key} {known[run].alias} before. Remove the wrong line."
            )
        known[run] = moot
    return known


def moot_of(run: RunId, path: Path | None) -> Moot:
    """Return what the MOOT file says of `run`; a run that it does not name has `UNSET`."""
    return UNSET if path is None else read_moot(path).get(run, UNSET)
