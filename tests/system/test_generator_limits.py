"""The limits of keys: clocks, epochs and sequences with which none can be made."""

import re
import time

import psycopg2
import pytest

from test_generators import added_id, bare, init, kinds, reserve  # noqa: F401

pytestmark = pytest.mark.plain


@pytest.mark.parametrize("keys", ["portable", "strict"])
@pytest.mark.parametrize("epoch", [0, 4102444800000], ids=["long past", "to come"])
def test_an_epoch_whose_keys_cannot_bear_the_present_is_refused(init, bare, epoch, keys):
    result = init(bare, keys=keys, epoch=epoch)
    assert result.code == 1
    assert f"keys of epoch {epoch} cannot hold the present time" in result.err
    assert 'Check the option "epoch"' in result.err
    init(bare, keys=keys).ok()  # nothing was recorded


def test_portable_keys_that_no_bigint_holds_are_not_made(init, server):
    """Not of a clock that is far off, nor of a sequence that was."""
    init(server, keys="portable").ok()
    source = server.value("SELECT pg_get_functiondef('shard0003.next_id()'::regprocedure)")
    made, epochs = re.subn("'1379365531352'", "%s", source)
    assert epochs == 1
    now = int(time.time() * 1000)
    for time_of_key, fits in ((0, True), (2**40 - 600_000, True), (-600_000, False), (2**40, False)):
        server.sql(made.replace("%s", f"'{now - time_of_key}'").replace("%%", "%"))
        if fits:
            assert 0 <= (server.value("SELECT shard0003.next_id()") >> 23) - time_of_key < 600_000
        else:
            with pytest.raises(psycopg2.errors.NumericValueOutOfRange):
                server.query("SELECT shard0003.next_id()")
    server.sql(source)
    server.sql("ALTER SEQUENCE shard0003.table_id_seq INCREMENT -1 MINVALUE -2000 START -1 RESTART")
    for _ in range(3):
        key = server.value("SELECT shard0003.next_id()")
        assert key >> 10 & 8191 == 3 and 0 <= added_id(key) < 896 and key > 0


def test_no_reserved_key_comes_after_the_last_one_there_is(init, server):
    init(server, keys="portable").ok()
    last = 2**47 - 1  # 128 for each millisecond
    for setting in (last - 3, last - 1, last, 2**60, 2**63 - 1):
        server.sql("SELECT setval('shard0003.reserved_id_seq', %s)", setting)
        with pytest.raises(psycopg2.errors.SequenceGeneratorLimitExceeded, match="shard 3 has no"):
            reserve(server, 4)
        assert server.value("SELECT last_value FROM shard0003.reserved_id_seq") == setting
    server.sql("SELECT setval('shard0003.reserved_id_seq', %s)", last - 3)
    assert reserve(server, 3)[-1] == 2**63 - 2**23 + 3 * 1024 + 1023


def test_a_sequence_that_cannot_make_strict_keys_is_reported_at_once(init, extension_server):
    database = extension_server
    init(database, keys="portable").ok()
    database.sql("ALTER SEQUENCE shard0003.table_id_seq INCREMENT 5")
    begun = time.monotonic()
    result = init(database, keys="strict", operation_timeout="60s")
    assert time.monotonic() - begun < 30  # waiting for it would be in vain
    assert result.code == 1
    assert 'sequence "table_id_seq" cannot make keys' in result.err
    assert "ALTER SEQUENCE shard0003.table_id_seq AS bigint INCREMENT 1" in result.err
    assert kinds(database)[3] == "portable"
