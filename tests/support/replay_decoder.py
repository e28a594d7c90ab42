"""A decoder that replays products made before: it copies those of its RetDef's chunk into OUTDIR."""

import argparse
import re
import shutil
from pathlib import Path


def main() -> None:
    """Behave as the decoder contract says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-r", dest="retdef", type=Path, required=True)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("-k", dest="latc")
    parser.add_argument("--source", type=Path, required=True)
    arguments = parser.parse_args()
    match = re.fullmatch(r"RetDef-([0-9]{9})-([0-9]{5})\.xml", arguments.retdef.name)
    assert match is not None
    for path in sorted((arguments.source / match[1]).glob(f"*-{match[2]}.*")):
        if path.suffix in {".evt", ".idx"}:
            shutil.copy(path, arguments.out / path.name)
            ground, run, *_ = path.name.split("-")
            print(f"getLSEChunk: processing {ground}-{run}-")


if __name__ == "__main__":
    main()
