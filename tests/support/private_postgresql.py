"""A private PostgreSQL for tests, reachable only by a socket in a temporary directory.

For root it runs as the user ``postgres`` of Debian's package, because PostgreSQL refuses to run as root. Its only role
has a password, so that the handling of passwords is tested, too. If tests are killed, the next tests remove the
directory, and the server ends within a minute.
"""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support import servers

USER = "ledger"
PASSWORD = "open sesame: @/?"
ACCOUNT = "postgres"


class PrivatePostgresql:
    def __init__(self, home: Path) -> None:
        self.home = home
        self._own = home / "server"
        self._passfile = home / "pgpass"
        self._passfile.touch(mode=0o600)
        self._passfile.write_text("*:*:*:*:" + PASSWORD.replace(":", r"\:") + "\n")
        self._own.mkdir()
        given = self._own / "given"
        given.write_text(PASSWORD + "\n")
        if servers.user(ACCOUNT):
            for path in (self._own, given):
                shutil.chown(path, ACCOUNT, ACCOUNT)
        self._control("initdb", f"-U {USER} -A scram-sha-256 --pwfile={given} --no-sync -E UTF8 --locale=C")

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``, which names the file with the password."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of a database, which names the file with the password."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self._own}&passfile={self._passfile}"

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """Connect to the database ``postgres``."""
        return psycopg.connect(
            host=str(self._own), user=USER, password=PASSWORD, dbname="postgres", autocommit=True
        )

    def make_database(self, name: str) -> str:
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and end its connections."""
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        # The machine does not crash in these tests, so nothing needs to be flushed.
        options = ["-h", "", "-k", str(self._own), "-c", "fsync=off", "-c", "full_page_writes=off"]
        self._control("start", shlex.join(options))

    def stop(self) -> None:
        """Stop the server and end its connections."""
        self._control("stop", "", "-m", "fast")

    def _control(self, command: str, options: str, *words: str) -> None:
        ((control,), _) = servers.NEEDED["postgresql"]
        log = self.home / "server.log"
        with log.open("ab") as out:
            done = subprocess.run(
                [str(servers.found(control)), command, "-D", str(self._own / "data"), "-o", options, *words],
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a Ctrl-C reaches the tests first, and they stop the server
                check=False,
                **servers.user(ACCOUNT),
            )
        assert done.returncode == 0, log.read_text()


@contextmanager
def private_postgresql() -> Iterator[PrivatePostgresql]:
    """Start a private PostgreSQL; stop it and remove its directory at the end."""
    servers.needed("postgresql")
    with servers.directory("halfpipe-postgresql-") as home:
        server = PrivatePostgresql(home)
        server.start()
        try:
            yield server
        finally:
            server.stop()
