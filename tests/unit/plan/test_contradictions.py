"""Two downlinks that contain the same datagrams with other sequences: told, with a way out."""

import random
from dataclasses import replace

import yaml

from halfpipe.causes import Cause
from halfpipe.decisions import What
from halfpipe.ids import DownlinkId
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from tests.support.golden_cases import build
from tests.support.original_events import LPA_RECORD
from tests.support.random_cases import START, RandomCase, changed
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
HIGHER = 100_000  # what the second downlink adds to each sequence


def told(site: Site, downlink: DownlinkId) -> list[Cause]:
    causes = account(Survey(site.settings), downlink).causes
    return [cause for cause in causes if cause.code == "datagrams-differ"]


def test_the_same_datagrams_with_other_sequences_need_action_until_one_is_left_out(site: Site) -> None:
    home, chosen = site.home / "case", random.Random(5)
    case = RandomCase(home, chosen, [FIRST, SECOND])
    (datagrams,) = case.datagrams(START, [956])
    datagrams[0].opening, datagrams[-1].closing = "start", "stop"
    case.chunk(FIRST, START, 956, datagrams)
    other = [
        replace(
            one,
            events=[
                (sequence + HIGHER, changed(LPA_RECORD, START, sequence + HIGHER, 956, 1000, chosen))
                for sequence, _ in one.events
            ],
        )
        for one in datagrams
    ]
    case.chunk(SECOND, START, 956, other)
    knobs: dict[str, object] = {
        "max_events": 1000, "chunk_scale": 0.9, "chunk_floor": 0.5, "min_events": 2, "min_epus": 1, "latc": None,
        "moot": {}, "steps": [{"dl": str(dl), "runs": [START]} for dl in (FIRST, SECOND)],
    }  # fmt: skip
    (home / "case.yaml").write_text(yaml.safe_dump(knobs))
    build(home, site, FIRST, SECOND)

    (first, second), both = (site.receipt(dl).runs[0].delivery for dl in (FIRST, SECOND)), (FIRST, SECOND)
    assert first.events == second.events > 0, "delivered twice"
    with_events = [one.number for one in datagrams if one.events]
    assert [one.datagram for one in second.contradicts] == with_events
    assert [len(told(site, dl)) for dl in both] == [0, 1]

    site.decide(f"{FIRST}/00001", What.LEFT_OUT)
    site.decide(f"{FIRST}/2c2e5787", What.SHRUNK, first.events)
    (cause,) = told(site, SECOND)
    (command,) = cause.remedy.do
    site.by_hand(FIRST)
    site.snakemake(*command.split()[1:]).good()
    assert [len(told(site, dl)) for dl in both] == [0, 0]
