"""Moves where commits wait for a standby: what it does not have may be lost when it takes over."""

import os
import select
import threading
import time

import psycopg2
import psycopg2.extras
from harness.command import make_shards
from harness.moving import (
    Stepping,
    assert_nothing_left,
    fill,
    has_shard,
    moving_config,
    own_moving_servers,
)
from harness.server import SUPERUSER
from harness.wait import eventually

FIXTURES = (own_moving_servers,)


class Standby:
    """Says that it has received and kept all WAL, until a file is there."""

    def __init__(self, server, until):
        self._until = until
        self._stop = threading.Event()
        self._connection = psycopg2.connect(
            **server.socket_params(),
            user=SUPERUSER,
            application_name="standby",
            connection_factory=psycopg2.extras.PhysicalReplicationConnection,
        )
        self._cursor = self._connection.cursor()
        self._cursor.start_replication(start_lsn=server.value("SELECT pg_current_wal_lsn()"))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)
        self._connection.close()

    def _run(self):
        while not self._stop.is_set():
            select.select([self._connection], [], [], 0.005)
            while self._cursor.read_message() is not None:
                pass
            end = self._cursor.wal_end
            # In this order: what is written after the file is not confirmed.
            if not os.path.exists(self._until):
                self._cursor.send_feedback(write_lsn=end, flush_lsn=end, apply_lsn=end, force=True)


def test_the_switch_waits_for_the_standby(tmp_path, own_moving_servers):
    """If it took over without the switch, both servers would have the shard."""
    one, two = own_moving_servers
    config = moving_config(tmp_path / "moving.conf", one, two)
    make_shards(config, one, two)
    fill(one, 3, 10)
    until = os.path.join(one.server.data, "until")
    with Standby(one.server, until):
        one.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        one.sql("SELECT pg_reload_conf()")
        eventually(
            lambda: one.value("SELECT sync_state FROM pg_stat_replication") == "sync",
            what="the standby counts",
        )
        with Stepping(config, "move", 3, 1, place="ready") as stepping:
            one.sql(
                "CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$BEGIN COPY (SELECT 1) TO '{until}'; RETURN NEW; END$$;"
                "CREATE TRIGGER stop AFTER INSERT OR UPDATE ON hypervault.shard_locations"
                " FOR EACH ROW WHEN (NEW.state = 'gone') EXECUTE FUNCTION public.stop()"
            )
            stepping.go_on()
            eventually(lambda: os.path.exists(until), what="the switch is about to be committed")
            since = time.monotonic()
            while time.monotonic() - since < 2.5:  # callers wait for a second at most
                assert not has_shard(two, 3), "the shard is published before the standby has that"
                time.sleep(0.05)
            os.unlink(until)
            stepping.end().ok("done")
    assert has_shard(two, 3)
    one.sql("ALTER SYSTEM RESET synchronous_standby_names")
    one.sql("SELECT pg_reload_conf()")
    assert_nothing_left(one, two)
