"""Words for people: counts with the right plural, and times in UTC."""

from datetime import UTC, datetime


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with what is counted: ``1 downlink``, ``2 downlinks``, ``1,204 events``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def utc(unix: float) -> str:
    """Return Unix seconds as ``2023-04-01 01:23:20 UTC``."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"


def lasted(seconds: float) -> str:
    """Return a duration in the unit that suits it: ``45 s``, ``12 min``, ``3.2 h``, ``9.1 days``."""
    for unit, most, per, digits in (("s", 60, 1, 0), ("min", 5400, 60, 0), ("h", 172800, 3600, 1)):
        if seconds < most:
            return f"{seconds / per:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` letters, cut in its middle: what is to be done stands at its end."""
    if len(text) <= most:
        return text
    last = most * 2 // 3
    head, tail = text[: most - last - 3], text[-last:]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"
