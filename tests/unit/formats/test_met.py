"""MET and UTC, against astropy's own times."""

from datetime import UTC, datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st

from halfpipe.formats import met
from halfpipe_simulator.times import unix_microseconds


def calendar(seconds: int) -> tuple[int, int]:
    """Return what astropy shows in the middle of MET second `seconds`: Unix time of the minute, the second."""
    from astropy.time import Time, TimeDelta  # a second that only the process of this test needs
    from astropy.utils import iers

    # On a day long after those that it knows it would ask the network for younger leap seconds.
    iers.conf.auto_download, iers.conf.auto_max_age = False, None
    shown = (Time("2001-01-01", scale="utc").tai + TimeDelta(seconds + 0.5, format="sec")).utc.ymdhms
    year, month, day, hour, minutes = (
        int(shown[name]) for name in ("year", "month", "day", "hour", "minute")
    )
    minute = datetime(year, month, day, hour, minutes, tzinfo=UTC)
    return int(minute.timestamp()), int(shown["second"])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 8 * 10**8))
@example(504921603)
@example(504921604)
@example(504921605)
def test_unix_time_agrees_with_astropy(seconds: int) -> None:
    minute, second = calendar(seconds)
    assert met.met_to_unix(seconds) == minute + second
    assert unix_microseconds(seconds, 123456) == (minute + second) * 10**6 + 123456
