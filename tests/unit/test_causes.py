"""What to do about a cause are commands, a line each; words that stand before them are apart."""

import pytest

from halfpipe.causes import Cause, Verdict


@pytest.mark.parametrize(
    ("do", "first", "commands"),
    [
        ("", "", []),
        ("snakemake dl=230401001", "", ["snakemake dl=230401001"]),
        ("mkdir -p a && mv b a/", "", ["mkdir -p a && mv b a/"]),
        ("have it made, then: halfpipe show 230401001", "have it made", ["halfpipe show 230401001"]),
        ("do: {a: [1]}; else this: ls -l a; then: rm a", "do: {a: [1]}; else this", ["ls -l a", "rm a"]),
        ("pipeline -S 230401001\nhalfpipe submit 230401001 --settle submitted", "",
         ["pipeline -S 230401001", "halfpipe submit 230401001 --settle submitted"]),
        ("ask whether downlinks come", "ask whether downlinks come", []),
    ],
)  # fmt: skip
def test_what_is_to_be_done_are_commands(do: str, first: str, commands: list[str]) -> None:
    cause = Cause("code", Verdict.ACTION, "it is so", do)
    assert (cause.first, cause.do.splitlines()) == (first, commands)
    assert cause.steps == [*filter(None, [first]), *commands]
    assert (cause.as_json()["do"], cause.as_json()["first"]) == (cause.do, cause.first)
