"""Which downlinks have brought something of a run."""

from pathlib import Path

from halfpipe import paths
from halfpipe.ids import RunId
from halfpipe.run.downlinks_of_run import begun_downlinks, known_downlinks

RUN = RunId("2c2e5787")


def test_nothing_is_known_of_a_run_that_nobody_has_seen(tmp_path: Path) -> None:
    assert begun_downlinks(tmp_path, RUN) == known_downlinks(tmp_path, RUN) == []


def test_a_downlink_is_known_by_its_datagrams(tmp_path: Path) -> None:
    for name in ("240601003", "240601001", "240601002", ".context", "not-a-downlink"):
        (tmp_path / paths.run(RUN) / name).mkdir(parents=True)
    (tmp_path / paths.deliveries(RUN)).mkdir()
    for downlink in ("240601003", "240601001"):
        (tmp_path / paths.datagrams(RUN, downlink)).touch()
    assert begun_downlinks(tmp_path, RUN) == ["240601001", "240601002", "240601003"]
    assert known_downlinks(tmp_path, RUN) == ["240601001", "240601003"]
