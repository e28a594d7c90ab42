"""Compares the stage of a downlink with its records; shared by staging, submission, check and status."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decode.chunk import Product
from halfpipe.errors import NOTHING, IdError, Remedy, StageError, rerun
from halfpipe.files.reading import names_in, sha256
from halfpipe.files.records import DamagedError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.attempts import Attempts
from halfpipe.run.deliveries import Deliveries, EventFile
from halfpipe.run.hand_offs import HandOff
from halfpipe.run.merged_chunks import File
from halfpipe.settings import Settings
from halfpipe.words import count

FOREIGN, DIFFERS = "stage-foreign", "stage-differs"
GONE = "stage-gone"  # event files; Level-1 moves them away once a hand-off is submitted
MISSING = "missing"
MOST_NAMED = 5  # files in a message


def fault(code: str, path: Path, what: str, remedy: Remedy = NOTHING) -> Cause:
    """Return the cause for a file that differs from its record: `what` differs, and the remedy."""
    return Cause(code, Verdict.ACTION, f"{path}: {what}", remedy)


def differences(
    stage: Path,
    last: HandOff,
    *,
    checksums: bool = False,
    untouched: bool = False,
) -> Iterator[Cause]:
    """Yield the differences between a hand-off and the stage.

    Parameters
    ----------
    stage, last
        `paths.stage`, and the last hand-off of a downlink.
    checksums
        Whether to read the files.
    untouched
        Whether nothing was submitted yet. Then each event file has its token, and there are no other files.
    """
    downlink = last.receipt.downlink
    home = stage / paths.staged(downlink)
    for one in last.runs:
        if not one.named:
            continue
        files = one.delivery.files
        of_run = stage / paths.staged_run(downlink, one.run.l1)
        again = rerun(downlink, paths.manifest(one.run, downlink))
        for file in files:
            path = of_run / file.name
            if why := difference(path, file, checksums=checksums):
                yield fault(GONE if why == MISSING else DIFFERS, path, why, again)
            token = stage / paths.tokens(one.run.l1) / Path(file.name).stem
            if untouched and not token.exists():
                yield fault(DIFFERS, token, "this token is missing", again)
        if untouched:
            yield from _unrecorded(of_run, {file.name for file in files})
    texts = last.receipt.texts
    for text in texts:
        if why := difference(home / text.name, text, checksums=checksums):
            yield fault(DIFFERS, home / text.name, why, rerun(downlink, "receipt"))
    if untouched:
        yield from _unrecorded(home, {text.name for text in texts} | {one.run.l1 for one in last.runs})


def difference(path: Path, expected: File | EventFile | Product, *, checksums: bool) -> str:
    """Return how a file differs from its record; empty if it does not.

    Parameters
    ----------
    path
        The file.
    expected
        Its record.
    checksums
        Whether to read the file and compare its checksum.
    """
    try:
        size = path.stat().st_size
    except OSError:
        return MISSING
    if size != expected.size:
        return f"{size} bytes, {expected.size} expected"
    return "checksum mismatch" if checksums and sha256(path) != expected.sha256 else ""


def is_submitted(last: HandOff, record: Attempts) -> bool:
    """Return whether the last confirmed submission or rollback sent this hand-off to Level-1."""
    return record.last_confirmed is not None and record.last_confirmed.handoff == last.number


def is_taken(settings: Settings, last: HandOff, record: Attempts) -> bool:
    """Return whether Level-1 has taken a hand-off.

    Level-1 moves the event files away, and deletes the directory of the downlink at the end (ground-chain §6). If
    nothing was submitted, something else cleared the stage.
    """
    home = f"{settings.paths.stage}/{paths.staged(last.receipt.downlink)}"  # not a Path: called for all downlinks
    return is_submitted(last, record) and last.names_files and not os.path.isdir(home)  # noqa: PTH112


def foreign(settings: Settings, downlink: DownlinkId, runs: Iterable[RunId]) -> Cause | None:
    """Return a cause if the stage has files of a downlink that no record lists: another system stages the downlink.

    Staging would replace or remove them. HalfPipe records each file before the file appears (`Deliveries`), and stages
    texts only after the merged indexes of the downlink's `runs` are published. Runs with damaged records are skipped.
    """
    work, stage = settings.paths.work, settings.paths.stage
    home = stage / paths.staged(downlink)
    names, found = sorted(names_in(home)), list[Path]()
    known = (work / paths.receipts(downlink)).exists() or any(
        (work / paths.datagrams(run, downlink)).exists() for run in runs
    )
    for name in names:
        place = home / name
        if not place.is_dir():
            found += [] if known else [place]
            continue
        files = sorted(names_in(place))  # before the records, because other jobs may be staging
        try:
            ours = Deliveries(work, RunId.from_l1(name)).names(downlink)
        except IdError:
            ours = set()
        except DamagedError:
            continue
        # An empty directory may be from HalfPipe: Level-1 moves the files first.
        found += [place / file for file in files if file not in ours] or ([] if files or ours else [place])
    if not found:
        return None
    few = ", ".join(map(str, found[:MOST_NAMED])) + (" and more" if found[MOST_NAMED:] else "")
    return Cause(
        FOREIGN,
        Verdict.ACTION,
        f"{count(len(found), 'file')} in its stage without a record, which staging would overwrite: {few}",
        Remedy(
            f"ls -lR {home}",
            first="If older than a minute: move them away, or give HalfPipe another paths.stage",
        ),
    )


def refuse_foreign(settings: Settings, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Refuse to stage a downlink that another system stages here.

    Raises
    ------
    StageError
        If `foreign` returns a cause. Nothing was changed.
    """
    if cause := foreign(settings, downlink, runs):
        raise cause.refused("Nothing was done.", StageError)


def _unrecorded(home: Path, known: Collection[str]) -> Iterator[Cause]:
    """Yield the names in a directory that have no record: Level-1 takes each directory for a run."""
    for name in sorted({*names_in(home)} - set(known)):
        yield fault(
            FOREIGN,
            home / name,
            "no record of it, and Level-1 would take it",
            Remedy(
                f"ls -ld {home / name}",
                first="If older than a minute: see whose it is, and move it away",
            ),
        )
