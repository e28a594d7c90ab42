"""JSON as the project writes it: the same value gives the same bytes, and says itself whether it is whole."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from halfpipe.errors import NOTHING, FormatError, MissingInputError, Remedy
from halfpipe.files.advice import cannot_be_read, in_place_of
from halfpipe.files.durable import write_bytes
from halfpipe.files.reading import read_whole

SEAL = "sha256"
# It is the first line, so the rest of the file is what was summed up: nothing need be written to compare.
_HEAD = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def dump_json(value: Any) -> str:
    """Return `value` as the project writes JSON: sorted keys, one item a line, a newline at the end."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def sealed(value: Any) -> bytes:
    """Return an object as JSON whose first line is the SHA-256 of all other lines."""
    plain = dump_json(value).encode()
    digest = hashlib.sha256(plain).hexdigest()
    return plain.replace(b"{\n", f'{{\n "{SEAL}": "{digest}",\n'.encode(), 1)


def seal_of(content: bytes) -> str | None:
    """Return the seal of what `sealed` wrote; None if it has none, or is not what was written."""
    head = _HEAD.match(content)
    if head is None:
        return None
    summed = hashlib.sha256(b"{\n")
    summed.update(memoryview(content)[head.end() :])
    seal = head[1].decode()
    return seal if summed.hexdigest() == seal else None


def write_json(path: Path, value: Any) -> None:
    """Write an object to `path` as JSON with a seal, whole or not at all; the same value gives the same bytes."""
    write_bytes(path, sealed(value))


def read_json(path: Path, remedy: Remedy | None = None) -> Any:
    """Read JSON from `path`, without its seal.

    Parameters
    ----------
    path
        The file.
    remedy
        What is to be done if it is damaged; None: it is removed, and the same command makes it again.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If it cannot be read, is not JSON, has nothing in it, or is not what was written.
    """
    remedy = remedy or Remedy(f"rm {path}", first="To have it made again")
    try:
        content = read_whole(str(path))
        value = json.loads(content)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except OSError as error:
        raise FormatError(
            cannot_be_read(path, error), in_place_of(path, remedy) if path.is_dir() else NOTHING
        ) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error})", remedy) from error
    if value == {}:
        raise FormatError(f"{path}: nothing is in it", remedy)
    if isinstance(value, dict) and value.pop(SEAL, None) is not None and seal_of(content) is None:
        raise FormatError(f"{path}: not what was written (checksum mismatch)", remedy)
    return value
