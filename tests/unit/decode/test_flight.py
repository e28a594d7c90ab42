"""Settings, command lines and working copies of the flight programs' wrappers."""

import io
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe.decode.flight import Call, Flight, call, load, scratch_directory, working_copy
from halfpipe.errors import ConfigError, DecoderError, MissingInputError
from scripts import flight_magic7
from tests.support.in_process import ROOT

EXAMPLE = ROOT / "config" / "flight.yaml"


def settings(tmp_path: Path, **keys: Any) -> Flight:
    """Read settings with `keys` over what is needed."""
    path = tmp_path / "flight.yaml"
    content = {"runtime": "none", "decoder": {"program": ["/opt/get"], "seconds": 5}} | keys
    path.write_text(yaml.safe_dump(content))
    return load(path)


def test_the_example_validates_and_has_every_bind_of_the_site() -> None:
    example = load(EXAMPLE)
    assert example.outside("/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0") == Path(
        "/sdf/group/fermi/n/u23/ISOC-flight/Archive/level0"
    )
    for path, here in (
        ("/sdf/group/fermi/n/u23", Path("/sdf/group/fermi/n/u23")),
        ("/afs/slac.stanford.edu/g/glast", Path("/sdf/group/fermi/a")),
        ("/nfs/farm/g/glast/../../../etc", None),
        ("/nfs/farm/g/glastly", None),
    ):
        assert example.outside(path) == here


def test_bare_programs_get_the_settings_environment_and_little_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_THE_CALLER", "x")
    monkeypatch.setenv("HOME", "/home/x")
    bare = settings(tmp_path, environment={"LD_LIBRARY_PATH": "/isoc/lib"})
    assert bare.command(bare.decoder, ["-r", "x"], tmp_path) == ["/opt/get", "-r", "x"]
    environment = bare.process_environment(tmp_path)
    assert environment.keys() <= {"PATH", "HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH", "TMPDIR"}
    assert environment["TMPDIR"] == f"{tmp_path}/tmp"
    assert environment["LD_LIBRARY_PATH"] == "/isoc/lib"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"runtme": "none"}, "unknown key runtme"),
        ({"runtime": "docker"}, "runtime: "),
        ({"binds": ["/a:/b:/c"]}, "binds.0: "),
        ({"binds": ["/a", "relative"]}, "binds.1: "),
        ({"optional_binds": ["relative"]}, "optional_binds.0: "),
        ({"inside": "relative"}, "inside: "),
        ({"environment": {"A": "x,B=y"}}, "environment.A: "),
        ({"environment": {"A B": "x"}}, "environment.A B: "),
        ({"decoder": {"program": ["a\0b"], "seconds": 1}}, "decoder.program.0: "),
        ({"decoder": {"program": ["x"], "seconds": 0}}, "decoder.seconds: "),
    ],
)
def test_settings_that_cannot_be_used_name_the_key(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"flight.yaml: {re.escape(said)}"):
        settings(tmp_path, **keys)


def test_an_archive_that_the_program_would_not_find(tmp_path: Path) -> None:
    (tmp_path / "level0").mkdir()
    bare, source = settings(tmp_path), tmp_path / "flight.yaml"
    bare.check(str(tmp_path / "level0"), source)
    with pytest.raises(MissingInputError, match=f"^/nfs/x: .* in {source}"):
        bare.check("/nfs/x", source)
    (runtime := tmp_path / "apptainer").touch(0o755)
    bound = settings(
        tmp_path, runtime=str(runtime), image=str(source), binds=[f"{tmp_path}/level0:/nfs/arch"]
    )
    bound.check("/nfs/arch", source)
    with pytest.raises(MissingInputError, match=r"^/nfs/arch/\.\./x: .*no bind"):
        bound.check("/nfs/arch/../x", source)
    with pytest.raises(ConfigError, match=f"{source}: image: {runtime} needs one"):
        settings(tmp_path, runtime=str(runtime))


def test_an_optional_bind_counts_where_its_source_is(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    optional = [f"{tmp_path}/here:/inside", f"{tmp_path}/absent:/lscratch"]
    bound = settings(tmp_path, runtime="apptainer", image="/x.sif", binds=["/sdf"], optional_binds=optional)
    words = bound.command(bound.decoder, [], tmp_path)
    assert [words[n + 1] for n, word in enumerate(words) if word == "--bind"] == [
        "/sdf", optional[0], f"{tmp_path}:/halfpipe"
    ]  # fmt: skip
    assert bound.outside("/inside/x") == tmp_path / "here" / "x"
    assert bound.outside("/lscratch/x") is None


def test_scratch_is_the_first_that_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", str(tmp_path / "none"))
    monkeypatch.setenv("TWO", "relative")
    monkeypatch.setenv("THREE", str(tmp_path))
    monkeypatch.delenv("FOUR", raising=False)
    assert scratch_directory(["FOUR", "ONE", "TWO", "THREE"]) == tmp_path
    assert scratch_directory([str(tmp_path), "THREE"]) == tmp_path
    assert scratch_directory(["FOUR"]).is_dir()


def test_working_copies_go_also_after_an_exception(tmp_path: Path) -> None:
    bare = settings(tmp_path, scratch=[str(tmp_path / "scratch")])
    (tmp_path / "scratch").mkdir()
    stale = tmp_path / "scratch" / f"halfpipe-{os.getuid()}-240601001-00001-left"
    others = tmp_path / "scratch" / f"halfpipe-{os.getuid() + 1}-240601001-00001-left"
    for path in (stale, others):
        (path / "out").mkdir(parents=True)
    os.utime(stale, (1, 1))
    young = stale.with_name(f"{stale.name}-young")
    young.mkdir()

    def use() -> None:
        with working_copy(bare, "240601001-00001") as work:
            assert not stale.exists()
            (work / "tmp" / "closed").mkdir()
            (work / "tmp" / "closed" / "file").touch()
            (work / "tmp" / "closed").chmod(0)
            (work / "tmp" / "out").symlink_to(tmp_path)
            with working_copy(bare, "240601001-00001") as other:
                assert other != work
                assert work.exists(), "in use"
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert {path.name for path in (tmp_path / "scratch").iterdir()} == {others.name, young.name}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "a link is not followed"


def test_the_status_is_the_programs_and_of_one_that_is_not_there_it_is_told(tmp_path: Path) -> None:
    bare = settings(tmp_path, scratch=[str(tmp_path)])
    with working_copy(bare, "test") as work:
        for code, status in (("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)):
            assert call(bare, Call(("sh", "-c", code), 60), [], work, out=io.BytesIO()) == status
        with pytest.raises(DecoderError, match="/no/such: cannot be started"):
            call(bare, Call(("/no/such",), 1), [], work, out=io.BytesIO())


@pytest.mark.parametrize("microseconds", [0, 1, 1_719_541_771_500_000, 999_999_999_999, 2**32 * 1_000_000])
def test_times_for_diagret_are_utc_to_the_microsecond(microseconds: int) -> None:
    text = flight_magic7.date_time(microseconds / 1e6)
    back = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert abs(back.timestamp() * 1e6 - microseconds) < 2
    assert len(text) == len("2024-06-01 00:00:00.000000")
