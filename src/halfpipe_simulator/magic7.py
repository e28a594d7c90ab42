"""Simulated attitude and orbit: magic-7 datagrams for APID 1020 (ground-chain §5).

A circular orbit and a steady turn; the numbers have the right size and nothing more.
"""

from collections.abc import Iterator

import numpy as np

from halfpipe.formats import met, simulated

ATTITUDES_PER_SECOND = 5
PER_DATAGRAM = 10  # seconds of records in one datagram
RADIUS = 6.93e6  # metres
PERIOD = 5730.0  # seconds
INCLINATION = np.radians(25.6)
SAA_SHARE = 0.13  # of each orbit, simulated as one passage
SURVEY = 5  # mode


def magic7_datagrams(first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Yield simulated magic-7 datagrams from MET second `first` to `last`: MET microseconds, content.

    A datagram's time is just after its last record.
    """
    for begin in range(first, last + 1, PER_DATAGRAM):
        steps = np.arange(PER_DATAGRAM * ATTITUDES_PER_SECOND)
        attitudes = np.zeros(steps.size, simulated.ATTITUDE)
        attitudes["seconds"] = begin + steps // ATTITUDES_PER_SECOND
        attitudes["microseconds"] = steps % ATTITUDES_PER_SECOND * (met.MICROSECONDS // ATTITUDES_PER_SECOND)
        half = np.pi * (attitudes["seconds"] + attitudes["microseconds"] / met.MICROSECONDS) / PERIOD
        attitudes["quaternion"][:, 0] = np.sin(half) * np.sin(INCLINATION)
        attitudes["quaternion"][:, 2] = np.sin(half) * np.cos(INCLINATION)
        attitudes["quaternion"][:, 3] = np.cos(half)
        attitudes["rates"][:, 2] = 2 * np.pi / PERIOD

        ancillaries = np.zeros(PER_DATAGRAM, simulated.ANCILLARY)
        ancillaries["seconds"] = begin + np.arange(PER_DATAGRAM)
        phase = 2 * np.pi * ancillaries["seconds"] / PERIOD
        speed = 2 * np.pi * RADIUS / PERIOD
        ancillaries["position"] = RADIUS * _in_plane(np.cos(phase), np.sin(phase))
        ancillaries["velocity"] = speed * _in_plane(-np.sin(phase), np.cos(phase))
        ancillaries["mode"] = SURVEY
        ancillaries["flags"] = np.where(phase / (2 * np.pi) % 1 < SAA_SHARE, simulated.FLAG_IN_SAA, 0)
        yield (
            (begin + PER_DATAGRAM) * met.MICROSECONDS,
            simulated.encode_magic7(attitudes, ancillaries),
        )


def _in_plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y * np.cos(INCLINATION), y * np.sin(INCLINATION)], axis=1)
