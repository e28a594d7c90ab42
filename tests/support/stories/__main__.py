"""Stories from the command line: `python -m tests.support.stories [--shrink] SEED...` prints what is wrong."""

import argparse
import ast
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.stories.steps import Step, Story, tell


def told(seed: int, again: Sequence[Step] | None = None) -> tuple[Story, list[tuple[str, str]]]:
    """Tell a story in a temporary directory."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", help="Numbers, or as 1-300.")
    parser.add_argument("--shrink", action="store_true", help="Look for fewer steps with the same fault.")
    parser.add_argument("--again", type=ast.literal_eval, help="Only these steps, as they were printed.")
    given = parser.parse_args()
    ends = [[*map(int, words.split("-"))] for words in given.seeds]
    steps_by_name, wrong_by_kind, places = Counter[str](), Counter[str](), Counter[str]()
    for seed in [seed for first, *last in ends for seed in range(first, (last or [first])[0] + 1)]:
        began, used = time.perf_counter(), sum(os.times()[:4])
        story, wrong = told(seed, given.again)
        took, cpu = time.perf_counter() - began, sum(os.times()[:4]) - used
        print(f"seed {seed}: {len(story.taken)} steps, {took:.1f} s, {cpu:.1f} s of processor", flush=True)
        steps_by_name.update(str(step[0]) for step in story.taken)
        wrong_by_kind.update({kind for kind, _ in wrong})
        for run in story.books.runs:
            places.update(story.books.where(run).values())
        for kind in dict.fromkeys(kind for kind, _ in wrong):
            texts = [text for of, text in wrong if of == kind]
            steps: Sequence[Step] = story.taken
            if given.shrink:
                steps, found = shrunk(seed, kind, story.taken)
                texts = [text for of, text in found if of == kind] or texts
            print(f"  {kind}: {texts[0][:1500]}\n    steps {[*steps]}", flush=True)
    print(f"steps {dict(steps_by_name.most_common())}")
    print(f"events in the end { {str(place): n for place, n in places.most_common()} }")
    print(f"stories with something wrong, by kind {dict(wrong_by_kind.most_common())}")
    return int(bool(wrong_by_kind))


if __name__ == "__main__":
    sys.exit(main())
