"""A private PostgreSQL, for tests: reached by a socket in a temporary directory, and by nothing else.

PostgreSQL refuses to run as root; there it runs as the user ``postgres`` that Debian's package makes. The
one role wants a password, so that what handles passwords is tried as well.

``python -m tests.support.private_postgresql --install`` installs it.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.support import servers

PACKAGE = "postgresql"
USER, PASSWORD = "ledger", "open sesame: @/?"
ACCOUNT = "postgres"
STOP_SECONDS = 30


def programs() -> Path | None:
    """Return the directory of the newest server's programs, None if there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]), reverse=True
    )
    on_path = shutil.which("initdb")
    return found[0].parent if found else (Path(on_path).resolve().parent if on_path else None)


class PrivatePostgresql:
    """The server and its directory."""

    def __init__(self, home: Path, bin_: Path) -> None:
        self.home, self._bin = home, bin_
        self._account = ACCOUNT if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None
        self.password_file = home / "password"

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``, without the password."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of a database, without the password."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.home / 'socket'}"

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """Connect to the database ``postgres``."""
        return psycopg.connect(
            host=str(self.home / "socket"), user=USER, password=PASSWORD, dbname="postgres", autocommit=True
        )

    def make_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and end what is connected to it."""
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def prepare(self) -> None:
        """Make the server's directory."""
        (self.home / "socket").mkdir()
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(PASSWORD + "\n")
        (self.home / "given").write_text(PASSWORD + "\n")
        if self._account is not None:
            account = pwd.getpwnam(self._account)
            for path in (self.home / "socket", self.home / "given"):
                os.chown(path, account.pw_uid, account.pw_gid)
            (self.home / "data").mkdir()
            os.chown(self.home / "data", account.pw_uid, account.pw_gid)
        options = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={self.home / 'given'}", "--no-sync"]
        command = [
            str(self._bin / "initdb"),
            "-D",
            str(self.home / "data"),
            "-E",
            "UTF8",
            "--locale=C",
            *options,
        ]
        done = self._spawn(command, self.home / "initdb.log").wait()
        assert done == 0, (self.home / "initdb.log").read_text()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        # Harm is done to clients here and never to the machine, so nothing need be flushed.
        options = ["-h", "", "-k", str(self.home / "socket"), "-c", "fsync=off", "-c", "full_page_writes=off"]
        command = [str(self._bin / "postgres"), "-D", str(self.home / "data"), *options]
        self._server = self._spawn(command, self.home / "server.log")
        servers.wait_for("PostgreSQL", self._answers)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.home / "server.log").read_text()
        with suppress(psycopg.OperationalError):
            self.connect().close()
            return True
        return False

    def stop(self) -> None:
        """Stop the server; clients that are connected are cut off."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(STOP_SECONDS)
            self._server = None

    def _spawn(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                user=self._account,
                group=self._account,
                extra_groups=[] if self._account else None,
                start_new_session=True,  # a Ctrl-C reaches the tests first, and they stop the server
                preexec_fn=servers.die_with_parent,  # noqa: PLW1509 - nothing here has threads
            )


@contextmanager
def private_postgresql() -> Iterator[PrivatePostgresql]:
    """Start a private PostgreSQL; whatever happens, it is stopped and its directory removed."""
    bin_ = programs()
    assert bin_ is not None, f"no PostgreSQL here: python -m {__spec__.name} --install"
    with servers.directory("halfpipe-postgresql-") as home:
        server = PrivatePostgresql(home, bin_)
        try:
            server.prepare()
            server.start()
            yield server
        finally:
            server.stop()


def install() -> None:
    """Install Debian's package, where it is missing and this is root."""
    if programs() is None:
        servers.install([PACKAGE], f"no PostgreSQL here: have Debian's {PACKAGE} installed")


if __name__ == "__main__":
    raise SystemExit(servers.only_installs(sys.argv[1:], install, __doc__))
