"""RetDefs: what is read of good ones, and that each way to spoil one is named."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe.errors import FormatError
from halfpipe.formats import retdef as retdefs
from halfpipe.formats.retdef import MAX_SIZE, REMEDY, RetDef, Span, content_of, parse_retdef, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.plan.plan import retdef_to_stage
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
ARCHIVE = "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0"
SPANS = (Span(956, 1719541772.408994, 1719541813.552478),)
GOOD = RetDef("LSEP", ARCHIVE, 77, RunId("2c2e5787"), 1081721, ChunkId("00001"), 7799117, SPANS)


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


def test_good_retdef() -> None:
    assert parse(BODY) == GOOD


@pytest.mark.parametrize("arch", ["/archive", "/a&b/<c>", "/\N{GREEK SMALL LETTER ALPHA}"])
def test_written_retdef_is_read_back(arch: str) -> None:
    two = (*GOOD.spans, Span(957, 1719541772.0, 1719541772.000001))
    retdef = replace(GOOD, arch=arch, spans=two)
    content = content_of(retdef)
    assert content.isascii()
    assert parse(content) == retdef


def test_both_forms_of_times_are_utc_on_a_host_in_any_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        for second in ("1719541772", "2024-06-28 02:29:32"):
            for written, fraction in ((second, 0), (f"{second}.4", 0.4), (f"{second}.408994", 0.408994)):
                begin = parse(BODY.replace("1719541772.408994", written)).spans[0].begin
                assert begin == pytest.approx(1719541772 + fraction, abs=1e-6)
        assert parse(BODY.replace("1719541772.408994", "1719541772.")).spans[0].begin == 1719541772.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_last_run_and_the_longest_spans_are_read() -> None:
    text = BODY.replace("741234567", "4294967295")
    retdef = parse(text.replace("1719541772.408994", "0").replace("1719541813.552478", "2678400"))
    assert (retdef.run, retdef.spans) == (RunId("ffffffff"), (Span(956, 0.0, 2678400.0),))


def test_several_spans_unknown_keys_and_lci() -> None:
    text = BODY.replace("LSEP", "LSEC").replace('"956"', '"965"').replace('l0key="1081721"', 'l0key="-1"')
    more = '<span apid="968" tbeg="5" tend="5"/></spans>'
    retdef = parse(text.replace("</spans>", more).replace('gndid="7799117"', 'gndid="-1"'))
    assert (retdef.kind, retdef.l0key, retdef.gndid) == ("LSEC", -1, -1)
    assert retdef.spans[1] == Span(968, 5.0, 5.0)


ARCHIVES = ("--level0", "../archive", "", "/a&#10;b", "/a&#9;b", "/a&#x85;b", "/a&#x202e;b", ARCHIVE[1:])
TIMES = ("1819541772.4", "yesterday", "nan", "2024-13-28 02:29:32", "2024-06-28T02:29:32Z")
A_RUN = '<run runid="1" start="1" l0key="1" chunkid="1" gndid="1"/>'
SPOILT = [
    ("retdef", "redtef"), ("LSEP", "LSEX"), (' type="LSEP"', ""), ("741234567", "4294967296"),
    (f'<arch scid="77">{ARCHIVE}</arch>', ""), ('scid="77"', 'scid="10000"'), ('scid="77"', 'scid="٧٧"'),
    ('chunkid="1"', 'chunkid="2"'), ('chunkid="1"', 'chunkid="0"'), (' chunkid="1"', ""),
    ('runid="741234567"', 'runid="741234568"'), ('l0key="1081721"', 'l0key="-2"'),
    ('gndid="7799117"', 'gndid="-2"'), ('gndid="7799117"', f'gndid="{"9" * 30}"'),
    ("<spans>", f"{A_RUN}<spans>"), ("<spans>", "<spans/><spans>"), ("<span apid", "<spam apid"),
    ('apid="956"', 'apid="965"'), ("</spans>", '<span apid="956" tbeg="0" tend="2678401"/></spans>'),
    *((ARCHIVE, other) for other in ARCHIVES), *(("1719541772.408994", other) for other in TIMES),
]  # fmt: skip
BAD = [
    *("", " \n", BODY[:-30], b"\x00\x01\x02", b"<" + b"r" * 900_000 + b"/>"),
    '<?xml version="1.0" encoding="no-such"?>' + BODY,
    BODY + "<!-- " + "x" * MAX_SIZE + " -->",
    b"<retdef>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</retdef>",
    b"<retdef " + b" ".join(b'a%d="%d"' % (n, n) for n in range(60_000)) + b"/>",
    *(BODY.replace(*pair) for pair in SPOILT),
]


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_bad_retdef_is_refused(content: str | bytes) -> None:
    assert complaint(content)


def bomb(levels: int) -> str:
    lines = ['<!ENTITY l0 "lol">']
    lines += [f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, levels)]
    return f"<!DOCTYPE retdef [{''.join(lines)}]>" + BODY.replace("/nfs", f"/&l{levels - 1};")


def test_entities_are_refused_before_they_grow() -> None:
    begun = time.monotonic()
    refused = "declares an entity"
    assert refused in complaint(bomb(10))  # ten billion bytes, if it were expanded
    outer = ('x SYSTEM "file:///etc/passwd"', 'x PUBLIC "a" "http://localhost/"')
    for entity in ('x "lol"', '% x "lol"', *outer):
        assert refused in complaint(f"<!DOCTYPE retdef [<!ENTITY {entity}>]>{BODY}")
    outside = '<!DOCTYPE retdef SYSTEM "http://localhost/retdef.dtd">'
    assert parse(outside + BODY) == GOOD, "a DTD elsewhere is not asked for"
    assert time.monotonic() - begun < 5


def test_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "240601001" / NAME.name
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk
    refused = r"RetDef-240601001-00001\.xml: .*1048576 bytes"
    with pytest.raises(FormatError, match=refused):
        read_retdef(path)
    settings = searching(tmp_path / "work", tmp_path)
    with pytest.raises(FormatError, match=refused):
        retdef_to_stage(settings, DownlinkId("240601001"), ChunkId("00001"))


def test_bad_file_names_are_refused() -> None:
    bad = ("24060100-00001.xml", "240601001-1.xml", "240601001-00001.xml.bak")
    for name in (*(f"RetDef-{rest}" for rest in bad), "x"):
        with pytest.raises(FormatError):
            retdefs.ids_of(Path(name))
