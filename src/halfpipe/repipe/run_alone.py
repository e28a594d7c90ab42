"""A run processed once more on its own, as a made-up downlink: from all that lies in the level-0 archive of it.

It has a working directory and a stage of its own, so what counts as delivered of the run cannot change by it. The
run's directory only remembers that it was done.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.downlink.plan import Plan
from halfpipe.errors import ConfigError, MissingInputError
from halfpipe.files import working_directory
from halfpipe.files.durable import make_directory, write_text
from halfpipe.files.leases import whoami
from halfpipe.formats import met
from halfpipe.formats.retdef import RetDef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_key
from halfpipe.process import command_words
from halfpipe.repipe import made_retdefs
from halfpipe.repipe.made_retdefs import MOST_HOURS, Asked, RunsOf
from halfpipe.repipe.pieces import REACH, Stretch, stretches
from halfpipe.run.datagrams import known_datagrams
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.receipt_file import read_receipt
from halfpipe.run.repipes import done, note, noted
from halfpipe.settings import Ignore, Ledger, Settings, Shrink

log = logging.getLogger(__name__)

MARGIN = 600.0  # seconds that are looked at before and after what is known of a run
RUN_SECONDS = 7200.0  # that a run takes at least to be looked for: an orbit and some, ground-chain Scale


@dataclass(frozen=True)
class Prepared:
    """A made-up downlink with its RetDefs and its config; `new` unless an earlier command had made them."""

    downlink: DownlinkId
    configfile: Path
    new: bool


@dataclass(frozen=True)
class Repiped:
    """What a re-pipe delivered of its run into `stage`, and in words what a person has to look at."""

    downlink: DownlinkId
    run: RunId
    stage: Path
    files: int
    events: int
    orphans: int
    complaints: tuple[str, ...]


def prepare(settings: Settings, run: RunId, *, orphans: bool) -> Prepared:
    """Make the made-up downlink of a run, or return the one that is not finished.

    Parameters
    ----------
    settings, run
        The site's settings, and the run.
    orphans
        Whether all that is known of the run is delivered, settled or not.

    Raises
    ------
    MissingInputError
        If the archive has nothing of the run.
    ConfigError
        If all ids are used, or nothing tells which packets are of the run.
    """
    work = settings.paths.work
    begun = _unfinished(work, run, orphans=orphans)
    downlink = begun or _begin(settings, run, orphans=orphans)
    configfile = work / paths.repipe_config(downlink)
    # Anew each time: what was wrong with the site's config may have been mended.
    write_text(configfile, _own(settings, run, downlink).as_json())
    return Prepared(downlink, configfile, new=begun is None)


def _unfinished(work: Path, run: RunId, *, orphans: bool) -> DownlinkId | None:
    ended = {value["downlink"] for value in done(work, run)}
    for value in noted(work, run):
        if value["downlink"] in ended or value["orphans"] != orphans:
            continue
        if (work / paths.repipe_config(value["downlink"])).exists():
            return DownlinkId(value["downlink"])
    return None


def _begin(settings: Settings, run: RunId, *, orphans: bool) -> DownlinkId:
    work, retdefs = settings.paths.work, retdefs_of(settings, run)
    working_directory.begin(work)
    downlink = _new_id(settings)
    made_retdefs.write(retdefs, downlink, work / paths.repipe_retdefs(downlink))
    if orphans:
        given_up = work / paths.repipe_work(downlink) / paths.force() / run.l1
        write_text(given_up, "asked for by halfpipe process --orphans\n")
    me = whoami()
    by = f"{me.user} on {me.host}"
    note(work, run, {"downlink": downlink, "orphans": orphans, "when": _now(), "by": by})
    return downlink


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _new_id(settings: Settings) -> DownlinkId:
    """Take the next id: that its directory can be made says that nobody has it."""
    work, (first, last) = settings.paths.work, (one.number for one in settings.repipe.ids)
    home = make_directory(work, paths.repipes())
    used = [int(path.name) for path in home.iterdir() if DownlinkId.matches(path.name)]
    number = max([first - 1, *(one for one in used if first <= one <= last)]) + 1
    while number <= last:
        downlink = DownlinkId(f"{number:09d}")
        places = [
            work / downlink,
            work / paths.receipt(downlink),
            *(d / downlink for d in settings.paths.retdef),
        ]
        if not any(place.exists() for place in places):
            try:
                (work / paths.repipe(downlink)).mkdir()
            except FileExistsError:  # another command has taken it at this moment
                pass
            else:
                return downlink
        number += 1
    raise ConfigError(
        f"repipe.ids: all ids up to {settings.repipe.ids[1]} are used. Name a range of its own after it in the config."
    )


def _own(settings: Settings, run: RunId, downlink: DownlinkId) -> Settings:
    """Return the settings of the re-pipe: the site's, but for the places, and nobody else is told of it."""
    work = settings.paths.work
    moot = settings.moot
    if moot.mapping:
        known = moot_key.of_run(settings, run, known_datagrams(work, run).rows)
        file = work / paths.repipe_moot(downlink)
        write_text(file, f"{run.l1} {known.key} {known.alias}\n")
        moot = replace(moot, file=file)
    return replace(
        settings,
        dl=(),
        paths=replace(
            settings.paths,
            work=work / paths.repipe_work(downlink),
            stage=work / paths.repipe_stage(downlink),
            retdef=(work / paths.repipe_retdefs(downlink),),
            online=None,
        ),
        ledger=Ledger(url=None),
        moot=replace(moot, mapping=False, update=None),
        retire=replace(settings.retire, deliver_orphans=True),
        submit=replace(settings.submit, automatic=False),
        ignore=Ignore(),
        shrink=Shrink(),
    )


def _known(settings: Settings, run: RunId) -> dict[int, list[Stretch]]:
    """Return by APID when datagrams came that the working directory knows of a run, and of those beside it."""
    work, plan = settings.paths.work, Plan(settings)
    found: dict[int, list[Stretch]] = {}
    for each in sorted({run}.union(*(plan.of(dl).runs for dl in known_downlinks(work, run)))):
        for apid, rows in known_datagrams(work, each).by_apid().items():
            first, last = (round(time * met.MICROSECONDS) for time in (rows["utc"].min(), rows["utc"].max()))
            found.setdefault(apid, []).append(Stretch(first, last, each, int(rows["groundid"][0])))
    return found


def retdefs_of(settings: Settings, run: RunId) -> list[RetDef]:
    """Make the RetDefs of a run alone, of all its packets in the archive, whatever delivery they came with.

    Which these are `retdef.command` tells; without one, the times of the datagrams that the working directory
    knows. Looked at is what is known of the run with a margin, at least two hours from its start.

    Raises
    ------
    MissingInputError, ConfigError
        As `prepare`.
    """
    known = _known(settings, run)
    own = [stretch for of_apid in known.values() for stretch in of_apid if stretch.run == run]
    plan = Plan(settings)
    there = [
        retdef
        for dl in known_downlinks(settings.paths.work, run)
        for retdef in made_retdefs.retdefs_of(settings, dl)
        if retdef.run == run
    ]
    arch, scid = made_retdefs.archive_of(settings, there)
    start = met.met_to_unix(float(run.met))
    begin = min([start, *(each.begin / met.MICROSECONDS for each in own)]) - MARGIN
    end = max([start + RUN_SECONDS, *(each.end / met.MICROSECONDS for each in own)]) + MARGIN
    # Its id names no RetDefs that are there: those of this run are of other downlinks.
    asked = Asked(
        plan.settings.repipe.ids[0],
        arch,
        Path(command_words.archive(settings, arch)),
        scid,
        None,
        (begin, end),
    )
    runs_of: RunsOf = lambda apid, _times: stretches(known.get(apid, ()))  # noqa: E731
    if settings.retdef.command is not None or not own:
        runs_of = made_retdefs.recorded_runs(settings, asked)
    while True:
        found = made_retdefs.look(settings, asked, runs_of, only=run)
        last = max((piece.end for chunk in found.chunks for piece in chunk), default=0)
        begin, end = asked.span
        # A run that reaches the end of what was looked at may go on.
        if last + REACH < end * met.MICROSECONDS or (end - begin) / met.HOUR >= MOST_HOURS - 4:
            break
        asked = replace(asked, span=(begin, end + RUN_SECONDS))
    if not found.chunks:
        raise MissingInputError(
            f"{asked.root}: no packets of run {run} ({run.l1}) from {met.utc(begin):%Y-%m-%d %H:%M:%S} to "
            f"{met.utc(end):%Y-%m-%d %H:%M:%S} UTC. Check the run, and that the archive has these hours."
        )
    return found.made()


def finish(settings: Settings, run: RunId, prepared: Prepared) -> Repiped:
    """Return what a re-pipe delivered that has a receipt, and write it down in the run's directory."""
    work, downlink = settings.paths.work, prepared.downlink
    own, stage = work / paths.repipe_work(downlink), work / paths.repipe_stage(downlink)
    receipt = read_receipt(own, downlink)
    entries = {entry["run"]: entry for entry in receipt["runs"]}
    mine = entries.get(run, {"files": [], "orphans": 0})
    result = Repiped(
        downlink,
        run,
        stage / paths.staged(downlink),
        len(mine["files"]),
        sum(file["events"] for file in mine["files"]),
        mine["orphans"],
        tuple(_others(run, entries)),
    )
    if downlink not in {value["downlink"] for value in done(work, run)}:
        said = {"files": result.files, "events": result.events, "left": result.orphans, "when": _now()}
        note(work, run, {"downlink": downlink, **said})
    return result


def _others(run: RunId, entries: Iterable[str]) -> Iterator[str]:
    for other in sorted(set(entries) - {run}):
        yield (
            f"run {other} came with it, though its packets were not asked for: Level-1 must not get that directory. "
            "The chunks' logs say what the decoder found."
        )
