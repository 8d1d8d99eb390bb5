"""A TCP relay between a client and a server that can be slow, cut connections or fall silent.

    with TcpRelay(server) as relay:
        relay.delay = 0.05                 # seconds, each way
        relay.cut_after("to_server", 100)  # then the connection is reset
        store_config(path, {"one": (relay.params("test"), "1-9")})

It runs an event loop in a thread of its own. Settings apply to bytes that arrive from then on.
"""

import asyncio
import collections
import contextlib
import fcntl
import socket
import struct
import termios
import threading

TO_SERVER = "to_server"
TO_CLIENT = "to_client"


def _reset(transport):
    """Close a connection as a crashed machine's peer sees it: with a reset."""
    end = transport.get_extra_info("socket")
    if not transport.is_closing() and end is not None:
        # Lingering for no time makes close() send a reset.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _flushed(transport):
    """Has the other side's kernel accepted everything that was written?"""
    if transport.is_closing():
        return True
    unsent = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return transport.get_write_buffer_size() == 0 and unsent == b"\0" * 4


class _End(asyncio.Protocol):
    """One end of a relayed connection. Bytes that arrive here are sent at `peer`."""

    def __init__(self, relay, direction):
        self.relay = relay
        self.direction = direction  # of the bytes that arrive here
        self.transport = None
        self.peer = None
        self.queue = collections.deque()  # (due, bytes); no bytes: the sender has ended
        self.sent = 0  # bytes delivered to the peer
        self.ended = False  # the end was delivered to the peer
        self.timer = None

    def connection_made(self, transport):
        self.transport = transport
        if self.direction == TO_SERVER:
            self.relay._accepted(self)

    def data_received(self, data):
        self.relay.bytes[self.direction] += len(data)
        self._enqueue(data)

    def eof_received(self):
        self._enqueue(b"")
        return True  # the other direction stays open

    def connection_lost(self, exc):
        self.relay._ends.discard(self)
        if exc is not None and self.peer is not None:
            _reset(self.peer.transport)

    def _enqueue(self, data):
        now = self.relay._loop.time()
        self.queue.append((now + self.relay.delays[self.direction], data))
        self.pump()

    def pump(self):
        """Deliver what is due."""
        loop = self.relay._loop
        if self.peer is None or self.relay._stalled:
            return
        while self.queue and self.queue[0][0] <= loop.time() and not self.relay._stalled:
            _, data = self.queue.popleft()
            if data:
                self._deliver(data)
            else:
                self._deliver_end()
        if self.queue and self.timer is None:
            self.timer = loop.call_at(self.queue[0][0], self._timed)

    def _timed(self):
        self.timer = None
        self.pump()

    def _deliver(self, data):
        """Pass bytes on, but not past a limit: then cut or stall."""
        act = None
        limit = self.relay._limits[self.direction]
        if limit is not None and self.sent + len(data) >= limit:
            data, act = data[: max(0, limit - self.sent)], self._cut
            self.relay._limits[self.direction] = None
        rest, left = b"", self.relay._left[self.direction]
        if left is not None:
            count, how = left
            self.relay._left[self.direction] = (count - len(data), how)
            if len(data) >= count:
                data, rest = data[:count], data[count:]
                act = {"cut": self._cut, "end all": self._end_all, "stall": self._stall}[how]
                self.relay._left[self.direction] = None
        self.sent += len(data)
        if data and not self.peer.transport.is_closing():
            self.peer.transport.write(data)
        if act is not None:
            act(rest)

    def _cut(self, _):
        self.queue.clear()
        self.transport.pause_reading()
        self._reset_when_flushed()

    def _end_all(self, _):
        for end in list(self.relay._ends):
            end.queue.clear()
            end.transport.close()

    def _stall(self, rest):
        if rest:
            self.queue.appendleft((0, rest))
        self.relay._set_stalled(True)

    def _deliver_end(self):
        self.ended = True
        if not self.peer.transport.is_closing():
            with contextlib.suppress(OSError):  # the peer has reset the connection meanwhile
                self.peer.transport.write_eof()
        if self.peer.ended:
            self.transport.close()
            self.peer.transport.close()

    def _reset_when_flushed(self):
        if _flushed(self.peer.transport):
            _reset(self.transport)
            _reset(self.peer.transport)
        else:
            self.relay._loop.call_later(0.001, self._reset_when_flushed)


class TcpRelay:
    """Relays from a free port of 127.0.0.1 to `server`: a PostgresServer with tcp, or (host, port).

    delays       {"to_server": seconds, "to_client": seconds}; setting `delay` sets both
    connections  how many were accepted so far
    bytes        {"to_server": n, "to_client": n}: how many arrived so far
    """

    def __init__(self, server):
        self._server = server
        self._target = server if isinstance(server, tuple) else ("127.0.0.1", server.port)
        self.delays = {TO_SERVER: 0.0, TO_CLIENT: 0.0}
        self.bytes = {TO_SERVER: 0, TO_CLIENT: 0}
        self.connections = 0
        self._limits = {TO_SERVER: None, TO_CLIENT: None}
        self._left = {TO_SERVER: None, TO_CLIENT: None}  # (bytes, what then)
        self._stalled = False
        self._refusing = False
        self._ends = set()
        self._tasks = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._listener = self._await(self._listen())
        self.host, self.port = self._listener.sockets[0].getsockname()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def params(self, dbname="postgres", **more):
        """libpq's parameters for a connection to the server through the relay."""
        here = {"host": self.host, "port": str(self.port)}
        return {**self._server.params(dbname), **here, **more}

    # ---- misbehave ----

    def _set_delay(self, seconds):
        self.delays = {TO_SERVER: seconds, TO_CLIENT: seconds}

    delay = property(lambda self: max(self.delays.values()), _set_delay)

    def cut_after(self, direction, count):
        """Reset the next connection that has carried `count` bytes in this direction since it was
        opened, after delivering exactly that many, or those it has carried already. Happens once; a
        count of None cancels it."""
        self._call(self._limits.__setitem__, direction, count)

    def cut_in(self, direction, count):
        """Reset the connection that carries the `count`th byte from now on in this direction, after
        delivering it. Happens once; a count of None cancels it."""
        self._call(self._left.__setitem__, direction, count and (count, "cut"))

    def end_all_in(self, direction, count):
        """The same, but every connection is closed then, as when a server is shut down."""
        self._call(self._left.__setitem__, direction, (count, "end all"))

    def stall_in(self, direction, count):
        """The same, but stall() then: nothing more is delivered on any connection."""
        self._call(self._left.__setitem__, direction, (count, "stall"))

    @property
    def waits_to_act(self):
        """Has a cut_after(), cut_in() or stall_in() not happened yet?"""
        return any([*self._limits.values(), *self._left.values()])

    @property
    def ports(self):
        """The local ports of the connections to the server."""
        return self._call(
            lambda: {
                end.transport.get_extra_info("sockname")[1]
                for end in self._ends
                if end.direction == TO_CLIENT and not end.transport.is_closing()
            }
        )

    def cut(self):
        """Reset every connection now. Returns how many there were."""
        return self._call(self._cut)

    def stall(self):
        """Deliver nothing from now on, in either direction; connections are still accepted."""
        self._call(self._set_stalled, True)

    def resume(self):
        """Deliver what was held since stall(), and everything that follows."""
        self._call(self._set_stalled, False)

    def refuse(self, yes=True):
        """Reset new connections as soon as they are accepted; refuse(False) ends that."""
        self._refusing = yes

    @property
    def open(self):
        """The number of connections open now."""
        return self._call(lambda: sum(end.direction == TO_SERVER for end in self._ends))

    def close(self):
        """Reset open connections and end the relay. Its port then refuses connections."""
        if self._loop.is_closed():
            return
        self._call(self._listener.close)
        self._call(self._cut)
        self._call(lambda: [task.cancel() for task in self._tasks])
        self._loop.call_soon_threadsafe(lambda: self._loop.call_soon(self._loop.stop))
        self._thread.join()
        self._loop.close()

    # ---- in the loop's thread ----

    def _await(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _call(self, function, *args):
        async def call():
            return function(*args)

        return self._await(call())

    async def _listen(self):
        return await self._loop.create_server(lambda: _End(self, TO_SERVER), "127.0.0.1", 0)

    def _accepted(self, client):
        self.connections += 1
        if self._refusing:
            _reset(client.transport)
            return
        self._ends.add(client)
        task = self._loop.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client):
        try:
            _, server = await self._loop.create_connection(
                lambda: _End(self, TO_CLIENT), *self._target
            )
        except OSError:
            _reset(client.transport)
            return
        if client not in self._ends:  # it was closed meanwhile
            _reset(server.transport)
            return
        self._ends.add(server)
        server.peer, client.peer = client, server
        for end in (client, server):
            end.pump()

    def _cut(self):
        ends = list(self._ends)
        self._ends.clear()
        for end in ends:
            end.queue.clear()
            _reset(end.transport)
        return sum(end.direction == TO_SERVER for end in ends)

    def _set_stalled(self, stalled):
        self._stalled = stalled
        for end in list(self._ends):
            end.pump()
