"""Private PostgreSQL servers, started and ended by the tests.

Invariants: only the tests' user (and root) can reach a server's data and socket; a server ends with
the process that started it; and its time zone and client encoding are not those that the library
needs, so that a session that fails to set them is noticed.
"""

import atexit
import contextlib
import glob
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import threading

import psycopg2

from . import scratch
from .wait import eventually

SUPERUSER = "postgres"
HARNESS = "test harness"  # our application_name

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # only names the socket, unless TCP is asked for
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder: nothing is left after a kill
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "64MB",  # the data may be in memory
    "jit": "off",
    "timezone": "Asia/Kathmandu",
    "log_timezone": "UTC",
    "client_encoding": "LATIN1",
    "log_line_prefix": "%m [%p] %d ",
    "max_prepared_transactions": "5",
}

_numbers = itertools.count(1)
_running = set()  # servers with a running postmaster, to be ended with the session
_template_lock = threading.Lock()


def binaries():
    """The folder of initdb and postgres. $HV_PG_BINDIR chooses one of several."""
    candidates = [os.environ.get("HV_PG_BINDIR")]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        candidates.append(done.stdout.strip())  # on Debian it may be one without a server

    def version(path):
        return [int(number) for number in re.findall(r"\d+", path)]

    places = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")
    candidates += sorted(places, key=version, reverse=True)
    candidates += os.get_exec_path()
    for folder in candidates:
        if folder and os.access(os.path.join(folder, "postgres"), os.X_OK):
            return folder
    raise RuntimeError("no PostgreSQL server found: install postgresql, or set HV_PG_BINDIR")


def identity():
    """The arguments with which subprocess runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def environment():
    """The environment without what a user's settings, or a sanitizer that we run under, would
    change."""
    not_ours = ("PG", "LD_PRELOAD")
    env = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
    env.update(LC_ALL="C.UTF-8", TZ="UTC", HOME="/")
    return env


def own(path):
    """Give a folder to the user that the servers run as."""
    who = identity()
    if who:
        os.chown(path, who["user"], who["group"])


def _run(*command):
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env=environment(),
        **identity(),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")


def _template(wal_segment_mb):
    """A data folder fresh from initdb, made once in a session and copied for each server."""
    with _template_lock:
        place = os.path.join(scratch.root(), f"template{wal_segment_mb}")
        data = os.path.join(place, "data")
        if not os.path.isdir(place):
            os.mkdir(place, 0o700)
            own(place)
            _run(
                os.path.join(binaries(), "initdb"),
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                "--auth-local=trust",  # access to the socket's folder is restricted
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                f"--wal-segsize={wal_segment_mb}",
                "--no-sync",
                "--no-instructions",
            )
        return data


def _children(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    return []


def _state(pid):
    """A letter, as ps shows it; X if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _gone(pid):
    """No such process, or only its entry in the process table is left."""
    return _state(pid) in "ZX"


def _stop(pids):
    """Send SIGSTOP, and wait until all of them that have not ended have stopped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(_state(pid) in "TZX" for pid in pids), what="processes have stopped")


class PostgresServer:
    """One private server.

    `settings` go into postgresql.conf. With `tcp` it also listens on 127.0.0.1 and asks for a
    password there. With `fsync` its writes really wait for the disk. `standby_of` is a running
    server that it copies and follows. `bindir` is the folder of another `postgres` than the
    machine's (see installation.py), and `env` is added to its environment. `wal_segment_mb` is the
    size of its log's files. Use it as a context manager, or call start() and destroy(). Start it in
    a thread that lives as long as the server must: the server ends with that thread.
    """

    def __init__(
        self,
        name=None,
        *,
        tcp=False,
        fsync=False,
        settings=None,
        standby_of=None,
        bindir=None,
        env=None,
        wal_segment_mb=1,  # a small folder is copied quickly
    ):
        number = next(_numbers)
        self.name = name or f"server{number}"
        self.place = scratch.folder(f"{number}-")
        self.data = os.path.join(self.place, "data")
        self.socket_dir = os.path.join(self.place, "s")
        self.log_path = os.path.join(self.place, "log")
        self.port = scratch.free_port() if tcp else 5432
        self.tcp = tcp
        self.password = secrets.token_hex(8) if tcp else None
        self.process = None
        self._shared_memory = None  # id of the System V segment, to remove what a kill leaves
        self._bindir = bindir or binaries()
        self._env = env or {}

        own(self.place)
        if standby_of is None:
            _run("cp", "-a", _template(wal_segment_mb), self.data)
        else:
            settings = {**self._follow(standby_of), **(settings or {})}
        os.mkdir(self.socket_dir, 0o700)
        own(self.socket_dir)
        with open(self.log_path, "wb"):
            pass
        self._settings = dict(_SETTINGS, unix_socket_directories=self.socket_dir)
        if tcp:
            self._settings.update(listen_addresses="127.0.0.1", port=str(self.port))
        if fsync:
            self._settings.update(fsync="on", full_page_writes="on")
        self._settings.update(settings or {})
        self._write_settings()

    def __repr__(self):
        return f"<PostgresServer {self.name} in {self.place}>"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.destroy()

    def _follow(self, primary):
        """Copy the primary's data; returns the settings of a standby."""
        place = primary.socket_params()
        _run(
            os.path.join(binaries(), "pg_basebackup"),
            f"--pgdata={self.data}",
            f"--host={place['host']}",
            f"--port={place['port']}",
            f"--username={SUPERUSER}",
            "--checkpoint=fast",
            "--no-sync",
        )
        signal_file = os.path.join(self.data, "standby.signal")
        with open(signal_file, "w", encoding="utf-8"):
            pass
        own(signal_file)
        conninfo = f"host={place['host']} port={place['port']} user={SUPERUSER}"
        return {"primary_conninfo": f"{conninfo} application_name={self.name}"}

    def _write_settings(self):
        with open(os.path.join(self.data, "postgresql.auto.conf"), "w", encoding="utf-8") as file:
            for name, value in self._settings.items():
                quoted = str(value).replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    # ---- start and stop ----

    @property
    def pid(self):
        """The postmaster's process id."""
        return self.process.pid

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self, wait=True):
        """Start the server and wait until it takes connections."""
        assert not self.running, f"{self.name} is running already"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                # setpriv makes the server end with us, however we end.
                ["setpriv", "--pdeathsig", "QUIT", "--"]
                + [os.path.join(self._bindir, "postgres"), "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**environment(), **self._env},
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
                **identity(),
            )
        _running.add(self)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=120):
        """Wait until the server takes connections, after start() or a crash of a backend."""

        def ready():
            if not self.running:
                raise RuntimeError(f"{self.name} did not start:\n{self.log_text()[-4000:]}")
            try:
                self._connect("postgres", application_name=HARNESS).close()
            except psycopg2.OperationalError:
                return False
            return True

        eventually(ready, timeout, f"{self.name} takes connections")
        self._shared_memory = self._shared_memory_id()
        if self.tcp:
            self.sql(f"ALTER ROLE {SUPERUSER} PASSWORD %s", self.password)

    def stop(self, mode="fast", timeout=120):
        """Stop it as pg_ctl does: "smart", "fast" or "immediate"."""
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(timeout)
        _running.discard(self)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def encrypt(self):
        """Offer TLS from now on, with a certificate of its own."""
        key, certificate = (os.path.join(self.data, name) for name in ("server.key", "server.crt"))
        subprocess.run(
            ["openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"]
            + ["-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        owner = os.stat(self.data)
        for path in (key, certificate):
            os.chown(path, owner.st_uid, owner.st_gid)
            os.chmod(path, 0o600)
        self.sql("ALTER SYSTEM SET ssl = on")
        self.restart()

    def processes(self):
        """The process ids of the server: the postmaster, then its children."""
        return [self.pid] + _children(self.pid)

    def kill9(self):
        """Send SIGKILL to every process of the server at once, as when the machine's memory runs
        out. Clients see their connections reset. start() then recovers from the log.
        """
        assert self.running, f"{self.name} is not running"
        _stop([self.pid])  # so that no child starts meanwhile
        children = _children(self.pid)
        for pid in [self.pid] + children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        eventually(lambda: all(map(_gone, children)), what=f"{self.name}'s processes are gone")
        # What libfaketime, if it was loaded, would have removed when its process ended.
        for name in (f"faketime_shm_{self.pid}", f"sem.faketime_sem_{self.pid}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join("/dev/shm", name))
        _running.discard(self)

    def freeze(self):
        """Stop every process of the server where it is: the server accepts and answers nothing."""
        _stop([self.pid])  # so that no child starts or ends meanwhile
        _stop(_children(self.pid))

    def thaw(self):
        """The opposite of freeze()."""
        for pid in reversed(self.processes()):
            os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self):
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def destroy(self):
        """End the server, whatever its state, and remove everything it has written."""
        if self.running:
            # Quickly and certainly: the data is not needed.
            self.kill9()
        _running.discard(self)
        self._remove_shared_memory()
        shutil.rmtree(self.place, ignore_errors=True)

    def _shared_memory_id(self):
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
                return int(file.read().splitlines()[6].split()[1])
        return None

    def _remove_shared_memory(self):
        """Remove the segment that a killed postmaster left; the next start would do the same."""
        if self._shared_memory is not None:
            subprocess.run(
                ["ipcrm", "-m", str(self._shared_memory)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                **identity(),
            )
            self._shared_memory = None

    # ---- statements and connections ----

    def params(self, dbname="postgres", **more):
        """libpq's parameters for a connection; by TCP with the password if the server has it."""
        if self.tcp:
            place = {"host": "127.0.0.1", "port": str(self.port), "password": self.password}
        else:
            place = self.socket_params()
        return {**place, "user": SUPERUSER, "dbname": dbname, **more}

    def socket_params(self):
        return {"host": self.socket_dir, "port": str(self.port)}

    def _connect(self, dbname, **more):
        params = {
            **self.socket_params(),
            "user": SUPERUSER,
            "dbname": dbname,
            "client_encoding": "UTF8",
            "connect_timeout": 60,
            **more,
        }
        connection = psycopg2.connect(**params)
        connection.autocommit = True
        return connection

    def connect(self, dbname="postgres", **more):
        """A psycopg2 connection through the socket, in autocommit; a `with` closes it."""
        return contextlib.closing(self._connect(dbname, **more))

    @contextlib.contextmanager
    def _cursor(self, dbname):
        """For the harness's own statements, which clients() leaves out."""
        with self.connect(dbname, application_name=HARNESS) as connection:
            with connection.cursor() as cursor:
                yield cursor

    def sql(self, statement, *args, dbname="postgres"):
        """Run a statement (or several, without arguments) and ignore its rows."""
        with self._cursor(dbname) as cursor:
            cursor.execute(statement, args or None)

    def query(self, statement, *args, dbname="postgres"):
        """Run a query and return its rows as tuples."""
        with self._cursor(dbname) as cursor:
            cursor.execute(statement, args or None)
            return cursor.fetchall()

    def value(self, statement, *args, dbname="postgres"):
        """Run a query and return the first column of its first row, or None without a row."""
        rows = self.query(statement, *args, dbname=dbname)
        return rows[0][0] if rows else None

    def create_database(self, name=None, template="template1", more=""):
        """A new database, as a Database. A template must have no connections at the moment. `more`
        are options of CREATE DATABASE."""
        name = name or f"test_{secrets.token_hex(6)}"
        statement = f'CREATE DATABASE "{name}" TEMPLATE "{template}" {more}'
        if self.value("SELECT current_setting('server_version_num')::int >= 150000"):
            statement += " STRATEGY file_copy"  # half the work, where nothing is written to disk
        self.sql(statement)
        return Database(self, name)

    def clients(self, dbname=None):
        """(pid, dbname, application_name, state, query) of each client connection but our own."""
        return self.query(
            "SELECT pid, datname, application_name, state, query FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND application_name <> %s AND (%s::text IS NULL OR datname = %s)"
            " ORDER BY backend_start, pid",
            HARNESS,
            dbname,
            dbname,
        )

    def terminate_clients(self, dbname=None):
        """End client connections as an administrator does. Returns how many."""
        pids = [row[0] for row in self.clients(dbname)]
        ended = self.query(
            "SELECT pid FROM unnest(%s::int[]) AS pid WHERE pg_terminate_backend(pid, 60000)", pids
        )
        return len(ended)

    def log_size(self):
        return os.path.getsize(self.log_path)

    def log_text(self, since=0):
        """The server's log, from the byte `since` on."""
        with open(self.log_path, "rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")


class Database:
    """One database of a server, for a test to use."""

    def __init__(self, server, dbname):
        self.server = server
        self.dbname = dbname

    def __repr__(self):
        return f"<Database {self.dbname} of {self.server.name}>"

    def params(self, **more):
        """libpq's parameters for a connection to this database."""
        return self.server.params(self.dbname, **more)

    def connect(self, **more):
        return self.server.connect(self.dbname, **more)

    def sql(self, statement, *args):
        self.server.sql(statement, *args, dbname=self.dbname)

    def query(self, statement, *args):
        return self.server.query(statement, *args, dbname=self.dbname)

    def value(self, statement, *args):
        return self.server.value(statement, *args, dbname=self.dbname)

    def clients(self):
        return self.server.clients(self.dbname)

    def terminate_clients(self):
        return self.server.terminate_clients(self.dbname)

    def drop(self):
        self.server.sql(f'DROP DATABASE IF EXISTS "{self.dbname}" WITH (FORCE)')


@atexit.register
def _destroy_all():
    for server in list(_running):
        with contextlib.suppress(Exception):
            server.destroy()
