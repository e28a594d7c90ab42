"""The texts of a hand-off for Level-1, one line a run (ground-chain §6)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from halfpipe.ids import RunId

Manifest = Mapping[str, Any]
Exceptions = Counter[tuple[str, str]]  # of decoders, by run and kind


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
