"""Unattended processing: every outstanding downlink, one after the other.

Each downlink is an invocation of Snakemake of its own with a time limit and a log of its own, so that one that
fails or hangs does not stop the next; those that were tried before come last. On failure a summary is told that
fits into a mail: the job, its log and the command that repeats it. Nothing is told if all went well.
"""

import shlex
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.plan import Outstanding, Plan
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import leases
from halfpipe.files.durable import remove_file, write_text
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.site.alarms import Kind, Memory, of_site, send, subject_of, tell, text_of, wants_telling
from halfpipe.site.invocations import FAILED, GOOD, OUT_OF_TIME, Outcome, again, invocation, process
from halfpipe.site.publish import CODE, publish
from halfpipe.status.account import Site, account
from halfpipe.status.failures import by_cause, cause_of, end_of, then
from halfpipe.status.overview import recent
from halfpipe.status.site_causes import lease_troubles, site_troubles
from halfpipe.tables import weekly
from halfpipe.tables.weekly import WEEK, iso_week
from halfpipe.words import utc

UNUSABLE, RUNNING = 2, 4  # exit statuses, besides those of an invocation
MOST_JOBS = 5  # of one downlink in a summary
MOST_SAID = 1 << 20  # bytes of what was told that are kept
DAYS = 7.0  # downlinks that are older and were not wanting are not looked at


@dataclass(frozen=True)
class Limits:
    """How long a downlink may take, logs of invocations stay, and a RetDef may be missing without a word."""

    minutes: float = 240
    keep_days: float = 30
    late_hours: float | None = None  # None: `alarm.late_hours`


def summary(
    downlink: DownlinkId, status: int, outcome: Outcome, words: Sequence[str], log: Path, work: Path
) -> str:
    """Say in some lines what happened to a downlink, which jobs it was, and how to repeat them."""
    what = "ran out of time and was ended" if status == OUT_OF_TIME else "failed"
    lines = [f"downlink {downlink} {what}; all that was printed: {log}"]
    for job in outcome.jobs[:MOST_JOBS]:
        lines += [f"  job {job.rule} {job.ids}: {job.text}", f"    log: {job.log}"]
        lines += [f"    | {line}" for line in end_of(job.log)]
        if job.why.command:
            lines.append(f"    to repeat it by hand: cd {shlex.quote(str(work))} && {job.why.command}")
    if len(outcome.jobs) > MOST_JOBS:
        lines.append(f"  and {len(outcome.jobs) - MOST_JOBS} more jobs")
    if not outcome.jobs:
        lines += [f"    | {line}" for line in end_of(log)]
    return "\n".join([*lines, f"  to process the downlink again: {again(words)}"])


def failure(status: int, outcome: Outcome, words: Sequence[str], log: Path) -> Cause:
    """Return why an invocation did not end well, where the account of its downlink does not say it."""
    if status == OUT_OF_TIME:
        text = "it ran out of time and was ended"
        return Cause("out-of-time", Verdict.ACTION, text, f"see what hung, often a file system: {log}")
    if outcome.jobs:
        return cause_of(max(by_cause(outcome.jobs), key=len), again(words), {})
    if outcome.error is None:
        return Cause(
            "failed", Verdict.ACTION, f"snakemake ended before any job; its log: {log}", again(words)
        )
    why = outcome.error
    return Cause(why.code, Verdict.ACTION, f"snakemake said: {why.text}", then(why.do, again(words)))


def remove_old_logs(home: Path, days: float) -> None:
    """Remove the logs of invocations that are older than `days`."""
    for path in (path for end in ("*.log", f"*{paths.EVENTS_SUFFIX}") for path in home.glob(end)):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - days * 86400:
                path.unlink()


def outstanding(plan: Plan, home: Path) -> tuple[list[DownlinkId], Outstanding]:
    """Return the outstanding downlinks that are ready, in order, and all that was found.

    Those that have a log in `home`, tried before, come last.
    """
    found = plan.outstanding(time.time())
    tried = {path.stem.rpartition("-")[2] for path in home.glob("*.log")}
    return sorted(found.ready, key=lambda dl: (dl in tried, dl)), found


def list_held(held: Mapping[DownlinkId, Path], path: Path) -> None:
    """Write down which downlinks are held: no failure, and so no mail, but to be looked up."""
    if held:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"downlink {dl} is held by {file}\n" for dl, file in sorted(held.items())))
    else:
        remove_file(path)


def turn(
    settings: Settings,
    options: Sequence[str],
    named: Sequence[DownlinkId],
    limits: Limits,
    say: Callable[[str], bool],
    *,
    quiet: bool = False,
) -> int:
    """Process the downlinks that are named, or else the outstanding ones that nobody has in work.

    Parameters
    ----------
    settings, options
        The settings, and the options of Snakemake that give it the same.
    named
        Downlinks; none: all outstanding ones.
    limits
        What is too long.
    say
        Prints what a person has to hear, and tells whether anybody took it.
    quiet
        Do not say that another turn is running.

    Returns
    -------
    int
        `GOOD`, `FAILED`, `OUT_OF_TIME` or `RUNNING`; `UNUSABLE` if more downlinks are outstanding than may be.
    """
    mine = leases.Lease(settings.paths.work, paths.unattended_lease())
    teller = Teller(settings, say)
    if not mine.try_take():
        if not quiet:
            say(f"another unattended invocation is running: {mine.look() or 'it has just ended'}")
        teller.of_site("unattended-lease", lease_troubles(settings.paths.work, time.time()))
        return RUNNING
    begun, ended = time.time(), dict[str, int]()
    status = FAILED
    try:
        status = _process_all(settings, options, named, limits, teller, ended, mine.sign)
        return status
    except (HalfPipeError, OSError) as error:
        status = UNUSABLE if isinstance(error, ConfigError) else FAILED
        what = "the turn was broken off" if ended else "nothing was done"
        teller.of_site("turn-failed", [Cause("turn-failed", Verdict.ACTION, f"{what}: {error}")])
        return status
    finally:
        _record_turn(settings.paths.work, begun, status, ended)
        try:
            _publish(settings, teller)
        finally:
            mine.give_back()


def _record_turn(work: Path, begun: float, status: int, ended: Mapping[str, int]) -> None:
    """Write down that a turn has ended, so that a timer that is dead can be seen."""
    me = leases.whoami()
    with suppress(HalfPipeError, OSError):
        write_json(
            work / paths.last_turn(),
            {
                "begun": round(begun),
                "ended": round(time.time()),
                "status": status,
                "downlinks": dict(ended),
                "host": me.host,
                "user": me.user,
            },
        )


class Teller:
    """Tells a person what there is to tell, and remembers it."""

    def __init__(self, settings: Settings, say: Callable[[str], bool]) -> None:
        self._settings, self._say = settings, say
        self._path = settings.paths.work / paths.alert_state()
        self.look()

    def look(self) -> None:
        """Look up what was told: while a turn runs, others that cannot begin tell of it."""
        self.memory = Memory.read(self._path)

    def of_site(self, code: str, causes: Iterable[Cause]) -> None:
        """Tell of one trouble of the site, if there is one, and leave all others and the downlinks as they are."""
        subject = of_site(code)
        self.tell([(subject, cause) for cause in causes], unknown=set(self.memory.told) - {subject})

    def tell(
        self,
        found: Iterable[tuple[str, Cause]],
        unknown: Container[str] = (),
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Tell what is new, has changed, is over, or has not been told for long; and on Mondays of the week."""
        now = time.time()
        worth = [(subject, cause) for subject, cause in found if wants_telling(cause)]
        remind = self._settings.alarm.remind_hours * 3600
        messages, told = tell(self.memory.told, worth, now, remind, unknown)
        memory = replace(self.memory, told=told, week=iso_week(now))
        memory.wanted = [(at, codes) for at, codes in memory.wanted if at >= now - 2 * WEEK]
        new = [m for m in messages if m.kind in {Kind.NEW, Kind.CHANGED}]
        memory.wanted += [(now, sorted({cause.code for cause in m.causes})) for m in new]
        if self.memory.week not in {"", memory.week}:
            week = weekly.text(
                weekly.handed_off(self._settings, now - WEEK, now), memory.wanted, len(told), now
            )
            subject, _, text = week.partition("\n\n")
            if not self._send(subject, text):
                memory.week = self.memory.week
        if messages and not self._send(subject_of(messages), text_of(messages, details)):
            memory = replace(memory, told=self.memory.told)  # told again at the next turn
        if memory != self.memory:
            try:
                memory.write(self._path)
            except (HalfPipeError, OSError) as error:
                self._say(f"what was told cannot be remembered, so it comes again: {error}")
        self.memory = memory

    def _send(self, subject: str, text: str) -> bool:
        record(self._settings.paths.work, f"{subject}\n\n{text}")
        return send(self._settings, subject, text, self._say)


def _publish(settings: Settings, teller: Teller) -> None:
    """Write the board and the metrics, and tell if they cannot be written."""
    if settings.board.dir is not None or settings.metrics.file is not None:
        causes = list(publish(settings))
        teller.look()
        teller.of_site(CODE, causes)


def record(work: Path, text: str) -> None:
    """Append to the record of all that was told, of which the last `MOST_SAID` bytes stay."""
    path = work / paths.message_log()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MOST_SAID:
            path.write_bytes(path.read_bytes()[-MOST_SAID // 2 :])
        with path.open("a") as out:
            out.write(f"--- {utc(time.time())}\n{text}\n")


def _process_all(
    settings: Settings,
    options: Sequence[str],
    named: Sequence[DownlinkId],
    limits: Limits,
    teller: Teller,
    ended: dict[str, int],
    sign: Callable[[], object],
) -> int:
    plan, home = Plan(settings), settings.paths.work / paths.unattended_logs()
    remove_old_logs(home, limits.keep_days)
    wanted = list(dict.fromkeys(named))
    causes: list[tuple[str, Cause]] = []
    details = dict[str, str]()
    late_hours = settings.alarm.late_hours if limits.late_hours is None else limits.late_hours
    if not wanted:
        wanted, found = outstanding(plan, home)
        list_held(found.held, plan.work / paths.held_list())
        causes += _late(found, late_hours, time.time())
    for number, downlink in enumerate(wanted):
        if number:
            _publish(settings, teller)  # a turn may take hours
        if not named and leases.in_work(plan.work, downlink) is not None:
            continue
        words = invocation([plan.target(downlink)], options)
        log = home / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{downlink}.log"
        ended[downlink] = process(words, log, limits.minutes * 60, sign)
        if ended[downlink] != GOOD:
            outcome = Outcome.of(log, late=ended[downlink] == OUT_OF_TIME)
            details[downlink] = summary(downlink, ended[downlink], outcome, words, log, plan.work)
            causes.append((downlink, failure(ended[downlink], outcome, words, log)))
    sign()
    teller.look()
    causes, unknown = _with_accounts(settings, teller, named, causes)
    if named:
        unknown |= set(teller.memory.told) - set(named)
    else:
        causes += [(of_site(cause.code), cause) for cause in site_troubles(settings, time.time())]
        unknown.add(of_site(CODE))
    teller.tell(causes, unknown, details)
    needs_action = any(c.verdict is Verdict.ACTION for subject, c in causes if DownlinkId.matches(subject))
    return max([*ended.values(), FAILED if needs_action else GOOD])


def _late(found: Outstanding, late_hours: float, now: float) -> Iterator[tuple[str, Cause]]:
    """Yield the downlinks that have waited too long for a RetDef."""
    for downlink, (said, age) in found.incomplete.items():
        if age > late_hours * 3600:
            yield (
                downlink,
                Cause(
                    "waits-retdef",
                    Verdict.ACTION,
                    f"{said}, and has done so for more than {late_hours:g} h",
                    "have the RetDef made and copied to the search path, or list the chunk under ignore.chunks in the "
                    "config with a reason",
                    now - age,
                ),
            )


def _with_accounts(
    settings: Settings, teller: Teller, named: Sequence[DownlinkId], causes: list[tuple[str, Cause]]
) -> tuple[list[tuple[str, Cause]], set[str]]:
    """Return all causes, those of the accounts included, and the downlinks of which nothing can be known now."""
    site = Site(settings)
    told = [DownlinkId(subject) for subject in teller.memory.told if DownlinkId.matches(subject)]
    every = sorted({*named} if named else {*recent(site, DAYS), *told, *(DownlinkId(dl) for dl, _ in causes)})
    unknown = set[str]()
    for downlink in every:
        found = account(site, downlink)
        if found.state.startswith("in work"):
            unknown.add(downlink)
        codes = {cause.code for cause in found.causes}
        causes = [(subject, c) for subject, c in causes if subject != downlink or c.code not in codes]
        causes += [(downlink, cause) for cause in found.causes]
    return causes, unknown
