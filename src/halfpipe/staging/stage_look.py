"""Compares the stage of a downlink with its records; shared by staging, submission, check and status."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decode.chunk import Product
from halfpipe.errors import NOTHING, HalfPipeError, Remedy, StageError, rerun
from halfpipe.files.reading import names_in, sha256
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings
from halfpipe.state.attempts import Attempts
from halfpipe.state.deliveries import Deliveries, EventFile
from halfpipe.state.hand_offs import HandOff
from halfpipe.state.merged_chunks import File
from halfpipe.words import count, first_names

FOREIGN = "stage-foreign"
DIFFERS = "stage-differs"
GONE = "stage-gone"  # event files; Level-1 moves them away once a hand-off is submitted
MISSING = "missing"
L1_NAME = re.compile(r"r[0-9]{10}")

Tokens = Mapping[RunId, Collection[str]]


def fault(code: str, path: Path, what: str, remedy: Remedy = NOTHING) -> Cause:
    """Return the cause for a file that differs from its record: `what` differs, and the remedy."""
    return Cause(code, Verdict.ACTION, f"{path}: {what}", remedy)


@dataclass(frozen=True)
class Staged:
    """What the stage has of one downlink: its directory `home`, whether it exists, and the files by path below it.

    Anything that is not a regular file is None. Checksums are empty if they were not asked for.
    """

    home: Path
    is_there: bool = False
    files: Mapping[str, File | None] = field(default_factory=dict)

    def inside(self, name: str = "") -> list[str]:
        """Return the names in one of its directories, in order."""
        prefix = f"{name}/" if name else ""
        names = (path.removeprefix(prefix) for path in self.files if path.startswith(prefix))
        return sorted(name for name in names if "/" not in name)


def look(stage: Path, downlink: DownlinkId, *, checksums: bool = False) -> Staged:
    """Read what `stage` has of a downlink; with `checksums`, read all its files.

    Raises
    ------
    StateError
        If a directory cannot be listed.
    """
    home = stage / paths.staged(downlink)
    names = names_in(home)
    names += [f"{name}/{file}" for name in names for file in names_in(home / name)]
    files = {name: _file(home / name, checksums=checksums) for name in names}
    return Staged(home, bool(names) or home.is_dir(), files)


def tokens_of(stage: Path, last: HandOff) -> Tokens:
    """Return the names of the tokens of each run of a hand-off."""
    return {run.run: frozenset(names_in(stage / paths.tokens(run.run.l1))) for run in last.receipt.runs}


def _file(path: Path, *, checksums: bool) -> File | None:
    with suppress(OSError):
        if path.is_file():
            return File(path.stat().st_size, sha256(path) if checksums else "")
    return None


def differences(staged: Staged, last: HandOff, tokens: Tokens | None = None) -> Iterator[Cause]:
    """Yield the differences between a hand-off and what the stage has of its downlink.

    Parameters
    ----------
    staged, last
        What the stage has, and the last hand-off.
    tokens
        The tokens of its runs if nothing was submitted yet. Then each event file has its token, and there are no other
        files.
    """
    downlink = last.receipt.downlink
    for one in last.runs:
        if not one.named:
            continue
        again = rerun(downlink, paths.manifest(one.run, downlink))
        for file in one.delivery.files:
            path = f"{one.run.l1}/{file.name}"
            token = Path(file.name).stem
            if why := differs(staged.files.get(path), file):
                yield fault(GONE if why == MISSING else DIFFERS, staged.home / path, why, again)
            if tokens is not None and token not in tokens[one.run]:
                place = staged.home.parent / paths.tokens(one.run.l1) / token
                yield fault(DIFFERS, place, "this token is missing", again)
        if tokens is not None:
            yield from _unrecorded(staged, one.run.l1, {file.name for file in one.delivery.files})
    for text in last.receipt.texts:
        if why := differs(staged.files.get(text.name), text):
            yield fault(DIFFERS, staged.home / text.name, why, rerun(downlink, "receipt"))
    if tokens is not None:
        names = {text.name for text in last.receipt.texts}
        yield from _unrecorded(staged, "", names | {one.run.l1 for one in last.runs})


def differs(found: File | None, expected: File | EventFile | Product) -> str:
    """Return how a file differs from its record; empty if it does not."""
    if found is None:
        return MISSING
    if found.size != expected.size:
        return f"{found.size} bytes, {expected.size} expected"
    return "checksum mismatch" if found.sha256 and found.sha256 != expected.sha256 else ""


def difference(path: Path, expected: File | EventFile | Product, *, checksums: bool) -> str:
    """Return how the file at `path` differs from its record, as `differs`; with `checksums`, read it."""
    return differs(_file(path, checksums=checksums), expected)


def is_submitted(last: HandOff, record: Attempts) -> bool:
    """Return whether the last confirmed submission or rollback sent this hand-off to Level-1."""
    return record.last_confirmed is not None and record.last_confirmed.handoff == last.number


def foreign(staged: Staged, work: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> Cause | None:
    """Return a cause if the stage has files of a downlink that no record lists: another system stages the downlink.

    Staging would replace or remove them. HalfPipe records each file before the file appears (`Deliveries`), and stages
    texts only after the merged indexes of the downlink's runs are published.

    Parameters
    ----------
    staged
        What the stage has. It is read before the records, because other jobs may be staging.
    work, downlink, runs
        `paths.work`, the downlink, and its runs.
    """
    ours = [paths.receipt(downlink), *(paths.datagrams(run, downlink) for run in runs)]
    found = list[Path]()
    for name in staged.inside():
        place = staged.home / name
        if staged.files[name] is not None:
            found += [] if any((work / each).exists() for each in ours) else [place]
            continue
        files = staged.inside(name)
        with suppress(HalfPipeError):  # records that are damaged are another problem
            delivered = (
                Deliveries(work, RunId.from_l1(name)).names(downlink) if L1_NAME.fullmatch(name) else ()
            )
            found += [place / file for file in files if file not in delivered]
            if not files and not delivered:  # Level-1 moves the files first, and leaves an empty directory
                found.append(place)
    if not found:
        return None
    return Cause(
        FOREIGN,
        Verdict.ACTION,
        f"{count(len(found), 'file')} in its stage without a record, which staging would overwrite: "
        f"{first_names([*map(str, found)])}",
        Remedy(
            f"ls -lR {staged.home}",
            first="If older than a minute: move them away, or give HalfPipe another paths.stage",
        ),
    )


def refuse_foreign(settings: Settings, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Refuse to stage a downlink, with these `runs`, that another system stages here.

    Raises
    ------
    StageError
        If `foreign` returns a cause. Nothing was changed.
    """
    if cause := foreign(look(settings.paths.stage, downlink), settings.paths.work, downlink, runs):
        raise cause.refused("Nothing was done.", StageError)


def _unrecorded(staged: Staged, home: str, known: Collection[str]) -> Iterator[Cause]:
    """Yield the names in a directory that have no record: Level-1 takes each directory for a run."""
    for name in staged.inside(home):
        if name not in known:
            yield fault(
                FOREIGN,
                staged.home / home / name,
                "no record of it, and Level-1 would take it",
                Remedy(
                    f"ls -ld {staged.home / home / name}",
                    first="If older than a minute: see whose it is, and move it away",
                ),
            )
