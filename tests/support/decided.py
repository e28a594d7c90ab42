"""Every cause that a person can decide about: how it appears, and what follows. docs/deciding.md has the same table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from halfpipe.decisions import What
from halfpipe_simulator.scenario import Scenario
from tests.support.golden_cases import GOLDEN, build, copied
from tests.support.workflow import Site

REOPENED = "reopened"
FIRST = "240601001"
SECOND = "240601002"
RUN = "2c2e5787"
HEAD = "| code | command | decided | record in | afterwards | taken back by |\n| --- | --- | --- | --- | --- | --- |\n"
MEANS = {
    What.LEFT_OUT: ("DL/CHUNK left-out", "no merge uses the chunk"),
    What.EVENTS: ("DL/CHUNK events=N", "N events of the chunk are lost"),
    What.LEVEL0: ("DL/CHUNK level0=N", "N level-0 hours (each of one APID) and gaps of the chunk are lost"),
    What.LATE: ("DL/RUN late=N", "Level-1 does without N late events"),
    What.SHRUNK: ("DL/RUN shrunk=N", "the downlink delivers N events less than before"),
    What.ABANDONED: ("RUN abandoned", "[nobody waits](retirement.md) for the run's missing data"),
    REOPENED: ("DL/RUN reopened", "Level-1 has rolled back what DL delivered before and not now"),
}


@dataclass(frozen=True)
class Decided:
    """A row: a cause with a `code` of `downlink`, on a site where `make` has made it.

    `then` has the words of the command that must follow, for people, and `after` the same for the test. `fails` tells
    whether that command shows the cause again after the decision was taken back. `covers` is what `halfpipe accept`
    shows of a decision without a number.
    """

    code: str
    what: str
    make: Callable[[Site], object]
    then: str = "it becomes a note"
    after: tuple[str, ...] = ()
    fails: bool = False
    covers: str = ""
    downlink: str = FIRST

    @property
    def line(self) -> str:
        """The row of the table in the documents."""
        words, means = MEANS[self.what]
        back = "it cannot be" if self.what == REOPENED else "`--undo`"
        home = "runs/RUN/deliveries/" if self.what == REOPENED else "decisions/"
        return f"| {self.code} | `halfpipe accept {words}` | {means} | `{home}` | {self.then} | {back} |\n"


def table() -> str:
    """Return the table of docs/deciding.md."""
    return HEAD + "".join(each.line for each in EVERY)


def without(source: Path, downlink: str, gone: Callable[[int], bool]) -> None:
    """Remove events from the products of a downlink: those whose sequence is `gone`."""
    for path in (source / downlink).glob("*.idx"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith("EVT:") and gone(int(line.split()[2])))]
        path.write_text("".join(kept))


def _first_retdef_missing(site: Site) -> None:
    build("split2", site)
    site.work.mkdir()
    min((site.retdefs / FIRST).iterdir()).unlink()


def _job_without_retdef(site: Site) -> None:
    _first_retdef_missing(site)
    site.snakemake(f"dl={FIRST}").bad()


def _bad_retdef_removed(site: Site) -> None:
    build("split2", site)
    last = max((site.retdefs / FIRST).iterdir())
    last.write_text(last.read_text()[:-9])
    site.snakemake(f"dl={FIRST}").bad()
    last.unlink()
    site.process(FIRST)


def _nothing_decoded(site: Site) -> None:
    build("split2", site)
    site.misbehave(GOLDEN / "split2" / "in", f"--fault={FIRST}-00001=nothing")
    site.snakemake(f"dl={FIRST}").bad()


def _event_without_line(site: Site) -> None:
    build("complete_basic", site)
    site.misbehave(GOLDEN / "complete_basic" / "in", f"--fault={FIRST}-00001=line-less")
    site.process(FIRST)


def _hour_missing(site: Site) -> None:
    made = site.simulate(Scenario(seed=7, downlinks=(FIRST,)).lpa_run(events=100))
    min(made.level0.rglob("s*a0956*")).unlink()
    site.process(FIRST)


def _late(site: Site) -> None:
    for step in build("third_epu_late_again", site).steps[:-1]:
        site.process(step.downlink)


def _shrunk(site: Site) -> None:
    build(copied("dup_later_dl", site), site, FIRST)
    without(site.home / "golden" / "dup_later_dl" / "in", FIRST, lambda sequence: 1060 < sequence <= 1102)
    site.snakemake(f"dl={FIRST}", "-F").bad()


def _closed(site: Site) -> None:
    _shrunk(site)
    (offered,) = site.causes(FIRST)["shrunk"].remedy.accept
    site.halfpipe("accept", *offered.split(), "--reason", "lost").good()
    site.process(FIRST)
    site.process(SECOND)


def _waiting(site: Site) -> None:
    build("gap_one", site, FIRST)


AGAIN = f"dl={FIRST}"
DELIVER = "deliver_run"
EVERY = (
    Decided("`waits-retdef`", What.LEFT_OUT, _first_retdef_missing, "`snakemake dl=DL`", (AGAIN,), covers="the chunk"),
    Decided("`missing-input`", What.LEFT_OUT, _job_without_retdef, "`snakemake dl=DL`", (AGAIN,), True, "the chunk"),
    Decided("`no-retdefs`", What.LEFT_OUT, _bad_retdef_removed, "`snakemake dl=DL`", (AGAIN,), covers="nothing now"),
    Decided("`decoder`", What.LEFT_OUT, _nothing_decoded, "`snakemake dl=DL`", (AGAIN,), True, "the chunk"),
    Decided("`events-missing`", What.EVENTS, _event_without_line),
    Decided("`level0-missing`", What.LEVEL0, _hour_missing),
    Decided("`late-events`", What.LATE, _late, downlink=SECOND),
    Decided("`shrunk`", What.SHRUNK, _shrunk, "`snakemake dl=DL`; Level-1 needs a rollback", (AGAIN,), True),
    Decided("`closed`", REOPENED, _closed, "the next command of `closed`", downlink=SECOND),
    Decided("waiting events, in `halfpipe explain`", What.ABANDONED, _waiting, "the command that it prints",
            (AGAIN, "-R", DELIVER), covers="21 waiting events"),
)  # fmt: skip
