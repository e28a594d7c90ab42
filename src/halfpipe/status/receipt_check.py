"""Compare receipts, manifests and files: find what is missing or different.

The account of a downlink includes these findings, and reports records that contradict each other.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.stage_look import (
    GONE,
    MISSING,
    difference,
    differences,
    fault,
    is_submitted,
    names_files,
)
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, MissingInputError, Remedy, rebuild, rerun
from halfpipe.files.advice import put_aside
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import names_in
from halfpipe.files.records import DamagedError, Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.attempts import Attempts
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.merged_index import read_published
from halfpipe.run.stage import halt_cleanup_tokens
from halfpipe.settings import Settings

DAMAGED = "damaged"
RECEIPT_ONLY = {"refused", "l1", "named"}  # keys of a run's entry that its manifest need not share


def check(
    settings: Settings, downlink: DownlinkId, *, checksums: bool = True, sees_stage: bool = True
) -> Iterator[Cause]:
    """Compare the files with the record of the last hand-off of `downlink`; yield nothing without a hand-off.

    With `checksums` the files are read and their checksums compared, not only their sizes. Without `sees_stage`
    the stage, which is not mounted, is skipped.
    """
    work, path = settings.paths.work, settings.paths.work / paths.receipt(downlink)
    records = Series(work, paths.receipts(downlink))
    try:
        yield from _mended(records)
    except DamagedError as error:
        yield _damage(error)
        return
    if not records.records:
        return
    receipt = records.records[-1].values
    if not path.exists():
        yield fault(DAMAGED, path, MISSING, Remedy(f"snakemake dl={downlink}"))
    for chunk in receipt["chunks"]:
        yield from _of_chunk(work, downlink, chunk, checksums)
    for run in receipt["runs"]:
        if run.get("taken_over", "whole") == "whole":
            yield from _of_run(work, downlink, run)
    if not sees_stage:
        return
    try:
        yield from _staged(settings, downlink, receipt, submissions(work, downlink), checksums)
    except DamagedError as error:
        yield _damage(error)


def _note(code: str, path: Path, what: str) -> Cause:
    return Cause(code, Verdict.NOTE, f"{path}: {what}")


def _damage(error: DamagedError) -> Cause:
    """Return the cause for a record that cannot be used; the account may report the same."""
    return Cause(DAMAGED, Verdict.ACTION, error.text, error.remedy)


def _mended(records: Series) -> Iterator[Cause]:
    yield from (_note(DAMAGED, copy, what) for copy, what in records.verify())


def _of_chunk(work: Path, downlink: DownlinkId, chunk: Mapping[str, Any], checksums: bool) -> Iterator[Cause]:
    if chunk["files"] == [] and (work / paths.taken_over(downlink)).exists():
        return  # its products were gone when the downlink was taken over
    vouching = paths.chunk(downlink, chunk["chunk"])
    remedy = rerun(downlink, vouching)
    yield from _agrees(work / vouching, chunk, remedy)
    retdef = work / paths.retdef(downlink, chunk["chunk"])
    products = {work / paths.chunks(downlink) / file["name"]: file for file in chunk["files"]}
    if why := difference(retdef, {"sha256": chunk["retdef"]}, checksums=checksums):
        yield fault(DAMAGED, retdef, why, remedy)
    for path, expected in products.items():
        if why := difference(path, expected, checksums=checksums):
            yield (
                _note("cleaned-up", path, "cleaned up or lost; it is made again when it is needed")
                if why == MISSING
                else fault(DAMAGED, path, why, put_aside(path))
            )


def _of_run(work: Path, downlink: DownlinkId, run: Mapping[str, Any]) -> Iterator[Cause]:
    run_id = RunId(run["run"])
    manifest = paths.manifest(run_id, downlink)
    try:
        read_published(work, run_id, downlink)
    except MissingInputError:
        pass  # the account reports a missing index or manifest
    except HalfPipeError as error:
        yield Cause(DAMAGED, Verdict.ACTION, error.text, rebuild(downlink))
    if (work / manifest).exists():
        expected = {key: value for key, value in run.items() if key not in RECEIPT_ONLY}
        yield from _agrees(work / manifest, expected, rerun(downlink, manifest))
    try:
        yield from _mended(Series(work, paths.deliveries(run_id)))
    except DamagedError as error:
        yield _damage(error)


def _staged(
    settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any], record: Attempts, checksums: bool
) -> Iterator[Cause]:
    stage, submitted = settings.paths.stage, is_submitted(receipt, record)
    for halt in sorted(halt_cleanup_tokens(stage, downlink)):
        yield fault("token-left", halt, "Level-1 cannot retire the run", rerun(downlink, "receipt"))
    for run in receipt["runs"]:
        if run.get("taken_over", "whole") == "whole":  # otherwise the legacy's tokens are not recorded
            yield from _stray_tokens(settings, downlink, RunId(run["run"]))
    if (home := stage / paths.staged(downlink)).is_dir():
        untouched = record.last is None
        for wrong in differences(stage, downlink, receipt, checksums=checksums, untouched=untouched):
            if submitted and wrong.code == GONE:  # Level-1 would take a file that differs
                yield Cause("file-taken", Verdict.NOTE, f"{wrong.text}: Level-1 is taking the hand-off")
            else:
                yield wrong
    elif submitted or not names_files(receipt):
        yield _note("file-taken", home, "Level-1 has taken the hand-off")


def _stray_tokens(settings: Settings, downlink: DownlinkId, run: RunId) -> Iterator[Cause]:
    """Yield the tokens of a run that no delivery created; only for the run's latest downlink, so each appears once."""
    work, home = settings.paths.work, settings.paths.stage / paths.tokens(run.l1)
    tokens = sorted(names_in(home))  # before the records, because others may be staging files of this run
    deliveries = Deliveries(work, run, only_look=True)
    if not tokens or downlink != max(deliveries.latest(), default=downlink):
        return
    ours = {Path(file.name).stem for each in deliveries.deliveries for file in each.files}
    halts = Path(paths.halt_cleanup(run.l1, "")).name
    for token in tokens:
        of = token.removeprefix(halts)
        begun = DownlinkId.matches(of) and ((work / of).is_dir() or (work / paths.receipt(of)).exists())
        if token not in ours and not begun:
            what = f"HalfPipe did not put it there, and Level-1 cannot retire run {run} ({run.l1}) while it is there"
            remedy = Remedy(f"ls -l {home / token}", first="See whose it is, and move it away")
            yield fault("token-left", home / token, what, remedy)


def _agrees(path: Path, expected: Mapping[str, Any], remedy: Remedy) -> Iterator[Cause]:
    """Yield a fault if the JSON file at `path` is missing, damaged, or differs from the receipt."""
    try:
        content = read_json(path)
        other = [key for key, value in expected.items() if content[key] != value]
    except MissingInputError:
        yield fault(DAMAGED, path, MISSING, remedy)
    except HalfPipeError as error:
        yield Cause(DAMAGED, Verdict.ACTION, error.text, remedy)
    except (KeyError, TypeError) as error:
        yield fault(DAMAGED, path, str(error), remedy)
    else:
        if other:
            yield fault(DAMAGED, path, f"differs from the receipt: {', '.join(other)}", remedy)
