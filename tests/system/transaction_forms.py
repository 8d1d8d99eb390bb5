"""What the tests of Python's transactions share: its two forms, and a store that is as before."""

import pytest
from psycopg2 import extensions

from harness import python
from harness.python import connections, databases  # noqa: F401

python.provide()

from hv.datastore import Datastore
from hv.entity import Key

SHARD = 3
TABLE = "shard0003.entities"
FAIL_40001 = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
MISSING = Key(307821103844175872 & ~(8191 << 10) | SHARD << 10)

HINT = "Use run_transaction(): it calls a function, and begins again by itself."


@pytest.fixture
def db(connections):
    """A store in which every test leaves the connections as they were."""
    with Datastore(connections) as store:
        yield store
        check_pool(store)


@pytest.fixture
def key(db):
    return db.put(SHARD, 1, a="b")


def in_with(db, function, **how):
    with db.transaction(SHARD, **how) as tx:
        return function(tx)


def in_run(db, function, **how):
    return db.run_transaction(SHARD, function, **how)


@pytest.fixture(params=[in_with, in_run])
def either(request, db):
    """Run a function in a transaction, in either form."""
    return lambda function, **how: request.param(db, function, **how)


def sql(tx, statement, *values):
    with tx.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else None


def check_pool(db, shard=SHARD):
    """Nothing is lent, and the connection that is lent next is as new."""
    stats = db.pool_stats()
    assert (stats["lent"], stats["waiting"]) == (0, 0)
    with db.cursor(shard) as cursor:
        connection = cursor.connection
        assert connection._hv_transaction is None
        assert (connection.autocommit, connection.status) == (True, extensions.STATUS_READY)
        assert connection.isolation_level is connection.readonly is connection.deferrable is None
        assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
        cursor.execute("SELECT 1")
        assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
        assert type(cursor).__module__ == "hv._cursor"
