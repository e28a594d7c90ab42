"""The environment of this process, and of programs that it starts."""

import gc
import os


def without_idle_threads() -> None:
    """Have numpy start none of the threads that its linear algebra, of which nothing is used here, would wait with.

    They cost a program a tenth of a second of CPU time at its start. Whoever has set a number keeps it.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def look_for_garbage_seldom() -> None:
    """Have Python look for garbage a hundred times less often.

    Snakemake's DAG of a thousand downlinks is some million objects, which all stay: going through them again
    and again is a sixth of the time that a dry run takes, and finds nothing.
    """
    gc.set_threshold(100_000, 20, 50)
