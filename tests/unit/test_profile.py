"""The profile and its config files are those that Snakemake uses."""

from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser, get_profile_dir, parse_config

from halfpipe.config import VARIABLE, Profile, find_profile, read_values
from halfpipe.errors import ConfigError

CONFIGFILES = [
    "a.yaml", "here.yaml", "../up.yaml", "$SITE/c.yaml", "~/x.yaml", "[a.yaml, here.yaml]", "[$SITE/c.yaml]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a new current directory, and a new directory of the user's profiles."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("SITE", "of_the_site")
    monkeypatch.setattr("snakemake.common.APPDIRS", None)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def write(path: Path, text: str = "cores: 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(name: str | None = None) -> Profile:
    profile = find_profile(name)
    assert profile is not None
    return profile


@pytest.mark.parametrize(
    "files", ["config.yaml", "profile.yaml", "profile.v9+.yaml config.yaml", "config.v9+.yaml profile.yaml"]
)
@pytest.mark.parametrize("place", ["here", "user/snakemake", "deep"])
def test_the_file_is_the_one_of_snakemake(tmp_path: Path, place: str, files: str) -> None:
    home = tmp_path / ("here/deep/er" if place == "deep" else place)
    for file in files.split():
        write(home / "site" / file)
    names = {"deep": ["deep/er/site", str(home / "site"), "deep/er/../er/site/"]}.get(place, ["site"])
    for name in [*names, *(f"{name}/{files.split(maxsplit=1)[0]}" for name in names)]:
        expected = get_profile_dir(name)
        assert expected is not None
        assert found(name).file.resolve() == expected[1].resolve()


@pytest.mark.parametrize(
    "text",
    [
        *(f"configfile: {said}" for said in (*CONFIGFILES, "no such.yaml", "3", "")),
        "configfiles: a.yaml",
        "cores: 1",
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_the_config_files_are_those_of_snakemake(elsewhere: Path, text: str, linked: bool) -> None:
    home = elsewhere / ("profiles/site" if linked else "site")
    write(home / "profile.v9+.yaml", f"{text}\n")
    if linked:
        (elsewhere / "site").symlink_to("profiles/site")
    for path in ("site/a.yaml", "site/../up.yaml", "site/of_the_site/c.yaml", "here.yaml"):
        write(elsewhere / path)
    given = get_argument_parser(profiles=["site"]).parse_args([])
    assert list(found("site").configfiles) == given.configfile


def test_single_values_of_a_profile(elsewhere: Path) -> None:
    write(elsewhere / "site/profile.yaml", "config: {dl: '012345678', outstanding: {max: 3}}\n")
    assert found("site").config == {"dl": "012345678", "outstanding": {"max": 3}}
    write(elsewhere / "site/profile.yaml", "config: [dl=230401001, 'merge={min_epus: 1}']\n")
    assert found("site").config == {"dl": 230401001, "merge": {"min_epus": 1}}
    assert found("site").config.keys() == parse_config(["dl=230401001", "merge={min_epus: 1}"]).keys()


def test_a_profile_that_cannot_be_used_is_named(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find_profile("site")
    for place in (elsewhere, tmp_path / "user/snakemake"):
        assert str(place / "site") in str(raised.value)
    assert get_profile_dir("site") is None
    for text in ("- a\n", "a: ["):
        file = write(elsewhere / "site/profile.yaml", text)
        with pytest.raises(ConfigError, match=f"^site/{file.name}: "):
            find_profile("site")


def test_values_of_the_command_line() -> None:
    said = ["dl=012345678", "merge.min_epus=1", "merge.latc_override=0x10"]
    said += ["paths={work: /w}", "moot.file=", "a=b: c: d"]
    sections = {
        "merge": {"min_epus": 1, "latc_override": 16},
        "paths": {"work": "/w"},
        "moot": {"file": None},
    }
    assert read_values(said) == sections | {"dl": "012345678", "a": "b: c: d"}
    for wrong in (["dl"], ["=3"], ["merge.=3"], ["merge=3", "merge.min_epus=1"]):
        with pytest.raises(ConfigError, match="expected KEY=VALUE"):
            read_values(wrong)
