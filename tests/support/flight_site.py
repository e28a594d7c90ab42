"""Stand-ins for the flight programs in a stand-in container, and an archive of simulated products."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.in_process import ROOT
from tests.support.servers import command_lines

STANDIN = ROOT / "tests" / "support" / "standin"
IMAGE = "halfpipe stand-in image: SIMULATED, no flight software inside\n/usr\n/bin\n/lib\n/lib64\n"
ARCH = "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0"  # as the golden RetDefs name it
SOFTWARE = "/afs/slac/g/glast/isoc"
TABLES = "/sdf/group/fermi/ground/fmx"


@dataclass
class FlightSite:
    """Settings of the flight programs and their files, in a directory."""

    home: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arch, self.tables, self.scratch, self.out = (
            self.home / name for name in ("level0", "fmx", "scratch", "out")
        )
        for path in (self.arch / "standin", self.tables, self.scratch, self.out):
            path.mkdir(parents=True, exist_ok=True)
        self.image = self.home / "image"
        self.image.write_text("".join(f"{line}\n" for line in IMAGE.splitlines() if _there(line)))
        self.misbehave()
        self.configure(
            runtime=str(STANDIN / "apptainer"),
            image=str(self.image),
            binds=[f"{STANDIN}:{SOFTWARE}", f"{self.arch}:{ARCH}", f"{self.tables}:{TABLES}"],
            environment={"FMX_C_FDB": TABLES, "fmxRoot": TABLES, "LD_LIBRARY_PATH": f"{SOFTWARE}/lib"},
            scratch=["STANDIN_SCRATCH", str(self.scratch)],
            decoder={"program": [f"{SOFTWARE}/getLSEChunk.exe"], "seconds": 60},
            magic7={"program": ["python3", f"{SOFTWARE}/DiagRet.py"], "seconds": 60},
        )

    @property
    def marker(self) -> str:
        """A word in the command lines of processes that stand-ins of this site leave behind."""
        return f"left-by-{self.home}"

    @property
    def file(self) -> Path:
        return self.home / "flight.yaml"

    def configure(self, **sections: Any) -> None:
        """Set keys of the settings."""
        for name, value in sections.items():
            if isinstance(value, dict) and isinstance(self.settings.get(name), dict):
                self.settings[name] |= value
            else:
                self.settings[name] = value
        self.file.write_text(yaml.safe_dump(self.settings))

    def without_container(self) -> None:
        """Run the stand-ins directly, without a container."""
        self.configure(
            runtime="none",
            environment={"FMX_C_FDB": str(self.tables)},
            decoder={"program": [str(STANDIN / "getLSEChunk.exe")]},
            magic7={"program": [str(STANDIN / "DiagRet.py")]},
        )

    def misbehave(self, **modes: str) -> None:
        """Set the faults of chunks (``c240601001_00001``) and of ``magic7``."""
        named = {name.removeprefix("c").replace("_", "-"): mode for name, mode in modes.items()}
        (self.arch / "standin" / "modes.json").write_text(json.dumps(named | {"marker": self.marker}))

    def add(self, source: Path) -> None:
        """Add the simulated products in `source`/<downlink> to the archive."""
        shutil.copytree(source, self.arch / "standin", dirs_exist_ok=True)

    def command(self, name: str, *arguments: str) -> list[str]:
        script = str(ROOT / "scripts" / f"{name}.py")
        return [sys.executable, script, "--settings", str(self.file), *arguments]

    def decode(
        self, retdef: Path, *arguments: str, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the decoder's wrapper."""
        return self.run("flight_decoder", "-r", str(retdef), "-o", str(self.out), *arguments, env=env)

    def run(
        self, name: str, *arguments: str, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        words = self.command(name, *arguments)
        environment = {**os.environ, **(env or {})}
        return subprocess.run(words, capture_output=True, encoding="utf-8", env=environment, check=False)

    def products(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}

    def hanging(self) -> list[int]:
        """Return the running processes that a stand-in started."""
        return list(command_lines(self.marker))

    def left(self) -> list[str]:
        """The files on the scratch disk."""
        return sorted(path.name for path in self.scratch.iterdir())


def _there(line: str) -> bool:
    return not line.startswith("/") or Path(line).exists()


def needs_container() -> None:
    """Skip the test if bubblewrap is missing or is not allowed to make a container."""
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
    tried = subprocess.run([program, "--ro-bind", "/", "/", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"bubblewrap may not make a container here: {tried.stderr.decode().strip()}")
