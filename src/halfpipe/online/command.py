"""The command of the config that is run for each new file: words with placeholders, without a shell."""

from dataclasses import dataclass
from pathlib import Path

from halfpipe.errors import ConfigError
from halfpipe.ids import RunId
from halfpipe.moot import Moot
from halfpipe.submission.command import filled_in, placeholders

KNOWN = ("file", "run", "l1_run", "gid", "key", "alias")


@dataclass(frozen=True)
class Template:
    """A command of the config: `text`, and the `key` that it stands under.

    ``{file}`` stands for the file's absolute path, ``{run}`` and ``{gid}`` for the run and its ground id as
    they stand in the file's name, ``{l1_run}`` for the run as Level-1 names it, ``{key}`` (decimal) and
    ``{alias}`` for those of MOOT. ``python`` as the first word is the one that runs this.

    Raises
    ------
    ConfigError
        If it cannot be split into words, has another placeholder, or none for the file.
    """

    text: str
    key: str

    def __post_init__(self) -> None:
        names = placeholders(self.text, self.key)
        other = [name for name in names if name not in KNOWN]
        if other:
            known = ", ".join(f"{{{name}}}" for name in KNOWN)
            raise ConfigError(f"{self.key}: {{{other[0]}}} stands for nothing; what is filled in: {known}.")
        if "file" not in names:
            raise ConfigError(f"{self.key}: {self.text!r} names no file; write {{file}} where it belongs.")

    def words(self, file: Path, run: RunId, ground_id: int, moot: Moot) -> list[str]:
        """Return the command for the `file` of `run`."""
        stands_for = {
            "file": str(file.absolute()),
            "run": str(run),
            "l1_run": run.l1,
            "gid": f"{ground_id:08x}",
            "key": str(moot.key),
            "alias": moot.alias,
        }
        return filled_in(self.text, stands_for)
