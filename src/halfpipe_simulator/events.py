"""Simulated events: what stands in their records besides what their datagram says (evt-layout).

The numbers are plausible in size and consistent with each other; they are no physics.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, met

TICKS = 20  # GEM clock, per microsecond (nominal 20 MHz)
CLOCK = 1 << 25  # the GEM clock's counter wraps here
HACKS = 1 << 7
CELL = 16  # bytes of the unit in which the LAT sends event data
_WORD = struct.Struct("<I")


def contexts(times: NDArray[np.int64], sequences: NDArray[np.uint64], startedat: int) -> NDArray[np.void]:
    """Return the contexts (dtype `halfpipe.formats.evt.CONTEXT`) of events, with times and counters alone.

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
    seconds, microseconds = np.divmod(times, met.MICROSECONDS)
    made["ccsds_utc"] = met.unix_microseconds(seconds, microseconds) / met.MICROSECONDS
    made["run_startedAt"] = startedat
    for tone, second in (("current", seconds), ("previous", seconds - 1)):
        made[f"{tone}_timeSecs"] = second
        made[f"{tone}_tics"] = (second - startedat) * met.MICROSECONDS * TICKS % CLOCK
        made[f"{tone}_hacks"] = second % HACKS
        made[f"{tone}_sourceGps"] = 1
    elapsed = (times - startedat * met.MICROSECONDS) * TICKS
    made["scalers_sequence"] = sequences
    made["scalers_elapsed"] = elapsed
    made["scalers_livetime"] = elapsed * 92 // 100
    made["scalers_prescaled"] = sequences * np.uint64(3)
    made["scalers_discarded"] = sequences // np.uint64(17)
    made["scalers_deadzone"] = sequences // np.uint64(5)
    return made


def bodies(
    rng: np.random.Generator,
    *,
    kind: evt.InfoType,
    heads: NDArray[np.void],
    hwkey: int,
    swkey: int,
    cells: tuple[int, int],
) -> Iterator[bytes]:
    """Yield what follows the context in each event's record: EBF (random), info, handlers and keys.

    Parameters
    ----------
    rng
        Source of all that is random.
    kind
        LPA or one of the three LCI kinds.
    heads
        The contexts of the events, such as `contexts` makes.
    hwkey, swkey
        The keys of the configuration.
    cells
        Fewest and most 16-byte cells of an event's EBF.
    """
    count, lpa = heads.size, kind == evt.InfoType.LPA
    sizes = CELL * rng.integers(cells[0], cells[1] + 1, count)
    handled = rng.integers(0, 5, count) if lpa else np.zeros(count, np.int64)
    info = np.zeros(count, evt.LPA_INFO if lpa else evt.LCI_INFO_OF[kind])
    keys = np.zeros(count, evt.LPA_KEYS if lpa else evt.LCI_KEYS)
    edges = np.append(
        0, np.cumsum(sizes + info.itemsize + evt.LPA_HANDLER.itemsize * handled + keys.itemsize - 4)
    )
    noise = rng.integers(0, 1 << 32, int(edges[-1]) // 4, dtype=np.uint32).tobytes()
    info["timeTics"] = heads["scalers_elapsed"] % (met.MICROSECONDS * TICKS)
    info["timeHack_tics"] = heads["scalers_elapsed"] % CLOCK
    info["timeHack_hacks"] = heads["current_hacks"]
    info["compressionLevel"] = -1
    info["compressedSize"] = sizes
    info["softwareKey"] = swkey
    keys["type"] = evt.KeysType.LPA if lpa else evt.KeysType.LCI
    keys["LATC_master"], keys["LATC_ignore"] = hwkey, hwkey + 100
    if lpa:
        info["hardwareKey"] = hwkey
        info["lpaDbKey"] = keys["LPA_db"] = 13959
        keys["SBS"] = 3200
    else:
        info["strobe"], info["writeCfg"], info["readCfg"] = 1, hwkey, hwkey + 1
        keys["LCI_script"] = 14959
        for name in (info.dtype.names or ())[9:]:
            if info.dtype[name].kind == "u":
                info[name] = rng.integers(0, 2 if info.dtype[name].itemsize == 1 else 4096, count)
    rank = np.array([number for most in handled.tolist() for number in range(most)], np.int64)
    handlers = np.zeros(rank.size, evt.LPA_HANDLER)
    handlers["masterKey"], handlers["cfgKey"], handlers["cfgId"] = 9000 + rank, 9100 + rank, rank + 1
    handlers["state"] = rng.integers(0, 5, rank.size)
    handlers["prescaler"] = rng.integers(-3, 32, rank.size)
    handlers["version"], handlers["id"], handlers["has"] = 3, rank + 1, 1
    handlers["rsd_status"] = rng.integers(0, 1 << 32, rank.size)
    last = 0
    for number, (begin, size, more) in enumerate(
        zip(edges.tolist(), sizes.tolist(), handled.tolist(), strict=False)
    ):
        first, last = last, last + more
        ebf = (
            _WORD.pack(size + 8),
            _WORD.pack(evt.EBF_MARKER),
            _WORD.pack(size + 8),
            noise[begin : begin + size],
        )
        own = info[number].tobytes(), _WORD.pack(more), handlers[first:last].tobytes()
        if not lpa:
            own = _WORD.pack(info.itemsize), info[number].tobytes(), b""
        yield b"".join((*ebf, _WORD.pack(kind), *own, keys[number].tobytes()))
