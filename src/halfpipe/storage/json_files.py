"""JSON as the project writes it: the same value gives the same bytes."""

import json
from pathlib import Path
from typing import Any

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.storage.durable import write_text


def dump_json(value: Any) -> str:
    """Return `value` as the project writes JSON: sorted keys, one item a line, a newline at the end."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON, whole or not at all; the same value gives the same bytes."""
    write_text(path, dump_json(value))


def read_json(path: Path) -> Any:
    """Read JSON from `path`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    FormatError
        If it is not JSON; names the place.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: not JSON ({error}). Remove it, and give the same command again"
        ) from error
