"""`halfpipe config`: what is in effect, and what the keys of a config file are."""

import json
from pathlib import Path

import yaml

from halfpipe.cli import config_docs
from halfpipe.config import load, model
from tests.support.in_process import ROOT
from tests.support.verbs import halfpipe


def test_what_is_in_effect_is_a_config_itself(configfile: Path) -> None:
    ended = halfpipe("config", "--config", "merge.min_epus=3", configfile=configfile)
    assert ended.exit_code == 0
    found = yaml.safe_load(ended.stdout)
    assert next(iter(found)) == "paths", "in the order of the model"
    assert found["merge"]["min_epus"] == 3
    assert found["submit"]["automatic"] is False
    assert found == json.loads(
        halfpipe("config", "--config", "merge.min_epus=3", "--json", configfile=configfile).stdout
    )
    (configfile.parent / "again.yaml").write_text(ended.stdout)
    assert load([configfile.parent / "again.yaml"]) == load([configfile], {"merge": {"min_epus": 3}})


def test_the_keys_can_be_asked_for_without_a_site() -> None:
    schema = halfpipe("config", "--schema")
    assert (schema.exit_code, schema.stderr) == (0, "")
    assert json.loads(schema.stdout) == json.loads(json.dumps(config_docs.schema()))
    table = halfpipe("config", "--table")
    assert (table.exit_code, table.stdout, table.stderr) == (0, config_docs.table(), "")


def test_the_schema_takes_the_site_s_config_and_no_other_keys() -> None:
    schema = config_docs.schema()
    given = yaml.safe_load((ROOT / "config" / "s3df.yaml").read_text())
    for section, content in given.items():
        known = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]
        assert content.keys() <= known["properties"].keys()
        assert known["additionalProperties"] is False
        assert section != "paths" or "required" not in known, "a file holds what differs"
    assert schema["additionalProperties"] is False
    assert "required" not in schema
    assert "required" in model().json_schema(), "the model itself is as it was"


def test_the_table_has_every_key_once_with_type_default_and_meaning() -> None:
    whole = model().json_schema()
    keys, alone = list[str](), list[str]()
    for name, part in whole["properties"].items():
        section = whole["$defs"].get(part.get("$ref", "").rpartition("/")[2])
        keys += [f"{name}.{key}" for key in section["properties"]] if section else []
        alone += [] if section else [name]
    assert len(keys) > 30
    lines = config_docs.table().splitlines()
    rows = {
        row.split("`")[1]: [cell.strip() for cell in row.split(" | ")]
        for row in lines
        if row.startswith("| `")
    }
    assert [key for key in rows if "[]" not in key] == [*alone, *keys]
    inner = {
        "ignore.chunks": ("dl", "chunk", "reason"),
        "ignore.events": ("dl", "chunk", "events", "reason"),
        "ignore.late": ("dl", "run", "events", "reason"),
        "shrink.accept": ("dl", "run", "reason"),
    }
    assert [key for key in rows if "[]" in key] == [
        f"{of}[].{key}" for of, all_ in inner.items() for key in all_
    ]
    for row in rows.values():
        assert len(row) == 4
        assert all(row)
    assert rows["merge.min_epus"][1:3] == ["whole number, at least 1, at most 4", "`2`"]
    assert rows["merge.chunk_scale"][1] == "number, more than 0, at most 1"
    assert rows["paths.work"][2] == "none: must be given"
    assert rows["paths.map"][1:3] == ["keys with values", "`{}`"]
    assert rows["online.types"][1] == "list of LPA or LCI"
    assert rows["decoder.max_exceptions"][1:3] == ["whole number, at least 0 or null", "`null`"]
    assert "<" not in config_docs.table().replace(r"\<", ""), "Markdown takes it for HTML"
