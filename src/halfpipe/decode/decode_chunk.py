"""Decode one chunk: run the decoder on its RetDef, collect its messages, and check its products.

If level-0 changes while the decoder runs, the decoder may have read only a part of it, so it runs again.
"""

import logging
import re
import shlex
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from halfpipe import paths
from halfpipe.decisions import Subject, What, offer
from halfpipe.decode import fetched_level0
from halfpipe.decode.announced import gaps
from halfpipe.decode.archive_listing import ArchiveListing, changes, list_again, list_archive
from halfpipe.decode.chunk import Chunk, DecoderLog, Level0
from halfpipe.decode.chunk_products import REJECTED, check_products
from halfpipe.errors import DecoderError, HalfPipeError, Remedy
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.durable import remove_tree
from halfpipe.files.reading import sha256
from halfpipe.formats.idx import Datagrams
from halfpipe.formats.retdef import RetDef, content_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process import command_words
from halfpipe.process.failure_record import Failure
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings
from halfpipe.words import first_names, utc

EXCEPTION = re.compile(r"\b(DFI|PktFile|PktRetriever) exception")
PROCESSING = re.compile(r"getLSEChunk: processing ([0-9a-f]{8})-([0-9a-f]{8})-")
LINES_KEPT = 50  # such lines may occur thousands of times; the log has more of them
ATTEMPTS = 3  # at decoding a chunk, if its level-0 changes each time

_log = logging.getLogger(__name__)


class DecoderLogReader:
    """The exceptions that a decoder reported, counted by kind and run, and the runs that it processed.

    Parameters
    ----------
    run
        The run to which exceptions belong before the decoder names one.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self.processing: set[str] = set()
        self.exceptions: Counter[tuple[str, str]] = Counter()
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Add one line of the decoder's output."""
        if "processing" in line and (match := PROCESSING.search(line)):
            self._run = match[2]
            if len(self.processing) < LINES_KEPT:
                self.processing.add(f"{match[1]}-{match[2]}")
        if "exception" in line and (match := EXCEPTION.search(line)):
            self.exceptions[self._run, match[1]] += 1
            if len(self.lines) < LINES_KEPT:
                self.lines.append(line.strip()[:500])

    def summary(self, places: Mapping[str, str]) -> DecoderLog:
        """Return the summary; `places` maps paths that differ between jobs to names that do not."""
        lines = self.lines
        for path, name in places.items():
            lines = [line.replace(path, name) for line in lines]
        by_run: dict[RunId, dict[str, int]] = {}
        for (of_run, kind), count in sorted(self.exceptions.items()):
            by_run.setdefault(RunId(of_run), {})[kind] = count
        return DecoderLog(tuple(sorted(self.processing)), by_run, tuple(lines))


def decode(
    settings: Settings,
    downlink: DownlinkId,
    retdef_file: Path,
    retdef: RetDef,
    out: Path,
    log: IO[str],
    *,
    again: bool = False,
) -> Chunk:
    """Run the decoder for one chunk and check its products.

    Parameters
    ----------
    settings
        Settings with the decoder, its archive, and the LATC key for its option ``-k``.
    downlink, retdef_file, retdef
        The downlink of the chunk; its RetDef, the file and its content.
    out
        Directory for the products. Everything in it is removed first.
    log
        Gets the output of the decoder.
    again
        The chunk was decoded and accepted before, so contradictions in what its datagrams announce are accepted, too.

    Returns
    -------
    Chunk
        What the decoder made; `Chunk.read` are the files in the archive, also if the decoder read fetched ones.

    Raises
    ------
    DecoderError
        If the decoder fails or breaks the contract. If it writes no data, or none of a run that it reports as
        processed, and no exception or missing hour explains this: a RetDef always announces data. If level-0 changed
        during each attempt.
    MissingInputError
        If level-0 is not in the archive and cannot be fetched.
    FormatError
        If an evt file or an index from the decoder is damaged.
    """
    ran = _run_on_stable_input(settings, retdef_file, retdef, out, log)
    for each in ran.read.missing or ():
        _log.warning(
            "chunk %s: the level-0 archive has no packets of APID %s for %s",
            retdef.chunk,
            each.apid,
            each.hour,
        )
    datagrams: list[Datagrams] = []
    files = check_products(out, retdef.chunk, again=again, on_datagrams=datagrams.append)
    nothing = not any(file.events or file.datagrams for file in files)
    absent = ran.log.processing - {f"{file.ground}-{file.run}" for file in files}
    if (nothing or absent) and not ran.log.exceptions and not ran.read.missing:  # `status` reports both
        raise _silent(settings, downlink, retdef, absent)
    return Chunk(
        downlink=downlink,
        chunk=retdef.chunk,
        retdef=sha256(retdef_file),
        runs=tuple(sorted({file.run for file in files})),
        files=tuple(files),
        log=ran.log.summary({str(ran.retdef_file): ran.retdef_file.name, str(out): "OUTDIR"}),
        level0=Level0(len(ran.read.needed), ran.read.missing, tuple(gaps(retdef.spans, datagrams))),
        read=tuple(ran.archive.contents()),
    )


@dataclass(frozen=True)
class _Decoding:
    """A decoding of `retdef_file` that succeeded, with the decoder's `log`.

    `archive` lists the files of the archive. `read` lists the files that the decoder read: those of the archive, or
    fetched ones.
    """

    retdef_file: Path
    log: DecoderLogReader
    archive: ArchiveListing
    read: ArchiveListing


def _run_on_stable_input(
    settings: Settings, retdef_file: Path, retdef: RetDef, out: Path, log: IO[str]
) -> _Decoding:
    """Run the decoder; run it again if level-0 changed meanwhile, even if the decoder failed."""
    root = Path(command_words.archive(settings, retdef.arch))
    scratch = out.with_name(f"{out.name}.level0")
    names: list[str] = []
    for _ in range(ATTEMPTS):
        archive = list_archive(root, retdef)
        try:
            with fetched_level0.source(settings, retdef, root, archive, scratch, log) as (level0, read):
                given = retdef_file
                if level0 != root:  # the flight decoder reads only the archive that its RetDef names
                    given = scratch / retdef_file.name
                    given.write_bytes(content_of(replace(retdef, arch=str(level0))))
                decoder_log = _run(settings, level0, given, retdef, out, log)
        except HalfPipeError:
            names = changes(archive, list_again(root, retdef, archive))
            if not names:
                raise
        else:
            names = changes(archive, list_again(root, retdef, archive))
            if not names:
                return _Decoding(given, decoder_log, archive, read)
        _log.warning("chunk %s: level-0 changed while it was decoded: %s", retdef.chunk, first_names(names))
    text = (
        f"level-0 of chunk {retdef.chunk} changed each of the {ATTEMPTS} times that it was decoded: "
        f"{first_names(names)}"
    )
    raise DecoderError(
        f"{text}. {REJECTED}",
        Remedy(first="Wait until ingest has written these files, then rerun the command"),
        code="level0-changes",
        text=text,
    )


def _silent(settings: Settings, downlink: DownlinkId, retdef: RetDef, absent: set[str]) -> DecoderError:
    """Return the error for a decoder that succeeded without data, or without those of the runs `absent`."""
    spans = "; ".join(f"APID {span.apid} from {utc(span.begin)} to {utc(span.end)}" for span in retdef.spans)
    what = f"no data of {min(absent)}, which it processed" if absent else "no data"
    text = f"the decoder of chunk {retdef.chunk} succeeded but wrote {what}, though its RetDef announces data"
    return DecoderError(
        f"{text} ({spans}). {REJECTED}",
        Remedy(
            first=f"Check {paths.log('decode_chunk', downlink, retdef.chunk)} and the archive "
            f"({command_words.archive(settings, retdef.arch)}), then rerun the command",
            accept=[offer(What.LEFT_OUT, Subject(downlink, chunk=retdef.chunk))],
        ),
        text=text,
    )


def _run(
    settings: Settings, level0: Path, retdef_file: Path, retdef: RetDef, out: Path, log: IO[str]
) -> DecoderLogReader:
    """Run the decoder on `retdef_file` once; return its log."""
    remove_tree(out)
    out.mkdir(parents=True)
    words = [*command_words.decoder(settings, str(level0)), "-r", str(retdef_file), "-o", str(out)]
    if settings.decoder.latc is not None:
        words += ["-k", settings.decoder.latc]
    decoder_log = DecoderLogReader(retdef.run)
    _log.info("chunk %s: starting the decoder: %s", retdef.chunk, shlex.join(words))
    ending = run(words, ROOT, Log(log, decoder_log.add))
    if ending.status is None:
        raise DecoderError(f"{words[0]}: {ending.how}.", Remedy(first="Check decoder.command in the config"))
    if not ending.well:
        killed = Failure.by_signal(signal.SIGKILL).code if ending.status == -signal.SIGKILL else None
        raise DecoderError(
            f"the decoder {ending.how}: {ending.shown}{REJECTED} Fix this, then rerun the command.",
            code=DISK_FULL if ending.found_a_disk_full else killed,
            text=f"the decoder {ending.saying}",
        )
    return decoder_log
