"""The profile that Snakemake would take, and the configuration that it names.

This finds what `snakemake.cli.get_profile_dir` and `snakemake.profiles` of Snakemake 9.27 find, without their
import, which takes a second. `profiles/default`, which Snakemake takes besides, names no configuration.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from halfpipe.errors import ConfigError

VARIABLE = "SNAKEMAKE_PROFILE"
NONE = "none"  # no profile, whatever the variable says
MAJOR = 9  # of Snakemake: a profile may ask for a version
FILE = re.compile(r"(?:profile|config)(?:\.v(?P<major>[0-9]+)\+)?\.yaml")


@dataclass(frozen=True)
class Profile:
    """A profile: its name as it was given, its file, and the config files and values that it names."""

    name: str
    file: Path
    configfiles: tuple[Path, ...]
    config: Mapping[str, Any]


def find(given: str | None = None) -> Profile | None:
    """Find and read the profile `given`, or else the one that the environment names; None if there is neither.

    Parameters
    ----------
    given
        A name, a directory or a file, as after ``snakemake --profile``; "none" for none.

    Raises
    ------
    ConfigError
        If there is no such profile, or it cannot be read.
    """
    name = given or os.environ.get(VARIABLE)
    if not name or name == NONE:
        return None
    file = _file(name)
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: this profile cannot be read as YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file}: this profile holds no keys with values, as in profiles/s3df")
    # Of two spellings of one option Snakemake takes the last.
    named = [value for key, value in content.items() if key in {"configfile", "configfiles"} and value]
    return Profile(
        name, file, _paths(named[-1] if named else [], file.parent), _values(content.get("config"))
    )


def _file(name: str) -> Path:
    if Path(name).exists():
        places = [Path()]
    else:
        from platformdirs import AppDirs  # noqa: PLC0415 - for a name only

        user = AppDirs("snakemake", "snakemake")
        places = [Path(), Path(user.user_config_dir), Path(user.site_config_dir)]
    for place in places:
        found = place / name
        if found.is_file():
            return found
        if found.is_dir():
            majors = {
                found / each: int(match["major"] or 0)
                for each in os.listdir(found)  # noqa: PTH208 - of two of one version the first of this order
                if (match := FILE.fullmatch(each)) and int(match["major"] or 0) <= MAJOR
            }
            if majors:
                return max(majors, key=lambda path: majors[path])
    looked = ", ".join(str(place.absolute() / name) for place in places)
    raise ConfigError(
        f"there is no profile {name!r}: no profile.yaml in {looked}. A name counts from the current directory: "
        "go to the project's root, or give the profile's whole path (--profile DIRECTORY, or SNAKEMAKE_PROFILE)."
    )


def _paths(value: Any, home: Path) -> tuple[Path, ...]:
    """Return the config files; only a single one, no list, may be relative to the profile's directory `home`."""
    if isinstance(value, list):
        return tuple(Path(str(each)) for each in value)
    text = os.path.expanduser(os.path.expandvars(str(value)))  # noqa: PTH111 - as Snakemake does
    return (home / text if (home / text).exists() else Path(text),)


def _values(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else read_values(map(str, value or ()))


def read_values(entries: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` as after ``--config``: the value is YAML, a dot in the key leads into a section.

    Raises
    ------
    ConfigError
        If an entry is something else.
    """
    values: dict[str, Any] = {}
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
