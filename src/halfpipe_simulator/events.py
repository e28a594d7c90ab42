"""Simulated events: rows and payloads as `halfpipe_simulator.datagrams` wants them.

The numbers are plausible in size and consistent with each other; they are no physics.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, met
from halfpipe_simulator.datagrams import EVENT_ROW, payload_sizes

TICKS = 20  # GEM clock, per microsecond (nominal 20 MHz)
CLOCK = 1 << 25  # the GEM clock's counter wraps here
HACKS = 1 << 7
CELL = 16  # bytes of the unit in which the LAT sends event data

_WORD = 4


@dataclass(frozen=True, eq=False)
class Events:
    """Events of one EPU in order.

    `rows` has dtype `EVENT_ROW`; the payload of event i is ``payload[edges[i]:edges[i + 1]]`` (bytes).
    """

    rows: NDArray[np.void]
    payload: NDArray[np.uint8]
    edges: NDArray[np.int64]

    @property
    def met(self) -> NDArray[np.int64]:
        """Time of each event, MET microseconds."""
        seconds: NDArray[np.int64] = self.rows["seconds"].astype(np.int64)
        return seconds * met.MICROSECONDS + self.rows["microseconds"].astype(np.int64)


def make_events(
    rng: np.random.Generator,
    *,
    kind: evt.InfoType,
    times: NDArray[np.int64],
    sequences: NDArray[np.uint64],
    startedat: int,
    hwkey: int = 0,
    swkey: int = 0,
    cells: tuple[int, int] = (4, 24),
) -> Events:
    """Make simulated events.

    Parameters
    ----------
    rng
        Source of all that is random.
    kind
        LPA or one of the three LCI kinds.
    times
        MET microseconds, sorted.
    sequences
        GEM sequence of each.
    startedat
        Start of the run, MET seconds.
    cells
        Fewest and most 16-byte cells of an event's EBF.
    """
    count = times.size
    lpa = kind == evt.InfoType.LPA
    rows = np.zeros(count, EVENT_ROW)
    rows["seconds"], rows["microseconds"] = np.divmod(times, met.MICROSECONDS)
    rows["ebf_size"] = CELL * rng.integers(cells[0], cells[1] + 1, count)
    rows["infotype"] = kind
    rows["handlers"] = rng.integers(0, 5, count) if lpa else 0
    elapsed = (times - startedat * met.MICROSECONDS) * TICKS
    for tone, back in (("current", 0), ("previous", 1)):
        second = rows["seconds"].astype(np.int64) - back
        rows[f"{tone}_timeSecs"] = second
        rows[f"{tone}_tics"] = (second - startedat) * met.MICROSECONDS * TICKS % CLOCK
        rows[f"{tone}_hacks"] = second % HACKS
        rows[f"{tone}_sourceGps"] = 1
    rows["scalers_sequence"] = sequences
    rows["scalers_elapsed"] = elapsed
    rows["scalers_livetime"] = elapsed * 92 // 100
    rows["scalers_prescaled"] = sequences * np.uint64(3)
    rows["scalers_discarded"] = sequences // np.uint64(17)
    rows["scalers_deadzone"] = sequences // np.uint64(5)
    edges = np.concatenate(([0], np.cumsum(payload_sizes(rows))))
    return Events(rows, _payload(rng, kind, rows, edges, hwkey, swkey), edges)


def _payload(
    rng: np.random.Generator,
    kind: evt.InfoType,
    rows: NDArray[np.void],
    edges: NDArray[np.int64],
    hwkey: int,
    swkey: int,
) -> NDArray[np.uint8]:
    """Return EBF (random), info, handlers and keys of all events, one after the other."""
    words = rng.integers(0, 1 << 32, int(edges[-1]) // _WORD, dtype=np.uint32)
    begins = (edges[:-1] + rows["ebf_size"]) // _WORD

    def put(at: NDArray[np.int64], parts: NDArray[np.void]) -> None:
        size = parts.dtype.itemsize // _WORD
        words[at[:, np.newaxis] + np.arange(size)] = parts.view("<u4").reshape(-1, size)

    lpa = kind == evt.InfoType.LPA
    info = np.zeros(rows.size, evt.LPA_INFO if lpa else evt.LCI_INFO_OF[kind])
    info["timeTics"] = rows["microseconds"].astype(np.int64) * TICKS
    info["timeHack_tics"] = (rows["current_tics"].astype(np.int64) + info["timeTics"]) % CLOCK
    info["timeHack_hacks"] = rows["current_hacks"]
    info["compressionLevel"] = -1
    info["compressedSize"] = rows["ebf_size"]
    info["softwareKey"] = swkey
    if lpa:
        info["hardwareKey"] = hwkey
        info["lpaDbKey"] = 13959
    else:
        info["strobe"], info["writeCfg"], info["readCfg"] = 1, hwkey, hwkey + 1
        for name in (info.dtype.names or ())[9:]:
            if info.dtype[name].kind == "u":
                info[name] = rng.integers(0, 2 if info.dtype[name].itemsize == 1 else 4096, rows.size)
    put(begins, info)

    of = np.repeat(np.arange(rows.size), rows["handlers"])
    first = np.cumsum(rows["handlers"], dtype=np.int64) - rows["handlers"]
    rank = np.arange(of.size) - first[of]
    handlers = np.zeros(of.size, evt.LPA_HANDLER)
    handlers["masterKey"], handlers["cfgKey"], handlers["cfgId"] = 9000 + rank, 9100 + rank, rank + 1
    handlers["state"] = rng.integers(0, 5, of.size)
    handlers["prescaler"] = rng.integers(-3, 32, of.size)
    handlers["version"], handlers["id"], handlers["has"] = 3, rank + 1, 1
    handlers["rsd_status"] = rng.integers(0, 1 << 32, of.size)
    put(begins[of] + (info.dtype.itemsize + rank * evt.LPA_HANDLER.itemsize) // _WORD, handlers)

    keys = np.zeros(rows.size, evt.LPA_KEYS if lpa else evt.LCI_KEYS)
    keys["LATC_master"], keys["LATC_ignore"] = hwkey, hwkey + 100
    if lpa:
        keys["SBS"], keys["LPA_db"] = 3200, 13959
    else:
        keys["LCI_script"] = 14959
    untyped = keys.view("<u4").reshape(-1, keys.dtype.itemsize // _WORD)[:, 1:]
    words[(edges[1:] // _WORD - untyped.shape[1])[:, np.newaxis] + np.arange(untyped.shape[1])] = untyped
    return words.view(np.uint8)
