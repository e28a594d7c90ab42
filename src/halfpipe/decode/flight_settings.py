"""How the flight programs are called: the keys of a file such as config/flight.yaml.

The docstring below a key says what it means.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Self

from halfpipe import config
from halfpipe.errors import ConfigError, MissingInputError
from halfpipe.settings import Bound, Place, ReadBy, Text

NO_CONTAINER = "none"
INSIDE = PurePosixPath("/halfpipe")
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"


def _matching(pattern: str, expected: str) -> ReadBy:
    """Return what refuses text that `pattern` does not match as a whole; other values are left to their type."""

    def read(value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ConfigError(f"{value!r}: expected {expected}")
        return value

    return ReadBy(read)


@dataclass(frozen=True)
class Bind:
    """A path of this machine and where the container has it."""

    source: Path
    target: PurePosixPath

    @classmethod
    def of(cls, text: Any) -> Self:
        """Read ``source:target``, or a path that is the same on both sides.

        Raises
        ------
        ConfigError
            If it is neither.
        """
        if not re.fullmatch(r"/[^,:\x00-\x1f]*(:/[^,:\x00-\x1f]*)?", str(text)):
            raise ConfigError(f"{text!r}: expected /path or /path:/path, without commas")
        source, _, target = text.partition(":")
        return cls(Path(source), PurePosixPath(target or source))

    def __str__(self) -> str:
        """Return the value of ``--bind``."""
        return f"{self.source}:{self.target}"


@dataclass(frozen=True)
class Call:
    """A flight program: its command and its limits."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    program: Annotated[tuple[Annotated[Text, _matching(r"[^\x00]*", "a word")], ...], Bound(min_length=1)]
    """The words of the command as it is found inside the container; the options follow them."""
    seconds: Annotated[float, Bound(gt=0)]
    """After so many seconds the program is killed with everything that it started."""
    memory_mib: Annotated[int, Bound(ge=256)] | None = None
    """Address space that the program may use (RLIMIT_AS), MiB; null: no limit but Slurm's."""
    harmless: tuple[Text, ...] = ()
    """Beginnings of lines that may stand at the end of the output and mean no fault."""


@dataclass(frozen=True)
class Flight:
    """How the flight programs are called."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    runtime: Annotated[
        str,
        _matching(
            r"none|(.*/)?(apptainer|singularity)", "apptainer or singularity, by name or path, or none"
        ),
    ]
    """apptainer or singularity, by name or path; none: the programs are started as they are."""
    decoder: Call
    """The decoder of a chunk."""
    magic7: Call | None = None
    """The program of attitude and orbit."""
    image: Place | None = None
    """The container's image, a file or a directory."""
    binds: tuple[Annotated[Bind, ReadBy(Bind.of, {"type": "string"})], ...] = ()
    """What the container sees of the machine: "source:target", or "path" for the same path on both sides. What is
    not listed does not exist inside."""
    inside: Annotated[PurePosixPath, _matching(r"/[^,:\x00-\x1f]*", "an absolute path")] | None = INSIDE
    """Where the container sees the working copy; one name, so that it is the same in every message. null: the path
    that it has outside."""
    environment: Mapping[
        Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable")],
        Annotated[str, _matching(r'[^,"\x00-\x1f]*', "a value without commas, quotes and line ends")],
    ] = field(default_factory=dict)
    """Variables for the programs. Of the caller's environment nothing else reaches them."""
    scratch: tuple[Text, ...] = ("LSCRATCH", "TMPDIR")
    """Where working copies lie: names of environment variables and paths; the first that is a directory in which one
    may write is taken. Without one, the machine's temporary directory."""
    umask: Annotated[str, _matching("0?[0-7]{3}", 'octal digits in quotes, as in "0002"')] = "0002"
    """Octal text. 0002: products may be written by the group, so that a colleague can go on."""

    @property
    def bare(self) -> bool:
        """Whether the programs are started without a container."""
        return self.runtime == NO_CONTAINER

    def outside(self, path: str) -> Path | None:
        """Return where `path`, as the programs see it, lies on this machine; None if no bind leads there."""
        if self.bare:
            return Path(path)
        wanted = PurePosixPath(os.path.normpath(path))
        for bind in sorted(self.binds, key=lambda bind: -len(bind.target.parts)):
            if wanted.is_relative_to(bind.target):
                return bind.source / wanted.relative_to(bind.target)
        return None

    def check(self, archive: str, source: Path) -> None:
        """See that all is there: runtime, image, sources of binds and, as the programs see it, the archive.

        The flight programs end with 0 when they find no packets, so a missing bind would pass for a chunk
        without events.

        Parameters
        ----------
        archive
            The level-0 archive that a program is told to read.
        source
            The settings file, for messages.

        Raises
        ------
        MissingInputError
            If something is not; names it and the settings file.
        ConfigError
            If there is no image.
        """
        if not self.bare:
            self._check_container(source)
        found = self.outside(archive)
        if found is None:
            raise MissingInputError(
                f"{archive}: no bind leads to this level-0 archive, so it does not exist inside the container. "
                f"Add one to binds in {source}."
            )
        if not found.is_dir():
            raise MissingInputError(
                f"{archive}: no such level-0 archive here ({found}). Have it mounted, or correct binds in "
                f"{source}; without a container the path must exist as it is named."
            )

    def _check_container(self, source: Path) -> None:
        if shutil.which(self.runtime) is None:
            raise MissingInputError(
                f"{source}: the runtime {self.runtime} is not on this machine. Load its module, name it by "
                "its path, or run where it is installed."
            )
        if self.image is None:
            raise ConfigError(
                f"{source}: image: {self.runtime} needs one. Name the container's image, or set runtime: none."
            )
        for what, path in [("image", self.image), *(("binds", bind.source) for bind in self.binds)]:
            if not path.exists():
                raise MissingInputError(
                    f"{source}: {what}: {path} is not there. Correct the path, or have it mounted."
                )

    def command(self, call: Call, options: Sequence[str], work: Bind) -> list[str]:
        """Return the whole command: runtime, binds, environment, image, program and options, word by word.

        `work` is the working copy.
        """
        program = [*call.program, *options]
        if self.bare:
            return program
        words = [self.runtime, "exec", "--cleanenv"]
        for bind in (*self.binds, work):
            words += ["--bind", str(bind)]
        for name, value in self.variables(work).items():
            words += ["--env", f"{name}={value}"]
        return [*words, "--pwd", str(work.target), str(self.image), *program]

    def variables(self, work: Bind) -> dict[str, str]:
        """Return the environment that the programs get, temporary directory included."""
        return {**self.environment, "TMPDIR": str(work.target / "tmp")}

    def process_environment(self, work: Bind) -> dict[str, str]:
        """Return the environment of the process that is started: a bare program's, or the runtime's."""
        if not self.bare:
            return {**os.environ, "TMPDIR": str(work.source / "tmp")}
        kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME") if name in os.environ}
        return {"PATH": BARE_PATH, **kept, **self.variables(work)}


def load(path: Path) -> Flight:
    """Read a settings file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a key or value in it cannot be used; names file, key, value and what was expected.
    """
    return config.load_other(Flight, path, "config/flight.yaml is an example with every key.")
