"""The bill of materials of a release: what requirements.lock names, as CycloneDX 1.6 in JSON.

``python -m tests.support.sbom FILE`` writes it. All that stands in it comes from the lock file, so it needs no library.
The same lock file, version and ``SOURCE_DATE_EPOCH`` give the same bytes.
"""

import json
import os
import re
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import halfpipe
from tests.support.in_process import ROOT

LOCK = ROOT / "requirements.lock"
PROJECT, DEV = "halfpipe (pyproject.toml)", "halfpipe (pyproject.toml:dev)"
_PACKAGE = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)(?: ; (?P<marker>.*?))? \\\n(?P<rest>(?:^    .*\n)+)",
    re.MULTILINE,
)
_ANYTHING = re.compile(r"^\S.*", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """A package of the lock file: where it is needed, the checksums of its files, and what names it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its name for the whole world."""
        return f"pkg:pypi/{self.name}@{self.version}"


def packages(lock: str) -> list[Package]:
    """Return the packages of a lock file.

    Raises
    ------
    ValueError
        If something in it is not understood, so that none is left out.
    """
    found = [
        Package(
            match["name"],
            match["version"],
            match["marker"] or "",
            tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", match["rest"])),
            tuple(re.findall(r"^    # (?:via|  ) ?(\S.*)$", match["rest"], re.MULTILINE)),
        )
        for match in _PACKAGE.finditer(lock)
    ]
    if len(found) != len(_ANYTHING.findall(lock)) or not all(one.hashes and one.needed_by for one in found):
        raise ValueError("the lock file has another form than `make lock` gives it")
    return found


def _needed_to_run(found: Collection[Package]) -> Iterator[str]:
    """Yield the names of the packages that are needed for more than development."""
    needs: dict[str, set[str]] = {}
    for one in found:
        for other in one.needed_by:
            needs.setdefault(other, set()).add(one.name)
    seen, ahead = set[str](), [PROJECT]
    while ahead:
        for name in needs.get(ahead.pop(), set()) - seen:
            seen.add(name)
            ahead.append(name)
            yield name


def bill(lock: str, at: float) -> dict[str, Any]:
    """Return the bill of materials; `at` is its time, Unix seconds."""
    found, version = packages(lock), halfpipe.__version__
    run, root = set(_needed_to_run(found)), f"halfpipe@{version}"
    depends: dict[str, list[str]] = {root: [], **{one.purl: [] for one in found}}
    by_name: dict[str, list[str]] = {PROJECT: [root], DEV: [root]}
    for one in found:  # of some there are two versions, for different Pythons
        by_name.setdefault(one.name, []).append(one.purl)
    for one in found:
        for other in one.needed_by:
            for ref in by_name[other]:
                depends[ref].append(one.purl)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{root} {lock}')}",
        "version": 1,
        "metadata": {
            "timestamp": f"{datetime.fromtimestamp(int(at), UTC):%Y-%m-%dT%H:%M:%SZ}",
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "halfpipe",
                "version": version,
                "licenses": [{"license": {"id": "BSD-3-Clause"}}],
            },
        },
        "components": [_component(one, one.name in run) for one in found],
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in depends.items()],
    }


def _component(one: Package, runs: bool) -> Mapping[str, Any]:
    files = {
        "type": "distribution",
        "url": one.purl,
        "comment": "one of these files, as requirements.lock has them",
        "hashes": [{"alg": "SHA-256", "content": content} for content in one.hashes],
    }
    component = {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "scope": "required" if runs else "excluded",
        "purl": one.purl,
        "externalReferences": [files],
    }
    where = [{"name": "halfpipe:only-where", "value": one.marker}] if one.marker else []
    return component | ({"properties": where} if where else {})


def main(out: Path) -> None:
    """Write the bill of materials of this version."""
    content = bill(LOCK.read_text(), float(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")
    scopes = [one["scope"] for one in content["components"]]
    print(f"{out}: {scopes.count('required')} packages to run, {scopes.count('excluded')} for development")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
