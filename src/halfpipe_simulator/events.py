"""Simulated events: the fields of their records that are not in their datagram (evt-layout).

Times and counters are consistent with each other. The event itself and its handlers are random. The other
fields are zero, except the configuration keys.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe_simulator.times import MICROSECONDS, unix_microseconds

TICKS = 20  # GEM clock, per microsecond (nominal 20 MHz)
CELL = 16  # bytes of the unit in which the LAT sends event data
_WORD = struct.Struct("<I")


def contexts(times: NDArray[np.int64], sequences: NDArray[np.uint64], startedat: int) -> NDArray[np.void]:
    """Return the contexts (dtype `halfpipe.formats.evt.CONTEXT`) of events, with only times and counters set.

    Parameters
    ----------
    times
        MET microseconds, sorted.
    sequences
        GEM sequence of each.
    startedat
        Start of the run, MET seconds.
    """
    made = np.zeros(times.size, evt.CONTEXT)
    seconds, microseconds = np.divmod(times, MICROSECONDS)
    made["ccsds_utc"] = unix_microseconds(seconds, microseconds) / MICROSECONDS
    made["run_startedAt"] = startedat
    made["current_timeSecs"] = seconds
    made["previous_timeSecs"] = seconds - 1
    made["scalers_sequence"] = sequences
    made["scalers_elapsed"] = elapsed = (times - startedat * MICROSECONDS) * TICKS
    made["scalers_livetime"] = elapsed * 92 // 100
    return made


def bodies(
    rng: np.random.Generator,
    *,
    kind: evt.InfoType,
    count: int,
    hwkey: int,
    swkey: int,
    cells: tuple[int, int],
) -> Iterator[bytes]:
    """Yield the part after the context of each event's record: EBF (random), info, handlers and keys.

    Parameters
    ----------
    rng
        Random number generator.
    kind
        LPA or one of the three LCI kinds.
    count
        Number of events.
    hwkey, swkey
        The configuration keys.
    cells
        Fewest and most 16-byte cells of an event's EBF.
    """
    lpa = kind == evt.InfoType.LPA
    sizes = CELL * rng.integers(cells[0], cells[1] + 1, count)
    handled = rng.integers(0, 5, count) if lpa else np.zeros(count, np.int64)
    info = np.zeros(1, evt.LPA_INFO if lpa else evt.LCI_INFO_OF[kind])
    keys = np.zeros(1, evt.LPA_KEYS if lpa else evt.LCI_KEYS)
    edges = np.append(
        0, np.cumsum(sizes + info.itemsize + evt.LPA_HANDLER.itemsize * handled + keys.itemsize - 4)
    )
    noise = rng.integers(0, 1 << 32, int(edges[-1]) // 4, dtype=np.uint32).tobytes()
    info["softwareKey"] = swkey
    keys["type"] = evt.KeysType.LPA if lpa else evt.KeysType.LCI
    keys["LATC_master"] = hwkey
    keys["LATC_ignore"] = hwkey + 100
    handlers = np.zeros(int(handled.sum()), evt.LPA_HANDLER)
    handlers["state"] = rng.integers(0, 5, handlers.size)
    handlers["prescaler"] = rng.integers(-3, 32, handlers.size)
    handlers["rsd_status"] = rng.integers(0, 1 << 32, handlers.size)
    last = 0
    for begin, size, more in zip(edges.tolist(), sizes.tolist(), handled.tolist(), strict=False):
        first = last
        last = last + more
        length = _WORD.pack(size + 8)
        ebf = noise[begin : begin + size]
        behind = info.tobytes() + _WORD.pack(more) + handlers[first:last].tobytes()
        if not lpa:
            behind = _WORD.pack(info.itemsize) + info.tobytes()
        yield b"".join(
            (length, _WORD.pack(evt.EBF_MARKER), length, ebf, _WORD.pack(kind), behind, keys.tobytes())
        )
