"""One chunk decoded: the decoder is run on its RetDef, and what it made is checked."""

import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from halfpipe import paths
from halfpipe.decode import fetched
from halfpipe.decode.announced import too_many
from halfpipe.decode.chunk_products import check_products
from halfpipe.decode.decoder_log import DecoderLog
from halfpipe.errors import DecoderError, Remedy
from halfpipe.files.advice import DISK_FULL, in_the_way
from halfpipe.files.durable import remove_tree
from halfpipe.formats.retdef import RetDef, content_of, ids_of
from halfpipe.process import command_words
from halfpipe.process.failure import Failure
from halfpipe.process.programs import Log, run
from halfpipe.process.progress import Progress
from halfpipe.settings import ROOT, Settings
from halfpipe.words import utc

_log = logging.getLogger(__name__)


def decode(
    settings: Settings,
    retdef_file: Path,
    retdef: RetDef,
    out: Path,
    log: IO[str],
    kept: Callable[[str], Path] | None = None,
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
    kept
        Where to keep what is read of the index of this name, for `halfpipe.formats.kept_index.kept`; None: nowhere.
    again
        The chunk was taken once: what its datagrams announce was judged then.

    Returns
    -------
    dict
        ``files``: a list with name, run, apid, ground, kind, size, sha256 and, of an index, the
        numbers of its events and datagrams, whether the records lie without a hole, and how many events are
        missing (`halfpipe.decode.announced.account`); ``said``: the
        runs that were processed and the exceptions, counted by kind, the first ones verbatim; ``level0``: what
        `halfpipe.decode.level0_hours.look` says of the archive, or of what was fetched in its place; ``read``: the
        files there.

    Raises
    ------
    DecoderError
        If the decoder fails or breaks the contract; the message says how. If it brings nothing, which a RetDef never
        announces, without an exception or a missing hour, or more events are missing than the settings allow.
    MissingInputError
        If level-0 is not in the archive and cannot be fetched.
    FormatError
        If an evt file or an index that it made is damaged.
    """
    remove_tree(out)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise in_the_way(Path(error.filename or out), error) from error
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
        with Progress(f"decode_chunk {retdef.chunk}", directory=out):
            _run(words, Log(log, said.hear))
    files = check_products(out, retdef.chunk, kept, again=again)
    nothing = not any(file.get("events") or file.get("datagrams") for file in files)
    if nothing and not said.exceptions and not hours["missing"]:  # which status would tell
        raise _silent(settings, retdef_file, retdef)
    if not again and (complaint := too_many(files, settings.decoder.max_missing_events)) is not None:
        raise DecoderError(
            f"chunk {retdef.chunk}: {complaint}, more than decoder.max_missing_events "
            f"({settings.decoder.max_missing_events:g}) allows. The log has what the decoder said of it. Nothing of "
            "this chunk was taken. Fix this or raise the limit, then re-run the command."
        )
    told = said.summary({str(out): "OUTDIR", str(retdef_file): retdef_file.name})
    return {"files": files, "said": told, "level0": hours, "read": read}


def _silent(settings: Settings, retdef_file: Path, retdef: RetDef) -> DecoderError:
    """Return the error of a decoder that ended well and brought nothing, and does not say why."""
    spans = "; ".join(f"APID {span.apid} from {utc(span.begin)} to {utc(span.end)}" for span in retdef.spans)
    downlink = ids_of(retdef_file)[0]
    without = f'ignore: {{chunks: [{{dl: "{downlink}", chunk: "{retdef.chunk}", reason: "..."}}]}}'
    text = f"the decoder of chunk {retdef.chunk} ended well and brought nothing, though its RetDef announces data"
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
