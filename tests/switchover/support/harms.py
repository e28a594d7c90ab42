"""Kinds of harm to a hand-off, for `halfpipe compare`: each is done to a copy of a downlink in a stage.

Many leave no contradiction: names, headers, tokens and counts are as if the harmed copy had been delivered.
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
from halfpipe_switchover.legacy_replay import file_number
from tests.support.harness import records_of
from tests.switchover.support.compared import sequence_of, write_event_file

TEXTS = ("delivered_events", "retired_runs", "event_gaps", "moot_keys", "event_times")
UNKNOWN = "r0000000001"  # a run without any data
RUN = "r0?????????"  # a directory of a run
OTHER = "249999999"  # a downlink without any data
Records = list[bytes]
Words = list[str]
T = TypeVar("T")


class NothingError(Exception):
    """This harm cannot be done here."""


def some(found: Sequence[T]) -> Sequence[T]:
    if not found:
        raise NothingError
    return found


@dataclass(frozen=True)
class Copy:
    """A copy of a stage, in which harm is done to a downlink.

    `waiting` has records of events that were known and not delivered, by Level-1's name of the run.
    """

    root: Path
    downlink: str
    chosen: random.Random
    waiting: Mapping[str, Sequence[bytes]]

    @property
    def home(self) -> Path:
        return self.root / self.downlink

    @property
    def files(self) -> Sequence[Path]:
        """Its event files, at least one, in the order of runs and events."""
        every = sorted(self.home.glob("r0*/*.evt"), key=lambda path: (path.parent.name, first_of(path)))
        return some(every)

    @property
    def file(self) -> Path:
        return self.chosen.choice(self.files)

    @property
    def pair(self) -> tuple[Path, Path]:
        """Two consecutive event files of a run."""
        pairs = [(one, other) for one, other in pairwise(self.files) if one.parent == other.parent]
        return self.chosen.choice(some(pairs))

    @property
    def run(self) -> str:
        of_texts = {line.split()[0] for name in TEXTS for line in lines_in(self.text(name))}
        return self.chosen.choice(some(sorted(of_texts | {path.name for path in self.home.glob(RUN)} - {""})))

    @property
    def other(self) -> Path:
        """The directory of another downlink."""
        return self.chosen.choice(some([path for path in sorted(self.root.glob("2*")) if path != self.home]))

    def text(self, name: str) -> Path:
        return self.home / paths.text(name, self.downlink)

    def token(self, path: Path) -> Path:
        return self.root / paths.tokens(path.parent.name) / path.stem


Harm = Callable[[Copy], object]


def lines_in(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def first_of(path: Path) -> int:
    return int(evt.read_header(path)["gemseq_beg"])


def named(path: Path, sequence: int) -> Path:
    return path.with_name(paths.event_file(path.parent.name, sequence))


def key_of(record: bytes) -> tuple[int, int]:
    context = np.frombuffer(record, evt.CONTEXT, 1)[0]
    return int(context["scalers_sequence"]), int(context["ccsds_apid"])


def unlink(found: Iterable[Path]) -> None:
    for path in found:
        path.unlink()


def put(copy: Copy, path: Path, records: Sequence[bytes]) -> None:
    """Replace the records of an event file; header, name and token follow."""
    first = sequence_of(some(records)[0])
    new = named(path, first if path == named(path, first_of(path)) else file_number(first))
    if new != path:
        path.rename(new)
        copy.token(path).rename(copy.token(new))
    write_event_file(new, records)


# Events: a change gets the records of a file, and the index of one of them.


def records(change: Callable[[Records, int], Sequence[bytes]], *, counted: bool = False) -> Harm:
    """Change the records of a file; if `counted`, also the count of its run in the text."""

    def do(copy: Copy) -> None:
        path = copy.file
        before = records_of(path.read_bytes())
        after = change(before, copy.chosen.randrange(len(before)))
        run, less = path.parent.name, len(before) - len(after)
        put(copy, path, after)
        if counted:
            lines("delivered_events", lambda w: [w[0], str(int(w[1]) - less), *w[2:]], run)(copy)

    return do


def one_record(change: Callable[[bytes, int], bytes]) -> Harm:
    return records(lambda r, n: [*r[:n], change(r[n], n), *r[n + 1 :]])


def context(field: str, add: float) -> Harm:
    def change(record: bytes, _: int) -> bytes:
        found = np.frombuffer(record, evt.CONTEXT, 1).copy()
        found[field] += found[field].dtype.type(add)
        return found.tobytes() + record[evt.CONTEXT.itemsize :]

    return one_record(change)


def byte(first: int, behind: int | None = None) -> Harm:
    """Change a byte of an event: at `first`, or at a random place from `first` to `behind`."""

    def change(record: bytes, number: int) -> bytes:
        at = first % len(record) + (0 if behind is None else number % (behind - first))
        return record[:at] + bytes([record[at] ^ 0x41]) + record[at + 1 :]

    return one_record(change)


def handlers(change: Callable[[bytes], bytes]) -> Harm:
    """Change the handlers, and their number, of an LPA event that has handlers."""

    def do(record: bytes, _: int) -> bytes:
        at = 300 + int.from_bytes(record[296:300], "little")
        begin, end = at + 36, len(record) - evt.LPA_KEYS.itemsize
        some([0] * (record[at : at + 4] == bytes(4) and end - begin > 4))
        return record[:begin] + change(record[begin:end]) + record[end:]

    return one_record(do)


def one_handler_more(found: bytes) -> bytes:
    count = int.from_bytes(found[:4], "little")
    return (count + 1).to_bytes(4, "little") + found[4 : 4 + evt.LPA_HANDLER.itemsize] + found[4:]


def waiting(count: int | None) -> Harm:
    """Deliver `count` waiting events; None: deliver all, and set a count of waiting events in the text to 0."""

    def do(copy: Copy) -> None:
        run = copy.chosen.choice(some(sorted(run for run in copy.waiting if (copy.home / run).is_dir())))
        more = some(copy.waiting[run])
        path = sorted((copy.home / run).glob("*.evt"), key=first_of)[-1]
        more = copy.chosen.sample(more, count or len(more))
        put(copy, path, sorted([*records_of(path.read_bytes()), *more], key=key_of))
        if count is None:
            lines("delivered_events", lambda w: [*w[:2], "0", *w[3:]])(copy)

    return do


def of_another(*, run: bool, gone: bool = False) -> Harm:
    """Deliver an event of another run, or of the same run in another downlink; if `gone`, remove it there."""

    def do(copy: Copy) -> None:
        path = copy.file
        files = sorted(copy.root.glob("2*/r*/*.evt"))
        files = [file for file in files if (file.parent.name != path.parent.name) == run]
        other = copy.chosen.choice(some([file for file in files if run or file.parents[1] != copy.home]))
        first, *rest = records_of(other.read_bytes())
        mine = [*records_of(path.read_bytes()), first]
        put(copy, path, mine if run else sorted(mine, key=key_of))
        if gone:
            put(copy, other, rest)

    return do


def to_the_next(*, moved: bool) -> Harm:
    def do(copy: Copy) -> None:
        one, other = copy.pair
        first = records_of(one.read_bytes())
        put(copy, other, [first[-1], *records_of(other.read_bytes())])
        if moved:
            put(copy, one, first[:-1])

    return do


EVENTS: dict[str, Harm] = {
    "an event dropped": records(lambda r, n: [*r[:n], *r[n + 1 :]]),
    "the last event dropped": records(lambda r, _: r[:-1]),
    "all events but one dropped": records(lambda r, _: some(r[1:]) and r[:1]),
    "an event dropped, and counted": records(lambda r, n: [*r[:n], *r[n + 1 :]], counted=True),
    "an event twice": records(lambda r, n: [*r[:n], r[n], *r[n:]]),
    "two events swapped": records(
        lambda r, n: some(r[1:]) and [*r[: n - 1], *r[n - 1 : n + 1][::-1], *r[n + 1 :]]
    ),
    "an event in place of another": records(lambda r, n: [*r[:n], r[n - 1], *r[n + 1 :]]),
    "an event that waits delivered": waiting(1),
    "all that waits delivered, and counted": waiting(None),
    "an event of another run": of_another(run=True),
    "an event of another downlink, too": of_another(run=False),
    "an event moved here from another downlink": of_another(run=False, gone=True),
    "an event moved to the next file": to_the_next(moved=True),
    "an event in two files": to_the_next(moved=False),
    "another sequence": context("scalers_sequence", 1),
    "another EPU": context("ccsds_apid", 1),
    "another second": context("current_timeSecs", 1),
    "another padding": byte(41),
    "another payload": byte(308, 332),
    "another LATC_master": byte(-16),
    "any byte of the info": byte(336, 368),
    "an event without its handlers": handlers(lambda _: bytes(4)),
    "an event with a handler more": handlers(one_handler_more),
    "another handler": handlers(lambda found: found[:8] + bytes([found[8] ^ 1]) + found[9:]),
}

# Files: a change gets the bytes of a file.


def content(change: Callable[[bytes], bytes]) -> Harm:
    return lambda copy: (path := copy.file).write_bytes(change(path.read_bytes()))


def header(field: str, *, zero: bool = False) -> Harm:
    """Add 1 to a number of a header, or set it to 0."""

    def change(before: bytes) -> bytes:
        found = np.frombuffer(before, evt.HEADER, 1).copy()
        values = found[field].reshape(-1)
        values[0] = 0 if zero else (int(values[0]) + 1) % 2 ** (8 * values.itemsize)
        found[field] = values.reshape(found[field].shape)
        return found.tobytes() + before[evt.HEADER_SIZE :]

    return content(change)


def alias(text: bytes, at: int = 0) -> Harm:
    """Change the alias in a header, from byte `at` on."""
    begin = evt.HEADER_SIZE - 64 + at
    return content(lambda c: c[:begin] + text + c[begin + len(text) :])


def gone(copy: Copy) -> None:
    """Remove a file with its token, and its directory if this is then empty."""
    path = copy.file
    unlink([copy.token(path), path])
    if not [*path.parent.iterdir()]:
        path.parent.rmdir()


def renamed(name: Callable[[Path], Path], *, token: bool = False) -> Harm:
    def do(copy: Copy) -> None:
        path = copy.file
        new = path.parent / name(path)
        new.parent.mkdir(exist_ok=True)
        if token:
            copy.token(new).parent.mkdir(exist_ok=True)
            copy.token(path).rename(copy.token(new))
        path.rename(new)

    return do


def split(*, field: str = "") -> Harm:
    """Split a file in two; the first may keep a field of the whole file's header."""

    def do(copy: Copy) -> None:
        path = copy.file
        whole, token = path.read_bytes(), copy.token(path)
        every = records_of(whole)
        half = len(every) // 2
        put(copy, path, some(every[:half]) and every[half:])
        token.touch()
        path.write_bytes(whole)
        write_event_file(path, every[:half])
        if field:
            first = evt.read_header(path).copy()
            first[field] = np.frombuffer(whole, evt.HEADER, 1)[0][field]
            path.write_bytes(first.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])

    return do


def merged(copy: Copy, one: Path, other: Path) -> None:
    put(copy, one, [*records_of(one.read_bytes()), *records_of(other.read_bytes())])
    unlink([copy.token(other), other])


def run_of_another(copy: Copy) -> None:
    """Copy a run of another downlink here, with the right headers."""
    home = copy.chosen.choice(some(sorted(copy.other.glob(RUN))))
    new = copy.home / home.name
    some([0] * (not new.exists()))
    shutil.copytree(home, new)
    for path in new.iterdir():
        found = evt.read_header(path).copy()
        found["runid"] = int(copy.downlink)
        path.write_bytes(found.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])


def linked(copy: Copy) -> None:
    (path := copy.file).unlink()
    path.symlink_to("/nowhere/at/all")


FILES: dict[str, Harm] = {
    **{
        f"header: another {name}": header(name)
        for name in evt.HEADER.names or ()
        if name not in {"moot_alias", "pad"}
    },
    "header: no events": header("evtcnt", zero=True),
    "header: no MOOT key": header("moot_key", zero=True),
    "header: another alias": alias(b"otherOps\0"),
    "header: a letter behind the alias": alias(b"x", 62),
    "cut inside an event": content(lambda c: c[:-100]),
    "cut behind an event": content(lambda c: c[: -len(records_of(c)[-1])]),
    "nothing left": content(lambda _: b""),
    "zeros behind the last event": content(lambda c: c + bytes(4096)),
    "gone": lambda copy: copy.file.unlink(),
    "gone with its token": gone,
    "gone with its directory": lambda copy: shutil.rmtree(copy.file.parent),
    "renamed to another sequence": renamed(lambda path: named(path, first_of(path) + 1), token=True),
    "renamed to a wrapped sequence": renamed(
        lambda path: named(path, file_number(first_of(path) + 2**31)), token=True
    ),
    "renamed to its run": renamed(lambda path: path.with_name(f"{path.parent.name}.evt")),
    "moved and renamed to an unknown run": renamed(
        lambda path: path.parents[1] / UNKNOWN / path.name.replace(path.parent.name, UNKNOWN), token=True
    ),
    "moved out of its downlink": renamed(lambda path: path.parents[2] / path.name),
    "twice, under another name": lambda copy: shutil.copy(path := copy.file, named(path, first_of(path) + 1)),
    "two made of one": split(),
    "two made of one, with the count of the whole": split(field="evtcnt"),
    "one made of two": lambda copy: merged(copy, *copy.pair),
    "a run of another downlink": run_of_another,
    "a foreign file beside it": lambda copy: copy.file.with_name("core").touch(),
    "an empty event file beside it": lambda copy: copy.file.with_name(
        "r0741234567-e00000000000000000001.evt"
    ).touch(),
    "a directory beside it": lambda copy: copy.file.with_name("new").mkdir(),
    "a link to nothing in its place": linked,
}


def emptied(copy: Copy) -> None:
    shutil.rmtree(copy.home)
    copy.home.mkdir()


DIRECTORIES: dict[str, Harm] = {
    "an empty unknown run": lambda copy: (copy.home / UNKNOWN).mkdir(),
    "a directory of no run": lambda copy: (copy.home / "new").mkdir(),
    "a directory of the legacy's tree": lambda copy: (copy.home / "741234567").mkdir(),
    "all files of a run gone": lambda copy: unlink(copy.file.parent.iterdir()),
    "a run renamed to another": lambda copy: (home := copy.file.parent).rename(home.with_name(UNKNOWN)),
    "a run inside itself": lambda copy: shutil.copytree(home := copy.file.parent, home / home.name),
    "a text of another downlink": lambda copy: (copy.home / f"retired_runs_{OTHER}.txt").touch(),
    "a RetDef": lambda copy: (copy.home / f"RetDef-{copy.downlink}-00001.xml").touch(),
    "all texts of the downlink gone": lambda copy: unlink(some([*copy.home.glob("*_2*.txt")])),
    "the directory empty": emptied,
}

# Texts: a change gets the lines of a text, or the words of a line.


def text(name: str, change: Callable[[Words], Words], *, needed: bool = True) -> Harm:
    """Change the lines of a text; if `needed`, the text must have lines."""

    def do(copy: Copy) -> None:
        before = lines_in(copy.text(name))
        after = change(list(some(before)) if needed else before)
        copy.text(name).write_text("".join(f"{line}\n" for line in after))

    return do


def lines(name: str, change: Callable[[Words], Words], run: str = "") -> Harm:
    """Change the words of a line of a text, or of all lines of a run."""

    def do(copy: Copy) -> None:
        chosen = copy.chosen.choice(some(lines_in(copy.text(name))))
        begin = run or chosen
        text(
            name,
            lambda of: [" ".join(change(each.split())) if each.startswith(begin) else each for each in of],
        )(copy)

    return do


def word(name: str, at: int, change: Callable[[str], str]) -> Harm:
    """Change a word of a line of a text."""
    return lines(name, lambda words: [*words[:at], change(some(words[at:])[0]), *words[at + 1 :]])


def added(name: str, line: str) -> Harm:
    """Add a line for a run of the downlink."""
    return lambda copy: text(name, lambda of: [*of, line.format(copy.run)], needed=False)(copy)


def more(word: str) -> str:
    if not word[:1].isdecimal():
        return f"{word}x"
    return f"{float(word) + 1:f}" if "." in word else str(int(word) + 1)


def turned(words: Words) -> Words:
    return [words[0], words[2], words[1]]


def of_every_text(name: str) -> dict[str, Harm]:
    return {
        f"{name}: gone": lambda copy: copy.text(name).unlink(),
        f"{name}: emptied": text(name, lambda _: []),
        f"{name}: a line dropped": text(name, lambda of: of[1:]),
        f"{name}: a line twice": text(name, lambda of: [*of, of[0]]),
        f"{name}: a blank line": added(name, ""),
        f"{name}: a foreign line": added(name, "core dumped"),
        f"{name}: a line of an unknown run": added(name, f"{UNKNOWN} 1 1 LPA"),
        f"{name}: a word more": lines(name, lambda words: [*words, "x"]),
        f"{name}: a word less": lines(name, lambda words: words[:-1]),
        f"{name}: of another run": word(name, 0, lambda run: run[:-1] + str(1 + int(run[-1]))[-1]),
        f"{name}: with carriage returns": text(name, lambda of: [f"{line}\r" for line in of]),
    }


WORDS = {
    "delivered_events": 4,
    "retired_runs": 2,
    "event_gaps": 3,
    "moot_keys": 3,
    "event_times": 3,
}  # of a line
TEXT: dict[str, Harm] = {
    **{key: do for name in TEXTS for key, do in of_every_text(name).items()},
    **{f"{name}: another word {n}": word(name, n, more) for name in TEXTS for n in range(1, WORDS[name])},
    "delivered_events: another kind": word("delivered_events", 3, {"LPA": "LCI", "LCI": "LPA"}.__getitem__),
    "delivered_events: 0 of all": word("delivered_events", 1, lambda _: "0"),
    "retired_runs: COMPLETE added": added("retired_runs", "{} COMPLETE"),
    "retired_runs: INCOMPLETE added": added("retired_runs", "{} INCOMPLETE"),
    "retired_runs: INCOMPLETE for COMPLETE": word("retired_runs", 1, lambda _: "INCOMPLETE"),
    "retired_runs: in small letters": word("retired_runs", 1, str.lower),
    "event_gaps: a gap added": added("event_gaps", "{} 1003 1005"),
    "event_gaps: in reverse": lines("event_gaps", turned),
    "moot_keys: not mapped": lines("moot_keys", lambda w: [w[0], "4294967295", "UNKNOWN"]),
    "moot_keys: key 0": word("moot_keys", 1, lambda _: "0"),
    "event_times: in reverse": lines("event_times", turned),
    "magic7: gone": lambda copy: unlink(some([*copy.home.glob("magic7_*")])),
    "magic7: emptied": text("magic7", lambda _: []),
    "magic7: a line dropped": text("magic7", lambda of: [*of[:5], *of[6:]]),
    "magic7: a line twice": text("magic7", lambda of: [*of[:5], *of[4:]]),
    "magic7: another number": word("magic7", 5, more),
    "magic7: lines swapped": text("magic7", lambda of: [*of[1::-1], *of[2:]]),
}


def to_unknown(*, moved: bool) -> Harm:
    """Move or copy a token to an unknown run."""

    def do(copy: Copy) -> None:
        token = copy.token(copy.file)
        new = copy.root / paths.tokens(UNKNOWN) / token.name
        new.parent.mkdir()
        new.touch()
        if moved:
            token.unlink()

    return do


def token_beside(name: str) -> Harm:
    return lambda copy: copy.token(path := copy.file).with_name(name.format(path.parent.name)).touch()


def halted(run: Callable[[Copy], str]) -> Harm:
    """Leave the token by which a downlink in progress keeps Level-1 from retiring a run."""

    def do(copy: Copy) -> None:
        path = copy.root / paths.halt_cleanup(run(copy), copy.downlink)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    return do


TOKENS: dict[str, Harm] = {
    "tokens: one missing": lambda copy: copy.token(copy.file).unlink(),
    "tokens: all missing": lambda copy: shutil.rmtree(copy.token(copy.file).parents[1]),
    "tokens: one without a file": token_beside("{}-e00000000000000000099"),
    "tokens: one of another run": token_beside("r0000000001-e00000000000000000099"),
    "tokens: one moved to another run": to_unknown(moved=True),
    "tokens: one in another run, too": to_unknown(moved=False),
    "tokens: the run is kept from retiring": halted(lambda copy: copy.run),
    "tokens: an unknown run is kept from retiring": halted(lambda _: UNKNOWN),
}

HARMS: dict[str, Harm] = {**EVENTS, **FILES, **DIRECTORIES, **TEXT, **TOKENS}
