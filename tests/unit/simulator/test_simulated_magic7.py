"""scripts/simulated_magic7.py: lines as Level-1 reads them."""

import re

import pytest

from halfpipe.formats import met
from halfpipe_simulator import attitude
from tests.support.in_process import called

NUMBER = r"-?[0-9]+\.[0-9]{6}"
EXACT = r"-?[0-9.]+(?:e-?[0-9]+)?"
HEAD = r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6})"
ATT = re.compile(rf"{HEAD} ATT ([0-9]+) ([0-9]+)((?: {EXACT}){{4}})(?: {NUMBER}){{3}}")
ORB = re.compile(rf"{HEAD} ORB ([0-9]+) ([0-9]+)((?: {NUMBER}){{6}}) 5 ([01])")


@pytest.mark.parametrize("begin", [1680317400.3, 1483228780.3])  # the second one passes a leap second
def test_columns_order_and_rates(begin: float) -> None:
    done = called(attitude.main, "--arch", "/none", "--scid", 77, "-b", begin, "-e", begin + 99, "--lsm")
    assert (done.returncode, "SIMULATED" in done.stderr, "SIMULATED" in done.stdout) == (0, True, False)
    lines = done.stdout.splitlines()
    attitudes = [match for line in lines if (match := ATT.fullmatch(line))]
    orbits = [match for line in lines if (match := ORB.fullmatch(line))]
    seconds = met.unix_to_met(begin + 99) - met.unix_to_met(begin)
    assert (" ATT " in lines[0], len(lines)) == (True, len(attitudes) + len(orbits))
    assert (len(attitudes), len(orbits)) == (5 * seconds, seconds)
    times = [(int(words[3]), int(words[4]), words[2]) for words in map(str.split, lines)]
    assert times == sorted(times)
    for match in (attitudes[0], attitudes[-1]):
        shown = met.utc(met.met_to_unix(int(match[2]) + int(match[3]) / 1e6))
        assert match[1] == f"{shown:%Y-%m-%d %H:%M:%S.%f}"
    assert met.met_to_unix(times[0][0] + times[0][1] / 1e6) == pytest.approx(begin + 0.1)
    assert called(attitude.main, "--arch", "/none", "--scid", 77, "-b", 2, "-e", 1).returncode == 2
