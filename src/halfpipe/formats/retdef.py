"""RetDef: what to retrieve for one chunk of a downlink (ground-chain §4).

RetDefs come from outside and are not trusted. The parser refuses entities, external references, and files above
`MAX_SIZE`.
"""

import html
import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from halfpipe.errors import FormatError
from halfpipe.files.reading import opened
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, DownlinkId, RunId
from halfpipe.words import shortened

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_SIZE = 1 << 20  # real ones have a few hundred bytes
MAX_TIME = 2**33  # Unix seconds; packets count to 2137
MAX_HOURS = 744  # sum of all spans: a month, and a run lasts two hours; each hour is a directory to list
MAX_COMPLAINT = 500  # characters of a message about one file
FILE_NAME = re.compile(rf"RetDef-({DownlinkId.PATTERN})-({ChunkId.PATTERN})\.xml")
DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?", re.ASCII)
APIDS_OF_KIND = {"LSEP": LPA_APIDS, "LSEC": LCI_APIDS}
REMEDY = "Get a new copy of the RetDef, then rerun"

# One declaration per line, as in real RetDefs.
DTD = """<?xml version="1.0" encoding="US-ASCII" ?>
<!DOCTYPE retdef [
<!ELEMENT retdef (arch, run, spans)>
<!ATTLIST retdef type (LSEP|LSEC) #REQUIRED>
<!ELEMENT arch (#PCDATA)>
<!ATTLIST arch scid CDATA #REQUIRED>
<!ELEMENT run (#PCDATA)>
<!ATTLIST run runid CDATA #REQUIRED l0key CDATA #REQUIRED chunkid CDATA #REQUIRED gndid CDATA #REQUIRED start CDATA #REQUIRED>
<!ELEMENT spans (span+)>
<!ELEMENT span (#PCDATA)>
<!ATTLIST span apid CDATA #REQUIRED tbeg CDATA #REQUIRED tend CDATA #REQUIRED>
]>
"""  # noqa: E501
# As many lines, without the DTD: it declares no entity or default, and reading it takes half the time.
NO_DTD = DTD.partition("\n")[0] + "\n" * DTD.count("\n")


@dataclass(frozen=True)
class Span:
    """Packets of one APID between two times, both included, in Unix UTC seconds."""

    apid: int
    begin: float
    end: float


@dataclass(frozen=True)
class RetDef:
    """The contents of one RetDef file.

    `arch` is the root of the archive on the machine where the file was made. `l0key` and `gndid` may be -1
    (unknown), so names of chunk products are not predicted from `gndid`.
    """

    kind: str
    arch: str
    scid: int
    run: RunId
    l0key: int
    chunk: ChunkId
    gndid: int
    spans: tuple[Span, ...]


def ids_of(path: Path) -> tuple[DownlinkId, ChunkId]:
    """Return the downlink and the chunk in the name of a RetDef.

    Raises
    ------
    FormatError
        If the name is not ``RetDef-<downlink>-<chunk>.xml``.
    """
    match = FILE_NAME.fullmatch(path.name)
    if match is None:
        raise FormatError(f"{path}: the name is not RetDef-<downlink>-<chunk>.xml")
    return DownlinkId(match[1]), ChunkId(match[2])


def read_retdef(path: Path) -> RetDef:
    """Read and validate one RetDef.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If it is not a RetDef, or an attribute is missing or has an invalid value.
    """
    return parse_retdef(read_content(path), path)


def content_of(retdef: RetDef) -> bytes:
    """Return the content of a RetDef file (ground-chain §4: with DTD, US-ASCII, times in Unix seconds)."""
    spans = "".join(
        f'    <span apid="{span.apid}" tbeg="{span.begin:.6f}" tend="{span.end:.6f}"/>\n'
        for span in retdef.spans
    )
    met = retdef.run.met
    text = (
        DTD + f'<retdef type="{retdef.kind}">\n'
        f'  <arch scid="{retdef.scid}">{html.escape(retdef.arch)}</arch>\n'
        f'  <run runid="{met}" l0key="{retdef.l0key}" chunkid="{retdef.chunk.number}" '
        f'gndid="{retdef.gndid}" start="{met}"/>\n'
        f"  <spans>\n{spans}  </spans>\n</retdef>\n"
    )
    return text.encode("ascii", "xmlcharrefreplace")


def read_content(path: Path) -> bytes:
    """Return the bytes of the file `path`; if it is too large, only as many as are needed to detect this.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If it cannot be read.
    """
    with opened(path, "RetDef", REMEDY) as file:
        # Allocate only the actual size: a buffer of MAX_SIZE for each of thousands of files is slow.
        return file.read(min(os.fstat(file.fileno()).st_size, MAX_SIZE) + 1)


def parse_retdef(content: bytes, path: Path) -> RetDef:
    """Parse and validate the content of a RetDef; the name of `path` contains the chunk.

    Raises
    ------
    FormatError
        As `read_retdef`.
    """
    try:
        return _retdef(_root(content), ids_of(path)[1])
    except FormatError as error:
        raise FormatError(f"{path}: {shortened(str(error), MAX_COMPLAINT)}. {REMEDY}.") from error


def _expect(good: object, complaint: str) -> None:
    if not good:
        raise FormatError(complaint)


def _root(content: bytes) -> "Element":
    _expect(content.strip(), "the file is empty")
    _expect(len(content) <= MAX_SIZE, f"more than {MAX_SIZE} bytes; a RetDef has a few hundred")
    try:
        short = content.replace(DTD.encode(), NO_DTD.encode(), 1)
        root: Element = fromstring(short, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise FormatError("declares an entity or an external reference, which is not allowed") from error
    except (ParseError, ValueError, LookupError) as error:
        raise FormatError(f"not XML, or cut short: {error}") from error
    return root


def _retdef(root: "Element", named: ChunkId) -> RetDef:
    _expect(root.tag == "retdef", f"the root element is <{root.tag}>, expected <retdef>")
    kind = _attribute(root, "type")
    _expect(kind in APIDS_OF_KIND, f"type {kind!r} of <retdef> is not LSEP (LPA) or LSEC (LCI)")
    arch = _only(root, "arch")
    run = _only(root, "run")
    spans = _only(root, "spans")
    archive = (arch.text or "").strip()
    _expect(
        archive.startswith("/") and archive.isprintable(),
        f"<arch> is {archive!r}, expected the absolute path of a level-0 archive",
    )
    chunk = _integer(run, "chunkid", 1, 99999)
    _expect(chunk == named.number, f"chunkid is {chunk}, but the file name has chunk {named.number}")
    start = _integer(run, "start", 0, 2**32 - 1)
    runid = _integer(run, "runid", 0, 2**32 - 1)
    _expect(runid == start, f"runid {runid} and start {start} of <run> differ")
    every = tuple(_span(element, kind) for element in spans.findall("span"))
    _expect(every, "<spans> contains no <span>")
    hours = sum(span.end - span.begin for span in every) / 3600
    _expect(hours <= MAX_HOURS, f"its <span>s add up to {hours:.0f} hours, expected at most {MAX_HOURS}")
    return RetDef(
        kind=kind,
        arch=archive,
        scid=_integer(arch, "scid", 0, 9999),
        run=RunId.from_met(start),
        l0key=_integer(run, "l0key", -1, 2**63 - 1),
        chunk=ChunkId.of(chunk),
        gndid=_integer(run, "gndid", -1, 2**32 - 1),
        spans=every,
    )


def _only(parent: "Element", tag: str) -> "Element":
    found = parent.findall(tag)
    _expect(len(found) == 1, f"there are {len(found)} <{tag}>, expected one")
    return found[0]


def _attribute(element: "Element", name: str) -> str:
    value = element.get(name, "").strip()
    _expect(value, f"attribute {name} of <{element.tag}> is missing or empty")
    return value


def _integer(element: "Element", name: str, lowest: int, highest: int) -> int:
    text = _attribute(element, name)
    _expect(
        re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII),
        f"{name}={text!r} of <{element.tag}> is not a whole number",
    )
    _expect(
        lowest <= int(text) <= highest,
        f"{name}={text} of <{element.tag}> is out of range, expected {lowest} to {highest}",
    )
    return int(text)


def _span(element: "Element", kind: str) -> Span:
    apid = _integer(element, "apid", 0, 2047)
    apids = APIDS_OF_KIND[kind]
    _expect(apid in apids, f"apid {apid} of <span> is not an APID of {kind} ({apids[0]} to {apids[-1]})")
    begin = _time(element, "tbeg")
    end = _time(element, "tend")
    _expect(begin <= end, f"<span> of APID {apid} ends (tend) before it begins (tbeg)")
    return Span(apid, begin, end)


def _time(element: "Element", name: str) -> float:
    """Read Unix UTC seconds, or a UTC date and time as databases print it. Both occur in RetDefs."""
    text = _attribute(element, name)
    value = math.nan
    with suppress(ValueError):
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]*)?", text, re.ASCII):
            value = float(text)
        elif DATE_TIME.fullmatch(text):
            value = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    _expect(
        0 <= value < MAX_TIME,
        f"{name}={text!r} of <{element.tag}> is not a time: expected Unix seconds or YYYY-MM-DD HH:MM:SS",
    )
    return value
