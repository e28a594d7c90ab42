"""Errors, one class per kind; a message names the file, the place, what was expected, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, init=False)
class Remedy:
    """The way to fix a problem.

    Attributes
    ----------
    do
        Commands, ready to paste.
    first
        Steps or choices of a person before the commands, in words.
    hands_off
        Whether the commands make another hand-off. If Level-1 has one already, it takes the new one only by a
        rollback.
    accept
        What a person may decide to do without instead: the subjects for `halfpipe accept`, as in
        ``230401001/00003 events=12``.
    """

    do: tuple[str, ...]
    first: str
    hands_off: bool
    accept: tuple[str, ...]

    def __init__(
        self, *do: str, first: str = "", hands_off: bool = False, accept: Iterable[str] = ()
    ) -> None:
        object.__setattr__(self, "do", do)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "hands_off", hands_off)
        object.__setattr__(self, "accept", tuple(accept))

    @property
    def decision(self) -> str:
        """The command that accepts the loss instead; empty if there is none."""
        return f'halfpipe accept {" ".join(self.accept)} --reason "..."' if self.accept else ""

    @property
    def steps(self) -> list[str]:
        """The steps: the words, then each command, then the command that accepts the loss instead."""
        return [*filter(None, [self.first]), *self.do, *filter(None, [self.decision])]

    @property
    def lines(self) -> list[str]:
        """The steps for a terminal: each command to paste has an arrow, and words have none."""
        words = [f"{self.first}:" if self.do else self.first] if self.first else []
        instead = ["or do without:", f"→ {self.decision}"] if self.accept else []
        return [*words, *(f"→ {command}" for command in self.do), *instead]

    def but(
        self,
        *,
        do: Iterable[str] | None = None,
        first: str | None = None,
        accept: Iterable[str] | None = None,
    ) -> "Remedy":
        """Return a copy with other commands, other words before them, or other subjects to accept."""
        return Remedy(
            *(self.do if do is None else do),
            first=self.first if first is None else first,
            hands_off=self.hands_off,
            accept=self.accept if accept is None else accept,
        )

    def __str__(self) -> str:
        """Return the steps as one sentence; empty if there are none."""
        instead = f"or do without: {self.decision}" if self.accept else ""
        return "; ".join(filter(None, [": ".join(filter(None, [self.first, "; ".join(self.do)])), instead]))


NOTHING = Remedy()


def rerun(downlink: str, what: str, first: str = "", accept: Iterable[str] = ()) -> Remedy:
    """Return the remedy that reruns a rule of a downlink, or the rule that makes a file, and hands off again.

    The rule ``receipt`` is an exception: alone, it rewrites the receipt and makes no other hand-off.
    """
    return Remedy(
        f"snakemake dl={downlink} -R {what}", first=first, hands_off=what != "receipt", accept=accept
    )


def rebuild(downlink: str, first: str = "") -> Remedy:
    """Return the remedy that rebuilds the merged indexes of a downlink and hands nothing off."""
    return Remedy(f"halfpipe status --check --repair {downlink}", first=first)


class HalfPipeError(Exception):
    """Base class of all errors that this package raises on purpose; the message is for the operator.

    Parameters
    ----------
    message
        What happened, in full, for logs.
    remedy
        What to do before rerunning the command.
    code
        Identifies the kind of error for programs; None: the code of the class.
    text
        What happened, in one sentence, if `message` is longer; empty: `message`.
    """

    code = "failed"

    def __init__(
        self, message: object = "", remedy: Remedy = NOTHING, *, code: str | None = None, text: str = ""
    ) -> None:
        said = str(message)
        super().__init__(f"{said.removesuffix('.')}. {remedy}" if remedy.steps else said)
        self.text = text or said
        self.remedy = remedy
        if code is not None:
            self.code = code


class IdError(HalfPipeError, ValueError):
    """An identifier has the wrong form."""

    code = "id"


class ConfigError(HalfPipeError, ValueError):
    """The configuration is not valid."""

    code = "config"


class FormatError(HalfPipeError):
    """A file is damaged or has the wrong format."""

    code = "format"


class MissingInputError(HalfPipeError):
    """An input is missing: a RetDef, an archive, a product."""

    code = "missing-input"


class DecoderError(HalfPipeError):
    """A decoder or magic-7 command failed or broke its contract."""

    code = "decoder"


class LockedError(HalfPipeError):
    """Another process is working on the same downlink."""

    code = "in-progress"


class LeaseLostError(HalfPipeError):
    """A process was suspended for so long that another one has taken over its work."""


class StateError(HalfPipeError):
    """The records of a run contradict its files."""

    code = "damaged"


class StageError(HalfPipeError):
    """The stage does not contain the expected files."""

    code = "stage-differs"


class LedgerError(HalfPipeError):
    """The ledger cannot be reached, or its content is wrong."""

    code = "ledger"
