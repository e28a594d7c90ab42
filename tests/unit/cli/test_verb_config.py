"""`halfpipe config`: the configuration in effect."""

import yaml

from halfpipe.config import load
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
