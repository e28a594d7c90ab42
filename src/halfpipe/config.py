"""The configuration: found, read, held against the model of `halfpipe.settings`, and written down for jobs."""

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files.durable import write_text
from halfpipe.settings import ROOT, Settings, absolute

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
REMEDY = (
    "Name the site's profile: snakemake --profile s3df ..., halfpipe --profile s3df ..., or once for the shell "
    "export SNAKEMAKE_PROFILE=s3df. Or name its config: --configfile FILE. config/README.md has every key."
)
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "dataclass_type": "keys with values",
    "missing": "a value, and there is none",
    "string_too_short": "at least {min_length} letters",
    "too_short": "at least {min_length}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "enum": "{expected}",
}
COMMAND_LINE = "--config"


def load(
    configfiles: Sequence[Path] = (), overrides: Mapping[str, Any] | None = None, root: Path = ROOT
) -> Settings:
    """Read config files, one over the other key by key, then `overrides` over them.

    Parameters
    ----------
    configfiles
        YAML files; each holds what differs from the files before and from the defaults.
    overrides
        What ``--config`` says on the command line.
    root
        Where relative paths start.

    Raises
    ------
    ConfigError
        If nothing was given, a file cannot be read, or what they say together cannot be used. All that is
        wrong is told at once, each with its file, key, value and what was expected.
    """
    raw: dict[str, Any] = {}
    said_by: dict[tuple[str, ...], str] = {}
    for path in configfiles:
        _update(raw, _content(path), str(path), said_by)
    _update(raw, overrides or {}, COMMAND_LINE, said_by)
    if "paths" not in raw:
        which = f"no paths in {', '.join(map(str, configfiles))}" if configfiles else "no config was given"
        raise ConfigError(f"{which}, so there is no working directory to look at. {REMEDY}")
    checked = _checked(Settings, raw, said_by, "config/README.md has every key with its default.")
    settings: Settings = absolute(checked, root)
    _check_places(settings)
    return settings


def load_other(kind: type[T], path: Path, remedy: str) -> T:
    """Read a file of other settings, held against the dataclass `kind`; `remedy` ends messages.

    Raises
    ------
    ConfigError
        As `load`.
    """
    raw: dict[str, Any] = {}
    said_by: dict[tuple[str, ...], str] = {(): str(path)}
    _update(raw, _content(path), str(path), said_by)
    found: T = _checked(kind, raw, said_by, remedy)
    return found


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content or {}, Mapping):
        raise ConfigError(f"{path}: holds no keys with values, as in config/s3df.yaml")
    return content or {}


def _update(
    base: dict[str, Any],
    over: Mapping[str, Any],
    source: str,
    said_by: dict[tuple[str, ...], str],
    place: tuple[str, ...] = (),
) -> None:
    """Lay `over` over `base`, and note for each value which file says it."""
    for key, value in over.items():
        here = (*place, str(key))
        said_by[here] = source
        if isinstance(value, Mapping):
            if not isinstance(base.get(key), dict):
                base[key] = {}
            _update(base[key], value, source, said_by, here)
        else:
            base[key] = value


@cache
def model(kind: Any = Settings) -> "TypeAdapter[Any]":
    """Return the model that checks settings and describes their keys."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(kind)


def _checked(kind: Any, raw: Mapping[str, Any], said_by: Mapping[tuple[str, ...], str], remedy: str) -> Any:
    from pydantic import ValidationError  # noqa: PLC0415 - 0.1 s that only the head and people pay

    try:
        return model(kind).validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        said = "; ".join(dict.fromkeys(_said(one, said_by, kind) for one in error.errors()))
        raise ConfigError(f"the configuration cannot be used: {said}. {remedy}") from error


def _said(error: Any, said_by: Mapping[tuple[str, ...], str], kind: Any) -> str:
    """Say in words what is wrong with one key."""
    place = tuple(str(each) for each in error["loc"] if each != "[key]")
    where = next((said_by[place[:n]] for n in range(len(place), -1, -1) if place[:n] in said_by), "")
    key = ".".join(place)
    head = f"{where}: {key}" if where else key
    if error["type"] == "unexpected_keyword_argument":
        known = known_keys(place[:-1], kind)
        near = difflib.get_close_matches(place[-1], known, 1)
        meant = f"did you mean {'.'.join([*place[:-1], near[0]])}? " if near else ""
        return f"{where}: unknown key {key} ({meant}known here: {', '.join(sorted(known))})"
    value = "" if error["type"] == "missing" else f"{error['input']!r}: "
    if error["type"] == "value_error":
        return f"{head}: {error['ctx']['error']}"
    expected = EXPECTED.get(error["type"])
    if expected is None:
        return f"{head}: {value}{error['msg']}"
    return f"{head}: {value}expected {expected.format(**error.get('ctx', {}))}"


def known_keys(section: Sequence[str], kind: Any = Settings) -> list[str]:
    """Return the keys of a section of the configuration, none if there is no such section."""
    schema = model(kind).json_schema()
    part = schema
    for name in section:
        part = part.get("items", part) if name.isdecimal() else part.get("properties", {}).get(name, {})
        if "$ref" in part.get("items", {}):
            part = {"items": schema["$defs"][part["items"]["$ref"].rpartition("/")[2]]}
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return list(part.get("properties", {}))


def _check_places(settings: Settings) -> None:
    """Refuse what should be there and is not, and keys that contradict."""
    at = settings.paths
    wanted = [(path, "paths.retdef", True) for path in at.retdef]
    wanted += [(at.level0, "paths.level0", True)] if at.level0 else []
    wanted += [(settings.moot.file, "moot.file", False)] if settings.moot.file else []
    password = settings.ledger.password_file
    wanted += [(password, "ledger.password_file", False)] if password else []
    for path, key, directory in wanted:
        try:
            there = path.is_dir() if directory else path.is_file()
        except OSError:
            there = (
                key == "paths.retdef"
            )  # a place that cannot be looked at stops nobody: the plan tells of it
        if not there:
            what = "directory" if directory else "file"
            raise ConfigError(
                f"{key}: {path} is no {what}. Correct the path in the config, or have it mounted."
            )
    if settings.level0.fetch is not None and settings.level0.cache is None:
        raise ConfigError(
            "level0.fetch: it needs a cache. Name a directory that all nodes see in level0.cache."
        )
    if settings.moot.mapping and settings.ledger.url is None:
        raise ConfigError(
            "moot.mapping: is true, and ledger.url is null: keys and aliases are mapped by tables of the ledger. Set "
            "ledger.url, or moot.mapping to false."
        )


def written_at(settings: Settings) -> Path:
    """Return where settings lie for jobs: their name is that of their content."""
    name = hashlib.sha256(settings.as_json().encode()).hexdigest()[:16]
    return settings.paths.work / paths.settings(name)


def write_down(settings: Settings) -> Path:
    """Write the settings to the file that jobs are given, whole and flushed."""
    path, text = written_at(settings), settings.as_json()
    if path.is_file() and path.read_bytes() == text.encode():
        os.utime(path)  # as young as the youngest log that names it
    else:
        write_text(path, text, locked=False)  # by another invocation at the same moment, too
    return path
