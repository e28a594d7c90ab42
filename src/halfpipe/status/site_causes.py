"""Site-wide problems: the timer is dead or hangs, a disk is full, no RetDef arrives any more, and others."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.config import missing_places
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files import leases
from halfpipe.files.advice import DISK_FULL, sentence
from halfpipe.files.reading import sha256
from halfpipe.files.typed import Stored, read_stored, write_stored
from halfpipe.ids import DownlinkId
from halfpipe.plan.outstanding import too_many
from halfpipe.plan.plan import CLOCK_SECONDS
from halfpipe.plan.plan_causes import general_causes
from halfpipe.settings import Settings
from halfpipe.status.survey import Survey
from halfpipe.words import count, utc

PATIENCE_SECONDS = 3600.0  # without a turn, or without progress in one, until the operator must act
# Free space; below both limits the next downlink may fill the file system.
LEAST_SHARE = 0.01
LEAST_BYTES = 20e9
SETTINGS = "settings"  # their name in the record of the doctor
MONTH = 31 * 86400.0  # seconds
# Sections of the settings that do not describe the site: everyday decisions, and what is merged.
OF_EVERY_DAY = ("dl", "reason", "merge", "retire", "cleanup", "outstanding")
EXAMINE = Remedy("halfpipe doctor")
NONE: Mapping[DownlinkId, str] = {}
# What an operator looks at first, each with the codes of its causes.
LIGHTS = {
    "disk": {"disk-low", DISK_FULL},
    "mounts": {"not-mounted", "stage-foreign", "restored", "damaged", "file-system"},
    "ledger": {"ledger", "ledger-lacks", "ledger-foreign"},
    "timer": {"unattended-stopped", "silence"},
}


class LastTurn(Stored, frozen=True):
    """The last turn of unattended processing that a timer started: when it ended, Unix seconds, how, and where."""

    ended: float
    status: int
    host: str


class _Examined(Stored, frozen=True):
    """What the doctor found at the time `at`, Unix seconds.

    `site` has the checksums of the settings and of files, by name, and `problems` the codes of open problems.
    """

    at: float
    site: dict[str, str]
    problems: tuple[str, ...]


def site_troubles(survey: Survey, at_level1: Mapping[DownlinkId, str] = NONE) -> Iterator[Cause]:
    """Yield the site-wide problems; in the ledger, those of hand-offs `at_level1`, by the seals of receipts."""
    for found in (
        _stage_and_decisions(survey),
        _places(survey.settings),
        general_causes(survey.plan),
        too_many(survey.plan, survey.now, survey.names),
        turn_troubles(survey.work, survey.now),
        silence(survey),
        doctor_troubles(survey.settings, survey.now),
        survey.queue,
    ):
        try:
            yield from found
        except HalfPipeError as error:
            yield Cause.of(error)
        except OSError as error:
            yield Cause("file-system", Verdict.ACTION, sentence(error))
    if survey.settings.ledger.url is not None:
        from halfpipe.ledger.check import site_troubles as entered  # noqa: PLC0415 - the library of the database

        yield from entered(survey.settings, at_level1)


def free(settings: Settings) -> dict[Path, tuple[int, int]]:
    """Return the free and the total bytes of the file systems of the working directory and the stage."""
    found: dict[int, tuple[Path, tuple[int, int]]] = {}
    for place in (settings.paths.work, settings.paths.stage):
        with suppress(OSError):
            usage = shutil.disk_usage(place)
            found.setdefault(place.stat().st_dev, (place, (usage.free, usage.total)))
    return dict(found.values())


def _places(settings: Settings) -> Iterator[Cause]:
    """Yield each missing file or directory of other systems, and each file system that is nearly full.

    The plan reports the search path of RetDefs.
    """
    for key, wrong in missing_places(settings):
        if key != "paths.retdef":
            first = "Have it mounted, or correct the path in the config"
            yield Cause("not-mounted", Verdict.ACTION, wrong, Remedy(first=first))
    for place, (left, total) in free(settings).items():
        if left < LEAST_SHARE * total and left < LEAST_BYTES:
            text = f"the file system of {place} is nearly full: {left / 1e9:.1f} GB are free"
            first = "See what can be removed, then run halfpipe cleanup --do"
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


def _stage_and_decisions(survey: Survey) -> Iterator[Cause]:
    """Yield why nothing can be delivered to the stage; unreadable decisions are an error."""
    yield from filter(None, [survey.plan.stage_trouble])
    survey.decisions  # noqa: B018 - read here, and kept


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
    found = leases.look(work, paths.UNATTENDED_LEASE)
    if found is not None and found.lives:
        if now - found.signed >= PATIENCE_SECONDS:
            holder = found.holder
            end = f". If it hangs, end process {holder.pid} on {holder.host}" if holder else ""
            yield Cause(
                "unattended-stopped",
                Verdict.ACTION,
                f"no turn can begin: {work / paths.UNATTENDED_LEASE} is held by {found}, and has made no progress "
                f"since {utc(found.signed)}",
                Remedy(f"ls -lt {work / paths.UNATTENDED_LOGS}", first=f"See what it waits for{end}"),
                found.signed,
            )
        return
    last = last_turn(work)
    if last is None or -CLOCK_SECONDS < now - last.ended < PATIENCE_SECONDS:
        return
    yield Cause(
        "unattended-stopped",
        Verdict.ACTION,
        f"the last turn of unattended processing ended at {utc(last.ended)} by the clock of {last.host}, and none has "
        "begun since",
        Remedy(
            "systemctl status halfpipe.timer halfpipe.service", first="see why; with a crontab, read its mail"
        ),
        last.ended if last.ended <= now else None,
    )


def last_turn(work: Path) -> LastTurn | None:
    """Return the record of the last turn that a timer started; None if there was none."""
    with suppress(HalfPipeError):
        return read_stored(work / paths.LAST_TURN, LastTurn)
    return None


def silence(survey: Survey) -> Iterator[Cause]:
    """Yield that no new RetDef has arrived for `alarm.silence_hours`."""
    hours = survey.settings.alarm.silence_hours
    last = survey.last_retdef
    if hours is not None and last and survey.now - last >= hours * 3600:
        yield Cause(
            "silence",
            Verdict.ACTION,
            f"no new RetDef has arrived since {utc(last)}: alarm.silence_hours is {hours:g}",
            Remedy(
                " ".join(["ls -lt", *map(str, survey.settings.paths.retdef)]),
                first="ask whether downlinks arrive, and check that RetDefs are copied",
            ),
            last,
        )


def keep_findings(settings: Settings, files: Iterable[Path], problems: Iterable[str], now: float) -> None:
    """Record what the doctor found, replacing the previous record.

    Parameters
    ----------
    settings
        The settings that were examined.
    files
        The profile and the settings of the flight programs.
    problems
        The codes of open problems.
    now
        Unix time, seconds.

    Raises
    ------
    HalfPipeError
        If the record cannot be written.
    """
    site = {name: _checksum(settings, name) for name in (SETTINGS, *map(str, files))}
    write_stored(settings.paths.work / paths.EXAMINED, _Examined(now, site, tuple(problems)))


def doctor_troubles(settings: Settings, now: float) -> Iterator[Cause]:
    """Yield causes if the doctor left problems open or did not run within a month, or if the site has changed since.

    A simulated site need not be examined at all.
    """
    last = _Examined(0.0, {}, ())
    with suppress(HalfPipeError):
        last = read_stored(settings.paths.work / paths.EXAMINED, _Examined)
    when = utc(last.at)
    if last.problems:
        named = ", ".join(dict.fromkeys(last.problems))
        text = f"the doctor left {count(len(last.problems), 'problem')} open on {when}: {named}"
        yield Cause("doctor", Verdict.ACTION, text, EXAMINE, last.at)
    changed = [name for name, checksum in last.site.items() if _checksum(settings, name) != checksum]
    why = ""
    if not last.at:
        why = "" if settings.is_simulated else "no doctor has examined this site"
    elif changed:
        why = f"changed since the doctor examined the site on {when}: {', '.join(changed)}"
    elif abs(now - last.at) > MONTH:
        why = f"the doctor examined the site more than a month ago, on {when}"
    if why:
        yield Cause("doctor", Verdict.NOTE, why, EXAMINE, last.at or None)


def _checksum(settings: Settings, name: str) -> str:
    """Return the SHA-256 of the settings that describe the site, or of another file."""
    if name == SETTINGS:
        kept = {key: value for key, value in asdict(settings).items() if key not in OF_EVERY_DAY}
        return hashlib.sha256(json.dumps(kept, default=str, sort_keys=True).encode()).hexdigest()
    try:
        return sha256(Path(name))
    except OSError:
        return "cannot be read"
