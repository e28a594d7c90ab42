"""A site for one test. Its workflow runs in processes of its own, as for operators, or in this process."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from halfpipe import config, decisions, paths
from halfpipe.causes import Cause
from halfpipe.decisions import Subject, What
from halfpipe.files import working_directory
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.state.hand_offs import HandOff, current
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support import in_process, verbs
from tests.support.in_process import ROOT
from tests.support.servers import wait_for

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
REPLAY = ROOT / "tests" / "support" / "replay_decoder.sh"
BAD_DECODER = ROOT / "tests" / "support" / "bad_decoder.py"
LEFT_OUT = (
    "work/logs/",
    "work/leases/",
    "work/settings/",
    "work/.snakemake/",
    "work/ledger.sqlite",
    f"work/{paths.FORMAT_MARK}",
    f"work/{paths.STAGE_MARK_COPY}/",
    f"stage/{paths.STAGE_MARK}/",
)
# Temporary files of records and marks that killed jobs leave; cleanup removes them.
PART = re.compile(rf"\.(\d{{6}}\.json|{re.escape(paths.FORMAT_MARK)})\.[0-9a-f]+\.part")
# A finished job on the terminal, and a failed one.
DONE = re.compile(r"^\d+ of \d+: (\w+)(?: (\d{9}))?(?: ([0-9a-f]{8}))?(?: (\d{5}))?$", re.MULTILINE)
FAILED = re.compile(
    r"^failed: (\w+); its log: \S*/(\d{9})/\w+(?:-([0-9a-f]{8}))?(?:-(\d{5}))?\.log$", re.MULTILINE
)
RULES = ("decode_chunk", "deliver_run", "receipt", "ledger", "submit")  # of a downlink, in order
PATIENCE = 600  # seconds, on a busy machine
LONG_AGO = 1_717_200_000  # 2024-06-01, Unix seconds


class Job(NamedTuple):
    rule: str
    dl: str = ""
    run: str = ""
    chunk: str = ""
    target: str = ""


@dataclass(frozen=True)
class Listed:
    """A job in a dry run, with its files (relative to the working directory), resources and command."""

    job: Job
    inputs: frozenset[str]
    outputs: frozenset[str]
    resources: frozenset[str]
    command: str


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a command; a verb in this process also has its two outputs separately."""

    status: int
    said: str
    out: str = ""
    errors: str = ""

    @property
    def jobs(self) -> frozenset[Job]:
        """The jobs that were listed or have ended, without the job of the default target."""
        every = [*DONE.findall(self.said), *FAILED.findall(self.said)]
        ended = {Job(*words) for words in every if words[0] != "outstanding"}
        return frozenset(ended | {listed.job for listed in self.listed})

    @property
    def listed(self) -> list[Listed]:
        """The jobs with their files and, if printed, their commands."""
        return [listed for listed in _listed(self.said) if listed.job.rule != "outstanding"]

    def good(self) -> "Ended":
        """Fail with the output if the command failed; return this."""
        assert self.status == 0, self.said
        return self

    def bad(self, *messages: str) -> "Ended":
        """Fail unless the command failed, printed all `messages`, and no traceback; return this."""
        assert self.status != 0, self.said
        missing = [message for message in messages if message not in self.said]
        assert not missing, f"{missing}\nnot said in\n{self.said}"
        assert "Traceback" not in self.said, self.said
        assert "defect of the program" not in self.said, self.said
        return self


def _listed(said: str) -> Iterable[Listed]:
    # The jobs of a group are indented.
    blocks = r"^ *(?:local)?rule (\w+):\n((?: {4}(?! *(?:local)?rule ).*\n)*)(?: *Shell command: (.*)$)?"
    for rule, block, command in re.findall(blocks, said, re.MULTILINE):
        has = dict(re.findall(r"^ +(\w+): (.*)$", block, re.MULTILINE))
        inputs, outputs, wildcards, resources = (
            frozenset(has[name].split(", ") if name in has else [])
            for name in ("input", "output", "wildcards", "resources")
        )
        job = Job(rule, **dict(pair.split("=", 1) for pair in wildcards))
        yield Listed(job, inputs, frozenset(name.split(" (")[0] for name in outputs), resources, command)


@dataclass
class Site:
    """A working directory, a stage, RetDefs and a config below `home`."""

    home: Path
    config: dict[str, Any] = field(default_factory=dict)
    typing: ClassVar[bool] = False
    """Whether each command runs in its own process; tests/conftest.py sets this for some tests."""

    def __post_init__(self) -> None:
        self.work, self.stage, self.retdefs = (self.home / name for name in ("work", "stage", "retdefs"))
        self.retdefs.mkdir(parents=True, exist_ok=True)
        # Tests do not wait until RetDefs are old enough; the lease of a killed process expires soon.
        self.configure(
            paths={"work": str(self.work), "stage": str(self.stage), "retdef": [str(self.retdefs)]},
            retdef={"settle_seconds": 0, **self.config.get("retdef", {})},
            lease={"seconds": 5, **self.config.get("lease", {})},
        )

    def clone(self, home: Path) -> "Site":
        """Copy everything to `home` with the times of files, and adapt the paths in the config."""
        shutil.copytree(self.home, home, dirs_exist_ok=True)
        config = yaml.safe_load(yaml.safe_dump(self.config).replace(str(self.home), str(home)))
        return Site(home, config)

    @property
    def configfile(self) -> Path:
        """The file for ``--configfile``."""
        return self.home / "config.yaml"

    def configure(self, **sections: Any) -> None:
        """Set keys of config sections."""
        for name, section in sections.items():
            if isinstance(section, Mapping):
                self.config.setdefault(name, {}).update(section)
            else:
                self.config[name] = section
        self.configfile.write_text(yaml.safe_dump(self.config))

    def replay(self, source: Path, *downlinks: str) -> None:
        """Use the products below `source`/<downlink> instead of a decoder's, and no magic-7; add their RetDefs."""
        command = shlex.join(["sh", str(REPLAY), "--source", str(source)])
        self.configure(decoder={"command": command}, magic7={"command": None})
        self.add_retdefs(source, *downlinks)

    def misbehave(self, source: Path, *options: str) -> None:
        """Use the products below `source` with a faulty decoder; `options`: its command-line options."""
        file = self.home / "misbehaves"
        file.write_text("".join(f"{option}\n" for option in options))
        words = [sys.executable, str(BAD_DECODER), "--source", str(source), f"@{file}"]
        self.configure(decoder={"command": shlex.join(words)})

    def misbehave_in(self, source: Path, fault: str, *downlinks: str) -> None:
        """Have the decoder fail in the same way for all chunks of downlinks."""
        names = [path.stem for dl in downlinks for path in sorted((source / dl).glob("RetDef-*.xml"))]
        self.misbehave(source, *(f"--fault={name.removeprefix('RetDef-')}={fault}" for name in names))

    def add_retdefs(self, source: Path, *downlinks: str) -> None:
        """Copy RetDefs from `source`/<downlink> to the search path, with old times."""
        for downlink in downlinks:
            (self.retdefs / downlink).mkdir(exist_ok=True)
            for path in source.glob(f"{downlink}/RetDef-*.xml"):
                copied = shutil.copy(path, self.retdefs / downlink / path.name)
                os.utime(copied, (LONG_AGO, LONG_AGO))

    def simulate(self, scenario: Scenario) -> Simulation:
        """Simulate a scenario beside the site and use it, without magic-7."""
        made = scenario.write(self.home / "simulated")
        self.use(made)
        self.configure(magic7={"command": None})
        self.add_retdefs(made.path / "downlinks", *made.downlinks)
        return made

    def use(self, made: Simulation) -> None:
        """Use the archive and the MOOT keys of a simulation."""
        self.configure(paths={"level0": str(made.level0)}, moot={"file": str(made.path / "moot.txt")})

    def command(self, *arguments: str) -> list[str]:
        return [str(SNAKEMAKE), "-c2", *arguments, "--configfile", str(self.configfile)]

    def typed(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run Snakemake in its own process, in the project's root."""
        return run(self.command(*arguments), env)

    def snakemake(self, *arguments: str) -> Ended:
        """Run Snakemake and its jobs in this process, or in their own processes for some tests (`typing`)."""
        if Site.typing:
            return self.typed(*arguments)
        return Ended(*in_process.snakemake(self.command(*arguments)[1:]))

    def process(self, *downlinks: str, again: bool = False) -> Ended:
        """Process downlinks; fail if the command fails."""
        targets = [f"dl={downlink}" for downlink in downlinks]
        return self.snakemake(*targets, *(["-F"] if again else [])).good()

    def listed(self, *targets: str) -> list[Listed]:
        """Return all jobs of downlinks in order, outstanding or not, and write their settings."""
        config.write_down(self.settings)
        working_directory.begin(self.work)
        words = self.command(*targets, "-n", "-F", "--printshellcmds")[1:]
        listed = Ended(*in_process.snakemake(words)).good().listed
        return sorted(listed, key=lambda each: (RULES.index(each.job.rule), sorted(each.outputs)))

    def by_hand(
        self, downlink: str, *rules: str, jobs: Sequence[Listed] | None = None, missing: bool = False
    ) -> None:
        """Process a downlink without Snakemake: run the commands of its jobs in this process.

        `rules`: only jobs of these rules; `jobs`: the result of `listed`; `missing`: only those with missing outputs.
        """
        jobs = self.listed(f"dl={downlink}") if jobs is None else jobs
        if missing:
            jobs = [job for job in jobs if not all((self.work / name).exists() for name in job.outputs)]
        with in_process.as_in_a_process(self.work):
            for each in jobs:
                if not rules or each.job.rule in rules:
                    assert in_process.program(each.command) == 0, each.command

    def outstanding(self, *downlinks: str) -> frozenset[Job]:
        """Return the jobs that a dry run lists."""
        return self.snakemake("-n", *(f"dl={downlink}" for downlink in downlinks)).good().jobs

    def halfpipe(self, *words: str | Path) -> Ended:
        """Run a verb of `halfpipe` with the site's config; the result omits the first line of output."""
        if Site.typing or words[0] == "unattended":
            ended = run([*verbs.COMMAND, *map(str, words), "--configfile", str(self.configfile)])
            return Ended(ended.status, _without_head(ended.said))
        with in_process.as_in_a_process(ROOT):
            result = verbs.halfpipe(*words, configfile=self.configfile)
        return Ended(result.exit_code, *map(_without_head, (result.output, result.stdout, result.stderr)))

    def told(self, *words: str | Path) -> Any:
        """Run a verb, and return its JSON."""
        ended = self.halfpipe(*words, "--format", "json")
        return json.loads(ended.out or ended.said)

    @property
    def settings(self) -> Settings:
        return config.load([self.configfile])

    def causes(self, downlink: str, later: float = 0.0) -> dict[str, Cause]:
        """Return the causes of a downlink's account by code, `later` seconds from now."""
        survey = Survey(self.settings, time.time() + later)
        return {cause.code: cause for cause in account(survey, DownlinkId(downlink)).causes}

    def decide(self, subject: str, what: What, number: int | None = None, *, undone: bool = False) -> None:
        """Record a decision, without looking whether it fits now."""
        if what.is_counted and number is None:
            number = 10**6
        decisions.decide(self.work, what, Subject.parse(subject), number, "a test, says N. N.", undone=undone)

    def abandon(self, run: str) -> None:
        """Abandon a run."""
        self.decide(run, What.ABANDONED)

    def has_receipt(self, downlink: str) -> bool:
        """Tell whether a downlink is handed off."""
        return (self.work / paths.receipt(downlink)).exists()

    def receipt(self, downlink: str) -> HandOff:
        """Return the hand-off of a downlink that has a receipt."""
        return current(self.work, DownlinkId(downlink))

    def staged(self, downlink: str) -> dict[str, bytes]:
        """Return the staged event files of a downlink by their path below its stage directory."""
        home = self.stage / downlink
        return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.glob("*/*"))}

    def text(self, name: str, downlink: str) -> list[str]:
        """Return the lines of a text of a downlink, sorted."""
        return sorted((self.stage / downlink / f"{name}_{downlink}.txt").read_text().splitlines())

    def halted(self) -> list[str]:
        """Return the tokens that keep Level-1 from retiring runs."""
        home = self.stage / "chunktokens"
        return sorted(str(path.relative_to(home)) for path in home.glob("*/haltCleanup-*"))

    def take(self, downlink: str) -> dict[str, bytes]:
        """Take a hand-off as Level-1 does: move the event files, then remove the directory."""
        taken = self.staged(downlink)
        level1 = self.home / "level1" / downlink
        for name in taken:
            (level1 / name).parent.mkdir(parents=True, exist_ok=True)
            (self.stage / downlink / name).rename(level1 / name)
        shutil.rmtree(self.stage / downlink)
        # Level-1 deletes the token of each finished file.
        for name in taken:
            for token in self.stage.glob(f"chunktokens/*/{Path(name).stem}"):
                token.unlink()
        return taken

    def tree(self) -> dict[str, bytes]:
        """Return all files that must be the same after the same work.

        These are all files except logs, settings, leases, files of Snakemake, temporary files of killed jobs, the
        ledger (its bytes depend on the order of writes), and the marks of stage and working directory (unique).
        """
        kept = {}
        for top in (self.work, self.stage):
            for path in sorted(top.rglob("*")):
                name = str(path.relative_to(self.home))
                if PART.fullmatch(path.name):
                    continue
                if path.is_file() and not name.startswith(LEFT_OUT):
                    kept[name] = path.read_bytes()
        return kept


def in_peace(home: Path, scenario: Scenario, **sections: Any) -> Site:
    """Process simulated downlinks; RetDefs and products are in `home`/in, as in a golden case."""
    site = Site(home / "peace")
    made = site.simulate(scenario)
    site.configure(**sections)
    for downlink in made.downlinks:
        site.by_hand(downlink)
        shutil.copytree(site.work / downlink / "chunks", home / "in" / downlink)
        for path in (made.path / "downlinks" / downlink).glob("*.xml"):
            shutil.copy(path, home / "in" / downlink)
    return site


class Running:
    """A command in the background; its output goes to a file in `home`."""

    def __init__(
        self, words: Sequence[str], home: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.log = home / f"said-{time.monotonic_ns()}"
        variables = {**os.environ, **(env or {})}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                words, cwd=cwd, env=variables, stdout=out, stderr=out, start_new_session=True
            )

    def wait_for(self, what: str, ready: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until `ready`, or the command has ended."""
        wait_for(what, lambda: ready() or self.process.poll() is not None, seconds)

    def ended(self) -> Ended:
        """Wait for the end of the command."""
        return Ended(self.process.wait(PATIENCE), self.log.read_text())


def _without_head(said: str) -> str:
    """Return the output of a verb without its first line."""
    return re.sub(r"\AHalfPipe at .*\n", "", said)


def run(command: list[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Ended:
    """Run a command in the project's root, or elsewhere, with both outputs in one."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout)
