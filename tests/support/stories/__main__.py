"""Stories from the command line: `python -m tests.support.stories [--shrink] SEED...` prints what is wrong."""

import argparse
import ast
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.stories.steps import Step, Story, tell


def told(seed: int, again: Sequence[Step] | None = None) -> tuple[Story, list[tuple[str, str]]]:
    """Tell a story in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="story-") as home:
        return tell(seed, Path(home) / "story", again)


def shrunk(seed: int, kind: str, steps: Sequence[Step]) -> tuple[list[Step], list[tuple[str, str]]]:
    """Leave out steps as long as something of the same kind is wrong."""
    left, wrong = list(steps), list[tuple[str, str]]()
    for at in reversed(range(len(steps))):
        fewer = left[:at] + left[at + 1 :]
        _, found = told(seed, fewer)
        if any(each[0] == kind for each in found):
            left, wrong = fewer, found
    return left, wrong


def main() -> int:
    """Tell stories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", help="Numbers, or as 1-300.")
    parser.add_argument("--shrink", action="store_true", help="Look for fewer steps with the same fault.")
    parser.add_argument("--again", type=ast.literal_eval, help="Only these steps, as they were printed.")
    given = parser.parse_args()
    ends = [[*map(int, words.split("-"))] for words in given.seeds]
    status = 0
    for seed in [seed for first, *last in ends for seed in range(first, (last or [first])[0] + 1)]:
        began, used = time.perf_counter(), sum(os.times()[:4])
        story, wrong = told(seed, given.again)
        took, cpu = time.perf_counter() - began, sum(os.times()[:4]) - used
        print(f"seed {seed}: {len(story.taken)} steps, {took:.1f} s, {cpu:.1f} s of processor", flush=True)
        status |= bool(wrong)
        for kind in dict.fromkeys(kind for kind, _ in wrong):
            texts = [text for of, text in wrong if of == kind]
            steps: Sequence[Step] = story.taken
            if given.shrink:
                steps, found = shrunk(seed, kind, story.taken)
                texts = [text for of, text in found if of == kind] or texts
            print(f"  {kind}: {texts[0][:1500]}\n    steps {[*steps]}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
