"""Many downlinks: `halfpipe process`, interrupted and continued, and its batches with downlinks that fail or wait."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.cli import process as process_verb
from halfpipe.cli import verbs
from halfpipe.config import write_down
from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import DISK_FULL
from halfpipe.ids import DownlinkId
from halfpipe.operate import batches
from halfpipe.operate.batches import Batches, process_batch, record
from halfpipe.operate.invocation import SnakemakeCall
from halfpipe.process.failure_record import Failure
from halfpipe_simulator.scenario import Scenario
from tests.support.golden_cases import GOLDEN
from tests.support.harness import failure_code
from tests.support.leases import held_by_another, leases
from tests.support.servers import command_lines
from tests.support.verbs import COMMAND
from tests.support.workflow import Ended, Running, Site

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
    monkeypatch.setattr(Site, "typing", False)
    monkeypatch.setattr(process_verb, "SAY_SECONDS", 0.0)
    ended = process(three, FIRST, SECOND, THIRD)
    shown = re.findall(r"^([0-3]) of 3 handed off, [0-9]", ended.said, re.MULTILINE)
    assert (ended.status, len(shown) > 2, shown[0], shown[-1]) == (1, True, "0", "2")
    assert "to try the rest again: " in ended.said
    assert Batches.of(three.settings, [FIRST, SECOND, THIRD]).todo == (SECOND,)
    assert "0 of 1 handed off" in process(three, SECOND).bad().said


def test_a_held_downlink_is_left_out_and_named(three: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    three.halfpipe("hold", "stage", FIRST, "--reason", "test").good()
    named = Batches.of(three.settings, [FIRST, SECOND])
    assert (named.todo, [*named.left]) == ((FIRST, SECOND), [FIRST])
    three.halfpipe("hold", "stage", SECOND, "--reason", "test").good()
    monkeypatch.setattr(Site, "typing", False)
    monkeypatch.setattr(process_verb, "MOST_SHOWN", 1)
    (three.work / "halts").mkdir()
    (three.work / "halts" / "haltStge").touch()
    ended = process(three, FIRST, SECOND).bad(
        "haltStge is not a known switch", f"and 1 more: halfpipe status {FIRST}..{SECOND}\n"
    )
    assert ended.said.count("skipped: ") == 1
    monkeypatch.setattr(process_verb, "MOST_SHOWN", 2)
    assert " more: " not in process(three, FIRST, SECOND).bad().said


def test_a_downlink_that_no_job_explains_is_named_with_the_end_of_its_command(three: Site) -> None:
    why = Failure("failed", "snakemake ended with status -9")
    found = Batches(three.settings, (FIRST, SECOND), ends={FIRST: why})
    verb = verbs.Site(None, (three.configfile,))
    assert [
        (dl, cause.code, cause.text, cause.verdict) for dl, cause in process_verb._problems(verb, found)
    ] == [
        (FIRST, why.code, why.text, Verdict.ACTION),
        (SECOND, batches.UNKNOWN.code, batches.UNKNOWN.text, Verdict.ACTION),
    ]


MONTH = [f"2304{day:02d}{number:03d}" for day in (1, 2) for number in (1, 2)]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with runs over two downlinks each. Tests copy it and do not change it."""
    home = tmp_path_factory.mktemp("month")
    scenario = Scenario(seed=3, downlinks=MONTH)
    for first in range(len(MONTH) - 1):
        scenario.lci_run(events=40, parts=2, first=first, per_datagram=5)
    site = Site(home)
    site.simulate(scenario)
    site.configure(
        # This must not run: `halfpipe process` submits nothing.
        submit={"automatic": True, "command": f"touch {home}/submitted-{{dl}}"}
    )
    site.work.mkdir()
    return site


def process(site: Site, *words: str) -> Ended:
    return site.halfpipe("process", *words, "--cores", "2")


def killed(site: Site, how: int, *words: str) -> str:
    """Start the command, end it after the next hand-off, and return what it printed."""
    before = receipts(site)
    command = [*COMMAND, "process", *words, "--cores", "2", "--configfile", str(site.configfile)]
    running = Running(command, site.home)
    running.wait_for("a hand-off", lambda: receipts(site) not in (before, {}))
    running.process.send_signal(how)
    ended = running.ended()
    assert ended.status == 128 + how, ended.said
    assert leases(site.work) == []
    assert command_lines(str(site.home)).keys() <= {os.getpid()}
    return ended.said


def receipts(site: Site) -> dict[str, int]:
    found = {}
    for path in site.work.glob("dl=*"):
        with suppress(FileNotFoundError):  # it is made again
            found[path.name] = path.stat().st_ino
    return found


def handed_off(site: Site) -> dict[str, Any]:
    """Return the stage, and all receipts without numbers of hand-offs and checksums."""
    found: dict[str, Any] = {
        name: content for name, content in site.tree().items() if name.startswith("stage/")
    }
    for name in receipts(site):
        found[name] = re.sub(r'"(checksum|handoff)": .*', "", (site.work / name).read_text())
    return found


def test_an_interrupted_command_continues_and_again_gives_the_same(month: Site, tmp_path: Path) -> None:
    straight, site = month.clone(tmp_path / "straight"), month.clone(tmp_path / "killed")
    for dl in MONTH:
        straight.by_hand(dl)
    for how, outstanding in ((signal.SIGTERM, "4"), (signal.SIGINT, "[1-3]")):
        said = killed(site, how, "2023-04")
        assert re.search(rf"^{outstanding} of 4 downlinks outstanding$", said, re.MULTILINE), said
        assert re.search(r"^ended: [1-3] of [2-4] handed off", said, re.MULTILINE), said
        same = f"halfpipe process 2023-04 --cores 2 --configfile {site.configfile}"
        assert f"to continue: {same}\n" in said
    process(site, "230401001..230402002").good()
    nothing = process(site, "2023-04").good()
    assert nothing.said == "0 of 4 downlinks outstanding\n"
    assert handed_off(site) == handed_off(straight)

    products = sorted(path for dl in MONTH for path in (site.work / paths.chunks(dl)).glob("0*"))
    assert len(products) > 12
    for path in products[::2]:
        path.unlink()
    killed(site, signal.SIGHUP, "2023-04", "--again")
    rest = sum(not site.has_receipt(dl) or site.receipt(dl).number == 1 for dl in MONTH)
    (record,) = site.work.glob(paths.reprocessing("230401001-230402002-*"))
    ended = process(site, "2023-04", "--again").good()
    assert f"{rest} of 4 downlinks to be regenerated\n" in ended.said
    assert f"first: rm {record}\n" in ended.said
    unchanged = re.findall(r"^([0-9]+) of \1 downlinks?: the same events", ended.said, re.MULTILINE)
    assert sum(map(int, unchanged)) == rest
    for dl in MONTH:
        straight.by_hand(dl)
    assert handed_off(site) == handed_off(straight)
    assert [site.receipt(dl).number for dl in MONTH] == [2] * 4
    assert not record.exists()
    assert list(site.home.glob("submitted-*")) == []


def test_single_commands_and_both_mixed_give_the_same(
    month: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Site, "typing", False)  # but `process` starts a command for each downlink
    single, mixed = month.clone(tmp_path / "single"), month.clone(tmp_path / "mixed")
    late = max((month.retdefs / MONTH[1]).iterdir()).name
    for site in (single, mixed):
        (site.retdefs / MONTH[1] / late).rename(site.home / late)
    for dl in MONTH:
        single.process(dl)
    for dl in MONTH[:2]:
        mixed.process(dl)
    ended = process(mixed, "2023-04").good()
    assert "2 of 4 downlinks outstanding\n" in ended.said
    assert "\n2 of 2 handed off, " in ended.said
    assert mixed.tree() == single.tree()
    for site in (single, mixed):
        (site.home / late).rename(site.retdefs / MONTH[1] / late)
        (site.work / paths.chunk(MONTH[2], "00001")).unlink()
        (site.work / paths.receipt(MONTH[2])).unlink()
    for dl in MONTH[1:3]:
        single.process(dl)
    process(mixed, "2023-04").good()
    assert mixed.tree() == single.tree()
    assert mixed.outstanding(*MONTH) == frozenset()
