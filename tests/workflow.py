"""The workflow as an operator runs it: Snakemake in a process of its own, on a site made for one test."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from halfpipe import paths
from halfpipe.config import load
from halfpipe.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
REPLAY = ROOT / "tests" / "replay_decoder.py"
LONG_AGO = 1_717_200_000  # 2024-06-01, Unix seconds


class Job(NamedTuple):
    """One job as Snakemake tells it: its rule and its wildcards."""

    rule: str
    dl: str = ""
    run: str = ""
    chunk: str = ""
    misspelt: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    status: int
    said: str

    @property
    def jobs(self) -> frozenset[Job]:
        """The jobs that were listed or started, but for the default target's own."""
        return frozenset(job for job in _jobs(self.said) if job.rule != "outstanding")

    def good(self) -> "Ended":
        """Return this if the command ended well, and fail with what it said if not."""
        assert self.status == 0, self.said
        return self


def _jobs(said: str) -> Iterable[Job]:
    blocks = re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", said, re.MULTILINE)
    for rule, block in blocks:
        wildcards = re.search(r"^ {4}wildcards: (.*)$", block, re.MULTILINE)
        pairs = dict(pair.split("=", 1) for pair in wildcards[1].split(", ")) if wildcards else {}
        yield Job(rule, **pairs)


@dataclass
class Site:
    """A working directory, a stage, RetDefs and a config in a directory of a test's own."""

    home: Path
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work, self.stage, self.retdefs = (self.home / name for name in ("work", "stage", "retdefs"))
        self.retdefs.mkdir(parents=True, exist_ok=True)
        self.configure(
            paths={"work": str(self.work), "stage": str(self.stage), "retdef": [str(self.retdefs)]}
        )

    def clone(self, home: Path) -> "Site":
        """Copy everything, times included, to `home`; what the config says of the old home it says of the new."""
        shutil.copytree(self.home, home, dirs_exist_ok=True)
        config = yaml.safe_load(yaml.safe_dump(self.config).replace(str(self.home), str(home)))
        return Site(home, config)

    @property
    def python(self) -> Path:
        """The Python that runs the project's programs."""
        return Path(sys.executable)

    @property
    def configfile(self) -> Path:
        """The file that is given as ``--configfile``."""
        return self.home / "config.yaml"

    def configure(self, **sections: Any) -> None:
        """Set keys of config sections, over those that are set already."""
        for name, section in sections.items():
            if isinstance(section, Mapping):
                self.config.setdefault(name, {}).update(section)
            else:
                self.config[name] = section
        self.configfile.write_text(yaml.safe_dump(self.config))

    def replay(self, source: Path) -> None:
        """Use the products below `source`/<downlink> instead of a decoder's, and no magic-7."""
        command = f"{sys.executable} {REPLAY} --source {source}"
        self.configure(decoder={"command": command}, magic7={"command": None})

    def add_retdefs(self, source: Path, *downlinks: str) -> None:
        """Copy RetDefs from `source`/<downlink> to the search path, old enough to be complete."""
        for downlink in downlinks:
            (self.retdefs / downlink).mkdir(exist_ok=True)
            for path in source.glob(f"{downlink}/RetDef-*.xml"):
                copied = shutil.copy(path, self.retdefs / downlink / path.name)
                os.utime(copied, (LONG_AGO, LONG_AGO))

    def command(self, *arguments: str) -> list[str]:
        """Return the command that an operator types."""
        return [str(SNAKEMAKE), "-c2", *arguments, "--configfile", str(self.configfile)]

    def snakemake(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run Snakemake in the project's root."""
        return run(self.command(*arguments), env)

    def process(self, *downlinks: str, again: bool = False) -> Ended:
        """Process downlinks, which must end well."""
        targets = [f"dl={downlink}" for downlink in downlinks]
        return self.snakemake(*targets, *(["-F"] if again else [])).good()

    def by_hand(self, downlink: str, *, missing: bool = False, hand_off: bool = True) -> None:
        """Process a downlink without Snakemake: the program of each job in this process, all in one order.

        With `missing`, only what is outstanding: what a receipt asks for that is not there, and what follows
        from it. Without `hand_off`, no receipt is made.
        """
        if missing and (self.work / f"dl={downlink}").exists():
            return
        settings = load(ROOT, [self.configfile])
        plan = Plan(settings.work, settings.retdef, settings.ignored).of(downlink)
        program = ["--command", settings.decoder_command]
        policy = ["--policy", json.dumps(asdict(settings.policy))]
        moot = ["--moot", str(settings.moot)] if settings.moot else []
        moot += ["--ledger", str(settings.ledger_url)] if settings.moot_mapping else []
        made = set()
        for chunk in plan.chunks:
            search = ["--search", *map(str, settings.retdef)]
            if missing and (self.work / paths.chunk(downlink, chunk)).exists():
                continue
            made.add(chunk)
            if not missing or not (self.work / paths.retdef(downlink, chunk)).exists():
                self._job("stage_retdef", downlink, "--chunk", chunk, *search)
            self._job("decode_chunk", downlink, "--chunk", chunk, *program)
        for run_id in plan.runs:
            vouched = [self.work / path(run_id, downlink) for path in (paths.index, paths.manifest)]
            if missing and made.isdisjoint(plan.chunks_with(run_id)) and all(p.exists() for p in vouched):
                continue
            stage = ["--stage", str(self.stage), "--run", run_id]
            chunks = ["--chunks", *plan.chunks_with(run_id), "--runs", *plan.runs]
            self._job("deliver_run", downlink, *stage, *chunks, *policy, *moot, *program)
        if hand_off:
            self.by_hand_receipt(downlink)

    def by_hand_receipt(self, downlink: str) -> None:
        """Make the receipt of a downlink without Snakemake."""
        settings = load(ROOT, [self.configfile])
        plan = Plan(settings.work, settings.retdef, settings.ignored).of(downlink)
        ids = ["--chunks", *plan.chunks, "--runs", *plan.runs, "--config", json.dumps(settings.that_matter)]
        magic7 = ["--command", settings.magic7_command] if settings.magic7_command else []
        self._job("receipt", downlink, "--stage", str(self.stage), *ids, *magic7)

    def _job(self, name: str, downlink: str, *arguments: str) -> None:
        """Run one of the programs in scripts/ in this process; it must end well."""
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        log = str(self.work / "logs" / f"{name}.log")
        where = ["--work", str(self.work), "--downlink", downlink, "--log", log]
        assert module.main([*where, *arguments]) == 0

    def outstanding(self, *downlinks: str) -> frozenset[Job]:
        """Return the jobs that a dry run lists."""
        return self.snakemake("-n", *(f"dl={downlink}" for downlink in downlinks)).good().jobs

    def script(self, name: str, *arguments: str) -> Ended:
        """Run one of the operator's programs with the site's config."""
        program = str(ROOT / "scripts" / f"{name}.py")
        return run([sys.executable, program, *arguments, "--configfile", str(self.configfile)])

    def receipt(self, downlink: str) -> dict[str, Any]:
        """Read a receipt."""
        content: dict[str, Any] = json.loads((self.work / f"dl={downlink}").read_text())
        return content

    def staged(self, downlink: str) -> dict[str, bytes]:
        """Return the staged event files of a downlink by their path below its stage directory."""
        home = self.stage / downlink
        return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.glob("*/*"))}

    def text(self, name: str, downlink: str) -> list[str]:
        """Return the lines of a text of a downlink, sorted."""
        return sorted((self.stage / downlink / f"{name}_{downlink}.txt").read_text().splitlines())

    def tree(self) -> dict[str, bytes]:
        """Return every file that outlives a command, but for logs and what Snakemake keeps for itself.

        And but for the ledger: which bytes an SQLite file has follows from the order of what was written.
        """
        kept = {}
        for top in (self.work, self.stage):
            for path in sorted(top.rglob("*")):
                name = str(path.relative_to(self.home))
                left_out = ("work/logs/", "work/.snakemake/", "work/ledger.sqlite")
                if path.is_file() and not name.startswith(left_out):
                    kept[name] = path.read_bytes()
        return kept


def run(command: list[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Ended:
    """Run a command in the project's root, or elsewhere; its two outputs come together."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return Ended(done.returncode, done.stdout)
