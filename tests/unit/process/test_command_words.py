"""Words of the config's commands, and the archive that they read."""

import sys
from functools import partial
from pathlib import Path

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
    assert command_words.filled_in("python python", {}) == [sys.executable, "python"], "this Python"
    assert command_words.filled_in("python3 x", {}) == ["python3", "x"]


def test_decoder_and_magic7_get_the_archive() -> None:
    given = settings("get --l0 {level0} -x", level0=Path("/here"))
    words = command_words.decoder(given, command_words.archive(given, "/arch"))
    assert words == ["get", "--l0", "/here", "-x"]
    assert command_words.decoder(settings(), "/an arch")[-2:] == ["--level0", "/an arch"]
    built_in = [sys.executable, "scripts/simulated_magic7.py", "--arch", "/x"]
    assert command_words.magic7(settings(magic7="built-in"), "/x") == built_in


def test_prefixes_are_whole_components_and_the_longest_counts() -> None:
    mapped = partial(command_words.map_prefix, prefixes={"/nfs": "/elsewhere", "/nfs/farm/": "/sdf/n"})
    assert (mapped("/nfs/farm/level0"), mapped("/nfs/farm")) == ("/sdf/n/level0", "/sdf/n")
    assert (mapped("/nfs/farmer/x"), mapped("/afs/level0")) == ("/elsewhere/farmer/x", "/afs/level0")
