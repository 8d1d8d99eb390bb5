"""hv feed: what it writes and when, what holds it, and how it goes on after every kind of end."""

import contextlib
import fcntl
import json
import os
import pathlib
import random
import signal
import struct
import termios
import threading
import time

import pytest

from harness import build_dir, eventually, hv, make_shards, run, spawn, store_config
from harness.clock import clock  # noqa: F401
from inserting import DAY, EPOCH, KEYS, PHOTOS, fill, key_of, objects, photos, shard_of  # noqa: F401

NOW = ("--delay", "0ms")  # nothing here reserves keys or moves a clock


def feed(store, *args, **how):
    return hv("feed", *NOW, *args, config=store, **how)


def seen(store, *args):
    return [int(row["id"]) for row in feed(store, *args).ok().ndjson()]


class Following:
    """hv feed --follow, and what it has written so far."""

    def __init__(self, store, *args, output=None, **how):
        self.rows = []
        self.process = spawn("hv", "feed", "--follow", *NOW, *args, config=store, **how)
        self.errors = []
        self.threads = [
            threading.Thread(target=self._read, args=stream)
            for stream in (
                (self.process.stdout, self.rows, json.loads),
                (self.process.stderr, self.errors, bytes.decode),
            )
        ]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _read(stream, into, convert):
        for line in stream:
            into.append(convert(line))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.wait()
        self.process.stdin.close()

    def keys(self):
        return [int(row["id"]) for row in self.rows]

    def wait(self):
        code = self.process.wait(60)
        for thread in self.threads:
            thread.join()
        return code

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.wait()


def put(store, shard=3, **attributes):
    words = [f"{name}={value}" for name, value in attributes.items()]
    return int(hv("put", shard, 1, *words, config=store).ok().out)


def readable(descriptor):
    """How many bytes can be read from it."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]


def position(path):
    return int(json.loads(path.read_text("utf-8"))["position"])


# ---- what is written ----


def test_everything_is_written_in_the_order_of_keys_up_to_now(photos):
    done = feed(photos).ok()
    assert done.ndjson() == objects(PHOTOS) and done.err == ""
    some = [key for key, kind, body in PHOTOS if kind == 1 and body["user"] == "3"]
    assert seen(photos, "--kind", 1, "--where", "user=3") == some
    assert seen(photos, "--limit", 3) == KEYS[:3]
    assert feed(photos, "--limit", 1, "--only", "n").ok().ndjson()[0]["body"] == {"n": "0"}


def test_a_key_is_where_it_ended_and_a_time_is_included(photos):
    assert seen(photos, "--from", KEYS[7]) == KEYS[8:]
    assert seen(photos, "--from", f"@{EPOCH + 3 * DAY}") == KEYS[12:]
    assert seen(photos, "--from", "now") == []
    assert seen(photos, "--from", "2000-01-01") == KEYS


def test_what_is_put_is_written_at_once(store):
    with Following(store) as following:
        for n in range(3):
            key = put(store, shard=1 + 5 * n, n=n)
            eventually(lambda: following.keys()[n:] == [key])  # noqa: B023
        assert following.end() == -signal.SIGTERM and following.errors == []


def test_a_limit_ends_it_while_it_follows(store):
    with Following(store, "--from", "now", "--limit", 2) as following:
        keys = [put(store, n=n) for n in range(3)]
        assert following.wait() == 0 and following.keys() == keys[:2]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_in_order(photos, tmp_path, how):
    path = tmp_path / "checkpoint"
    with Following(photos, "--checkpoint", path) as following:
        eventually(lambda: len(following.rows) == len(KEYS))
        assert following.end(how) == -how and following.errors == []
        assert position(path) > KEYS[-1]


def test_an_output_that_nobody_reads_any_more_ends_it(store):
    process = spawn("hv", "feed", "--follow", *NOW, config=store)
    put(store)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == -signal.SIGPIPE and process.stderr.read() == b""


def test_an_output_that_is_full_is_reported(photos, tmp_path):
    path = tmp_path / "checkpoint"
    with open("/dev/full", "wb") as full:
        process = spawn("hv", "feed", *NOW, "--checkpoint", path, config=photos, stdout=full)
        assert process.wait(30) == 1 and b"No space left on device" in process.stderr.read()
    assert position(path) == 1 and seen(photos, "--checkpoint", path) == KEYS


def test_an_interrupt_does_not_count_what_nobody_has_read(store, servers, tmp_path):
    fill(servers, 3, 20_000)
    path = tmp_path / "checkpoint"
    ours, theirs = os.pipe()
    process = spawn("hv", "feed", "--checkpoint", path, *NOW, config=store, stdout=theirs)
    os.close(theirs)
    eventually(lambda: readable(ours) > 60_000)  # the pipe is about full
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    with open(ours, "rb") as reader:
        lines = reader.read().splitlines(keepends=True)
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    assert position(path) <= int(whole[-1]["id"]) + 1
    again = seen(store, "--checkpoint", path)
    everything = {int(row["id"]) for row in whole} | set(again)
    assert sorted(everything) == [key_of(n, 3) for n in range(1, 20_001)]


# ---- what holds it ----


def test_an_open_transaction_holds_it_and_is_named_until_it_ends(store, servers):
    with Following(store) as following, servers[0].connect() as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "BEGIN; INSERT INTO shard0003.entities"
                " VALUES (shard0003.next_id(), 1, 'late=>yes') RETURNING id"
            )
            (late,) = cursor.fetchone()
            pid = connection.get_backend_pid()
            after = put(store, shard=12)
            eventually(lambda: following.errors != [])
            (report,) = following.errors
            assert "behind" in report and '"one"' in report and str(pid) in report
            assert following.rows == []
            cursor.execute("COMMIT")
        eventually(lambda: following.keys() == [late, after])
        eventually(lambda: len(following.errors) == 2)
        assert "the feed goes on" in following.errors[1]


def test_the_report_about_a_holder_is_json_for_programs(store, servers):
    with Following(store, "--json") as following, servers[0].connect() as connection:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN; LOCK shard0003.entities IN ROW EXCLUSIVE MODE")
            eventually(lambda: following.errors != [])
            report = json.loads(following.errors[0])
            assert report["holder"]["server"] == "one" and report["behind_ms"] > 500
            cursor.execute("COMMIT")
        eventually(lambda: len(following.errors) == 2)
        assert json.loads(following.errors[1])["holder"] is None


def test_a_server_that_is_down_holds_it_or_is_skipped(own_store, own_servers):
    with Following(own_store) as following:
        first = put(own_store, shard=3)
        eventually(lambda: following.keys() == [first])
        own_servers[1].server.stop()
        second = put(own_store, shard=3)
        eventually(lambda: following.errors != [])
        assert '"two"' in following.errors[0] and "behind" in following.errors[0]
        assert following.keys() == [first]
        skipped = feed(own_store, "--skip-server", "two").ok()
        assert [int(row["id"]) for row in skipped.ndjson()] == [first, second]
        assert '"two"' in skipped.err
        failed = feed(own_store)
        assert failed.code == 1 and '"two"' in failed.err
        own_servers[1].server.start()
        third = put(own_store, shard=12)
        eventually(lambda: following.keys() == [first, second, third])
        eventually(lambda: "the feed goes on" in following.errors[-1])


def test_a_clock_that_steps_back_is_an_error_each_time_and_it_goes_on(
    make_server, tmp_path, clock  # noqa: F811
):
    database = make_server("one", env=clock.env).create_database("test")
    config = store_config(tmp_path / "one.conf", {"one": (database, "1-9")})
    make_shards(config, database)

    def steps(lines):
        return [line for line in lines if "has stepped back" in line]

    with Following(config) as following:
        keys = []
        for number in (1, 2):
            keys.append(put(config))
            eventually(lambda: following.keys() == keys)
            clock.set(-3, database)
            eventually(lambda: len(steps(following.errors)) == number)  # noqa: B023
            clock.set(0, database)
        assert following.end() == -signal.SIGTERM
        assert any("keys from" in line for line in following.errors)
    path = tmp_path / "checkpoint"
    assert feed(config, "--checkpoint", path).code == 0
    clock.set(-3, database)
    ended = feed(config, "--checkpoint", path)
    assert ended.code == 1 and len(steps(ended.err.splitlines())) == 1


# ---- checkpoints ----


def test_it_goes_on_at_its_checkpoint(photos, servers, tmp_path):
    path = tmp_path / "checkpoint"
    assert seen(photos, "--from", KEYS[7], "--checkpoint", path) == KEYS[8:]
    assert seen(photos, "--from", KEYS[7], "--checkpoint", path) == []
    more = [put(photos, n=n) for n in range(3)]
    assert seen(photos, "--checkpoint", path) == more
    assert [each.name for each in tmp_path.iterdir() if "checkpoint" in each.name] == ["checkpoint"]


def test_the_first_checkpoint_is_written_before_anything_else(photos, tmp_path):
    path = tmp_path / "checkpoint"
    with Following(photos, "--from", "now", "--checkpoint", path) as following:
        eventually(path.exists)
        begun = position(path)
        following.process.kill()
    key = put(photos)
    assert begun < key and seen(photos, "--checkpoint", path) == [key]


def test_a_position_that_advances_alone_is_kept_at_the_end(store, tmp_path):
    path = tmp_path / "checkpoint"
    assert seen(store, "--checkpoint", path) == []
    assert position(path) > 1


def make(path, **changes):
    """Change a checkpoint and make its check right again, as another program would."""
    found = json.loads(path.read_text("utf-8"))
    found.update(changes)
    del found["check"]
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    path.write_text(json.dumps({**found, "check": f"{digest:016x}"}), "utf-8")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "it is empty"),
        ('{"hypervault_feed": 1, "posi', "its end is missing"),
        ("precious", "it is not a checkpoint"),
        ('{"hypervault_feed": 2}', "written by a newer version"),
        ('{"hypervault_feed": 1, "position": "5"}', "changed or damaged"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_stays(photos, tmp_path, text, message):
    path = tmp_path / "checkpoint"
    path.write_text(text, "utf-8")
    for more in ([], ["--json"]):
        refused = feed(photos, "--checkpoint", path, *more)
        assert (refused.code, refused.out) == (1, "")
        assert message in refused.err and str(path) in refused.err and "hint" in refused.err
    assert path.read_text("utf-8") == text


def test_a_checkpoint_that_somebody_has_changed_is_refused(photos, tmp_path):
    path = tmp_path / "checkpoint"
    feed(photos, "--checkpoint", path).ok()
    make(path)
    feed(photos, "--checkpoint", path).ok()
    path.write_text(path.read_text("utf-8").replace('"position": "', '"position": "1'), "utf-8")
    assert "changed or damaged" in feed(photos, "--checkpoint", path).err


def test_the_checkpoint_of_another_store_is_refused(photos, servers, tmp_path, make_server):
    path = tmp_path / "checkpoint"
    feed(photos, "--checkpoint", path).ok()
    text = path.read_text("utf-8")
    other = servers[0].server.create_database()
    config = store_config(tmp_path / "other.conf", {"one": (other, "1-9")})
    hv("init", config=config).ok()
    refused = feed(config, "--checkpoint", path)
    assert (refused.code, refused.out) == (1, "") and "another store" in refused.err
    assert f"--from {position(path) - 1}" in refused.err and path.read_text("utf-8") == text
    grown = store_config(
        tmp_path / "grown.conf", {"one": (servers[0], "1-9"), "three": (other, "20-21")}
    )
    other.sql("DROP SCHEMA IF EXISTS hypervault CASCADE")
    for shard in range(1, 9):
        other.sql(f"DROP SCHEMA shard{shard:04} CASCADE")
    hv("init", config=grown).ok()
    assert seen(grown, "--checkpoint", path) == []
    make(path, epoch=EPOCH + 1)
    assert "another epoch" in feed(photos, "--checkpoint", path).err


def test_the_checkpoint_of_a_feed_with_other_conditions_is_refused(photos, tmp_path):
    path = tmp_path / "checkpoint"
    args = ("--kind", "1", "--where", "user=3", "--shards", "1-5", "--checkpoint", path)
    feed(photos, *args).ok()
    for other in ([], ["--kind", "2"], ["--kind", "1", "--where", "user=3"], args[2:]):
        refused = feed(photos, *other, "--checkpoint", path)
        assert (refused.code, refused.out) == (1, "") and "another feed" in refused.err
    same = ("--shards", "1-5", "--where", "user=3", "-k", "1", "--only", "n", "--limit", 3)
    assert seen(photos, *same, "--checkpoint", path) == []


def test_what_was_skipped_must_stay_skipped_or_be_read_again(photos, tmp_path):
    path = tmp_path / "checkpoint"
    first = seen(photos, "--limit", 9, "--checkpoint", path)
    assert first == KEYS[:9]
    begun = position(path) - 1
    assert KEYS[8] <= begun < KEYS[9]
    on_one = [key for key in KEYS[9:] if shard_of(key) < 9]
    assert seen(photos, "--skip-server", "two", "--checkpoint", path) == on_one
    assert seen(photos, "--skip-server", "two", "--checkpoint", path) == []
    refused = feed(photos, "--checkpoint", path)
    assert refused.code == 1 and 'the server "two" was skipped' in refused.err
    assert f"--from {begun}." in refused.err
    assert seen(photos, "--from", begun, "--checkpoint", tmp_path / "new") == KEYS[9:]

    path = tmp_path / "skipped-from-the-beginning"
    seen(photos, "--skip-server", "two", "--checkpoint", path)
    refused = feed(photos, "--checkpoint", path)
    assert refused.code == 1 and "with another file." in refused.err and "--from" not in refused.err


def test_a_checkpoint_that_cannot_be_written_is_an_error_at_once(photos, tmp_path):
    for path, why in (
        (tmp_path / "none" / "checkpoint", "No such file or directory"),
        (tmp_path, "not a regular file"),
        ("/dev/full", "not a regular file"),
    ):
        refused = feed(photos, "--checkpoint", path)
        assert (refused.code, refused.out) == (1, "") and why in refused.err
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("precious")
    refused = feed(photos, "--checkpoint", tmp_path / "link")
    assert refused.code == 1 and "symbolic link" in refused.err
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_full_disk_under_the_checkpoint_ends_it_and_the_old_one_is_whole(photos, tmp_path):
    path = tmp_path / "checkpoint"
    feed(photos, "--limit", 9, "--checkpoint", path).ok()
    text = path.read_text("utf-8")
    command = ("feed", *NOW, "--checkpoint", path)
    limited = run("prlimit", "--fsize=20", build_dir() / "cli/hv", *command, config=photos)
    assert limited.code == 1 and "File too large" in limited.err and limited.out == ""
    assert path.read_text("utf-8") == text and not (tmp_path / "checkpoint.new").exists()
    assert seen(photos, "--checkpoint", path) == KEYS[9:]


# ---- files ----


def test_lines_are_added_to_a_file(photos, tmp_path):
    path, output = tmp_path / "checkpoint", tmp_path / "all.ndjson"
    for limit in (5, 7, 100, 100):
        done = feed(photos, "--checkpoint", path, "--output", output, "--limit", limit).ok()
        assert (done.out, done.err) == ("", "")
    lines = output.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == objects(PHOTOS)
    feed(photos, "--output", output, "--from", KEYS[-2]).ok()
    assert output.read_text("utf-8").splitlines() == [*lines, lines[-1]]
    output.rename(tmp_path / "old.ndjson")
    key = put(photos, n=1)
    feed(photos, "--checkpoint", path, "--output", output).ok()
    assert [int(json.loads(line)["id"]) for line in output.read_text("utf-8").splitlines()] == [key]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text[:-10], "shorter than when the checkpoint was written"),
        (lambda text: "", "shorter than when the checkpoint was written"),
        (lambda text: text + "precious\n", "something else was added"),
        (lambda text: text + text, "something else was added"),
        (lambda text: text + "\n", "something else was added"),
        (lambda text: text.replace("\n", " ") + "\n", "something else was added"),
    ],
)
def test_a_file_that_was_changed_is_refused_and_not_cut(photos, tmp_path, change, message):
    path, output = tmp_path / "checkpoint", tmp_path / "all.ndjson"
    args = ("--checkpoint", path, "--output", output)
    feed(photos, *args, "--limit", 5).ok()
    changed = change(output.read_text("utf-8"))
    output.write_text(changed, "utf-8")
    refused = feed(photos, *args)
    assert refused.code == 1 and message in refused.err and "hint" in refused.err
    assert output.read_text("utf-8") == changed


def test_another_file_is_never_cut(photos, tmp_path):
    path = tmp_path / "checkpoint"
    feed(photos, "--checkpoint", path, "--output", tmp_path / "a", "--limit", 5).ok()
    (tmp_path / "b").write_text("precious\n" * 1000)
    feed(photos, "--checkpoint", path, "--output", tmp_path / "b", "--limit", 1).ok()
    lines = (tmp_path / "b").read_text("utf-8").splitlines()
    assert lines[:-1] == ["precious"] * 1000 and json.loads(lines[-1])["id"] == str(KEYS[5])
    (tmp_path / "c").write_text("torn")
    refused = feed(photos, "--output", tmp_path / "c")
    assert refused.code == 1 and "its last line is not complete" in refused.err
    (tmp_path / "d").symlink_to(tmp_path / "b")
    for output, why in ((tmp_path / "d", "symbolic link"), ("/dev/full", "not a regular file")):
        refused = feed(photos, "--output", output)
        assert refused.code == 1 and why in refused.err
    with Following(photos, "--output", tmp_path / "e"):
        eventually(lambda: (tmp_path / "e").exists() and (tmp_path / "e").stat().st_size > 0)
        refused = feed(photos, "--output", tmp_path / "e")
        assert refused.code == 1 and "another process writes to it" in refused.err


def test_a_full_disk_under_the_file_is_an_error_and_it_goes_on_later(photos, tmp_path):
    path, output = tmp_path / "checkpoint", tmp_path / "all.ndjson"
    command = ("feed", *NOW, "--checkpoint", path, "--output", output)
    limited = run("prlimit", "--fsize=1000", build_dir() / "cli/hv", *command, config=photos)
    assert limited.code == 1 and "File too large" in limited.err
    assert output.stat().st_size <= 1000
    hv(*command, config=photos).ok()
    written = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert written == objects(PHOTOS)


def test_a_checkpoint_never_covers_what_was_not_written(store, tmp_path):
    path = tmp_path / "checkpoint"
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):  # fill the pipe
        while True:
            os.write(theirs, b"\n")
    os.set_blocking(theirs, True)
    args = ("feed", "--follow", *NOW, "--checkpoint", path)
    process = spawn("hv", *args, config=store, stdout=theirs)
    os.close(theirs)
    eventually(lambda: path.exists() and time.time() - path.stat().st_mtime > 1.2)
    key = put(store)  # now a checkpoint is due as soon as this is written
    wchan = pathlib.Path(f"/proc/{process.pid}/wchan")
    eventually(lambda: "pipe_" in wchan.read_text("utf-8"))
    process.kill()
    process.wait(30)
    os.close(ours)
    assert position(path) <= key and seen(store, "--checkpoint", path) == [key]


@pytest.mark.parametrize("to_file", [False, True])
def test_kill_9_at_any_moment_loses_nothing(store, servers, tmp_path, to_file):
    """Writers go on all the time, and each run goes on from the last one's checkpoint. In a file
    each entity is there once; through a pipe the last ones before a kill may come again."""
    path, output = tmp_path / "checkpoint", tmp_path / "all.ndjson"
    args = ["--checkpoint", path, *(["--output", output] if to_file else [])]
    stop = threading.Event()
    written = [[], []]
    everything = []

    def write(database, shard, keys):
        with database.connect() as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not stop.is_set():
                cursor.execute(
                    f"INSERT INTO shard{shard:04}.entities"
                    f" VALUES (shard{shard:04}.next_id(), 1, 'n=>1') RETURNING id"
                )
                keys.append(cursor.fetchone()[0])

    def take(keys):
        assert keys == sorted(set(keys))
        last = everything[-1] if everything else 0
        everything.extend(key for key in keys if key > last)

    writers = [
        threading.Thread(target=write, args=(database, shard, keys))
        for database, shard, keys in zip(servers, (3, 12), written)
    ]
    for writer in writers:
        writer.start()
    try:
        chance = random.Random(17)
        for _ in range(10):
            with Following(store, *args) as following:
                eventually(path.exists)
                time.sleep(chance.uniform(0, 2))  # the kill comes at any moment
                following.process.kill()
            take(following.keys())
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    take([int(row["id"]) for row in feed(store, *args).ok().ndjson()])
    if to_file:
        lines = output.read_text("utf-8").splitlines()
        everything = [int(json.loads(line)["id"]) for line in lines]
    assert everything == sorted(written[0] + written[1]) and len(everything) > 1000


# ---- bad input ----


@pytest.mark.parametrize(
    "args, message",
    [
        (["--limit", 0], "--limit is out of range: 0"),
        (["--from", 0], "KEY is out of range: 0"),
        (["--from", 2**63 - 1], "no key comes after"),
        (["--from", "soon"], "--from is no point in time"),
        (["--from", "2500-01-01"], ""),
        (["--delay", -1], "--delay is no duration"),
        (["--shards", ""], "shard"),
        (["--shards", 99], "99"),
        (["--where", "a=1", "--lacks", "a"], "a"),
        (["--skip-server", "three"], "three"),
        (["--newest", 3], "unknown option --newest"),
        (["--until", "now"], "unknown option --until"),
        (["--checkpoint", ""], "--checkpoint has no file"),
        (["photos"], 'unexpected argument "photos"'),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(config, args, message):
    refused = hv("feed", *args, config=config)
    assert (refused.code, refused.out) == (2, ""), refused
    assert message in refused.err.splitlines()[0] and refused.err.startswith("hv: ")
