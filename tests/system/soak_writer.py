"""Part of test_soak.py: runs behind harness.python.PRELUDE and the settings FIRST_WRITER and SEED.

Threads put; the main thread puts, gets and borrows, and a timer's signal handler raises an
exception in it at any moment, as task queues do when a task has had its time. Descriptors and
files of the program's own must stay what they are. Prints the journal that store_stress prints,
when its input ends.
"""

import random
import tempfile

SHARDS = range(1, 17)
FILES = 200
chance = random.Random(SEED)
journal = []  # lists: writer, number, shard, status, key, ended
ended = threading.Event()


class TimeUp(Exception):
    """The exception that the signal handler raises."""


armed = False
raised = 0


def time_up(*_):
    global armed, raised
    if armed:
        armed = False
        raised += 1
        raise TimeUp


signal.signal(signal.SIGALRM, time_up)


def unraisable(what):
    """Python drops exceptions that are raised in callbacks of weak references and in __del__()."""
    if not isinstance(what.exc_value, TimeUp):
        sys.__unraisablehook__(what)


sys.unraisablehook = unraisable


class Writer:
    """The names of one thread's puts, and their results."""

    def __init__(self, writer):
        self.writer = writer
        self.number = 0
        self.chance = random.Random(SEED + writer)

    def begin(self):
        entry = [self.writer, self.number, self.chance.choice(SHARDS), "HV_OUTCOME_UNKNOWN", 0, 0]
        self.number += 1
        journal.append(entry)
        return entry

    def entity(self, entry):
        writer, number, shard = entry[:3]
        return shard, number % 1000, {"writer": str(writer), "number": str(number)}

    def put(self, entry):
        return db.put(*self.entity(entry))


def settle(entry, result):
    entry[3:] = (result.status, 0, 0) if isinstance(result, Exception) else ("HV_OK", int(result), 0)


def work(writer):
    while not ended.is_set():
        entry = writer.begin()
        try:
            result = writer.put(entry)
        except DatastoreError as error:
            result = error
        settle(entry, result)


def interrupted(act):
    """The result; a DatastoreError that was raised; or None if the time was up."""
    global armed
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0002, 0.02))
            return act()
        finally:
            armed = False
    except TimeUp:
        return None
    except DatastoreError as error:
        return error


def put_many(writer):
    entries = [writer.begin() for _ in range(20)]
    results = interrupted(
        lambda: db.put_many([writer.entity(entry) for entry in entries], return_errors=True)
    )
    if isinstance(results, list):
        for entry, result in zip(entries, results):
            settle(entry, result)


def put(writer):
    entry = writer.begin()
    result = interrupted(lambda: writer.put(entry))
    if result is not None:
        settle(entry, result)


def borrow(writer):
    def act():
        with db.cursor(writer.chance.choice(SHARDS)) as cursor:
            try:
                cursor.execute("SELECT 7")
            except psycopg2.Error:
                return
            assert cursor.fetchone()[0] == 7

    interrupted(act)


def borrow_by_hand(writer):
    connection = interrupted(lambda: db.get_connection(writer.chance.choice(SHARDS)))
    if isinstance(connection, psycopg2.extensions.connection):
        interrupted(lambda: db.put_connection(connection))


def get(writer):
    done = [entry for entry in journal[-200:] if entry[3] == "HV_OK" and entry[4]]
    if done:
        entry = writer.chance.choice(done)
        row = interrupted(lambda: db.get(Key(entry[4])))
        if row is not None and not isinstance(row, Exception):
            assert row["body"]["number"] == str(entry[1]), "another entity"


# ---- the program's own files ----


def descriptors():
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")}


def own_files(folder):
    """Files that are opened, written and closed all the time, so that descriptors' numbers are
    reused."""
    while not ended.is_set():
        for number in range(FILES):
            path = os.path.join(folder, str(number))
            content = f"{number}\n" * 100
            with open(path, "w") as file:
                file.write(content)
            with open(path) as file:
                assert file.read() == content, f"{path} has another's bytes in it"


def watched(function, *args):
    """A thread whose exception ends the program with an error."""

    def run():
        try:
            function(*args)
        except BaseException as error:
            print(f"wrong: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)

    return threading.Thread(target=run)


folder = tempfile.TemporaryDirectory()
before = descriptors()
db = Datastore(
    connections, pool_max=4, pool_block_timeout=2, operation_timeout=3, max_lifetime=0.05
)
threads = [watched(work, Writer(FIRST_WRITER + n)) for n in range(1, 4)]
threads.append(watched(own_files, folder.name))
threads.append(watched(lambda: (sys.stdin.read(), ended.set())))
for thread in threads:
    thread.start()
main_writer = Writer(FIRST_WRITER)
acts = [put, put, put_many, borrow, borrow_by_hand, get]
while not ended.is_set():
    main_writer.chance.choice(acts)(main_writer)
for thread in threads:
    thread.join()
# A connection whose loan was interrupted goes back when Python drops the last reference to it.
gc.collect()
wait_for(lambda: db.pool_stats()["lent"] == 0)
db.close()
gc.collect()
wait_for(lambda: descriptors().keys() - before.keys() <= set())
assert descriptors() == before, (before, descriptors())
assert threading.active_count() == 1, threading.enumerate()
folder.cleanup()
for entry in journal:
    print(*entry)
print("raised", raised)
