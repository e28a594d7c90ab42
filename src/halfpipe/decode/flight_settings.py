"""How the flight programs are called: the keys of a file such as config/flight.yaml.

The docstring below a key says what it means.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from halfpipe import config
from halfpipe.errors import ConfigError, MissingInputError
from halfpipe.settings import Check, Place, Section, Text

NO_CONTAINER = "none"
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"
PLAIN = r"/[^,:\x00-\x1f]*"  # a path as it may stand in --bind


@dataclass(frozen=True)
class Call(Section):
    """A flight program: its command and its limit."""

    program: Annotated[tuple[Annotated[str, Check(pattern=r"^[^\x00]+$")], ...], Check(min_length=1)]
    """The words of the command as it is found inside the container; the options follow them."""
    seconds: Annotated[float, Check(gt=0, le=86400)]
    """After so many seconds the program is killed with everything that it started."""
    harmless: tuple[Text, ...] = ()
    """Beginnings of lines that may stand at the end of the output and mean no fault."""


@dataclass(frozen=True)
class Flight(Section):
    """How the flight programs are called."""

    runtime: Annotated[str, Check(pattern="^(none|(.*/)?(apptainer|singularity))$")]
    """apptainer or singularity, by name or path; none: the programs are started as they are."""
    decoder: Call
    """The decoder of a chunk."""
    magic7: Call | None = None
    """The program of attitude and orbit."""
    image: Place | None = None
    """The container's image, a file or a directory."""
    binds: tuple[Annotated[str, Check(pattern=f"^{PLAIN}(:{PLAIN})?$")], ...] = ()
    """What the container sees of the machine: "source:target", or "path" for the same path on both sides. What is
    not listed does not exist inside."""
    inside: Annotated[str, Check(pattern=f"^{PLAIN}$")] | None = "/halfpipe"
    """Where the container sees the working copy; one name, so that it is the same in every message. null: the path
    that it has outside."""
    environment: Mapping[
        Annotated[str, Check(pattern="^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[str, Check(pattern=r'^[^,"\x00-\x1f]*$')],
    ] = field(default_factory=dict)
    """Variables for the programs. Of the caller's environment nothing else reaches them."""
    scratch: tuple[Text, ...] = ("LSCRATCH", "TMPDIR")
    """Where working copies lie: names of environment variables and paths; the first that is a directory in which one
    may write is taken. Without one, the machine's temporary directory."""

    @property
    def bare(self) -> bool:
        """Whether the programs are started without a container."""
        return self.runtime == NO_CONTAINER

    @property
    def bound(self) -> dict[PurePosixPath, Path]:
        """Where on this machine the paths of `binds` lie that the programs see."""
        pairs = (bind.partition(":") for bind in self.binds)
        return {PurePosixPath(target or source): Path(source) for source, _, target in pairs}

    def outside(self, path: str) -> Path | None:
        """Return where `path`, as the programs see it, lies on this machine; None if no bind leads there."""
        if self.bare:
            return Path(path)
        wanted = PurePosixPath(os.path.normpath(path))
        for target in (wanted, *wanted.parents):
            if target in self.bound:
                return self.bound[target] / wanted.relative_to(target)
        return None

    def check(self, archive: str, source: Path) -> None:
        """See that the archive is there as the programs see it.

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
            If it is not; names it and the settings file.
        """
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

    def command(self, call: Call, options: Sequence[str], source: Path, target: PurePosixPath) -> list[str]:
        """Return the whole command: runtime, binds, environment, image, program and options, word by word.

        The working copy lies in `source`, and the program sees it as `target`.
        """
        program = [*call.program, *options]
        if self.bare:
            return program
        words = [self.runtime, "exec", "--cleanenv"]
        for bind in (*self.binds, f"{source}:{target}"):
            words += ["--bind", bind]
        for name, value in self.variables(target).items():
            words += ["--env", f"{name}={value}"]
        return [*words, "--pwd", str(target), str(self.image), *program]

    def variables(self, target: PurePosixPath) -> dict[str, str]:
        """Return the environment that the programs get, temporary directory included."""
        return {**self.environment, "TMPDIR": str(target / "tmp")}

    def process_environment(self, source: Path, target: PurePosixPath) -> dict[str, str]:
        """Return the environment of the process that is started: a bare program's, or the runtime's."""
        if not self.bare:
            return {**os.environ, "TMPDIR": str(source / "tmp")}
        kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME") if name in os.environ}
        return {"PATH": BARE_PATH, **kept, **self.variables(target)}


def load(path: Path) -> Flight:
    """Read a settings file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a key or value in it cannot be used; names file, key, value and what was expected.
    """
    flight = config.load_other(Flight, path, "config/flight.yaml is an example with every key.")
    if not flight.bare and flight.image is None:
        raise ConfigError(
            f"{path}: image: {flight.runtime} needs one. Name the container's image, or set runtime: none."
        )
    return flight
