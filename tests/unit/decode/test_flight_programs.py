"""The wrappers of the flight programs: settings, command lines, working copies, and exit status."""

import io
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe.decode.flight_programs import Call, Flight, call, load, scratch_directory, working_copy
from halfpipe.errors import ConfigError, DecoderError, MissingInputError
from scripts import flight_magic7
from tests.support.in_process import ROOT

EXAMPLE = ROOT / "config" / "flight.yaml"


def settings(tmp_path: Path, **keys: Any) -> Flight:
    path = tmp_path / "flight.yaml"
    content = {"runtime": "none", "decoder": {"program": ["/opt/get"], "seconds": 5}} | keys
    path.write_text(yaml.safe_dump(content))
    return load(path)


def test_the_example_has_every_bind_of_the_site() -> None:
    example = load(EXAMPLE)
    here = Path("/sdf/group/fermi")
    assert example.outside("/nfs/farm/g/glast/u23/x") == here / "n/u23/x"
    assert example.outside("/sdf/group/fermi/n/u23") == here / "n/u23"
    assert example.outside("/afs/slac.stanford.edu/g/glast") == here / "a"
    for elsewhere in ("/nfs/farm/g/glast/../../../etc", "/nfs/farm/g/glastly"):
        assert example.outside(elsewhere) is None


def test_bare_programs_get_the_settings_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_THE_CALLER", "x")
    bare = settings(tmp_path, environment={"LD_LIBRARY_PATH": "/isoc/lib"})
    assert bare.command(bare.decoder, ["-r", "x"], tmp_path) == ["/opt/get", "-r", "x"]
    environment = bare.process_environment(tmp_path)
    assert environment.keys() <= {"PATH", "HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH", "TMPDIR"}
    assert environment["TMPDIR"] == f"{tmp_path}/tmp"
    assert environment["LD_LIBRARY_PATH"] == "/isoc/lib"


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"runtme": "none"}, "runtme"),
        ({"runtime": "docker"}, "runtime: "),
        ({"runtime": "apptainer"}, "image: "),
        ({"binds": ["/a:/b:/c"]}, "binds.0: "),
        ({"optional_binds": ["relative"]}, "optional_binds.0: "),
        ({"inside": "relative"}, "inside: "),
        ({"environment": {"A": "x,B=y"}}, "environment.A: "),
        ({"environment": {"A B": "x"}}, "environment.A B: "),
        ({"decoder": {"program": ["a\0b"], "seconds": 1}}, "decoder.program.0: "),
        ({"decoder": {"program": ["x"], "seconds": 0}}, "decoder.seconds: "),
    ],
)
def test_settings_that_are_not_valid_name_the_key(tmp_path: Path, keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"flight.yaml: .*{re.escape(named)}"):
        settings(tmp_path, **keys)


def test_an_archive_must_be_visible_to_the_programs(tmp_path: Path) -> None:
    source = tmp_path / "flight.yaml"
    (tmp_path / "level0").mkdir()
    bound = settings(tmp_path, runtime="apptainer", image="/x.sif", binds=[f"{tmp_path}/level0:/nfs/arch"])
    for flight, good, bad in (
        (settings(tmp_path), tmp_path / "level0", "/nfs/x"),
        (bound, "/nfs/arch", "/nfs/arch/../x"),
    ):
        flight.check(str(good), source)
        with pytest.raises(MissingInputError, match=f"^{re.escape(bad)}: .* in {source}"):
            flight.check(bad, source)


def test_an_optional_bind_counts_where_its_source_exists(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    optional = [f"{tmp_path}/here:/inside", f"{tmp_path}/absent:/lscratch"]
    bound = settings(tmp_path, runtime="apptainer", image="/x.sif", binds=["/sdf"], optional_binds=optional)
    words = bound.command(bound.decoder, [], tmp_path)
    assert [words[n + 1] for n, word in enumerate(words) if word == "--bind"] == [
        "/sdf", optional[0], f"{tmp_path}:/halfpipe"
    ]  # fmt: skip
    assert [bound.outside("/inside/x"), bound.outside("/lscratch/x")] == [tmp_path / "here" / "x", None]


def test_scratch_is_the_first_writable_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ONE", str(tmp_path / "none")), ("TWO", "relative"), ("THREE", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FOUR", raising=False)
    assert scratch_directory(["FOUR", "ONE", "TWO", "THREE"]) == tmp_path
    assert scratch_directory([str(tmp_path), "ONE"]) == tmp_path
    assert scratch_directory(["FOUR"]).is_dir()


def test_working_copies_and_old_leftovers_are_removed(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    bare = settings(tmp_path, scratch=[str(scratch)])
    stale, young = (scratch / f"halfpipe-{os.getuid()}-240601001-00001-{name}" for name in ("old", "young"))
    others = scratch / f"halfpipe-{os.getuid() + 1}-240601001-00001-old"
    for path in (stale, young, others):
        (path / "out").mkdir(parents=True)
    os.utime(stale, (1, 1))

    def fail() -> None:
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
        fail()
    assert {path.name for path in scratch.iterdir()} == {others.name, young.name}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "the link is not followed"


def test_the_exit_status_is_the_one_of_the_program(tmp_path: Path) -> None:
    bare = settings(tmp_path)
    for code, status in (("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)):
        assert call(bare, Call(("sh", "-c", code), 60), [], tmp_path, out=io.BytesIO()) == status
    with pytest.raises(DecoderError, match="/no/such"):
        call(bare, Call(("/no/such",), 1), [], tmp_path, out=io.BytesIO())


@pytest.mark.parametrize("microseconds", [0, 1, 1_719_541_771_500_000, 2**32 * 1_000_000])
def test_times_for_diagret_are_utc_to_the_microsecond(microseconds: int) -> None:
    text = flight_magic7.date_time(microseconds / 1e6)
    back = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert abs(back.timestamp() * 1e6 - microseconds) < 2
    assert len(text) == len("2024-06-01 00:00:00.000000")
