"""The configuration: read, held against its schema, and turned into typed settings."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from halfpipe import paths
from halfpipe.decoder import BUILT_IN, Program
from halfpipe.errors import ConfigError, IdError
from halfpipe.ids import ChunkId, DownlinkId, RunKind
from halfpipe.merge.deliver import Policy
from halfpipe.online.command import Template as OnlineTemplate
from halfpipe.submission.command import Template

DEFAULTS = Path("config/config.yaml")


@dataclass(frozen=True)
class Settings:
    """The configuration with all paths absolute."""

    root: Path
    downlinks: tuple[DownlinkId, ...]
    work: Path
    stage: Path
    retdef: tuple[Path, ...]
    level0: Path | None
    prefixes: tuple[tuple[str, str], ...]
    decoder_command: str
    decoder_latc: str | None
    max_exceptions: int | None
    settle_seconds: float
    outstanding_max: int
    magic7_command: str | None
    policy: Policy
    latc_override: int | None
    without_context: bool
    deliver_orphans: bool
    report_days: float
    moot: Path | None
    moot_update: str | None
    moot_mapping: bool
    ledger_url: str | None
    ledger_password: Path | None
    ignored: tuple[tuple[DownlinkId, ChunkId, str], ...]
    retention_days: float
    log_days: float
    submit_automatic: bool
    submit_command: str | None
    submit_check: str | None
    submit_rollback: str | None
    online: Path | None
    online_types: tuple[RunKind, ...]
    online_command: OnlineTemplate | None

    @property
    def decoder(self) -> Program:
        """The decoder."""
        return Program(self.decoder_command, "simulated_decoder.py", self.root, self.level0, self.prefixes)

    @property
    def magic7(self) -> Program | None:
        """The magic-7 program, None if there is none."""
        if self.magic7_command is None:
            return None
        return Program(self.magic7_command, "simulated_magic7.py", self.root, self.level0, self.prefixes)

    @property
    def that_matter(self) -> dict[str, Any]:
        """What of the configuration shaped the products: it stands in the receipt."""
        return {
            "decoder": {"command": self.decoder_command, "latc": self.decoder_latc},
            "magic7": {"command": self.magic7_command},
            "merge": asdict(self.policy)
            | {"latc_override": self.latc_override, "without_context": self.without_context},
            "retire": {"deliver_orphans": self.deliver_orphans},
            "moot": {"file": self.moot.name if self.moot else None, "mapping": self.moot_mapping},
        }


@cache
def schema(name: str) -> dict[str, Any]:
    """Return one of the project's schemas: ``config`` or ``receipt``."""
    text = (resources.files("halfpipe") / "schemas" / f"{name}.schema.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def load(root: Path, configfiles: Iterable[Path] = ()) -> Settings:
    """Read the defaults of the project at `root`, then `configfiles` over them, key by key.

    Raises
    ------
    ConfigError
        If a file cannot be read or what they say together cannot be used.
    """
    raw: dict[str, Any] = {}
    for path in (root / DEFAULTS, *configfiles):
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(content or {}, Mapping):
            raise ConfigError(f"{path}: holds no keys with values, as in config/config.yaml")
        _update(raw, content or {})
    return resolve(raw, root)


def _update(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _update(base[key], value)
        else:
            base[key] = value


def resolve(raw: Mapping[str, Any], root: Path) -> Settings:
    """Hold a complete configuration against the schema and return it as settings.

    Parameters
    ----------
    raw
        Defaults and what was set over them.
    root
        The project's root, where relative paths start.

    Raises
    ------
    ConfigError
        If a key is unknown, a value has the wrong type or a path does not exist; names the key.
    """
    _validate(raw)
    at, merge = raw["paths"], raw["merge"]
    return Settings(
        root=root,
        downlinks=downlinks(raw["dl"]),
        work=root / at["work"],
        stage=root / at["stage"],
        retdef=tuple(_existing(root / path, "paths.retdef", "directory") for path in at["retdef"]),
        level0=None if at["level0"] is None else _existing(root / at["level0"], "paths.level0", "directory"),
        prefixes=tuple(sorted(at["map"].items())),
        decoder_command=raw["decoder"]["command"],
        decoder_latc=None if raw["decoder"]["latc"] is None else str(raw["decoder"]["latc"]),
        max_exceptions=raw["decoder"]["max_exceptions"],
        settle_seconds=float(raw["retdef"]["settle_seconds"]),
        outstanding_max=raw["outstanding"]["max"],
        magic7_command=raw["magic7"]["command"],
        policy=Policy(
            merge["max_events"],
            merge["chunk_scale"],
            merge["chunk_floor"],
            merge["min_events"],
            merge["min_epus"],
        ),
        latc_override=_latc(merge["latc_override"]),
        without_context=merge["without_context"],
        deliver_orphans=raw["retire"]["deliver_orphans"],
        report_days=float(raw["retire"]["report_days"]),
        moot=None
        if raw["moot"]["file"] is None
        else _existing(root / raw["moot"]["file"], "moot.file", "file"),
        moot_update=raw["moot"]["update"],
        moot_mapping=_mapping(raw),
        ledger_url=_ledger(raw["ledger"]["url"], root / at["work"]),
        ledger_password=None
        if raw["ledger"]["password_file"] is None
        else _existing(root / raw["ledger"]["password_file"], "ledger.password_file", "file"),
        ignored=tuple(
            (DownlinkId(entry["dl"]), ChunkId(entry["chunk"]), entry["reason"])
            for entry in raw["ignore"]["chunks"]
        ),
        retention_days=float(raw["cleanup"]["retention_days"]),
        log_days=float(raw["cleanup"]["log_days"]),
        submit_automatic=raw["submit"]["automatic"],
        submit_command=_template(raw, "command"),
        submit_check=_template(raw, "check"),
        submit_rollback=_template(raw, "rollback"),
        online=None if at["online"] is None else root / at["online"],
        online_types=tuple(RunKind(name) for name in raw["online"]["types"]),
        online_command=None
        if raw["online"]["command"] is None
        else OnlineTemplate(raw["online"]["command"], "online.command"),
    )


def _validate(raw: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.2 s that jobs need not pay

    errors = sorted(Draft202012Validator(schema("config")).iter_errors(raw), key=lambda e: list(e.path))
    if errors:
        said = "; ".join(_said(error) for error in errors)
        raise ConfigError(
            f"the configuration cannot be used: {said}. config/config.yaml has every key with its default."
        )


def _said(error: Any) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = ", ".join(sorted(error.schema.get("properties", {})))
        unknown = ", ".join(
            ".".join(filter(None, [place, str(key)]))
            for key in sorted(set(error.instance) - set(error.schema.get("properties", {})), key=str)
        )
        return f"unknown key {unknown} (known here: {known})"
    return f"{place or 'the whole'}: {error.message}"


def _existing(path: Path, key: str, what: str) -> Path:
    if not (path.is_dir() if what == "directory" else path.is_file()):
        raise ConfigError(f"{key}: {path} is no {what}. Correct the path in the config, or have it mounted.")
    return path


def _template(raw: Mapping[str, Any], key: str) -> str | None:
    text: str | None = raw["submit"][key]
    if text is not None:
        Template(text, f"submit.{key}")
    return text


def _ledger(url: str | None, work: Path) -> str | None:
    """Return the URL of the ledger; one with a password, which commands and logs would show, is refused."""
    if url is None:
        return None
    if url == BUILT_IN:
        return f"sqlite:///{work / paths.ledger()}"
    # What SQLAlchemy takes for a password, and what drivers take for one among the options.
    if re.search(r"://[^:/]*:[^@]*@|[?&][a-z]*(password|passwd|pwd)=", url, re.IGNORECASE):
        raise ConfigError(
            "ledger.url: holds a password, which would stand in command lines and logs. Put it into a file that "
            "only its owner may read, and name that in ledger.password_file; change the password."
        )
    if "://" not in url:
        raise ConfigError(
            "ledger.url: is no URL. Write built-in, null, or as in postgresql+psycopg://user@host/database."
        )
    return url


def _mapping(raw: Mapping[str, Any]) -> bool:
    wanted: bool = raw["moot"]["mapping"]
    if wanted and raw["ledger"]["url"] is None:
        raise ConfigError(
            "moot.mapping: is true, and ledger.url is null: keys and aliases are mapped by tables of the ledger. Set "
            "ledger.url, or moot.mapping to false."
        )
    return wanted


def _latc(value: str | int | None) -> int | None:
    if value is None:
        return None
    try:
        number = int(value, 0) if isinstance(value, str) else int(value)  # 16.0 is an integer to the schema
    except ValueError:
        number = -1
    if not 0 <= number < 2**32 - 1:
        raise ConfigError(
            f"merge.latc_override: {value!r} is no LATC key of 32 bits. (0xFFFFFFFF, the legacy's way to say "
            "that there is none, is null here.)"
        )
    return number


def downlinks(value: Any) -> tuple[DownlinkId, ...]:
    """Return the downlinks that ``dl`` of a config names: a list, or text; each once, in order.

    Raises
    ------
    ConfigError
        If one is not a downlink's id. A number that lost its leading zero is refused with the right
        spelling and never mended silently: YAML and ``--config`` lose it in different ways.
    """
    if value is None:
        return ()
    items: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    found: list[DownlinkId] = []
    for item in items:
        words = re.split(r"[,\s]+", item.strip()) if isinstance(item, str) else [item]
        found += [_downlink(word) for word in words if word != ""]
    return tuple(dict.fromkeys(found))


def _downlink(item: Any) -> DownlinkId:
    text = str(item)
    if not isinstance(item, bool) and DownlinkId.matches(text):
        return DownlinkId(text)
    advice = ""
    if isinstance(item, int) and 0 <= item < 10**8 and not isinstance(item, bool):
        spellings = [f'"{item:09d}"']
        if re.fullmatch(r"[0-7]{8}", f"{item:o}"):
            spellings.insert(0, f'"0{item:o}"')
        advice = (
            f". A leading zero was lost because it was written as a number: write {' or '.join(spellings)}, in "
            f"quotes, in a config file, or name it as a target: dl={spellings[0].strip(chr(34))}"
        )
    elif isinstance(item, float):
        advice = ". It was read as a number with a fraction: write it as text, in quotes"
    try:
        return DownlinkId(text)
    except IdError as error:
        raise ConfigError(f"dl: {error}{advice}.") from error
