"""The accounts of many downlinks, the problems of the site itself, and what a person was told of both."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import SITE, What
from halfpipe.errors import FormatError, HalfPipeError
from halfpipe.files import typed
from halfpipe.files.json_files import write_json
from halfpipe.files.typed import Stored
from halfpipe.ids import DownlinkId, RunId
from halfpipe.state import run_books
from halfpipe.state.closed import write_closed
from halfpipe.status.account import Account, account_and_facts
from halfpipe.status.site_causes import site_troubles
from halfpipe.status.survey import DownlinkFacts, Survey
from halfpipe.words import count

log = logging.getLogger(__name__)
DAY = 86400.0
OfFiles = Callable[[DownlinkId], Iterable[Cause]]


@dataclass(frozen=True)
class Overview:
    """The accounts, first those that need action, each newest first; and the problems of the site."""

    accounts: tuple[Account, ...]
    site: tuple[Cause, ...]

    @property
    def needing_action(self) -> tuple[Account, ...]:
        """The downlinks that need action."""
        return tuple(one for one in self.accounts if one.verdict is Verdict.ACTION)

    @property
    def needs_action(self) -> bool:
        """Whether anything needs action."""
        return bool(self.needing_action) or any(cause.verdict is Verdict.ACTION for cause in self.site)

    def headline(self, survey: Survey) -> str:
        """Return a line with the numbers of site problems and of downlinks that need action."""
        number = len(self.needing_action)
        of_site = sum(cause.verdict is Verdict.ACTION for cause in self.site)
        says = "no downlink needs action"
        if not self.accounts:
            places = ", ".join(map(str, [*survey.settings.paths.retdef, survey.work]))
            says = f"no downlinks found in {places}; of any age: halfpipe status --all"
        elif number:
            says = f"{number} of {count(len(self.accounts), 'downlink')} {'needs' if number == 1 else 'need'} action"
        return f"{count(of_site, 'site problem')}; {says}" if of_site else says


def overview(
    survey: Survey,
    downlinks: Iterable[DownlinkId],
    of_files: OfFiles | None = None,
    see: Callable[[Account, DownlinkFacts | None], object] = lambda *_: None,
) -> Overview:
    """Draw up the accounts of `downlinks`, each with what `of_files` finds in its files.

    `see` is called with each account and its facts. All facts would be too much to keep.
    """
    accounts = []
    for downlink in sorted(set(downlinks)):
        # Look at the files first, because drawing up an account repairs the records that it reads.
        one, facts = account_and_facts(survey, downlink, [*of_files(downlink)] if of_files else ())
        see(one, facts)
        accounts.append(one)
    worst_first = sorted(
        accounts, key=lambda one: (one.verdict is Verdict.ACTION, one.downlink), reverse=True
    )
    of_site = (*site_troubles(survey, {one.downlink: one.at_level1 for one in accounts if one.at_level1}),)
    of_site = tuple(_with_waiting(cause, accounts) for cause in of_site)
    with suppress(HalfPipeError):  # the site has this as a cause
        of_site = survey.decisions.seen(SITE, of_site)
    return Overview(tuple(worst_first), of_site)


def _with_waiting(cause: Cause, accounts: Iterable[Account]) -> Cause:
    """Return a cause of the site; if downlinks wait for the ledger, it needs action, with the command for them."""
    if cause.code != "ledger":
        return cause
    waiting = [one.downlink for one in accounts for each in one.causes if each.failed == cause.code]
    if not waiting:
        return cause
    do = ["snakemake", *map(paths.loaded, sorted(waiting))]
    text = (
        f"{cause.text}; {count(len(waiting), 'downlink')} {'waits' if len(waiting) == 1 else 'wait'} for it"
    )
    return replace(
        cause, verdict=Verdict.ACTION, text=text, remedy=cause.remedy.but(do=[*cause.remedy.do, " ".join(do)])
    )


def known(survey: Survey) -> list[DownlinkId]:
    """Return, in order, all downlinks that have files, or that runs know although their receipts are lost."""
    found = set(survey.plan.known)
    with suppress(HalfPipeError):
        found.update(survey.lost)
    return sorted(found)


def recent(survey: Survey, days: float) -> list[DownlinkId]:
    """Return the downlinks that still matter, in order: those that changed within `days`, and all that are not closed.

    A run that was abandoned since then counts as a change of the downlink at which its events are counted.
    """
    oldest = survey.now - days * DAY
    decided = set[DownlinkId | None]()
    with suppress(HalfPipeError):  # the site has this as a cause
        decided = {
            run_books.counted_at(survey.work, RunId(one.subject))
            for one in survey.decisions.in_force.values()
            if one.what is What.ABANDONED and one.time > oldest
        }
    return [
        downlink
        for downlink in known(survey)
        if survey.closed.get(downlink, survey.now) >= oldest or downlink in decided
    ]


def note_closed(survey: Survey, accounts: Iterable[Account]) -> None:
    """Write which downlinks are closed, after these were looked at."""
    after = dict(survey.closed)
    for one in accounts:
        after.pop(one.downlink, None)
        if one.closed is not None:
            after[one.downlink] = one.closed
    if after != survey.closed:
        write_closed(survey.settings, after)


class Told(Stored, frozen=True):
    """The last message about a subject: the facts of its causes in order, when they began, and when it was sent."""

    facts: list[str]
    since: float
    at: float


class _Sent(Stored, frozen=True):
    """The file: the last message about each subject."""

    sent: dict[str, Told]


def read_told(path: Path) -> dict[str, Told]:
    """Return the last message about each subject; if the file is damaged, nothing, so lasting problems are repeated."""
    try:
        return typed.decode(path.read_bytes(), _Sent, path).sent
    except FileNotFoundError:
        return {}
    except (OSError, FormatError) as error:
        log.warning("%s: which messages were sent is not known, so they are repeated", error)
        return {}


def write_told(path: Path, told: Mapping[str, Told]) -> None:
    """Write the last message about each subject, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, typed.values(_Sent(dict(told))))
