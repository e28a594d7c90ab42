"""One chunk decoded: the decoder is run on its RetDef, it is heard, and what it made is checked."""

import logging
import re
import shlex
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from halfpipe import paths
from halfpipe.decode import fetched
from halfpipe.decode.announced import too_many
from halfpipe.decode.chunk_products import check_products
from halfpipe.errors import DecoderError, Remedy
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
        runs that were processed and the exceptions, counted by kind, the first ones verbatim; ``level0``: what
        `halfpipe.decode.fetched.look` says of the archive, or of what was fetched in its place; ``read``: the
        files there.

    Raises
    ------
    DecoderError
        If the decoder fails or breaks the contract; the message says how. If it brings nothing, which a RetDef never
        announces, or nothing of a run that it says it processed, without an exception or a missing hour, or more events
        are missing than the settings allow.
    MissingInputError
        If level-0 is not in the archive and cannot be fetched.
    FormatError
        If an evt file or an index that it made is damaged.
    """
    remove_tree(out)
    out.mkdir(parents=True)
    with fetched.archive(settings, retdef, log) as (level0, hours):
        for each in hours["missing"] or ():
            _log.warning(
                "chunk %s: the level-0 archive has no packets of APID %s for %s",
                retdef.chunk,
                each["apid"],
                each["hour"],
            )
        read = hours.pop("files")  # as they were before: what grows meanwhile is told
        if str(level0) != command_words.archive(settings, retdef.arch):
            retdef_file = _naming(level0, retdef_file, retdef, out)
        words = [*command_words.decoder(settings, str(level0)), "-r", str(retdef_file), "-o", str(out)]
        if settings.decoder.latc is not None:
            words += ["-k", settings.decoder.latc]
        said = DecoderLog(retdef.run)
        _log.info("chunk %s: the decoder is started: %s", retdef.chunk, shlex.join(words))
        _run(words, Log(log, said.hear))
    files = check_products(out, retdef.chunk, again=again)
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
    return {"files": files, "said": told, "level0": hours, "read": read}


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
        code="decoder-silent",
        text=text,
    )


def _naming(level0: Path, retdef_file: Path, retdef: RetDef, out: Path) -> Path:
    """Return a RetDef that names another archive: the flight decoder looks there, and nowhere else."""
    copy = out.with_name(f"{out.name}.retdef") / retdef_file.name
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(content_of(replace(retdef, arch=str(level0))))
    return copy


def _run(words: list[str], log: Log) -> None:
    ending = run(words, ROOT, log)
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
