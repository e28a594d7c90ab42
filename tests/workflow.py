"""The workflow as an operator runs it: Snakemake in a process of its own, on a site made for one test."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
REPLAY = ROOT / "tests" / "replay_decoder.py"


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
        """Copy RetDefs from `source`/<downlink> to the search path."""
        for downlink in downlinks:
            (self.retdefs / downlink).mkdir(exist_ok=True)
            for path in source.glob(f"{downlink}/RetDef-*.xml"):
                shutil.copy2(path, self.retdefs / downlink / path.name)

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
        """Return every file that outlives a command, but for logs and what Snakemake keeps for itself."""
        kept = {}
        for top in (self.work, self.stage):
            for path in sorted(top.rglob("*")):
                name = str(path.relative_to(self.home))
                if path.is_file() and not name.startswith(("work/logs/", "work/.snakemake/")):
                    kept[name] = path.read_bytes()
        return kept


def run(command: list[str], env: Mapping[str, str] | None = None) -> Ended:
    """Run a command in the project's root; its two outputs come together."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return Ended(done.returncode, done.stdout)
