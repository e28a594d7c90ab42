"""RetDefs made here, from the level-0 archive: for downlinks for which the site has none, and to look after its own.

Which run a packet belongs to only its datagram says, and a command of the config (`retdef.command`) reads those.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.downlink.plan import Plan, sorted_out
from halfpipe.errors import ConfigError, DecoderError, HalfPipeError, IdError, MissingInputError
from halfpipe.files.durable import make_directory, remove_file, write_bytes
from halfpipe.formats import archive_hours, level0, met
from halfpipe.formats.retdef import OURS, RetDef, Span, content_of, made_here, read_retdef
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, DownlinkId, RunId
from halfpipe.process import command_words
from halfpipe.process.programs import Lines, Log, run
from halfpipe.repipe.pieces import (
    Piece,
    Stretch,
    chunks,
    delivered,
    pieces,
    stretch_of,
    stretches,
)
from halfpipe.settings import ROOT, Settings

APIDS = (*LPA_APIDS, *LCI_APIDS)
SCID = 77  # flight (ground-chain §2)
# Hours of the archive that are looked at for one downlink: on board there is room for 30 (ground-chain, Scale).
DAYS_BEFORE, DAYS_AFTER = 2, 2  # around the midnight at which the day of a downlink begins
MOST_HOURS = 72

Times = tuple[float, float]
RunsOf = Callable[[int, Times], Sequence[Stretch]]


@dataclass(frozen=True)
class Asked:
    """What is asked for: the packets of the deliveries `keys` (None: of all) within `span`, Unix UTC seconds.

    `arch` is the archive's root as RetDefs name it, `root` as it is seen from here.
    """

    downlink: DownlinkId
    arch: str
    root: Path
    scid: int
    keys: frozenset[int] | None
    span: Times


@dataclass(frozen=True)
class Uncovered:
    """Packets of a run (None: of none that is known) that no RetDef has; times of the first and the last one."""

    run: RunId | None
    apid: int
    packets: int
    begin: float
    end: float


@dataclass(frozen=True)
class Found:
    """What was found: chunks in order, gaps and damage, and what no RetDef of the downlink covers.

    Where it has none, nothing but packets of no known run is uncovered. `packets` counts those that were asked for.
    """

    asked: Asked
    chunks: tuple[tuple[Piece, ...], ...]
    packets: int
    faults: tuple[str, ...]
    uncovered: tuple[Uncovered, ...]

    def made(self) -> list[RetDef]:
        """Return the RetDefs of the chunks."""
        asked = self.asked
        key = next(iter(asked.keys)) if asked.keys and len(asked.keys) == 1 else -1
        return [
            RetDef(
                kind="LSEP" if chunk[0].apid in LPA_APIDS else "LSEC",
                arch=asked.arch,
                scid=asked.scid,
                run=chunk[0].run,
                l0key=key,
                chunk=ChunkId.of(number),
                gndid=chunk[0].gndid,
                spans=tuple(
                    Span(piece.apid, piece.begin / met.MICROSECONDS, piece.end / met.MICROSECONDS)
                    for piece in chunk
                ),
                maker=OURS,
            )
            for number, chunk in enumerate(self.chunks, 1)
        ]


def asked_for(
    settings: Settings,
    downlink: DownlinkId,
    keys: Sequence[int] = (),
    span: tuple[float | None, float | None] = (None, None),
) -> Asked:
    """Return what is asked for by a downlink, keys of its deliveries, and a span of time in Unix UTC seconds.

    Without keys they are those of the downlink's RetDefs; if there are none either, all packets of the span count.

    Raises
    ------
    ConfigError
        If nothing says which packets are meant, or where the archive is.
    """
    there = retdefs_of(settings, downlink)
    known = frozenset(keys) or frozenset(retdef.l0key for retdef in there if retdef.l0key >= 0) or None
    begin, end = span
    if begin is None or end is None:
        if known is None:
            raise ConfigError(
                f"downlink {downlink}: no RetDef on the search path (paths.retdef) says with which level-0 key it "
                "came. Name the key (--l0key), or the times of its packets (--from and --to)."
            )
        day = _day(downlink)
        begin = day - DAYS_BEFORE * 86400 if begin is None else begin
        end = day + DAYS_AFTER * 86400 if end is None else end
    if not begin < end:
        raise ConfigError("--from is not before --to: name a span of time that begins before it ends.")
    arch, scid = archive_of(settings, there)
    return Asked(downlink, arch, Path(command_words.archive(settings, arch)), scid, known, (begin, end))


def archive_of(settings: Settings, there: Sequence[RetDef]) -> tuple[str, int]:
    """Return the archive's root and the spacecraft as RetDefs name them, else `paths.level0` and flight.

    Raises
    ------
    ConfigError
        If neither says it.
    """
    if there:
        return there[0].arch, there[0].scid
    if settings.paths.level0 is None:
        raise ConfigError(
            "no RetDef of the downlink says where the level-0 archive lies, and paths.level0 is null. Set it, as in: "
            "--config paths.level0=DIRECTORY"
        )
    return str(settings.paths.level0), SCID


def retdefs_of(settings: Settings, downlink: DownlinkId) -> list[RetDef]:
    """Return the good RetDefs of a downlink that count; a bad one is told where it is staged."""
    found = []
    for path in Plan(settings).of(downlink).retdefs.values():
        try:
            found.append(read_retdef(path))
        except HalfPipeError:
            continue
    return found


def _day(downlink: DownlinkId) -> float:
    try:
        return datetime.strptime(downlink[:6], "%y%m%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise ConfigError(
            f"downlink {downlink}: its id is no date. Name the times of its packets (--from and --to)."
        ) from error


def recorded_runs(settings: Settings, asked: Asked) -> RunsOf:
    """Return what asks the command of the config for the runs of an APID between two times.

    Raises
    ------
    ConfigError
        If there is no such command.
    """
    words = command_words.runs(settings, asked.arch)
    if not words:
        raise ConfigError(
            "retdef.command is null: nothing says which run a packet belongs to, because the header of flight "
            "datagrams is not public. Set it to a program that does; docs/howto.md says what it prints."
        )
    return lambda apid, times: stretches(_told(words, asked.scid, apid, times))


def _told(words: Sequence[str], scid: int, apid: int, times: Times) -> list[Stretch]:
    found: list[Stretch] = []
    begin, end = (f"{time:.6f}" for time in times)
    words = [*words, "--scid", str(scid), "--apid", str(apid), "-b", begin, "-e", end]

    def hear(line: bytes) -> None:
        try:
            start, gndid, first, last = line.split()
            stretch = Stretch(
                _micro(float(first)), _micro(float(last)), RunId.from_met(int(start)), int(gndid)
            )
            if not stretch.begin <= stretch.end or not -1 <= stretch.gndid < 2**32:
                raise ValueError
        except (ValueError, OverflowError, IdError) as error:
            raise DecoderError(
                f"{words[0]} printed {line[:200]!r}: expected the start of a run (MET), its ground id or -1, and the "
                "times of the first and the last packet (Unix UTC seconds). Check retdef.command in the config."
            ) from error
        found.append(stretch)

    ending = run(words, ROOT, Lines(hear), Log(sys.stderr))
    if not ending.well:
        raise DecoderError(
            f"the command that tells runs {ending.how}: {' '.join(words)}\nNothing was made. Fix this, or "
            "retdef.command in the config, then re-run the command."
        )
    return found


def _micro(seconds: float) -> int:
    return round(seconds * met.MICROSECONDS)


def look(settings: Settings, asked: Asked, runs_of: RunsOf, only: RunId | None = None) -> Found:
    """Read the packets that are asked for, one APID after the other, and divide them into chunks.

    Parameters
    ----------
    settings
        Name the RetDefs that are there.
    asked
        The packets.
    runs_of
        Tells which runs the packets of an APID belong to.
    only
        The one run that counts; None: all.

    Raises
    ------
    MissingInputError
        If the archive cannot be read, or has no such packet.
    ConfigError
        If that would be more than `MOST_HOURS` of the archive.
    DecoderError
        If the runs cannot be told.
    """
    there = retdefs_of(settings, asked.downlink)
    files = files_of(asked)
    every: list[Piece] = []
    rows: dict[int, NDArray[np.void]] = {}
    faults, uncovered, packets = list[str](), list[Uncovered](), 0
    for apid in sorted(files):
        got = level0.read_files(files[apid], apid, [asked.span])
        mine = delivered(got, asked.keys)
        if not mine.any():
            continue
        unix = got.packets["unix"]
        known = runs_of(apid, (unix[mine][0] / met.MICROSECONDS, unix[mine][-1] / met.MICROSECONDS))
        if only is not None:
            of = stretch_of(unix, known)
            mine &= np.isin(of, [at for at, stretch in enumerate(known) if stretch.run == only])
        found, nobody = pieces(got.packets, mine, apid, known)
        every += found
        packets += int(mine.sum())
        rows[apid] = got.packets
        faults += map(str, got.faults)
        spans = [span for retdef in there for span in retdef.spans if span.apid == apid]
        uncovered += _uncovered(apid, unix, mine, known, nobody, spans if there else None)
    if not packets and only is None:
        raise MissingInputError(_nothing(asked))
    return Found(asked, tuple(chunks(every, rows)), packets, tuple(faults), tuple(uncovered))


def _uncovered(
    apid: int,
    unix: NDArray[np.int64],
    mine: NDArray[np.bool_],
    known: Sequence[Stretch],
    nobody: NDArray[np.int64],
    spans: Sequence[Span] | None,
) -> list[Uncovered]:
    """Return what lies in none of `spans`, by run; without spans (None) what is of no known run."""
    if spans is None:
        at = nobody
    else:
        covered = np.zeros(unix.shape, bool)
        for span in spans:
            covered |= (unix >= _micro(span.begin)) & (unix <= _micro(span.end))
        at = np.flatnonzero(mine & ~covered)
    of = stretch_of(unix[at], known)
    found = []
    for number in np.unique(of).tolist():
        times = unix[at[of == number]] / met.MICROSECONDS
        name = None if number < 0 else known[number].run
        found.append(Uncovered(name, apid, times.size, float(times[0]), float(times[-1])))
    return found


def _nothing(asked: Asked) -> str:
    keys = ", ".join(map(str, sorted(asked.keys or ())))
    begin, end = (f"{met.utc(time):%Y-%m-%d %H:%M:%S} UTC" for time in asked.span)
    return (
        f"{asked.root}: no packets of events of spacecraft {asked.scid} from {begin} to {end}"
        f"{f' with level-0 key {keys}' if keys else ''}. Check key and times (--l0key, --from, --to), and that the "
        "archive has these hours."
    )


def files_of(asked: Asked) -> dict[int, list[tuple[int, Path]]]:
    """Return by APID the files that may hold packets asked for, each with the Unix UTC second of its hour.

    Of the hours in which the deliveries have none nothing is read.

    Raises
    ------
    MissingInputError
        If the archive is not there or cannot be listed.
    ConfigError
        If there are more than `MOST_HOURS`.
    """
    found: dict[int, list[tuple[int, Path]]] = {}
    hours: set[int] = set()
    for apid in APIDS:
        listed, _ = level0.archive_files(asked.root, asked.scid, apid, [asked.span])
        of_apid = {
            hour for hour, path in listed if asked.keys is None or archive_hours.l0key(path) in asked.keys
        }
        if of_apid:
            found[apid] = [(hour, path) for hour, path in listed if hour in of_apid]
            hours |= of_apid
    if len(hours) > MOST_HOURS:
        raise ConfigError(
            f"{len(hours)} hours of the archive are asked for, and at most {MOST_HOURS} are read at a time. Name a "
            "shorter span (--from, --to)."
        )
    return found


def write(retdefs: Sequence[RetDef], downlink: DownlinkId, out: Path) -> list[Path]:
    """Write RetDefs of a downlink below `out`, in place of those that were made here before.

    The last one comes first: as long as there is a hole in the numbers, nobody takes them to be all.

    Raises
    ------
    ConfigError
        If some of the site's lie there.
    """
    home = out / downlink
    names = [path.name for path in home.iterdir()] if home.is_dir() else []
    there = [out / paths.retdef(downlink, chunk) for chunk in sorted_out(names, downlink).chunks]
    for path in there:
        if not made_here(path):
            raise ConfigError(f"{path}: was not made here, and is not replaced. Name another directory (-o).")
    written = [out / paths.retdef(downlink, retdef.chunk) for retdef in retdefs]
    for path in set(there) - set(written):
        remove_file(path)
    make_directory(out, downlink)
    for path, retdef in reversed([*zip(written, retdefs, strict=True)]):
        write_bytes(path, content_of(retdef))
    return written
