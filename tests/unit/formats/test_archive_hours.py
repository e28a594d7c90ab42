"""Names in the level-0 archive."""

from datetime import datetime
from pathlib import Path

import pytest

from halfpipe.formats import archive_hours


@pytest.mark.parametrize(
    ("time", "directory"),
    [
        ("2012-11-02T13:00:00", "2012/11/307.11.02.Fri/utc13"),  # as ground-chain §2 shows it
        ("2012-11-02T13:59:59", "2012/11/307.11.02.Fri/utc13"),
        ("2016-12-31T23:59:59", "2016/12/366.12.31.Sat/utc23"),
        ("2017-01-01T00:00:00", "2017/01/001.01.01.Sun/utc00"),
        ("2008-08-04T05:06:07", "2008/08/217.08.04.Mon/utc05"),
    ],
)
def test_directory_of_an_hour(time: str, directory: str, tmp_path: Path) -> None:
    seconds = datetime.fromisoformat(time + "+00:00").timestamp()
    assert archive_hours.hour_path(tmp_path, 77, seconds) == tmp_path / "src0077" / directory
