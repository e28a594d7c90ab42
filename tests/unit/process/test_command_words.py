"""Words of the config's commands, and the archive that they read."""

import sys
from pathlib import Path

import pytest

from halfpipe.process import command_words
from halfpipe.settings import Decoder, Magic7, Paths, Settings


def settings(decoder: str = "built-in", magic7: str | None = None, **paths: object) -> Settings:
    at = Paths(work=Path("/work"), stage=Path("/stage"), **paths)  # type: ignore[arg-type]
    return Settings(at, decoder=Decoder(decoder), magic7=Magic7(magic7))


def test_words_are_split_like_in_a_shell_and_filled_in() -> None:
    words = command_words.filled_in(
        "run 'two words' x{dl}y{dl} '$(no) shell'", {"dl": "a 'b'", "rawdir": "/x"}
    )
    assert words == ["run", "two words", "xa 'b'ya 'b'", "$(no) shell"]


def test_python_as_first_word_is_this_python() -> None:
    assert command_words.filled_in("python python", {}) == [sys.executable, "python"]
    assert command_words.filled_in("python3 x", {}) == ["python3", "x"]


def test_decoder_and_magic7_get_the_archive() -> None:
    given = settings("get --l0 {level0} -x", level0=Path("/here"))
    words = command_words.decoder(given, command_words.archive(given, "/arch"))
    assert words == ["get", "--l0", "/here", "-x"]
    assert command_words.decoder(settings(), "/an arch")[-2:] == ["--level0", "/an arch"]
    given = settings(magic7="m7 --l0 {level0} --quiet", map={"/nfs": "/sdf"})
    assert command_words.magic7(given, "/nfs/x") == ["m7", "--l0", "/sdf/x", "--quiet", "--arch", "/sdf/x"]
    built_in = [sys.executable, "scripts/simulated_magic7.py", "--arch", "/x"]
    assert command_words.magic7(settings(magic7="built-in"), "/x") == built_in
    assert command_words.magic7(settings(magic7=None), "/x") == []


@pytest.mark.parametrize(
    ("path", "mapped"),
    [
        ("/nfs/farm/level0", "/sdf/n/level0"),
        ("/nfs/farm", "/sdf/n"),
        ("/nfs/farmer/level0", "/elsewhere/farmer/level0"),
        ("/afs/level0", "/afs/level0"),
    ],
)
def test_prefixes_are_whole_components_and_the_longest_counts(path: str, mapped: str) -> None:
    assert command_words.map_prefix(path, {"/nfs": "/elsewhere", "/nfs/farm/": "/sdf/n"}) == mapped
