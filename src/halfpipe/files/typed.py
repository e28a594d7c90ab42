"""JSON as objects: each kind of JSON is one class, and this is the one reader of all of them.

An unknown key, a missing key or a value of another type is an error with the file's name. So a misspelt key is never
taken for a value that is not known. A field with a default may be missing in a file.
"""

from pathlib import Path, PurePath
from types import UnionType
from typing import TypeVar

import msgspec

from halfpipe.errors import NOTHING, FormatError, Remedy
from halfpipe.files.json_files import Json, read_json, without_seal, write_json

T = TypeVar("T")


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the classes of JSON files. Ids, paths and words of an enumeration are text in the file."""


def decode(content: bytes, kind: type[T] | UnionType, path: Path | str, remedy: Remedy = NOTHING) -> T:
    """Return the content of a file as an object; a seal is checked, and is not part of the object.

    Parameters
    ----------
    content, path
        The JSON, and the file for messages.
    kind
        The class, or several that have different tags.
    remedy
        What to do about a damaged file.

    Raises
    ------
    FormatError
        If it is not JSON, does not match its seal, or is not of this class.
    """
    try:
        return msgspec.json.decode(without_seal(content), type=kind, dec_hook=_made)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: {error}", remedy) from error


def convert(values: object, kind: type[T] | UnionType, path: Path | str, remedy: Remedy = NOTHING) -> T:
    """Return values that were read as JSON, such as those of a record, as an object.

    The parameters are as for `decode`.

    Raises
    ------
    FormatError
        If they are not of this class.
    """
    try:
        return msgspec.convert(values, kind, str_keys=True, dec_hook=_made)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: {error}", remedy) from error


def values(one: msgspec.Struct) -> dict[str, Json]:
    """Return an object as values for JSON, with all its fields."""
    found: dict[str, Json] = msgspec.to_builtins(one, str_keys=True, enc_hook=_text)
    return found


def read_stored(path: Path, kind: type[T]) -> T:
    """Read a JSON file that `write_stored` wrote.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If the file cannot be read or is damaged, or as `convert`.
    """
    return convert(read_json(path), kind, path)


def write_stored(path: Path, stored: Stored) -> None:
    """Write a JSON file with a seal, completely or not at all; equal values give equal bytes."""
    write_json(path, values(stored))


def _made(kind: type, value: str) -> object:
    return kind(value)  # an id checks its form; msgspec adds the place to its error


def _text(value: object) -> str:
    if isinstance(value, str | PurePath):
        return str(value)
    raise TypeError(f"{value!r} has no form in JSON")
