"""The books of a downlink: the step that does not balance is named."""

from halfpipe.downlink.unbalanced import findings
from halfpipe.ids import DownlinkId

DL, RUN = DownlinkId("240601001"), "2c2e5787"
CHUNK = {"chunk": "00001", "runs": [RUN], "files": [{"run": RUN, "kind": "idx", "events": 5}]}
NOTHING = dict.fromkeys(("elsewhere", "withheld", "late", "closed_events", "refused_events"), 0)
GOOD = {"run": RUN, "brought": 5, "known": 5, "delivered": 3, "waiting": 2, **NOTHING}


def step_of(files: tuple[int, ...] = (2, 1), **run: int) -> str | None:
    """Return the step at which the books of a run do not balance; None if they do."""
    entry = {**GOOD, **run, "files": [{"events": events} for events in files]}
    found = list(findings(DL, [CHUNK], [entry], [1]))
    assert [cause.code for cause in found] in ([], ["books"])
    return found[0].text.partition("do not balance at ")[2].partition(": ")[0] if found else None


def test_an_unbalanced_step_is_named() -> None:
    assert step_of() is step_of(brought=4) is None, "an event may be in two chunks"
    assert step_of(brought=6) == "decoded, merged"
    assert step_of(known=6) == step_of(known=4) == "known, accounted for"
    (gone,) = findings(
        DL, [CHUNK | {"runs": []}], [GOOD | {"chunks": ["00001"], "files": [{"events": 3}]}], [1]
    )
    assert gone.text.endswith(f"run {RUN} of chunk 00001")
    assert step_of((2,)) == step_of((2, 1, 1)) == "delivered, in files"
