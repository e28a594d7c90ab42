"""A site with two finished downlinks, and a third one that is half-finished.

The products of the decoder are from golden cases.
"""

import shutil
from pathlib import Path

from halfpipe import paths
from tests.support.golden_cases import take_chunk
from tests.support.workflow import Site

FIRST = "240601001"
SECOND = "240601002"
HALF_WAY = "240602001"
SPREAD = "2c2e5787"
LCI = "2c2e6cc0"
CUT = "2c2e8430"
# Decoded chunks of the third downlink, and one with only a staged RetDef.
BEGUN = ("00001", "00005", "00006")
STAGED = "00002"
PARTS = [  # golden case, its downlink and chunk, and the downlink and chunk here
    *[("split3", FIRST, n, FIRST, n) for n in (1, 2, 3, 4)],
    ("multi3", FIRST, 3, FIRST, 5),
    *[("split3", SECOND, n, SECOND, n) for n in (1, 2, 3)],
    *[("split3", HALF_WAY, n, HALF_WAY, n) for n in (1, 2, 3, 4)],
    *[("multi3", FIRST, n, HALF_WAY, n + 1) for n in (4, 5)],
]


def worked_site(home: Path) -> Site:
    """Make the site, with the commands of an operator."""
    site = Site(
        home,
        {
            "paths": {"online": str(home / "online")},
            "merge": {"min_events": 1},
            "moot": {"file": str(home / "moot.txt")},
            "submit": {"command": "echo createStream -S {dl} -D DOWNLINK_RAWDIR={rawdir} L1Proc"},
            "online": {"command": "echo {file} {run} {gid} {key} {alias}"},
        },
    )
    products = home / "products"
    for case, downlink, number, taken_as, chunk in PARTS:
        take_chunk(case, downlink, number, products / taken_as, taken_as, chunk)
    site.replay(products, FIRST, SECOND, HALF_WAY)
    (home / "moot.txt").write_text("r0741234567 2959 nomSciOps\nr0741240000 2410 nomSciOps\n")
    (home / "online").mkdir()
    (home / "profile.v9+.yaml").write_text("configfile: config.yaml\n")  # as the simulator writes one
    site.process(FIRST)
    site.process(FIRST, again=True)
    site.snakemake(f"{SECOND}/ledger.json", f"submit={FIRST}").good()
    site.halfpipe("online").good()
    site.snakemake(f"runs/{CUT}/{HALF_WAY}/manifest.json").good()
    for product in sorted((site.work / HALF_WAY / "chunks").iterdir()):  # as if being decoded again
        if not any(begun in product.name for begun in BEGUN):
            product.unlink()
    staged = paths.retdef(HALF_WAY, STAGED)
    shutil.copy(site.retdefs / staged, site.work / staged)
    return site
