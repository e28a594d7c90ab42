"""Messages to a person about problems: when one appears, changes or is over, and again while it lasts.

A problem changes when the facts of its causes change, or how many causes have the same facts. The sentences alone do
not count, because they contain times and sizes. A lasting problem is not repeated while a person works on all its
causes (`halfpipe ack`).

Which messages are due is a pure function of the messages sent before, the causes now, and the time. The messages sent
before are kept in a file. If it is deleted, the lasting problems are reported once more.
"""

import logging
import shlex
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import IntEnum
from io import StringIO
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import SITE, Decision, Decisions, What, decide, open_problems
from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import sentence
from halfpipe.files.leases import Lease
from halfpipe.process.command_words import filled_in
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings
from halfpipe.status.overview import Told, read_told, write_told
from halfpipe.words import grouped, utc

COMMAND_SECONDS = 120.0  # time limit of `alarm.command`
OVER = "it changed or is over"  # why a turn takes back that a person has seen a problem
MOST_IN_SUBJECT = 100  # letters
MOST_CAUSES = 10  # of a subject in one mail

log = logging.getLogger(__name__)


class Occasion(IntEnum):
    """Why a message is due, the most interesting first."""

    NEW = 0
    CHANGED = 1
    LASTS = 2
    OVER = 3


@dataclass(frozen=True)
class Message:
    """A message about one subject, a downlink or a problem of the site; without causes the problem is over.

    `before` are the facts of the causes in the last message.
    """

    occasion: Occasion
    subject: str
    causes: tuple[Cause, ...]
    since: float
    before: Sequence[str] = ()


def due_messages(
    before: Mapping[str, Told],
    found: Iterable[tuple[str, Cause]],
    now: float,
    remind_seconds: float,
    unknown: Container[str] = (),
) -> tuple[list[Message], dict[str, Told]]:
    """Find the messages that are due.

    Parameters
    ----------
    before
        The messages sent before, by subject.
    found
        All causes that need action, each with its subject: a downlink, or what `site_subject` returns.
    now
        Unix time, seconds.
    remind_seconds
        A lasting problem is reported again after this time.
    unknown
        Subjects whose state is unknown, because another process works on them. Those without a cause stay as they are.

    Returns
    -------
    messages, state
        The messages in the order of subjects, and `before` for the next call.
    """
    by_subject = grouped(found)
    messages = list[Message]()
    state = dict[str, Told]()
    for subject, sent in before.items():
        if subject not in by_subject and subject in unknown:
            state[subject] = sent
        elif subject not in by_subject:
            messages.append(Message(Occasion.OVER, subject, (), sent.since, sent.facts))
    for subject, causes in by_subject.items():
        facts = sorted(cause.facts for cause in causes)
        first = min(cause.since or now for cause in causes)
        sent = before.get(subject, Told([], first, now))
        if not sent.facts:
            occasion = Occasion.NEW
        elif sent.facts != facts:
            occasion = Occasion.CHANGED
        # Also if the clock was set back.
        elif abs(now - sent.at) >= remind_seconds and not all(cause.seen for cause in causes):
            occasion = Occasion.LASTS
        else:
            state[subject] = sent
            continue
        messages.append(Message(occasion, subject, tuple(causes), sent.since))
        state[subject] = Told(facts, sent.since, now)
    return sorted(messages, key=lambda message: message.subject), state


def site_subject(code: str) -> str:
    """Return the subject of a cause of the whole site."""
    return f"{SITE} {code}"


def _is_of_site(subject: str) -> bool:
    """Tell whether a subject is a problem of the site; then its name has the code."""
    return " " in subject


def _name(subject: str) -> str:
    of, _, code = subject.partition(" ")
    return f"the site ({code})" if code else f"downlink {of}"


def subject_of(messages: Sequence[Message]) -> str:
    """Return the subject of a mail with these messages: the most interesting one, by its code and its reason."""
    first = min(messages, key=lambda message: message.occasion)
    more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
    codes = [cause.code for cause in first.causes] or [facts.split()[0] for facts in first.before]
    named = [] if _is_of_site(first.subject) else codes[:1]
    said = first.causes[0].text.removeprefix(f"{first.causes[0].failed}: ") if first.causes else "over"
    text = ": ".join(["HalfPipe", _name(first.subject), *named, said])
    most = MOST_IN_SUBJECT - len(more)
    return (text if len(text) <= most else f"{text[: most - 1]}…") + more


def text_of(messages: Sequence[Message]) -> str:
    """Return the text of a mail: for each subject its causes, and what to do next."""
    lines = list[str]()
    for message in messages:
        since = utc(message.since)
        what = {
            Occasion.NEW: "",
            Occasion.CHANGED: f", changed (since {since})",
            Occasion.LASTS: f", still (since {since})",
            Occasion.OVER: f": over; it began {since}",
        }[message.occasion]
        lines.append(f"{_name(message.subject)}{what}")
        if not message.causes and not _is_of_site(message.subject):
            lines += [f"  {facts}" for facts in message.before[:MOST_CAUSES]]
        for cause in message.causes[:MOST_CAUSES]:
            lines += [f"  {cause.text}", *(f"    {line}" for line in cause.lines)]
        if len(message.causes) > MOST_CAUSES:
            lines.append(f"  and {len(message.causes) - MOST_CAUSES} more: halfpipe status")
    return "\n".join(lines)


def send(settings: Settings, subject: str, text: str, say: Callable[[str], bool]) -> bool:
    """Send a mail by `alarm.command`, or print it, for cron or systemd to mail.

    If the command fails, the mail is printed, with the reason.

    Returns
    -------
    bool
        Whether the mail was sent or printed.
    """
    if settings.alarm.command is None:
        return say(f"{subject}\n\n{text}")
    words = filled_in(settings.alarm.command, {"subject": subject})
    with tempfile.TemporaryFile() as mail:
        mail.write(text.encode() + b"\n")
        mail.seek(0)
        ending = run(words, ROOT, Log(StringIO()), seconds=COMMAND_SECONDS, stdin=mail)
    if ending.well:
        return True
    return say(
        f"{subject}\n\n{text}\n\nalarm.command {ending.saying}. Fix it, because this message was only printed. "
        f"The command was: {shlex.join(words)}"
    )


class Alarms:
    """The messages of a site. `say` prints a text, and returns whether that worked.

    What was sent is recorded in `home`, usually the working directory.
    """

    def __init__(self, settings: Settings, say: Callable[[str], bool], home: Path | None = None) -> None:
        self._settings = settings
        self._say = say
        self._home = home or settings.paths.work
        self._path = self._home / paths.ALERT_STATE

    def report_site(self, code: str, causes: Iterable[Cause]) -> None:
        """Report one problem of the site, and leave all other subjects as they are."""
        subject = site_subject(code)
        self.report([(subject, cause) for cause in causes], only=subject)

    def report(
        self, found: Iterable[tuple[str, Cause]], unknown: Container[str] = (), *, only: str = ""
    ) -> None:
        """Send the messages that are due; arguments as for `due_messages`. With `only`, other subjects are unknown."""
        with ExitStack() as stack:
            try:  # because a turn that cannot begin may report that while another turn is reporting
                lease = Lease(self._home, paths.TOLD_LEASE, self._settings.lease.seconds)
                stack.enter_context(lease.take("the messages sent before", log.warning))
            except OSError as error:  # a full disk must not stop a message
                log.warning("%s", sentence(error))
            now = time.time()
            before = read_told(self._path)
            urgent = [(subject, cause) for subject, cause in found if cause.verdict is Verdict.ACTION]
            unknown = before.keys() - {only} if only else unknown
            decisions = Decisions()
            with suppress(HalfPipeError):  # the site has this as a cause
                decisions = Decisions.read(self._settings.paths.work)
            urgent = [
                (subject, cause)
                for subject, causes in grouped(urgent).items()
                for cause in decisions.seen(subject.split()[0], causes)
            ]
            remind_seconds = self._settings.alarm.remind_hours * 3600
            messages, sent = due_messages(before, urgent, now, remind_seconds, unknown)
            if messages and not send(self._settings, subject_of(messages), text_of(messages), self._say):
                return  # the next turn tries again
            seen = {one: _subject_of(one) for one in decisions.of_kind(What.SEEN)}
            if self._home == self._settings.paths.work:  # else only the working directory was looked at
                known = (one for one, of in seen.items() if of not in unknown and of == (only or of))
                self._forget(known, urgent)
            if sent != before:
                try:
                    write_told(self._path, sent)
                except (HalfPipeError, OSError) as error:
                    self._say(f"which mails were sent cannot be recorded, so they will be repeated: {error}")

    def _forget(self, seen: Iterable[Decision], urgent: Iterable[tuple[str, Cause]]) -> None:
        """Take back that a person works on problems that changed or are over."""
        now = open_problems(urgent)
        for one in seen:
            if now[one.subject] != one.number:
                with suppress(HalfPipeError):  # another turn has done it
                    decide(self._settings.paths.work, one.what, one.subject, None, OVER, undone=True)


def _subject_of(seen: Decision) -> str:
    """Return the subject of the messages about a problem that a person has seen."""
    of, code, *_ = seen.subject.split()
    return site_subject(code) if of == SITE else of
