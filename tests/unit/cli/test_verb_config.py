"""`halfpipe config`: the configuration in effect, and the schema of config files."""

import json

import yaml

from halfpipe.cli.config import schema
from halfpipe.config import load, model
from tests.support.in_process import ROOT
from tests.support.verbs import halfpipe
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
