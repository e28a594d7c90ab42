"""Damage to single files, and restored backups: problems are reported, and no event is lost or delivered twice.

The site has SIMULATED data and is harmed at some moments of its story. A stand-in for Level-1 takes what was submitted.
Random files below `paths.work` and the stage are harmed, or all of them (`HALFPIPE_HARM=all`). And the state of an
earlier moment is restored over a later one.
"""

import json
import os
import random
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe_simulator.scenario import Scenario
from tests.support.harness import records_of
from tests.support.workflow import Ended, Site, in_peace

pytestmark = pytest.mark.faults

LOOKS = 60  # a third of them at each moment
SEED = 17
A, B, C = DOWNLINKS = "230401001", "230401002", "230401003"
MOMENTS = ("delivered", "submitted", "taken")
HARMS = ("removed", "cut", "flipped", "{}", "garbage")
COMMAND = re.compile(r"\b(?:snakemake|halfpipe|cp|mv|rm) [^;…]+")

# Codes that are always allowed: those of the site and the moment, and of a hand-off that waits for its rollback.
OFTEN = {"doctor", "receipt", "file-taken", "not-submitted", "outstanding", "handoff-not-submitted"}
# A remedy may stage a second hand-off before Level-1 takes the first one, which then takes the files of the second.
SECOND = {"stage-gone"}
STOPS = {"stops"}  # every command refuses
PRODUCT = {"cleaned-up", "damaged", "format", "missing-input"}
ID, RUN, N = r"\d{9}", r"[0-9a-f]{8}", r"\d{6}\.json"
EVENT_FILE = rf"stage/{ID}/r\d{{10}}/.*\.evt"
# Damage that only an operator can repair, with a backup or a new ledger. Until then nothing continues.
BY_HAND: dict[str, set[str]] = {
    r"work/format\.json": {*STOPS, "stage-foreign"},
    rf"(work/stage-mark|stage/\.halfpipe-mark)/{N}": {*STOPS, "damaged"},
    r"ledger\.sqlite": {"ledger", "ledger-lacks"},
}
# Kinds with many equal files: only a few are harmed.
ALIKE: dict[str, set[str]] = {r"work/settings/.*": set(), rf"work/logs/{ID}/.*": set()}
# The codes that may be reported, for each kind of file.
SAID: dict[str, set[str]] = {
    **BY_HAND,
    **ALIKE,
    rf"work/dl={ID}": {"receipt"},
    rf"work/submit={ID}": set(),
    rf"work/{ID}/RetDef-.*\.xml": {"damaged", "retdef-reissued", "missing-input", "format"},
    rf"work/{ID}/chunks/\d{{5}}\.json": {"damaged", "format", "missing-input", *SECOND},
    rf"work/{ID}/chunks/.*\.(evt|idx|rows)": PRODUCT,
    rf"work/(copies/)?({ID}/(receipts|submissions)|runs/{RUN}/deliveries)/{N}": {"damaged"},
    rf"work/(copies/)?decisions/{N}": set(),
    rf"work/{ID}/ledger\.json": {"ledger-lacks"},
    rf"work/runs/{RUN}/{ID}/datagrams\.idx": {"damaged", "format", "missing-input"},
    rf"work/runs/{RUN}/{ID}/manifest\.json": {"damaged", "format", *SECOND},
    rf"stage/({ID}|chunktokens)/.*": {"stage-differs", "stage-gone"},
}


def kind_of(name: str) -> str:
    """Return the kind of a file, by its path below the site."""
    kind = next((pattern for pattern in SAID if re.fullmatch(pattern, name)), None)
    assert kind is not None, f"{name}: no kind in the table"
    return kind


@dataclass
class Story:
    """The site of the story, which can be restored to each of its moments."""

    home: Path
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        made = Scenario(seed=17, downlinks=DOWNLINKS)
        made.lpa_run(events=60, parts=3, per_datagram=6, repeated_datagrams=2)
        made.lpa_run(events=40, parts=2, first=1, per_datagram=6, repeated_datagrams=1)
        made.lpa_run(events=30, per_datagram=6, lost_datagrams=1)  # abandoned
        moot = in_peace(self.home, made).settings.moot.file
        self.site = site = Site(self.home / "site")
        site.replay(self.home / "in")
        calls = shlex.quote(str(site.home / "calls"))
        site.configure(
            moot={"file": str(moot)},
            ledger={"url": f"sqlite:///{site.home}/ledger.sqlite"},
            submit={
                "command": shlex.join(["sh", "-c", f"echo submit {{dl}} >> {calls}"]),
                "rollback": shlex.join(["sh", "-c", f"echo rollback {{dl}} >> {calls}"]),
            },
        )
        brought = {
            dl: {path.name.split("-")[1] for path in self.home.glob(f"in/{dl}/*.idx")} for dl in DOWNLINKS
        }
        (abandoned,) = brought[A] - brought[B] - brought[C]
        (self.shared,) = brought[A] & brought[B] & brought[C]
        site.abandon(abandoned)
        site.add_retdefs(self.home / "in", A)
        site.process(A)
        self._keep("begun")
        site.add_retdefs(self.home / "in", B)
        site.snakemake(*(paths.manifest(run, B) for run in sorted(brought[B]))).good()
        self._keep("delivered")
        self.go_on().good()
        self._keep("submitted")
        self.take()
        site.add_retdefs(self.home / "in", C)
        self._keep("taken")
        self.end().good()
        self.events, self.told = self.at_level1(), self.calls()

    def _keep(self, moment: str) -> None:
        self.asked()  # `status` caches downlinks in files
        shutil.copytree(self.site.home, self.home / moment)

    def restore(self, moment: str) -> None:
        shutil.rmtree(self.site.home)
        shutil.copytree(self.home / moment, self.site.home)

    def go_on(self) -> Ended:
        """Process and submit all downlinks that are there."""
        known = sorted(path.name for path in self.site.retdefs.iterdir())
        return self.site.snakemake(*(f"dl={dl}" for dl in known), *(f"submit={dl}" for dl in known))

    def calls(self) -> Counter[str]:
        """Return how often each command was sent to Level-1."""
        file = self.site.home / "calls"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def take(self) -> None:
        """Take all submitted hand-offs as Level-1 does; a hand-off after a rollback replaces the earlier one."""
        calls = self.calls()
        for dl in DOWNLINKS:
            home, level1 = self.site.stage / dl, self.site.home / "level1" / dl
            done, told = level1 / "told", calls[f"submit {dl}"] + calls[f"rollback {dl}"]
            if not told or (done.exists() and int(done.read_text()) == told) or not home.is_dir():
                continue
            # After a rollback it keeps the runs that are not in the new hand-off.
            for of_run in home.glob("r*/"):
                shutil.rmtree(level1 / of_run.name, ignore_errors=True)
            self.site.take(dl)
            level1.mkdir(parents=True, exist_ok=True)
            done.write_text(str(told))

    def end(self) -> Ended:
        """Have Level-1 take its hand-offs, add the last downlink, and process everything to the end."""
        self.take()
        self.site.add_retdefs(self.home / "in", C)
        ended = self.go_on()
        self.take()
        return ended

    def at_level1(self) -> Counter[bytes]:
        """Return the events that Level-1 has; a damaged file counts as one event."""
        found: Counter[bytes] = Counter()
        for path in self.site.home.glob("level1/*/r*/*.evt"):
            content = path.read_bytes()
            try:
                found.update(records_of(content))
            except HalfPipeError:
                found[content] += 1
        return found

    def harm(self, name: str, how: str) -> bool:
        """Harm a file and keep its time; return whether this harm is possible."""
        path = self.site.home / name
        content, status = path.read_bytes(), path.stat()
        middle = len(content) // 2
        if how == "removed":
            path.unlink()
            return True
        if not content or (how in {"{}", "garbage"} and content[:1] != b"{"):
            return False
        new = {
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "{}": b"{}",
            "garbage": b"\xa7" * len(content),
        }[how]
        path.write_bytes(new)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return True

    def put_back(self, moment: str, places: Iterable[str], *, over: bool) -> bool:
        """Restore files of another moment; return whether this changes anything.

        `over`: other files stay, as with rsync.
        """
        before = self.everything()
        for name in places:
            source, place = self.home / moment / name, self.site.home / name
            if place.is_dir() and not over:
                shutil.rmtree(place)
            if source.is_dir():
                shutil.copytree(source, place, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy2(source, place)
            else:
                place.unlink(missing_ok=True)
        return self.everything() != before

    def everything(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.site.home.rglob("*") if path.is_file()}

    def asked(self, *options: str) -> tuple[int, set[str], list[str]]:
        """Run `status`; return its exit status, its codes (`stops` without output), and its remedies.

        A damaged receipt is ``receipt``: it follows from much else.
        """
        ended = self.site.halfpipe("status", "--all", "--format", "json", *options)
        try:
            answer = json.loads(ended.said[ended.said.index("{") :])
        except ValueError:
            return ended.status, set(STOPS), []
        causes = [cause for one in answer["downlinks"] for cause in one["causes"]] + answer["site"]
        do = [cause["do"] for cause in causes if cause["verdict"] == "action" and cause["do"]]
        codes = {
            "receipt"
            if cause["code"] == "damaged" and "/dl=" in cause["text"].partition(":")[0]
            else cause["code"]
            for cause in causes
        }
        return ended.status, codes, do

    def follow(self, do: Iterable[str]) -> None:
        """Run the commands of remedies."""
        for command in dict.fromkeys(each for text in do for each in COMMAND.findall(text)):
            program, *words = shlex.split(command.strip().rstrip("."))
            if program == "snakemake":
                self.site.snakemake(*words)
            elif program == "halfpipe":
                self.site.halfpipe(*words)
            elif program == "cp":
                shutil.copy(words[0], words[1])
            else:
                Path(words[0]).unlink(missing_ok=True)


def look(
    story: Story, moment: str, harm: Callable[[], bool], *, follow: bool = True
) -> tuple[set[str], str] | None:
    """Harm the site, run `status`, continue, and `follow` the remedies.

    Return all reported codes and how the end differs from the undisturbed story, or None if nothing was changed.
    """
    do_it = story.follow if follow else lambda _: None
    story.restore(moment)
    base = story.asked()[1]
    if not harm():
        return None
    asked = [story.asked(), story.asked("--check")]
    ended = story.go_on()
    asked.append(story.asked())
    said = {code for _, codes, _ in asked for code in codes - base}
    status, do = asked[-1][0], [each for _, _, do in asked for each in do]
    for _ in range(3):
        if not (do or status or ended.status):
            break
        do_it(do)
        ended = story.go_on()
        status, _, do = story.asked()
        do += story.asked("--check")[2]
    ended = story.end()
    status, codes, do = story.asked()
    if ended.status and do:  # the last downlink found another damage
        do_it(do)
        ended = story.end()
        status, more, _ = story.asked()
        codes |= more
    calls, events = story.calls(), story.at_level1()
    wrong = [f"{call} {n} times" for call, n in calls.items() if n != 1 and call.startswith("submit")]
    wrong += [f"no {call}" for call in story.told if not calls[call]]
    wrong += [f"{n} events {what}" for n, what in (
        ((events - story.events).total(), "doubled or unknown"), ((story.events - events).total(), "lacking")
    ) if n]  # fmt: skip
    needs = "needs action: " if status or ended.status else "SILENT: "
    return said | codes, f"{needs}{'; '.join(wrong)}" if wrong else ""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("story"))


def files(story: Story, moment: str) -> list[str]:
    """Return the files of a moment in random order, with a few of each kind that has many."""
    home, found, taken = story.home / moment, [], Counter[str]()
    names = [str(path.relative_to(home)) for path in sorted(home.rglob("*")) if path.is_file()]
    random.Random(f"{SEED} {moment}").shuffle(names)
    for name in names:
        if re.match(r"stage/|ledger\.|work/(?!leases/)", name):
            taken[kind := kind_of(name)] += 1
            if taken[kind] <= 2 or kind not in ALIKE:
                found.append(name)
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_damaged_file_loses_and_doubles_nothing(story: Story, moment: str) -> None:
    looks = [(name, how) for name in files(story, moment) for how in HARMS]
    if os.environ.get("HALFPIPE_HARM") != "all":
        looks = random.Random(SEED).sample(looks, LOOKS // len(MOMENTS))
    done, wrong = 0, []
    for name, how in looks:
        if (seen := look(story, moment, partial(story.harm, name, how))) is None:
            continue
        done, kind, (said, end) = done + 1, kind_of(name), seen
        may = end.startswith("needs action") and kind in BY_HAND
        # Level-1 moves the event files of a submitted downlink away, so a missing one cannot be noticed.
        may |= (
            moment == "submitted"
            and how == "removed"
            and "file-taken" in said
            and bool(re.match(EVENT_FILE, name))
        )
        if unexpected := said - SAID[kind] - OFTEN:
            wrong.append(f"{name} {how}: {sorted(unexpected)}")
        elif end and not may:
            wrong.append(f"{name} {how}: {end}")
    assert not wrong, "\n".join(wrong)
    assert done > LOOKS // len(MOMENTS) // 2


SHARED, RECORDS = "work/runs/{run}", "work/copies/runs/{run}"  # of the run of all three downlinks
BACKUPS = {
    "all": ("work",),
    "a run": (SHARED,),
    "a run and its copies": (SHARED, RECORDS),
    "a downlink": (f"work/{A}", f"work/dl={A}", f"work/submit={A}"),
    "a downlink and its copies": (f"work/{A}", f"work/copies/{A}"),
    "the stage": ("stage",),
    "the ledger": ("ledger.sqlite",),
    "all and the stage": ("work", "stage"),
}


@pytest.mark.parametrize("over", [False, True], ids=["in its place", "over it"])
@pytest.mark.parametrize("what", BACKUPS)
def test_a_restored_backup_doubles_nothing(story: Story, what: str, over: bool) -> None:
    places = [name.format(run=story.shared) for name in BACKUPS[what]]
    for then, now in combinations(("begun", *MOMENTS), 2):
        # If only the ledger knows the later state, an operator must look in the pipeline first.
        harm = partial(story.put_back, then, places, over=over)
        seen = look(story, now, harm, follow=what != "all and the stage")
        if seen is None:
            continue
        said, end = seen
        # Only an operator, whom `status` asks, can know which restored files Level-1 had taken before.
        only_told = now == "submitted" and "stage" in places and "restored" in said
        assert not re.search("doubled" if only_told else "SILENT|doubled|times", end), (
            f"{then}, {now}: {seen}"
        )


def test_the_table_has_every_kind(story: Story) -> None:
    assert {kind_of(name) for moment in MOMENTS for name in files(story, moment)} == SAID.keys()
