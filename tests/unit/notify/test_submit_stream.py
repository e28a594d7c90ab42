"""What Level-1's pipeline shows of a stream is passed on, and changes no verdict."""

from io import StringIO

from halfpipe.causes import Verdict
from halfpipe.notify import submit
from halfpipe.notify.submit import stream
from tests.support.level1 import DL, Level1


def test_the_state_of_the_stream_is_a_note(level1: Level1) -> None:
    settings = level1.settings()
    assert list(stream(settings, DL)) == []
    submit.submit(settings, DL, StringIO())
    (found,) = stream(settings, DL)
    assert (found.code, found.verdict) == ("level1-stream", Verdict.NOTE)
    assert f"L1Proc[{DL}] findRunDirs SUCCESS" in found.text
    level1.go_wrong(find="refuse")
    (found,) = stream(settings, DL)
    assert (found.verdict, "SUCCESS" in found.text) == (Verdict.NOTE, False)
    assert list(stream(level1.settings(check=None), DL)) == []
