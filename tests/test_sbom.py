"""The bill of materials of a release: all that the lock file names, with what the form demands."""

import json
import re
import tomllib
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from halfpipe import __version__
from tests.support import sbom
from tests.support.in_process import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
BILL = sbom.bill(LOCK, 1_800_000_000.7)
COMPONENTS = {one["bom-ref"]: one for one in BILL["components"]}


def names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def test_it_names_what_the_lock_file_names() -> None:
    lines = [Requirement(line.rstrip("\\ ")) for line in LOCK.splitlines() if re.match(r"\w", line)]
    locked = {(str(canonicalize_name(one.name)), str(one.specifier).removeprefix("==")) for one in lines}
    assert {(one["name"], one["version"]) for one in BILL["components"]} == locked
    assert len(COMPONENTS) == len(lines) > 100
    files = [each for one in BILL["components"] for each in one["externalReferences"][0]["hashes"]]
    assert len(files) == LOCK.count("--hash=sha256:")
    markers = [one for one in BILL["components"] if "properties" in one]
    assert len(markers) == sum(one.marker is not None for one in lines) > 0


def test_what_is_needed_to_run_is_told_from_what_is_not() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    to_run, to_develop = names(project["project"]["dependencies"]), names(project["dependency-groups"]["dev"])
    needs = {each["ref"]: set(each["dependsOn"]) for each in BILL["dependencies"]}
    assert {COMPONENTS[ref]["name"] for ref in needs[f"halfpipe@{__version__}"]} == to_run | to_develop
    scopes = {one["name"]: one["scope"] for one in BILL["components"]}
    assert {scopes[name] for name in to_run} == {"required"}
    assert {scopes[name] for name in to_develop - to_run} == {"excluded"}
    assert scopes["pydantic-core"] == "required"
    assert "pkg:pypi/pydantic-core@" in " ".join(needs[f"pkg:pypi/pydantic@{version_of('pydantic')}"])
    required = {ref for ref, one in COMPONENTS.items() if one["scope"] == "required"}
    assert all(needs[ref] <= required for ref in required)


def version_of(name: str) -> str:
    return next(str(one["version"]) for one in BILL["components"] if one["name"] == name)


def test_it_has_the_fields_of_the_form() -> None:
    assert (BILL["bomFormat"], BILL["specVersion"], BILL["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", BILL["serialNumber"])
    assert BILL["metadata"]["timestamp"] == "2027-01-15T08:00:00Z"
    about = BILL["metadata"]["component"]
    assert (about["type"], about["name"], about["version"]) == ("application", "halfpipe", __version__)
    refs = {about["bom-ref"], *COMPONENTS}
    assert {each["ref"] for each in BILL["dependencies"]} == refs
    assert {ref for each in BILL["dependencies"] for ref in each["dependsOn"]} <= refs
    for one in BILL["components"]:
        assert one["type"] == "library"
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert one["scope"] in {"required", "excluded"}
        for file in one["externalReferences"][0]["hashes"]:
            assert file["alg"] == "SHA-256"
            assert re.fullmatch(r"[0-9a-f]{64}", file["content"])
    assert json.loads(json.dumps(BILL)) == BILL == sbom.bill(LOCK, 1_800_000_000)
    assert sbom.bill(LOCK.replace("==", "==1", 1), 1_800_000_000)["serialNumber"] != BILL["serialNumber"]


@pytest.mark.parametrize("line", ["numpy>=2 \\\n", "-e .\n", "numpy==2.4.6\n"])
def test_a_lock_file_that_is_not_understood_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="another form"):
        sbom.bill(line + LOCK, 0)
