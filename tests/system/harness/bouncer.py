"""PgBouncer in front of a server, as a user may have it."""

import os
import shutil
import subprocess

import psycopg2

from . import scratch
from .server import SUPERUSER, environment, identity, own
from .wait import eventually


class PgBouncer:
    """A PgBouncer in front of `server`, reached by its socket. A context manager.

    `pool_mode` is "session", "transaction" or "statement", `pool_size` the number of connections to
    the server for each database; more `settings` go into its configuration.
    """

    def __init__(self, server, pool_mode="transaction", pool_size=2, settings=None):
        self._server = server
        self.place = scratch.folder("bouncer-")
        os.chmod(self.place, 0o700)
        own(self.place)
        self.log_path = os.path.join(self.place, "log")
        settings = {
            "listen_addr": "",
            "listen_port": "6432",  # only names the socket
            "unix_socket_dir": self.place,
            "auth_type": "trust",
            "auth_file": os.path.join(self.place, "users"),
            "pool_mode": pool_mode,
            "default_pool_size": pool_size,
            **(settings or {}),
        }
        self._write("users", [f'"{SUPERUSER}" ""'])
        self._write(
            "pgbouncer.ini",
            ["[databases]", f"* = host={server.socket_dir} port={server.port}", "[pgbouncer]"]
            + [f"{name} = {value}" for name, value in settings.items()],
        )
        self.process = None

    def _write(self, name, lines):
        path = os.path.join(self.place, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        own(path)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--"]
                + [program, os.path.join(self.place, "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                start_new_session=True,
                **identity(),
            )
        eventually(self._ready, what="PgBouncer takes connections")

    def stop(self, how="kill"):
        """End it: "kill" (its connections just vanish) or "terminate" (it closes them)."""
        getattr(self.process, how)()
        self.process.wait()

    def restart(self, how="kill"):
        self.stop(how)
        self.start()

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"PgBouncer did not start:\n{self.log_text()}")
        try:
            psycopg2.connect(**self.params()).close()
        except psycopg2.OperationalError:
            return False
        return True

    def params(self, dbname="postgres", **more):
        """libpq's parameters for a connection to the server through it."""
        here = {"host": self.place, "port": "6432", "user": SUPERUSER, "dbname": dbname}
        return {**here, **more}

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()
