"""Kinds of harm to a hand-off, for `halfpipe compare`: each is done to a copy of what a system staged of a downlink.

Many leave nothing that contradicts itself: names, headers, tokens and counts are as if it had been delivered like this.
"""

import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from halfpipe import paths
from halfpipe.formats import evt
from tests.support.compared import sequence_of, write_event_file
from tests.support.harness import records_of

TEXTS = ("delivered_events", "retired_runs", "event_gaps", "moot_keys", "event_times")
UNKNOWN = "r0000000001"  # a run that nobody has
RUN = "r0?????????"  # a directory of a run
OTHER = "249999999"  # a downlink that nobody has
Records = list[bytes]
T = TypeVar("T")


class NothingError(Exception):
    """There is nothing to which this harm could be done."""


def some(found: Sequence[T]) -> Sequence[T]:
    """Return what was found, if anything was."""
    if not found:
        raise NothingError
    return found


@dataclass(frozen=True)
class Copy:
    """A copy of a stage, in which harm is done to a downlink.

    Attributes
    ----------
    root, downlink
        The copy, and the downlink.
    chosen
        What is random in it.
    waiting
        By run, as Level-1 calls it, records of events that were known and not delivered.
    """

    root: Path
    downlink: str
    chosen: random.Random
    waiting: Mapping[str, Sequence[bytes]]

    @property
    def home(self) -> Path:
        """The directory of the downlink."""
        return self.root / self.downlink

    @property
    def files(self) -> Sequence[Path]:
        """Its event files, at least one, in the order of runs and events."""
        every = sorted(self.home.glob("r0*/*.evt"), key=lambda path: (path.parent.name, first_of(path)))
        return some(every)

    @property
    def file(self) -> Path:
        """One of its event files."""
        return self.chosen.choice(self.files)

    @property
    def pair(self) -> tuple[Path, Path]:
        """Two event files of a run, one after the other."""
        pairs = [(one, other) for one, other in pairwise(self.files) if one.parent == other.parent]
        return self.chosen.choice(some(pairs))

    @property
    def run(self) -> str:
        """A run of which something was handed off."""
        of_texts = {line.split()[0] for name in TEXTS for line in lines_in(self.text(name))}
        return self.chosen.choice(some(sorted(of_texts | {path.name for path in self.home.glob(RUN)} - {""})))

    @property
    def other(self) -> Path:
        """The directory of another downlink."""
        return self.chosen.choice(some([path for path in sorted(self.root.glob("2*")) if path != self.home]))

    def text(self, name: str) -> Path:
        """Return where a text lies."""
        return self.home / paths.text(name, self.downlink)

    def token(self, path: Path) -> Path:
        """Return where the token of an event file lies."""
        return self.root / paths.tokens(path.parent.name) / path.stem


Harm = Callable[[Copy], object]


def lines_in(path: Path) -> list[str]:
    """Return the lines of a text; none if it is not there."""
    return path.read_text().splitlines() if path.exists() else []


def first_of(path: Path) -> int:
    """Return the sequence of the first event of a file."""
    return int(evt.read_header(path)["gemseq_beg"])


def wrapped(sequence: int) -> int:
    """Return the number that the legacy writes in a name."""
    return (sequence + 2**31) % 2**32 - 2**31


def put(copy: Copy, path: Path, records: Sequence[bytes]) -> Path:
    """Write records in place of those of an event file, with all that follows from them; return where it lies then."""
    first = sequence_of(some(records)[0])
    number = first if path.name == paths.event_file(path.parent.name, first_of(path)) else wrapped(first)
    new = path.with_name(paths.event_file(path.parent.name, number))
    if new != path:
        path.rename(new)
        copy.token(path).rename(copy.token(new))
    write_event_file(new, records)
    return new


def beside(copy: Copy, path: Path, records: Sequence[bytes]) -> None:
    """Write records into a new event file beside another, with a header, a name and a token."""
    content, token = path.read_bytes(), copy.token(path)
    put(copy, path, records)
    if not path.exists():
        token.touch()
    path.write_bytes(content)


# Events.


def of_records(change: Callable[[Records, int], Records]) -> Harm:
    """Return a harm that changes the records of a file; `change` is given where, too."""

    def do(copy: Copy) -> None:
        path = copy.file
        records = records_of(path.read_bytes())
        put(copy, path, change(records, copy.chosen.randrange(len(records))))

    return do


def of_context(field: str, add: float) -> Harm:
    """Return a harm that changes a number in the context of an event."""

    def change(records: Records, at: int) -> Records:
        context = np.frombuffer(records[at], evt.CONTEXT, 1).copy()
        context[field] += context[field].dtype.type(add)
        return [*records[:at], context.tobytes() + records[at][evt.CONTEXT.itemsize :], *records[at + 1 :]]

    return of_records(change)


def of_bytes(first: int, behind: int | None = None) -> Harm:
    """Return a harm that changes a byte of an event: at a place, or at a random one from there on."""

    def change(records: Records, at: int) -> Records:
        changed = bytearray(records[at])
        place = first % len(changed)
        if behind is not None:
            place += at % (behind - first)
        changed[place] ^= 0x41
        return [*records[:at], bytes(changed), *records[at + 1 :]]

    return of_records(change)


def handlers_of(record: bytes) -> tuple[int, int]:
    """Return where the number of handlers of an LPA event lies, and where its handlers end."""
    at = 300 + int.from_bytes(record[296:300], "little")
    if record[at : at + 4] != bytes(4):
        raise NothingError
    return at + 36, len(record) - evt.LPA_KEYS.itemsize


def without_handlers(records: Records, at: int) -> Records:
    """Take the handlers off an event."""
    begin, end = handlers_of(records[at])
    record = records[at][:begin] + bytes(4) + records[at][end:]
    return [*records[:at], record, *records[at + 1 :]]


def one_handler_more(records: Records, at: int) -> Records:
    """Give an event its first handler twice."""
    begin, end = handlers_of(records[at])
    count = int.from_bytes(records[at][begin : begin + 4], "little")
    size = evt.LPA_HANDLER.itemsize
    some(range(count))
    handlers = (count + 1).to_bytes(4, "little") + records[at][begin + 4 : begin + 4 + size]
    record = records[at][:begin] + handlers + records[at][begin + 4 : end] + records[at][end:]
    return [*records[:at], record, *records[at + 1 :]]


def other_handlers(records: Records, at: int) -> Records:
    """Change a handler of an event."""
    begin, end = handlers_of(records[at])
    some(range(end - begin - 4))
    changed = bytearray(records[at])
    changed[begin + 8] ^= 1
    return [*records[:at], bytes(changed), *records[at + 1 :]]


def swapped(records: Records, at: int) -> Records:
    """Swap two events that follow each other."""
    some(records[1:])
    at = max(at, 1)
    return [*records[: at - 1], records[at], records[at - 1], *records[at + 1 :]]


def kept(count: int) -> Callable[[Records, int], Records]:
    """Return what keeps some events only."""
    return lambda records, _: list(some(records[count:]) and records[:count])


def without(records: Records, at: int) -> Records:
    """Drop an event."""
    return [*records[:at], *records[at + 1 :]]


def waiting_one(copy: Copy) -> None:
    """Deliver an event that waits."""
    run = copy.chosen.choice(some(sorted(run for run in copy.waiting if (copy.home / run).is_dir())))
    record = copy.chosen.choice(some(copy.waiting[run]))
    path = sorted((copy.home / run).glob("*.evt"), key=first_of)[-1]
    put(copy, path, sorted([*records_of(path.read_bytes()), record], key=key_of))


def all_waiting(copy: Copy) -> None:
    """Deliver all that waits, and count it."""
    run = copy.chosen.choice(some(sorted(run for run in copy.waiting if (copy.home / run).is_dir())))
    path = sorted((copy.home / run).glob("*.evt"), key=first_of)[-1]
    put(copy, path, sorted([*records_of(path.read_bytes()), *some(copy.waiting[run])], key=key_of))
    of_lines("delivered_events", lambda words: [words[0], words[1], "0", words[3]])(copy)


def key_of(record: bytes) -> tuple[int, int]:
    """Return sequence and APID of an event."""
    context = np.frombuffer(record, evt.CONTEXT, 1)[0]
    return int(context["scalers_sequence"]), int(context["ccsds_apid"])


def of_another_run(copy: Copy) -> None:
    """Deliver an event of another run."""
    path = copy.file
    others = [other for other in copy.root.glob("2*/r*/*.evt") if other.parent.name != path.parent.name]
    record = records_of(copy.chosen.choice(some(sorted(others))).read_bytes())[0]
    put(copy, path, [*records_of(path.read_bytes()), record])


def of_another_downlink(*, gone: bool) -> Harm:
    """Return a harm that delivers an event of another downlink, too, or only here."""

    def do(copy: Copy) -> None:
        path = copy.file
        files = sorted(copy.root.glob(f"2*/{path.parent.name}/*.evt"))
        other = copy.chosen.choice(some([file for file in files if file.parents[1] != copy.home]))
        records = records_of(other.read_bytes())
        put(copy, path, sorted([*records_of(path.read_bytes()), records[0]], key=key_of))
        if gone:
            put(copy, other, some(records[1:]))

    return do


def moved_to_the_next(copy: Copy) -> None:
    """Move an event to the next file."""
    one, other = copy.pair
    records = records_of(one.read_bytes())
    some(records[1:])
    put(copy, other, [records[-1], *records_of(other.read_bytes())])
    put(copy, one, records[:-1])


def copied_to_the_next(copy: Copy) -> None:
    """Deliver an event in two files."""
    one, other = copy.pair
    put(copy, other, [records_of(one.read_bytes())[-1], *records_of(other.read_bytes())])


def counted(change: Callable[[Records, int], Records]) -> Harm:
    """Return a harm to a file that is counted in the text, too."""

    def do(copy: Copy) -> None:
        path = copy.file
        records = records_of(path.read_bytes())
        after = change(records, copy.chosen.randrange(len(records)))
        put(copy, path, after)
        less = len(records) - len(after)
        of_run("delivered_events", path.parent.name, lambda w: [w[0], str(int(w[1]) - less), w[2], w[3]])(
            copy
        )

    return do


EVENTS: dict[str, Harm] = {
    "the first event dropped": of_records(lambda r, _: r[1:]),
    "an event dropped": of_records(without),
    "the last event dropped": of_records(lambda r, _: r[:-1]),
    "half of the events dropped": of_records(lambda r, _: r[len(r) // 2 :]),
    "every second event dropped": of_records(lambda r, _: list(some(r[1:]) and r[::2])),
    "all events but two dropped": of_records(kept(2)),
    "all events but one dropped": of_records(kept(1)),
    "an event dropped, and counted": counted(without),
    "the last event dropped, and counted": counted(lambda r, _: r[:-1]),
    "an event twice": of_records(lambda r, n: [*r[:n], r[n], *r[n:]]),
    "an event twice, and counted": counted(lambda r, n: [*r[:n], r[n], *r[n:]]),
    "an event again at the end": of_records(lambda r, n: [*r, r[n]]),
    "all events twice": of_records(lambda r, _: [*r, *r]),
    "two events swapped": of_records(swapped),
    "events the other way round": of_records(lambda r, _: list(some(r[1:]) and r[::-1])),
    "an event moved to the end": of_records(lambda r, n: [*r[:n], *r[n + 1 :], r[n]]),
    "an event in place of another": of_records(lambda r, n: [*r[:n], r[n - 1], *r[n + 1 :]]),
    "an event that waits delivered": waiting_one,
    "all that waits delivered, and counted": all_waiting,
    "an event of another run": of_another_run,
    "an event of another downlink, too": of_another_downlink(gone=False),
    "an event moved here from another downlink": of_another_downlink(gone=True),
    "an event moved to the next file": moved_to_the_next,
    "an event in two files": copied_to_the_next,
    "another sequence": of_context("scalers_sequence", 1),
    "another sequence, far away": of_context("scalers_sequence", 1 << 40),
    "another EPU": of_context("ccsds_apid", 1),
    "another APID, of no event": of_context("ccsds_apid", 100),
    "another spacecraft": of_context("ccsds_scid", 1),
    "another time of a packet": of_context("ccsds_utc", 1e-3),
    "another second": of_context("current_timeSecs", 1),
    "another second before": of_context("previous_timeSecs", 1),
    "another livetime": of_context("scalers_livetime", 1),
    "another start of the run": of_context("run_startedAt", 1),
    "another ground id": of_context("run_groundId", 1),
    "another padding": of_bytes(41),
    "another payload": of_bytes(308, 332),
    "another length of the payload": of_bytes(296),
    "another marker of the payload": of_bytes(300),
    "another type of info": of_bytes(332),
    "another key at the end": of_bytes(-1),
    "another LATC_master": of_bytes(-16),
    "another LATC_ignore": of_bytes(-12),
    "any byte of the info": of_bytes(336, 368),
    "an event without its handlers": of_records(without_handlers),
    "an event with a handler more": of_records(one_handler_more),
    "another handler": of_records(other_handlers),
}

# Headers.


def of_header(field: str, add: int | None = 1) -> Harm:
    """Return a harm that changes a number of a header; None: to 0."""

    def do(copy: Copy) -> None:
        path = copy.file
        header = evt.read_header(path).copy()
        values = header[field].reshape(-1)
        before, bits = int(values[0]), 8 * values.itemsize
        values[0] = 0 if add is None else (before + add) % 2**bits
        header[field] = values if header[field].ndim else values[0]
        path.write_bytes(header.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])

    return do


def of_alias(alias: bytes, at: int = 0) -> Harm:
    """Return a harm that changes the alias in a header, from a byte on."""

    def do(copy: Copy) -> None:
        path = copy.file
        content = bytearray(path.read_bytes())
        begin = evt.HEADER_SIZE - 64 + at
        content[begin : begin + len(alias)] = alias
        path.write_bytes(content)

    return do


HEADERS = {
    f"header: another {name}": of_header(name)
    for name in evt.HEADER.names or ()
    if name not in {"moot_alias", "pad"}
}
HEADERS |= {
    "header: no events": of_header("evtcnt", None),
    "header: another alias": of_alias(b"otherOps\0"),
    "header: no alias": of_alias(bytes(64)),
    "header: something behind the alias": of_alias(b"x", 62),
    "header: no MOOT key": of_header("moot_key", None),
}

# Files.


def gone(copy: Copy, *, token: bool) -> None:
    """Remove a file."""
    path = copy.file
    if token:
        copy.token(path).unlink()
    path.unlink()
    if token and not [*path.parent.iterdir()]:
        path.parent.rmdir()


def to(name: Callable[[Copy, Path], str | Path], *, token: bool = False) -> Harm:
    """Return a harm that renames a file, and its token."""

    def do(copy: Copy) -> None:
        path = copy.file
        new = path.parent / name(copy, path)
        new.parent.mkdir(exist_ok=True)
        if token:
            copy.token(new).parent.mkdir(exist_ok=True)
            copy.token(path).rename(copy.token(new))
        path.rename(new)

    return do


def split(at: Callable[[int], int], *, counts: str = "") -> Harm:
    """Return a harm that makes two files of one; the first has a number of the whole in its header."""

    def do(copy: Copy) -> None:
        path = copy.file
        records, header = records_of(path.read_bytes()), evt.read_header(path)
        half = at(len(records))
        some(records[:half]), some(records[half:])
        beside(copy, path, records[half:])
        put(copy, path, records[:half])
        if counts:
            first = evt.read_header(path).copy()
            first[counts] = header[counts]
            path.write_bytes(first.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])

    return do


def merged(copy: Copy) -> None:
    """Make one file of two."""
    one, other = copy.pair
    put(copy, one, [*records_of(one.read_bytes()), *records_of(other.read_bytes())])
    copy.token(other).unlink()
    other.unlink()


def all_merged(copy: Copy) -> None:
    """Make one file of all those of a run."""
    home = copy.pair[0].parent
    while len(left := sorted(home.iterdir(), key=first_of)) > 1:
        put(copy, left[0], [r for path in left[:2] for r in records_of(path.read_bytes())])
        copy.token(left[1]).unlink()
        left[1].unlink()


def exchanged(copy: Copy) -> None:
    """Give two files each other's names."""
    one, other = copy.pair
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def of_content(change: Callable[[bytes, random.Random], bytes]) -> Harm:
    """Return a harm that changes the bytes of a file."""

    def do(copy: Copy) -> None:
        path = copy.file
        path.write_bytes(change(path.read_bytes(), copy.chosen))

    return do


def flipped(content: bytes, chosen: random.Random) -> bytes:
    """Flip a bit."""
    at = chosen.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chosen.randrange(8)]) + content[at + 1 :]


def zeroed(content: bytes, chosen: random.Random) -> bytes:
    """Put zeros over a part."""
    at = chosen.randrange(evt.HEADER_SIZE, len(content))
    return content[:at] + bytes(len(content[at : at + 512])) + content[at + 512 :]


def file_of_another(copy: Copy) -> None:
    """Copy an event file of another downlink here, with a token."""
    path = copy.chosen.choice(some(sorted(copy.other.glob("r0*/*.evt"))))
    new = copy.home / path.parent.name / path.name
    if new.exists():
        raise NothingError
    new.parent.mkdir(exist_ok=True)
    shutil.copy(path, new)


def run_of_another(copy: Copy) -> None:
    """Copy a run of another downlink here, headers made right."""
    home = copy.chosen.choice(some(sorted(copy.other.glob(RUN))))
    if (copy.home / home.name).exists():
        raise NothingError
    shutil.copytree(home, copy.home / home.name)
    for path in (copy.home / home.name).iterdir():
        header = evt.read_header(path).copy()
        header["runid"] = int(copy.downlink)
        path.write_bytes(header.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])


def foreign(name: str, content: bytes = b"x") -> Harm:
    """Return a harm that puts a file beside an event file."""
    return lambda copy: (copy.file.parent / name).write_bytes(content)


def linked(copy: Copy) -> None:
    """Put a link to nothing in place of a file."""
    path = copy.file
    path.unlink()
    path.symlink_to("/nowhere/at/all")


FILES: dict[str, Harm] = {
    "cut inside an event": of_content(lambda c, _: c[:-100]),
    "cut behind an event": of_content(lambda c, _: c[: -len(records_of(c)[-1])]),
    "cut inside the header": of_content(lambda c, _: c[:100]),
    "only a header left": of_content(lambda c, _: c[: evt.HEADER_SIZE]),
    "nothing left": of_content(lambda *_: b""),
    "zeros behind the last event": of_content(lambda c, _: c + bytes(4096)),
    "a header in the middle": of_content(lambda c, _: c + c),
    "a flipped bit": of_content(flipped),
    "a part zeroed": of_content(zeroed),
    "gone": lambda copy: gone(copy, token=False),
    "gone with its token": lambda copy: gone(copy, token=True),
    "gone with its directory": lambda copy: shutil.rmtree(copy.file.parent),
    "renamed to another sequence": to(
        lambda _, path: paths.event_file(path.parent.name, first_of(path) + 1), token=True
    ),
    "renamed to a wrapped sequence": to(
        lambda _, path: paths.event_file(path.parent.name, wrapped(first_of(path) + 2**31)), token=True
    ),
    "renamed to no name": to(lambda _, path: f"{path.parent.name}.evt"),
    "renamed to a part": to(lambda _, path: f"{path.name}.part"),
    "moved to a run that nobody has": to(lambda _, path: Path("..") / UNKNOWN / path.name),
    "moved and renamed to a run that nobody has": to(
        lambda _, path: Path("..") / UNKNOWN / path.name.replace(path.parent.name, UNKNOWN), token=True
    ),
    "moved out of its run": to(lambda _, path: Path("..") / path.name),
    "moved out of its downlink": to(lambda _, path: Path("..") / ".." / path.name),
    "twice, under another name": lambda copy: shutil.copy(
        path := copy.file, path.with_name(paths.event_file(path.parent.name, first_of(path) + 1))
    ),
    "two made of one": split(lambda n: n // 2),
    "two made of one, the last with one event": split(lambda n: n - 1),
    "two made of one, the first with one event": split(lambda n: min(n - 1, 1)),
    "two made of one, with the count of the whole": split(lambda n: n // 2, counts="evtcnt"),
    "two made of one, with the sequences of the whole": split(lambda n: n // 2, counts="gemseq_end"),
    "one made of two": merged,
    "one made of all": all_merged,
    "exchanged with the next one": exchanged,
    "of another downlink": file_of_another,
    "a run of another downlink": run_of_another,
    "a foreign file beside it": foreign("core"),
    "a hidden file beside it": foreign(".nfs0001"),
    "an empty event file beside it": foreign("r0741234567-e00000000000000000001.evt", b""),
    "a directory beside it": lambda copy: (copy.file.parent / "new").mkdir(),
    "a link to nothing in its place": linked,
}

# Directories.


def directory(name: str) -> Harm:
    """Return a harm that makes a directory of the downlink."""
    return lambda copy: (copy.home / name).mkdir()


def unlink(found: Iterable[Path]) -> None:
    """Remove files."""
    for path in found:
        path.unlink()


def emptied(copy: Copy) -> None:
    """Remove all that there is of the downlink, but for its directory."""
    shutil.rmtree(copy.home)
    copy.home.mkdir()


DIRECTORIES: dict[str, Harm] = {
    "an empty run that nobody has": directory(UNKNOWN),
    "a directory of no run": directory("new"),
    "a directory that begins like a run": directory("r741234567"),
    "a run later than there can be": directory("r9999999999"),
    "a directory of the legacy's tree": directory("741234567"),
    "all files of a run gone": lambda copy: unlink(copy.file.parent.iterdir()),
    "a run renamed to another": lambda copy: (home := copy.file.parent).rename(home.with_name(UNKNOWN)),
    "a run inside itself": lambda copy: shutil.copytree(home := copy.file.parent, home / home.name),
    "a text of another downlink": lambda copy: (copy.home / f"retired_runs_{OTHER}.txt").touch(),
    "a text that nobody writes": lambda copy: (copy.home / f"notes_{copy.downlink}.txt").touch(),
    "a RetDef": lambda copy: (copy.home / f"RetDef-{copy.downlink}-00001.xml").touch(),
    "all texts of the downlink gone": lambda copy: unlink(some([*copy.home.glob("*_2*.txt")])),
    "the directory empty": emptied,
}

# Texts.


def edited(name: str, change: Callable[[list[str]], list[str]]) -> Harm:
    """Return a harm that changes the lines of a text."""

    def do(copy: Copy) -> None:
        path = copy.text(name)
        path.write_text("".join(f"{line}\n" for line in change(lines_in(path))))

    return do


def of_lines(name: str, change: Callable[[list[str]], list[str]]) -> Harm:
    """Return a harm that changes the words of a line of a text."""

    def do(copy: Copy) -> None:
        at = copy.chosen.randrange(len(some(lines_in(copy.text(name)))))
        edited(name, lambda of: [*of[:at], " ".join(change(of[at].split())), *of[at + 1 :]])(copy)

    return do


def of_run(name: str, run: str, change: Callable[[list[str]], list[str]]) -> Harm:
    """Return a harm that changes the words of each line of a run in a text."""
    return edited(name, lambda of: [" ".join(change(x.split())) if x.startswith(run) else x for x in of])


def added(name: str, line: str) -> Harm:
    """Return a harm that adds a line for a run of the downlink."""
    return lambda copy: edited(name, lambda of: [*of, line.format(copy.run)])(copy)


def word(at: int, change: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    """Return what changes one word of a line."""
    return lambda words: [*words[:at], change(some(words[at:])[0]), *words[at + 1 :]]


def more(text: str) -> str:
    """Return a number that is one more."""
    return f"{float(text) + 1:f}" if "." in text else str(int(text) + 1)


def any_line(change: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    """Return what changes a text that has a line."""
    return lambda of: change(list(some(of)))


def of_every_text(name: str) -> dict[str, Harm]:
    """Return what is done to each text."""
    return {
        f"{name}: gone": lambda copy: copy.text(name).unlink(),
        f"{name}: emptied": edited(name, any_line(lambda _: [])),
        f"{name}: a line dropped": edited(name, any_line(lambda of: of[1:])),
        f"{name}: a line twice": edited(name, any_line(lambda of: [*of, of[0]])),
        f"{name}: all lines twice": edited(name, any_line(lambda of: [*of, *of])),
        f"{name}: a blank line": edited(name, lambda of: [*of, ""]),
        f"{name}: a line of no text": added(name, "core dumped"),
        f"{name}: a line of a run that nobody has": edited(name, lambda of: [*of, f"{UNKNOWN} 1 1 LPA"]),
        f"{name}: a line without an end": lambda copy: copy.text(name).write_text(
            "\n".join(some(lines_in(copy.text(name))))
        ),
        f"{name}: a word more": of_lines(name, lambda words: [*words, "x"]),
        f"{name}: a word less": of_lines(name, lambda words: words[:-1]),
        f"{name}: of another run": of_lines(name, word(0, lambda run: run[:-1] + str(1 + int(run[-1]))[-1])),
        f"{name}: with blanks": of_lines(name, word(1, lambda text: f" {text}")),
        f"{name}: with carriage returns": edited(name, any_line(lambda of: [f"{x}\r" for x in of])),
    }


TEXT: dict[str, Harm] = {key: do for name in TEXTS for key, do in of_every_text(name).items()}
TEXT |= {
    "delivered_events: another count": of_lines("delivered_events", word(1, more)),
    "delivered_events: another count of orphans": of_lines("delivered_events", word(2, more)),
    "delivered_events: another kind": of_lines(
        "delivered_events", word(3, lambda kind: {"LPA": "LCI"}.get(kind, "LPA"))
    ),
    "delivered_events: a kind that is none": of_lines("delivered_events", word(3, lambda _: "XYZ")),
    "delivered_events: 0 of all": of_lines("delivered_events", word(1, lambda _: "0")),
    "retired_runs: COMPLETE added": added("retired_runs", "{} COMPLETE"),
    "retired_runs: INCOMPLETE added": added("retired_runs", "{} INCOMPLETE"),
    "retired_runs: INCOMPLETE for COMPLETE": of_lines("retired_runs", word(1, lambda _: "INCOMPLETE")),
    "retired_runs: in small letters": of_lines("retired_runs", word(1, str.lower)),
    "event_gaps: a gap added": added("event_gaps", "{} 1003 1005"),
    "event_gaps: another beginning": of_lines("event_gaps", word(1, more)),
    "event_gaps: another end": of_lines("event_gaps", word(2, more)),
    "event_gaps: the other way round": of_lines("event_gaps", lambda w: [w[0], w[2], w[1]]),
    "moot_keys: another key": of_lines("moot_keys", word(1, more)),
    "moot_keys: another alias": of_lines("moot_keys", word(2, lambda alias: f"{alias}x")),
    "moot_keys: not mapped": of_lines("moot_keys", lambda w: [w[0], "4294967295", "UNKNOWN"]),
    "moot_keys: key 0": of_lines("moot_keys", word(1, lambda _: "0")),
    "event_times: another beginning": of_lines("event_times", word(1, more)),
    "event_times: another end": of_lines("event_times", word(2, more)),
    "event_times: the other way round": of_lines("event_times", lambda w: [w[0], w[2], w[1]]),
    "magic7: gone": lambda copy: unlink(some([*copy.home.glob("magic7_*")])),
    "magic7: emptied": edited("magic7", any_line(lambda _: [])),
    "magic7: its first line dropped": edited("magic7", any_line(lambda of: of[1:])),
    "magic7: its last line dropped": edited("magic7", any_line(lambda of: of[:-1])),
    "magic7: a line dropped": edited("magic7", any_line(lambda of: [*of[:5], *of[6:]])),
    "magic7: a line twice": edited("magic7", any_line(lambda of: [*of[:5], *of[4:]])),
    "magic7: a line more": edited("magic7", any_line(lambda of: [*of, of[-1]])),
    "magic7: another number": of_lines("magic7", word(5, more)),
    "magic7: lines swapped": edited("magic7", any_line(lambda of: [*of[1::-1], *of[2:]])),
    "magic7: half of it": edited("magic7", any_line(lambda of: of[: len(of) // 2])),
}

# Tokens.


def moved_token(copy: Copy) -> None:
    """Move a token to a run that nobody has."""
    token = copy.token(copy.file)
    new = copy.root / paths.tokens(UNKNOWN) / token.name
    new.parent.mkdir()
    token.rename(new)


def copied_token(copy: Copy) -> None:
    """Copy a token to another run."""
    token = copy.token(copy.file)
    new = copy.root / paths.tokens(UNKNOWN) / token.name
    new.parent.mkdir()
    new.touch()


def token_of(name: str) -> Harm:
    """Return a harm that puts a token beside that of a file."""
    return lambda copy: (copy.token(path := copy.file).parent / name.format(path.parent.name)).touch()


def halted(run: Callable[[Copy], str]) -> Harm:
    """Return a harm that leaves the token by which a downlink in work keeps a run."""

    def do(copy: Copy) -> None:
        path = copy.root / paths.halt_cleanup(run(copy), copy.downlink)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    return do


TOKENS: dict[str, Harm] = {
    "tokens: one missing": lambda copy: copy.token(copy.file).unlink(),
    "tokens: all of a run missing": lambda copy: shutil.rmtree(copy.token(copy.file).parent),
    "tokens: all missing": lambda copy: shutil.rmtree(copy.token(copy.file).parents[1]),
    "tokens: one of no file": token_of("{}-e00000000000000000099"),
    "tokens: one of another run": token_of("r0000000001-e00000000000000000099"),
    "tokens: a foreign one": token_of("core"),
    "tokens: one moved to another run": moved_token,
    "tokens: one in another run, too": copied_token,
    "tokens: the run is kept from retiring": halted(lambda copy: copy.run),
    "tokens: a run that nobody has is kept from retiring": halted(lambda _: UNKNOWN),
}

HARMS: dict[str, Harm] = {**EVENTS, **HEADERS, **FILES, **DIRECTORIES, **TEXT, **TOKENS}
