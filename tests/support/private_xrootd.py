"""A private XRootD server for tests: it serves a directory, read-only, on a port of the loopback.

For root it runs as the user ``xrootd`` of Debian's package, because XRootD refuses to run as root.
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import servers

ACCOUNT = "xrootd"
STOP_SECONDS = 30


class PrivateXrootd:
    """The server of `home`/data/level0. All users must be able to read `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._server: subprocess.Popen[bytes] | None = None
        (home / "admin").mkdir()
        (home / "data" / "level0").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """The root of the archive that it serves."""
        return f"root://127.0.0.1:{self.port}//level0"

    def start(self, checksum: str = "") -> None:
        """Start the server, and wait until it answers; `checksum`: a checksum program that replaces its own."""
        config = self.home / "xrootd.cfg"
        config.write_text(
            f"all.export /level0 r/o\noss.localroot {self.home}/data\nall.adminpath {self.home}/admin\n"
            f"all.pidpath {self.home}/admin\nxrd.port {self.port}\nxrd.network nodnr\n"
            f"xrootd.chksum max 2 adler32 {checksum}\n"
        )
        if account := servers.user(ACCOUNT):
            shutil.chown(self.home / "admin", ACCOUNT, ACCOUNT)
        with (self.home / "server.log").open("ab") as out:
            self._server = subprocess.Popen(
                ["xrootd", "-c", str(config)], cwd=self.home / "admin", stdout=out, stderr=out, **account
            )
        servers.wait_for("XRootD", self._answers)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.home / "server.log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def pause(self) -> None:
        """Suspend the server; the kernel still accepts connections."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait(STOP_SECONDS)
            self._server = None


@contextmanager
def private_xrootd(home: Path) -> Iterator[PrivateXrootd]:
    """Make a private server without starting it; stop it at the end."""
    servers.needed("xrootd")
    server = PrivateXrootd(home)
    try:
        yield server
    finally:
        server.stop()
