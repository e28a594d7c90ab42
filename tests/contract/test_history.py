"""Batches of history with downlinks that fail, are in progress, or find a full disk."""

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.cli import process, verbs
from halfpipe.config import write_down
from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import DISK_FULL
from halfpipe.ids import DownlinkId
from halfpipe.process.failure_record import Failure
from halfpipe.site import batches
from halfpipe.site.batches import Batches, process_batch, record
from halfpipe.site.invocation import SnakemakeCall
from tests.support.golden_cases import GOLDEN
from tests.support.harness import failure_code
from tests.support.leases import held_by_another
from tests.support.workflow import Site

pytestmark = pytest.mark.workflow

CASE = GOLDEN / "split3"
FIRST, SECOND, THIRD = (DownlinkId(dl) for dl in ("240601001", "240601002", "240602001"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waiting times."""
    monkeypatch.setattr(batches, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(batches, "FULL_SECONDS", 0.1)
    monkeypatch.setattr(batches, "BUSY_SECONDS", 0.1)


@pytest.fixture
def three(site: Site) -> Site:
    """A site with three downlinks of one run."""
    site.work.mkdir()
    site.replay(CASE / "in", FIRST, SECOND, THIRD)
    return site


def batch(site: Site, *downlinks: DownlinkId, since: float = 0.0) -> bool:
    """Process a batch; return whether it asks for more memory."""
    settings = site.settings
    return process_batch(settings, write_down(settings), downlinks, since, 2, site.work / "batch.log")


def test_a_downlink_fails_alone_and_a_killed_one_gets_more_memory(three: Site) -> None:
    three.misbehave_in(CASE / "in", "exit3", SECOND)
    assert batch(three, FIRST, SECOND, THIRD) is False
    assert [three.has_receipt(dl) for dl in (FIRST, SECOND, THIRD)] == [True, False, True]
    assert failure_code(three.work / record(SECOND)) == "decoder"
    three.misbehave_in(CASE / "in", "sigkill", SECOND)
    before = (three.work / paths.receipt(FIRST)).stat().st_mtime_ns
    assert batch(three, FIRST, SECOND) is True
    assert (three.work / paths.receipt(FIRST)).stat().st_mtime_ns == before, "what is done is skipped"
    three.misbehave_in(CASE / "in", "exit3")
    assert batch(three, SECOND) is False
    assert failure_code(three.work / record(SECOND)) == ""


def test_a_batch_waits_for_a_downlink_in_work_and_then_leaves_it(three: Site) -> None:
    with held_by_another(three.work, paths.downlink_lease(FIRST)):
        assert batch(three, FIRST, SECOND) is False
    assert failure_code(three.work / record(FIRST)) in batches.LEFT
    assert [three.has_receipt(dl) for dl in (FIRST, SECOND)] == [False, True]


def test_a_batch_tries_again_while_a_disk_is_full(three: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    room, codes, process_one = three.home / "room", list[str](), batches._process_one

    def tried(*given: object, **keys: object) -> Failure | None:
        why = process_one(*given, **keys)  # type: ignore[arg-type]
        codes.append(why.code if why else "")
        room.touch()
        return why

    monkeypatch.setattr(batches, "_process_one", tried)
    replay = three.config["decoder"]["command"]
    full = f'[ -e {room} ] || {{ echo "No space left on device" >&2; exit 1; }}; exec {replay} "$@"'
    three.configure(decoder={"command": f"sh -c '{full}' sh"})
    assert batch(three, FIRST) is False
    assert codes == [DISK_FULL, ""]
    assert three.has_receipt(FIRST)


def test_a_command_stops_after_equal_failures_and_continues_later(
    three: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "EQUAL", 2)
    three.configure(history={"batch": 3})
    three.misbehave_in(CASE / "in", "exit3", FIRST, SECOND, THIRD)
    named = Batches.of(three.settings, [FIRST, SECOND, THIRD])
    with pytest.raises(HalfPipeError, match="2 downlinks in a row"):
        list(named.run(SnakemakeCall(("--configfile", str(three.configfile)), cores=2)))
    assert named.done == []
    three.misbehave_in(CASE / "in", "exit3", SECOND)
    named = Batches.of(three.settings, [FIRST, SECOND, THIRD])
    list(named.run(SnakemakeCall(("--configfile", str(three.configfile)), cores=2)))
    assert (named.done, named.failed) == ([FIRST, THIRD], [SECOND])
    assert Batches.of(three.settings, [FIRST, SECOND, THIRD]).todo == (SECOND,)


def test_a_held_downlink_is_left_out_and_named(three: Site) -> None:
    three.halfpipe("hold", "stage", FIRST, "--reason", "test").good()
    named = Batches.of(three.settings, [FIRST, SECOND])
    assert (named.todo, [*named.left]) == ((FIRST, SECOND), [FIRST])


def test_a_downlink_that_no_job_explains_is_named_with_the_end_of_its_command(three: Site) -> None:
    why = Failure("failed", "snakemake ended with status -9")
    found = Batches(three.settings, (FIRST, SECOND), ends={FIRST: why})
    verb = verbs.Site(None, (three.configfile,))
    assert [(dl, cause.code, cause.text, cause.verdict) for dl, cause in process._problems(verb, found)] == [
        (FIRST, why.code, why.text, Verdict.ACTION),
        (SECOND, batches.UNKNOWN.code, batches.UNKNOWN.text, Verdict.ACTION),
    ]
