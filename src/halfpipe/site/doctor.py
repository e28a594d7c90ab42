"""`halfpipe doctor`: the findings of profiles/s3df/doctor.sh, and those that need the package.

The script must also run without a checkout, so it knows nothing of this package. This module passes it the settings.
"""

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise

import msgspec

from halfpipe.config import Profile, read_yaml
from halfpipe.errors import ConfigError, HalfPipeError, LedgerError
from halfpipe.files.json_files import Json
from halfpipe.settings import ROOT, Settings
from halfpipe.staging import stage_mark

SCRIPT = ROOT / "profiles" / "s3df" / "doctor.sh"
SECONDS = 60.0  # the script ends by itself within 30


class Finding(msgspec.Struct, frozen=True):
    """A finding of the script or the package: verdict (good, problem, unknown), code, what was seen, what to do."""

    verdict: str
    code: str
    seen: str
    do: str


class Printed(msgspec.Struct):
    """The part of the script's last line that is read."""

    findings: list[Finding]


def finding(verdict: str, code: str, seen: object, do: object = "") -> Finding:
    """Return a finding of the package."""
    return Finding(verdict, code, str(seen), str(do))


def site_of(settings: Settings, profile: Profile, configfiles: str) -> dict[str, Json]:
    """Return the site for the script: settings, profile, flight programs, and the names of their files."""
    words = shlex.split(settings.decoder.command)
    named = [ROOT / name for word, name in pairwise(words) if word == "--settings"]
    flight = named[0] if named else None  # the settings of the flight programs
    return {
        "config": json.loads(json.dumps(asdict(settings), default=str)),
        "profile": dict(profile.content),
        "flight": dict(read_yaml(flight)) if flight else {},
        "names": {"config": configfiles, "profile": str(profile.file), "flight": str(flight)},
    }


def of_script(site: Mapping[str, object] | None, *options: str) -> list[Finding]:
    """Run the script for a site (None: the site that its `options` name), and return its findings.

    Raises
    ------
    HalfPipeError
        If the script prints no findings.
    """
    words = ["bash", str(SCRIPT), *([] if site is None else ["--site", "-"]), *options]
    try:
        done = subprocess.run(
            words, input=json.dumps(site).encode(), capture_output=True, timeout=SECONDS, check=False
        )
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Printed).findings
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise HalfPipeError(
            f"{SCRIPT} printed no findings ({error!r}). Run it by hand: {shlex.join(words[:2])}"
        ) from error


def of_package(settings: Settings) -> Iterator[Finding]:
    """Yield the findings of the package: the marks of working directory and stage, and a query of the ledger."""
    try:
        stage_mark.refuse(settings)
        yield finding(
            "good", "state", f"{settings.paths.work} and {settings.paths.stage} belong together, or are new"
        )
    except HalfPipeError as error:
        yield finding("problem", "state", error.text, str(error.remedy) or "halfpipe status")
    if settings.ledger.url is None:
        seen = "ledger.url is null, and Level-1 fails on a run without a row"
        yield finding("problem", "ledger-driver", seen, "set ledger.url (docs/ledger.md)")
    else:
        yield _ledger(settings)


def _ledger(settings: Settings) -> Finding:
    """Run Level-1's query on the ledger, and return the finding."""
    from sqlalchemy import select  # noqa: PLC0415 - the library of the database

    from halfpipe.ledger.database import Ledger, NoLedgerError  # noqa: PLC0415
    from halfpipe.ledger.tables import RUNS  # noqa: PLC0415

    columns = [
        RUNS.c[name] for name in ("startedat", "status", "moot_key", "moot_alias", "evtutc0", "evtutc1")
    ]
    asked = select(*columns).order_by(RUNS.c.startedat.desc()).limit(1)
    try:
        ledger = Ledger.of(settings, waits=())
        row = ledger.read(lambda connection: connection.execute(asked).first())
    except NoLedgerError as error:
        return finding(
            "unknown", "ledger-driver", error, "nothing, if it is new: the first load creates its tables"
        )
    except (LedgerError, ConfigError) as error:
        return finding("problem", "ledger-driver", error.text, str(error.remedy) or "docs/ledger.md")
    last = ", ".join(map(str, row or ["none"]))
    return finding("good", "ledger-driver", f"{ledger.name} answers; its last run: {last}")


def is_ready(findings: Sequence[Finding]) -> bool:
    """Tell whether a site is ready: no problem was found, and a test message was sent to a person."""
    verdicts = [(each.code, each.verdict) for each in findings]
    return ("person", "good") in verdicts and all(verdict != "problem" for _, verdict in verdicts)
