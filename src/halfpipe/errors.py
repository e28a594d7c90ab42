"""Errors by cause; each message names the file, the place, what was expected and what to do."""


class HalfPipeError(Exception):
    """Anything that this package raises on purpose: the message is for the person on shift."""


class IdError(HalfPipeError, ValueError):
    """An identifier of the wrong shape."""


class ConfigError(HalfPipeError, ValueError):
    """A configuration that cannot be used."""


class FormatError(HalfPipeError):
    """A file that is not what its name says."""


class MissingInputError(HalfPipeError):
    """Something that should be there is not: a RetDef, an archive, a product."""


class DecoderError(HalfPipeError):
    """A decoder or magic-7 command that failed or broke its contract."""


class LockedError(HalfPipeError):
    """Somebody else is at work on the same downlink."""


class LeaseLostError(HalfPipeError):
    """A process stood still for so long that somebody else went on with what it was at work on."""


class StateError(HalfPipeError):
    """What is recorded of a run contradicts what is found."""


class StageError(HalfPipeError):
    """The stage cannot be written or does not hold what it should."""


class LedgerError(HalfPipeError):
    """The ledger cannot be reached, or is not what it should be."""
