/*
 * fuzz_answers: whatever bytes a server answers with, each call of the library returns in time, and
 * reports nothing as done that the bytes do not confirm.
 *
 * The server is a thread that accepts a client's login and then sends a piece of the input for each
 * message that the client sends: pieces begin with their length in two bytes. When the input is
 * used up the connection is closed. The first byte of the input chooses the call, and whether the
 * first answer, which describes the database, comes from the input too.
 */
#include "fuzz.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hypervault.h"

#define TIMEOUT_MS  50
#define TOO_LONG_MS 10000
#define KEY         INT64_C(307821103844175873)

/* ---- the server ---- */

static char folder[] = "/tmp/fuzz-answers-XXXXXX";
static int listener;

typedef struct script {
    const uint8_t *data;
    size_t size;
    bool knows_database; /* the first answer is a valid one */
} script;

/* Authenticated; the parameters that a session needs; a key to cancel with; ready for query. */
static const char welcome[] = "R\0\0\0\x08\0\0\0\0"
                              "S\0\0\0\x19"
                              "client_encoding\0UTF8\0"
                              "S\0\0\0\x11"
                              "TimeZone\0UTC\0"
                              "S\0\0\0\x18"
                              "server_version\0"
                              "15.0\0"
                              "K\0\0\0\x0c\0\0\0\1\0\0\0\1"
                              "Z\0\0\0\5I";

/* No hypervault.layout, and hstore has the OIDs 16385 and 16390. */
static const char database[] = "T\0\0\0\x42\0\3"
                               "a\0\0\0\0\0\0\0\0\0\0\x10\0\1\xff\xff\xff\xff\0\0"
                               "b\0\0\0\0\0\0\0\0\0\0\x1a\0\4\xff\xff\xff\xff\0\0"
                               "c\0\0\0\0\0\0\0\0\0\0\x1a\0\4\xff\xff\xff\xff\0\0"
                               "D\0\0\0\x1d\0\3\0\0\0\1f\0\0\0\5"
                               "16385\0\0\0\5"
                               "16390"
                               "C\0\0\0\x0d"
                               "SELECT 1\0"
                               "Z\0\0\0\5I";

static bool send_all(int fd, const void *bytes, size_t size) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        size -= (size_t) sent;
    }
    return true;
}

/* The next piece of the input; false if there is none. */
static bool send_piece(int fd, script *s) {
    if (s->knows_database) {
        s->knows_database = false;
        return send_all(fd, database, sizeof database - 1);
    }
    if (s->size < 2)
        return false;
    size_t size = (size_t) s->data[0] << 8 | s->data[1];
    s->data += 2;
    s->size -= 2;
    if (size > s->size)
        size = s->size;
    bool sent = send_all(fd, s->data, size);
    s->data += size;
    s->size -= size;
    return sent;
}

/* Serve connections, each from where the previous one has left the input, until one sends the end
 * mark. */
static void *serve(void *context) {
    script *s = context;
    char taken[65536];
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        expect(fd >= 0);
        ssize_t got = recv(fd, taken, sizeof taken, 0);
        if (got == 3) { /* from LLVMFuzzerTestOneInput() */
            close(fd);
            return NULL;
        }
        bool open = got > 0 && send_all(fd, welcome, sizeof welcome - 1);
        while (open && recv(fd, taken, sizeof taken, 0) > 0)
            open = send_piece(fd, s);
        close(fd);
    }
}

static struct sockaddr_un address(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/.s.PGSQL.5432", folder);
    return at;
}

static void end_server(pthread_t thread) {
    struct sockaddr_un at = address();
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    expect(connect(fd, (struct sockaddr *) &at, sizeof at) == 0);
    expect(send(fd, "end", 3, MSG_NOSIGNAL) == 3);
    pthread_join(thread, NULL);
    close(fd);
}

static void remove_folder(void) {
    unlink(address().sun_path);
    rmdir(folder);
}

static void listen_once(void) {
    static bool is_done;
    if (is_done)
        return;
    is_done = true;
    expect(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    struct sockaddr_un at = address();
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    expect(bind(listener, (struct sockaddr *) &at, sizeof at) == 0);
    expect(listen(listener, 16) == 0);
}

/* ---- the client ---- */

static hv_store *open_store(bool once) {
    hv_store *store = NULL;
    hv_options *options = hv_options_new();
    char timeout[16];
    snprintf(timeout, sizeof timeout, "%dms", TIMEOUT_MS);
    expect(hv_options_set_server(options, "one", "shards", "12", NULL) == HV_OK);
    expect(hv_options_set_server(options, "one", "host", folder, NULL) == HV_OK);
    expect(hv_options_set_server(options, "one", "user", "x", NULL) == HV_OK);
    expect(hv_options_set_server(options, "one", "dbname", "x", NULL) == HV_OK);
    expect(hv_options_set_server(options, "one", "sslmode", "disable", NULL) == HV_OK);
    expect(hv_options_set_server(options, "one", "gssencmode", "disable", NULL) == HV_OK);
    expect(hv_options_set(options, "operation_timeout", timeout, NULL) == HV_OK);
    expect(hv_options_set(options, "pool_block_timeout", timeout, NULL) == HV_OK);
    expect(hv_options_set(options, "exactly_once", once ? "on" : "off", NULL) == HV_OK);
    expect(hv_open(options, &store, NULL) == HV_OK);
    hv_options_free(options);
    return store;
}

static void expect_key(hv_status status, int64_t key) {
    int shard = 0;
    if (status == HV_OK)
        expect(hv_key_unpack(key, 0, NULL, &shard, NULL, NULL) == HV_OK && shard == 12);
}

static void expect_entity(hv_status status, hv_entity *entity) {
    expect((status == HV_OK) == (entity != NULL));
    if (status == HV_OK)
        expect(hv_entity_key(entity) == KEY);
    hv_entity_free(entity);
}

static void get_many(hv_store *store) {
    const int64_t keys[2] = {KEY, KEY};
    hv_entity *entities[2] = {NULL};
    hv_status statuses[2];
    hv_error *errors[2] = {NULL};
    hv_get_many(store, keys, 2, entities, statuses, errors, NULL);
    for (int i = 0; i < 2; i++) {
        expect_entity(statuses[i], entities[i]);
        hv_error_free(errors[i]);
    }
}

static void put_many(hv_store *store) {
    const hv_new_entity entities[2] = {{.shard = 12, .kind = 1}, {.shard = 12, .kind = 2}};
    int64_t keys[2] = {0};
    hv_status statuses[2];
    hv_error *errors[2] = {NULL};
    hv_put_many(store, entities, 2, keys, statuses, errors, NULL);
    for (int i = 0; i < 2; i++) {
        expect_key(statuses[i], keys[i]);
        hv_error_free(errors[i]);
    }
}

static void scan(hv_store *store) {
    hv_scan *scan = NULL;
    if (hv_scan_open(store, 12, 0, 0, NULL, 0, &scan, NULL) != HV_OK)
        return;
    while (hv_scan_next(scan, NULL) == HV_OK)
        expect(hv_scan_dict(scan) != NULL);
    hv_scan_close(scan);
}

static void load(hv_store *store) {
    hv_load *load = NULL;
    if (hv_load_open(store, 0, "x", &load, NULL) != HV_OK)
        return;
    if (hv_load_add(load, 0, 12, 1, NULL, NULL) == HV_OK &&
        hv_load_send(load, 1, NULL, NULL) == HV_OK)
        hv_load_commit(load, hv_load_position(load) < INT64_MAX ? hv_load_position(load) + 1 : 1,
                       "note", NULL);
    hv_load_free(load);
}

static void look(hv_store *store) {
    hv_report *report = NULL;
    if (hv_inspect(store, 0, &report, NULL) == HV_OK)
        for (size_t i = 0; i < hv_report_shard_count(report); i++)
            expect(hv_report_shard_keys(report, i) <= HV_KEYS_STRICT);
    hv_report_free(report);
}

static void call(hv_store *store, int what) {
    hv_entity *entity = NULL;
    int64_t keys[3] = {0};
    hv_status status;
    switch (what) {
    case 0:
        status = hv_get(store, KEY, &entity, NULL);
        expect_entity(status, entity);
        break;
    case 1:
    case 2:
        status = hv_put(store, 12, 1, NULL, &keys[0], NULL);
        expect_key(status, keys[0]);
        break;
    case 3:
        hv_put_key(store, KEY, 1, NULL, NULL);
        break;
    case 4:
        status = hv_reserve(store, 12, 3, keys, NULL);
        for (int i = 0; i < 3; i++)
            expect_key(status, keys[i]);
        break;
    case 5:
        get_many(store);
        break;
    case 6:
        put_many(store);
        break;
    case 7:
        scan(store);
        break;
    case 8:
        load(store);
        break;
    case 9:
        look(store);
        break;
    default:
        hv_create_shards(store, 0, NULL, NULL, NULL, NULL);
        break;
    }
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    listen_once();
    script s = {data + 1, size - 1, (data[0] & 0x80) == 0};
    pthread_t thread;
    expect(pthread_create(&thread, NULL, serve, &s) == 0);
    int what = data[0] & 0x0F;
    hv_store *store = open_store(what == 2);
    int64_t started = now_ms();
    call(store, what);
    expect(now_ms() - started < TOO_LONG_MS);
    hv_close(store, 0, NULL);
    end_server(thread);
    return 0;
}
