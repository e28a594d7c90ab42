"""Process one run again on its own: as a made-up downlink, with its own working directory and stage.

So this cannot change what counts as delivered. Datagrams contain their run, but packets do not. So the packets of the
level-0 archive are selected by the times of the run's known datagrams.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.downlink.plan import Plan
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.durable import make_directory, write_bytes, write_text
from halfpipe.formats.retdef import RetDef, Span, content_of, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.ledger import moot_key
from halfpipe.merge.ordering import numbers_in
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.merged_index import known_datagrams
from halfpipe.settings import Alarm, Board, Ignore, Ledger, Settings, Shrink

FIRST_ID = 990000001  # of made-up downlinks; a real id never has month 00
MARGIN = 60.0  # seconds before and after the known datagrams of a run; there is a datagram every second

Times = tuple[float, float]


def prepare(settings: Settings, run: RunId) -> DownlinkId:
    """Create the made-up downlink of a run, with its RetDefs and its config, and return its id.

    Raises
    ------
    OSError
        If a file cannot be written.
    HalfPipeError
        As for `retdefs_of`, or if the MOOT key cannot be looked up.
    """
    settings = replace(settings, ignore=Ignore())  # so that the times and events of ignored chunks count
    work, retdefs = settings.paths.work, retdefs_of(settings, run)
    home = make_directory(work, paths.REPIPES)
    for number in count(FIRST_ID):
        with suppress(FileExistsError):
            (home / str(number)).mkdir()
            break
    downlink = DownlinkId(str(number))
    search_path = work / paths.repipe_retdefs(downlink)
    make_directory(search_path, downlink)
    for retdef in retdefs:
        write_bytes(search_path / paths.retdef(downlink, retdef.chunk), content_of(retdef))
    moot = settings.moot
    if moot.mapping:
        file = paths.repipe_moot(downlink)
        known = moot_key.of_run(settings, run, known_datagrams(settings, run).rows)
        write_text(work / file, f"{run.l1} {known.key} {known.alias}\n")
        moot = replace(moot, file=work / file)
    own = replace(
        settings,
        dl=(),
        paths=replace(
            settings.paths,
            work=work / paths.repipe_work(downlink),
            stage=work / paths.repipe_stage(downlink),
            retdef=(search_path,),
            online=None,
        ),
        ledger=Ledger(url=None),
        moot=replace(moot, mapping=False, update=None),
        retire=replace(settings.retire, deliver_waiting=True),
        submit=replace(settings.submit, automatic=False),
        shrink=Shrink(),
        board=Board(),
        alarm=Alarm(silence_hours=None),
    )
    write_text(work / paths.repipe_config(downlink), own.as_json())
    return downlink


def retdefs_of(settings: Settings, run: RunId) -> list[RetDef]:
    """Make the RetDefs of a run: one for each APID in the data and RetDefs of its downlinks, with the same archive.

    All have the same times: those of the run's known datagrams, extended by at most `MARGIN`. An EPU without known
    data may have some in the archive.

    Raises
    ------
    MissingInputError
        If no datagram or no RetDef of the run's downlinks is known here.
    HalfPipeError
        If a file cannot be read.
    """
    plan = Plan(settings)
    downlinks = [plan.of(downlink) for downlink in known_downlinks(settings.paths.work, run)]
    known = {
        each: known_datagrams(settings, each).rows for each in {run}.union(*(one.runs for one in downlinks))
    }
    every_path = (path for one in downlinks for path in one.retdefs.values())
    retdefs, own = list[RetDef](), known.pop(run)
    for path in every_path:
        with suppress(HalfPipeError):  # other RetDefs of the run name the same archive
            retdefs.append(read_retdef(path))
    if not len(own) or not retdefs:
        raise MissingInputError(
            f"run {run} ({run.l1}): no datagram or RetDef of the run is known here, so the times of its packets are "
            "unknown. Process one of its downlinks first: snakemake dl=DL"
        )
    kind = RunKind.of(numbers_in(own["apid"]))
    apids = {apid for rows in (own, *known.values()) for apid in numbers_in(rows["apid"])}
    apids |= {span.apid for retdef in retdefs for span in retdef.spans}
    apids = {apid for apid in apids if RunKind.of([apid]) is kind}
    others = [rows for rows in known.values() if apids.intersection(numbers_in(rows["apid"]))]
    begin, end = _span(_edges(own), list(map(_edges, others)))
    return [
        replace(
            retdefs[0],
            kind="LSEP" if kind is RunKind.LPA else "LSEC",
            run=run,
            l0key=-1,
            chunk=ChunkId.of(number),
            gndid=-1,
            spans=(Span(apid, begin, end),),
        )
        for number, apid in enumerate(sorted(apids), 1)
    ]


def _edges(rows: NDArray[np.void]) -> Times:
    """Return the times of the first and the last of some datagrams."""
    return float(rows["utc"].min()), float(rows["utc"].max())


def _span(own: Times, others: list[Times]) -> Times:
    """Return the known times of a run plus `MARGIN`, but at most halfway to the known times of `others`."""
    first, last = own
    begins = [(first + end) / 2 for _, end in others if end <= first]
    ends = [(last + begin) / 2 for begin, _ in others if begin >= last]
    return max([first - MARGIN, *begins]), min([last + MARGIN, *ends])
