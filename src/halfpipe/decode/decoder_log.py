"""What a decoder says, line by line: the runs that it processes, and the exceptions that it met."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

EXCEPTION = re.compile(r"\b(DFI|PktFile|PktRetriever) exception")
PROCESSING = re.compile(r"getLSEChunk: processing ([0-9a-f]{8})-([0-9a-f]{8})-")
LINES_KEPT = 50  # of a kind that may come by the thousand; the log has more of them


class DecoderLog:
    """What a decoder said, as far as it matters; exceptions are counted by kind and run.

    Parameters
    ----------
    run
        The run that exceptions belong to before the decoder names one.
    """

    def __init__(self, run: str = "") -> None:
        self._run = run
        self.processing: set[str] = set()
        self.exceptions: Counter[tuple[str, str]] = Counter()
        self.lines: list[str] = []

    def hear(self, line: str) -> None:
        """Take one line."""
        if "processing" in line and (match := PROCESSING.search(line)):
            self._run = match[2]
            if len(self.processing) < LINES_KEPT:
                self.processing.add(f"{match[1]}-{match[2]}")
        if "exception" in line and (match := EXCEPTION.search(line)):
            self.exceptions[self._run, match[1]] += 1
            if len(self.lines) < LINES_KEPT:
                self.lines.append(line.strip()[:500])

    def summary(self, places: Mapping[str, str]) -> dict[str, Any]:
        """Return it as JSON; `places` are paths that differ from job to job, and what to call them."""
        lines = self.lines
        for path, name in places.items():
            lines = [line.replace(path, name) for line in lines]
        kinds: Counter[str] = Counter()
        by_run: dict[str, dict[str, int]] = {}
        for (run, kind), count in sorted(self.exceptions.items()):
            kinds[kind] += count
            by_run.setdefault(run, {})[kind] = count
        return {
            "processing": sorted(self.processing),
            "exceptions": dict(sorted(kinds.items())),
            "exceptions_by_run": by_run,
            "lines": lines,
        }
