"""Rounds of `halfpipe process` with elements that a test makes up."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from halfpipe.settings import Settings
from halfpipe.site import batches
from halfpipe.site.batches import EQUAL, Batch, Here, Launcher, compose
from halfpipe.site.element import record
from halfpipe.site.slurm import BusyError
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import Site

FIRST, SECOND, THIRD = (DownlinkId(dl) for dl in ("240601001", "240601002", "240602001"))
MANY = [DownlinkId(f"2407010{number:02d}") for number in range(2 * EQUAL)]
Says = Callable[[DownlinkId, int], Failure | None]
GOOD, KILLED = Failure("done", ""), Failure("killed", "the job was killed")


class Made(Here):
    """A launcher whose elements end at once, each downlink as `says` has it by the round; None: it is killed there.

    `GOOD` is handed off.
    """

    largest, seconds, cores = 2, 0.0, 3

    def __init__(self, says: Says, slots: int = 1, busy: int = 0) -> None:
        self._says, self.slots, self._busy = says, slots, busy
        self.rounds = list[tuple[list[list[str]], int]]()
        self.given = list[int]()
        self.ended = False

    def start(self, words: Sequence[str], log: str, elements: int, *of: int) -> None:
        downlinks, tries, cores = of
        if self._busy:
            self._busy -= 1
            raise BusyError("sbatch: the queue is full")
        listed: list[list[dict[str, Any]]] = read_json(Path(words[-1]))["elements"]
        self.given.append(cores)
        assert read_json(Path(words[-1]))["cores"] == cores
        assert (elements, downlinks) == (len(listed), max(map(len, listed)))
        work = Path(log).parents[2]
        self.rounds.append(([[entry["downlink"] for entry in element] for element in listed], tries))
        for number, element in enumerate(listed):
            with Path(log.replace("%a", str(number))).open("w") as out:
                for dl in (DownlinkId(entry["downlink"]) for entry in element):
                    ended = self._says(dl, len(self.rounds))
                    if ended is None:
                        break
                    out.write(f"{ended.text}\n")
                    if ended is GOOD:
                        (work / paths.receipt(dl)).touch()
                    else:
                        ended.write(work / record(dl))

    def left(self) -> int:
        return 0

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def settings(site: Site) -> Settings:
    """A site with three downlinks of one run."""
    site.add_retdefs(GOLDEN / "split3" / "in", FIRST, SECOND, THIRD)
    site.work.mkdir()
    return site.settings


def good(_downlink: DownlinkId, _round: int) -> Failure:
    return GOOD


def test_neighbours_are_together_and_a_run_of_two_elements_is_delivered_in_order(settings: Settings) -> None:
    (whole,) = compose(settings, [FIRST, SECOND, THIRD], 1)
    assert [entry["downlink"] for entry in whole] == [FIRST, SECOND, THIRD]
    assert [list(entry["after"].values()) for entry in whole] == [[], [[FIRST]], [[FIRST, SECOND]]]
    one, two, three = compose(settings, [FIRST, SECOND, THIRD], 100)
    assert [list(entry["after"].values()) for entry in (*one, *two, *three)] == [
        [],
        [[FIRST]],
        [[FIRST, SECOND]],
    ]
    assert [entry["after"] for (entry,) in compose(settings, [FIRST, SECOND, THIRD], 3, alone=True)] == [
        {}
    ] * 3
    assert [len(element) for element in compose(settings, MANY[:25], 1)] == [10, 10, 5]


def test_elements_are_in_slurm_if_the_profile_is_and_nobody_names_cores(settings: Settings) -> None:
    for profile, cores, slots in (({"executor": "slurm"}, 3, 3), ({"cores": 2}, None, 2)):
        here = batches.launcher(settings.paths.work, profile, [FIRST], cores)
        assert (isinstance(here, Here), here.slots) == (True, slots)


def done_by(settings: Settings, launcher: Launcher, *downlinks: DownlinkId) -> Batch:
    """Process downlinks, of which nothing is handed off, and return what became of them."""
    for path in settings.paths.work.glob("dl=*"):
        path.unlink()
    batch = Batch(settings, downlinks or (FIRST, SECOND, THIRD))
    list(batch.run(launcher))
    return batch


def test_what_waits_and_what_was_killed_is_given_again_alone(settings: Settings) -> None:
    def says(dl: DownlinkId, number: int) -> Failure | None:
        if number == 1 and dl == SECOND:
            return None
        return Failure("waits", SECOND) if number == 1 and dl == THIRD else GOOD

    made = Made(says, slots=2)
    batch = done_by(settings, made)
    assert made.rounds == [([[FIRST, SECOND], [THIRD]], 1), ([[SECOND], [THIRD]], 2)]
    assert (batch.done, batch.failed, made.ended) == ([FIRST, SECOND, THIRD], [], True)


@pytest.mark.parametrize(
    ("slots", "downlinks", "cores"), [(100, 1, 3), (100, 3, 3), (1, 1, 1), (4, 3, 1), (6, 3, 2)]
)
def test_few_downlinks_get_as_many_cores_as_they_have_chunks(
    settings: Settings, slots: int, downlinks: int, cores: int
) -> None:
    named = (FIRST, SECOND, THIRD)[:downlinks]
    made = Made(good, slots)
    done_by(settings, made, *named)
    assert set(made.given) == {cores}
    refused = Made(lambda *_: GOOD if refused.given[-1] == 1 else None, slots)
    done_by(settings, refused, *named)
    assert refused.given[0] == cores
    assert refused.given[-1] == 1, "no node may be large enough"


def test_one_that_kills_each_element_is_left_alone_with_no_other_one(settings: Settings) -> None:
    made = Made(lambda dl, _: None if dl == SECOND else GOOD)
    assert done_by(settings, made).failed == [SECOND]
    assert [len(elements) for elements, _ in made.rounds] == [1, 1, 2, 1, 1, 1]


def test_one_whose_job_was_killed_is_given_again_with_more_memory(settings: Settings) -> None:
    made = Made(lambda _, number: KILLED if number < 3 else GOOD)
    batch = done_by(settings, made, FIRST)
    assert (batch.done, [tries for _, tries in made.rounds]) == ([FIRST], [1, 2, 3])
    made = Made(lambda *_: KILLED)
    batch = done_by(settings, made, FIRST)
    assert (batch.failed, len(made.rounds)) == ([FIRST], 3)
    with pytest.raises(HalfPipeError):
        done_by(settings, Made(lambda _, __: None), FIRST)


def test_twenty_equal_failures_one_after_the_other_end_it(settings: Settings) -> None:
    made = Made(lambda *_: Failure("decoder", "it ended with exit status 1"))
    with pytest.raises(HalfPipeError, match="exit status 1"):
        done_by(settings, made, *MANY)
    assert made.ended
    every = Made(lambda dl, _: Failure("decoder", "it ended") if int(dl) % 10 else GOOD)
    assert len(done_by(settings, every, *MANY).failed) == 36


@pytest.mark.parametrize(
    ("busy", "says"),
    [(3, "sbatch: the queue is full"), (0, f"{FIRST}: No space left")],
    ids=["queue", "disk"],
)
def test_what_is_full_is_waited_for_and_told(
    busy: int, says: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: DownlinkId, number: int) -> Failure:
        return GOOD if busy or number > 5 else Failure("disk-full", "No space left")

    monkeypatch.setattr(batches, "BUSY_SECONDS", 0.02)
    batch = Batch(settings, [FIRST])
    waits = [batch.waits for _ in batch.run(Made(end, busy=busy))]
    assert says in waits
    assert (waits[-1], batch.done) == ("", [FIRST])


@pytest.mark.parametrize(("product", "done"), [(paths.receipt, False), (paths.submitted, True)])
def test_who_submits_is_done_with_the_submission(
    settings: Settings, product: Callable[[str], str], done: bool
) -> None:
    def says(dl: DownlinkId, _round: int) -> Failure:
        (settings.paths.work / product(dl)).touch()
        return Failure("submission", "it failed")

    batch = Batch(settings, [FIRST], submits=True)
    list(batch.run(Made(says)))
    assert (batch.done, batch.failed) == (([FIRST], []) if done else ([], [FIRST]))


def test_what_is_regenerated_is_what_was_handed_off_before_and_what_is_outstanding(
    settings: Settings,
) -> None:
    file, earlier = batches.begin_again(settings.paths.work, [FIRST, SECOND])
    os.utime(file, (1e9, 1e9))
    assert (earlier, batches.begin_again(settings.paths.work, [SECOND, FIRST])) == (False, (file, True))
    assert file.stat().st_mtime == 1e9, "since when does not change"
    os.utime(file)
    since = file.stat().st_mtime
    place = settings.paths.work / paths.halt("haltStage")
    place.parent.mkdir(parents=True, exist_ok=True)
    batch, _ = batches.batch_of(settings, [FIRST, SECOND], since)
    assert (batch.todo, batch.left) == ((FIRST, SECOND), {})
    (settings.paths.work / paths.receipt(FIRST)).touch()
    assert batches.batch_of(settings, [FIRST, SECOND], since)[0].todo == (SECOND,)
    place.touch()
    held, _ = batches.batch_of(settings, [SECOND])
    assert (held.todo, [*held.left], held.failed) == ((SECOND,), [SECOND], [])
