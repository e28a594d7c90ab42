"""docs/legacy.md keeps its word: every piece of the earlier system has one row, and what a row names exists."""

import ast
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe import paths
from halfpipe.halts import Switch
from halfpipe.handoff.texts import texts
from halfpipe.ledger import tables
from halfpipe.submission.command import CONTRACT
from tests.workflow import ROOT

TEXT = (ROOT / "docs" / "legacy.md").read_text()
HEADER = "| legacy | what it was | here |"
CODE = re.compile(r"`([^`]+)`")
REFERENCE = re.compile(r"\b(rule|script|key|path|doc|module|setting|file) `([^`]+)`(?: \(`([^`]+)`\))?")
REASON = re.compile(r"none\b[^:]*:(?: \S+){3,}")  # why nothing does the work now, in more than a word or two
TEXTS = {*texts([], Counter({("2c2e5787", "PktFile"): 1})), "magic7"}  # of a hand-off

# The pieces that the public record names, by its paragraph (ground-chain §3 to §10, the questions of the migration,
# and the programs as they are published).
PIECES = {
    "§3.4, §4, §5": """
        writeMerge.exe|LSEWRITER_MOOTKEY|LSEWRITER_MOOTALIAS|WRITEMERGE_CHUNKSCALE|WRITEMERGE_CHUNKFLOOR
        getLSEChunk.exe|RetDef-<dl>-<chunk>.xml|<gnd>-<run>-<apid>-<chunk>.evt|<gnd>-<run>-<apid>-<chunk>.idx
        processsci.py|RePipe.py|createStream.py|logChunkExceptions.py|DiagRet.py|grep -E|fmxRoot|FMX_C_FDB
        downlinkID|numChunks|outputBase|level1Name|startL1|maxEvents|fosFlavor|pipelineFlavor|startOnline
        onlineName|taskBase|pM7Parser.py""",
    "§6, hand-off": """
        launchL1.sh|L1Proc|createStream -S|DOWNLINK_ID|DOWNLINK_RAWDIR|<stage>/<dl>/|<stage>/<dl>/r%010d/
        r%010d-e%020d.evt|retired_runs_<dl>.txt|delivered_events_<dl>.txt|magic7_<dl>.txt|event_gaps_<dl>.txt
        event_times_<dl>.txt|moot_keys_<dl>.txt|<dl>/*.txt|GLASTOPS_ACQSUMMARY|/@isocflight|acqQuery.py|chunktokens
        chunktokens/<run>/<run>-<chunk>|haltCleanup-<dl>|r0%d|mergeIndices.sh|dontCleanUp|checkChunk|checkRun
        findRunDirs.py|finders.py|copyM7.py|fakeFT2.py|fastMon.py|findChunks.py|deleteDirs.py|chunkTester.py
        verifyList|chunkList|deliveriesToIgnore|MC|fileNames.chunkToken|Running|Failed|latConfig|noms
        runSubTask|doRun|doLci|doInc|doIncLci|ingestRun|ft2Columns
        ft2Entries|ingestChunks|L1Output/deliveries|throttleLimit|maxCrumbs|crumbSize|crumbMmr
        merge lock|verify lock|digiGap|maxChunks|roll back findRunDirs|FastMon|makeM7
        COMPLETE|WAITING|INPROGRESS|INCOMPLETE""",
    "§6, behaviours and indexes": """
        MergeDatagrams.py|MergeDatagrams.py -f|MERGE_APIDS|AcqSummary.py|r%010d-delivered.txt|r%010d-retired.txt
        %r010d-retired.txt|r%010d-spans.txt|r%010d-evtgaps.txt|acqsummary.ndgms|HALFPIPE_RUNSTART|prolog_script
        lockFile.sh|lock/<stream id>|PIPELINE_STREAM|RunCleanup.py|lock/<hex run>|checkNFS.sh|strace
        r0<MET>_doMerge.txt|<dl>/<decimal MET>/|haltStage|haltL1|haltOnline|haltCleanup|config/|TEST|EVT:|DGM:
        r%010d-e%020d.idx|HalfPipe-1.68.xml|HalfPipe-test.xml""",
    "§7": """
        launchOnline.sh|outputBase/stage|outputBase/evt|DeliverEvents.sh|AcqToAlgAndQueue.py|intOnlineAnalysis
        EVENT_FILE|ANALYSIS_QUEUE|ANALYSIS_ALGORITHM|RUN_ID|FLAVOR|FARM_ROOT|cleanup.sh|stage/.decode|yes|no
        N minutes|<gid>-<runstart>.evt|config/stagedir|u28/stage|PipelineStaging|force/|KeyToAlgAndQueue
        LICOS_Scripts|dirname(outputBase)/Online""",
    "§8": """
        FASTCopy|roll back makeEvt|roll back mergeEvt|roll back launchOnline|roll back launchL1|INGEST-FAILED|lock/
        lock/cleanup|lock/launchOnline|autoRetryMaxAttempts|RePipe|setL1Status|sort -u|AcqSummary.py --load
        lock/halfpipe-<dl>|u42|FswDumps|u42/ISOC-flight/Online|u42/ISOC-flight/Downlinks
        u23/ISOC-flight/Archive/fcopy|rm lock|Pipeline-II web interface|magic7 of a neighbour|gap finder
        roll back minimum delivery""",
    "§9": """
        milano|torino|roma|fermi:L1|fermi:users|preemptable|/sdf|/sdf/group/fermi/n|/sdf/group/fermi/a
        LSCRATCH|/lscratch|TMPDIR|singularity exec|fermi-rhel6.sif|/nfs/farm/g/glast
        /afs/slac/g/glast|/afs/slac.stanford.edu/g/glast|sw/package|TWWfsw|usr/local|jdk|PipelineOutput
        ISOC/flight/Downlinks|ISOC/test/Downlinks|PipelineConfig/halfPipe/v7r0p0|fmx|pipeline|L1Output|FASTCopyOutdir|stagedir.SDF
        v7r0p0_devel""",
    "§10": """
        glastops_downlink|glastops_acqsummary|glastops_downlink_seg|glastops_downlink_dgm
        glastops_downlink_acqsummary|glastops_acqdefaults|glastops_acquisition|map_moot|acquisition.type
        downlink.id|downlink.l0key|downlink.indir|downlink.outbase|acqsummary.scid|acqsummary.startedat
        acqsummary.status|createAcq_summary.sql|config_fk|STARTED|acqsummary.type
        acqsummary.analysis|InProgress|Complete|Incomplete|0xFFFFFFFF|UNKNOWN|updateAcqSummary
        markAcqComplete|Acq_summary|MOOT_ARCHIVE|nomSciOps|calibOps|conSciOps_noCal|acqsummary.hwkey
        acqsummary.swkey|acqsummary.nevts|acqsummary.dgmutc0|acqsummary.dgmutc1|acqsummary.evtutc0
        acqsummary.evtutc1|acqsummary.moot_key|acqsummary.moot_alias|MootUpdate|archive-mood_test""",
    "questions of the migration, defects": """
        launchChunks|doChunk.makeEvt|mergeIndices|launchMerge|doMerge.mergeEvt|launchL1|launchOnline|/scratch
        7234|9503|LSEReader|LSEWriter|u23/ISOC-flight/Archive/level0|u42/ISOC|ISOC-devel|ISOC-nightly|ISOC-test""",
    "as published": """
        HalfPipe|HalfPipe-s3df|config/README|doChunk|doMerge|submitL1|cleanup|pipelineCreateStream|makeEvt.sh|mergeEvt.sh
        mergeidx.py|acqSummary.sh|AcqSummary.py --delete|AcqSummary.py --rebuilddb|AcqSummary.py --report
        prolog.sh|isocenv_wrapper.sh|isocenv_wrap|isoc_env|isoc-platform|run_rhel6.sh|start_rhel6.sh|uploadXML.sh
        l0key.xsl|l0arch.xsl|test_AcqSummary.sh|test_sbatch.sh|GPLtools|cmt/requirements|ChangeLog
        halfPipe.chunkException|halfPipe.mergeEvt.orphans|Level0Xrootd|level0-xrootd.sh|L0Archiver.py
        HALFPIPE_OUTPUTBASE|HALFPIPE_DOWNLINKID|HALFPIPE_NUMCHUNKS|HALFPIPE_CHUNKID
        HALFPIPE_L1TASK|HALFPIPE_STARTL1|HALFPIPE_MAXEVENTS|HALFPIPE_FOSFLAVOR|HALFPIPE_FMXROOT
        HALFPIPE_PLFLAVOR|HALFPIPE_STARTONLINE|HALFPIPE_ONLINETASK|HALFPIPE_RUNSTART_DEX|HALFPIPE_MERGEIDX
        preExec|HP_OUTPUTDIR|HP_RETDEFCHUNKFILE|HP_EVTCHUNKFILE|HP_IDXCHUNKFILE|HP_ORPHANFILE|orphan-events.idx
        LD_LIBRARY_PATH|MOOT_XML|ISOC_SITEDEP|logRoot|JOBSITE|WALL_TIME|MAX_CPU|GPL_BATCHRESOURCES
        GPL_BATCHACCOUNT|GPL_BATCHOPTIONS|GPL_XTRABATCHRESOURCES|GPL_XTRABATCHOPTIONS|container_image
        container_volumes|container_env|container_wrap|<dl>/|dgm-<run>.idx|evt-<run>.idx|dgm-previous-<run>.tmp
        dgm-current-<run>.tmp|evt-previous-<run>.tmp|evt-current-<run>.tmp|createStream_<task>.sh|$LSCRATCH/$$
        evt0.txt|evt1.txt|launch.txt|aq_<run>.txt|halted|configDispatch|config/flavor|flavor_prod|flavor_test
        flavor_devel|flavor_nightly_prod|flavor_nightly_devel|config/maxEvents|config/ChunkScaling|config/LPAtype
        config/LCItype|overrideLATCdecode.sh|overrideLATCmerge.sh|config/sitedep.ini|stagedir.AFS
        stagedir.AFS.6|stagedir.NFS|stagedir.NFS.28|stagedir.NFS.52""",
}


QUESTIONS = tuple(f"Q{number}" for number in range(1, 11))  # of the migration

# What may stand in the last column besides references and commands: each is explained by its row.
PLAIN = {"-F", "-m", "dl=<dl>", "<dl>/", "r%010d", "{dl}", "{rawdir}", "chunk", "run", "evt", "force"}


@dataclass(frozen=True)
class Row:
    """A row of a table, with the heading that it stands under."""

    heading: str
    legacy: str
    was: str
    here: str

    @property
    def names(self) -> list[str]:
        """The pieces that the row is about."""
        return CODE.findall(self.legacy)


def sections() -> dict[str, list[str]]:
    """Return the lines of each section, by its heading."""
    found: dict[str, list[str]] = {"": []}
    for line in TEXT.splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ")] = []
        else:
            found[list(found)[-1]].append(line)
    return found


def rows() -> list[Row]:
    """Return the rows of all tables of pieces."""
    found = []
    for heading, lines in sections().items():
        if HEADER in lines:
            start = lines.index(HEADER)
            assert lines.count(HEADER) == 1, heading
            for line in lines[start + 2 :]:
                if line.startswith("|"):
                    cells = [cell.strip() for cell in line.strip("|").split("|")]
                    assert len(cells) == 3, line
                    found.append(Row(heading, *cells))
    return found


def slugs(document: str) -> set[str]:
    """Return what links into a document may point at: its headings as they stand in addresses."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / document).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def is_document(target: str) -> bool:
    document, _, section = target.partition("#")
    if not (document.startswith("docs/") or document in ("README.md", "CONTRIBUTING.md")):
        return False
    return (ROOT / document).is_file() and (not section or section in slugs(document))


def is_rule(target: str) -> bool:
    included = re.findall(r'include: "(workflow/rules/\w+\.smk)"', (ROOT / "Snakefile").read_text())
    return target in chain.from_iterable(
        re.findall(r"^rule (\w+):", (ROOT / file).read_text(), re.MULTILINE) for file in included
    )


@cache
def sources() -> dict[str, str]:
    """Return the text of what is started, the programs and the rules, and of the package, by path."""
    files = chain(
        (ROOT / "scripts").glob("*.py"),
        (ROOT / "workflow").rglob("*.smk"),
        (ROOT / "src" / "halfpipe").rglob("*.py"),
    )
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


def is_started(script: str) -> bool:
    """Tell whether a rule starts `script`, the config of the site does, or a document tells people to."""
    if not script.startswith("scripts/") or script not in sources():
        return False
    rules = "".join(text for path, text in sources().items() if path.endswith(".smk"))
    if f'script("{Path(script).stem}"' in rules:
        return True
    tell = [ROOT / "README.md", ROOT / "config" / "s3df.yaml", *(ROOT / "docs").glob("*.md")]
    return any(script in file.read_text() for file in tell if file.name != "legacy.md")


def is_path(target: str) -> bool:
    """Tell whether `target` is a function of `halfpipe.paths` that something asks."""
    name = target.removeprefix("paths.")
    asked = re.compile(rf"\bpaths\.{name}\b")
    return (
        target.startswith("paths.")
        and inspect.isfunction(getattr(paths, name, None))
        and any(asked.search(text) for text in sources().values())
    )


@cache
def loaded() -> frozenset[str]:
    """Return the modules of the package that programs and rules import, those that they import included."""
    found, rest = set[str](), [path for path in sources() if not path.startswith("src/")]
    while rest:
        path = rest.pop()
        if path.startswith("workflow/rules/"):
            continue  # rules are no Python, and import nothing
        for node in ast.walk(ast.parse(sources()[path])):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("halfpipe"):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                file = f"src/{name.replace('.', '/')}.py"
                if file in sources() and name not in found:
                    found.add(name)
                    rest.append(file)
    return frozenset(found)


def value_of(file: str, target: str) -> Any:
    """Return what `file` has under the key `target`, whose parts are separated by dots."""
    found: Any = yaml.safe_load((ROOT / file).read_text())
    for part in target.split("."):
        if not isinstance(found, dict):
            raise KeyError(target)
        found = found[part]
    return found


def is_key(file: str, target: str) -> bool:
    try:
        value_of(file, target)
    except KeyError:
        return False
    return True


CHECKS: dict[str, Callable[[str], bool]] = {
    "rule": is_rule,
    "script": is_started,
    "key": lambda target: is_key("config/config.yaml", target),
    "path": is_path,
    "doc": is_document,
    "module": lambda target: target in loaded(),
    "setting": lambda target: is_key("config/flight.yaml", target),
    "file": lambda target: (ROOT / target).is_file(),
}


def has(kind: str, target: str, word: str) -> bool:
    """Tell whether a reference has what stands in brackets behind it."""
    if kind == "script":
        text = (ROOT / target).read_text()
        return f'"{word}"' in text and (word.startswith("--") or f"def {word}(" in text)
    if kind == "module":
        return hasattr(importlib.import_module(target), word)
    if kind == "setting":
        return word in repr(value_of("config/flight.yaml", target))
    return (kind, target) == ("path", "paths.text") and word in TEXTS


def is_command(text: str) -> bool:
    """Tell whether `text` is a command of Snakemake, by its targets and rules."""
    words = text.split()
    if words.pop(0) != "snakemake":
        return False
    while words:
        word = words.pop(0)
        if word == "-R":
            if not words or not is_rule(words.pop(0)):
                return False
        elif word not in ("-n", "dl=<dl>"):
            return False
    return True


def problems(here: str) -> list[str]:
    """Return what is wrong with the last cell of a row."""
    found = []
    for kind, target, word in REFERENCE.findall(here):
        if not CHECKS[kind](target):
            found.append(f"there is no {kind} {target}, or nothing uses it")
        elif word and not has(kind, target, word):
            found.append(f"{kind} {target} has no {word}")
    for name in CODE.findall(REFERENCE.sub("", here)):
        if name not in PLAIN and not is_command(name):
            found.append(f"{name} does not say what it is")
    if here.startswith("none"):
        if not REASON.match(here):
            found.append("no reason")
    elif not REFERENCE.search(here):
        found.append("neither a successor nor a reason")
    return found


ROWS = rows()


def named(pattern: str) -> set[str]:
    """Return what `pattern` finds as a group in the names of the first column that it fits as a whole."""
    found = (re.fullmatch(pattern, name) for row in ROWS for name in row.names)
    return {match[1] for match in found if match}


def row_of(name: str) -> Row:
    return next(row for row in ROWS if name in row.names)


@pytest.mark.parametrize("heading", dict.fromkeys(row.heading for row in ROWS))
def test_what_a_row_names_exists(heading: str) -> None:
    bad = {row.legacy: problems(row.here) for row in ROWS if row.heading == heading}
    assert {legacy: found for legacy, found in bad.items() if found} == {}


def test_every_row_says_what_the_piece_was() -> None:
    assert [row for row in ROWS if not row.names or not row.was] == []
    assert [row.legacy for row in ROWS if re.sub(r"[\s,]", "", CODE.sub("", row.legacy))] == []


def test_no_piece_has_two_rows() -> None:
    counted = Counter(name for row in ROWS for name in row.names)
    assert [name for name, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("paragraph", PIECES)
def test_every_piece_has_a_row(paragraph: str) -> None:
    wanted = [name.strip() for name in re.split(r"[|\n]", PIECES[paragraph]) if name.strip()]
    assert len(wanted) > 10
    known = {name for row in ROWS for name in row.names}
    assert [name for name in wanted if name not in known] == []


def test_every_row_is_about_a_piece_that_a_paragraph_names() -> None:
    wanted = set(chain.from_iterable(re.split(r"[|\n]\s*", names) for names in PIECES.values()))
    assert [name for row in ROWS for name in row.names if name not in wanted] == []


@pytest.mark.parametrize("heading", ["Processes", "Programs"])
def test_what_did_something_is_followed_by_what_does_something(heading: str) -> None:
    does = {"rule", "script", "module", "key", "setting", "file"}
    idle = [
        row.legacy
        for row in ROWS
        if row.heading == heading
        and not row.here.startswith("none")
        and not does.intersection(kind for kind, *_ in REFERENCE.findall(row.here))
        and "docs/operations.md" not in row.here
        and "CONTRIBUTING.md" not in row.here
    ]
    assert idle == []


def test_each_switch_has_its_row() -> None:
    assert named(r"(halt[A-Z][a-zA-Z0-9]*)") == {switch.value for switch in Switch}
    for switch in Switch:
        places = {
            target for kind, target, _ in REFERENCE.findall(row_of(switch.value).here) if kind == "path"
        }
        of_downlink = set() if switch is Switch.CLEANUP else {"paths.downlink_halt"}
        assert places == {"paths.halt"} | of_downlink


def test_the_tables_and_columns_that_level_1_reads_are_those_of_the_ledger() -> None:
    of_legacy = {name for name in tables.METADATA.tables if name.startswith("glastops_")}
    assert named(r"(glastops_\w+)") == of_legacy
    assert named(r"acqsummary\.(\w+)") == set(tables.RUNS.columns.keys())
    assert named(r"downlink\.(\w+)") == {*tables.DOWNLINKS.columns.keys()} - {"handoff"}  # that is new


def test_the_texts_of_the_hand_off_have_their_rows() -> None:
    assert named(r"(\w+)_<dl>\.txt") == TEXTS - {"chunk_exceptions"}  # that is new


def test_level_1_is_given_what_its_row_says() -> None:
    assert row_of("DOWNLINK_ID") is row_of("DOWNLINK_RAWDIR")
    words = CONTRACT.split()
    assert {"createStream", "-S", "DOWNLINK_ID={dl}", "DOWNLINK_RAWDIR={rawdir}", "L1Proc"} <= {*words}
    assert "key `submit.command`" in row_of("DOWNLINK_ID").here


def test_what_is_bound_into_the_container_is_what_the_rows_say() -> None:
    binds = value_of("config/flight.yaml", "binds")
    rows_of_binds = [row for row in ROWS if row.heading == "Site" and "setting `binds`" in row.here]
    names = [name for row in rows_of_binds for name in row.names]
    assert len(names) > 8
    places = {place for bind in binds for place in bind.split(":")}
    assert [n for n in names if n.startswith("/") and n not in places] == []
    assert [n for n in names if not any(f"/{n.lstrip('/')}" in place for place in places)] == []


def test_every_question_of_the_migration_has_one_row_that_leads_to_its_answer() -> None:
    counted = Counter(chain.from_iterable(re.findall(r"\*(Q\d+)\*", row.here) for row in ROWS))
    assert counted == dict.fromkeys(QUESTIONS, 1)
    lost = []
    for row in ROWS:
        for document, question in re.findall(r"doc `([^`#]+)#[^`]+` \(\*(Q\d+)\*\)", row.here):
            counted[question] -= 1
            text = (ROOT / document).read_text()
            if not re.search(rf"^(?:\*\*|## ){question}[:.]? ", text, re.MULTILINE):
                lost.append((row.legacy, document, question))
    assert lost == []
    assert counted == dict.fromkeys(QUESTIONS, 0)  # each stands behind its document


def test_every_question_of_the_migration_is_answered_once() -> None:
    answers = re.compile(r"^\*\*(Q\d+): .*?\*\*(.*?)(?=^\*\*Q|^#|\Z)", re.MULTILINE | re.DOTALL)
    found = {
        document: answers.findall((ROOT / "docs" / document).read_text())
        for document in ("operations.md", "online.md")
    }
    every = [answer for of_document in found.values() for answer in of_document]
    assert Counter(question for question, _ in every) == dict.fromkeys(QUESTIONS, 1)
    assert [question for question, text in every if len(text.split()) < 10] == []
    assert "](docs/operations.md#questions-of-the-migration)" in (ROOT / "README.md").read_text()
    section = (ROOT / "docs" / "operations.md").read_text().split("## Questions of the migration")[1]
    assert "](online.md#the-questions-of-the-migration)" in section
    assert "the-questions-of-the-migration" in slugs("docs/online.md")


def test_the_paragraphs_point_at_tables() -> None:
    lines = [line for line in sections()["Which paragraph is where"] if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    paragraphs = " ".join(source for source, _, _ in cells)
    assert [n for n in range(6, 11) if f"§{n}" not in paragraphs] == []
    headings = {row.heading for row in ROWS}
    for _, paragraph, where in cells:
        plain = re.split(r"[;:]", REFERENCE.sub("", where))[0]
        there = [name.strip() for name in plain.split(",")]
        assert there == ["none of the pieces"] or set(there) <= headings, paragraph
        assert all(CHECKS[kind](target) for kind, target, _ in REFERENCE.findall(where)), paragraph
    assert headings <= {name.strip() for *_, tables in cells for name in re.split(r"[,;:]", tables)}


@pytest.mark.parametrize(
    "here",
    [
        "",
        "nothing",
        "none",
        "none: gone",
        "rule `launch_chunks`",
        "script `scripts/launch.py`",
        "script `Makefile`",
        "key `merge.max_event`",
        "key `merge.max_events.more`",
        "path `paths.DL`",
        "path `paths.launch`",
        "path `receipt`",
        "doc `docs/launch.md`",
        "doc `docs/architecture.md#launch`",
        "doc `Makefile`",
        "module `halfpipe.launch`",
        "module `halfpipe.launch.chunks`",
        "module `os.path`",
        "setting `decoder.launch`",
        "file `docs`",
        "rule `receipt`, and `scripts/receipt.py`",
        "rule `receipt`, and `receipt.py`",
        "script `scripts/ledger.py` (`lead`)",
        "script `scripts/submit.py` (`--roll`)",
        "path `paths.text` (`delivered`)",
        "module `halfpipe.ids` (`RunKinds`)",
        "setting `decoder.program` (`bash`)",
        "key `merge.max_events` (`125000`)",
        "module `halfpipe.merge`",
        "rule `receipt`: `snakemake -R launch dl=<dl>`",
        "rule `receipt`: `snakemake --launch`",
    ],
)
def test_the_check_finds(here: str) -> None:
    assert problems(here)


@pytest.mark.parametrize(
    "here",
    [
        "rule `receipt`, script `scripts/receipt.py`, key `merge.max_events`, path `paths.receipt`",
        "doc `docs/architecture.md#the-task-in-one-page`, module `halfpipe.plan`, setting `decoder.program`",
        "file `Snakefile`",
        "none: there is nothing like it",
        "script `scripts/ledger.py` (`load`), script `scripts/submit.py` (`--rollback`)",
        "path `paths.text` (`chunk_exceptions`), module `halfpipe.ids` (`RunKind`)",
        "rule `receipt`: `snakemake dl=<dl> -R receipt`",
    ],
)
def test_the_check_passes(here: str) -> None:
    assert problems(here) == []
