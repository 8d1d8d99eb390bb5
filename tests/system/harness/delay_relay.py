"""A TCP relay that does nothing but delay, by a fixed time each way, and is quick: for benchmarks.

    with DelayRelay(server, 0.0005) as relay:
        store_config(path, {"one": (relay.params("test"), "1-9")})
"""

import contextlib

from .command import spawn


class DelayRelay:
    """Relays from a free port of 127.0.0.1 to `server`, a PostgresServer with tcp, `delay` seconds
    later in each direction. It is a process of its own (delay_relay.c)."""

    def __init__(self, server, delay):
        self._server = server
        self._process = spawn("delay_relay", round(delay * 1e6), "127.0.0.1", server.port)
        self.host, self.port = "127.0.0.1", int(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def params(self, dbname="postgres", **more):
        """libpq's parameters for a connection to the server through the relay."""
        here = {"host": self.host, "port": str(self.port)}
        return {**self._server.params(dbname), **here, **more}

    def close(self):
        """End the relay, which closes all connections through it."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()
