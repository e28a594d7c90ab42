"""Settings for tests, RetDefs for their search path, and the content of causes."""

from collections.abc import Iterable
from pathlib import Path

from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, decide
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.plan.plan import Plan
from halfpipe.settings import Outstanding, Paths, RetDefs, Settings, Submit

RUN_A = "2c2e5787"


def searching(
    work: Path,
    *search: Path,
    settle: float = 60,
    most: int = 100,
    submitting: bool = False,
) -> Settings:
    """Return the settings of a site with the search path `search`."""
    return Settings(
        Paths(work, work / "stage", retdef=search),
        retdef=RetDefs(settle),
        outstanding=Outstanding(most),
        submit=Submit(submitting),
    )


def plan_of(work: Path, *search: Path, ignored: Iterable[tuple[DownlinkId, ChunkId]] = ()) -> Plan:
    """Return the plan of a site where chunks are left out."""
    for downlink, chunk in ignored:
        decide(work, What.LEFT_OUT, Subject(downlink, chunk=chunk), None, "lost")
    return Plan(searching(work, *search))


def content(chunk: int, run: str = RUN_A) -> str:
    """Return the text of a RetDef of one APID."""
    met = int(run, 16)
    return (
        f'<retdef type="LSEP"><arch scid="77">/archive</arch>'
        f'<run runid="{met}" l0key="-1" chunkid="{chunk}" gndid="-1" start="{met}"/>'
        f'<spans><span apid="956" tbeg="1719541771.5" tend="1719541787.0"/></spans></retdef>\n'
    )


def put(
    home: Path,
    *chunks: int,
    dl: str = "240601001",
    run: str = RUN_A,
    inside: str = "",
    text: str | None = None,
) -> Path:
    """Write RetDefs of a downlink, perhaps `inside` the directory of another one; return the last."""
    for chunk in chunks:
        path = home / (inside or dl) / f"RetDef-{dl}-{chunk:05d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(chunk, run) if text is None else text)
    return path


def told(causes: Iterable[Cause]) -> list[tuple[str, Verdict, str]]:
    """Return codes, verdicts and commands of causes."""
    return [(cause.code, cause.verdict, "; ".join(cause.remedy.do)) for cause in causes]
