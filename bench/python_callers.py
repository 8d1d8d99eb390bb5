"""The Python side of bench/python: one way of talking to PostgreSQL, called from many threads.

usage: python_callers.py CONTENDER VERB NAME=VALUE...

Like bench/callers.c, with the same settings (see contender.h) and the same output. Any error in a
thread ends the program: a benchmark that goes on after an error measures nothing.
"""

import itertools
import json
import os
import queue
import random
import sys
import threading
import time
import traceback

import psycopg2
import psycopg2.extras

from arena import ATTRIBUTES, KIND

REQUESTS = 4096  # chosen beforehand, for each thread


class Hv:
    """The package hv."""

    def __init__(self, settings):
        from hv.datastore import Datastore
        from hv.entity import Key

        self.db = Datastore.from_config(settings.config)
        self.key = Key
        self.close = self.db.close

    def put(self, shard):
        assert self.db.put(shard, KIND, **ATTRIBUTES).shard_id == shard

    def get(self, key):
        row = self.db.get(key)
        assert row[2] == ATTRIBUTES

    def borrow(self, shard):
        self.db.put_connection(self.db.get_connection(shard))

    def put_many(self, shards):
        assert None not in self.db.put_many((shard, KIND, ATTRIBUTES) for shard in shards)

    def get_many(self, keys):
        rows = self.db.get_many(keys)
        assert all(row[2] == ATTRIBUTES for row in rows)


class Queue:
    """psycopg2 connections in a queue, the last returned one first, opened when needed."""

    key = int

    def __init__(self, settings):
        self.server = settings.server
        self.free = queue.LifoQueue(settings.connections)
        for _ in range(settings.connections):
            self.free.put(None)
        self.pools = dict.fromkeys(settings.shards, self.free)

    def close(self):
        while not self.free.empty():
            conn = self.free.get()
            if conn is not None:
                conn.close()

    def get_connection(self, shard):
        conn = self.pools[shard].get(timeout=5)
        if conn is None or conn.closed:
            conn = psycopg2.connect(
                self.server, connection_factory=psycopg2.extras.DictConnection
            )
            conn.autocommit = True
            conn.set_client_encoding("UTF8")
            psycopg2.extras.register_hstore(conn)
        return conn

    def put_connection(self, shard, conn):
        self.pools[shard].put(conn)

    def put(self, shard):
        conn = self.get_connection(shard)
        try:
            with conn.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO shard{shard:04d}.entities (type, body) VALUES (%s, %s)"
                    " RETURNING id",
                    (KIND, ATTRIBUTES),
                )
                assert cursor.fetchone()[0] >> 10 & 8191 == shard
        finally:
            self.put_connection(shard, conn)

    def get(self, key):
        shard = key >> 10 & 8191
        conn = self.get_connection(shard)
        try:
            with conn.cursor() as cursor:
                cursor.execute(
                    f"SELECT * FROM shard{shard:04d}.entities"
                    " WHERE id OPERATOR(pg_catalog.=) %s",
                    (key,),
                )
                row = cursor.fetchone()
        finally:
            self.put_connection(shard, conn)
        assert row[2] == ATTRIBUTES

    def borrow(self, shard):
        self.put_connection(shard, self.get_connection(shard))

    def put_many(self, shards):
        """The fastest way that psycopg2 offers: a statement with many rows for each shard."""
        counts = {}
        for shard in shards:
            counts[shard] = counts.get(shard, 0) + 1
        for shard, count in counts.items():
            conn = self.get_connection(shard)
            try:
                with conn.cursor() as cursor:
                    keys = psycopg2.extras.execute_values(
                        cursor,
                        f"INSERT INTO shard{shard:04d}.entities (type, body) VALUES %s"
                        " RETURNING id",
                        [(KIND, ATTRIBUTES)] * count,
                        page_size=count,
                        fetch=True,
                    )
            finally:
                self.put_connection(shard, conn)
            assert len(keys) == count

    def get_many(self, keys):
        of_shards = {}
        for key in keys:
            of_shards.setdefault(key >> 10 & 8191, []).append(key)
        found = {}
        for shard, wanted in of_shards.items():
            conn = self.get_connection(shard)
            try:
                with conn.cursor() as cursor:
                    cursor.execute(
                        f"SELECT * FROM shard{shard:04d}.entities"
                        " WHERE id OPERATOR(pg_catalog.=) ANY(%s)",
                        (wanted,),
                    )
                    found.update((row[0], row) for row in cursor)
            finally:
                self.put_connection(shard, conn)
        assert all(found[key][2] == ATTRIBUTES for key in keys)


class PsycopgPool:
    """psycopg 3's pool."""

    key = int

    def __init__(self, settings):
        import psycopg_pool

        self.pool = psycopg_pool.ConnectionPool(
            settings.server,
            min_size=settings.connections,
            max_size=settings.connections,
            kwargs={"autocommit": True},
        )
        self.pool.wait()
        self.close = self.pool.close

    def borrow(self, _shard):
        self.pool.putconn(self.pool.getconn())


CONTENDERS = {"hv": Hv, "queue": Queue, "psycopg_pool": PsycopgPool}


class Settings:
    def __init__(self, words):
        given = dict(word.split("=", 1) for word in words)
        self.callers = int(given["callers"])
        self.connections = int(given["connections"])
        self.batch = int(given["batch"])
        self.seconds = float(given["seconds"])
        self.config = given["config"]
        self.server = given["server"]
        first = int(given["first_shard"])
        self.shards = range(first, first + int(given["shard_count"]))
        self.moments = range(
            int(given["first_moment"]), int(given["first_moment"]) + int(given["entities_of_shard"])
        )


def requests(verb, settings, number, key):
    """The requests of thread `number`, one after the other, without end."""
    chosen = random.Random(number)

    def one():
        shard = chosen.choice(settings.shards)
        return key(chosen.choice(settings.moments) << 23 | shard << 10) if verb == "get" else shard

    if settings.batch == 1:
        return itertools.cycle([one() for _ in range(REQUESTS)])
    return itertools.cycle([[one() for _ in range(settings.batch)] for _ in range(8)])


class Run:
    def __init__(self, contender, verb, settings):
        self.settings = settings
        self.ended = False
        self.counts = [0] * settings.callers  # the times of finished calls, by thread
        self.prepared = threading.Barrier(settings.callers + 1)
        self.threads = []
        call = getattr(contender, verb if settings.batch == 1 else f"{verb}_many")
        for number in range(settings.callers):
            asked = requests(verb, settings, number, contender.key if verb == "get" else None)
            thread = threading.Thread(target=self.work, args=(number, call, asked))
            thread.start()
            self.threads.append(thread)

    def work(self, number, call, asked):
        counts = self.counts
        try:
            self.prepared.wait()
            while not self.ended:
                call(next(asked))
                counts[number] += 1
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def measure(self):
        self.prepared.wait()
        time.sleep(self.settings.seconds / 5)
        before, start = sum(self.counts), time.perf_counter()
        time.sleep(self.settings.seconds)
        measured, took = sum(self.counts) - before, time.perf_counter() - start
        self.ended = True
        for thread in self.threads:
            thread.join()
        batch = self.settings.batch
        return {"operations": sum(self.counts) * batch, "per_second": measured * batch / took}


def main():
    name, verb, *words = sys.argv[1:]
    settings = Settings(words)
    contender = CONTENDERS[name](settings)
    found = Run(contender, verb, settings).measure()
    contender.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
