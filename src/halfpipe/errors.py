"""Errors by cause; each message names the file, the place, what was expected and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, init=False)
class Remedy:
    """What is to be done about something.

    Attributes
    ----------
    do
        Commands, each of which can be pasted as it is.
    first
        What a person does before them, or has to choose, in words.
    hands_off
        Whether the commands make another hand-off: Level-1 gets it by a roll-back only, if it has one already.
    """

    do: tuple[str, ...]
    first: str
    hands_off: bool

    def __init__(self, *do: str, first: str = "", hands_off: bool = False) -> None:
        vars(self).update(do=do, first=first, hands_off=hands_off)

    @property
    def steps(self) -> list[str]:
        """What to do, a step each: the words, then the commands."""
        return [*filter(None, [self.first]), *self.do]

    def but(self, *, do: Iterable[str] | None = None, first: str | None = None) -> "Remedy":
        """Return it with other commands, or other words before them."""
        return Remedy(
            *(self.do if do is None else do),
            first=self.first if first is None else first,
            hands_off=self.hands_off,
        )

    def __str__(self) -> str:
        """Return it in a sentence; empty if there is nothing to do."""
        return ": ".join(filter(None, [self.first, "; ".join(self.do)]))


NOTHING = Remedy()


def rerun(downlink: str, what: str, first: str = "") -> Remedy:
    """Have a rule run again for a downlink, or the one that makes a file, and so the downlink be handed off again.

    But for the rule ``receipt``: alone it writes again what says of a hand-off, and makes no other one.
    """
    return Remedy(f"snakemake dl={downlink} -R {what}", first=first, hands_off=what != "receipt")


def mend(downlink: str, first: str = "") -> Remedy:
    """Have merged indexes and datagrams of a downlink made again, which hands nothing off."""
    return Remedy(f"halfpipe status --check --mend {downlink}", first=first)


class HalfPipeError(Exception):
    """Anything that this package raises on purpose: the message is for the person on shift.

    Parameters
    ----------
    message
        What happened, at length: logs have it whole.
    remedy
        What is to be done besides re-running the command.
    code
        What programs tell it by; None: that of the class.
    text
        What happened in a sentence, where `message` is longer than that; empty: `message`.
    """

    code = "failed"

    def __init__(
        self, message: object = "", remedy: Remedy = NOTHING, *, code: str | None = None, text: str = ""
    ) -> None:
        super().__init__(f"{message} {remedy}" if remedy.steps else message)
        self.text, self.remedy = text or str(message), remedy
        if code is not None:
            self.code = code


class IdError(HalfPipeError, ValueError):
    """An identifier of the wrong shape."""

    code = "id"


class ConfigError(HalfPipeError, ValueError):
    """A configuration that cannot be used."""

    code = "config"


class FormatError(HalfPipeError):
    """A file that is not what its name says."""

    code = "format"


class MissingInputError(HalfPipeError):
    """Something that should be there is not: a RetDef, an archive, a product."""

    code = "missing-input"


class DecoderError(HalfPipeError):
    """A decoder or magic-7 command that failed or broke its contract."""

    code = "decoder"


class LockedError(HalfPipeError):
    """Somebody else is at work on the same downlink."""

    code = "locked"


class LeaseLostError(HalfPipeError):
    """A process stood still for so long that somebody else went on with what it was at work on."""


class StateError(HalfPipeError):
    """What is recorded of a run contradicts what is found."""

    code = "state"


class StageError(HalfPipeError):
    """The stage does not hold what it should."""

    code = "stage"


class LedgerError(HalfPipeError):
    """The ledger cannot be reached, or is not what it should be."""

    code = "ledger"
