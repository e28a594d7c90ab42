"""The configuration: find and read its files and the profile, check them, and write the settings for jobs."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import yaml

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files.advice import sentence
from halfpipe.files.durable import write_text
from halfpipe.files.json_files import Json
from halfpipe.settings import Section, Settings

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

VARIABLE = "SNAKEMAKE_PROFILE"
PROFILE_FILES = ("", "profile.v9+.yaml", "config.v9+.yaml", "profile.yaml", "config.yaml")


@dataclass(frozen=True)
class Profile:
    """A profile of Snakemake: its given name, its file, the config files and values in it, and its whole content."""

    name: str
    file: Path
    configfiles: tuple[Path, ...]
    config: Mapping[str, Json]
    content: Mapping[str, Json]


def snakemake_profiles() -> Path:
    """Return the directory of the user's profiles, as Snakemake has it."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "snakemake")


def find_profile(given: str | None = None) -> Profile | None:
    """Find and read the profile `given`, or the one in the environment; None without either.

    Snakemake has such a function, but importing it takes a second.

    Parameters
    ----------
    given
        A name, a directory or a file, as for ``snakemake --profile``; "none": no profile.

    Raises
    ------
    ConfigError
        If the profile does not exist or cannot be read.
    """
    name = given or os.environ.get(VARIABLE)
    if not name or name == "none":
        return None
    places = [Path(name), snakemake_profiles() / name]
    file = next(
        (place / each for place in places for each in PROFILE_FILES if (place / each).is_file()), None
    )
    if file is None:
        raise ConfigError(
            f"there is no profile {name!r}: none of {', '.join(PROFILE_FILES[1:])} in {places[0].absolute()} or "
            f"{places[1]}. Profile names are looked up relative to the current directory: go to the project's root, or "
            "give the whole path (--profile DIRECTORY, or SNAKEMAKE_PROFILE)."
        )
    content = read_yaml(file)
    named = content.get("configfile") or content.get("configfiles") or []
    values = content.get("config") or {}
    if not isinstance(named, list):  # a single one may be relative to the profile's directory
        path = os.path.expanduser(os.path.expandvars(str(named)))  # noqa: PTH111 - as Snakemake does
        named = [file.parent / path if (file.parent / path).exists() else path]
    values = values if isinstance(values, Mapping) else read_values(map(str, values))
    return Profile(name, file, tuple(Path(str(each)) for each in named), values, content)


def read_values(entries: Iterable[str]) -> dict[str, Json]:
    """Read entries ``KEY=VALUE`` of ``--config``. The value is YAML; a dot in the key separates section and key.

    Raises
    ------
    ConfigError
        If an entry has another form.
    """
    values: dict[str, Json] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if not equals or not last or not isinstance(place, dict):
            raise ConfigError(f"--config {entry}: expected KEY=VALUE, as in --config merge.min_epus=1")
        place[last] = value
    return values


def load(
    configfiles: Sequence[Path] = (), overrides: Mapping[str, Json] | None = None, *, only_look: bool = False
) -> Settings:
    """Read config files; later ones override earlier ones key by key, and `overrides` override all files.

    Parameters
    ----------
    configfiles
        YAML files; each contains what differs from the defaults and from earlier files.
    overrides
        The values of ``--config``.
    only_look
        Whether missing places are accepted: see `missing_places`.

    Raises
    ------
    ConfigError
        If there is no config, a file cannot be read, or the values are invalid. The message names all invalid values
        at once, each with its file, key, value and the expected form.
    """
    raw: dict[str, Json] = {}
    sources: dict[tuple[str, ...], str] = {}
    for path in configfiles:
        _update(raw, read_yaml(path), str(path), sources)
    _update(raw, overrides or {}, "--config", sources)
    if "paths" not in raw:
        which = f"no paths in {', '.join(map(str, configfiles))}" if configfiles else "no config was given"
        raise ConfigError(
            f"{which}, so the working directory is unknown. Name the site's profile: snakemake --profile s3df ..., "
            "halfpipe --profile s3df ..., or once for the shell export SNAKEMAKE_PROFILE=s3df. Or name its config: "
            "--configfile FILE. halfpipe config --schema describes every key."
        )
    settings: Settings = checked(Settings, raw, sources, "halfpipe config --schema describes every key.")
    if settings.moot.mapping and settings.ledger.url is None:
        raise ConfigError(
            "moot.mapping is true, but ledger.url is null, and the ledger's tables map keys and aliases. Set "
            "ledger.url, or set moot.mapping to false."
        )
    if not only_look:
        refuse_missing_places(settings)
    return settings


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a repeated key is an error. PyYAML silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                why = f"{key.value} occurs twice; put all its values under one {key.value}"
                raise yaml.MarkedYAMLError(problem=why, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Mapping[str, Json]:
    """Read a YAML file that contains a mapping.

    Raises
    ------
    ConfigError
        If the file cannot be read, or contains something else.
    """
    try:
        content = yaml.load(path.absolute().read_text(), _Loader) or {}  # noqa: S506 - a safe loader
    except OSError as error:
        raise ConfigError(sentence(error)) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected a YAML mapping, as in config/s3df.yaml")
    return content


def _update(
    base: dict[str, Json],
    over: Mapping[str, Json],
    source: str,
    sources: dict[tuple[str, ...], str],
    place: tuple[str, ...] = (),
) -> None:
    """Put the values of `over` into `base`, and note their sources."""
    for key, value in over.items():
        here = (*place, str(key))
        sources[here] = source
        if isinstance(value, Mapping):
            if not isinstance(base.get(key), dict):
                base[key] = {}
            _update(base[key], value, source, sources, here)
        else:
            base[key] = value


@cache
def model(kind: Any = Settings, *, described: bool = False) -> "TypeAdapter[Any]":
    """Return the model that checks settings; if `described`, it also has the description of each key."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - 0.1 s that only the head and people pay

    # For descriptions, pydantic parses the module once for each section: slower than everything else here.
    Section.__pydantic_config__["use_attribute_docstrings"] = described
    return TypeAdapter(kind)


def checked(kind: Any, raw: Mapping[str, Json], sources: Mapping[tuple[str, ...], str], remedy: str) -> Any:
    """Check keys and values against the dataclass `kind`.

    Parameters
    ----------
    kind, raw
        The dataclass, and the values.
    sources
        The source of each key or section.
    remedy
        The end of an error message.

    Raises
    ------
    ConfigError
        With all invalid values, each with its file, key, value and the expected form.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        return model(kind).validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        problems = dict.fromkeys(_in_words(one, sources) for one in error.errors())
        raise ConfigError(f"the configuration cannot be used: {'; '.join(problems)}. {remedy}") from error


def _in_words(error: "ErrorDetails", sources: Mapping[tuple[str, ...], str]) -> str:
    """Return a message about what is wrong with one key."""
    place = tuple(str(each) for each in error["loc"] if each != "[key]")
    source = next((sources[place[:n]] for n in range(len(place), -1, -1) if place[:n] in sources), "")
    key = ".".join(place)
    kind = error["type"]
    if kind == "unexpected_keyword_argument":
        return f"{source}: unknown key {key}{_meant(place)}"
    head = f"{source}: {key}" if source else key
    expected = str(error["msg"]).removeprefix("Value error, ").removesuffix(".")
    if kind in {"missing", "value_error"}:  # without the value, which may hold a password
        return f"{head}: {expected}"
    return f"{head}: {error['input']!r}: {expected}"


def _keys(kind: type, section: str = "") -> Iterator[str]:
    """Yield all keys of a dataclass and of its sections, such as ``merge.min_epus``."""
    for key in fields(kind) if is_dataclass(kind) else ():
        of = get_type_hints(kind)[key.name]
        yield section + key.name
        for each in (of, *get_args(of)):  # also the keys of list entries
            yield from _keys(each, f"{section}{key.name}.")


def _meant(place: tuple[str, ...]) -> str:
    """Suggest a key for an unknown one: one that is spelled alike, or has the same name in another section."""
    keys = list(_keys(Settings))
    key = ".".join(each for each in place if not each.isdecimal())
    same = [each for each in keys if each.rpartition(".")[2] == place[-1]]
    found = get_close_matches(key, keys, 1, 0.8) or same
    return f"; you probably meant {found[0]}" if found else ""


def missing_places(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the keys of missing places of other systems, each with a message."""
    at = settings.paths
    wanted = [("paths.retdef", "directory", path) for path in at.retdef]
    wanted += [("paths.level0", "directory", at.level0)] if at.level0 else []
    wanted += [("moot.file", "file", settings.moot.file)] if settings.moot.file else []
    for key, what, path in wanted:
        try:
            there = path.is_dir() if what == "directory" else path.is_file()
        except OSError:
            # The plan reports a directory that cannot be read.
            there = key == "paths.retdef"
        if not there:
            yield key, f"{key}: {path} is not a {what}"


def refuse_missing_places(settings: Settings) -> None:
    """Make sure that the places of other systems exist.

    Raises
    ------
    ConfigError
        For the first missing place.
    """
    for _, wrong in missing_places(settings):
        raise ConfigError(f"{wrong}. Correct the path in the config, or have it mounted.")


def written_at(settings: Settings) -> Path:
    """Return the path of the file with these settings for jobs; its name has their checksum."""
    name = hashlib.sha256(settings.as_json().encode()).hexdigest()[:16]
    return settings.paths.work / paths.settings(name)


def write_down(settings: Settings) -> Path:
    """Write the settings to the file for jobs, unless it exists."""
    path = written_at(settings)
    text = settings.as_json()
    if path.is_file() and path.read_bytes() == text.encode():
        os.utime(path)  # the caller reads the file server's time from it
    else:
        write_text(path, text, locked=False)  # another command may do the same at this moment
    return path
