"""Private servers on which shards can be moved: their settings, and `hv dev up` after moves."""

import contextlib
import socket

import psycopg2

from harness import hv
from harness.moved import is_there, moved
from private_servers import config_of, connect, dev, folder, place, servers_of  # noqa: F401

MARK = "# These were added by `hv dev up`, so that shards can be moved.\n"


class Place:
    """A private server's database, as harness.moved takes it."""

    def __init__(self, folder, number):  # noqa: F811
        server = servers_of(folder)[number]
        self._params = {"host": server["host"], "port": str(server["port"]), "user": "hypervault"}

    def params(self):
        return {**self._params, "dbname": "hypervault"}

    @contextlib.contextmanager
    def connect(self):
        connection = psycopg2.connect(**self.params())
        connection.autocommit = True
        with contextlib.closing(connection):
            yield connection

    def query(self, statement, *args):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement, args or None)
            return cursor.fetchall() if cursor.description else []

    def sql(self, statement, *args):
        self.query(statement, *args)

    def value(self, statement, *args):
        return self.query(statement, *args)[0][0]


def setting(folder, name, number=0):  # noqa: F811
    return Place(folder, number).value("SELECT current_setting(%s)", name)


def conf(folder, name="one"):  # noqa: F811
    return f"{folder}/{name}/data/postgresql.conf"


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def rewrite(path, change):
    text = change(text_of(path))
    with open(path, "r+", encoding="utf-8") as file:
        file.truncate()
        file.write(text)


def without_moves(text):
    """As an earlier version has written it."""
    assert text.count(MARK) == 1 and text.endswith(MARK)
    return text[: text.index("\nwal_level = logical\n")]


def test_new_servers_are_ready_for_moves(folder):  # noqa: F811
    dev("up", folder, "--servers", 2, "--shards", 2).ok()
    for number in (0, 1):
        assert setting(folder, "wal_level", number) == "logical"
        assert int(setting(folder, "max_replication_slots", number)) >= 16
        assert int(setting(folder, "max_logical_replication_workers", number)) >= 16
    before = text_of(conf(folder))
    result = dev("up", folder).ok()
    assert "settings" not in result.err and "All servers were running." in result.err
    assert text_of(conf(folder)) == before


def test_servers_of_an_earlier_version_get_the_settings_once(folder):  # noqa: F811
    dev("up", folder, "--servers", 1, "--shards", 1).ok()
    dev("down", folder).ok()
    rewrite(conf(folder), without_moves)
    result = dev("up", folder).ok()
    assert 'Server "one" has new settings, so that shards can be moved.' in result.err
    assert setting(folder, "wal_level") == "logical"
    assert text_of(conf(folder)).count(MARK) == 1

    # A running one is restarted for them; a user's own settings are left alone.
    dev("down", folder).ok()
    rewrite(conf(folder), lambda text: text + "wal_level = replica\n")
    assert "Restarting" not in dev("up", folder).ok().err
    assert setting(folder, "wal_level") == "replica"
    assert "Restarting" not in dev("up", folder).ok().err
    rewrite(conf(folder), lambda text: text.replace("wal_level = replica\n", ""))
    result = dev("up", folder).ok()
    assert 'Restarting server "one", with settings that moving shards needs.' in result.err
    assert setting(folder, "wal_level") == "logical"


def test_up_leaves_moved_shards_where_they_are(folder):  # noqa: F811
    dev("up", folder, "--servers", 2, "--shards", 4).ok()
    key = hv("put", 1, 1, "a=b", config=config_of(folder)).ok().out.strip()
    one, two = Place(folder, 0), Place(folder, 1)
    moved(1, one, two)
    dev("up", folder).ok()
    dev("down", folder).ok()
    result = dev("up", folder, "--json").ok()
    assert [part["ready"] for part in result.json()["init"]] == [True, True]
    assert not is_there(one, 1) and is_there(two, 1)
    assert "a" in hv("get", key, config=config_of(folder)).ok().out
    result = hv("config", "--json", config=config_of(folder)).ok()
    assert result.json()["moved"] == "1"
    hv("config", "--write", config=config_of(folder)).ok()
    dev("up", folder).ok()
    assert hv("config", "--json", config=config_of(folder)).ok().json()["moved"] == ""


def test_servers_with_passwords_reach_each_other_without(folder):  # noqa: F811
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    dev("up", folder, "--servers", 1, "--shards", 1, "--port", port).ok()
    assert "\nmove_host = " in text_of(config_of(folder))
    hv("status", config=config_of(folder)).ok()
