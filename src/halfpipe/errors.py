"""Errors by cause; each message names the file, the place, what was expected and what to do."""


class HalfPipeError(Exception):
    """Anything that this package raises on purpose: the message is for the person on shift.

    Parameters
    ----------
    message
        What happened, at length: logs have it whole.
    do
        What is to be done besides re-running the command, most often the next command; empty: nothing.
    code
        What programs tell it by; None: that of the class.
    text
        What happened in a sentence, where `message` is longer than that; empty: `message`.
    """

    code = "failed"

    def __init__(
        self, message: object = "", do: str = "", *, code: str | None = None, text: str = ""
    ) -> None:
        super().__init__(f"{message} {do}" if do else message)
        self.text, self.do = text or str(message), do
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
    """The stage cannot be written or does not hold what it should."""

    code = "stage"


class LedgerError(HalfPipeError):
    """The ledger cannot be reached, or is not what it should be."""

    code = "ledger"
