"""The environment that programs started by this process find."""

import os
from pathlib import Path


def put_first_on_path(directory: Path) -> None:
    """Have programs looked for in `directory` before anywhere else, once."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if str(directory) not in places:
        os.environ["PATH"] = os.pathsep.join([str(directory), *places])
