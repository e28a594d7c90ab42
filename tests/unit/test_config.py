"""The configuration: defaults, what is refused, and how paths and ids are read."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe import config
from halfpipe.config import load
from halfpipe.errors import ConfigError
from halfpipe.ids import Downlinks, RunKind
from halfpipe.settings import ROOT, Merge, Paths, Settings, downlinks

SITE: dict[str, Any] = {"paths": {"work": "work", "stage": "stage"}}


def with_config(tmp_path: Path, **sections: Any) -> Settings:
    """Return the settings that a ``--configfile`` with `sections` gives."""
    site, path = tmp_path / "site.yaml", tmp_path / "config.yaml"
    site.write_text(yaml.safe_dump(SITE))
    path.write_text(yaml.safe_dump(sections))
    return load([site, path])


def test_defaults(tmp_path: Path) -> None:
    settings = with_config(tmp_path)
    assert settings == Settings(Paths(ROOT / "work", ROOT / "stage"))
    assert "ledger" not in str(settings.provenance), "the receipt does not contain it"


@pytest.mark.parametrize("files", [0, 1])
def test_a_forgotten_config_is_an_error_with_its_remedy(tmp_path: Path, files: int) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("merge: {min_epus: 1}\n")
    with pytest.raises(ConfigError, match="working directory is unknown") as raised:
        load([path] * files)
    assert "export SNAKEMAKE_PROFILE=s3df" in str(raised.value)
    assert ("no config was given" in str(raised.value)) == (not files)
    assert (str(path) in str(raised.value)) == bool(files)


def test_a_configfile_needs_only_what_differs(tmp_path: Path) -> None:
    settings = with_config(
        tmp_path,
        dl="240601001 240601002",
        paths={"work": "/elsewhere/work", "stage": "up/stage", "map": {"/nfs": "/sdf"}},
        merge={"min_events": 1, "latc_override": 16},
    )  # fmt: skip
    assert settings.dl == ("240601001", "240601002")
    assert (settings.paths.work, settings.paths.stage) == (Path("/elsewhere/work"), ROOT / "up/stage")
    assert settings.merge == Merge(125000, 0.9, 0.5, 1, 2, 16)
    assert settings.paths.map == {"/nfs": "/sdf"}
    assert settings.provenance["merge"] == {
        "max_events": 125000, "chunk_scale": 0.9, "chunk_floor": 0.5, "min_events": 1, "min_epus": 2,
        "latc_override": 16, "without_context": False,
    }  # fmt: skip


def test_later_files_win(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("paths: {work: w, stage: s}\nmerge: {max_events: 5, min_epus: 1}\n")
    other.write_text("merge: {max_events: 6}\n")
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert load([one, other, empty]).merge == Merge(6, 0.9, 0.5, 2, 1)
    assert load([one, other], {"merge": {"max_events": 7}}).merge.max_events == 7


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"decodr": {}}, "config.yaml: unknown key decodr"),
        ({"merge": {"max_events": "many"}}, "config.yaml: merge.max_events: 'many': "),
        ({"merge": {"min_events": 0}}, "merge.min_events: 0: "),
        ({"merge": {"min_epus": 5}}, "merge.min_epus: 5: "),
        ({"merge": {"latc_override": "ten"}}, "merge.latc_override: "),
        ({"merge": {"latc_override": 0xFFFFFFFF}}, "merge.latc_override: 4294967295: "),
        ({"merge": None}, "merge: None: "),
        ({"paths": {"retdef": "somewhere"}}, "paths.retdef: 'somewhere': "),
        ({"paths": {"work": ""}}, "paths.work: None: "),
        ({"paths": {"work": "/data/{wildcards.dl}"}}, "paths.work: '/data/{wildcards.dl}': "),
        ({"decoder": {"command": None}}, "decoder.command: None: "),
        ({"decoder": {"command": "decode 'x"}}, "cannot be split into words"),
        ({"submit": {"command": "pipeline {downlink}"}}, "submit.command: {downlink} "),
        ({"submit": {"rollback": "pipeline {stage}"}}, "submit.rollback: {stage} "),
        ({"submit": {"check": "pipeline"}}, "submit.check: 'pipeline' does not use {dl}"),
        ({"online": {"types": ["LCI", "X"]}}, "online.types.1: 'X': "),
        ({"ledger": {"url": "postgresql"}}, "ledger.url: is not a URL"),
        ({"moot": {"mapping": True}, "ledger": {"url": None}}, "moot.mapping "),
        ({"dl": True}, "dl: 'True' is not a downlink id"),
        ({"min_epus": 1}, "unknown key min_epus; you probably meant merge.min_epus"),
        ({"merge": {"min_epu": 1}}, "unknown key merge.min_epu; you probably meant merge.min_epus"),
        ({"submitt": {}}, "unknown key submitt; you probably meant submit"),
        ({"merge": {"xyz": 1}}, "unknown key merge.xyz."),
        ({"paths": {"retdef": ["/no/such/place"]}}, "paths.retdef: /no/such/place is not a directory. Correct"),
        ({"paths": {"level0": "/no/such/place"}}, "paths.level0: /no/such/place is not a directory"),
        ({"moot": {"file": "/no/such/place"}}, "moot.file: /no/such/place is not a file. Correct the path"),
    ],
)  # fmt: skip
def test_invalid_values_are_named(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_config(tmp_path, **sections)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql+psycopg://ledger:sesame@host/db", "postgresql://ledger:ses/ame?x#y@host/db"),
        *("postgresql://host/db?user=ledger&password=sesame", "postgresql://host/db?sslpassword=sesame"),
        *("oracle+oracledb://ledger:sesame@isocflight", "postgresql://:sesame@/db"),
    ],
)
def test_a_password_in_the_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"ledger\.url: holds a password") as caught:
        with_config(tmp_path, ledger={"url": url})
    assert "ses" not in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        with_config(tmp_path, merge={"max_events": "x", "min_epus": "y"}, dc=1)
    said = str(caught.value)
    assert said.startswith("the configuration cannot be used: ")
    assert all(word in said for word in ("merge.max_events", "merge.min_epus", "unknown key dc"))
    assert said.endswith("halfpipe config --schema describes every key.")


@pytest.mark.parametrize(
    "content",
    [
        *(b"merge: {", b"\t- x: [", b"a: \xff\n", b"- a\n- b\n", b"just words\n"),
        *(b"merge: {}\nmerge: {}\n", b"merge: {min_epus: 1, max_events: 5, min_epus: 1}\n"),
    ],
)
def test_files_that_are_not_a_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{path}: "):
        load([path])
    with pytest.raises(ConfigError, match=f"^{tmp_path}/nowhere: No such file"):
        load([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        *((one, ("240601001",)) for one in ("240601001", 240601001)),
        (" 240601001, 090601001\n240601002 ", ("240601001", "090601001", "240601002")),
        (["240601002", "240601001", "240601002"], ("240601002", "240601001")),
        (["240601002 240601001", 240601003], ("240601002", "240601001", "240601003")),
        ("2024-06,240601001..240601009", ("2024-06", "240601001..240601009")),
    ],
)
def test_downlinks(value: object, found: tuple[str, ...]) -> None:
    assert downlinks(value) == found


def test_a_date_in_yaml_is_a_range_of_downlinks(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("dl: [2024-06-01, 240601001..240601009, 2024-06]\n")
    assert load([path], SITE).dl == ("2024-06-01", "240601001..240601009", "2024-06")


@pytest.mark.parametrize(
    "value", ["24060100", "24060100a", 2.4e8, True, "dl=240601001", {"a": 1}, 77000123, 16515155, 90601001]
)
def test_invalid_downlinks(value: object) -> None:
    with pytest.raises(ConfigError, match="is not a downlink id: nine digits"):
        downlinks(value)


def test_jobs_read_the_checked_settings(tmp_path: Path) -> None:
    settings = with_config(
        tmp_path,
        dl=["240601001"],
        paths={
            "work": f"{tmp_path}/work",
            "map": {"/nfs": "/sdf"},
            "online": "online",
            "retdef": [f"{tmp_path}"],
        },
        merge={"latc_override": 16, "chunk_scale": 1},
        online={"types": ["LPA", "LCI"], "command": "tell {file}"},
        decoder={"latc": "17"},
    )
    path = config.write_down(settings)
    assert path == config.written_at(settings)
    assert path.parent.parent == tmp_path / "work"
    read = Settings.read(path)
    assert read == settings
    assert [type(each) for each in read.online.types] == [RunKind, RunKind]
    assert type(read.dl[0]) is Downlinks
    # Equal settings are one file; its time is that of their last use.
    os.utime(path, (0, 0))
    assert config.write_down(settings) == path
    assert path.stat().st_mtime > 0
    assert config.written_at(replace(settings, dl=())) != path
    path.write_bytes(b"\xa7")
    assert Settings.read(config.write_down(settings)) == settings


def test_damaged_settings_and_those_of_another_version_are_refused(tmp_path: Path) -> None:
    path = config.write_down(with_config(tmp_path, paths={"work": str(tmp_path)}))
    content = json.loads(path.read_text())
    without = {key: value for key, value in content.items() if key != "merge"}
    for changed in (json.dumps(content | {"new": 1}), json.dumps(without), "{", "[]", '{"paths": {}}'):
        path.write_text(changed)
        with pytest.raises(ConfigError):
            Settings.read(path)
    path.unlink()
    with pytest.raises(ConfigError):
        Settings.read(path)
