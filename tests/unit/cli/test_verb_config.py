"""`halfpipe config`: the configuration in effect, and the schema of config files."""

import hashlib
import json
from typing import Any

import click
import pytest
import yaml
from jsonschema import ValidationError

from halfpipe.causes import PHASES, Phase, Verdict
from halfpipe.cli.config import schema
from halfpipe.cli.main import command
from halfpipe.config import load, model
from halfpipe.version import DOCUMENTS
from tests.support.in_process import ROOT
from tests.support.verbs import check_document, halfpipe
from tests.support.workflow import Site


def test_what_is_in_effect_is_a_config_itself(own: Site) -> None:
    ended = own.halfpipe("config", "--config", "merge.min_epus=3").good()
    found = yaml.safe_load(ended.out)
    assert next(iter(found)) == "paths", "in the order of the model"
    assert found["merge"]["min_epus"] == 3
    assert found["submit"]["automatic"] is False
    assert found == own.told("config", "--config", "merge.min_epus=3")
    (own.home / "again.yaml").write_text(ended.out)
    assert load([own.home / "again.yaml"]) == load([own.configfile], {"merge": {"min_epus": 3}})


def test_the_schema_takes_the_site_s_config_and_no_other_keys() -> None:
    told = halfpipe("config", "--schema")
    found = json.loads(told.stdout)
    assert (told.exit_code, told.stderr, found) == (0, "", json.loads(json.dumps(schema())))
    given = yaml.safe_load((ROOT / "config" / "s3df.yaml").read_text())
    for section, content in given.items():
        known = found["$defs"][found["properties"][section]["$ref"].rpartition("/")[2]]
        assert content.keys() <= known["properties"].keys()
        assert known["additionalProperties"] is False
        assert section != "paths" or "required" not in known, "a file holds what differs"
    assert found["additionalProperties"] is False
    assert "required" not in found
    assert "required" in model(described=True).json_schema(), "the model itself is not changed"


def schemas(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(halfpipe("config", "--schema", name).stdout)
    return found


def test_each_document_has_a_schema_with_the_version() -> None:
    told = schemas("status")
    assert told["$ref"] == "#/$defs/status"
    documents = {
        name: each for name, each in told["$defs"].items() if "version" in each.get("properties", {})
    }
    assert {json.dumps(each["properties"]["version"]) for each in documents.values()} == {
        f'{{"const": {DOCUMENTS}}}'
    }
    context = click.Context(command)
    for name in command.list_commands(context):
        verb = command.get_command(context, name)
        assert verb is not None
        if name != "config" and any("--format" in option.opts for option in verb.params):
            assert any(each.partition("-")[0] == name for each in documents), name
    assert told["$defs"]["Phase"]["enum"] == [*PHASES, Phase.JOB, Phase.SITE]
    assert told["$defs"]["Verdict"]["enum"] == [*Verdict]
    assert halfpipe("config", "--schema", "nothing").exit_code == 2


def test_a_schema_that_changes_needs_a_new_version() -> None:
    own = json.loads((ROOT / "src" / "halfpipe" / "cli" / "documents.json").read_bytes())
    defined = json.dumps(own["$defs"], sort_keys=True)
    sums = {3: "8d638712681d3400"}
    assert hashlib.sha256(defined.encode()).hexdigest()[:16] == sums[DOCUMENTS], (
        "a new optional key: only a new sum; a key that goes or means something else: raise DOCUMENTS, too"
    )


@pytest.mark.parametrize("wrong", [{"more": 1}, {"version": 0}, {"downlinks": [{}]}])
def test_a_document_of_another_form_is_refused(wrong: dict[str, Any]) -> None:
    good = {"version": DOCUMENTS, "work": "", "simulated": True, "at": "", "downlinks": [], "site": []}
    check_document(["status"], json.dumps(good))
    with pytest.raises(ValidationError):
        check_document(["status"], json.dumps(good | wrong))
