"""The receipt of a downlink: what was delivered, withheld, held and why, with checksums.

Making it hands the downlink off: the texts are put into the stage, and Level-1 may retire runs again.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import halfpipe
from halfpipe import paths
from halfpipe.downlink import books, stage_look, stage_mark
from halfpipe.errors import NOTHING, DecoderError, StageError, rerun
from halfpipe.files.durable import remove_tree, replacing, write_bytes, write_text
from halfpipe.files.json_files import read_json
from halfpipe.files.lease import Lease
from halfpipe.files.reading import sha256
from halfpipe.files.records import Series
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import magic7, stage
from halfpipe.run.receipt_file import hand_offs, publish_receipt
from halfpipe.settings import Settings
from halfpipe.words import SIMULATED, aligned

Receipt = dict[str, Any]  # docs/receipt.md has each key
Text = Mapping[str, Any]
Manifest = Mapping[str, Any]
Exceptions = Counter[tuple[str, str]]  # of decoders, by run and kind
OF_CHUNK = ("chunk", "retdef", "runs", "files", "said", "level0")
NOT_OF_RUN = {"downlink", "chunks", "datagrams", "window", "settled"}  # what a manifest says besides

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
        The settings, the downlink, and the lease on it.
    chunks, runs
        All that it has, but for chunks that are ignored.
    output
        Takes what the magic-7 command says.

    Raises
    ------
    HalfPipeError
        If the books of the downlink do not balance, the magic-7 command failed or the stage cannot be written. Then
        there is no hand-off, and Level-1 goes on keeping its runs.
    """
    work, place = settings.paths.work, settings.paths.stage
    stage_mark.refuse_delivery(settings, paths.receipts(downlink), *(paths.deliveries(run) for run in runs))
    stage_look.refuse_foreign(settings, downlink, runs)
    decoded = [read_json(work / paths.chunk(downlink, chunk)) for chunk in chunks]
    manifests = [read_json(work / paths.manifest(run, downlink)) for run in sorted(runs)]
    books.refuse(books.findings(downlink, decoded, manifests, books.retdefs_now(settings, downlink)))
    exceptions = _exceptions(settings, downlink, decoded)
    made = hand_offs(work, downlink)
    home = place / paths.staged(downlink)
    number = max(manifest["handoff"] for manifest in manifests) if manifests else 1
    known = next((handoff for handoff in reversed(made) if handoff.number >= number), None)
    if known is not None:  # a receipt that is made again says what it said first
        there = tuple(
            _describe(home / text["name"]) for text in known.texts if (home / text["name"]).is_file()
        )
        if home.is_dir() and there != known.texts:  # else Level-1 has taken it, and the stage stays as it is
            again = [m for m in manifests if m["run"] in known.named]
            _put(settings, lease, downlink, chunks, again, exceptions, output)
        return dict(known.receipt)
    # Of an earlier hand-off Level-1 may have taken the files.
    whole = [
        m
        for m in manifests
        if not any(
            any(stage_look.differs(home / m["l1_run"] / file["name"], file, NOTHING, checksums=False))
            for file in m["files"]
        )
    ]
    # Nobody can have taken them, for nobody was told.
    if gone := [m["run"] for m in manifests if m["handoff"] == number and not m["held"] and m not in whole]:
        raise StageError(
            f"files are gone from the stage before they were handed off: run {', '.join(gone)} of downlink "
            f"{downlink}, in {home}. Nothing was handed off. See that the stage is "
            "mounted, and who clears it.",
            rerun(downlink, "deliver_run", "To stage them again"),
        )
    named = {str(m["run"]) for m in whole}
    described = _put(settings, lease, downlink, chunks, whole, exceptions, output)
    content: Receipt = {
        "downlink": str(downlink),
        "handoff": number,
        "software": {"halfpipe": halfpipe.__version__},
        "config": settings.provenance,
        "chunks": [of_chunk(chunk) for chunk in decoded],
        "ignored": [
            {"chunk": str(chunk), "reason": reason} for chunk, reason in settings.ignored(downlink).items()
        ],
        "runs": [of_run(manifest, named) for manifest in manifests],
        "texts": list(described),
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
    """Record the hand-off after those that were `known`, let Level-1 retire runs again, and write the receipt."""
    work, place = settings.paths.work, settings.paths.stage
    record = publish_receipt(work, downlink, content, known)
    homes = map(paths.deliveries, sorted(runs))
    new = [(home, last) for home in homes for last in Series(work, home).read()[-1:]]
    stage_mark.note(settings, [*new, (paths.receipts(downlink), record)])
    lease.check()  # the tokens may be those of who has followed, and another receipt the last one
    stage.let_retire(place, downlink, runs)
    write_bytes(work / paths.receipt(downlink), record.content)
    remove_tree(work / paths.replaced(downlink))


def _exceptions(settings: Settings, downlink: DownlinkId, chunks: Iterable[Mapping[str, Any]]) -> Exceptions:
    """Count what the decoders met, by run and kind, and refuse too many."""
    found: Exceptions = Counter()
    for chunk in chunks:
        for run, kinds in chunk["said"]["exceptions_by_run"].items():
            found.update({(run, kind): count for kind, count in kinds.items()})
    total, most = found.total(), settings.decoder.max_exceptions
    if most is not None and total > most:
        said = "; ".join(f"run {run}: {count} {kind}" for (run, kind), count in sorted(found.items()))
        raise DecoderError(
            f"the decoders of downlink {downlink} met {total} exceptions, more than decoder.max_exceptions "
            f"({most}): {said}. The lines stand in the logs of decode_chunk. Fix it and process the "
            "downlink again (-F), or raise the limit; then re-run the command."
        )
    return found


def _put(
    settings: Settings,
    lease: Lease,
    downlink: DownlinkId,
    chunks: Sequence[ChunkId],
    named: Sequence[Manifest],
    exceptions: Exceptions,
    output: IO[str],
) -> tuple[Text, ...]:
    """Write all texts that name the runs `named`, put them into the stage, and describe them."""
    with stage.scratch(settings.paths.stage, downlink, "texts") as home:
        for name, content in texts(named, exceptions).items():
            write_text(home / paths.text(name, downlink), content)
        if settings.is_simulated:
            # In a text of its own: Level-1 fails on another line in those that it reads, and reads no other
            # (ground-chain §6).
            write_text(home / paths.text("simulated", downlink), f"{SIMULATED}\n")
        windows = [m["window"] for m in named if m["window"]]
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
        lease.check()  # who has followed may have handed it off, and Level-1 have taken that
        stage.put_texts(settings.paths.stage, home, downlink)
    return described


def _describe(path: Path) -> Text:
    return {"name": path.name, "size": path.stat().st_size, "sha256": sha256(path)}


def of_chunk(decoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the receipt says of one chunk."""
    return {key: decoded[key] for key in OF_CHUNK if key in decoded}


def of_run(manifest: Manifest, named: Collection[str]) -> dict[str, Any]:
    """Return what the receipt says of one run; the texts name those that are `named`."""
    held = manifest["held"]
    return {key: value for key, value in manifest.items() if key not in NOT_OF_RUN} | {
        "held": bool(held),
        "l1": {"accepts": not held, "why": held},
        "named": manifest["run"] in named,
    }


def state_of(run: Mapping[str, Any]) -> str:
    """Say in one word how a run of a receipt stands."""
    if run["held"]:
        return "HELD"
    return "complete" if run["complete"] else ("abandoned" if run["given_up"] else "open")


def table(receipt: Mapping[str, Any]) -> str:
    """Return what was delivered of a downlink as a table for people."""
    # What is known of the run, then its parts.
    counts = ["known", "delivered", "orphans", "late", "held_events", "elsewhere"]
    shown = ["known", "staged", "orphans", "late", "held", "elsewhere"]
    if any(run["closed_events"] for run in receipt["runs"]):  # after an accepted loss alone
        counts.append("closed_events")
        shown.append("closed")
    rows = [("run", "L1 run", "kind", "files", *shown, "state")]
    for run in receipt["runs"]:
        numbers = map(str, [len(run["files"]), *(run[key] for key in counts)])
        rows.append((run["run"], run["l1_run"], run["kind"], *numbers, state_of(run)))
    head = f"downlink {receipt['downlink']}, hand-off {receipt['handoff']}"
    head += ", SIMULATED data" if receipt.get("simulated") else ""
    return "\n".join([head, *aligned(rows)])


def texts(manifests: Iterable[Manifest], exceptions: Exceptions | None = None) -> dict[str, str]:
    """Return the texts that name the runs of `manifests`, by their names without downlink.

    What decoders met stands in a text of its own, `chunk_exceptions`, which is there only if they met
    something: one line a run and kind, ``r%010d kind count``. Level-1 does not read it.

    A line that Level-1 cannot read fails the whole delivery: there are no blank ones, and a run is
    retired only if the same hand-off stages files of it.
    """
    lines: dict[str, list[str]] = {
        name: [] for name in ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys")
    }
    for m in manifests:
        run = m["l1_run"]
        if not m["epus"]:
            continue
        lines["delivered_events"].append(f"{run} {m['delivered']} {m['orphans']} {m['kind']}")
        lines["event_gaps"] += [f"{run} {upper} {lower}" for upper, lower in m["gaps"]]
        lines["moot_keys"].append(f"{run} {m['moot']['key']} {m['moot']['alias']}")
        if m["times"]:
            lines["event_times"].append(f"{run} {m['times'][0]:f} {m['times'][1]:f}")
        if (m["complete"] or m["given_up"]) and m["files"] and not m["held"]:
            lines["retired_runs"].append(f"{run} {'COMPLETE' if m['complete'] else 'INCOMPLETE'}")
    if exceptions:
        lines["chunk_exceptions"] = [
            f"{RunId(run).l1} {kind} {count}" for (run, kind), count in sorted(exceptions.items())
        ]
    return {name: "".join(line + "\n" for line in of_text) for name, of_text in lines.items()}
