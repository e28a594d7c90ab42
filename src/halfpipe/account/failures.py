"""The last failures of a downlink's jobs, from their logs: a log whose product is not there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from halfpipe.account.why_failed import Unfinished, cause, names, parted
from halfpipe.causes import Cause, Verdict
from halfpipe.handoff.contradictions import troubles as contradictions
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.storage import paths
from halfpipe.storage.reading import modified

KILLED = "killed, or cut off by a crash of the machine,"
SAME = "give the same command again"  # as messages of jobs end
DELIVERING = frozenset({"deliver_run", "receipt"})
STOPS = frozenset({"record-damaged", "takeover-refused", "shrunk-refused"})  # what delivers

PRODUCT: Mapping[str, Callable[[str, str], str]] = {
    "stage_retdef": paths.retdef,
    "decode_chunk": paths.chunk,
    "deliver_run": lambda dl, run: paths.manifest(run, dl),
    "receipt": lambda dl, _: paths.receipt(dl),
    "ledger": lambda dl, _: paths.loaded(dl),
    "submit": lambda dl, _: paths.submitted(dl),
    "pictures": lambda dl, _: paths.drawn(dl),
}


def failures(settings: Settings, downlink: DownlinkId) -> Iterator[Cause]:
    """Yield why jobs of a downlink did not end well, each cause once, in the order of the rules.

    A job whose log has no error line was killed, or is still running: whoever asks knows that nobody is at work.
    What a contradiction explains, which says best what is to be done, is only told.
    """
    work = settings.paths.work
    groups: dict[tuple[str, str], list[Unfinished]] = {}
    for path in failed_logs(work, downlink):
        job = Unfinished(path.stem.partition("-")[0], "", (path,), "")
        groups.setdefault((job.rule, cause(job, KILLED)), []).append(job)
    stops = [one for one in contradictions(settings, downlink) if one.code in STOPS] if groups else []
    for (rule, said), jobs in groups.items():
        why, remedy = parted(said)
        verdict, again = Verdict.PERSON, f"snakemake dl={downlink}"
        do = remedy.replace(SAME, again) or again
        ids = jobs[0].ids
        by = [one for one in stops if one.code == "record-damaged" or ids in one.text]
        if rule in DELIVERING and by:
            verdict, why = Verdict.TOLD, "it failed for that"
            do = "" if by[0].do.startswith("snakemake ") else f"once that is done: {again}"
        log = jobs[0].logs[0]
        text = f"{names(jobs)}: {why.rstrip('.')}; its log: {log}"
        yield Cause("failed", verdict, text, do, modified(str(log)))


def failed_logs(work: Path, downlink: DownlinkId) -> list[Path]:
    """Return the logs of the jobs of a downlink that did not end well, in the order of the rules."""
    home = work / paths.benchmarks(downlink)
    with suppress(OSError):
        logs = sorted(path for path in home.iterdir() if path.suffix == ".log")
        found = [path for path in logs if _product(work, downlink, path) is False]
        return sorted(found, key=lambda path: list(PRODUCT).index(path.stem.partition("-")[0]))
    return []


def _product(work: Path, downlink: DownlinkId, log: Path) -> bool | None:
    """Tell whether the product of a log's job is there, or was; None if the log is of no rule."""
    rule, _, of = log.stem.partition("-")
    if rule not in PRODUCT:
        return None
    return (work / PRODUCT[rule](downlink, of)).exists() or _ended_well(log)


def _ended_well(log: Path) -> bool:
    """Tell whether a job has noted, as its last act, what it took: then its product was lost afterwards."""
    try:
        return log.with_suffix(paths.BENCHMARK_SUFFIX).stat().st_mtime >= log.stat().st_mtime
    except OSError:
        return False
