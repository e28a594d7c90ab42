"""The copy of a tree: lists for rsync, a manifest of checksums, and the comparison of a copy with it.

A plan is a directory. For each year it has ``YEAR.files``, the names for ``rsync --from0 --files-from``, and
``YEAR.sha256`` in the form of `sha256sum`; links and their targets stand in ``links.jsonl``. Plan and comparison are a
line a file, and say from time to time how far they are: cut off, they go on from there.
"""

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, StateError
from halfpipe.inventory.tree import FATES, KEPT, Entry, kind_of, walk, year_of
from halfpipe.storage.advice import advice
from halfpipe.storage.json_files import read_json, write_json
from halfpipe.storage.reading import sha256

STATE = "plan.json"
LINKS = "links.jsonl"
UNREAD = "unread.txt"
NAMES, SUMS = ".files", ".sha256"
EVERY_SECONDS = 10.0  # between two notes of how far it is


@dataclass
class Plan:
    """How far a plan is: the tree, the last file that is in it, the length of each of its files, and sums."""

    tree: str
    after: list[str] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    links: int = 0
    unread: int = 0
    done: bool = False


class _Lists:
    """The files of a plan, each open for appending."""

    def __init__(self, home: Path, state: Plan, opened: ExitStack) -> None:
        self._home, self._state, self._opened = home, state, opened
        self._files: dict[str, IO[bytes]] = {}

    def add(self, name: str, line: bytes) -> None:
        if name not in self._files:
            file = self._opened.enter_context((self._home / name).open("a+b"))
            self._files[name] = file
        self._files[name].write(line)

    def note(self) -> None:
        """Flush all to disk and say how far it is."""
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            self._state.ends[name] = file.tell()
        write_json(self._home / STATE, asdict(self._state))


def plan(tree: Path, home: Path, every: float = EVERY_SECONDS) -> Plan:
    """Write the plan of a copy of `tree` into the directory `home`, or go on with one that was cut off.

    A file that vanished or cannot be read is named in ``unread.txt``, and the others go on.

    Raises
    ------
    StateError
        If `home` has the plan of another tree.
    HalfPipeError
        If the plan cannot be written.
    """
    where = str(tree.resolve())
    if Path(where) in (home.resolve(), *home.resolve().parents):
        raise StateError(
            f"{home} lies in {tree}, where nothing is written. Give another directory for the plan."
        )
    state = read_plan(home) if (home / STATE).exists() else Plan(where)
    if state.tree != where:
        raise StateError(f"{home} has the plan of {state.tree}. Give another directory for that of {tree}.")
    if state.done:
        return state
    try:
        home.mkdir(parents=True, exist_ok=True)
        # What was written behind the last note, into files that nobody may open again, goes.
        for path in home.iterdir():
            if path.name.endswith((NAMES, SUMS)) or path.name in {LINKS, UNREAD}:
                os.truncate(path, state.ends.get(path.name, 0))
        with ExitStack() as opened:
            lists = _Lists(home, state, opened)
            due = time.monotonic() + every
            for entry in walk(tree, tuple(state.after)):
                _take(tree, entry, state, lists)
                if time.monotonic() >= due:
                    lists.note()
                    due = time.monotonic() + every
            state.done = True
            lists.note()
    except OSError as error:
        raise HalfPipeError(
            f"{error.filename or home}: {error.strerror}, so the plan is not whole. {advice(error)} Then the same "
            "command goes on with it."
        ) from error
    return state


def _take(tree: Path, entry: Entry | OSError, state: Plan, lists: _Lists) -> None:
    """Put a file into the plan."""
    if isinstance(entry, OSError):
        state.unread += 1
        lists.add(UNREAD, os.fsencode(f"{entry}\n"))
        return
    if FATES[kind_of(entry.parts)] in KEPT:
        year, name = year_of(entry.parts), os.fsencode(entry.name)
        if entry.target is not None:
            lists.add(year + NAMES, name + b"\0")
            lists.add(LINKS, json.dumps([entry.name, entry.target]).encode() + b"\n")
            state.links += 1
        elif stat.S_ISDIR(entry.status.st_mode):
            lists.add(year + NAMES, name + b"\0")
        elif not stat.S_ISREG(entry.status.st_mode):
            state.unread += 1
            lists.add(UNREAD, name + b": neither file nor link\n")
        else:
            try:
                line = sum_line(sha256(tree.joinpath(*entry.parts)), entry.name)
            except OSError as error:
                state.unread += 1
                lists.add(UNREAD, os.fsencode(f"{entry.name}: {error.strerror}\n"))
            else:
                lists.add(year + NAMES, name + b"\0")
                lists.add(year + SUMS, line)
                state.files += 1
                state.size += entry.status.st_size
    state.after = list(entry.parts)


def read_plan(home: Path) -> Plan:
    """Read how far a plan is.

    Raises
    ------
    MissingInputError
        If there is none.
    FormatError
        If it is none.
    """
    try:
        return Plan(**read_json(home / STATE))
    except MissingInputError as error:
        raise MissingInputError(
            f"{home}: no plan ({STATE} is not there). Make it: halfpipe inventory TREE --plan {home}"
        ) from error
    except TypeError as error:
        raise FormatError(f"{home / STATE}: no plan ({error}). Make it anew in another directory.") from error


def sum_line(digest: str, name: str) -> bytes:
    """Return a line as `sha256sum` writes it; names with a line end or a backslash are escaped as there."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return os.fsencode(f"{mark}{digest}  {escaped}\n")


def read_sum(line: bytes) -> tuple[str, str]:
    """Read such a line: the checksum and the name.

    Raises
    ------
    ValueError
        If it is none.
    """
    text = os.fsdecode(line).removesuffix("\n")
    if escaped := text.startswith("\\"):
        text = text[1:]
    digest, name = text[:64], text[66:]
    if len(digest) != 64 or text[64:66] != "  " or not name:
        raise ValueError("not as sha256sum writes it")
    if escaped:
        parts = name.split("\\\\")
        name = "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)
    return digest, name


@dataclass
class Verified:
    """How far the comparison of a copy is: in which manifest and at which byte; sums of what was found."""

    copy: str
    manifest: str = ""
    at: int = 0
    good: int = 0
    size: int = 0
    missing: int = 0
    differs: int = 0
    said: int = 0
    done: bool = False

    @property
    def bad(self) -> int:
        """How many files are not as planned."""
        return self.missing + self.differs


def verify(home: Path, copy: Path, every: float = EVERY_SECONDS) -> Verified:
    """Compare a copy with the plan in `home`, or go on with a comparison that was cut off.

    What is missing or differs is named in `names_of_bad`, a line a file. A comparison that was done is
    done again.

    Raises
    ------
    StateError
        If the plan is not whole.
    FormatError
        If a manifest is damaged.
    """
    if not read_plan(home).done:
        raise StateError(
            f"{home}: the plan is not whole. Give the command again that made it, then it goes on."
        )
    where = str(copy.resolve())
    said = names_of_bad(home, copy)
    note = said.with_suffix(".json")
    state = Verified(where)
    if note.exists():
        with suppress(TypeError):
            before = Verified(**read_json(note))
            state = state if before.done or before.copy != where else before
    due = time.monotonic() + every
    with said.open("a+b") as bad:
        bad.truncate(state.said)
        bad.seek(0, os.SEEK_END)

        def tell() -> None:
            bad.flush()
            os.fsync(bad.fileno())
            state.said = bad.tell()
            write_json(note, asdict(state))

        for manifest in sorted([*home.glob(f"*{SUMS}"), *home.glob(LINKS)]):
            if manifest.name < state.manifest:
                continue
            start = state.at if manifest.name == state.manifest else 0
            for line, end in _lines_from(manifest, start):
                fault = _fault(copy, manifest, line, state)
                if fault is not None:
                    bad.write(fault)
                state.manifest, state.at = manifest.name, end
                if time.monotonic() >= due:
                    tell()
                    due = time.monotonic() + every
        state.done = True
        tell()
    return state


def names_of_bad(home: Path, copy: Path) -> Path:
    """Return the file beside the plan that names what of a copy is not as planned."""
    return home / ("verify-" + str(copy.resolve()).strip("/").replace("/", "-") + ".bad")


def _lines_from(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield the lines from byte `start` on, each with where it ends."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            start += len(line)
            yield line, start


def _fault(copy: Path, manifest: Path, line: bytes, state: Verified) -> bytes | None:
    """Compare one file or link, count it, and return the line that says what is wrong with it."""
    try:
        expected, name = _of_link(line) if manifest.name == LINKS else read_sum(line)
    except (ValueError, TypeError) as error:
        raise FormatError(
            f"{manifest}: damaged ({error}). Make the plan anew in another directory."
        ) from error
    path = copy / name
    try:
        if manifest.name == LINKS:
            found = str(path.readlink())
        elif path.is_symlink():
            found = "a link"
        else:
            found = sha256(path)
            state.size += path.stat().st_size
    except FileNotFoundError:
        state.missing += 1
        return os.fsencode(f"missing  {name}\n")
    except OSError as error:
        state.differs += 1
        return os.fsencode(f"{error.strerror}  {name}\n")
    if found != expected:
        state.differs += 1
        return os.fsencode(f"differs  {name}\n")
    state.good += 1
    return None


def _of_link(line: bytes) -> tuple[str, str]:
    name, target = _pair(json.loads(line))
    return target, name


def _pair(value: Any) -> tuple[str, str]:
    name, target = value
    return str(name), str(target)
