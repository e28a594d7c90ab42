"""RetDefs of one run, made here: of all its packets in the level-0 archive, whatever delivery they came with.

Which run a packet belongs to only its datagram says. A command of the config (`retdef.command`) reads those; without
one, the times of the datagrams that the working directory knows say it.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from halfpipe.downlink.plan import Plan
from halfpipe.errors import ConfigError, DecoderError, FormatError, HalfPipeError, IdError, MissingInputError
from halfpipe.formats import level0, met
from halfpipe.formats.retdef import RetDef, Span, read_retdef
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, RunId
from halfpipe.process import command_words
from halfpipe.process.programs import Lines, Log
from halfpipe.process.programs import run as run_program
from halfpipe.repipe.pieces import REACH, Stretch, pieces, stretches
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.merged_index import known_datagrams
from halfpipe.settings import ROOT, Settings

SCID = 77  # flight (ground-chain §2)
MARGIN = 600.0  # seconds that are looked at before and after what is known of a run
RUN_SECONDS = 7200.0  # that a run takes at least to be looked for: an orbit and some, ground-chain Scale
MOST_HOURS = 72  # of the archive: on board there is room for 30 (ground-chain, Scale)

Times = tuple[float, float]


def retdefs_of(settings: Settings, run: RunId) -> list[RetDef]:
    """Make the RetDefs of a run alone.

    Survey at is what is known of the run with a margin, at least two hours from its start, and on while the run
    reaches the end of that.

    Raises
    ------
    MissingInputError
        If the archive cannot be read, or has nothing of the run.
    ConfigError
        If nothing says where the archive is, or which packets are of the run.
    FormatError
        If the run would have more than `MOST_HOURS`.
    DecoderError
        If the command that tells runs fails.
    """
    known = _known(settings, run)
    own = [stretch for of_apid in known.values() for stretch in of_apid if stretch.run == run]
    arch, scid = _archive(settings, run)
    root = Path(command_words.archive(settings, arch))
    words = command_words.runs(settings, arch)
    if not words and not own:
        raise ConfigError(
            "retdef.command is null: nothing says which run a packet belongs to, because the header of flight "
            "datagrams is not public. Set it to a program that does; docs/howto.md says what it prints."
        )
    start = met.met_to_unix(float(run.met))
    begin = min([start, *(each.begin / met.MICROSECONDS for each in own)]) - MARGIN
    end = max([start + RUN_SECONDS, *(each.end / met.MICROSECONDS for each in own)]) + MARGIN
    while True:
        if (end - begin) / met.HOUR > MOST_HOURS:
            raise FormatError(
                f"run {run}: its datagrams have times from {met.utc(begin)} to {met.utc(end)}, more than {MOST_HOURS} "
                f"hours. See what is known of it: halfpipe explain {run}"
            )
        found = list(_pieces(root, scid, (begin, end), run, words, known))
        if max((piece.end for _, piece in found), default=0.0) + REACH / met.MICROSECONDS < end:
            break
        end += RUN_SECONDS
    if not found:
        raise MissingInputError(
            f"{root}: no packets of run {run} ({run.l1}) from {met.utc(begin):%Y-%m-%d %H:%M:%S} to "
            f"{met.utc(end):%Y-%m-%d %H:%M:%S} UTC. Check the run, and that the archive has these hours."
        )
    return [
        RetDef(
            kind="LSEP" if piece.apid in LPA_APIDS else "LSEC",
            arch=arch,
            scid=scid,
            run=run,
            l0key=-1,
            chunk=ChunkId.of(number),
            gndid=gndid,
            spans=(piece,),
        )
        for number, (gndid, piece) in enumerate(found, 1)
    ]


def _known(settings: Settings, run: RunId) -> dict[int, list[Stretch]]:
    """Return by APID when datagrams came that the working directory knows of a run, and of those beside it."""
    work, plan = settings.paths.work, Plan(settings)
    found: dict[int, list[Stretch]] = {}
    for each in sorted({run}.union(*(plan.of(dl).runs for dl in known_downlinks(work, run)))):
        for apid, rows in known_datagrams(work, each).by_apid().items():
            first, last = (round(time * met.MICROSECONDS) for time in (rows["utc"].min(), rows["utc"].max()))
            found.setdefault(apid, []).append(Stretch(first, last, each, int(rows["groundid"][0])))
    return found


def _archive(settings: Settings, run: RunId) -> tuple[str, int]:
    """Return the archive's root and the spacecraft as RetDefs of the run name them, else `paths.level0` and flight."""
    plan = Plan(settings)
    for downlink in known_downlinks(settings.paths.work, run):
        for path in plan.of(downlink).retdefs.values():
            try:
                retdef = read_retdef(path)
            except HalfPipeError:  # told where it is staged
                continue
            if retdef.run == run:
                return retdef.arch, retdef.scid
    if settings.paths.level0 is None:
        raise ConfigError(
            "no RetDef of the run says where the level-0 archive lies, and paths.level0 is null. Set it, as in: "
            "--config paths.level0=DIRECTORY"
        )
    return str(settings.paths.level0), SCID


def _told(words: Sequence[str], scid: int, apid: int, times: Times) -> list[Stretch]:
    """Ask the command of the config for the runs of an APID between two times."""
    found: list[Stretch] = []
    begin, end = (f"{time:.6f}" for time in times)
    words = [*words, "--scid", str(scid), "--apid", str(apid), "-b", begin, "-e", end]

    def hear(line: bytes) -> None:
        try:
            start, gndid, *edges = line.split()
            first, last = (round(float(edge) * met.MICROSECONDS) for edge in edges)
            stretch = Stretch(first, last, RunId.from_met(int(start)), int(gndid))
            if not stretch.begin <= stretch.end or not -1 <= stretch.gndid < 2**32:
                raise ValueError
        except (ValueError, OverflowError, IdError) as error:
            raise DecoderError(
                f"{words[0]} printed {line[:200]!r}: expected the start of a run (MET), its ground id or -1, and the "
                "times of the first and the last packet (Unix UTC seconds). Check retdef.command in the config."
            ) from error
        found.append(stretch)

    ending = run_program(words, ROOT, Lines(hear), Log(sys.stderr))
    if not ending.well:
        raise DecoderError(
            f"the command that tells runs {ending.how}: {' '.join(words)}\nNothing was made. Fix this, or "
            "retdef.command in the config, then re-run the command."
        )
    return found


def _pieces(
    root: Path,
    scid: int,
    span: Times,
    run: RunId,
    words: Sequence[str],
    known: Mapping[int, Sequence[Stretch]],
) -> Iterator[tuple[int, Span]]:
    """Read the packets of a span, one APID after the other, and yield the pieces of the run, a chunk each.

    Which are of the run a command says, or without its `words` the `known` stretches of each APID.
    """
    for apid in (*LPA_APIDS, *LCI_APIDS):
        packets = level0.retrieve(root, scid, apid, [span]).packets
        if len(packets):
            times = packets["unix"][0] / met.MICROSECONDS, packets["unix"][-1] / met.MICROSECONDS
            found = _told(words, scid, apid, times) if words else known.get(apid, ())
            yield from pieces(packets, apid, stretches(found), run)
