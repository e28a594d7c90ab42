"""The receipt of a downlink: what was delivered, withheld, refused and why, with checksums.

Making it hands the downlink off: the texts are put into the stage, and Level-1 may retire runs again.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from halfpipe import paths
from halfpipe.downlink import stage_look, stage_mark, unbalanced
from halfpipe.downlink.plan import Plan
from halfpipe.errors import StageError, rerun
from halfpipe.files.durable import remove_tree, replacing, write_bytes, write_text
from halfpipe.files.json_files import read_json
from halfpipe.files.leases import Lease
from halfpipe.files.reading import sha256
from halfpipe.files.records import Series
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import magic7, stage
from halfpipe.run.receipt_file import last_hand_off, publish_receipt
from halfpipe.settings import Settings
from halfpipe.version import __version__
from halfpipe.words import SIMULATED, aligned

Receipt = dict[str, Any]  # docs/receipt.md has each key
Text = Mapping[str, Any]
Manifest = Mapping[str, Any]
Exceptions = Counter[tuple[str, str]]  # of decoders, by run and kind
OF_CHUNK = ("chunk", "retdef", "runs", "files", "said", "level0")
NOT_OF_RUN = {
    "downlink",
    "chunks",
    "datagrams",
    "window",
    "settled",
}  # keys of a manifest that a receipt lacks

log = logging.getLogger(__name__)


def hand_off(
    settings: Settings,
    lease: Lease,
    downlink: DownlinkId,
    chunks: Sequence[ChunkId],
    runs: Collection[RunId],
    output: IO[str],
) -> Receipt:
    """Put the texts into the stage, and return the receipt.

    Parameters
    ----------
    settings, lease, downlink
        The settings, the downlink, and its lease.
    chunks, runs
        All chunks of the downlink except ignored ones, and all its runs.
    output
        Gets what the magic-7 command prints.

    Raises
    ------
    HalfPipeError
        If the books of the downlink do not balance, the magic-7 command failed, or the stage cannot be written. Then
        nothing is handed off, and Level-1 still does not retire the runs.
    """
    work = settings.paths.work
    stage_mark.refuse(settings, paths.receipts(downlink), *(paths.deliveries(run) for run in runs))
    stage_look.refuse_foreign(settings, downlink, runs)
    decoded = [read_json(work / paths.chunk(downlink, chunk)) for chunk in chunks]
    manifests = [read_json(work / paths.manifest(run, downlink)) for run in sorted(runs)]
    retdefs = Plan(settings).of(downlink).numbers
    for finding in unbalanced.findings(downlink, decoded, manifests, retdefs):
        raise finding.refused(f"Downlink {downlink} was not handed off.")
    exceptions = _exceptions(decoded)
    put_texts = partial(_put_texts, settings, lease, downlink, chunks, exceptions, output)
    number = max(manifest["handoff"] for manifest in manifests) if manifests else 1
    last = last_hand_off(work, downlink)
    if last is not None and last.number >= number:
        home = settings.paths.stage / paths.staged(downlink)
        places = [home / text["name"] for text in last.texts]
        # Restore the texts, unless Level-1 has taken the downlink.
        if home.is_dir() and last.texts != tuple(_describe(path) for path in places if path.is_file()):
            put_texts([manifest for manifest in manifests if manifest["run"] in last.named])
        # If a chunk without data is ignored now, or no longer, Level-1 needs nothing new.
        return dict(last.receipt) | _chunks_of(settings, downlink, decoded)
    staged = _in_stage(settings.paths.stage, downlink, manifests, number)
    return content_of(settings, downlink, number, decoded, manifests, staged, put_texts(staged))


def _in_stage(
    place: Path, downlink: DownlinkId, manifests: Sequence[Manifest], number: int
) -> list[Manifest]:
    """Return the manifests whose event files are all in the stage; Level-1 may have taken those of earlier hand-offs.

    Raises
    ------
    StageError
        If event files of hand-off `number` are gone; Level-1 cannot have taken them yet.
    """
    home = place / paths.staged(downlink)
    staged, gone = [], []
    for manifest in manifests:
        files = ((home / manifest["l1_run"] / file["name"], file) for file in manifest["files"])
        if not any(stage_look.difference(path, file, checksums=False) for path, file in files):
            staged.append(manifest)
        elif manifest["handoff"] == number and not manifest["refused"]:
            gone.append(manifest["run"])
    if gone:
        raise StageError(
            f"files disappeared from the stage before they were handed off: run {', '.join(gone)} of downlink "
            f"{downlink}, in {home}. Nothing was handed off. Check that the stage is mounted, and what clears it.",
            rerun(downlink, "deliver_run", "To stage them again"),
            code=stage_look.GONE,
        )
    return staged


def content_of(
    settings: Settings,
    downlink: DownlinkId,
    number: int,
    chunks: Iterable[Mapping[str, Any]],
    manifests: Iterable[Manifest],
    named: Iterable[Manifest],
    texts: Iterable[Text],
) -> Receipt:
    """Return the receipt of hand-off `number`; `texts` name the runs of the manifests `named`."""
    names = {str(manifest["run"]) for manifest in named}
    content: Receipt = {
        "downlink": str(downlink),
        "handoff": number,
        "software": {"halfpipe": __version__},
        "config": settings.provenance,
        **_chunks_of(settings, downlink, chunks),
        "runs": [of_run(manifest, names) for manifest in manifests],
        "texts": list(texts),
    }
    if settings.is_simulated:
        content["simulated"] = True
    if settings.reason:
        content["reason"] = settings.reason
    return content


def save(
    settings: Settings,
    lease: Lease,
    known: Series,
    downlink: DownlinkId,
    runs: Collection[RunId],
    content: Receipt,
) -> None:
    """Record the hand-off after the records `known`, let Level-1 retire runs again, and write the receipt."""
    work = settings.paths.work
    record = publish_receipt(work, downlink, content, known)
    homes = map(paths.deliveries, sorted(runs))
    new = [(home, last) for home in homes for last in Series(work, home).read()[-1:]]
    stage_mark.note(settings, [*new, (paths.receipts(downlink), record)])
    lease.check()  # else the tokens and the last receipt may be those of the process that took the lease over
    stage.remove_halt_cleanup(settings.paths.stage, downlink, runs)
    write_bytes(work / paths.receipt(downlink), record.content)
    remove_tree(work / paths.replaced(downlink))


def _exceptions(chunks: Iterable[Mapping[str, Any]]) -> Exceptions:
    """Count the errors that decoders reported, by run and kind."""
    found: Exceptions = Counter()
    for chunk in chunks:
        for run, kinds in chunk["said"]["exceptions_by_run"].items():
            found.update({(run, kind): count for kind, count in kinds.items()})
    return found


def _put_texts(
    settings: Settings,
    lease: Lease,
    downlink: DownlinkId,
    chunks: Sequence[ChunkId],
    exceptions: Exceptions,
    output: IO[str],
    named: Sequence[Manifest],
) -> tuple[Text, ...]:
    """Write all texts that name the runs of `named`, put them into the stage, and describe them."""
    with stage.scratch(settings.paths.stage, downlink, "texts") as home:
        for name, content in texts(named, exceptions).items():
            write_text(home / paths.text(name, downlink), content)
        if settings.is_simulated:
            # A separate text, because Level-1 fails on an extra line in a text that it reads, and ignores
            # other texts (ground-chain §6).
            write_text(home / paths.text("simulated", downlink), f"{SIMULATED}\n")
        windows = [manifest["window"] for manifest in named if manifest["window"]]
        if settings.magic7.command is not None and windows:
            window = min(first for first, _ in windows), max(last for _, last in windows)
            retdef = read_retdef(settings.paths.work / paths.retdef(downlink, chunks[0]))
            with replacing(home / paths.text("magic7", downlink)) as out:
                lines = magic7.write(magic7.command(settings, retdef, window), out, output)
            if not lines:
                log.warning(
                    "downlink %s: the magic-7 command gave no ATT or ORB line, and Level-1 needs some",
                    downlink,
                )
        described = tuple(_describe(path) for path in sorted(home.iterdir()))
        lease.check()  # else Level-1 may have taken the hand-off of another process
        stage.put_texts(settings.paths.stage, home, downlink)
    return described


def _describe(path: Path) -> Text:
    return {"name": path.name, "size": path.stat().st_size, "sha256": sha256(path)}


def of_chunk(decoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a chunk in the receipt."""
    return {key: decoded[key] for key in OF_CHUNK if key in decoded}


def _chunks_of(
    settings: Settings, downlink: DownlinkId, decoded: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the parts of the receipt on chunks, merged and ignored ones."""
    ignored = settings.ignored(downlink).items()
    return {
        "chunks": [of_chunk(chunk) for chunk in decoded],
        "ignored": [{"chunk": str(chunk), "reason": reason} for chunk, reason in ignored],
    }


def of_run(manifest: Manifest, named: Collection[str]) -> dict[str, Any]:
    """Return the entry of a run in the receipt; `named` are the runs in the texts."""
    refused = manifest["refused"]
    return {key: value for key, value in manifest.items() if key not in NOT_OF_RUN} | {
        "refused": bool(refused),
        "l1": {"accepts": not refused, "why": refused},
        "named": manifest["run"] in named,
    }


def state_word(run: Mapping[str, Any]) -> str:
    """Return the state of a run of a receipt in one word."""
    if run["refused"]:
        return "REFUSED"
    return "complete" if run["complete"] else ("abandoned" if run["abandoned"] else "open")


def table(receipt: Mapping[str, Any]) -> str:
    """Return a table of the runs of a receipt, for people."""
    # All known events of the run, then their parts.
    counts = ["known", "delivered", "waiting", "late", "refused_events", "elsewhere"]
    shown = ["known", "staged", "waiting", "late", "refused", "elsewhere"]
    if any(run["closed_events"] for run in receipt["runs"]):  # only after an accepted loss
        counts.append("closed_events")
        shown.append("closed")
    rows = [("run", "L1 run", "kind", "files", *shown, "state")]
    for run in receipt["runs"]:
        numbers = map(str, [len(run["files"]), *(run[key] for key in counts)])
        rows.append((run["run"], run["l1_run"], run["kind"], *numbers, state_word(run)))
    head = f"downlink {receipt['downlink']}, hand-off {receipt['handoff']}"
    head += ", SIMULATED data" if receipt.get("simulated") else ""
    return "\n".join([head, *aligned(rows)])


def texts(manifests: Iterable[Manifest], exceptions: Exceptions | None = None) -> dict[str, str]:
    """Return the texts that name the runs of `manifests`, by their names without downlink.

    Errors of decoders are in `chunk_exceptions`, one line per run and kind, ``r%010d kind count``. Without errors there
    is no such text. Level-1 does not read it.

    Level-1 fails a whole delivery on a line that it cannot read, so there are no blank lines, and a run is retired only
    if the same hand-off stages files of it.
    """
    lines: dict[str, list[str]] = {
        name: [] for name in ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys")
    }
    for m in manifests:
        run = m["l1_run"]
        if not m["epus"]:
            continue
        lines["delivered_events"].append(f"{run} {m['delivered']} {m['waiting']} {m['kind']}")
        lines["event_gaps"] += [f"{run} {upper} {lower}" for upper, lower in m["gaps"]]
        lines["moot_keys"].append(f"{run} {m['moot']['key']} {m['moot']['alias']}")
        if m["times"]:
            lines["event_times"].append(f"{run} {m['times'][0]:f} {m['times'][1]:f}")
        if (m["complete"] or m["abandoned"]) and m["files"] and not m["refused"]:
            lines["retired_runs"].append(f"{run} {'COMPLETE' if m['complete'] else 'INCOMPLETE'}")
    if exceptions:
        lines["chunk_exceptions"] = [
            f"{RunId(run).l1} {kind} {count}" for (run, kind), count in sorted(exceptions.items())
        ]
    return {name: "".join(line + "\n" for line in of_text) for name, of_text in lines.items()}
