"""JSON files of this project: the same value gives the same bytes, and a checksum detects damage."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

from halfpipe.errors import NOTHING, FormatError, MissingInputError, Remedy
from halfpipe.files.advice import cannot_be_read, in_place_of
from halfpipe.files.durable import write_bytes
from halfpipe.files.reading import read_whole

Json = Any  # a value that was read from JSON or YAML, or that can be written as JSON
SEAL = "sha256"
# The seal is the first line, so it is checked against the rest of the file without writing JSON again.
_HEAD = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def dump_json(value: object) -> str:
    """Return `value` as JSON of this project: sorted keys, one item per line, a newline at the end."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def sealed(value: object) -> bytes:
    """Return an object as JSON; its first line is the SHA-256 of all other lines."""
    plain = dump_json(value).encode()
    digest = hashlib.sha256(plain).hexdigest()
    return plain.replace(b"{\n", f'{{\n "{SEAL}": "{digest}",\n'.encode(), 1)


def seal_of(content: bytes) -> str | None:
    """Return the seal of a file of `sealed`; None if it has no seal or was changed."""
    head = _HEAD.match(content)
    if head is None:
        return None
    summed = hashlib.sha256(b"{\n")
    summed.update(memoryview(content)[head.end() :])
    seal = head[1].decode()
    return seal if summed.hexdigest() == seal else None


def without_seal(content: bytes) -> bytes:
    """Return a file of `sealed` without its seal; a file that has none is returned as it is.

    Raises
    ------
    ValueError
        If the file was changed.
    """
    head = _HEAD.match(content)
    if head is None:
        return content
    if seal_of(content) is None:
        raise ValueError("damaged (checksum mismatch)")
    return b"{\n" + content[head.end() :]


def write_json(path: Path, value: object) -> None:
    """Write an object to `path` as JSON with a seal, completely or not at all; equal values give equal bytes."""
    write_bytes(path, sealed(value))


def read_json(path: Path) -> Json:
    """Read JSON from `path`, without its seal.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If the file cannot be read, is not JSON, is empty, or does not match its checksum.
    """
    try:
        content = read_whole(str(path))
        value = json.loads(content)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except OSError as error:
        raise FormatError(
            cannot_be_read(path, error), in_place_of(path, _without(path)) if path.is_dir() else NOTHING
        ) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error})", _without(path)) from error
    has_seal = isinstance(value, dict) and value.pop(SEAL, None) is not None
    if value == {} or (has_seal and seal_of(content) is None):
        why = "damaged (checksum mismatch)" if has_seal else "empty"
        raise FormatError(f"{path}: {why}", _without(path))
    return value


def _without(path: Path) -> Remedy:
    return Remedy(shlex.join(["rm", str(path)]), first="Remove it, then rerun")
