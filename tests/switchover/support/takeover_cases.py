"""Cases of which the legacy itself, or a model of it, processed the first steps."""

from pathlib import Path

import yaml

from tests.support.golden_cases import Case

TAKEOVER = Path(__file__).resolve().parents[1] / "takeover"


def taken_over(case: Case) -> int:
    """Return how many steps of a case the legacy processed."""
    return int(yaml.safe_load((case.directory / "case.yaml").read_text())["taken_over"])
