"""What `halfpipe doctor` found at the site, when it ran, and whether the site has changed since."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files.json_files import read_json, write_json
from halfpipe.settings import Settings
from halfpipe.words import count, utc

MONTH = 31 * 86400.0  # seconds
# Sections of the settings that do not describe the site: everyday decisions, and what is merged.
OF_EVERY_DAY = ("dl", "reason", "ignore", "shrink", "merge", "retire", "cleanup", "outstanding")
EXAMINE = Remedy("halfpipe doctor")


def keep(
    settings: Settings, files: Iterable[Path], findings: Iterable[Mapping[str, str]], now: float
) -> None:
    """Record what the doctor found, replacing the previous record.

    Parameters
    ----------
    settings
        The settings that were examined.
    files
        The profile and the settings of the flight programs.
    findings
        Each with `verdict` (good, problem, unknown), `code`, `seen` and `do`.
    now
        Unix time, seconds.

    Raises
    ------
    HalfPipeError
        If the record cannot be written.
    """
    site = {"settings": _of_settings(settings)} | {str(path): _of_file(path) for path in files}
    write_json(settings.paths.work / paths.EXAMINED, {"at": now, "site": site, "findings": [*findings]})


def troubles(settings: Settings, now: float) -> Iterator[Cause]:
    """Yield causes if the doctor left problems open or did not run within a month, or if the site has changed since.

    A simulated site need not be examined at all.
    """
    last: Mapping[str, Any] = {"at": 0.0, "site": {}, "findings": []}
    with suppress(HalfPipeError):
        last = read_json(settings.paths.work / paths.EXAMINED)
    open_codes = [each["code"] for each in last["findings"] if each["verdict"] == "problem"]
    if open_codes:
        named = ", ".join(dict.fromkeys(open_codes))
        text = f"the doctor left {count(len(open_codes), 'problem')} open on {utc(last['at'])}: {named}"
        yield Cause("doctor", Verdict.ACTION, text, EXAMINE, last["at"])
    now_is = {
        name: _of_settings(settings) if name == "settings" else _of_file(Path(name)) for name in last["site"]
    }
    changed = [name for name, checksum in last["site"].items() if now_is[name] != checksum]
    if not last["at"]:
        why = "" if settings.is_simulated else "no doctor has examined this site"
    elif changed:
        why = f"changed since the doctor examined the site on {utc(last['at'])}: {', '.join(changed)}"
    else:
        old = abs(now - last["at"]) > MONTH
        why = f"the doctor examined the site more than a month ago, on {utc(last['at'])}" if old else ""
    if why:
        yield Cause("doctor", Verdict.NOTE, why, EXAMINE, last["at"] or None)


def _of_settings(settings: Settings) -> str:
    kept = {key: value for key, value in asdict(settings).items() if key not in OF_EVERY_DAY}
    return hashlib.sha256(json.dumps(kept, default=str, sort_keys=True).encode()).hexdigest()


def _of_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "cannot be read"
