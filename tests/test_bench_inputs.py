"""What the benchmarks work on is what they say it is, and what they measure is what a command cost."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import report
from benchmarks.bench_workflow import Note, useful
from benchmarks.dag import bare_dry_run, jobs
from benchmarks.measure import ROOT, UNFLUSHED, Figure, Launcher, Usage
from benchmarks.scenes import Scene, Shape, build, build_mission, is_whole
from benchmarks.steps import Copy, delivering
from halfpipe.decoding.products import check_products
from halfpipe.formats import evt, idx
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId
from halfpipe.planning.plan import Plan
from halfpipe.settings import Paths, Settings
from halfpipe.storage import paths

SHAPE = Shape(3000, chunks=4, downlinks=2, runs=2, level0=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two runs of two EPUs over two downlinks, with level-0."""
    return build(tmp_path_factory.mktemp("scenes"), SHAPE)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Give what runs commands."""
    started = Launcher(tmp_path)
    yield started
    started.close()


def test_a_run_has_as_many_events_as_asked_for_of_two_epus_that_take_turns(scene: Scene) -> None:
    for run in scene.runs:
        indexes = [idx.read_index(path) for path in scene.products(".idx") if f"-{run}-" in path.name]
        assert len(indexes) == SHAPE.chunks * SHAPE.downlinks
        events = np.concatenate([index.events for index in indexes])
        assert len(events) == len(np.unique(events["sequence"])) == SHAPE.events
        apids = events["apid"][np.argsort(events["sequence"])]
        assert 0.4 < np.mean(apids[1:] != apids[:-1]) < 0.6


def test_records_have_the_size_of_real_ones(scene: Scene) -> None:
    records = sum(path.stat().st_size - evt.HEADER_SIZE for path in scene.products(".evt"))
    assert 1_080 < records / (SHAPE.events * SHAPE.runs) < 1_180


def test_the_decoder_makes_the_same_products_of_the_level0(
    scene: Scene, launcher: Launcher, tmp_path: Path
) -> None:
    program = [sys.executable, ROOT / "scripts" / "simulated_decoder.py", "--level0", scene.level0]
    for downlink, run in ((scene.downlinks[0], scene.runs[1]), (scene.downlinks[1], scene.runs[0])):
        chunk = scene.chunks(run)[2]
        made = tmp_path / downlink
        made.mkdir()
        launcher.run([*program, "-r", scene.retdef(chunk, downlink), "-o", made])
        assert "exception" not in launcher.said
        home = scene.work / paths.chunks(downlink)
        names = sorted(path.name for path in made.iterdir())
        assert len(names) == 2
        for name in names:
            assert (made / name).read_bytes() == (home / name).read_bytes()
        vouched = json.loads((scene.work / paths.chunk(downlink, chunk)).read_bytes())
        assert vouched["files"] == check_products(made, chunk)
        assert vouched["runs"] == [read_retdef(scene.retdef(chunk, downlink)).run]


def test_all_events_are_delivered_once_every_downlink_is_there(scene: Scene, tmp_path: Path) -> None:
    scene.site(tmp_path / "site")
    (tmp_path / "site" / "stage").mkdir()
    run = scene.runs[0]
    manifests = [delivering(scene, tmp_path / "site", dl, run, 1)()[1] for dl in scene.downlinks]
    assert [manifest["complete"] for manifest in manifests] == [False, True]
    assert sum(manifest["delivered"] for manifest in manifests) == SHAPE.events
    assert is_whole(scene)  # nothing of it was changed by way of the links


def test_the_copy_alone_copies_every_record(tmp_path: Path) -> None:
    scene = build(tmp_path, Shape(500, chunks=2))
    (tmp_path / "out").mkdir()
    Copy(scene, tmp_path).write(tmp_path / "out")
    (copied,) = (tmp_path / "out").iterdir()
    records = sum(path.stat().st_size - evt.HEADER_SIZE for path in scene.products(".evt"))
    assert copied.stat().st_size == evt.HEADER_SIZE + records
    sequences = evt.context_column(
        np.fromfile(copied, np.uint8), evt.walk(np.fromfile(copied, np.uint8), "copied"), "scalers_sequence"
    )
    assert len(sequences) == 500
    assert (np.diff(sequences.astype(np.int64)) > 0).all()


def test_a_scene_is_built_once_and_again_only_if_it_is_not_whole(tmp_path: Path) -> None:
    shape = Shape(200, chunks=1)
    first = build(tmp_path, shape)
    file = first.products(".evt")[0]
    made, content = file.stat().st_ino, file.read_bytes()
    assert build(tmp_path, shape).products(".evt")[0].stat().st_ino == made
    file.write_bytes(content[:-1])
    assert not is_whole(first)
    build(tmp_path, shape)
    assert file.read_bytes() == content
    assert build(tmp_path, replace(shape, events=201)).home != first.home


def test_the_bare_snakefile_has_the_jobs_and_files_of_the_plan(tmp_path: Path, launcher: Launcher) -> None:
    mission = build_mission(tmp_path, 2)
    plan = Plan(Settings(Paths(tmp_path, tmp_path, retdef=(mission.home / "retdefs",))))
    bare: dict[str, Any] = json.loads((mission.bare / "downlinks.json").read_bytes())
    assert len(bare) == 2
    for downlink, files in bare.items():
        planned = plan.of(downlink)
        assert planned.complaints() == []
        assert files["chunks"] == planned.chunk_files
        assert files["manifests"] == planned.manifests
        assert files["runs"] == {run: planned.chunk_files_with(run) for run in planned.runs}
    bare_dry_run(launcher, mission)
    rules = re.findall(r"^(\w+) +(\d+)$", launcher.said, re.MULTILINE)
    assert jobs(launcher) == 2 * (2 * mission.CHUNKS + mission.RUNS + 1)
    written = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert {name for name, _ in rules} - {"all", "total"} <= set(
        re.findall(r"^rule (\w+):", written, re.MULTILINE)
    )


def test_the_peak_memory_is_that_of_the_command_alone(launcher: Launcher) -> None:
    mine = np.ones(200 << 20, np.uint8)
    small = launcher.run([sys.executable, "-c", "pass"])
    large = launcher.run([sys.executable, "-c", "x = b'1' * (100 << 20)"])
    assert small.peak is not None
    assert large.peak is not None
    assert small.peak < mine.nbytes / 2
    assert 0.9 < (large.peak - small.peak) / (100 << 20) < 1.3


def test_a_command_that_fails_says_why(launcher: Launcher) -> None:
    with pytest.raises(RuntimeError, match="ended with 3:\nno luck"):
        launcher.run(["sh", "-c", "echo no luck; exit 3"])
    assert launcher.run(["true"]).wall > 0


def test_processes_note_what_they_cost_and_leave_out_flushing(launcher: Launcher, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, time\nos.fsync(-1)\nbegan = time.process_time()\nwhile time.process_time() < began + 0.2: pass\n"
    )
    launcher.run([sys.executable, script], env={**UNFLUSHED, "HALFPIPE_BENCH_NOTES": str(notes)})
    (note,) = [Note(**json.loads(path.read_bytes())) for path in notes.iterdir()]
    assert note.program == "worker.py"
    assert 0.2 <= note.cpu < note.ended - note.began + 0.1


def test_time_in_which_a_job_works_counts_once() -> None:
    starts = {name: Usage(1.0, 0.5) for name in ("decode_chunk.py", "receipt.py", "simulated_decoder.py")}
    notes = [
        Note("decode_chunk.py", 0.0, 5.0, 2.5),
        Note("decode_chunk.py", 2.0, 6.0, 2.5),
        Note("simulated_decoder.py", 1.5, 4.0, 1.5),
        Note("receipt.py", 8.0, 9.5, 0.4),
        Note("snakemake", 0.0, 10.0, 3.0),
    ]
    # At work from 1 to 6 and from 9 to 9.5; the receipt's start took less than it usually does.
    wall, cpu = useful(notes, starts)
    assert wall == pytest.approx(5.5)
    assert cpu == pytest.approx(2.0 + 2.0 + 1.0)


def test_the_table_tells_kept_limits_from_missed_ones() -> None:
    def cells(values: tuple[float, ...], limit: float, at_least: bool) -> list[str]:
        return report.row(Figure("time / cp", values, "ratio", limit, at_least, against=(0.5,)))

    assert cells((1.0, 3.0, 1.2), 1.4, False) == [
        "time / cp (0.5 s)",
        "1.20",
        "1.00 to 3.00",
        "≤ 1.40",
        "kept",
    ]
    assert cells((1.0, 3.0, 1.5), 1.4, False)[-1] == "**missed**"
    assert cells((1.0, 3.0, 1.5), 1.4, True)[-2:] == ["≥ 1.40", "kept"]
    assert cells((1.3,), 1.4, True)[-1] == "**missed**"


def test_the_document_gets_the_table_between_its_markers() -> None:
    document = (ROOT / "docs" / "performance.md").read_text()
    old, new = "| of yesterday |", "| of today |"
    twice = report.put(report.put(document, old), new)
    assert new in twice
    assert old not in twice
    ends = [text.partition(report.BEGIN)[0] + text.partition(report.END)[2] for text in (document, twice)]
    assert ends[0] == ends[1]
    with pytest.raises(ValueError, match="expected the lines"):
        report.put("nothing here", new)


def test_figures_survive_the_file(tmp_path: Path) -> None:
    figure = Figure("time", (0.25, 0.5), "s", 0.4, against=(1.0,))
    path = tmp_path / "figure.json"
    path.write_text(json.dumps(figure.as_json()))
    assert Figure.of(json.loads(path.read_bytes())) == figure


def test_chunks_of_a_run_are_numbered_through(scene: Scene) -> None:
    every = list(chain.from_iterable(scene.chunks(run) for run in scene.runs))
    assert every == [ChunkId.of(number) for number in range(1, 9)]
    for downlink in scene.downlinks:
        assert [read_retdef(scene.retdef(chunk, downlink)).chunk for chunk in every] == every
