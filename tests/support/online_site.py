"""A site that hands runs of golden cases to Online."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from halfpipe.ids import RunId, RunKind
from halfpipe.notify import online_handoff
from halfpipe.notify.online_handoff import OnlineResult
from halfpipe.settings import Online as OnlineSettings
from halfpipe.settings import Settings
from halfpipe.state.online_record import OnlineRecord, OnlineState
from tests.support.golden_cases import GOLDEN, build, copied
from tests.support.workflow import Site

FIRST = "240601001"
SECOND = "240601002"
RUN = RunId("2c2e5787")
GID = "0077014d"
NAME = f"{GID}-{RUN}.evt"
RUNID_AT = 8  # offset of the run id in the header, bytes (evt-layout)


@dataclass
class Online:
    """A site that hands runs to Online, and the recorded arguments of its command."""

    site: Site

    @property
    def home(self) -> Path:
        return self.site.home / "online"

    @property
    def told(self) -> list[str]:
        """The arguments of each call of the command, one line a call."""
        path = self.site.home / "told.txt"
        return path.read_text().splitlines() if path.exists() else []

    def command(self, then: str = "") -> str:
        """Return a command that records its arguments, prints a line, and then runs `then`."""
        script = f'echo "$@" >> {self.site.home / "told.txt"}; echo heard; {then}'
        return f"sh -c '{script}' sh {{file}} {{run}} {{l1_run}} {{gid}} {{key}} {{alias}}"

    def settings(
        self, command: str | None = None, types: Sequence[RunKind] = (RunKind.LCI,), **merge: Any
    ) -> Settings:
        """Return the settings with the hand-off switched on."""
        settings = self.site.settings
        return replace(
            settings,
            paths=replace(settings.paths, online=self.home),
            online=OnlineSettings(tuple(types), command),
            merge=replace(settings.merge, **merge),
        )

    def go(self, settings: Settings | None = None, *, again: bool = False) -> OnlineResult:
        """Hand off `RUN`."""
        (result,) = online_handoff.hand_off(settings or self.settings(), [RUN], StringIO(), again=again)
        return result

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.home.iterdir()} if self.home.is_dir() else {}

    def state(self) -> OnlineState:
        """Return the state of the run."""
        return OnlineRecord(self.site.work, RUN).state


def on_site(
    site: Site, case: str, *downlinks: str, change: Callable[[Path], None] = lambda _: None
) -> Online:
    """Process downlinks of a golden case; `change` may edit their products first."""
    home = copied(case, site)
    change(home / "in")
    build(home, site, *downlinks)
    return Online(site)


def staged(case: str, downlink: str, step: int = 1) -> list[bytes]:
    """Return the contents of the event files that a golden case expects."""
    home = GOLDEN / case / "expect" / f"{step:02d}-{downlink}" / "stage"
    return [path.read_bytes() for path in sorted(home.glob("r*/*.evt"))]


def without_downlink(content: bytes) -> bytes:
    """Return an event file with 0 as its header's run id."""
    return content[:RUNID_AT] + bytes(4) + content[RUNID_AT + 4 :]


def rewrite(change: Callable[[str], str]) -> Callable[[Path], None]:
    """Return a function that changes the text of all indexes."""

    def everywhere(home: Path) -> None:
        for path in home.rglob("*.idx"):
            path.write_text(change(path.read_text()))

    return everywhere
