"""The golden cases: chunk products made with a fixed seed, and the expected output byte for byte."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import yaml

from halfpipe.decode.chunk import INDEX
from halfpipe.decode.chunk_products import check_products
from halfpipe.formats import idx
from halfpipe.ids import ChunkId, RunId
from halfpipe.state.merged_chunks import File, MergedChunk, Placed
from tests.support.model import Chunk, Datagram, Event, Rules
from tests.support.workflow import Site

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TEXTS = ("delivered_events", "retired_runs", "event_gaps")


@dataclass(frozen=True)
class Expected:
    directory: Path
    downlink: str

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The staged event files by name below the stage of the downlink (``r…/r…-e….evt``)."""
        stage = self.directory / "stage"
        return {str(path.relative_to(stage)): path.read_bytes() for path in sorted(stage.glob("r*/*.evt"))}

    @cached_property
    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """The spans that this step delivers, by Level-1's name of the run."""
        content = json.loads((self.directory / "spans.json").read_text())
        return {run: [(first, last) for first, last in spans] for run, spans in content.items()}

    def lines(self, text: str) -> list[str]:
        """Return the lines of a text (one of `TEXTS`), sorted, because their order does not matter."""
        return sorted((self.directory / f"{text}_{self.downlink}.txt").read_text().splitlines())


@dataclass(frozen=True)
class Step:
    """A downlink to process, and its runs (MET seconds of their start)."""

    downlink: str
    runs: tuple[int, ...]
    expected: Expected


@dataclass(frozen=True)
class Case:
    """One golden case with its settings; `moot` has key and alias by run."""

    name: str
    directory: Path
    rules: Rules
    latc: int | None
    moot: dict[int, tuple[int, str]]
    steps: tuple[Step, ...]

    def products(self, downlink: str, run: int) -> list[Path]:
        """Return the index files of `run` in the chunks of `downlink`, in order of their names."""
        return sorted((self.directory / "in" / downlink).glob(f"*-{run:08x}-????-?????.idx"))

    def chunks(self, downlink: str, run: int) -> tuple[Chunk, ...]:
        """Return the chunks of `downlink` with data of `run`, for the reference."""
        return tuple(chunk_of(path) for path in self.products(downlink, run))

    @property
    def downlinks(self) -> list[str]:
        """The downlinks of the case, in id order."""
        return sorted({step.downlink for step in self.steps})


def chunk_of(path: Path) -> Chunk:
    """Return the chunk with the index at `path`, for the reference."""
    index = idx.read_index(path)
    rows = index.events[["sequence", "apid", "datagram"]].tolist()
    events = tuple(Event(a, b, c, copy) for copy, (a, b, c) in enumerate(rows))
    names = ["apid", "datagram", "oaction", "caction", "nevts", "evtseq0", "evtseq1", "evtutc0"]
    lines = index.datagrams[names].tolist()
    return Chunk(
        path.name, events, tuple(Datagram(a, n, o.decode(), c.decode(), *rest) for a, n, o, c, *rest in lines)
    )


def decoded(source: Path, home: Path, run: RunId) -> list[Placed]:
    """Copy the products of a run to `home`, a directory for each chunk, and check them as the workflow does."""
    found = []
    for chunk in sorted({ChunkId(path.stem[-5:]) for path in source.glob(f"*-{run}-????-?????.idx")}):
        out = home / chunk
        out.mkdir(parents=True)
        for path in source.glob(f"*-{run}-????-{chunk}.*"):
            shutil.copy(path, out)
        merged = [file for file in check_products(out, chunk) if file.suffix != INDEX]
        found.append((MergedChunk(chunk, {file.name: File(file.size, file.sha256) for file in merged}), out))
    return found


def read_case(name: str | Path) -> Case:
    """Read a golden case by its name, or the case in a directory."""
    directory = GOLDEN / name
    content = yaml.safe_load((directory / "case.yaml").read_text())
    steps = tuple(
        Step(
            step["dl"],
            tuple(step["runs"]),
            Expected(directory / "expect" / f"{number:02d}-{step['dl']}", step["dl"]),
        )
        for number, step in enumerate(content["steps"], start=1)
    )
    return Case(
        name=directory.name,
        directory=directory,
        rules=Rules(**{knob.name: content[knob.name] for knob in fields(Rules) if knob.name in content}),
        latc=content["latc"],
        moot={run: (key, alias) for run, (key, alias) in (content["moot"] or {}).items()},
        steps=steps,
    )


def case_names(home: Path = GOLDEN) -> list[str]:
    return sorted(path.parent.name for path in home.glob("*/case.yaml"))


def cases() -> Iterator[Case]:
    return map(read_case, case_names())


def copied(name: str, site: Site) -> Path:
    """Copy a golden case into the site's directory, where a test may change its products."""
    return Path(shutil.copytree(GOLDEN / name, site.home / "golden" / name))


def build(name: str | Path, site: Site, *downlinks: str) -> Case:
    """Set up `site` with the settings and RetDefs of a case, and process some of its downlinks."""
    case = read_case(name)
    moot = site.home / "moot.txt"
    moot.write_text("".join(f"r{run:010d} {key} {alias}\n" for run, (key, alias) in case.moot.items()))
    site.replay(case.directory / "in", *case.downlinks)
    site.configure(merge=asdict(case.rules) | {"latc_override": case.latc}, moot={"file": str(moot)})
    for downlink in downlinks:
        site.by_hand(downlink)
    return case


def check(site: Site, step: Step) -> None:
    """Check the files, texts and spans of a step."""
    assert site.staged(step.downlink) == step.expected.files
    for text in TEXTS:
        assert site.text(text, step.downlink) == step.expected.lines(text)
    spans = {one.run.l1: one.delivery.spans for one in site.receipt(step.downlink).runs}
    assert {run: [*found] for run, found in spans.items() if found} == {
        run: found for run, found in step.expected.spans.items() if found
    }


def take_chunk(case: str, downlink: str, number: int, home: Path, taken_as: str, chunk: int) -> None:
    """Copy the files of one chunk of a golden case to `home`, renamed as a chunk of another downlink."""
    home.mkdir(parents=True, exist_ok=True)
    old = f"{number:05d}"
    new = f"{chunk:05d}"
    for path in sorted((GOLDEN / case / "in" / downlink).glob(f"*-{old}.*")):
        content = path.read_bytes()
        content = content.replace(f"-{old}.evt".encode(), f"-{new}.evt".encode())
        content = content.replace(f'chunkid="{number}"'.encode(), f'chunkid="{chunk}"'.encode())
        name = path.name.replace(f"-{old}.", f"-{new}.").replace(f"RetDef-{downlink}", f"RetDef-{taken_as}")
        (home / name).write_bytes(content)
