"""The magic-7 command: its window, the lines that are kept, and its failures."""

import io
import shlex
import sys
from pathlib import Path

import pytest

from halfpipe.deliver import magic7
from halfpipe.errors import DecoderError
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId
from halfpipe.settings import Magic7, Paths, Settings
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import Site

DL = DownlinkId("240601001")
SOURCE = GOLDEN / "runid_small" / "in"
RETDEF = read_retdef(SOURCE / DL / f"RetDef-{DL}-00001.xml")
LINES = [
    "2024-06-28 02:29:32.000000 ORB 741234572 0 1.0 2.0 3.0 4.0 5.0 6.0 5 0",
    "2024-06-28 02:29:32.200000 ANC 741234572 200000 1",
    "2024-06-28 02:29:32.200000 ATT 741234572 200000 0.5 0.5 0.5 0.5 0.0 0.0 0.0",
    "2024-06-28 02:29:33.000000 TT 741234573 0",
    "PktRetriever exception: a line without date",
    "2024-06-28 02:29:33.200000 ATT 741234573 200000 0.5 0.5 0.5 0.5 0.0 0.0 0.0",
]


def words(status: int = 0, lines: list[str] = LINES, end: str = "\n") -> list[str]:
    """Return a command that prints `lines` and a fault, and exits with `status`."""
    script = "import sys; sys.stdout.write(sys.argv[1]); sys.stderr.write('a fault\\n'); sys.exit(int(sys.argv[2]))"
    return [sys.executable, "-c", script, "\n".join(lines) + end, str(status)]


def written(command: list[str], tmp_path: Path) -> tuple[list[str], int]:
    out = io.BytesIO()
    with (tmp_path / "log").open("w") as log:
        count = magic7.write(command, out, log)
    return out.getvalue().decode().splitlines(), count


def test_the_window_is_6000_seconds_wider_than_the_delivery() -> None:
    at = Paths(work=Path("/work"), stage=Path("/stage"), map={"/nfs": "/sdf"})
    settings = Settings(at, magic7=Magic7("m7 --l0 {level0} --quiet"))
    arch = "/sdf/farm/g/glast/u23/ISOC-flight/Archive/level0"
    assert magic7.command(settings, RETDEF, (1719541768.066272, 1719541785.761321)) == [
        *("m7", "--l0", arch, "--quiet", "--arch", arch, "--scid", "77"),
        *("-b", "1719535768.066272", "-e", "1719547785.761321", "--lsm"),
    ]
    assert magic7.command(Settings(at, magic7=Magic7(None)), RETDEF, (6000.0, 6000.0)) == []


def test_only_att_and_orb_lines_are_kept(tmp_path: Path) -> None:
    for end in ("", "\n"):
        assert written(words(end=end), tmp_path) == ([LINES[0], LINES[2], LINES[5]], 3)
        assert (tmp_path / "log").read_text() == "a fault\n"


@pytest.mark.parametrize("command", [words(status=4), ["sh", "-c", "kill -9 $$"], ["/no/such"]])
def test_a_command_that_fails_is_an_error_even_after_it_printed(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(DecoderError) as caught:
        written(command, tmp_path)
    assert caught.value.code == "magic7"


def test_a_failure_prevents_the_hand_off(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.replay(SOURCE, DL)
    site.configure(magic7={"command": shlex.join(words(status=4))})
    with pytest.raises(AssertionError):
        site.by_hand(DL)
    assert "exit status 4" in capsys.readouterr().err
    assert not (site.work / f"dl={DL}").exists()
    assert not list((site.stage / DL).glob("*.txt"))
    assert len(list(site.stage.glob(f"chunktokens/*/haltCleanup-{DL}"))) == 1

    site.configure(magic7={"command": shlex.join(words())})
    site.by_hand(DL, "receipt")
    assert site.text("magic7", DL) == sorted([LINES[0], LINES[2], LINES[5]])
    assert f"magic7_{DL}.txt" in {text.name for text in site.receipt(DL).receipt.texts}
    assert not list(site.stage.glob(f"chunktokens/*/haltCleanup-{DL}"))


def test_a_text_without_lines_is_reported(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.replay(SOURCE, DL)
    site.configure(magic7={"command": shlex.join(words(lines=["nothing"]))})
    site.by_hand(DL)
    assert "no ATT or ORB line" in capsys.readouterr().err
