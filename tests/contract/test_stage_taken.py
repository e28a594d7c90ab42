"""Level-1 takes what it was handed, and only who asks for it has the files made anew."""

from pathlib import Path

from halfpipe import paths
from tests.support.golden_cases import build
from tests.support.series import values
from tests.support.workflow import Site

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"


def test_only_asking_for_it_makes_the_files_anew(site: Site) -> None:
    build("split2", site)
    site.process(FIRST)
    site.process(SECOND)
    files = {downlink: site.take(downlink) for downlink in (FIRST, SECOND)}
    assert all(files.values())
    before = values(site.work, paths.deliveries(RUN))
    assert site.process(FIRST, SECOND).jobs == frozenset()
    assert not (site.stage / FIRST).exists()
    site.process(FIRST, again=True)
    assert site.staged(FIRST) == files[FIRST]
    assert not (site.stage / SECOND).exists()
    assert site.receipt(FIRST)["handoff"] == 2
    assert site.receipt(SECOND)["handoff"] == 1
    # It is recorded again, for more datagrams are known now, but nothing else of it is new.
    first, second, third = values(site.work, paths.deliveries(RUN))
    assert before == [first, second]
    for key in ("sha256", "previous"):
        assert first.pop(key) != third.pop(key)
    assert third.pop("datagrams") != first.pop("datagrams")
    assert (first.pop("handoff"), third.pop("handoff")) == (1, 2)
    assert third == first
    tokens = {path.name for path in site.stage.glob("chunktokens/*/*")}
    assert tokens == {Path(name).stem for name in files[FIRST]}
