"""A site at three moments of a story; each of its files is harmed, and what is said and what comes of it is looked at.

Level-1 stands beside it, and takes what it was told of. The data are SIMULATED.
"""

import json
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.formats import evt
from halfpipe_simulator.scenario import Scenario
from tests.support import in_process
from tests.support.in_process import ROOT
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

A, B, C = "230401001", "230401002", "230401003"
MOMENTS = ("delivered", "submitted", "taken")
HARMS = ("removed", "cut", "flipped", "{}", "garbage")

# Kinds of files: how docs/files.md names them, and what their paths look like below the site.
ID, RUN, SERIES = r"\d{9}", r"[0-9a-f]{8}", r"\d{6}\.json"
KINDS = {
    "format.json": "work/format.json",
    "stage-mark/{n}.json": r"work/stage-mark/\d{6}\.json",
    "dl={dl}": rf"work/dl={ID}",
    "submit={dl}": rf"work/submit={ID}",
    "{dl}/RetDef-{dl}-{chunk}.xml": rf"work/{ID}/RetDef-.*\.xml",
    "{dl}/chunks/{chunk}.json": rf"work/{ID}/chunks/\d{{5}}\.json",
    "{dl}/chunks/*.evt": rf"work/{ID}/chunks/.*\.evt",
    "{dl}/chunks/*.idx": rf"work/{ID}/chunks/.*\.idx",
    "{dl}/receipts/NNNNNN.json": rf"work/{ID}/receipts/{SERIES}",
    "{dl}/submissions/NNNNNN.json": rf"work/{ID}/submissions/{SERIES}",
    "{dl}/ledger.json": rf"work/{ID}/ledger\.json",
    "copies/{dl}/receipts/NNNNNN.json": rf"work/copies/{ID}/receipts/{SERIES}",
    "copies/{dl}/submissions/NNNNNN.json": rf"work/copies/{ID}/submissions/{SERIES}",
    "copies/runs/{run}/deliveries/NNNNNN.json": rf"work/copies/runs/{RUN}/deliveries/{SERIES}",
    "ledger.sqlite": r"work/ledger\.sqlite",
    "runs/{run}/{dl}/datagrams.idx": rf"work/runs/{RUN}/{ID}/datagrams\.idx",
    "runs/{run}/{dl}/events.npy": rf"work/runs/{RUN}/{ID}/events\.npy",
    "runs/{run}/{dl}/chunks.json": rf"work/runs/{RUN}/{ID}/chunks\.json",
    "runs/{run}/{dl}/manifest.json": rf"work/runs/{RUN}/{ID}/manifest\.json",
    "runs/{run}/deliveries/NNNNNN.json": rf"work/runs/{RUN}/deliveries/{SERIES}",
    "force/{run}": r"work/force/.*",
    "settings/*.json": r"work/settings/.*",
    "logs/{dl}/done.log": rf"work/logs/{ID}/done\.log",
    "logs/{dl}/usage.jsonl": rf"work/logs/{ID}/usage\.jsonl",
    ".snakemake": r"work/\.snakemake/.*",
    "stage/{dl}/r%010d/r%010d-e%020d.evt": rf"stage/{ID}/r\d{{10}}/.*\.evt",
    "stage/{dl}/delivered_events_{dl}.txt": rf"stage/{ID}/delivered_events_.*",
    "stage/{dl}/retired_runs_{dl}.txt": rf"stage/{ID}/retired_runs_.*",
    "stage/{dl}/event_gaps_{dl}.txt": rf"stage/{ID}/event_gaps_.*",
    "stage/{dl}/event_times_{dl}.txt": rf"stage/{ID}/event_times_.*",
    "stage/{dl}/moot_keys_{dl}.txt": rf"stage/{ID}/moot_keys_.*",
    "stage/chunktokens/r%010d/r%010d-e%020d": r"stage/chunktokens/r\d{10}/r.*",
    "stage/chunktokens/r%010d/haltCleanup-{dl}": r"stage/chunktokens/r\d{10}/haltCleanup-.*",
    "stage/.halfpipe-mark/{n}.json": r"stage/\.halfpipe-mark/\d{6}\.json",
}
_COMMAND = re.compile(r"\b(?:snakemake|halfpipe|cp|mv|rm) [^;…]+")


def kind_of(name: str) -> str | None:
    """Return the kind of a file by its path below the site; None of one that no table names."""
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), None)


def records(content: bytes) -> list[bytes]:
    """Return the records of an event file; the whole content as one, if it is none."""
    data = np.frombuffer(content, np.uint8)
    try:
        offsets = evt.walk(data, "an event file").tolist()
    except HalfPipeError:
        return [content]
    return [content[begin:end] for begin, end in zip(offsets, [*offsets[1:], len(content)], strict=True)]


@dataclass
class Story:
    """The site of the story, which is put back to one of its moments again and again."""

    home: Path
    site: Site = field(init=False)
    expected: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        simulation, products = self.home / "simulated", self.home / "products"
        made = Scenario(seed=17, downlinks=(A, B, C))
        made.lpa_run(events=60, parts=3, per_datagram=6, repeated_datagrams=2)
        made.lpa_run(events=40, parts=2, first=1, per_datagram=6, repeated_datagrams=1)
        made.lpa_run(events=30, per_datagram=6, lost_datagrams=1)  # is abandoned
        made.write(simulation)
        first = Site(self.home / "decoding")
        first.configure(
            paths={"retdef": [str(simulation / "downlinks")], "level0": str(simulation / "level0")},
            decoder={"command": "built-in"},
            magic7={"command": None},
        )
        for downlink in (A, B, C):
            first.by_hand(downlink)
            shutil.copytree(first.work / downlink / "chunks", products / downlink)
            for path in (simulation / "downlinks" / downlink).glob("*.xml"):
                shutil.copy(path, products / downlink)
        self.site = site = Site(self.home / "site")
        site.replay(products)
        calls = shlex.quote(str(site.home / "calls"))
        site.configure(
            moot={"file": str(simulation / "moot.txt")},
            ledger={"url": f"sqlite:///{site.work}/ledger.sqlite"},
            submit={
                "command": shlex.join(["sh", "-c", f"echo submit {{dl}} >> {calls}"]),
                "rollback": shlex.join(["sh", "-c", f"echo rollback {{dl}} >> {calls}"]),
            },
        )
        self._tell()
        self.expected = self.oracle()

    def _tell(self) -> None:
        """Process the downlinks one after the other, and keep the tree of each moment; then end the story."""
        site = self.site
        site.add_retdefs(self.home / "products", A)
        brought = {
            dl: {path.name.split("-")[1] for path in (self.home / "products" / dl).glob("*.idx")}
            for dl in (A, B, C)
        }
        (given_up,) = brought[A] - brought[B] - brought[C]
        force = site.work / paths.force() / given_up
        force.parent.mkdir(parents=True)
        force.write_text("its rest never comes\n")
        self.invoke(f"dl={A}")
        site.add_retdefs(self.home / "products", B)
        self.invoke(*(paths.manifest(run, B) for run in sorted(brought[B])))
        self._keep("delivered")
        self.invoke(f"dl={A}", f"dl={B}", f"submit={A}", f"submit={B}")
        self._keep("submitted")
        self.take()
        site.add_retdefs(self.home / "products", C)
        self._keep("taken")
        self.end()

    def _keep(self, moment: str) -> None:
        self.said("status")  # what it remembers of downlinks is among the files
        shutil.copytree(self.site.home, self.home / moment)

    def restore(self, moment: str) -> None:
        """Put the site back to a moment, and look at it once: what was known then is known."""
        shutil.rmtree(self.site.home)
        shutil.copytree(self.home / moment, self.site.home)

    def invoke(self, *words: str) -> tuple[int, str]:
        """Give a command of Snakemake."""
        return in_process.snakemake(self.site.command(*words)[1:])

    def verb(self, *words: str) -> tuple[int, str]:
        """Give a verb of halfpipe."""
        with in_process.as_in_a_process(ROOT):
            ended = halfpipe(*words, configfile=self.site.configfile)
        return ended.exit_code, ended.output

    def known(self) -> list[str]:
        """Return the downlinks on the search path."""
        return sorted(path.name for path in self.site.retdefs.iterdir())

    def next_invocation(self) -> tuple[int, str]:
        """Give the command that comes next: all that is there, to its submission."""
        known = self.known()
        return self.invoke(*(f"dl={dl}" for dl in known), *(f"submit={dl}" for dl in known))

    def files(self, moment: str) -> list[str]:
        """Return all files of a moment below work and stage, but for leases."""
        home = self.home / moment
        return [
            str(path.relative_to(home))
            for top in ("work", "stage")
            for path in sorted((home / top).rglob("*"))
            if path.is_file() and "leases" not in path.parts
        ]

    # Level-1

    def calls(self) -> Counter[str]:
        """Return what Level-1 was told, and how often."""
        file = self.site.home / "calls"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def take(self) -> None:
        """Take, as Level-1 does, all that it was told of; what was rolled back in place of what was taken before."""
        calls = self.calls()
        for downlink in (A, B, C):
            home, level1 = self.site.stage / downlink, self.site.home / "level1" / downlink
            told = calls[f"submit {downlink}"] + calls[f"rollback {downlink}"]
            done = level1 / "told"
            if not told or (done.exists() and int(done.read_text()) == told) or not home.is_dir():
                continue
            # Of a roll-back it keeps the runs that are not handed off once more.
            for of_run in home.glob("r*/"):
                shutil.rmtree(level1 / of_run.name, ignore_errors=True)
            shutil.copytree(home, level1, dirs_exist_ok=True)
            shutil.rmtree(home)
            done.write_text(str(told))
            for path in level1.glob("*/*.evt"):
                token = self.site.stage / paths.tokens(path.parent.name) / path.stem
                token.unlink(missing_ok=True)

    def end(self) -> tuple[int, str]:
        """Have Level-1 take what it knows of, bring the last downlink if it has not come yet, and end the story."""
        self.take()
        self.site.add_retdefs(self.home / "products", C)
        ended = self.next_invocation()
        self.take()
        return ended

    def oracle(self) -> dict[str, Any]:
        """Return what Level-1 has in the end: events, texts, and what it was told."""
        files = {
            str(path.relative_to(self.site.home / "level1")): path.read_bytes()
            for path in sorted((self.site.home / "level1").rglob("*"))
            if path.is_file() and path.name != "told"
        }
        return {"files": files, "calls": self.calls()}

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

    def said(self, verb: str) -> tuple[int, list[str], list[str]]:
        """Give `status`, with `--check` or without; return how it ended, its codes, and what is to be done."""
        status, output = self.verb("status", "--all", "--json", *(["--check"] if verb == "check" else []))
        try:
            answer = json.loads(output[output.index("{") :])
        except ValueError:
            return status, [f"!{output.strip()[-200:]}"], []
        causes = [cause for one in answer["downlinks"] for cause in one["causes"]] + answer["site"]
        codes = {f"{cause['code']}{'!' if cause['verdict'] == 'action' else ''}" for cause in causes}
        do = [cause["do"] for cause in causes if cause["verdict"] == "action" and cause["do"]]
        return status, sorted(codes), do

    def follow(self, do: Iterable[str]) -> None:
        """Do what is to be done, as far as it is commands."""
        done: set[str] = set()
        for text in do:
            for command in _COMMAND.findall(text):
                words = shlex.split(command.strip().rstrip("."))
                if command in done:
                    continue
                done.add(command)
                if words[0] == "snakemake":
                    self.invoke(*words[1:])
                elif words[0] == "halfpipe":
                    self.verb(*words[1:])
                elif words[0] == "cp":
                    shutil.copy(words[1], words[2])
                else:
                    Path(words[1]).unlink(missing_ok=True)


@dataclass
class Seen:
    """What came of one harm."""

    moment: str
    name: str
    how: str
    status: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)
    exits: tuple[int, ...] = ()
    after: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    rounds: int = 0
    end: str = ""

    @property
    def said(self) -> set[str]:
        """All codes that were said."""
        return {*self.status, *self.check, *self.after, *self.last}

    @property
    def kind(self) -> str | None:
        """The kind of its file."""
        return kind_of(self.name)


def look(story: Story, moment: str, name: str, how: str) -> Seen | None:
    """Harm one file, ask, go on, do what is said, and compare the end of the story; None if it cannot be harmed so."""
    story.restore(moment)
    base = set(story.said("status")[1])
    story.said("status")
    if not story.harm(name, how):
        return None
    seen = Seen(moment, name, how)
    one, seen.status, do = story.said("status")
    seen.status = [code for code in seen.status if code not in base]
    two, seen.check, also = story.said("check")
    seen.check = [code for code in seen.check if code not in base]
    three, said = story.next_invocation()
    seen.exits = (one, two, three)
    four, codes, more = story.said("status")
    seen.after = [code for code in codes if code not in base]
    do = [*do, *also, *more]
    while (do or four or three) and seen.rounds < 3:
        seen.rounds += 1
        story.follow(dict.fromkeys(do))
        three, said = story.next_invocation()
        four, _, do = story.said("status")
        do += story.said("check")[2]
    three, said = story.end()
    four, seen.last, do = story.said("status")
    if three and do:  # the last downlink has found what nobody had looked at before
        story.follow(dict.fromkeys(do))
        three, said = story.end()
        four, codes, _ = story.said("status")
        seen.last = sorted({*seen.last, *codes})
    seen.end = _end(story, four or three)
    if seen.end not in {"same", "same events"}:
        seen.end += f" | {said.strip()[-300:]!r}" if three else ""
    return seen


def _end(story: Story, wants: int) -> str:
    """Say how the end of the story differs from the undisturbed one."""
    found, expected = story.oracle(), story.expected
    wrong = []
    again = {call: n for call, n in found["calls"].items() if n != 1 and call.startswith("submit")}
    lacks = [call for call in expected["calls"] if not found["calls"][call]]
    if again:
        wrong.append(f"TOLD TWICE {again}")
    if lacks:
        wrong.append(f"not told {lacks}")
    ours, theirs = (_events(one["files"]) for one in (found, expected))
    if more := ours - theirs:
        wrong.append(f"{sum(more.values())} events doubled or strange")
    if less := theirs - ours:
        wrong.append(f"{sum(less.values())} events lacking")
    if not wrong:
        if found["files"] == expected["files"]:
            return "same" + (", rolled back" if found["calls"] != expected["calls"] else "")
        other = {
            re.sub(r"\d{9}", "{dl}", name.rpartition("/")[2]) if name.endswith(".txt") else "evt"
            for name in found["files"].keys() | expected["files"].keys()
            if found["files"].get(name) != expected["files"].get(name)
        }
        return f"same events, other {sorted(other)}"
    return ("needs action: " if wants else "SILENT: ") + "; ".join(wrong)


def _events(files: dict[str, bytes]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for name, content in files.items():
        if name.endswith(".evt"):
            found.update(records(content))
    return found
