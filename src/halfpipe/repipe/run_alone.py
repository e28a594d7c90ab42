"""Re-pipe: process one run again on its own, as a made-up downlink with all packets of the run in the level-0 archive.

A re-pipe has its own working directory and stage, so it cannot change what counts as delivered.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files import markers, working_directory
from halfpipe.files.durable import make_directory, write_bytes, write_text
from halfpipe.files.heartbeat import whoami
from halfpipe.files.json_files import read_json, write_json
from halfpipe.formats.retdef import content_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_key
from halfpipe.repipe.run_retdefs import retdefs_of
from halfpipe.run.downlinks_of_run import repipes
from halfpipe.run.merged_index import known_datagrams
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Ignore, Ledger, Settings, Shrink
from halfpipe.words import utc


def prepare(settings: Settings, run: RunId, *, waiting: bool) -> DownlinkId:
    """Make the made-up downlink of a run, or return an unfinished one.

    Parameters
    ----------
    settings, run
        The site's settings, and the run.
    waiting
        Whether to deliver all known events, settled or not.

    Raises
    ------
    ConfigError
        If all ids are in use.
    HalfPipeError
        As `halfpipe.repipe.run_retdefs.retdefs_of`.
    """
    work = settings.paths.work
    downlink = _unfinished(work, run, waiting=waiting) or _created(settings, run, waiting=waiting)
    # Rewritten in each attempt, because the site's config may have been fixed.
    write_text(work / paths.repipe_config(downlink), _own(settings, run, downlink).as_json())
    return downlink


def _unfinished(work: Path, run: RunId, *, waiting: bool) -> DownlinkId | None:
    for note in repipes(work, run):
        if "events" not in note and note["waiting"] == waiting:
            return DownlinkId(note["downlink"])
    return None


def _created(settings: Settings, run: RunId, *, waiting: bool) -> DownlinkId:
    work, retdefs = settings.paths.work, retdefs_of(settings, run)
    working_directory.begin(work)
    downlink = _new_id(settings)
    home = make_directory(work / paths.repipe_retdefs(downlink), downlink)
    for retdef in retdefs:
        write_bytes(home.parent / paths.retdef(downlink, retdef.chunk), content_of(retdef))
    if waiting:
        markers.make(work / paths.repipe_work(downlink) / paths.FORCE / run.l1, "halfpipe process --waiting")
    me = whoami()
    by = f"{me.user} on {me.host}"
    note = {"downlink": downlink, "run": run, "waiting": waiting, "when": utc(time.time()), "by": by}
    write_json(work / paths.repipe_note(downlink), note)  # last: from now on the re-pipe can be resumed
    return downlink


def _new_id(settings: Settings) -> DownlinkId:
    """Take the next id. Creating its directory fails if another process has taken it."""
    work, (first, last) = settings.paths.work, (one.number for one in settings.repipe.ids)
    home = make_directory(work, paths.REPIPES)
    used = [int(path.name) for path in home.iterdir() if DownlinkId.matches(path.name)]
    for number in range(max([first - 1, *(one for one in used if first <= one <= last)]) + 1, last + 1):
        downlink = DownlinkId(f"{number:09d}")
        real = (
            work / downlink,
            work / paths.receipt(downlink),
            *(d / downlink for d in settings.paths.retdef),
        )
        if not any(place.exists() for place in real):
            with suppress(FileExistsError):  # another command has just taken it
                (work / paths.repipe(downlink)).mkdir()
                return downlink
    raise ConfigError(
        f"repipe.ids: all ids up to {settings.repipe.ids[1]} are in use. Set another range in the config."
    )


def _own(settings: Settings, run: RunId, downlink: DownlinkId) -> Settings:
    """Return the settings of the re-pipe: the site's with other directories, and without any notification of others."""
    work = settings.paths.work
    moot = settings.moot
    if moot.mapping:
        known = moot_key.of_run(settings, run, known_datagrams(settings, run).rows)
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
        retire=replace(settings.retire, deliver_waiting=True),
        submit=replace(settings.submit, automatic=False),
        ignore=Ignore(),
        shrink=Shrink(),
    )


def finish(settings: Settings, run: RunId, downlink: DownlinkId) -> tuple[Mapping[str, Any], list[str]]:
    """Note the result of a re-pipe; return the run's entry in its receipt, and other runs that it contained."""
    work = settings.paths.work
    entries = {
        entry["run"]: entry for entry in read_receipt(work / paths.repipe_work(downlink), downlink)["runs"]
    }
    mine = entries.get(run, {"files": [], "waiting": 0})
    events = sum(file["events"] for file in mine["files"])
    result = {
        "files": len(mine["files"]),
        "events": events,
        "left": mine["waiting"],
        "when": utc(time.time()),
    }
    note = work / paths.repipe_note(downlink)
    write_json(note, read_json(note) | result)
    return mine, sorted(set(entries) - {run})
