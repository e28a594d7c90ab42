"""RetDefs of one run, made from all its packets in the level-0 archive.

Only the datagram contains the run of a packet. The times of the datagrams in the working directory tell which packets
belong to the run, so a downlink of the run must have been processed or taken over here.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from halfpipe.downlink.plan import Plan
from halfpipe.errors import ConfigError, FormatError, HalfPipeError, MissingInputError
from halfpipe.formats import level0, met
from halfpipe.formats.retdef import RetDef, Span, read_retdef
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, RunId
from halfpipe.process import command_words
from halfpipe.repipe.pieces import REACH, Stretch, pieces, stretches
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.merged_index import known_datagrams
from halfpipe.settings import Settings
from halfpipe.words import utc

SCID = 77  # flight (ground-chain §2)
MARGIN = 600.0  # seconds to search before and after the known times of a run
RUN_SECONDS = 7200.0  # seconds to search at least: a bit more than an orbit (ground-chain, Scale)
MOST_HOURS = 72  # hours of the archive; the memory on board has room for 30 (ground-chain, Scale)

Times = tuple[float, float]


def retdefs_of(settings: Settings, run: RunId) -> list[RetDef]:
    """Make the RetDefs of one run.

    Search the known times of the run plus a margin, and at least two hours from its start. Continue as long as the run
    reaches the end of the searched time.

    Raises
    ------
    MissingInputError
        If no datagram of the run is known here, or the archive cannot be read or has no packets of the run.
    ConfigError
        If the archive is unknown.
    FormatError
        If the run would have more than `MOST_HOURS`.
    """
    known = _known(settings, run)
    own = [stretch for of_apid in known.values() for stretch in of_apid if stretch.run == run]
    if not own:
        raise MissingInputError(
            f"run {run} ({run.l1}): no datagram of the run is known here, so the times of its packets are unknown. "
            "Process one of its downlinks first: snakemake dl=DL"
        )
    arch, scid = _archive(settings, run)
    root = Path(command_words.archive(settings, arch))
    start = met.met_to_unix(float(run.met))
    begin = min(start, *(each.begin / met.MICROSECONDS for each in own)) - MARGIN
    end = max(start + RUN_SECONDS, *(each.end / met.MICROSECONDS for each in own)) + MARGIN
    while True:
        if (end - begin) / met.HOUR > MOST_HOURS:
            raise FormatError(
                f"run {run}: its datagrams have times from {utc(begin)} to {utc(end)}, more than {MOST_HOURS} hours. "
                f"For details: halfpipe explain {run}"
            )
        found = list(_pieces(root, scid, (begin, end), run, known))
        if max((piece.end for _, piece in found), default=0.0) + REACH / met.MICROSECONDS < end:
            break
        end += RUN_SECONDS
    if not found:
        raise MissingInputError(
            f"{root}: no packets of run {run} ({run.l1}) from {utc(begin)} to {utc(end)}. Check the run, and that the "
            "archive has these hours."
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
    """Return the times of known datagrams by APID, for a run and all runs in the same downlinks."""
    work, plan = settings.paths.work, Plan(settings)
    found: dict[int, list[Stretch]] = {}
    for each in sorted({run}.union(*(plan.of(dl).runs for dl in known_downlinks(work, run)))):
        for apid, rows in known_datagrams(settings, each).by_apid().items():
            first, last = (round(time * met.MICROSECONDS) for time in (rows["utc"].min(), rows["utc"].max()))
            found.setdefault(apid, []).append(Stretch(first, last, each, int(rows["groundid"][0])))
    return found


def _archive(settings: Settings, run: RunId) -> tuple[str, int]:
    """Return the archive's root and the spacecraft from RetDefs of the run, else `paths.level0` and flight."""
    plan = Plan(settings)
    for downlink in known_downlinks(settings.paths.work, run):
        for path in plan.of(downlink).retdefs.values():
            try:
                retdef = read_retdef(path)
            except HalfPipeError:  # reported when it is staged
                continue
            if retdef.run == run:
                return retdef.arch, retdef.scid
    if settings.paths.level0 is None:
        raise ConfigError(
            "there is no RetDef of the run with the path of the level-0 archive, and paths.level0 is not set. Set it: "
            "--config paths.level0=DIRECTORY"
        )
    return str(settings.paths.level0), SCID


def _pieces(
    root: Path,
    scid: int,
    span: Times,
    run: RunId,
    known: Mapping[int, Sequence[Stretch]],
) -> Iterator[tuple[int, Span]]:
    """Read the packets of a span, one APID after the other, and yield the pieces of the run, one per chunk."""
    for apid in (*LPA_APIDS, *LCI_APIDS):
        packets = level0.read_datagrams(root, scid, apid, [span]).packets
        if len(packets):
            yield from pieces(packets, apid, stretches(known.get(apid, ())), run)
