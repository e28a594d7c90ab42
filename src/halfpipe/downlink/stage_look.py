"""One look at the stage: what lies there of a downlink, against what its records say.

Who stages, submits, checks or asks how a downlink stands shares it, so that they never say different things of one
file.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import NOTHING, IdError, Remedy, StageError, rerun
from halfpipe.files.reading import names_in, sha256
from halfpipe.files.records import DamagedError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.attempts import Attempts
from halfpipe.run import level1_acceptance
from halfpipe.run.deliveries import Deliveries
from halfpipe.settings import Settings
from halfpipe.words import count

STRANGE = "file-strange"
GONE = "stage-partly-gone"  # an event file, which Level-1 moves away once it was told
MOST_NAMED = 5  # files in a message


def fault(code: str, path: Path, what: str, remedy: Remedy = NOTHING) -> Cause:
    """Return that a file is not as it was handed off: what is wrong with it, and what to do."""
    return Cause(code, Verdict.ACTION, f"{path}: {what}", remedy)


def look(
    stage: Path,
    downlink: DownlinkId,
    receipt: Mapping[str, Any],
    *,
    checksums: bool = False,
    untouched: bool = False,
    work: Path | None = None,
) -> Iterator[Cause]:
    """Yield what is wrong with a hand-off in the stage.

    Parameters
    ----------
    stage, downlink, receipt
        `paths.stage`, and whose receipt it is.
    checksums
        Whether the files are read.
    untouched
        Whether Level-1 was told nothing yet: then each event file has its token, and nothing else lies there.
    work
        `paths.work`, if what lies there is also read as Level-1 reads it, unless it differs; None: it is not.
    """
    found = list(_compared(stage, downlink, receipt, checksums=checksums, untouched=untouched))
    yield from found
    home, again = stage / paths.staged(downlink), rerun(downlink, "deliver_run")
    if work is not None and not found and home.is_dir():
        for why in level1_acceptance.failures(stage, work, downlink):
            yield fault("level1-refuses", home, why, again)


def _compared(
    stage: Path, downlink: DownlinkId, receipt: Mapping[str, Any], *, checksums: bool, untouched: bool
) -> Iterator[Cause]:
    home = stage / paths.staged(downlink)
    for run in receipt["runs"]:
        if not run["named"]:
            continue
        of_run = stage / paths.staged_run(downlink, run["l1_run"])
        again = rerun(downlink, paths.manifest(run["run"], downlink))
        for file in run["files"]:
            for wrong in differs(of_run / file["name"], file, again, checksums=checksums):
                yield replace(wrong, code=GONE) if wrong.code == "file-missing" else wrong
            token = stage / paths.tokens(run["l1_run"]) / Path(file["name"]).stem
            if untouched and not token.exists():
                yield fault("file-missing", token, "this token is missing", again)
        if untouched:
            yield from _strange(of_run, {file["name"] for file in run["files"]})
    texts = receipt.get("texts", ())
    for text in texts:
        yield from differs(home / text["name"], text, rerun(downlink, "receipt"), checksums=checksums)
    if untouched:
        yield from _strange(
            home, {text["name"] for text in texts} | {run["l1_run"] for run in receipt["runs"]}
        )


def differs(path: Path, expected: Mapping[str, Any], remedy: Remedy, *, checksums: bool) -> Iterator[Cause]:
    """Yield that a file is missing, or not what is expected; the checksum is compared only if `checksums` says so."""
    try:
        size = path.stat().st_size
    except OSError:
        yield fault("file-missing", path, "missing", remedy)
        return
    if size != expected.get("size", size):
        yield fault("file-differs", path, f"{size} bytes, {expected['size']} expected", remedy)
    elif checksums and sha256(path) != expected["sha256"]:
        yield fault("file-differs", path, "checksum mismatch", remedy)


def is_submitted(receipt: Mapping[str, Any], record: Attempts) -> bool:
    """Tell whether the hand-off of a receipt is the one that Level-1 has, or had by a roll-back."""
    return record.last_confirmed is not None and record.last_confirmed.handoff == receipt["handoff"]


def names_files(receipt: Mapping[str, Any]) -> bool:
    """Tell whether there is anything to take: without event files there is no magic-7, and Level-1 fails."""
    return any(run["named"] and run["files"] for run in receipt["runs"])


def is_taken(settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any], record: Attempts) -> bool:
    """Tell whether Level-1 has taken the hand-off that `receipt` is of: one look.

    Level-1 moves the event files out, and deletes the directory of the downlink when it is done (ground-chain §6).
    So does whoever clears the stage: only after a submission it was Level-1.
    """
    home = f"{settings.paths.stage}/{paths.staged(downlink)}"  # no Path, for this is asked of all downlinks
    return names_files(receipt) and is_submitted(receipt, record) and not os.path.isdir(home)  # noqa: PTH112


def foreign(settings: Settings, downlink: DownlinkId, runs: Iterable[RunId]) -> Cause | None:
    """Return that files of a downlink lie in the stage that nothing here has put there: another system stages it.

    They would be replaced and removed. What was put there is recorded before it shows (`Deliveries`); texts come after
    what was brought of the downlink's `runs` is known. Of a run whose records are damaged, whoever reads them says so.
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
        files = sorted(names_in(place))  # before the records, for others stage runs of it at this moment
        try:
            ours = Deliveries(work, RunId.from_l1(name)).names(downlink)
        except IdError:
            ours = set()
        except DamagedError:
            continue
        # A directory of ours may be empty: Level-1 moves the files first.
        found += [place / file for file in files if file not in ours] or ([] if files or ours else [place])
    if not found:
        return None
    few = ", ".join(map(str, found[:MOST_NAMED])) + (" and more" if found[MOST_NAMED:] else "")
    return Cause(
        "stage-foreign",
        Verdict.ACTION,
        f"the stage has {count(len(found), 'file')} of downlink {downlink} without a record: {few}. Nothing of the "
        "downlink is staged, because these files would be overwritten",
        Remedy(
            f"ls -lR {home}",
            first="If they are younger than a minute, another host may have staged them: run this again. If another "
            "system uses this stage, give HalfPipe one of its own (paths.stage). If they are left over, move them away",
        ),
    )


def refuse_foreign(settings: Settings, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Refuse to stage anything of a downlink that another system stages here.

    Raises
    ------
    StageError
        If `foreign` finds something.
    """
    if cause := foreign(settings, downlink, runs):
        raise cause.refused("Nothing was done.", StageError)


def _strange(home: Path, known: Collection[str]) -> Iterator[Cause]:
    """Yield what lies in a directory and is of no hand-off: Level-1 takes each directory for a run."""
    for name in sorted({*names_in(home)} - set(known)):
        yield fault(
            STRANGE,
            home / name,
            "no record of it, and Level-1 would take it",
            Remedy(
                f"ls -ld {home / name}",
                first="If it is younger than a minute, another host may have staged it: run this again. Else see whose "
                "it is, and move it away",
            ),
        )
