"""docs/legacy.md keeps its word: every piece of the earlier system has one row, and what a row names exists."""

import importlib.util
import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
import yaml

from halfpipe import paths
from tests.workflow import ROOT

TEXT = (ROOT / "docs" / "legacy.md").read_text()
HEADER = "| legacy | what it was | here |"
CODE = re.compile(r"`([^`]+)`")
REFERENCE = re.compile(r"\b(rule|script|key|path|doc|module|setting|file) `([^`]+)`")
LIKE_REFERENCES = ("scripts/", "docs/", "workflow/", "config/", "profiles/", "paths.", "halfpipe.")
REASON = re.compile(r"none\b[^:]*:(?: \S+){3,}")  # why nothing does the work now, in more than a word or two

# The pieces that the public record names, by its paragraph (ground-chain §3 to §10, the questions of the migration,
# and the programs as they are published).
PIECES = {
    "§3.4, §4, §5": """
        writeMerge.exe|LSEWRITER_MOOTKEY|LSEWRITER_MOOTALIAS|WRITEMERGE_CHUNKSCALE|WRITEMERGE_CHUNKFLOOR
        getLSEChunk.exe|RetDef-<dl>-<chunk>.xml|<gnd>-<run>-<apid>-<chunk>.evt|<gnd>-<run>-<apid>-<chunk>.idx
        processsci.py|RePipe.py|createStream.py|logChunkExceptions.py|DiagRet.py|grep -E|fmxRoot|FMX_C_FDB
        downlinkID|numChunks|outputBase|level1Name|startL1|maxEvents|fosFlavor|pipelineFlavor|startOnline
        onlineName|taskBase""",
    "§6, hand-off": """
        launchL1.sh|L1Proc|createStream -S|DOWNLINK_ID|DOWNLINK_RAWDIR|<stage>/<dl>/|<stage>/<dl>/r%010d/
        r%010d-e%020d.evt|retired_runs_<dl>.txt|delivered_events_<dl>.txt|magic7_<dl>.txt|event_gaps_<dl>.txt
        event_times_<dl>.txt|moot_keys_<dl>.txt|<dl>/*.txt|GLASTOPS_ACQSUMMARY|/@isocflight|acqQuery.py|chunktokens
        chunktokens/<run>/<run>-<chunk>|haltCleanup-<dl>|r0%d|mergeIndices.sh|dontCleanUp|checkChunk|checkRun
        findRunDirs.py|finders.py|copyM7.py|fakeFT2.py|fastMon.py|findChunks.py|deleteDirs.py|chunkTester.py
        verifyList|chunkList|deliveriesToIgnore|runSubTask|doRun|doLci|doInc|doIncLci|ingestRun|ft2Columns
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
        LICOS_Scripts""",
    "§8": """
        FASTCopy|roll back makeEvt|roll back mergeEvt|roll back launchOnline|roll back launchL1|INGEST-FAILED|lock/
        lock/cleanup|lock/launchOnline|autoRetryMaxAttempts|RePipe|setL1Status|sort -u|AcqSummary.py --load
        lock/halfpipe-<dl>|u42|FswDumps|u42/ISOC-flight/Online|u42/ISOC-flight/Downlinks
        u23/ISOC-flight/Archive/fcopy|rm lock|Pipeline-II web interface|magic7 of a neighbour|gap finder""",
    "§9": """
        milano|fermi:L1|LSCRATCH|/lscratch|TMPDIR|singularity exec|fermi-rhel6.sif|/nfs/farm/g/glast
        /afs/slac/g/glast|/afs/slac.stanford.edu/g/glast|TWWfsw|usr/local|jdk|PipelineOutput|ISOC/flight/Downlinks
        ISOC/test/Downlinks|PipelineConfig/halfPipe/v7r0p0|fmx|pipeline|L1Output|FASTCopyOutdir|stagedir.SDF|v7r0p0_devel""",
    "§10": """
        glastops_downlink|glastops_acqsummary|glastops_downlink_seg|glastops_downlink_dgm
        glastops_downlink_acqsummary|glastops_acqdefaults|glastops_acquisition|map_moot|acquisition.type
        acqsummary.type|acqsummary.analysis|InProgress|Complete|Incomplete|0xFFFFFFFF|UNKNOWN|updateAcqSummary
        markAcqComplete|Acq_summary|MOOT_ARCHIVE|nomSciOps|calibOps|conSciOps_noCal|acqsummary.hwkey
        acqsummary.swkey|acqsummary.nevts|acqsummary.dgmutc0|acqsummary.dgmutc1|acqsummary.evtutc0
        acqsummary.evtutc1|acqsummary.moot_key|acqsummary.moot_alias|MootUpdate|archive-mood_test""",
    "questions of the migration, defects": """
        launchChunks|doChunk.makeEvt|mergeIndices|launchMerge|doMerge.mergeEvt|launchL1|launchOnline|/scratch
        7234|9503|LSEReader|LSEWriter|u23/ISOC-flight/Archive/level0|ISOC-devel|ISOC-nightly|ISOC-test""",
    "as published": """
        HalfPipe|HalfPipe-s3df|doChunk|doMerge|submitL1|cleanup|pipelineCreateStream|makeEvt.sh|mergeEvt.sh
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
    files = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    return target in chain.from_iterable(
        re.findall(r"^rule (\w+):", f.read_text(), re.MULTILINE) for f in files
    )


def is_key(file: str, target: str) -> bool:
    found: Any = yaml.safe_load((ROOT / file).read_text())
    for part in target.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


def is_module(target: str) -> bool:
    if not target.startswith("halfpipe."):
        return False
    try:
        return importlib.util.find_spec(target) is not None
    except ModuleNotFoundError:
        return False


CHECKS: dict[str, Callable[[str], bool]] = {
    "rule": is_rule,
    "script": lambda target: target.startswith("scripts/") and (ROOT / target).is_file(),
    "key": lambda target: is_key("config/config.yaml", target),
    "path": lambda target: (
        target.startswith("paths.")
        and inspect.isfunction(getattr(paths, target.removeprefix("paths."), None))
    ),
    "doc": is_document,
    "module": is_module,
    "setting": lambda target: is_key("config/flight.yaml", target),
    "file": lambda target: (ROOT / target).is_file(),
}


def problems(here: str) -> list[str]:
    """Return what is wrong with the last cell of a row."""
    found = [
        f"there is no {kind} {target}" for kind, target in REFERENCE.findall(here) if not CHECKS[kind](target)
    ]
    for name in CODE.findall(REFERENCE.sub("", here)):
        if name.startswith(LIKE_REFERENCES):
            found.append(f"{name} does not say what it is")
    if here.startswith("none"):
        if not REASON.match(here):
            found.append("no reason")
    elif not REFERENCE.search(here):
        found.append("neither a successor nor a reason")
    return found


ROWS = rows()


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


def test_every_question_of_the_migration_has_one_row() -> None:
    counted = Counter(chain.from_iterable(re.findall(r"\*(Q\d+)\*", row.here) for row in ROWS))
    assert counted == dict.fromkeys(QUESTIONS, 1)


def test_the_paragraphs_point_at_tables() -> None:
    lines = [line for line in sections()["Which paragraph is where"] if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    sources = " ".join(source for source, _, _ in cells)
    assert [n for n in range(6, 11) if f"§{n}" not in sources] == []
    headings = {row.heading for row in ROWS}
    for _, paragraph, tables in cells:
        plain = re.split(r"[;:]", REFERENCE.sub("", tables))[0]
        named = [name.strip() for name in plain.split(",")]
        assert named == ["none of the pieces"] or set(named) <= headings, paragraph
        assert all(CHECKS[kind](target) for kind, target in REFERENCE.findall(tables)), paragraph
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
    ],
)
def test_the_check_passes(here: str) -> None:
    assert problems(here) == []
