"""What to do about a cause are commands, and words that stand before them."""

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import NOTHING, HalfPipeError, Remedy


def test_words_and_commands_are_apart() -> None:
    both = Remedy("rm a", "ls", first="see whose it is")
    assert both.steps == ["see whose it is", "rm a", "ls"]
    assert str(HalfPipeError("It is so.", both)) == "It is so. see whose it is: rm a; ls"
    cause = Cause("code", Verdict.ACTION, "it is so", both).as_json()
    assert (cause["first"], cause["do"]) == ("see whose it is", "rm a\nls")
    assert (NOTHING.steps, str(HalfPipeError("It is so."))) == ([], "It is so.")
