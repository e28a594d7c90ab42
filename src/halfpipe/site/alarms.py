"""What a person is told of troubles, and how often: when one begins, changes or is over, and once a day while it lasts.

One has changed when its causes have other codes, or more or fewer of one: their sentences hold times and sizes.

Which of them are told is a pure function of what was told before, what there is now, and the time. What was told
is kept in a file that may be deleted: then all that lasts is told once more.
"""

import logging
import shlex
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from io import StringIO
from textwrap import shorten

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.advice import sentence
from halfpipe.process.command_words import filled_in
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings
from halfpipe.status.told import Memory, Told
from halfpipe.words import utc

SITE = "site "  # before the code of a cause that is of no downlink: its subject
COMMAND_SECONDS = 120.0  # that `alarm.command` may take
MOST_IN_SUBJECT = 100  # letters
MOST_CAUSES = 10  # of a subject that a mail has

log = logging.getLogger(__name__)


class Kind(IntEnum):
    """Why a person is told, what is of most interest first."""

    NEW = 0
    CHANGED = 1
    LASTS = 2
    OVER = 3


@dataclass(frozen=True)
class Message:
    """What is to be told of one subject, a downlink or one of the site's; without causes it is over."""

    kind: Kind
    subject: str
    causes: tuple[Cause, ...]
    since: float


def tell(
    before: Mapping[str, Told],
    found: Iterable[tuple[str, Cause]],
    now: float,
    remind_seconds: float,
    unknown: Container[str] = (),
) -> tuple[list[Message], dict[str, Told]]:
    """Find what is to be told now.

    Parameters
    ----------
    before
        What was told, by subject.
    found
        All causes that need action, with their subjects: downlinks, or what `of_site` gives.
    now
        Unix time, seconds.
    remind_seconds
        After so long a trouble that lasts is told again.
    unknown
        Subjects of which nobody knows how they stand, since somebody is at work on them: without a cause they stay
        as they are.

    Returns
    -------
    messages, state
        What is to be told, in the order of the subjects, and what is `before` the next time.
    """
    by_subject: dict[str, list[Cause]] = {}
    for subject, cause in found:
        by_subject.setdefault(subject, []).append(cause)
    messages, state = list[Message](), dict[str, Told]()
    for subject, known in before.items():
        if subject not in by_subject and subject in unknown:
            state[subject] = known
        elif subject not in by_subject:
            messages.append(Message(Kind.OVER, subject, (), known.since))
    for subject, causes in by_subject.items():
        codes, first = sorted(cause.code for cause in causes), min(cause.since or now for cause in causes)
        told = before.get(subject, Told([], first, now))
        if not told.codes:
            kind = Kind.NEW
        elif told.codes != codes:
            kind = Kind.CHANGED
        elif abs(now - told.at) >= remind_seconds:  # a clock that was set back must not keep anybody silent
            kind = Kind.LASTS
        else:
            state[subject] = told
            continue
        messages.append(Message(kind, subject, tuple(causes), told.since))
        state[subject] = Told(codes, told.since, now)
    return sorted(messages, key=lambda message: message.subject), state


def of_site(code: str) -> str:
    """Return the subject of a cause that is of no downlink."""
    return SITE + code


def _name(subject: str) -> str:
    return f"the site ({subject.removeprefix(SITE)})" if subject.startswith(SITE) else f"downlink {subject}"


def subject_of(messages: Sequence[Message]) -> str:
    """Return the subject of a mail with these messages: what is new first, in words."""
    first = min(messages, key=lambda message: message.kind)
    more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
    text = f"HalfPipe: {_name(first.subject)}: {first.causes[0].text if first.causes else 'over'}"
    return shorten(text, MOST_IN_SUBJECT - len(more), placeholder="…") + more


def text_of(messages: Sequence[Message], details: Mapping[str, str] | None = None) -> str:
    """Return the text of a mail: of each subject its causes with what to do next, and its details."""
    lines = list[str]()
    for message in messages:
        since = utc(message.since)
        what = {
            Kind.NEW: "",
            Kind.CHANGED: f", changed (since {since})",
            Kind.LASTS: f", still (since {since})",
            Kind.OVER: f": over; it was there since {since}",
        }[message.kind]
        lines.append(f"{_name(message.subject)}{what}")
        for cause in message.causes[:MOST_CAUSES]:
            lines += [f"  {cause.text}", *(f"    {line.removeprefix('→ ')}" for line in cause.lines)]
        if len(message.causes) > MOST_CAUSES:
            lines.append(f"  and {len(message.causes) - MOST_CAUSES} more: halfpipe status")
        if details and message.kind <= Kind.CHANGED:
            lines += [f"  {line}" for line in details.get(message.subject, "").splitlines()]
    return "\n".join(lines)


def send(settings: Settings, subject: str, text: str, say: Callable[[str], bool]) -> bool:
    """Tell a person: by `alarm.command`, or by what we print, for cron or systemd to mail.

    A command that fails loses nothing: the text is printed then, with how it ended.

    Returns
    -------
    bool
        Whether anybody took it.
    """
    if settings.alarm.command is None:
        return say(f"{subject}\n\n{text}")
    words = filled_in(settings.alarm.command, {"subject": subject})
    with tempfile.TemporaryFile() as given:
        given.write(text.encode() + b"\n")
        given.seek(0)
        ending = run(words, ROOT, Log(StringIO()), seconds=COMMAND_SECONDS, stdin=given)
    if ending.well:
        return True
    return say(
        f"{subject}\n\n{text}\n\nalarm.command {ending.saying}. Mend it: this message went only here. "
        f"It was: {shlex.join(words)}"
    )


class Teller:
    """Tells a person what there is to tell, and remembers it: in a file, for others tell of a turn that cannot begin.

    `say` prints a text, and tells whether anybody took it.
    """

    def __init__(self, settings: Settings, say: Callable[[str], bool]) -> None:
        self._settings, self._say = settings, say
        self._path = settings.paths.work / paths.ALERT_STATE

    @property
    def memory(self) -> Memory:
        """What was told until now."""
        return Memory.read(self._path)

    def of_site(self, code: str, causes: Iterable[Cause]) -> None:
        """Tell of one trouble of the site, if there is one, and leave all others and the downlinks as they are."""
        subject = of_site(code)
        with self._alone():
            self._tell([(subject, cause) for cause in causes], set(self.memory.sent) - {subject})

    def tell(
        self,
        found: Iterable[tuple[str, Cause]],
        unknown: Container[str] = (),
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Tell what is new, has changed, is over, or was reported long ago."""
        with self._alone():
            self._tell(found, unknown, details)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lease of what was told: a turn that cannot begin tells of that while another one tells, too."""
        with ExitStack() as held:
            try:
                lease = leases.Lease(self._settings.paths.work, paths.TOLD_LEASE)
                held.enter_context(lease.take("what was told", log.warning))
            except OSError as error:  # a full disk keeps nobody from being told
                log.warning("%s", sentence(error))
            yield

    def _tell(
        self,
        found: Iterable[tuple[str, Cause]],
        unknown: Container[str],
        details: Mapping[str, str] | None = None,
    ) -> None:
        now, before = time.time(), self.memory
        worth = [(subject, cause) for subject, cause in found if cause.verdict is Verdict.ACTION]
        messages, told = tell(before.sent, worth, now, self._settings.alarm.remind_hours * 3600, unknown)
        memory = Memory(told)
        if messages and not send(self._settings, subject_of(messages), text_of(messages, details), self._say):
            memory.sent = before.sent  # told again at the next turn
        if memory != before:
            try:
                memory.write(self._path)
            except (HalfPipeError, OSError) as error:
                self._say(f"which mails were sent cannot be recorded, so they will be repeated: {error}")
