"""One chunk decoded: the decoder is run on its RetDef, it is heard, and what it made is checked.

If level-0 changed while the decoder ran, the decoder may have read less than there is now, so it runs again.
"""

import logging
import re
import shlex
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.decode import fetched
from halfpipe.decode.announced import gaps, too_many
from halfpipe.decode.archive_look import Look, changes, look, look_again
from halfpipe.decode.chunk_products import check_products
from halfpipe.decode.shortfall import listed
from halfpipe.errors import DecoderError, HalfPipeError, Remedy
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.durable import remove_tree
from halfpipe.formats.retdef import RetDef, content_of, ids_of
from halfpipe.process import command_words
from halfpipe.process.failure import Failure
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings
from halfpipe.words import utc

EXCEPTION = re.compile(r"\b(DFI|PktFile|PktRetriever) exception")
PROCESSING = re.compile(r"getLSEChunk: processing ([0-9a-f]{8})-([0-9a-f]{8})-")
LINES_KEPT = 50  # of a kind that may come by the thousand; the log has more of them
DECODINGS = 3  # of a chunk whose level-0 changes each time

_log = logging.getLogger(__name__)


class DecoderLog:
    """What a decoder said, as far as it matters; exceptions are counted by kind and run.

    Parameters
    ----------
    run
        The run that exceptions belong to before the decoder names one.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self.processing: set[str] = set()
        self.exceptions: Counter[tuple[str, str]] = Counter()
        self.lines: list[str] = []

    def hear(self, line: str) -> None:
        """Take one line."""
        if "processing" in line and (match := PROCESSING.search(line)):
            self._run = match[2]
            if len(self.processing) < LINES_KEPT:
                self.processing.add(f"{match[1]}-{match[2]}")
        if "exception" in line and (match := EXCEPTION.search(line)):
            self.exceptions[self._run, match[1]] += 1
            if len(self.lines) < LINES_KEPT:
                self.lines.append(line.strip()[:500])

    def summary(self, places: Mapping[str, str]) -> dict[str, Any]:
        """Return it as JSON; `places` are paths that differ from job to job, and what to call them."""
        lines = self.lines
        for path, name in places.items():
            lines = [line.replace(path, name) for line in lines]
        kinds: Counter[str] = Counter()
        by_run: dict[str, dict[str, int]] = {}
        for (of_run, kind), count in sorted(self.exceptions.items()):
            kinds[kind] += count
            by_run.setdefault(of_run, {})[kind] = count
        return {
            "processing": sorted(self.processing),
            "exceptions": dict(sorted(kinds.items())),
            "exceptions_by_run": by_run,
            "lines": lines,
        }


def decode(
    settings: Settings,
    retdef_file: Path,
    retdef: RetDef,
    out: Path,
    log: IO[str],
    *,
    again: bool = False,
) -> dict[str, Any]:
    """Run the decoder for one chunk and check what it made.

    Parameters
    ----------
    settings
        Name the decoder, its archive and the LATC key for its ``-k``.
    retdef_file, retdef
        The chunk's RetDef and what it holds.
    out
        Directory for the products; regenerated.
    log
        Takes what the decoder prints.
    again
        The chunk was taken once: what its datagrams announce was judged then.

    Returns
    -------
    dict
        ``files``: a list with name, run, apid, ground, kind, size, sha256 and, of an index, the
        numbers of its events and datagrams, whether the records lie without a hole, and how many events are
        missing (`halfpipe.decode.announced.account`); ``said``: the
        runs that were processed and the exceptions, counted by kind, the first ones verbatim; ``level0``: how many
        hours are needed, which of them were missing in what was decoded, and the gaps that the datagrams leave in the
        spans of the RetDef (`halfpipe.decode.announced.gaps`); ``read``: the files of the archive, hour by hour.

    Raises
    ------
    DecoderError
        If the decoder fails or breaks the contract; the message says how. If it brings nothing, which a RetDef never
        announces, or nothing of a run that it says it processed, without an exception or a missing hour, or more events
        are missing than the settings allow. If level-0 changed each time that it ran.
    MissingInputError
        If level-0 is not in the archive and cannot be fetched.
    FormatError
        If an evt file or an index that it made is damaged.
    """
    ran = _run_on_what_stays(settings, retdef_file, retdef, out, log)
    said, hours, retdef_file = ran.said, ran.read.summary(), ran.retdef_file
    for hour, apid in ran.read.missing or ():
        _log.warning(
            "chunk %s: the level-0 archive has no packets of APID %s for %s", retdef.chunk, apid, hour
        )
    datagrams: list[NDArray[np.void]] = []
    files = check_products(out, retdef.chunk, again=again, hear=datagrams.append)
    nothing = not any(file.get("events") or file.get("datagrams") for file in files)
    lacking = said.processing - {f"{file['ground']}-{file['run']}" for file in files}
    if (nothing or lacking) and not said.exceptions and not hours["missing"]:  # which status would tell
        raise _silent(settings, retdef_file, retdef, lacking)
    if not again and (complaint := too_many(files, settings.decoder.max_missing_events)) is not None:
        raise DecoderError(
            f"chunk {retdef.chunk}: {complaint}, more than decoder.max_missing_events "
            f"({settings.decoder.max_missing_events:g}) allows. The log has what the decoder said of it. Nothing of "
            "this chunk was taken. Fix this or raise the limit, then re-run the command."
        )
    told = said.summary({str(out): "OUTDIR", str(retdef_file): retdef_file.name})
    level0 = hours | {"gaps": gaps(retdef.spans, datagrams)}
    return {"files": files, "said": told, "level0": level0, "read": ran.archive.as_json()}


@dataclass(frozen=True)
class _Ran:
    """The decoder ran on `retdef_file` and `said` something.

    `archive` is a look at the archive, `read` one at what the decoder read: the archive, or what was fetched.
    """

    retdef_file: Path
    said: DecoderLog
    archive: Look
    read: Look


def _run_on_what_stays(
    settings: Settings, retdef_file: Path, retdef: RetDef, out: Path, log: IO[str]
) -> _Ran:
    """Run the decoder, and again if level-0 changed meanwhile, whether the decoder failed or not."""
    for _ in range(DECODINGS):
        came, differ = _run_once(settings, retdef_file, retdef, out, log)
        if not differ:
            if isinstance(came, HalfPipeError):
                raise came
            return came
        _log.warning("chunk %s: level-0 changed while it was decoded: %s", retdef.chunk, listed(differ))
    text = (
        f"level-0 of chunk {retdef.chunk} changed each of the {DECODINGS} times that it was decoded: "
        f"{listed(differ)}"
    )
    raise DecoderError(
        f"{text}. Nothing of this chunk was taken.",
        Remedy(first="Wait until ingest has written these files, then re-run the command"),
        code="level0-changes",
        text=text,
    )


def _run_once(
    settings: Settings, retdef_file: Path, retdef: RetDef, out: Path, log: IO[str]
) -> tuple[_Ran | HalfPipeError, list[str]]:
    """Run the decoder once; return what came of it, and which files of level-0 changed meanwhile."""
    root = Path(command_words.archive(settings, retdef.arch))
    archive = look(root, retdef)
    came: _Ran | HalfPipeError
    gone: list[str] = []
    try:
        with fetched.source(settings, retdef, root, archive, log) as (level0, read):
            if level0 != root:
                retdef_file = _naming(level0, retdef_file, retdef, out)
            try:
                came = _Ran(retdef_file, _run(settings, level0, retdef_file, retdef, out, log), archive, read)
            finally:
                if level0 != root:
                    gone = sorted(read.by_name.keys() - look(level0, retdef).by_name.keys())
    except HalfPipeError as error:
        came = error
    differ = changes(archive, look_again(root, retdef, archive))
    return came, [*(f"{name} (gone from the cache)" for name in gone), *differ]


def _silent(settings: Settings, retdef_file: Path, retdef: RetDef, lacking: set[str]) -> DecoderError:
    """Return the error of a decoder that ended well, brought nothing, or nothing of a run, and does not say why."""
    spans = "; ".join(f"APID {span.apid} from {utc(span.begin)} to {utc(span.end)}" for span in retdef.spans)
    downlink = ids_of(retdef_file)[0]
    without = f'ignore: {{chunks: [{{dl: "{downlink}", chunk: "{retdef.chunk}", reason: "..."}}]}}'
    what = f"nothing of {min(lacking)}, which it processed" if lacking else "nothing"
    text = (
        f"the decoder of chunk {retdef.chunk} ended well and brought {what}, though its RetDef announces data"
    )
    return DecoderError(
        f"{text} ({spans}). Nothing of this chunk was taken.",
        Remedy(
            first=f"look into {paths.log('decode_chunk', downlink, retdef.chunk)} and at the archive "
            f"({command_words.archive(settings, retdef.arch)}), then re-run the command; if the data are gone for "
            f"good, in the config: {without}"
        ),
        text=text,
    )


def _naming(level0: Path, retdef_file: Path, retdef: RetDef, out: Path) -> Path:
    """Return a RetDef that names another archive: the flight decoder looks there, and nowhere else."""
    copy = out.with_name(f"{out.name}.retdef") / retdef_file.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content_of(replace(retdef, arch=str(level0))))
    return copy


def _run(
    settings: Settings, level0: Path, retdef_file: Path, retdef: RetDef, out: Path, log: IO[str]
) -> DecoderLog:
    """Run the decoder once, and return what it said."""
    remove_tree(out)
    out.mkdir(parents=True)
    words = [*command_words.decoder(settings, str(level0)), "-r", str(retdef_file), "-o", str(out)]
    if settings.decoder.latc is not None:
        words += ["-k", settings.decoder.latc]
    said = DecoderLog(retdef.run)
    _log.info("chunk %s: the decoder is started: %s", retdef.chunk, shlex.join(words))
    ending = run(words, ROOT, Log(log, said.hear))
    if ending.status is None:
        raise DecoderError(f"{words[0]}: {ending.how}. Check decoder.command in the config.")
    if not ending.well:
        killed = Failure.by_signal(signal.SIGKILL).code if ending.status == -signal.SIGKILL else None
        raise DecoderError(
            f"the decoder {ending.how}: {ending.shown}Nothing of this chunk was taken. Fix this, then re-run the "
            "command.",
            code=DISK_FULL if ending.found_a_disk_full else killed,
            text=f"the decoder {ending.saying}",
        )
    return said
