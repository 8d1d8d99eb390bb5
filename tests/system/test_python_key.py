"""hv.entity.Key: what a key says, and how it behaves as a value."""

import copy
import datetime
import pickle

import pytest

from harness import hv, python
from harness.python import connections, databases, db, plain  # noqa: F401

python.provide()

from hv.entity import DEFAULT_EPOCH, Key, key_bound

GOLDEN = 307821103844175873
LAST = 2**63 - 1


def test_a_key_says_when_and_where_it_was_made():
    key = Key(GOLDEN)
    assert key.id == GOLDEN
    assert key.created == datetime.datetime(2014, 11, 15, 14, 11, 6, 450000)
    assert key.created.tzinfo is None
    assert key.shard_id == 12
    assert key.added_id == 1


def test_the_last_key_is_made_in_2048():
    key = Key(LAST)
    assert key.created == datetime.datetime(2048, 7, 20, 16, 59, 19, 127000)
    assert (key.shard_id, key.added_id) == (8191, 1023)


def test_the_first_key_is_made_at_the_epoch():
    key = Key(1)
    assert key.created == datetime.datetime(2013, 9, 16, 21, 5, 31, 352000)
    assert (key.shard_id, key.added_id) == (0, 1)


@pytest.mark.parametrize("id", [1, 1023, 1024, 1 << 23, GOLDEN, LAST - 1, LAST])
def test_the_package_and_the_command_say_the_same_of_a_key(id):
    report = hv("key", id, "--json").ok().json()
    key = Key(id)
    assert report["shard_id"] == key.shard_id
    assert report["added_id"] == key.added_id
    assert report["created"] == key.created.isoformat(timespec="milliseconds") + "Z"


def test_another_epoch_moves_the_time_and_nothing_else():
    key = Key(GOLDEN, epoch=DEFAULT_EPOCH + 1000)
    assert key.created - Key(GOLDEN).created == datetime.timedelta(seconds=1)
    assert (key.id, key.shard_id, key.added_id) == (GOLDEN, 12, 1)
    assert DEFAULT_EPOCH == 1379365531352


def test_an_epoch_before_1970_gives_times_with_the_right_milliseconds():
    assert Key(1, epoch=-1).created == datetime.datetime(1969, 12, 31, 23, 59, 59, 999000)


@pytest.mark.parametrize("name", ["id", "created", "shard_id", "added_id", "epoch", "other"])
def test_a_key_cannot_be_changed(name):
    key = Key(GOLDEN)
    with pytest.raises(AttributeError):
        setattr(key, name, 1)
    with pytest.raises((AttributeError, TypeError)):
        delattr(key, name)
    assert key.id == GOLDEN
    assert not hasattr(key, "__dict__")


def test_the_class_cannot_be_changed_either():
    with pytest.raises(TypeError):
        Key.id = 1


def test_a_key_is_its_number():
    key = Key(GOLDEN)
    assert int(key) == GOLDEN
    assert type(int(key)) is int
    assert hex(key) == hex(GOLDEN)
    assert [10, 20, 30][Key(1)] == 20  # an index
    assert str(key) == str(GOLDEN)
    assert f"{key}" == str(GOLDEN)
    assert Key(Key(GOLDEN)) == key


def test_a_keys_repr_says_what_is_in_it():
    text = repr(Key(GOLDEN))
    for part in ("Key", str(GOLDEN), "12", "2014-11-15 14:11:06.450"):
        assert part in text


def test_keys_are_equal_and_ordered_by_their_numbers():
    one, two = Key(1000), Key(2000)
    assert one == Key(1000) and not one != Key(1000)
    assert one != two and not one == two
    assert one < two and one <= two and one <= Key(1000) and two > one and two >= one
    assert not one > two and not one >= two and not two < one and not two <= one
    assert sorted([two, one, Key(1500)]) == [one, Key(1500), two]
    assert max(one, two) is two


def test_keys_are_found_in_sets_and_dicts():
    assert hash(Key(GOLDEN)) == hash(Key(GOLDEN))
    assert {Key(1): "a"}[Key(1)] == "a"
    assert len({Key(n % 7 + 1) for n in range(100)}) == 7


def test_a_key_differs_from_a_number_and_is_not_ordered_among_others():
    key = Key(GOLDEN)
    for other in (GOLDEN, str(GOLDEN), None, float(GOLDEN), object()):
        assert key != other and not key == other
        for compare in ("__lt__", "__le__", "__gt__", "__ge__"):
            assert getattr(key, compare)(other) is NotImplemented
    with pytest.raises(TypeError):
        _ = key < GOLDEN
    assert {key: 1}.get(GOLDEN) is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("epoch", [DEFAULT_EPOCH, 5])
def test_a_key_survives_pickling(protocol, epoch):
    key = Key(GOLDEN, epoch)
    again = pickle.loads(pickle.dumps(key, protocol))
    assert type(again) is Key
    assert (again, again.created) == (key, key.created)


def test_a_copy_of_a_key_is_the_same_key():
    key = Key(GOLDEN, 5)
    for again in (copy.copy(key), copy.deepcopy(key), copy.deepcopy([key])[0]):
        assert (again, again.created) == (key, key.created)


@pytest.mark.parametrize("id", [0, -1, -(2**63), 2**63, 2**64 + 1, 10**40])
def test_what_is_no_key_is_refused(id):
    with pytest.raises(ValueError, match=f"not {id}"):
        Key(id)


@pytest.mark.parametrize("id", [None, "1", b"1", 1.0, 1.5, [], object()])
def test_a_key_is_made_of_an_integer(id):
    with pytest.raises(TypeError):
        Key(id)


def test_a_key_is_made_of_one_integer_at_least():
    with pytest.raises(TypeError):
        Key()
    with pytest.raises(TypeError):
        Key(1, 2, 3)
    with pytest.raises(TypeError):
        Key(1, shard=3)
    assert Key(id=GOLDEN, epoch=DEFAULT_EPOCH) == Key(GOLDEN)


def test_a_subclass_is_a_key():
    class Mine(Key):
        """One with a method."""

        def shout(self):
            return f"{self}!"

    mine = Mine(GOLDEN)
    assert mine == Key(GOLDEN) and hash(mine) == hash(Key(GOLDEN))
    assert mine.shout() == f"{GOLDEN}!"


def test_a_bound_parts_the_keys_by_time():
    key = Key(GOLDEN)
    at = key_bound(key.created)
    after = key_bound(key.created + datetime.timedelta(milliseconds=1))
    assert at <= GOLDEN < after
    assert after - at == 1 << 23
    utc = key.created.replace(tzinfo=datetime.timezone.utc)
    east = utc.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=45)))
    assert key_bound(utc) == key_bound(east) == at


def test_an_epoch_from_which_no_time_can_be_counted_is_an_error():
    with pytest.raises(ValueError, match="epoch"):
        Key(GOLDEN, epoch=2**63 - 1)


def test_a_statement_takes_keys(db, databases):  # noqa: F811
    class Mine(Key):
        """A subclass."""

    keys = [db.put(3, 1, n=n) for n in range(3)]
    mine = [Mine(keys[0]), *keys[1:]]
    one = "SELECT body -> 'n' FROM shard0003.entities WHERE id = %s"
    some = "SELECT count(*) FROM shard0003.entities WHERE id = ANY (%s)"
    with db.cursor(3) as borrowed, plain(databases[0]) as connection:
        for cursor in (borrowed, connection.cursor()):
            for n, key in enumerate(mine):
                cursor.execute(one, [key])
                assert cursor.fetchone()[0] == str(n)
            for count in range(1, 4):
                cursor.execute(some, [mine[:count]])
                assert cursor.fetchone()[0] == count
            cursor.execute("SELECT %(key)s, %(key)s", {"key": Key(LAST)})
            assert tuple(cursor.fetchone()) == (LAST, LAST)
            cursor.execute("SELECT 1 WHERE 1 IN %s", [(Key(1), Key(5))])
            assert cursor.fetchone()[0] == 1
