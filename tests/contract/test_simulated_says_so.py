"""Simulated data are marked on every screen, in texts and in JSON; other data are not."""

from pathlib import Path

import pytest

from halfpipe.deliver.receipt import table
from halfpipe.pages.pictures import run_picture
from halfpipe.status.survey import Survey
from halfpipe.tables.site_frames import SiteFrames
from tests.support import gallery
from tests.support.golden_cases import build
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

SAYS = "SIMULATED"


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_data_are_marked_everywhere(simulated: bool, site: Site, tmp_path: Path) -> None:
    if simulated:
        site, downlink = gallery.clean_run(tmp_path), str(gallery.FIRST)
    else:
        downlink = "240601001"
        build("complete_basic", site, downlink)
    last = site.receipt(downlink)
    assert last.receipt.simulated is simulated
    texts = [path.read_text() for path in (site.stage / downlink).glob("simulated_*.txt")]
    board, run = site.home / "board", last.runs[0].run
    printed = [
        table(last),
        halfpipe("status", configfile=site.configfile).output,
        halfpipe("show", downlink, configfile=site.configfile).output,
        halfpipe("board", "-o", board, configfile=site.configfile).output,
        run_picture(Survey(site.settings, gallery.NOW), run).decode(),
        *(page.read_text() for page in board.glob("*.html")),
        *map(repr, (SiteFrames(site.settings), SiteFrames(site.settings).downlink(downlink))),
        *(texts or ([""] if simulated else [])),
    ]
    assert [SAYS in each for each in printed] == [simulated] * len(printed)
    for words in (["status"], ["show", downlink]):
        assert site.told(*words)["simulated"] is simulated
