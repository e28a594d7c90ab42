"""No bytes become code: no pickles, no shells, no evaluation, anywhere in the project's programs."""

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from halfpipe import paths
from halfpipe.decode.chunk_products import check_products
from halfpipe.errors import StateError
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import merged_index
from halfpipe.run.chunk_files import ChunkProducts, load_chunks
from halfpipe.run.event_table import load_events
from tests.support.golden_cases import GOLDEN
from tests.support.in_process import ROOT

PROGRAMS = sorted(
    path
    for home in ("src", "scripts", "workflow")
    for path in (ROOT / home).rglob("*")
    if path.suffix == ".py"
)
SNAKEFILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
BAD_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "code",
    "codeop",
}
BAD_NAMES = {"eval", "exec", "compile", "__import__", "execfile"}
BAD_CALLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all", "yaml.unsafe_load_all",
    "pandas.read_pickle", "pd.read_pickle", "np.fromregex", "tempfile.mktemp", "pandas.eval", "pd.eval",
    "importlib.import_module", "runpy.run_path", "runpy.run_module",
}  # fmt: skip
ALLOWED = {ROOT / "src" / "halfpipe" / "cli" / "main.py": "calls importlib.import_module"}  # of a fixed list
BAD_PARSERS = re.compile(r"(xml\.(sax|dom|etree)|lxml)(\.|$)")


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _only_for_types(tree: ast.AST) -> set[ast.AST]:
    """Return what stands under ``if TYPE_CHECKING``: it never runs."""
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and _dotted(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }


def complaints(source: str) -> Iterator[str]:
    """Yield what a program should not have: line and what."""
    tree = ast.parse(source)
    passive = _only_for_types(tree)
    for node in ast.walk(tree):
        if node in passive:
            continue
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            if module.split(".")[0] in BAD_MODULES or BAD_PARSERS.match(module) or module in BAD_CALLS:
                yield f"{getattr(node, 'lineno', 0)}: imports {module}"
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        if name in BAD_NAMES or name in BAD_CALLS:
            yield f"{node.lineno}: calls {name}"
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg == "shell" and not (isinstance(value, ast.Constant) and value.value is False):
                yield f"{node.lineno}: {name} has a shell"
            if keyword.arg == "allow_pickle" and not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield f"{node.lineno}: {name} allows pickles"
        pickles = {keyword.arg for keyword in node.keywords}
        if name in ("np.load", "numpy.load", "np.save", "numpy.save") and "allow_pickle" not in pickles:
            yield f"{node.lineno}: {name} does not refuse pickles"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_programs_make_no_code_of_data(path: Path) -> None:
    found = [said.partition(": ")[2] for said in complaints(path.read_text())]
    assert found == ([ALLOWED[path]] if path in ALLOWED else [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os\nos.system('x')",
        "from os import system",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "import subprocess\nsubprocess.run('x', shell=1 > 0)",
        "eval('1')",
        "import yaml\nyaml.load(x, Loader=L)",
        "import numpy as np\nnp.load(x)",
        "import numpy as np\nnp.load(x, allow_pickle=True)",
        "import xml.etree.ElementTree",
        "from xml.dom import minidom",
    ],
)
def test_the_scan_sees(source: str) -> None:
    assert list(complaints(source))


def test_all_programs_are_scanned() -> None:
    names = {path.name for path in PROGRAMS}
    assert {"decode_chunk.py", "simulated_decoder.py", "retdef.py", "programs.py"} <= names
    assert len(PROGRAMS) > 40


@pytest.mark.parametrize("path", SNAKEFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rules_put_only_quoted_or_shaped_words_into_a_shell(path: Path) -> None:
    """Each placeholder of a shell command is an id of one shape, quoted by Snakemake, or quoted when it was made."""
    text = path.read_text()
    assert not re.search(r"^\s*(run|script|notebook|wrapper|cwl):", text, re.MULTILINE)
    shaped = {
        "wildcards.dl",
        "wildcards.chunk",
        "wildcards.run",
        "params.chunks",
        "params.runs",
        "threads",
        "log",
    }
    made = dict(re.findall(r"^ {8}(\w+)=(.*),$", text, re.MULTILINE))
    for command in re.findall(r"^ {4}shell:\n((?: {8}.*\n?)+)", text, re.MULTILINE):
        for word in re.findall(r"\{([^}]*)\}", command):
            if word in shaped or word.endswith(":q"):
                continue
            name = word.removeprefix("params.")
            quoted = re.search(
                r"\b(script|option|program)\(|\b(WHERE|DECODER)\b|--without-context", made[name]
            )
            assert quoted, f"{path.name}: {{{word}}} is {made[name]}"


class Evil:
    """What a pickle may hold: something that is done when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_an_event_part_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    downlink, run, chunk = DownlinkId("240601001"), RunId("2c2e6cc0"), ChunkId("00003")
    home = GOLDEN / "multi3" / "in" / downlink
    out = tmp_path / "out"
    out.mkdir()
    for path in home.glob(f"*-{run}-*-{chunk}.*"):
        (out / path.name).write_bytes(path.read_bytes())
    entry = {"chunk": chunk, "files": check_products(out, chunk)}
    merged_index.save(merged_index.build([(ChunkProducts.of(entry, run), out)]), tmp_path, run, downlink)
    path, mark = tmp_path / paths.events(run, downlink), tmp_path / "evil"
    objects = np.array([Evil(mark)], object)

    with path.open("wb") as file:
        np.save(file, objects, allow_pickle=True)
    with pytest.raises(StateError, match=f"^{path}: .*made again"):
        load_events(tmp_path, run, downlink)
    with path.open("wb") as file:
        np.savez(file, objects=objects)
    with pytest.raises(StateError, match=f"^{path}: .*made again"):
        load_events(tmp_path, run, downlink)
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(StateError, match=f"^{path}: .*made again"):
        load_events(tmp_path, run, downlink)
    assert not mark.exists()
    assert load_chunks(tmp_path, run, downlink)[0].chunk == chunk
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the pickle was a good one"


def test_every_dependency_is_pinned_by_its_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=\S)", text)
    for block in blocks:
        if block.startswith("#"):
            continue
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]
    assert "--require-hashes" in (ROOT / "Makefile").read_text()
