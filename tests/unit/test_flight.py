"""Settings, command lines, streams and judgements of the flight programs' wrappers."""

import errno
import io
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from halfpipe import decoder, flight
from halfpipe.errors import ConfigError, DecoderError, HalfPipeError, MissingInputError
from halfpipe.files import in_the_way
from scripts import flight_magic7
from tests.workflow import ROOT

EXAMPLE = ROOT / "config" / "flight.yaml"
NOBODY = 65534


def settings(tmp_path: Path, **keys: Any) -> flight.Flight:
    """Read settings with `keys` over what is needed."""
    path = tmp_path / "flight.yaml"
    content = {"runtime": "none", "decoder": {"program": ["/opt/get"], "seconds": 5}} | keys
    path.write_text(yaml.safe_dump(content))
    return flight.load(path)


def test_the_example_validates_and_has_every_bind_of_the_site() -> None:
    example = flight.load(EXAMPLE)
    assert example.image == Path("/sdf/group/fermi/sw/containers/fermi-rhel6.sif")
    targets = {str(bind.target): str(bind.source) for bind in example.binds}
    assert (
        targets.items()
        >= {
            "/sdf": "/sdf",
            "/lscratch": "/lscratch",
            "/nfs/farm/g/glast": "/sdf/group/fermi/n",
            "/afs/slac/g/glast": "/sdf/group/fermi/a",
            "/afs/slac.stanford.edu/g/glast": "/sdf/group/fermi/a",
        }.items()
    )
    assert example.outside("/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0") == Path(
        "/sdf/group/fermi/n/u23/ISOC-flight/Archive/level0"
    )
    assert example.outside("/sdf/group/fermi/n/u23") == Path("/sdf/group/fermi/n/u23")
    assert example.outside("/nfs/farm/g/glast/../../../etc") is None
    assert example.outside("/nfs/farm/g/glastly") is None


def test_the_command_line_is_words_and_nothing_else(tmp_path: Path) -> None:
    example = flight.load(EXAMPLE)
    work = flight.WorkingCopy(tmp_path, PurePosixPath("/halfpipe"), 0)
    words = example.command(example.decoder, ["-r", "a b;c", "-k", "$(x)"], work)
    assert words[:3] == ["apptainer", "exec", "--cleanenv"]
    assert (
        words[-9:]
        == [
            "--pwd",
            "/halfpipe",
            "/sdf/group/fermi/sw/containers/fermi-rhel6.sif",
            *example.decoder.program,
            "-r",
            "a b;c",
            "-k",
            "$(x)",
        ][-9:]
    )
    pairs = list(pairwise(words))
    assert ("--bind", f"{tmp_path}:/halfpipe") in pairs
    assert ("--bind", "/sdf/group/fermi/n:/nfs/farm/g/glast") in pairs
    assert ("--env", "TMPDIR=/halfpipe/tmp") in pairs
    assert ("--env", "FMX_C_FDB=/sdf/group/fermi/ground/fmx") in pairs


def test_bare_programs_get_the_settings_environment_and_little_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_THE_CALLER", "x")
    monkeypatch.setenv("HOME", "/home/x")
    bare = settings(tmp_path, environment={"LD_LIBRARY_PATH": "/isoc/lib"})
    work = flight.WorkingCopy(tmp_path, PurePosixPath(tmp_path), 0)
    assert bare.command(bare.decoder, ["-r", "x"], work) == ["/opt/get", "-r", "x"]
    environment = bare.process_environment(work)
    assert environment.keys() <= {"PATH", "HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH", "TMPDIR"}
    assert environment["TMPDIR"] == f"{tmp_path}/tmp"
    assert environment["LD_LIBRARY_PATH"] == "/isoc/lib"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"runtme": "none"}, "'runtme' was unexpected"),
        ({"runtime": "docker"}, "runtime: 'docker' is not valid"),
        ({"binds": ["/a:/b:/c"]}, "binds.0: '/a:/b:/c' does not match"),
        ({"binds": ["/a,/b"]}, "binds.0: '/a,/b' does not match"),
        ({"binds": ["relative"]}, "binds.0: 'relative' does not match"),
        ({"environment": {"A": "x,B=y"}}, "environment.A: 'x,B=y' does not match"),
        ({"environment": {"A": "x\ny"}}, "environment.A: "),
        ({"environment": {"A B": "x"}}, "environment: 'A B' does not match"),
        ({"umask": "0999"}, "umask: '0999' does not match"),
        ({"decoder": {"program": [], "seconds": 1}}, "decoder.program: [] "),
        ({"decoder": {"program": ["x"], "seconds": 0}}, "decoder.seconds: 0 "),
        (
            {"decoder": {"program": ["x"], "seconds": 1, "memory_mib": 1}},
            "decoder.memory_mib: 1 is less than",
        ),
    ],
)
def test_settings_that_cannot_be_used_name_the_key(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"flight.yaml: cannot be used: .*{re.escape(said)}"):
        settings(tmp_path, **keys)


def test_settings_that_are_none(tmp_path: Path) -> None:
    for content in (b"", b"[1, 2", b"\xff\xfe\x00", b"- a"):
        (tmp_path / "f.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"f\.yaml: cannot be"):
            flight.load(tmp_path / "f.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        flight.load(tmp_path / "none.yaml")


def test_an_archive_that_the_program_would_not_find(tmp_path: Path) -> None:
    (tmp_path / "level0").mkdir()
    bare = settings(tmp_path)
    bare.check_archive(str(tmp_path / "level0"))
    with pytest.raises(MissingInputError, match="/nfs/x: no such level-0 archive here"):
        bare.check_archive("/nfs/x")
    bound = settings(tmp_path, runtime="apptainer", image="/i", binds=[f"{tmp_path}/level0:/nfs/arch"])
    bound.check_archive("/nfs/arch")
    with pytest.raises(MissingInputError, match=r"/nfs/arch/\.\./x: no bind leads to this level-0 archive"):
        bound.check_archive("/nfs/arch/../x")


def test_scratch_is_the_first_that_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", str(tmp_path / "none"))
    monkeypatch.setenv("TWO", "relative")
    monkeypatch.setenv("THREE", str(tmp_path))
    monkeypatch.delenv("FOUR", raising=False)
    assert flight.scratch_directory(["FOUR", "ONE", "TWO", "THREE"]) == tmp_path
    assert flight.scratch_directory([str(tmp_path), "THREE"]) == tmp_path
    assert flight.scratch_directory(["FOUR"]).is_dir()


def test_working_copies_go_also_after_an_exception(tmp_path: Path) -> None:
    bare = settings(tmp_path, scratch=[str(tmp_path / "scratch")])
    (tmp_path / "scratch").mkdir()
    stale = tmp_path / "scratch" / f"halfpipe-{os.getuid()}-240601001-00001-left"
    others = tmp_path / "scratch" / f"halfpipe-{os.getuid() + 1}-240601001-00001-left"
    for path in (stale, others):
        (path / "out").mkdir(parents=True)

    def use() -> None:
        with flight.working_copy(bare, "240601001-00001") as work:
            assert not stale.exists()
            (work.path / "tmp" / "closed").mkdir()
            (work.path / "tmp" / "closed" / "file").touch()
            (work.path / "tmp" / "closed").chmod(0)
            (work.path / "tmp" / "out").symlink_to(tmp_path)
            with flight.working_copy(bare, "240601001-00001") as other:
                assert other.path != work.path
                assert work.path.exists(), "in use"
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [others.name]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "a link is not followed"


@given(
    st.lists(st.binary(max_size=9000), max_size=12), st.lists(st.integers(1, 5000), min_size=1, max_size=9)
)
def test_lines_are_those_of_the_stream_however_it_is_cut(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"\n".join(parts)
    seen: list[bytes] = []
    lines = flight.Lines(seen.append)
    at, turn = 0, 0
    while at < len(stream):
        step = sizes[turn % len(sizes)]
        lines.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
        assert len(lines.rest) <= flight.LONGEST_LINE
    lines.finish()
    expected = [line[: flight.LONGEST_LINE] for line in stream.split(b"\n")]
    assert seen == (expected if expected[-1] else expected[:-1])


def start(
    tmp_path: Path, code: str, seconds: float = 30, memory: int | None = None
) -> tuple[flight.Ended, bytes]:
    """Run Python code as the program; return how it ended and what it printed."""
    bare = settings(tmp_path, scratch=[str(tmp_path)])
    out = io.BytesIO()
    with flight.working_copy(bare, "test") as work:
        call = flight.Call((sys.executable, "-c", code), seconds, memory)
        ended = flight.run(
            bare.command(call, [], work),
            work,
            bare.process_environment(work),
            call,
            out=out,
            errors=None,
            watch=lambda _line: None,
        )
    return ended, out.getvalue()


def test_run_tells_how_a_program_ended(tmp_path: Path) -> None:
    ended, said = start(tmp_path, "import sys; print('a'); print('b', file=sys.stderr)")
    assert (ended.status, ended.why) == (0, None)
    assert sorted(said.split()) == [b"a", b"b"]
    ended, _ = start(tmp_path, "raise SystemExit(200)")
    assert ended.status == 200
    ended, _ = start(tmp_path, "import os; os.close(1); os.close(2); import time; time.sleep(0.3)")
    assert ended.status == 0
    ended, _ = start(
        tmp_path, "import os; os.close(1); os.close(2); import time; time.sleep(60)", seconds=0.3
    )
    assert ended.status == 124
    ended, said = start(
        tmp_path, "import resource; print(resource.getrlimit(resource.RLIMIT_AS)[0])", memory=1 << 30
    )
    assert (ended.status, int(said)) == (0, 1 << 30)
    bare, call = settings(tmp_path, scratch=[str(tmp_path)]), flight.Call(("/no/such",), 1, None)
    with (
        flight.working_copy(bare, "test") as work,
        pytest.raises(DecoderError, match="/no/such: cannot be started: No such file or directory"),
    ):
        flight.run(call.program, work, {}, call, out=io.BytesIO(), errors=None, watch=lambda _line: None)
    assert not list(tmp_path.glob("halfpipe-*"))


def test_a_reader_that_is_gone_ends_the_program(tmp_path: Path) -> None:
    class Gone(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise BrokenPipeError(errno.EPIPE, "gone")

    bare = settings(tmp_path, scratch=[str(tmp_path)])
    code = f"import time\nprint('x', flush=True)\ntime.sleep(60)\n# {tmp_path}"
    call = flight.Call((sys.executable, "-c", code), 30, None)
    with flight.working_copy(bare, "test") as work, pytest.raises(BrokenPipeError):
        flight.run(call.program, work, {}, call, out=Gone(), errors=None, watch=lambda _line: None)
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout == b""


def test_products_are_judged(tmp_path: Path) -> None:
    work = flight.WorkingCopy(tmp_path, PurePosixPath("/x"), 0)
    work.out.mkdir()
    name = "0077014d-2c2e5787-0956-00001"
    watch = flight.Watch()
    watch(b"getLSEChunk: processing 0077014d-2c2e5787-0956-00001")
    assert watch.processing == {"0077014d-2c2e5787"}
    with pytest.raises(DecoderError, match="0077014d-2c2e5787: the decoder said that it processed"):
        flight.check_products(work, watch)
    watch(b"PktFile exception: bad")
    assert flight.check_products(work, watch) == [], "it said why"
    for suffix in ("evt", "idx", "core"):
        (work.out / f"{name}.{suffix}").write_bytes(b"x")
    assert [path.name for path in flight.check_products(work, flight.Watch())] == [
        f"{name}.evt",
        f"{name}.idx",
    ]
    (tmp_path / f"{name}.evt").touch()
    with pytest.raises(DecoderError, match=f"^{name}.evt: the decoder left 1 of its products in scratch"):
        flight.check_products(work, watch)
    (tmp_path / f"{name}.evt").unlink()
    (work.out / "link.idx").symlink_to("/etc/passwd")
    with pytest.raises(DecoderError, match=r"link\.idx: the decoder wrote no plain file"):
        flight.check_products(work, watch)


def test_the_watch_reads_the_same_lines_as_the_decoder_module() -> None:
    said = [
        "getLSEChunk: processing 0077014d-2c2e5787-",
        "x DFI exception",
        "PktRetriever exception: a",
        "PktFilexception",
    ]
    for line in said:
        assert bool(decoder.EXCEPTION.search(line)) == bool(flight.Watch.EXCEPTION.search(line.encode()))
        assert bool(decoder.PROCESSING.search(line)) == bool(flight.Watch.PROCESSING.search(line.encode()))


@given(st.integers(0, 2**32 * 1_000_000))
def test_times_for_diagret_are_utc_to_the_microsecond(microseconds: int) -> None:
    text = flight_magic7.date_time(microseconds / 1e6)
    back = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert abs((back - flight_magic7.EPOCH).total_seconds() * 1e6 - microseconds) < 2
    assert len(text) == len("2024-06-01 00:00:00.000000")


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user who may not write what others own."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that everybody can reach: pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_belongs_to_another_owner_is_named_with_owner_and_remedy(open_to_all: Path) -> None:
    out = open_to_all / "out"
    out.mkdir()
    product = out / "0077014d-2c2e5787-0956-00001.evt"
    product.write_bytes(b"theirs")
    owner = f"{out.owner()} (uid {out.stat().st_uid})"
    source = open_to_all / "source" / product.name
    source.parent.mkdir()
    source.write_bytes(b"new")
    out.chmod(0o555)
    try:
        with somebody_else():
            with pytest.raises(
                HalfPipeError, match="cannot be written or removed: Permission denied"
            ) as raised:
                flight.check_output_directory(out)
            assert f"{out} belongs to {owner}, mode dr-xr-xr-x" in str(raised.value)
            assert (
                "Nothing is ever given another owner here: ask the owner to remove it or to let the group write"
                in str(raised.value)
            )
            with pytest.raises(
                HalfPipeError, match=f"{re.escape(str(product))} belongs to {re.escape(owner)}"
            ):
                flight.take([source], out)
            with pytest.raises(OSError, match="denied") as denied:
                product.unlink()
            said = str(in_the_way(product, denied.value))
        assert f"{product} belongs to {owner}, mode -rw-r--r--, {out} belongs to {owner}" in said
        assert product.read_bytes() == b"theirs"
    finally:
        out.chmod(0o755)
    with pytest.raises(MissingInputError, match="is no directory"):
        flight.check_output_directory(product)
    assert "The disk is full" in str(in_the_way(product, OSError(errno.ENOSPC, "No space left on device")))
