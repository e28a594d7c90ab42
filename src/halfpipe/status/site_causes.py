"""Site-wide problems: the timer is dead or hangs, a disk is full, no RetDef arrives any more, and others."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.config import missing_places
from halfpipe.downlink.outstanding import too_many
from halfpipe.downlink.plan import CLOCK_SECONDS
from halfpipe.downlink.plan_causes import general_causes
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files import leases
from halfpipe.files.advice import sentence
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId
from halfpipe.run import abandoned_runs
from halfpipe.settings import Settings
from halfpipe.status import examined
from halfpipe.status.survey import Survey
from halfpipe.words import utc

PATIENCE_SECONDS = 3600.0  # without a turn, or without progress in one, until the operator must act
LEAST_SHARE, LEAST_BYTES = (
    0.01,
    20e9,
)  # free space; below both limits the next downlink may fill the file system
# What an operator looks at first, each with the codes of its causes.
LIGHTS = {
    "disk": {"disk-low"},
    "mounts": {"not-mounted", "stage-foreign", "restored", "damaged", "file-system"},
    "ledger": {"ledger", "ledger-lacks", "ledger-foreign"},
    "timer": {"unattended-stopped", "silence"},
}


def site_troubles(survey: Survey, downlinks: Iterable[DownlinkId] = ()) -> Iterator[Cause]:
    """Yield the site-wide problems; in the ledger, those of `downlinks`."""
    yield from filter(None, [survey.stage_trouble])
    for found in (
        _not_there(survey.settings),
        general_causes(survey.plan),
        too_many(survey.plan, survey.now, survey.names),
        turn_troubles(survey.work, survey.now),
        silence(survey),
        _not_abandoned(survey.work),
        _disks(survey.settings),
        examined.troubles(survey.settings, survey.now),
        survey.queue,
    ):
        try:
            yield from found
        except HalfPipeError as error:
            yield Cause(error.code, Verdict.ACTION, error.text, error.remedy)
        except OSError as error:
            yield Cause("file-system", Verdict.ACTION, sentence(error))
    if survey.settings.ledger.url is not None:
        from halfpipe.ledger.check import site_troubles as entered  # noqa: PLC0415 - the library of the database

        yield from entered(survey.settings, downlinks)


def free(settings: Settings) -> dict[Path, tuple[int, int]]:
    """Return the free and the total bytes of the file systems of the working directory and the stage."""
    found: dict[int, tuple[Path, tuple[int, int]]] = {}
    for place in (settings.paths.work, settings.paths.stage):
        with suppress(OSError):
            usage = shutil.disk_usage(place)
            found.setdefault(place.stat().st_dev, (place, (usage.free, usage.total)))
    return dict(found.values())


def _not_there(settings: Settings) -> Iterator[Cause]:
    """Yield each missing file or directory of other systems; the plan reports the search path of RetDefs."""
    for key, wrong in missing_places(settings):
        if key != "paths.retdef":
            first = "Have it mounted, or correct the path in the config"
            yield Cause("not-mounted", Verdict.ACTION, wrong, Remedy(first=first))


def _disks(settings: Settings) -> Iterator[Cause]:
    """Yield each file system that is nearly full."""
    for place, (left, total) in free(settings).items():
        if left < LEAST_SHARE * total and left < LEAST_BYTES:
            text = f"the file system of {place} is nearly full: {left / 1e9:.1f} GB are free"
            first = "See what can go, then give halfpipe cleanup --remove"
            yield Cause(
                "disk-low", Verdict.ACTION, text, Remedy(f"df -h {place}", "halfpipe cleanup", first=first)
            )


def light(name: str, causes: Iterable[Cause]) -> Cause | None:
    """Return the worst cause that belongs to one of `LIGHTS`; None if all is well."""
    return max(
        (cause for cause in causes if cause.code in LIGHTS[name]),
        key=lambda cause: cause.verdict is Verdict.ACTION,
        default=None,
    )


def _not_abandoned(work: Path) -> Iterator[Cause]:
    """Yield the files in `force/` whose names are not runs."""
    try:
        refused = abandoned_runs.read(work).refused
    except HalfPipeError as error:
        refused = (str(error),)
    for complaint in refused:
        yield Cause("misspelt", Verdict.ACTION, complaint, Remedy("halfpipe force"))


def turn_troubles(work: Path, now: float) -> Iterator[Cause]:
    """Yield that a turn of unattended processing hangs, or that the last turn of the timer ended too long ago.

    A turn that hangs keeps other turns from starting. If no turn of a timer is recorded, the site has no timer.

    Parameters
    ----------
    work
        `paths.work`.
    now
        Unix time, seconds.
    """
    found, last = leases.look(work, paths.UNATTENDED_LEASE), last_turn(work)
    if found is not None and found.lives:
        if now - found.signed < PATIENCE_SECONDS:
            return
        holder = found.holder
        end = f". If it hangs, end process {holder.pid} on {holder.host}" if holder else ""
        look = f"See what it waits for{end}"
        yield Cause(
            "unattended-stopped",
            Verdict.ACTION,
            f"no turn can begin: {work / paths.UNATTENDED_LEASE} is held by {found}, and has not got on since "
            f"{utc(found.signed)}",
            Remedy(f"ls -lt {work / paths.UNATTENDED_LOGS}", first=look),
            found.signed,
        )
        return
    if last is None or -CLOCK_SECONDS < now - last["ended"] < PATIENCE_SECONDS:
        return
    on = f" on {last['host']}" if "host" in last else ""
    ended, since = f"ended at {utc(last['ended'])}{on}, and none has begun since", last["ended"]
    if since > now:  # the next turn puts it right, if one comes
        ended, since = f"ended at a time to come by the clock{on}, so nobody knows when: {utc(since)}", None
    yield Cause(
        "unattended-stopped",
        Verdict.ACTION,
        f"the last turn of unattended processing {ended}",
        Remedy("systemctl status halfpipe.timer halfpipe.service", first="see why, of a crontab in its mail"),
        since,
    )


def last_turn(work: Path) -> dict[str, Any] | None:
    """Return the record of the last turn that a timer started; None if there was none.

    Keys: `ended`; `all`, when a turn last looked at all downlinks (both Unix seconds); `status`, how it ended; `host`.
    """
    with suppress(HalfPipeError, AttributeError):
        value: dict[str, Any] = read_json(work / paths.LAST_TURN)
        if isinstance(value.get("ended"), int | float):
            return value
    return None


def silence(survey: Survey) -> Iterator[Cause]:
    """Yield that no new RetDef has arrived for `alarm.silence_hours`."""
    hours, last, search = (
        survey.settings.alarm.silence_hours,
        survey.last_retdef,
        survey.settings.paths.retdef,
    )
    if hours is not None and last and survey.now - last >= hours * 3600:
        yield Cause(
            "silence",
            Verdict.ACTION,
            f"no new RetDef has come since {utc(last)}: alarm.silence_hours is {hours:g}",
            Remedy(
                " ".join(["ls -lt", *map(str, search)]),
                first="ask whether downlinks come, and see that RetDefs are copied",
            ),
            last,
        )
