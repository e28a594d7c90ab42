"""Tell stories: `python -m tests.support.stories SEED… | FIRST-LAST…`; a failing one is made shorter."""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.support.stories.steps import Step
from tests.support.stories.story import shorter, tell


def seeds(text: str) -> range:
    """Read a seed, or the first and the last."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Tell them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", type=seeds)
    parser.add_argument("--steps", help="these, with ; between them, instead of the seed's own")
    parser.add_argument("--long", action="store_true", help="leave failing stories as they are")
    parser.add_argument("--without-verdicts", action="store_true", help="look only at what is delivered")
    parser.add_argument("--home", type=Path, help="where; it is left there")
    given = parser.parse_args()
    steps = [Step.of(text) for text in given.steps.split(";")] if given.steps else None
    verdicts = not given.without_verdicts
    kinds: Counter[str] = Counter()
    steps_of: Counter[str] = Counter()
    seconds, count = 0.0, 0
    with tempfile.TemporaryDirectory(prefix="stories-") as scratch:
        home = given.home or Path(scratch) / "story"
        for seed in [seed for some in given.seeds for seed in some]:
            told = tell(seed, home, steps, verdicts=verdicts)
            seconds, count = seconds + told.seconds, count + 1
            steps_of.update(step.name for step in told.steps)
            if told.wrong is not None:
                kinds[told.wrong.kind] += 1
                if not given.long and steps is None:
                    told = shorter(told, home, verdicts=verdicts)
            print(told, flush=True)
    print(f"{count} stories, {sum(kinds.values())} failed, {seconds / count:.1f} s a story")
    for kind, number in kinds.most_common():
        print(f"  {number} {kind}")
    print(", ".join(f"{number} {name}" for name, number in steps_of.most_common()))
    return 1 if kinds else 0


if __name__ == "__main__":
    raise SystemExit(main())
