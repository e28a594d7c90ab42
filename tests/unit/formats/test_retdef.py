"""RetDefs: what is read of good ones, and that each way to spoil one is named."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe.downlink.plan import retdef_to_stage
from halfpipe.errors import FormatError
from halfpipe.formats.retdef import (
    MAX_SIZE,
    REMEDY,
    RetDef,
    Span,
    content_of,
    ids_of,
    parse_retdef,
    read_retdef,
)
from halfpipe.ids import ChunkId, DownlinkId, RunId
from tests.support.settings import searching

NAME = Path("/retdefs/240601001/RetDef-240601001-00001.xml")
BODY = """<retdef type="LSEP">
  <arch scid="77">/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0</arch>
  <run runid="741234567" l0key="1081721" chunkid="1" gndid="7799117" start="741234567"/>
  <spans>
    <span apid="956" tbeg="1719541772.408994" tend="1719541813.552478"/>
  </spans>
</retdef>
"""
GOOD = RetDef(
    "LSEP",
    "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0",
    77,
    RunId("2c2e5787"),
    1081721,
    ChunkId("00001"),
    7799117,
    (Span(956, 1719541772.408994, 1719541813.552478),),
)


def parse(text: str | bytes) -> RetDef:
    return parse_retdef(text if isinstance(text, bytes) else text.encode(), NAME)


def complaint(content: str | bytes) -> str:
    """Return what is wrong with a RetDef, without its name and the remedy."""
    with pytest.raises(FormatError) as caught:
        parse(content)
    said = str(caught.value)
    assert len(said) < 1000
    assert said.startswith(f"{NAME}: ")
    assert said.endswith(f". {REMEDY}.")
    return said.removeprefix(f"{NAME}: ").removesuffix(f". {REMEDY}.")


def test_a_good_one() -> None:
    assert parse(BODY) == GOOD


@pytest.mark.parametrize("arch", ["/archive", "/a&b/<c>", "/\N{GREEK SMALL LETTER ALPHA}"])
def test_what_is_written_is_read(arch: str) -> None:
    two = (*GOOD.spans, Span(957, 1719541772.0, 1719541772.000001))
    retdef = replace(GOOD, arch=arch, spans=two)
    content = content_of(retdef)
    assert content.isascii()
    assert parse(content) == retdef


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1719541772", 1719541772.0),
        ("1719541772.", 1719541772.0),
        ("1719541772.408994", 1719541772.408994),
        ("2024-06-28 02:29:32", 1719541772.0),
        ("2024-06-28 02:29:32.408994", 1719541772.408994),
        ("2024-06-28 02:29:32.4", 1719541772.4),
    ],
)
def test_both_spellings_of_time(written: str, seconds: float) -> None:
    assert parse(BODY.replace("1719541772.408994", written)).spans[0].begin == pytest.approx(
        seconds, abs=1e-6
    )


def test_several_spans_unknown_keys_and_lci() -> None:
    text = BODY.replace("LSEP", "LSEC").replace('"956"', '"965"').replace('l0key="1081721"', 'l0key="-1"')
    more = '<span apid="968" tbeg="5" tend="5"/></spans>'
    retdef = parse(text.replace("</spans>", more).replace('gndid="7799117"', 'gndid="-1"'))
    assert (retdef.kind, retdef.l0key, retdef.gndid) == ("LSEC", -1, -1)
    assert retdef.spans[1] == Span(968, 5.0, 5.0)


ARCHIVE = "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0"
NO_ARCHIVES = ("--level0", "../archive", "", "/a&#10;b", "/a&#9;b", "/a&#x85;b", "/a&#x202e;b")
BAD = [
    ("", "the file is empty"),
    (" \n", "the file is empty"),
    (BODY[:-30], "not XML, or cut short: "),
    (b"\x00\x01\x02", "not XML, or cut short: "),
    ('<?xml version="1.0" encoding="no-such"?>' + BODY, "not XML"),
    (BODY + "<!-- " + "x" * MAX_SIZE + " -->", "more than 1048576 bytes"),
    (BODY.replace("retdef", "redtef"), "the root element is <redtef>, expected <retdef>"),
    (BODY.replace("LSEP", "LSEX"), "type 'LSEX' of <retdef> is not LSEP (LPA) or LSEC (LCI)"),
    (BODY.replace(' type="LSEP"', ""), "attribute type of <retdef>"),
    (BODY.replace(f'<arch scid="77">{ARCHIVE}</arch>', ""), "there are 0 <arch>"),
    (BODY.replace("/nfs/farm", "nfs/farm"), "<arch> is 'nfs/farm"),
    *((BODY.replace(ARCHIVE, arch), "absolute path") for arch in NO_ARCHIVES),
    (BODY.replace('scid="77"', 'scid="10000"'), "scid=10000 of <arch> is out of range, expected 0 to 9999"),
    (BODY.replace('scid="77"', 'scid="٧٧"'), "scid='٧٧' of <arch> is not a whole number"),
    (BODY.replace('chunkid="1"', 'chunkid="2"'), "chunkid is 2, but the file name has chunk 1"),
    (BODY.replace('chunkid="1"', 'chunkid="0"'), "chunkid=0 of <run> is out of range, expected 1 to 99999"),
    (BODY.replace(' chunkid="1"', ""), "attribute chunkid of <run>"),
    (BODY.replace('runid="741234567"', 'runid="741234568"'), "runid 741234568 and start 741234567 of <run> differ"),
    (BODY.replace("741234567", "4294967296"), "start=4294967296 of <run> is out of range, expected 0 to 4294967295"),
    (BODY.replace('l0key="1081721"', 'l0key="-2"'), "l0key=-2 of <run> is out of range, expected -1 to 922"),
    (BODY.replace('gndid="7799117"', 'gndid="-2"'), "gndid=-2 of <run> is out of range, expected -1 to 4294967295"),
    (BODY.replace('gndid="7799117"', f'gndid="{"9" * 30}"'), "is not a whole number"),
    (
        BODY.replace("<spans>", '<run runid="1" start="1" l0key="1" chunkid="1" gndid="1"/><spans>'),
        "there are 2 <run>, expected one",
    ),
    (BODY.replace("<spans>", "<spans/><spans>"), "there are 2 <spans>, expected one"),
    (BODY.replace("<span apid", "<spam apid"), "<spans> contains no <span>"),
    (BODY.replace('apid="956"', 'apid="965"'), "apid 965 of <span> is not an APID of LSEP (955 to 958)"),
    (BODY.replace("1719541772.408994", "1819541772.4"), "<span> of APID 956 ends (tend) before it begins (tbeg)"),
    (BODY.replace("</spans>", '<span apid="956" tbeg="0" tend="2678401"/></spans>'), "hours, expected at most 744"),
    (BODY.replace("1719541772.408994", "yesterday"), "tbeg='yesterday' of <span> is not a time: expected Unix seconds"),
    (BODY.replace("1719541772.408994", "nan"), "tbeg='nan' of <span> is not a time"),
    (BODY.replace("1719541772.408994", "2024-13-28 02:29:32"), "is not a time"),
    (BODY.replace("1719541772.408994", "2024-06-28T02:29:32Z"), "is not a time"),
    (b"<retdef>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</retdef>", "attribute type of <retdef> is missing"),
    (b"<retdef " + b" ".join(b'a%d="%d"' % (n, n) for n in range(60_000)) + b"/>", "attribute type of <retdef>"),
    (b"<" + b"r" * 900_000 + b"/>", "the root element is …"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "why"), BAD, ids=range(len(BAD)))
def test_what_is_no_retdef(content: str | bytes, why: str) -> None:
    assert why in complaint(content)


def bomb(levels: int) -> str:
    lines = ['<!ENTITY l0 "lol">']
    lines += [f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, levels)]
    return f"<!DOCTYPE retdef [{''.join(lines)}]>" + BODY.replace("/nfs", f"/&l{levels - 1};")


def test_entities_are_refused_before_they_grow() -> None:
    begun = time.monotonic()
    refused = "declares an entity or an external reference"
    assert complaint(bomb(10)).startswith(refused)  # ten billion bytes, if it were expanded
    for entity in (
        'x "lol"',
        '% x "lol"',
        'x SYSTEM "file:///etc/passwd"',
        'x PUBLIC "a" "http://localhost/"',
    ):
        assert complaint(f"<!DOCTYPE retdef [<!ENTITY {entity}>]>{BODY}").startswith(refused)
    outside = '<!DOCTYPE retdef SYSTEM "http://localhost/retdef.dtd">'
    assert parse(outside + BODY) == GOOD, "a DTD elsewhere is not asked for"
    assert time.monotonic() - begun < 5


def test_a_file_of_any_size_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "240601001" / NAME.name
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk
    for read in (
        lambda: read_retdef(path),
        lambda: retdef_to_stage(
            searching(tmp_path / "work", tmp_path), DownlinkId("240601001"), ChunkId("00001")
        ),
    ):
        with pytest.raises(FormatError, match=r"RetDef-240601001-00001\.xml: .*1048576 bytes"):
            read()


def test_names_that_are_none() -> None:
    for name in (
        "RetDef-24060100-00001.xml",
        "RetDef-240601001-1.xml",
        "RetDef-240601001-00001.xml.bak",
        "x",
    ):
        with pytest.raises(FormatError):
            ids_of(Path(name))
