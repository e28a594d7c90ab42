"""Harms to a copy of what another system delivered, each by name: `halfpipe compare` has to tell every one.

`THEIRS` are the copies: our own stage, the stage of the legacy's model, and a tree that the legacy itself left. All
are of one case, whose run two downlinks bring.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halfpipe import paths
from halfpipe.formats import evt
from tests.support.compared import sequence_of, write_event_file
from tests.support.harness import records_of

FIRST, SECOND = "240601001", "240601002"
RUN, MET = "r0741234567", "741234567"
STAGE, LEGACY, TREE = THEIRS = "stage", "legacy", "tree"
Records = list[bytes]


class Harm(NamedTuple):
    """What is done to a copy, and with which downlink it shows."""

    to: tuple[str, ...]
    do: Callable[[Path], object]
    shows: str = FIRST


def event_file(root: Path, downlink: str = FIRST) -> Path:
    """Return the only event file of a downlink."""
    (path,) = (root / downlink / RUN).glob("*.evt")
    return path


def _records(change: Callable[[Records], Records]) -> Callable[[Path], None]:
    """Write the file's records anew, with a header that is right."""

    def do(root: Path) -> None:
        path = event_file(root)
        write_event_file(path, change(records_of(path.read_bytes())))

    return do


def _put(record: bytes, at: int, new: bytes) -> bytes:
    at %= len(record)
    return record[:at] + new + record[at + len(new) :]


def _nth(n: int, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return _records(lambda records: [*records[:n], change(records[n]), *records[n + 1 :]])


def _context(field: str, add: int) -> Callable[[bytes], bytes]:
    def change(record: bytes) -> bytes:
        context = np.frombuffer(record, evt.CONTEXT, 1).copy()
        context[field] += context[field].dtype.type(add)
        return context.tobytes() + record[evt.CONTEXT.itemsize :]

    return change


def _without_handlers(record: bytes) -> bytes:
    at = 300 + int.from_bytes(record[296:300], "little") + 36
    return record[:at] + bytes(4) + record[-20:]


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        path = event_file(root)
        path.write_bytes(change(path.read_bytes()))

    return do


def _header(field: str, value: object) -> Callable[[Path], None]:
    def change(content: bytes) -> bytes:
        header = np.frombuffer(content, evt.HEADER, 1).copy()
        header[field] = header[field] + 1 if value is None else value
        return header.tobytes() + content[evt.HEADER_SIZE :]

    return _bytes(change)


def _renamed(name: str, into: str = "{home}") -> Callable[[Path], None]:
    def do(root: Path) -> None:
        path = event_file(root)
        target = Path(into.format(home=path.parent, stage=root)) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)

    return do


def _split(root: Path, headers: Callable[[Path, Path, Records], None]) -> None:
    path = event_file(root)
    records = records_of(path.read_bytes())
    half = len(records) // 2
    other = path.with_name(paths.event_file(RUN, sequence_of(records[half])))
    shutil.copy(path, other)
    write_event_file(path, records[:half])
    write_event_file(other, records[half:])
    headers(path, other, records)


def _old_header(path: Path, field: str, value: int) -> None:
    header = evt.read_header(path).copy()
    header[field] = value
    path.write_bytes(header.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])


def _text(name: str, change: Callable[[str], str], downlink: str = FIRST) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        path = root / downlink / f"{name}_{downlink}.txt"
        path.write_text(change(path.read_text()))

    return do


def _gone(name: str) -> Callable[[Path], None]:
    return lambda root: (root / FIRST / f"{name}_{FIRST}.txt").unlink()


def _word(number: int, change: Callable[[str], str]) -> Callable[[str], str]:
    def do(text: str) -> str:
        line, rest = text.split("\n", 1)
        words = line.split(" ")
        words[number] = change(words[number])
        return "\n".join([" ".join(words), rest])

    return do


def _more(text: str) -> str:
    return str(int(text) + 1)


def _of_run(pattern: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change a file of the run in the legacy's tree."""

    def do(root: Path) -> None:
        (path,) = (root / FIRST / MET).glob(pattern)
        path.write_bytes(change(path.read_bytes()))

    return do


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda content: b"".join(change(content.splitlines(keepends=True)))


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new, 1)


def _swapped_records(lines: list[bytes]) -> list[bytes]:
    ends = [line[line.index(b" continue ") :] for line in lines[:2]]  # in two chunks
    return [lines[0].replace(ends[0], ends[1]), lines[1].replace(ends[1], ends[0]), *lines[2:]]


def _copied_into_the_other(root: Path) -> None:
    path = event_file(root)
    records = records_of(path.read_bytes())
    other = event_file(root, SECOND)
    write_event_file(other, [*records[-1:], *records_of(other.read_bytes())])
    other.rename(other.with_name(path.name.replace(path.name[-24:-4], f"{sequence_of(records[-1]):020d}")))


def _whole_file_twice(root: Path) -> None:
    path = event_file(root)
    target = root / SECOND / RUN / path.name
    shutil.copy(path, target)
    _old_header(target, "runid", int(SECOND))


FILES = (STAGE, LEGACY)
HARMS: Mapping[str, Harm] = {
    # Events.
    "two events swapped": Harm(FILES, _records(lambda r: [*r[:9], r[10], r[9], *r[11:]])),
    "all events in reverse order": Harm(FILES, _records(lambda r: r[::-1])),
    "the first event dropped": Harm(FILES, _records(lambda r: r[1:])),
    "an event dropped": Harm(FILES, _records(lambda r: [*r[:9], *r[10:]])),
    "the last event dropped": Harm(FILES, _records(lambda r: r[:-1])),
    "every second event dropped": Harm(FILES, _records(lambda r: r[::2])),
    "an event twice, at the end": Harm(FILES, _records(lambda r: [*r, r[-1]])),
    "an event twice, beside itself": Harm(FILES, _records(lambda r: [*r[:9], r[9], *r[9:]])),
    "an event delivered with another downlink, too": Harm(FILES, _copied_into_the_other, SECOND),
    "a file delivered with another downlink, too": Harm(FILES, _whole_file_twice, SECOND),
    "an event that nobody brought": Harm(FILES, _nth(9, _context("scalers_sequence", 1))),
    "an event of another EPU": Harm(FILES, _nth(9, _context("ccsds_apid", 8))),
    "an event in place of another": Harm(FILES, _records(lambda r: [*r[:9], r[10], *r[10:]])),
    "a time inside an event": Harm(FILES, _nth(9, _context("current_timeSecs", 1))),
    "padding inside an event": Harm(FILES, _nth(9, lambda r: _put(r, 43, b"\1"))),
    "the payload of an event": Harm(FILES, _nth(9, lambda r: _put(r, 312, b"\xa5\x5a"))),
    "LATC_master of one event": Harm(FILES, _nth(9, lambda r: _put(r, -16, b"\xa5\x5a\xa5\x5a"))),
    "the last key of an event": Harm(FILES, _nth(9, lambda r: _put(r, -1, b"\xa5"))),
    "an event without its handlers": Harm(FILES, _nth(9, _without_handlers)),
    # Event files.
    "cut inside an event": Harm(FILES, _bytes(lambda b: b[:-100])),
    "cut behind an event": Harm(FILES, lambda root: _cut_behind(event_file(root))),
    "emptied": Harm(FILES, _bytes(lambda _: b"")),
    "only a header left": Harm(FILES, _bytes(lambda b: b[: evt.HEADER_SIZE])),
    "garbage behind the last event": Harm(FILES, _bytes(lambda b: b + b"garbage")),
    "zeros behind the last event": Harm(FILES, _bytes(lambda b: b + bytes(4096))),
    "a file gone": Harm(FILES, lambda root: event_file(root).unlink()),
    "a run's directory gone": Harm(FILES, lambda root: shutil.rmtree(event_file(root).parent)),
    "renamed to another sequence": Harm(FILES, _renamed(f"{RUN}-e{1003:020d}.evt")),
    "renamed to another run": Harm(FILES, _renamed(f"r0741234568-e{1002:020d}.evt")),
    "moved to another run": Harm(
        FILES, _renamed(f"r0741234568-e{1002:020d}.evt", f"{{stage}}/{FIRST}/r0741234568")
    ),
    "renamed to no name": Harm(FILES, _renamed(f"{RUN}.evt")),
    "split, with the count of the whole": Harm(
        FILES, lambda root: _split(root, lambda a, _, r: _old_header(a, "evtcnt", len(r)))
    ),
    "split, with the sequences of the whole": Harm(
        FILES, lambda root: _split(root, lambda a, _, r: _old_header(a, "gemseq_end", sequence_of(r[-1])))
    ),
    "a foreign file": Harm(FILES, lambda root: (event_file(root).parent / "core").write_bytes(b"x")),
    "an empty directory of an unknown run": Harm(FILES, lambda root: (root / FIRST / "r0000000001").mkdir()),
    # Headers.
    **{
        f"{field} in a header": Harm(FILES, _header(field, value))
        for field, value in {
            "marker": None,
            "version": None,
            "runid": int(SECOND),
            "secs_beg": None,
            "secs_end": None,
            "evtcnt": None,
            "gemseq_beg": None,
            "gemseq_end": None,
            "src_apids": None,
            "src_seqerr": None,
            "dfi_apids": None,
            "dfi_dfierr": None,
            "moot_key": 4711,
            "moot_alias": b"nomOther",
        }.items()
    },
    "garbage behind the alias in a header": Harm(FILES, _bytes(lambda b: _put(b, evt.HEADER_SIZE - 1, b"x"))),
    # Texts.
    **{
        f"{name} gone": Harm(THEIRS, _gone(name))
        for name in ("delivered_events", "retired_runs", "event_gaps", "moot_keys")
    },
    "event_times gone": Harm((STAGE,), _gone("event_times")),
    "delivered_events emptied": Harm(THEIRS, _text("delivered_events", lambda _: "")),
    "other counts of events": Harm(THEIRS, _text("delivered_events", _word(1, _more))),
    "other counts of orphans": Harm(THEIRS, _text("delivered_events", _word(2, _more))),
    "another kind of run": Harm(THEIRS, _text("delivered_events", _word(3, lambda _: "LCI"))),
    "a line twice": Harm(THEIRS, _text("delivered_events", lambda text: text + text)),
    "a blank line": Harm(THEIRS, _text("delivered_events", lambda text: text + "\n")),
    "a line without an end": Harm(THEIRS, _text("delivered_events", lambda text: text[:-1])),
    "a space behind a line": Harm(THEIRS, _text("delivered_events", lambda text: text[:-1] + " \n")),
    "a line of a run that nobody has": Harm(
        THEIRS, _text("retired_runs", lambda text: text + "r0000000001 COMPLETE\n")
    ),
    "an open run retired": Harm(THEIRS, _text("retired_runs", lambda text: text + f"{RUN} COMPLETE\n")),
    "a complete run not retired": Harm(FILES, _text("retired_runs", lambda _: "", SECOND), SECOND),
    "a complete run retired as incomplete": Harm(
        FILES, _text("retired_runs", _word(1, lambda _: "INCOMPLETE"), SECOND), SECOND
    ),
    "a gap that is none": Harm(THEIRS, _text("event_gaps", lambda text: text + f"{RUN} 1003 1005\n")),
    "another MOOT key": Harm(THEIRS, _text("moot_keys", _word(1, _more))),
    "another MOOT alias": Harm(THEIRS, _text("moot_keys", _word(2, lambda _: "other"))),
    "no MOOT key": Harm(THEIRS, _text("moot_keys", lambda _: "")),
    "other times": Harm((STAGE,), _text("event_times", _word(1, lambda word: f"{float(word) + 1:f}"))),
    "no times": Harm((STAGE,), _text("event_times", lambda _: "")),
    # The legacy's records.
    "recorded spans: another end": Harm((TREE,), _of_run("*-spans.txt", _replaced(b"L1000L", b"L1001L"))),
    "recorded spans: garbage": Harm((TREE,), _of_run("*-spans.txt", lambda _: b"cos\nsystem\n(S'x'\ntR.")),
    "recorded counts": Harm((TREE,), _of_run("*-delivered.txt", _replaced(b" LPA", b"1 LPA"))),
    "recorded counts gone": Harm(
        (TREE,), lambda root: (root / FIRST / MET / f"{RUN}-delivered.txt").unlink()
    ),
    "recorded as retired": Harm(
        (TREE,), lambda root: (root / FIRST / MET / f"{RUN}-retired.txt").write_text(f"{RUN} COMPLETE\n")
    ),
    "recorded gaps": Harm(
        (TREE,), lambda root: (root / FIRST / MET / f"{RUN}-evtgaps.txt").write_text(f"{RUN} 1003 1005\n")
    ),
    "merged index: a line dropped": Harm(
        (TREE,), _of_run("r*.idx", _lines(lambda lines: [*lines[:9], *lines[10:]]))
    ),
    "merged index: a line twice": Harm((TREE,), _of_run("r*.idx", _lines(lambda lines: [*lines, lines[-1]]))),
    "merged index: lines swapped": Harm(
        (TREE,), _of_run("r*.idx", _lines(lambda lines: [lines[1], lines[0], *lines[2:]]))
    ),
    "merged index: records swapped": Harm((TREE,), _of_run("r*.idx", _lines(_swapped_records))),
    "merged index: another run": Harm((TREE,), _of_run("r*.idx", _replaced(b" 741234567 ", b" 741234568 "))),
    "merged index: another tree": Harm((TREE,), _of_run("r*.idx", _replaced(b"/nfs/", b"/mnt/"))),
    "merged index: gone": Harm((TREE,), lambda root: next((root / FIRST / MET).glob("r*.idx")).unlink()),
    "merged index: renamed": Harm(
        (TREE,),
        lambda root: (path := next((root / FIRST / MET).glob("r*.idx"))).rename(
            path.with_name(f"{RUN}-e{1003:020d}.idx")
        ),
    ),
    "index of datagrams: a line dropped": Harm(
        (TREE,), _of_run("dgm-*.idx", _lines(lambda lines: lines[1:]))
    ),
    "index of datagrams: another sequence": Harm(
        (TREE,), _of_run("dgm-*.idx", _replaced(b" 1000 ", b" 1001 "))
    ),
    "index of datagrams: gone": Harm(
        (TREE,), lambda root: next((root / FIRST / MET).glob("dgm-*.idx")).unlink()
    ),
    "an event in a chunk": Harm(
        (TREE,), lambda root: _flip(min((root / FIRST).glob("*.evt")), evt.HEADER_SIZE + 312)
    ),
    "a chunk gone": Harm((TREE,), lambda root: min((root / FIRST).glob("*.evt")).unlink()),
}


def _cut_behind(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -len(records_of(path.read_bytes())[-1])])


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def cases() -> list[tuple[str, str]]:
    """Return each harm with each copy that it is done to."""
    return [(name, to) for name, harm in HARMS.items() for to in harm.to]
