"""Files harmed, and backups put back: what is said, and that nothing is lost or doubled.

A site at some moments of a story, with SIMULATED data; Level-1 stands beside it, and takes what it was told of. Every
single file below `paths.work` and the stage is harmed, a sample of them at random; `HALFPIPE_HARM=all` takes every one.
And what there was at an earlier moment is put back over a later one.
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

LOOKS = 60  # for each moment a third
SEED = 17
A, B, C = DOWNLINKS = "230401001", "230401002", "230401003"
MOMENTS = ("delivered", "submitted", "taken")
HARMS = ("removed", "cut", "flipped", "{}", "garbage")
COMMAND = re.compile(r"\b(?:snakemake|halfpipe|cp|mv|rm) [^;…]+")

# What may always be said: of the moment itself, and while what was processed again waits for its roll-back.
OFTEN = {"receipt", "file-taken", "not-submitted", "outstanding", "handoff-not-submitted"}
STOPS = {"stops"}  # every command says it, and does nothing
PRODUCT = {"cleaned-up", "damaged", "format", "missing-input"}
ID, RUN, N = r"\d{9}", r"[0-9a-f]{8}", r"\d{6}\.json"
EVENT_FILE = rf"stage/{ID}/r\d{{10}}/.*\.evt"
# Where a person must do what no command says: a backup, or a new ledger. Until then nothing goes on.
BY_HAND: dict[str, set[str]] = {
    r"work/format\.json": STOPS,
    rf"work/stage-mark/{N}": STOPS,
    rf"stage/\.halfpipe-mark/{N}": STOPS,
    r"ledger\.sqlite": {"ledger", "ledger-lacks"},
    r"work/\.snakemake/.*": STOPS,
}
# Files that are all alike: a few are taken.
ALIKE: dict[str, set[str]] = {r"work/settings/.*": set(), rf"work/logs/{ID}/.*": set()}
# What may be said of which file.
SAID: dict[str, set[str]] = {
    **BY_HAND,
    **ALIKE,
    rf"work/dl={ID}": {"receipt"},
    rf"work/submit={ID}": set(),
    rf"work/{ID}/RetDef-.*\.xml": {"damaged", "retdef-reissued", "missing-input", "format"},
    rf"work/{ID}/chunks/\d{{5}}\.json": {"damaged", "format", "missing-input"},
    rf"work/{ID}/chunks/.*\.(evt|idx|rows)": PRODUCT,
    rf"work/(copies/)?({ID}/(receipts|submissions)|runs/{RUN}/deliveries)/{N}": {"damaged"},
    rf"work/{ID}/ledger\.json": {"ledger-lacks"},
    rf"work/runs/{RUN}/{ID}/datagrams\.idx": {"damaged", "format", "missing-input"},
    rf"work/runs/{RUN}/{ID}/manifest\.json": {"damaged", "format"},
    r"work/force/.*": set(),
    rf"stage/({ID}|chunktokens)/.*": {"stage-differs", "stage-gone"},
}


def kind_of(name: str) -> str:
    """Return what a file is, by its path below the site."""
    kind = next((pattern for pattern in SAID if re.fullmatch(pattern, name)), None)
    assert kind is not None, f"{name}: of no kind that the table has"
    return kind


@dataclass
class Story:
    """The site of the story, which is put back to one of its moments again and again."""

    home: Path
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        made = Scenario(seed=17, downlinks=DOWNLINKS)
        made.lpa_run(events=60, parts=3, per_datagram=6, repeated_datagrams=2)
        made.lpa_run(events=40, parts=2, first=1, per_datagram=6, repeated_datagrams=1)
        made.lpa_run(events=30, per_datagram=6, lost_datagrams=1)  # is abandoned
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
        (given_up,) = brought[A] - brought[B] - brought[C]
        (self.shared,) = brought[A] & brought[B] & brought[C]
        site.give_up(given_up).write_text("its rest never comes\n")
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
        self.asked()  # what status remembers of downlinks is among the files
        shutil.copytree(self.site.home, self.home / moment)

    def restore(self, moment: str) -> None:
        """Put the site back to a moment."""
        shutil.rmtree(self.site.home)
        shutil.copytree(self.home / moment, self.site.home)

    def go_on(self) -> Ended:
        """Give the command that comes next: all that is there, to its submission."""
        known = sorted(path.name for path in self.site.retdefs.iterdir())
        return self.site.snakemake(*(f"dl={dl}" for dl in known), *(f"submit={dl}" for dl in known))

    def calls(self) -> Counter[str]:
        """Return what Level-1 was told, and how often."""
        file = self.site.home / "calls"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def take(self) -> None:
        """Take, as Level-1 does, all that it was told of; what was rolled back in place of what was taken before."""
        calls = self.calls()
        for dl in DOWNLINKS:
            home, level1 = self.site.stage / dl, self.site.home / "level1" / dl
            done, told = level1 / "told", calls[f"submit {dl}"] + calls[f"rollback {dl}"]
            if not told or (done.exists() and int(done.read_text()) == told) or not home.is_dir():
                continue
            # Of a roll-back it keeps the runs that are not handed off once more.
            for of_run in home.glob("r*/"):
                shutil.rmtree(level1 / of_run.name, ignore_errors=True)
            self.site.take(dl)
            level1.mkdir(parents=True, exist_ok=True)
            done.write_text(str(told))

    def end(self) -> Ended:
        """Have Level-1 take what it knows of, bring the last downlink if it has not come yet, and end the story."""
        self.take()
        self.site.add_retdefs(self.home / "in", C)
        ended = self.go_on()
        self.take()
        return ended

    def at_level1(self) -> Counter[bytes]:
        """Return the events that Level-1 has; of a file that is none the whole as one."""
        found: Counter[bytes] = Counter()
        for path in self.site.home.glob("level1/*/r*/*.evt"):
            content = path.read_bytes()
            try:
                found.update(records_of(content))
            except HalfPipeError:
                found[content] += 1
        return found

    def harm(self, name: str, how: str) -> bool:
        """Harm a file, without a new time; tell whether it can be harmed so."""
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
        """Put back what there was at another moment; `over`: what is there besides stays, as with rsync.

        Tell whether that changes anything.
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
        """Return all files of the site."""
        return {path: path.read_bytes() for path in self.site.home.rglob("*") if path.is_file()}

    def asked(self, *options: str) -> tuple[int, set[str], list[str]]:
        """Ask `status`; return how it ended, its codes (`stops`, if it gives no answer), and what is to be done.

        A damaged receipt is ``receipt``: it follows from much else.
        """
        ended = self.site.halfpipe("status", "--all", "--json", *options)
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
        """Do what is to be done, as far as it is commands."""
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
    """Do harm, ask, go on, and, to `follow`, do what is said; return all that was said, and how the end differs.

    None if there is no harm in it.
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
    if ended.status and do:  # the last downlink has found what nobody had looked at before
        do_it(do)
        ended = story.end()
        status, more, _ = story.asked()
        codes |= more
    calls, events = story.calls(), story.at_level1()
    wrong = [f"{call} {n} times" for call, n in calls.items() if n != 1 and call.startswith("submit")]
    wrong += [f"no {call}" for call in story.told if not calls[call]]
    wrong += [f"{n} events {what}" for n, what in (
        ((events - story.events).total(), "doubled or strange"), ((story.events - events).total(), "lacking")
    ) if n]  # fmt: skip
    needs = "needs action: " if status or ended.status else "SILENT: "
    return said | codes, f"{needs}{'; '.join(wrong)}" if wrong else ""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The story, told once."""
    return Story(tmp_path_factory.mktemp("story"))


def files(story: Story, moment: str) -> list[str]:
    """Return the files of a moment that are harmed, in random order; of those that are alike a few."""
    home, found, taken = story.home / moment, [], Counter[str]()
    names = [str(path.relative_to(home)) for path in sorted(home.rglob("*")) if path.is_file()]
    random.Random(f"{SEED} {moment}").shuffle(names)
    for name in names:
        if re.match(r"stage/|ledger\.|work/(?!leases/)", name):
            taken[kind := kind_of(name)] += 1
            if taken[kind] <= 2 or not (kind in ALIKE or ".snakemake" in kind):
                found.append(name)
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_harmed_file_loses_and_doubles_nothing(story: Story, moment: str) -> None:
    looks = [(name, how) for name in files(story, moment) for how in HARMS]
    if os.environ.get("HALFPIPE_HARM") != "all":
        looks = random.Random(SEED).sample(looks, LOOKS // len(MOMENTS))
    done, wrong = 0, []
    for name, how in looks:
        if (seen := look(story, moment, partial(story.harm, name, how))) is None:
            continue
        done, kind, (said, end) = done + 1, kind_of(name), seen
        may = end.startswith("needs action") and kind in BY_HAND
        # Of what it was told of Level-1 moves the event files away, and so nobody can tell.
        may |= (
            moment == "submitted"
            and how == "removed"
            and "file-taken" in said
            and bool(re.match(EVENT_FILE, name))
        )
        if strange := said - SAID[kind] - OFTEN:
            wrong.append(f"{name} {how}: says {sorted(strange)}")
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
def test_a_backup_that_is_put_back_doubles_nothing(story: Story, what: str, over: bool) -> None:
    places = [name.format(run=story.shared) for name in BACKUPS[what]]
    for then, now in combinations(("begun", *MOMENTS), 2):
        # If only the ledger is left to know better, a person has to look in the pipeline before anything is done.
        harm = partial(story.put_back, then, places, over=over)
        seen = look(story, now, harm, follow=what != "all and the stage")
        if seen is None:
            continue
        said, end = seen
        # What of the stage Level-1 took before that was put back only a person finds out, who is told to.
        only_told = now == "submitted" and "stage" in places and "restored" in said
        assert not re.search("doubled" if only_told else "SILENT|doubled|times", end), (
            f"{then}, {now}: {seen}"
        )


def test_the_table_has_every_kind(story: Story) -> None:
    assert {kind_of(name) for moment in MOMENTS for name in files(story, moment)} == SAID.keys()
