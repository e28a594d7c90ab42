"""The configuration: defaults, what is refused and in which words, and how paths and ids are read."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from halfpipe.config import DEFAULTS, Settings, downlinks, load, resolve, schema
from halfpipe.errors import ConfigError
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.merge.deliver import Policy

ROOT = Path(__file__).parents[2]
RAW: dict[str, Any] = yaml.safe_load((ROOT / DEFAULTS).read_text())


def with_config(tmp_path: Path, **sections: Any) -> Settings:
    """Return the settings that a ``--configfile`` with `sections` gives."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sections))
    return load(ROOT, [path])


def test_defaults_are_those_of_the_design() -> None:
    settings = load(ROOT)
    assert settings.work == ROOT / "work"
    assert settings.stage == ROOT / "stage"
    assert (settings.retdef, settings.level0, settings.prefixes, settings.downlinks) == ((), None, (), ())
    assert (settings.decoder_command, settings.decoder_latc, settings.magic7_command) == (
        "built-in",
        None,
        "built-in",
    )
    assert (settings.settle_seconds, settings.outstanding_max) == (60.0, 100)
    assert settings.policy == Policy(125000, 0.9, 0.5, 2, 2)
    assert (settings.latc_override, settings.without_context, settings.moot, settings.ignored) == (
        None,
        False,
        None,
        (),
    )


def test_the_schema_explains_every_key_and_refuses_others() -> None:
    Draft202012Validator.check_schema(schema("config"))

    def compare(part: dict[str, Any], defaults: Any, place: str) -> None:
        assert part["additionalProperties"] is False, place
        assert part["properties"].keys() == defaults.keys(), place
        for key, value in part["properties"].items():
            assert value["description"].rstrip().endswith("."), f"{place}.{key}"
            if "properties" in value:
                compare(value, defaults[key], f"{place}.{key}")

    compare(schema("config"), RAW, "")


def test_a_configfile_needs_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "retdef").mkdir()
    settings = with_config(
        tmp_path,
        dl="240601001 240601002",
        paths={
            "work": "/elsewhere/work",
            "stage": "up/stage",
            "retdef": [str(tmp_path / "retdef")],
            "map": {"/nfs": "/sdf"},
        },
        merge={"min_events": 1, "latc_override": "0x10"},
        ignore={"chunks": [{"dl": "240601001", "chunk": "00003", "reason": "lost on board"}]},
    )  # fmt: skip
    assert settings.downlinks == ("240601001", "240601002")
    assert (settings.work, settings.stage) == (Path("/elsewhere/work"), ROOT / "up/stage")
    assert settings.policy == Policy(125000, 0.9, 0.5, 1, 2)
    assert settings.latc_override == 16
    assert settings.ignored == ((DownlinkId("240601001"), ChunkId("00003"), "lost on board"),)
    assert settings.decoder.archive("/nfs/level0") == "/sdf/level0"
    assert settings.that_matter["merge"] == {
        "max_events": 125000, "chunk_scale": 0.9, "chunk_floor": 0.5, "min_events": 1, "min_epus": 2,
        "latc_override": 16, "without_context": False,
    }  # fmt: skip


def test_later_files_win(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("merge: {max_events: 5, min_epus: 1}\n")
    other.write_text("merge: {max_events: 6}\n")
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert load(ROOT, [one, other, empty]).policy == Policy(6, 0.9, 0.5, 2, 1)


def ignoring(**entry: Any) -> dict[str, Any]:
    """Return a config that ignores one chunk."""
    return {"ignore": {"chunks": [entry]}}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"decodr": {}}, "unknown key decodr (known here: cleanup, decoder, dl, ignore, "),
        ({"paths": {"wrok": "x"}}, "unknown key paths.wrok (known here: level0, map, online, retdef, stage, work)"),
        ({"merge": {"max_event": 1, "minevents": 1}}, "unknown key merge.max_event, merge.minevents (known here: "),
        ({"merge": {5: 1, "x": 2}}, "unknown key merge.5, merge.x (known here: "),
        ({"merge": {"max_events": "many"}}, "merge.max_events: 'many' is not of type 'integer'"),
        ({"merge": {"max_events": True}}, "merge.max_events: True is not of type 'integer'"),
        ({"merge": {"min_events": 0}}, "merge.min_events: 0 is less than the minimum of 1"),
        ({"merge": {"chunk_scale": 0}}, "merge.chunk_scale: 0 is less than or equal to the minimum of 0"),
        ({"merge": {"min_epus": 5}}, "merge.min_epus: 5 is greater than the maximum of 4"),
        ({"merge": {"latc_override": "ten"}}, "merge.latc_override: 'ten' is no LATC key of 32 bits"),
        ({"merge": {"latc_override": -1}}, "merge.latc_override: -1 is no LATC key"),
        ({"merge": {"latc_override": "0xFFFFFFFF"}}, "the legacy's way to say that there is none, is null here"),
        ({"merge": None}, "merge: None is not of type 'object'"),
        ({"paths": {"retdef": "somewhere"}}, "paths.retdef: 'somewhere' is not of type 'array'"),
        ({"paths": {"work": ""}}, "paths.work: '' "),
        ({"decoder": {"command": None}}, "decoder.command: None is not of type 'string'"),
        ({"retdef": {"settle_seconds": -1}}, "retdef.settle_seconds: -1 is less than the minimum of 0"),
        ({"outstanding": {"max": 0}}, "outstanding.max: 0 is less than the minimum of 1"),
        (ignoring(dl="240601001", chunk="00001"), "ignore.chunks.0: 'reason' is a required property"),
        (ignoring(dl=240601001, chunk="00001", reason="gone"), "ignore.chunks.0.dl: 240601001 is not of type 'string'"),
        (ignoring(dl="240601001", chunk="1", reason="gone"), "ignore.chunks.0.chunk: '1' does not match"),
        ({"dl": True}, "dl: True is not valid"),
        ({"paths": {"retdef": ["/no/such/place"]}}, "paths.retdef: /no/such/place is no directory. Correct the path"),
        ({"paths": {"retdef": ["README.md"]}}, f"paths.retdef: {ROOT}/README.md is no directory"),
        ({"paths": {"level0": "/no/such/place"}}, "paths.level0: /no/such/place is no directory"),
        ({"moot": {"file": "/no/such/place"}}, "moot.file: /no/such/place is no file. Correct the path in the config"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_config(tmp_path, **sections)
    assert said in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        with_config(tmp_path, merge={"max_events": "x", "min_epus": "y"}, dc=1)
    said = str(caught.value)
    assert said.startswith("the configuration cannot be used: ")
    assert all(word in said for word in ("merge.max_events", "merge.min_epus", "unknown key dc"))
    assert said.endswith("config/config.yaml has every key with its default.")


@pytest.mark.parametrize("content", [b"merge: {", b"\t- x: [", b"a: \xff\n", b"- a\n- b\n", b"just words\n"])
def test_files_that_are_no_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{path}: "):
        load(ROOT, [path])
    with pytest.raises(ConfigError, match=f"^{tmp_path}/nowhere: cannot be read as YAML: .*No such file"):
        load(ROOT, [tmp_path / "nowhere"])


def test_a_program_says_so_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("stage: here\n")
    command = [sys.executable, str(ROOT / "scripts" / "check.py"), "--configfile", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the configuration cannot be used: unknown key stage")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("240601001", ("240601001",)),
        (240601001, ("240601001",)),
        (" 240601001, 090601001\n240601002 ", ("240601001", "090601001", "240601002")),
        (["240601002", "240601001", "240601002"], ("240601002", "240601001")),
        (["240601002 240601001", 240601003], ("240601002", "240601001", "240601003")),
    ],
)
def test_downlinks(value: object, found: tuple[str, ...]) -> None:
    assert downlinks(value) == found


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (77000123, ['"077000123"']),  # --config dl=077000123
        (16515155, ['"077000123"', '"016515155"']),  # YAML dl: 077000123, read as octal
        (90601001, ['"090601001"']),  # no octal number: YAML 1.1 keeps 090601001 as text
    ],
)
def test_a_lost_zero_is_refused_with_the_right_spelling(value: int, right: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        downlinks([value])
    said = str(caught.value)
    assert "A leading zero was lost because it was written as a number" in said
    assert all(spelling in said for spelling in right), said


def test_yaml_loses_a_zero_and_the_config_says_so(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("dl: [077000123]\n")
    with pytest.raises(ConfigError, match='write "077000123" or "016515155", in quotes'):
        load(ROOT, [path])


@pytest.mark.parametrize(
    "value", ["24060100", "2406010010", "24060100a", 2.4e8, True, "dl=240601001", -5, {"a": 1}]
)
def test_downlinks_that_are_none(value: object) -> None:
    with pytest.raises(ConfigError, match=r"dl: .* is not a downlink id: nine digits"):
        downlinks(value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = [(section, key) for section, keys in RAW.items() if isinstance(keys, dict) for key in keys]


@given(anything, st.sampled_from(KEYS))
def test_no_value_does_more_than_be_refused(value: Any, place: tuple[str, str]) -> None:
    raw = copy.deepcopy(RAW)
    raw[place[0]][place[1]] = value
    said = place[0]
    try:
        resolve(raw, ROOT)
    except ConfigError as error:
        said = str(error)
    assert place[0] in said
