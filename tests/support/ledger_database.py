"""An empty database for a ledger, and how a config names it."""

from dataclasses import dataclass, replace
from pathlib import Path

from halfpipe.ledger.database import Ledger
from halfpipe.settings import Ledger as LedgerSettings
from halfpipe.settings import Paths, Settings


@dataclass(frozen=True)
class Database:
    """An empty database: what a program needs to reach it."""

    url: str
    password_file: Path | None

    def ledger(self, waits: tuple[float, ...] = (0.1, 0.2, 0.4)) -> Ledger:
        """Return a ledger in it; a test does not wait as long as a night does."""
        return Ledger.of(self.of(Settings(Paths(Path("work"), Path("stage")))), waits)

    def of(self, settings: Settings) -> Settings:
        """Return the settings with this ledger."""
        return replace(settings, ledger=LedgerSettings(self.url, self.password_file))
