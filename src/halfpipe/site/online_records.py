"""What was done to hand a run to Online: a record for each step.

The intent stands before the file and before the command, what came of it after. So a process that died
can be told from a file that somebody else put there, and a command whose end nobody saw from one that was
never started.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.ids import RunId
from halfpipe.process import told_once

FILE = re.compile(rf"[0-9a-f]{{8}}-({RunId.PATTERN})\.evt")  # as `paths.online_file` names them


class State(StrEnum):
    """How far the hand-off of a run is. `UNTOLD`: its command is still to be run; `OPEN`: nobody knows."""

    NOTHING = "nothing"
    MAKING = "making"
    UNTOLD = "untold"
    OPEN = "open"
    DONE = "done"


class Record(told_once.Record):
    """What was done for one run: `names` of all files that were begun, `made`, the latest one.

    Before a file is written its name is appended as ``making``, and what it is as ``made`` once it is there: the ``file``
    as a delivery has it, its ``ground_id`` and ``moot`` key and alias; the numbers of its ``datagrams`` by APID; how many
    bytes of datagram lines each downlink had ``brought``; what was ``missing``, empty if nothing; and whether a command
    follows (``tell``). The attempts that count are those to run the command for that file.
    """

    HEARD = "started"
    place = staticmethod(paths.online_record)

    def read(self) -> None:
        """Read all records, again."""
        self.names: frozenset[str] = frozenset()
        self.made: Mapping[str, Any] | None = None
        self._is_making = False
        super().read()

    @property
    def state(self) -> State:
        """How far the hand-off is."""
        if self._is_making or self.made is None:
            return State.MAKING if self._is_making else State.NOTHING
        if not self.made["tell"] or self.last_confirmed:
            return State.DONE
        return State.OPEN if self.is_open else State.UNTOLD

    def _take(self, value: Mapping[str, Any]) -> None:
        if "making" in value:
            self.names |= {str(value["making"])}
            self._is_making = True
        elif "made" in value:
            self.made, self._is_making = value["made"], False
            self.file = str(value["made"]["file"]["name"])
            self._since = len(self.attempts)
        else:
            super()._take(value)


def files_there(home: Path) -> dict[RunId, str]:
    """Return the files of runs in the directory for Online, whoever made them."""
    if not home.is_dir():
        return {}
    names = sorted(path.name for path in home.iterdir())
    matches = [FILE.fullmatch(name) for name in names]
    return {RunId(match[1]): match[0] for match in matches if match}


def is_handed_off(work: Path, home: Path, run: RunId) -> bool:
    """Tell whether Online has got its file of a run: from us, or before us from somebody else.

    Raises
    ------
    StateError
        If the record is damaged.
    """
    record = Record(work, run)
    return run in files_there(home) if record.state is State.NOTHING else record.made is not None
