"""The receipt of a downlink: what was delivered, withheld, held and why, with checksums.

Making it hands the downlink off: the texts are put into the stage, and Level-1 may retire runs again.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import halfpipe
from halfpipe import paths
from halfpipe.decoder import Program
from halfpipe.errors import DecoderError, StateError
from halfpipe.files import (
    fsync_directory,
    in_the_way,
    make_directory,
    read_json,
    remove_file,
    replacing,
    sha256,
    write_json,
    write_text,
)
from halfpipe.formats.retdef import read_retdef
from halfpipe.handoff import handoffs, magic7, stage
from halfpipe.handoff.handoffs import HandOff
from halfpipe.handoff.texts import Exceptions, texts
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.journal import EventFile

log = logging.getLogger(__name__)


def withdraw(work: Path, downlink: DownlinkId) -> None:
    """Remove the receipt of `downlink` before anything that it vouches for changes; its copy stays.

    Flushed, for after a crash of the machine it must not be back over products that are gone. What says how it
    was submitted goes with it: of a hand-off without files that is that nothing was, and the next may have some.

    Raises
    ------
    HalfPipeError
        If it cannot be removed; says whose it is.
    """
    for path in (work / paths.submitted(downlink), work / paths.receipt(downlink)):
        try:
            remove_file(path)
        except OSError as error:
            raise in_the_way(path, error) from error


@dataclass(frozen=True)
class Job:
    """What a receipt is made of.

    `magic7` is None where the config wants no magic-7; `ignored` are chunks left out with a reason;
    `config` is the part of the configuration that shaped the products; more than `max_exceptions` that
    decoders met are too many to hand off.
    """

    work: Path
    stage: Path
    downlink: DownlinkId
    chunks: tuple[ChunkId, ...]
    runs: tuple[RunId, ...]
    magic7: Program | None
    ignored: tuple[tuple[ChunkId, str], ...]
    config: Mapping[str, Any]
    max_exceptions: int | None = None


def hand_off(job: Job, output: IO[str]) -> dict[str, Any]:
    """Put the texts into the stage, let Level-1 retire runs again, and return the receipt.

    Parameters
    ----------
    job
        The downlink and its products.
    output
        Takes what the magic-7 command says.

    Raises
    ------
    HalfPipeError
        If a decoder brought a run that no RetDef announced, the magic-7 command failed or the stage
        cannot be written. Then there is no hand-off, and Level-1 goes on keeping its runs.
    """
    chunks = [read_json(job.work / paths.chunk(job.downlink, chunk)) for chunk in job.chunks]
    _check_announced(job, chunks)
    exceptions = _exceptions(chunks)
    _check_exceptions(job, exceptions)
    manifests = [read_json(job.work / paths.manifest(run, job.downlink)) for run in sorted(job.runs)]
    number = max(manifest["handoff"] for manifest in manifests) if manifests else 1
    earlier = handoffs.read(job.work, job.downlink)
    known = next((handoff for handoff in reversed(earlier) if handoff.number >= number), None)
    ended = known is not None and handoffs.has_ended(job.work, job.downlink, known.number)
    named = [] if ended else [m for m in manifests if _is_whole(job, m, number)]
    runs = tuple(RunId(m["run"]) for m in named)
    # Where less lies in the stage than was recorded, Level-1 has begun to take it.
    if known is None or (not ended and set(runs) >= set(known.named)):
        handoff = HandOff(number, runs, tuple(_put(job, named, exceptions, output)))
        if handoff != known:
            handoffs.record(job.work, job.downlink, handoff)
    else:
        handoff = known
        _put_again(job, [m for m in manifests if m["run"] in known.named], exceptions, known, output)
    stage.release_cleanup(job.stage, job.downlink, job.runs)
    return _receipt(job, chunks, manifests, handoff)


def save(job: Job, content: Mapping[str, Any]) -> None:
    """Write the receipt, and its copy that stays as history."""
    copy = Path(paths.receipt_history(job.downlink, content["handoff"]))
    write_json(make_directory(job.work, str(copy.parent)) / copy.name, content)
    write_json(job.work / paths.receipt(job.downlink), content)


def _check_announced(job: Job, chunks: Iterable[Mapping[str, Any]]) -> None:
    for chunk in chunks:
        for run in chunk["runs"]:
            if run not in job.runs:
                raise StateError(
                    f"chunk {chunk['chunk']} of downlink {job.downlink} brought run {run} ({RunId(run).l1}), which no "
                    "RetDef of the downlink announces. Nothing is lost: give the same command again, and the run "
                    "is included."
                )


def _exceptions(chunks: Iterable[Mapping[str, Any]]) -> Exceptions:
    """Count what the decoders met, by run and kind."""
    found: Exceptions = Counter()
    for chunk in chunks:
        for run, kinds in chunk["said"]["exceptions_by_run"].items():
            for kind, count in kinds.items():
                found[run, kind] += count
    return found


def _check_exceptions(job: Job, exceptions: Exceptions) -> None:
    total = exceptions.total()
    if job.max_exceptions is not None and total > job.max_exceptions:
        said = "; ".join(f"run {run}: {count} {kind}" for (run, kind), count in sorted(exceptions.items()))
        raise DecoderError(
            f"the decoders of downlink {job.downlink} met {total} exceptions, more than decoder.max_exceptions "
            f"({job.max_exceptions}): {said}. The lines stand in the logs of decode_chunk. Mend the cause and "
            f"process the downlink again (-F), or raise the limit; then give the same command again."
        )


def _is_whole(job: Job, manifest: Mapping[str, Any], number: int) -> bool:
    """Tell whether the run's files all lie in the stage: Level-1 may have taken an earlier hand-off."""
    files = [EventFile.of(entry) for entry in manifest["files"]]
    whole = stage.is_whole(job.stage, job.downlink, RunId(manifest["run"]), files)
    if not whole and manifest["handoff"] == number and not manifest["held"]:
        log.warning(
            "run %s of downlink %s: files are gone from the stage before they were handed off. To stage them "
            "again: snakemake dl=%s -R deliver_run",
            manifest["run"],
            job.downlink,
            job.downlink,
        )
    return whole


def _put(
    job: Job, named: Sequence[Mapping[str, Any]], exceptions: Exceptions, output: IO[str]
) -> list[dict[str, Any]]:
    """Write all texts that name the runs `named`, put them into the stage, and describe them."""
    described: list[dict[str, Any]] = []

    def write(home: Path) -> list[str]:
        for name, content in texts(named, exceptions).items():
            write_text(home / paths.text(name, job.downlink), content)
        _write_magic7(job, named, home, output)
        names = sorted(path.name for path in home.iterdir())
        described.extend(_describe(home / name) for name in names)
        return names

    with stage.scratch(job.stage, job.downlink, "texts") as scratch:
        stage.put_texts(job.stage, scratch, job.downlink, write)
        _remove_other_texts(job, [text["name"] for text in described])
    return described


def _put_again(
    job: Job,
    named: Sequence[Mapping[str, Any]],
    exceptions: Exceptions,
    known: HandOff,
    output: IO[str],
) -> None:
    """See that the texts of a hand-off that was made before are still there.

    Where Level-1 has taken the whole hand-off already, nothing is put into the stage again.
    """
    home = job.stage / paths.staged(job.downlink)
    if not home.is_dir():
        log.info("Level-1 has taken hand-off %d: the stage stays as it is", known.number)
        return
    there = [_describe(path) for text in known.texts if (path := home / text["name"]).is_file()]
    if there != list(known.texts):
        again = _put(job, named, exceptions, output)
        if again != list(known.texts):
            log.warning("the texts of hand-off %d were made again and differ from before", known.number)


def _write_magic7(job: Job, named: Sequence[Mapping[str, Any]], home: Path, output: IO[str]) -> None:
    windows = [m["window"] for m in named if m["window"]]
    if job.magic7 is None or not windows:
        return
    window = min(w[0] for w in windows), max(w[1] for w in windows)
    retdef = read_retdef(job.work / paths.retdef(job.downlink, job.chunks[0]))
    words = magic7.command(job.magic7, retdef, window)
    with replacing(home / paths.text("magic7", job.downlink)) as out:
        lines = magic7.write(words, job.magic7.root, out, output)
    if not lines:
        log.warning(
            "downlink %s: the magic-7 command gave no ATT or ORB line, and Level-1 needs some", job.downlink
        )


def _remove_other_texts(job: Job, names: Sequence[str]) -> None:
    """Remove texts of an earlier hand-off that this one does not make."""
    with stage.errors_named(job.stage):
        home = job.stage / paths.staged(job.downlink)
        other = [path for path in home.glob(paths.text("*", job.downlink)) if path.name not in names]
        for path in other:
            path.unlink()
        if other:
            fsync_directory(home)


def _describe(path: Path) -> dict[str, Any]:
    return {"name": path.name, "size": path.stat().st_size, "sha256": sha256(path)}


def _receipt(
    job: Job, chunks: Sequence[Mapping[str, Any]], manifests: Sequence[Mapping[str, Any]], handoff: HandOff
) -> dict[str, Any]:
    runs = [_run(manifest, handoff) for manifest in manifests]
    return {
        "downlink": str(job.downlink),
        "handoff": handoff.number,
        "software": {"halfpipe": halfpipe.__version__},
        "config": dict(job.config),
        "chunks": [
            {key: chunk[key] for key in ("chunk", "retdef", "files", "runs", "said")} for chunk in chunks
        ],
        "ignored": [{"chunk": str(chunk), "reason": reason} for chunk, reason in job.ignored],
        "runs": runs,
        "texts": list(handoff.texts),
    }


def _run(manifest: Mapping[str, Any], handoff: HandOff) -> dict[str, Any]:
    """Return what the receipt says of one run."""
    keys = (
        "run", "l1_run", "kind", "epus", "complete", "given_up", "known", "delivered", "orphans", "withheld", "late",
        "shrunk", "why", "files", "spans", "gaps", "times", "moot", "missing", "handoff",
    )  # fmt: skip
    return {key: manifest[key] for key in keys} | {
        "held": bool(manifest["held"]),
        "l1": {"accepts": not manifest["held"], "why": manifest["held"]},
        "named": manifest["run"] in handoff.named,
    }


def state_of(run: Mapping[str, Any]) -> str:
    """Say in one word how a run of a receipt stands."""
    if run["held"]:
        return "HELD"
    return "complete" if run["complete"] else ("given up" if run["given_up"] else "open")


def table(receipt: Mapping[str, Any]) -> str:
    """Return what was delivered of a downlink as a table for people."""
    rows = [("run", "MET run", "kind", "files", "events", "orphans", "withheld", "late", "state")]
    for run in receipt["runs"]:
        rows.append(
            (
                run["run"],
                run["l1_run"],
                run["kind"],
                str(len(run["files"])),
                *(str(run[key]) for key in ("delivered", "orphans", "withheld", "late")),
                state_of(run),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    head = f"downlink {receipt['downlink']}, hand-off {receipt['handoff']}"
    return "\n".join([head, *(line.rstrip() for line in lines)])
