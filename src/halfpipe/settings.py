"""The settings: every key of the configuration, with its type, its default and its meaning.

All other modules of the package may import this one; it imports only causes, ids and errors. `halfpipe.config` reads
the config files, checks them once in the process that a person started, and writes the result to a file. Jobs read that
file with `Settings.read`, without the libraries for checking. The docstring below a key is its text in the table of
keys that `make docs` makes, and in the schema.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import msgspec

from halfpipe.causes import Phase
from halfpipe.errors import ConfigError, IdError
from halfpipe.ids import Downlinks, RunKind

CLIENTS = {"pipeline", "pipeline_stream.py"}  # of Pipeline-II; their mode is PROD if no word names another
ROOT = Path(__file__).resolve().parents[2]  # of the checkout: commands and relative paths start here
BUILT_IN = "built-in"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
# The command that starts Level-1 (ground-chain §6): the stream has the number of the downlink.
SUBMIT_CONTRACT = (
    "pipeline -m PROD createStream -S {dl} -D DOWNLINK_ID={dl} -D DOWNLINK_RAWDIR={rawdir} L1Proc"
)


def is_production(command: str | None) -> bool:
    """Tell whether a command of `Submit` reaches Level-1 in production; without one, a person runs `SUBMIT_CONTRACT`.

    A client of Pipeline-II inside another program is not recognized, unless the command names the mode PROD.
    """
    words = re.findall(r"[^\s'\"=]+", SUBMIT_CONTRACT if command is None else command)
    has_mode = any(word.startswith("-m") or word == "--mode" for word in words)
    is_client = any(Path(word).name in CLIENTS for word in words)
    return any(word.removeprefix("-m") == "PROD" for word in words) or (is_client and not has_mode)


class Check:
    """A check of a value besides its type; pydantic calls the two methods by name.

    It does not use pydantic's own classes, because importing them would double the time that a job takes to start.

    Parameters
    ----------
    read
        Converts the value before its type is checked; a ConfigError refuses the value.
    written
        The JSON schema of the value in a file; None: that of its type.
    **bounds
        ge, gt, le, min_length, max_length, pattern.
    """

    def __init__(
        self,
        read: Callable[[Any], Any] | None = None,
        written: Mapping[str, Any] | None = None,
        **bounds: float | str,
    ) -> None:
        self._read = read
        self._written = written
        self._bounds = bounds

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the schema that checks the value."""
        checked = handler(source) | self._bounds
        if self._read is None:
            return checked
        from pydantic_core import core_schema  # noqa: PLC0415 - jobs do without it

        return core_schema.no_info_before_validator_function(self._read, checked)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        """Return the schema for editors."""
        return self._written or handler(schema)


def command_with(*names: str, needed: str = "") -> Check:
    """Return the check of a command in which `names` in braces are replaced by values.

    The command must contain `needed`. If nothing is needed, it may contain any other names in braces.
    """

    def read(text: Any) -> Any:
        try:
            words = shlex.split(text) if isinstance(text, str) else []
        except ValueError as error:
            raise ConfigError(f"{text!r} cannot be split into words: {error}") from error
        found = [name for word in words for name in PLACEHOLDER.findall(word)]
        if needed and (other := [name for name in found if name not in names]):
            known = ", ".join(f"{{{name}}}" for name in names)
            raise ConfigError(f"{{{other[0]}}} is not known here; known are: {known}")
        if needed and isinstance(text, str) and needed not in found:
            raise ConfigError(f"{text!r} does not use {{{needed}}}: write it where it belongs")
        return text

    return Check(read)


def downlinks(value: Any) -> tuple[Downlinks, ...]:
    """Return the downlinks and ranges in the config's key ``dl``, a list or text; each once, in order.

    Raises
    ------
    ConfigError
        If a word is not one of these. A number that lost its leading zero is refused and not corrected, because YAML
        and ``--config`` lose the zero in different ways.
    """
    items = value if isinstance(value, list | tuple) else [] if value is None else [value]
    words = [word for item in items for word in re.split(r"[,\s]+", str(item)) if word]
    try:
        return tuple(dict.fromkeys(Downlinks(word) for word in words))
    except IdError as error:
        raise ConfigError(f"{error}. Write ids in quotes: a number loses its leading zero") from error


def _without_wildcards(value: Any) -> Any:
    if isinstance(value, str) and re.search(r"\{[^{}]*[^\w{}][^{}]*\}", value):
        raise ConfigError(f"{value!r}: Snakemake reads braces as a wildcard; use a path without braces")
    return value


def _absolute(value: Any) -> Any:
    return str(ROOT / value) if isinstance(value, str) and value else None


def _url(value: Any) -> Any:
    """Refuse a URL with a password, which logs and files would show, and text that is not a URL."""
    if not isinstance(value, str) or value == BUILT_IN:
        return value
    # A password as SQLAlchemy reads it, or among the options as drivers read it.
    if re.search(r"://[^:/]*:[^@]*@|[?&][a-z]*(password|passwd|pwd)=", value, re.IGNORECASE):
        raise ConfigError(
            "holds a password, which files and logs would show. Change the password, and put it into ~/.pgpass or "
            "another file that the URL names (?passfile=FILE); for Oracle, into a wallet."
        )
    if "://" not in value:
        raise ConfigError(
            "is not a URL. Write built-in, null, or as in postgresql+psycopg://user@host/database."
        )
    return value


Text = Annotated[str, Check(min_length=1)]
Place = Annotated[Path, Check(_absolute)]
Days = Annotated[float, Check(ge=0)]


class Section:
    """Base of all sections: unknown keys are refused; docstrings describe sections and keys (`config.model`)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Paths(Section):
    """Directories. Relative paths start at the project's root."""

    work: Annotated[Place, Check(_without_wildcards)]
    """Snakemake's working directory: receipts, chunk products and the state of runs."""
    stage: Place
    """The directory from which Level-1 takes its event files; it may be on another file system."""
    online: Place | None = None
    """Where `halfpipe online` puts complete runs for Online, <ground id>-<run>.evt; null: Online is off."""
    retdef: tuple[Place, ...] = ()
    """Search path of RetDefs, <dir>/<dl>/RetDef-<dl>-<chunk>.xml: the first match counts. Each directory must exist."""
    level0: Place | None = None
    """Root of the level-0 archive; null: the <arch> of the RetDef, translated by paths.map."""
    map: Mapping[str, Text] = field(default_factory=dict)
    """Prefixes of archive paths in RetDefs, each with its path here; the longest match counts."""


@dataclass(frozen=True)
class Level0(Section):
    """Level-0 hours that left the archive and are fetched from a copy; docs/level0.md."""

    fetch: Annotated[Text, command_with("hour", "apids", "out", needed="hour")] | None = None
    """Command that fetches an hour before the decoder starts; docs/level0.md. "{hour}" (required) is its directory in
    the archive, "{apids}" are the chunk's APIDs, separated by commas, and "{out}" is an empty directory for the files.
    null: hours stay missing."""
    seconds: Annotated[float, Check(gt=0)] = 1200.0
    """Time limit of fetch; after it, the job that needs the hour fails."""


@dataclass(frozen=True)
class Decoder(Section):
    """The program that turns the level-0 packets of a chunk into an evt file and its index."""

    command: Annotated[Text, command_with("level0")] = BUILT_IN
    """Called as <command> -r RETDEF -o OUTDIR [-k LATC]. "{level0}" is the root of the level-0 archive. "built-in": for
    simulated level-0 only."""
    latc: str | None = None
    """LATC master key for the decoder's -k, in quotes; null: no -k."""


@dataclass(frozen=True)
class RetDefs(Section):
    """When all RetDefs of a downlink are assumed to be there."""

    settle_seconds: Annotated[float, Check(ge=0)] = 60.0
    """A downlink with a RetDef younger than this is not outstanding yet, unless you name it. A downlink's RetDefs
    arrive within a few dozen seconds."""


@dataclass(frozen=True)
class Outstanding(Section):
    """Limits of a command that names no downlink."""

    max: Annotated[int, Check(ge=1)] = 100
    """If more downlinks are outstanding, none is processed, as a guard against processing the whole mission; 100 are
    about a week."""


@dataclass(frozen=True)
class Magic7(Section):
    """The program that prints attitude and orbit around a delivery."""

    command: Annotated[Text, command_with("level0")] | None = BUILT_IN
    """Called as <command> --arch A --scid S -b T0 -e T1 --lsm (Unix UTC seconds); its ATT and ORB lines are kept.
    "built-in": for simulated level-0 only; null: none."""


@dataclass(frozen=True)
class Merge(Section):
    """Which events go to Level-1, by default in files of the legacy's sizes: 125000, 112500, ... 59786, 125000."""

    max_events: int = 125000
    """Events in the first file of a series; 0 or less: no limit."""
    chunk_scale: Annotated[float, Check(gt=0, le=1)] = 0.9
    """The limit of each further file, as a fraction of that of the file before."""
    chunk_floor: Annotated[float, Check(ge=0, le=1)] = 0.5
    """When the limit has fallen to this fraction of max_events, it starts again at max_events."""
    min_events: Annotated[int, Check(ge=1)] = 2
    """Fewest events in a file. Level-1 refuses a whole run for one file with fewer than 2."""
    min_epus: Annotated[int, Check(ge=1, le=4)] = 2
    """Number of event processing units that an LPA run needs before any event is settled; two are active in flight."""
    latc_override: Annotated[int, Check(ge=0, lt=2**32 - 1)] | None = None
    """Replaces LATC_master of all LPA events: a 32-bit number, such as 5460 or 0x1554; null (the legacy's 0xFFFFFFFF):
    not replaced."""
    without_context: bool = False
    """Whether to merge a run without the events of earlier chunks that were cleaned up and whose level-0 is gone,
    instead of failing; the receipt lists these chunks."""


@dataclass(frozen=True)
class Retire(Section):
    """Runs that will never be complete, and that an operator abandons; docs/retirement.md."""

    deliver_waiting: bool = True
    """Whether the next downlink of an abandoned run delivers all known events; if false, waiting events stay
    undelivered."""
    report_days: Days = 7.0
    """Open runs older than this are reported; only an operator abandons a run."""


@dataclass(frozen=True)
class Ledger(Section):
    """The database with the state of each run, which Level-1 reads; docs/ledger.md."""

    url: Annotated[Text | None, Check(_url)] = BUILT_IN
    """SQLAlchemy URL without a password; docs/ledger.md. "built-in": an SQLite file in paths.work; null: no ledger."""
    thick: bool = False
    """Oracle only: use the Oracle client, which a wallet needs; LD_LIBRARY_PATH must contain it."""
    tns_admin: Place | None = None
    """Oracle only: directory with tnsnames.ora and sqlnet.ora, which names the wallet; null: $TNS_ADMIN."""


@dataclass(frozen=True)
class Moot(Section):
    """MOOT keys and aliases of runs."""

    file: Place | None = None
    """File with lines "r%010d key alias"; other runs get 0xFFFFFFF0 and LSEWRITER_UNSET. null: no file. In the ledger,
    the file takes precedence over the mapping."""
    update: Annotated[Text, command_with()] | None = None
    """Command for each run whose row in the ledger has changed; docs/ledger.md has the arguments. null: the MOOT
    database is not notified."""
    mapping: bool = False
    """Whether event files and texts of runs that are not in moot.file get their key and alias from the ledger's
    acquisition tables, as the ledger always does. Each merge then needs the database, and fails if the database is
    down."""


@dataclass(frozen=True)
class Submit(Section):
    """How a hand-off is submitted to Level-1; docs/submission.md.

    In the commands, "{dl}" (required) is the downlink, and "{rawdir}" is its directory in the stage.
    """

    automatic: bool = False
    """Whether a command without a target continues to the submission instead of stopping at the receipt."""
    command: Annotated[Text, command_with("dl", "rawdir", needed="dl")] | None = None
    """Creates the Level-1 stream, once for each downlink: "pipeline -m PROD createStream -S {dl} -D DOWNLINK_ID={dl} -D
    DOWNLINK_RAWDIR={rawdir} L1Proc". null: that line is shown for you to run. Simulated data are refused, unless the
    command is for a stand-in or names another mode than PROD."""
    check: Annotated[Text, command_with("dl", "rawdir", needed="dl")] | None = None
    """Checks whether Level-1 has a downlink's stream: exit status 0 yes, 1 no, any other unknown. Runs before and after
    each submission. null: you must settle an interrupted submission."""
    rollback: Annotated[Text, command_with("dl", "rawdir", needed="dl")] | None = None
    """Rolls a downlink's stream back, for a later hand-off; only `halfpipe submit --rollback` runs it. null: none."""
    seconds: Annotated[float, Check(gt=0)] = 300.0
    """Time limit of command and rollback. If the process that ran the command was killed, only after 1.2 times this
    limit can submit.check or an operator settle that no stream was created."""


@dataclass(frozen=True)
class Online(Section):
    """Which runs Online gets, and the command that notifies it; docs/online.md."""

    types: tuple[RunKind, ...] = (RunKind.LCI,)
    """Types of runs for Online; the legacy kept calibration runs (LCI) only."""
    command: (
        Annotated[Text, command_with("file", "run", "l1_run", "gid", "key", "alias", needed="file")] | None
    ) = None
    """Command for each new file; docs/online.md has an example. "{file}" (required) is the file; "{run}" and "{gid}"
    are the run and the ground id as in its name, "{l1_run}" is the run at Level-1, "{key}" and "{alias}" are its MOOT
    key and alias. null: none."""
    seconds: Annotated[float, Check(gt=0)] = 300.0
    """Time limit of the command."""


@dataclass(frozen=True)
class CleanUp(Section):
    """What `halfpipe cleanup` removes, and when."""

    retention_days: Days = 30.0
    """Days to keep the event records and indexes of a run's chunks, from the run's last hand-off. Only chunks of
    retired runs that Level-1 has taken are cleaned up, and they can be decoded again. 30 days take about 2 TB."""
    log_days: Days = 90.0
    """Logs older than this are removed."""


@dataclass(frozen=True)
class History(Section):
    """How `halfpipe process` divides many downlinks."""

    batch: Annotated[int, Check(ge=1)] = 20
    """Neighboring downlinks in one batch: one Slurm job, or one process here, that processes them one after another.
    Twenty are about an hour of work; a killed batch restarts with the downlinks that are not handed off."""


@dataclass(frozen=True)
class Lease(Section):
    """How long a killed process, or a host that is down, blocks others."""

    seconds: Annotated[float, Check(ge=1)] = 300.0
    """Seconds without a heartbeat, by the file server's clock, after which other processes may take a lease. A process
    sends thirty heartbeats in that time."""


@dataclass(frozen=True)
class Alarm(Section):
    """What unattended processing reports, and how often."""

    silence_hours: Annotated[float, Check(gt=0)] | None = 6.0
    """Alarm if no new RetDef arrives for this long; null: never."""
    late_hours: Annotated[float, Check(gt=0)] = 24.0
    """Alarm if a downlink waits longer than this for a RetDef."""
    remind_hours: Annotated[float, Check(gt=0)] = 24.0
    """While a problem lasts, the alarm is repeated at this interval."""
    command: Annotated[Text, command_with("subject")] | None = None
    """Gets the message on standard input; "{subject}" is its first line. null: the message is printed, for cron or
    systemd to mail."""


@dataclass(frozen=True)
class Board(Section):
    """Web pages with the state of the site and each downlink."""

    dir: Place | None = None
    """Directory to which each turn of unattended processing writes these pages. Use it for nothing else. null: no
    pages."""
    days: Days = 28.0
    """How far the board looks back; unfinished work and whatever needs action appear regardless of age."""
    stream: Annotated[Text, command_with("dl", needed="dl")] | None = None
    """Address of a downlink's stream in Pipeline-II, to which its page links; "{dl}" is the downlink. null: no link."""
    contacts: Mapping[Phase, Text] = field(default_factory=dict)
    """Whom to call if a phase has a problem: a name or number for RetDefs, level-0, decoded, staged, ledger,
    submitted, taken, job and site; codes.html shows them, and messages on a program that crashes twice."""


@dataclass(frozen=True)
class Settings(Section):
    """The whole configuration, with all paths absolute.

    A config file contains only what differs from the defaults.
    """

    paths: Paths
    dl: Annotated[
        tuple[Downlinks, ...], Check(downlinks, {"type": ["array", "string", "number", "null"]})
    ] = ()
    """Downlinks to process if no target is named: a list, or text with ids separated by commas or spaces. Write ids in
    quotes, nine digits each. A range (230401001..230401018), a month (2023-04) or a day (2023-04-01) means the
    downlinks that exist in it. Empty: every outstanding downlink on the RetDef search path."""
    level0: Level0 = Level0()
    reason: Annotated[str, Check(min_length=3)] | None = None
    """Why downlinks are processed again; give it on the command line: --config reason="chunk 9 came late". The receipts
    of the new hand-offs contain it, and `halfpipe diff` shows it."""
    decoder: Decoder = Decoder()
    retdef: RetDefs = RetDefs()
    outstanding: Outstanding = Outstanding()
    magic7: Magic7 = Magic7()
    merge: Merge = Merge()
    retire: Retire = Retire()
    ledger: Ledger = Ledger()
    moot: Moot = Moot()
    submit: Submit = Submit()
    online: Online = Online()
    cleanup: CleanUp = CleanUp()
    history: History = History()
    lease: Lease = Lease()
    alarm: Alarm = Alarm()
    board: Board = Board()

    @property
    def is_simulated(self) -> bool:
        """Whether the data are simulated: the built-in decoder reads no flight data."""
        return self.decoder.command == BUILT_IN

    @property
    def provenance(self) -> dict[str, Any]:
        """The part of the configuration that shapes the products, for the receipt."""
        return {
            "decoder": {"command": self.decoder.command, "latc": self.decoder.latc},
            "magic7": {"command": self.magic7.command},
            "merge": asdict(self.merge),
            "retire": {"deliver_waiting": self.retire.deliver_waiting},
            "moot": {"file": self.moot.file.name if self.moot.file else None, "mapping": self.moot.mapping},
        }

    def as_json(self) -> str:
        """Return the settings as the text of the file for jobs; equal settings give equal text."""
        return json.dumps(asdict(self), default=str, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file with the text of `as_json`.

        Raises
        ------
        ConfigError
            If the file cannot be read, or has other keys than this version.
        """
        try:
            content = path.read_bytes()
            found = msgspec.json.decode(content, type=cls, dec_hook=lambda kind, text: kind(text))
            if found.as_json().encode() != content:
                raise ValueError("it was written by another version, or changed")
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}: these settings cannot be read ({error!r}). Rerun the snakemake command, which "
                "writes them again."
            ) from error
        return found
