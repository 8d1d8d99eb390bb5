/*
 * hypervault.h: the whole public interface of libhypervault, and its reference manual.
 *
 * hypervault spreads entities over logical shards (PostgreSQL schemas) on a few servers. An entity
 * is a 64-bit key, a kind (a smallint) and a dict of attributes (text to text or NULL, stored as
 * hstore). The key says in which shard the entity lives and when it was made, so a key alone is
 * enough to find its row.
 *
 * Before you start, five things that hold everywhere:
 *
 *  - Every call that can fail returns an hv_status and takes an `hv_error **` last. HV_OK is 0.
 *    Pass NULL if you do not want the error's text. Otherwise point it at a variable that is NULL;
 *    on failure it then holds an error that you free with hv_error_free(). HV_NOT_FOUND and
 *    HV_CHANGED are answers, not failures: they come without an error object.
 *  - Text is UTF-8. Bytes are a pointer and a length; HV_STRLEN as the length means "up to the
 *    NUL". PostgreSQL's text cannot hold a NUL byte, and neither can an attribute.
 *  - Functions that take `const` objects do not keep the pointers; what they return as `const`
 *    belongs to the object it came from and lives until that object is changed or freed.
 *  - `*_free(NULL)` is allowed. Output arguments are untouched on failure, unless said otherwise.
 *  - An hv_store may be used by any number of threads at once, every other object by one thread at
 *    a time. The library starts no threads, prints nothing, never exits, and never puts a password
 *    into an error or a log event.
 *
 * Points in time are milliseconds since 1970-01-01T00:00:00Z, durations are milliseconds, both
 * int64_t, unless a name ends in _us (microseconds).
 */
#ifndef HYPERVAULT_H
#define HYPERVAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HV_API __attribute__((visibility("default")))
#else
#define HV_API
#endif

/* libpq's connection and result, the only ones of its types that appear here: `PGconn` and
 * `PGresult` are these structs. */
struct pg_conn;
struct pg_result;

/* A length that means: the bytes end at the first NUL. */
#define HV_STRLEN ((size_t) -1)

/* The library's version, for example "0.2.0". Static; never NULL. */
HV_API const char *hv_version(void);

/* ---- Status and errors ----------------------------------------------------------------------- */

/* The outcome of a call. Values are part of the ABI: new ones are only ever added at the end. */
typedef enum hv_status {
    HV_OK = 0,
    HV_NOT_FOUND = 1,   /* no entity has this key; no error object */
    HV_INVALID = 2,     /* an argument is wrong, or cannot be applied; nothing was changed */
    HV_BAD_CONFIG = 3,  /* an option or the configuration file is wrong */
    HV_NO_SERVER = 4,   /* no server of the store holds this shard */
    HV_TIMEOUT = 5,     /* a deadline passed, or the call was interrupted; nothing was written */
    HV_UNAVAILABLE = 6, /* the server cannot be reached or refuses the login; nothing was written */
    /* the connection was lost during a write, which may or may not have happened */
    HV_OUTCOME_UNKNOWN = 7,
    HV_REFUSED = 8, /* the server answered with an error: see hv_error_sqlstate() */
    /* the shard's schema or table is missing on its server: run `hv init` */
    HV_NOT_INITIALIZED = 9,
    HV_MISMATCH = 10,   /* the database has another epoch, newer layout or another server's name */
    HV_CORRUPT = 11,    /* the server's answer does not fit the question */
    HV_CLOSED = 12,     /* the store was closed */
    HV_BUSY = 13,       /* connections are still lent */
    HV_NO_MEMORY = 14,  /* out of memory */
    HV_CONFLICT = 15,   /* the key has another entity already */
    HV_NOT_STORED = 16, /* a trigger or a rule kept the row from being stored or changed */
    HV_CHANGED = 17,    /* the entity does not meet the condition; no change, and no error object */
    HV_MOVED = 18, /* the shard has moved to another server: begin again; nothing was written */
} hv_status;

/* The status's name, for example "HV_TIMEOUT". Static; never NULL; "HV_?" for an unknown one. */
HV_API const char *hv_status_name(hv_status status);

/*
 * The reason why a call failed. Immutable; owned by the caller that received it. The texts follow
 * PostgreSQL's style: the message is short and factual, the detail says more, the hint says what to
 * do.
 */
typedef struct hv_error hv_error;

HV_API void hv_error_free(hv_error *error);

HV_API hv_status hv_error_status(const hv_error *error);
/* Never NULL. */
HV_API const char *hv_error_message(const hv_error *error);
/* NULL if there is none. */
HV_API const char *hv_error_detail(const hv_error *error);
/* NULL if there is none. */
HV_API const char *hv_error_hint(const hv_error *error);
/* The server's five-character SQLSTATE, or NULL if the error did not come from a server. */
HV_API const char *hv_error_sqlstate(const hv_error *error);
/* The name of the violated constraint, as the server reports it, or NULL. */
HV_API const char *hv_error_constraint(const hv_error *error);
/* The name of the server concerned, or NULL. */
HV_API const char *hv_error_server(const hv_error *error);
/* The shard concerned, or -1. */
HV_API int hv_error_shard(const hv_error *error);
/* True if nothing was written and the same call may succeed when repeated later. */
HV_API bool hv_error_retriable(const hv_error *error);
/* True if a write may or may not have happened. Then hv_error_retriable() is false. */
HV_API bool hv_error_outcome_unknown(const hv_error *error);

/* ---- Keys ------------------------------------------------------------------------------------ */

/*
 * A key is a positive int64_t, laid out as in "Sharding & IDs at Instagram" (2012):
 *
 *     bit 63..23  created   milliseconds since the store's epoch
 *     bit 22..10  shard     0..8191
 *     bit  9..0   added_id  0..1023, distinguishes keys of one shard and millisecond
 *
 * Keys sort by time. Because bit 63 is the sign, 40 bits of time can be used: with the default
 * epoch, keys last until 2048-07-20T16:59:19.1Z.
 */

/* 2013-09-16T21:05:31.352Z, the epoch of a store unless its option `epoch` says otherwise. */
#define HV_DEFAULT_EPOCH INT64_C(1379365531352)
#define HV_SHARDS        8192
#define HV_ADDED_IDS     1024

/*
 * Take a key apart. `epoch` is the epoch of the store that the key is from. Any of the output
 * pointers may be NULL. Errors: HV_INVALID if the key is not positive.
 */
HV_API hv_status hv_key_unpack(int64_t key, int64_t epoch, int64_t *created, int *shard,
                               int *added_id, hv_error **error);

/*
 * Put a key together. Errors: HV_INVALID if `created` lies before the epoch or after the last
 * moment that a key can hold, if a field is out of its range, or if all are zero (0 is no key).
 */
HV_API hv_status hv_key_pack(int64_t created, int shard, int added_id, int64_t epoch, int64_t *key,
                             hv_error **error);

/*
 * The bound for scanning by time: entities created at or after `created` are those with
 * id >= *bound, those created before it have id < *bound, in every shard. A moment at or before the
 * epoch gives 0. Errors: HV_INVALID after the last moment that a key can hold.
 */
HV_API hv_status hv_key_bound(int64_t created, int64_t epoch, int64_t *bound, hv_error **error);

/* ---- Dicts ----------------------------------------------------------------------------------- */

/*
 * A dict of attributes: distinct keys, each with a value or NULL, all of it UTF-8 without NUL
 * bytes. Keys and values may be empty. The order is unspecified, as in hstore. Setting a key again
 * replaces its value.
 */
typedef struct hv_dict hv_dict;

/* An empty dict, or NULL if memory is short. */
HV_API hv_dict *hv_dict_new(void);
HV_API void hv_dict_free(hv_dict *dict);

/*
 * Set an attribute from NUL-terminated strings; `value` NULL sets NULL. Both are copied.
 * Errors: HV_INVALID for text that is not UTF-8 or longer than hstore allows, HV_NO_MEMORY; the
 * dict is then as it was.
 */
HV_API hv_status hv_dict_set(hv_dict *dict, const char *key, const char *value, hv_error **error);

/* The same from bytes. Errors: also HV_INVALID for a NUL byte. */
HV_API hv_status hv_dict_set_bytes(hv_dict *dict, const char *key, size_t key_len,
                                   const char *value, size_t value_len, hv_error **error);

/* The number of attributes. */
HV_API size_t hv_dict_count(const hv_dict *dict);

/*
 * Look an attribute up. Returns false if there is none. *value is NULL for the value NULL;
 * otherwise it ends with a NUL byte that *value_len does not count. `value_len` may be NULL.
 */
HV_API bool hv_dict_get(const hv_dict *dict, const char *key, size_t key_len, const char **value,
                        size_t *value_len);

/*
 * The attribute at position `index`, 0 .. count-1: for walking over all. Returns false past the
 * end. Positions hold until the dict is changed. Length pointers may be NULL.
 */
HV_API bool hv_dict_at(const hv_dict *dict, size_t index, const char **key, size_t *key_len,
                       const char **value, size_t *value_len);

/* Do both have the same attributes with the same values? */
HV_API bool hv_dict_equal(const hv_dict *left, const hv_dict *right);

/*
 * Read hstore's text form, `"k"=>"v", "n"=>NULL`, as the server does (quoting is optional for plain
 * words, a backslash takes the next character as it is), except that the last value of a key given
 * twice wins. Errors: HV_INVALID with the position in bytes, HV_NO_MEMORY.
 */
HV_API hv_status hv_dict_parse(const char *text, size_t text_len, hv_dict **dict, hv_error **error);

/*
 * Write hstore's text form, attributes ordered as the server orders them. NUL-terminated; `*text`
 * belongs to the caller, which releases it with free(). Errors: HV_NO_MEMORY.
 */
HV_API hv_status hv_dict_text(const hv_dict *dict, char **text, hv_error **error);

/*
 * Write hstore's binary form, as the server takes it in binary parameters and COPY. `*bytes`
 * belongs to the caller, which releases it with free(). Errors: HV_NO_MEMORY.
 */
HV_API hv_status hv_dict_binary(const hv_dict *dict, char **bytes, size_t *len, hv_error **error);

/* ---- Options --------------------------------------------------------------------------------- */

/*
 * The configuration of a store: options by name, and servers. A server has a name, the parameters
 * that libpq's connection functions take ("host", "port", "user", "password", "dbname" or
 * "database", "service", "sslmode", …) and "shards", the logical shards that it holds: half-open
 * ranges and single shards, so "1-5,9" is 1, 2, 3, 4 and 9. For a parameter that is not given,
 * libpq looks in the usual places: environment, service file, .pgpass.
 */
typedef struct hv_options hv_options;

/* Options with their default values and no servers, or NULL if memory is short. */
HV_API hv_options *hv_options_new(void);
HV_API void hv_options_free(hv_options *options);

/*
 * Set an option from text. Durations take a unit (ms, s, min, h, d); without one they are
 * seconds. Errors: HV_BAD_CONFIG, naming the nearest known option, or the range allowed.
 */
HV_API hv_status hv_options_set(hv_options *options, const char *name, const char *value,
                                hv_error **error);

/* An option's current value as text, a boolean as "on" or "off", or NULL if there is no such
 * option. Valid until it is set. */
HV_API const char *hv_options_get(const hv_options *options, const char *name);

/*
 * Add a server. For a program that reads servers from a list: two entries with the same name are
 * an error here, not one server. Errors: HV_BAD_CONFIG if there is a server of this name already;
 * the message gives the numbers of both, from 1. HV_NO_MEMORY.
 */
HV_API hv_status hv_options_add_server(hv_options *options, const char *server, hv_error **error);

/*
 * Set a parameter of a server; the first one adds the server. "shards" may be set more than once
 * and adds up. A server may have no shards, or "", while it is being prepared, as long as another
 * server has some. "shards" may be "auto" instead: then the store asks all servers which shards
 * they hold, when it is opened and when a shard is used that has no server; see docs/config.md.
 * "move_host" and the like say how the other servers reach this one: see there, too.
 *
 * Errors: HV_BAD_CONFIG for a parameter that libpq does not know, for a value that holds a
 * connection string or another setting `password`, for malformed "shards" and for a shard that
 * another server already has.
 */
HV_API hv_status hv_options_set_server(hv_options *options, const char *server,
                                       const char *parameter, const char *value, hv_error **error);

/*
 * Read a configuration file: an INI file with the options in [hypervault] and each server in
 * [server NAME]. With `path` NULL the first of these that exists is read: $HYPERVAULT_CONFIG,
 * ./hypervault.conf, $XDG_CONFIG_HOME/hypervault/hypervault.conf (~/.config without that variable),
 * /etc/hypervault/hypervault.conf. If `found` is not NULL, *found is set to the path of the file,
 * on failure too, or to NULL if there is none in these places; free() it. Errors: HV_BAD_CONFIG
 * with file and line, or because others can write to the file, can read a password in it, or own it
 * (docs/config.md); the options are then in an unspecified state and good only for
 * hv_options_free().
 */
HV_API hv_status hv_options_load(hv_options *options, const char *path, char **found,
                                 hv_error **error);

/* The table of options, for help texts and completion: false past the end. All texts are static. */
typedef struct hv_option_info {
    const char *name;
    const char *type;          /* "integer", "duration", "boolean", "choice", "shards" */
    const char *default_value; /* as hv_options_set() takes it */
    const char *range;         /* human-readable: "1 to 1000" */
    const char *help;          /* one sentence */
} hv_option_info;
HV_API bool hv_option_at(size_t index, hv_option_info *info);

/*
 * A log event: one statement that ran, its server, its shard, how long it took and its outcome.
 * Operations of several threads may have shared the statement (see the option `lanes`). The event
 * and what its accessors return live only during the call.
 */
typedef struct hv_log_event hv_log_event;
HV_API const char *hv_log_statement(const hv_log_event *event);
HV_API const char *hv_log_server(const hv_log_event *event);
HV_API int hv_log_shard(const hv_log_event *event); /* -1: none in particular */
HV_API int64_t hv_log_duration_us(const hv_log_event *event);
HV_API hv_status hv_log_status(const hv_log_event *event);
HV_API const char *hv_log_sqlstate(const hv_log_event *event); /* NULL: none */
/*
 * The statement's parameters, as readable text (a dict in hstore's text form). Their number is 0
 * unless the option `log_parameters` is on.
 */
HV_API size_t hv_log_parameter_count(const hv_log_event *event);
HV_API const char *hv_log_parameter(const hv_log_event *event, size_t index); /* NULL: NULL */

/*
 * Called after each statement that the library ran, by the thread that ran it, possibly by many
 * threads at once, never with a lock held. It must not use the store.
 *
 * It is also called once when the store learns that a shard has moved: with the status HV_MOVED,
 * the name of the server that has the shard now, and a comment of SQL as the statement; and with
 * HV_MISMATCH when it learns that two servers claim a shard.
 */
typedef void (*hv_log_fn)(void *context, const hv_log_event *event);
HV_API void hv_options_set_log(hv_options *options, hv_log_fn log, void *context);

/*
 * An interrupt hook is for programs whose signal handlers only set a flag, as those of Python do:
 * it returns whether the thread that calls it should give up. It must not use the store.
 *
 * A thread that waits inside the library, for a connection, a lane or a server's answer, calls it
 * when a signal has interrupted its sleep, and otherwise every 250 ms, never with a lock held. Once
 * it returns true, the operation ends as if its deadline had passed at that moment: with HV_TIMEOUT
 * and nothing written, or with HV_OUTCOME_UNKNOWN; the error's message says "interrupted", and the
 * next operation starts afresh. The streams take no more items; hv_close() returns HV_BUSY.
 *
 * A thread that runs a batch of several threads' operations (see the option `lanes`) goes on while
 * the others wait for it, at most for operation_timeout, so that their outcome does not become
 * unknown. Four things are not interrupted: the look-up of a host's name, a user-supplied connector
 * without steps, hv_release(), which waits for 5 s at most, and hv_queue_advance(), which returns
 * on a signal anyway.
 *
 * NULL, the default: nothing is called, and no thread wakes up for it.
 */
typedef bool (*hv_interrupt_fn)(void *context);
HV_API void hv_options_set_interrupt(hv_options *options, hv_interrupt_fn interrupt, void *context);

/*
 * A connector opens the connections that the store's pools lend, and closes them. The default one
 * uses libpq. Another driver that sits on libpq (psycopg2) brings its own, so that the store's own
 * statements and the driver's objects share one pool.
 *
 * connect: open a connection with the libpq parameters given (two NULL-terminated arrays) within
 * `timeout` milliseconds. On success set *conn, and *handle to the value that
 * hv_connection_handle() is to return for it (may be NULL). On failure return HV_UNAVAILABLE,
 * HV_TIMEOUT or HV_NO_MEMORY, with the reason in `message` (`message_size` bytes, NUL-terminated)
 * and the server's SQLSTATE in `sqlstate`, or "" if it sent none or it is not known. disconnect:
 * close the connection and release the handle; conn belongs to the connector. All are called by
 * any thread, without a lock held. Where a server has several hosts, connect_timeout is among the
 * parameters, and short enough for a second host to be tried if the first is silent. The parameters
 * are lent for the call: a connector that goes on afterwards needs copies.
 *
 * start, finish and give_up do the same in steps, for a connector that need not block its caller;
 * then connect is not used and may be NULL. Without them, a queue (hv_queue) blocks while a
 * connection is opened. start: begin to open a connection; set *attempt to a pointer to be passed
 * to finish and give_up, and *fd to a descriptor that becomes readable when the attempt has
 * succeeded or failed; otherwise as connect. finish: return the result, as connect does. give_up:
 * the attempt takes too long; discard its result. Either of the two ends the attempt, and may close
 * the descriptor.
 */
typedef struct hv_connector {
    hv_status (*connect)(void *context, const char *const *keywords, const char *const *values,
                         int64_t timeout, struct pg_conn **conn, void **handle, char *message,
                         size_t message_size, char sqlstate[6]);
    void (*disconnect)(void *context, struct pg_conn *conn, void *handle);
    void *context;
    hv_status (*start)(void *context, const char *const *keywords, const char *const *values,
                       int64_t timeout, void **attempt, int *fd, char *message, size_t message_size,
                       char sqlstate[6]);
    hv_status (*finish)(void *context, void *attempt, struct pg_conn **conn, void **handle,
                        char *message, size_t message_size, char sqlstate[6]);
    void (*give_up)(void *context, void *attempt);
} hv_connector;

/*
 * Connect as the default connector does, for connectors that add something to it. Close the
 * connection with PQfinish(). Like PQconnectdb() it observes connect_timeout and goes on to the
 * next host, and no host uses up the time of those after it. The arguments are those of
 * hv_connector's connect.
 */
HV_API hv_status hv_connect(const char *const *keywords, const char *const *values, int64_t timeout,
                            struct pg_conn **conn, char *message, size_t message_size,
                            char sqlstate[6]);

/* The struct is copied; its context must outlive the store. NULL restores the default. */
HV_API void hv_options_set_connector(hv_options *options, const hv_connector *connector);

/* ---- Stores ---------------------------------------------------------------------------------- */

typedef struct hv_store hv_store;

/*
 * Open a store. The options are checked and copied: they can be freed at once. `options` NULL means
 * the configuration file that hv_options_load() finds with a `path` of NULL. Connections are opened
 * when first needed, unless the option `check_servers` is on: then the store connects to each
 * server and checks it now. Errors: HV_BAD_CONFIG, also if no server holds a shard that the option
 * `spread` names; HV_NO_MEMORY; with `check_servers` also HV_UNAVAILABLE, HV_TIMEOUT, HV_MISMATCH,
 * HV_NOT_INITIALIZED.
 */
HV_API hv_status hv_open(const hv_options *options, hv_store **store, hv_error **error);

/*
 * Close a store and free it. From the moment of the call, new operations and those that wait for a
 * connection fail with HV_CLOSED. The call then waits up to `timeout` milliseconds (0: not at all,
 * -1: forever) for lent connections and running operations. If some remain, it returns HV_BUSY and
 * the store stays closed for new work; call it again when they are done. After HV_OK no thread may
 * use `store` in any way. hv_close(NULL) is allowed.
 */
HV_API hv_status hv_close(hv_store *store, int64_t timeout, hv_error **error);

/*
 * The first half of hv_close(): new operations and those that wait for a connection fail with
 * HV_CLOSED, and idle connections are closed. The store remains, for hv_release() and hv_close().
 * For a program that must stop all of its threads before one of them can free the store. NULL is
 * allowed.
 */
HV_API void hv_stop(hv_store *store);

/*
 * Close every idle connection now, and every lent one when it is returned. The store goes on: the
 * next operation opens new ones.
 */
HV_API void hv_disconnect(hv_store *store);

/*
 * Reset every pool: as hv_disconnect(), and also reset the statistics and forget which servers
 * could not be reached. For use after a change of address or a fork.
 */
HV_API void hv_reinstantiate(hv_store *store);

/*
 * Fork: a child process automatically opens its own connections and leaves its parent's alone. A
 * connection that was lent at the fork cannot be used in the child: it may only be passed to
 * hv_release() or hv_discard() there, which forget it without sending anything to the server.
 */

/*
 * Store an entity in a shard and return its new key. `kind` is a smallint, -32768..32767. `dict`
 * NULL means no attributes. The key is set only after the server has confirmed the commit.
 *
 * Puts and gets of several threads may share a connection and a transaction (see the option
 * `lanes`); each has its own result, error and deadline all the same.
 *
 * Errors: HV_INVALID, HV_NO_SERVER, HV_TIMEOUT (no connection came free within pool_block_timeout),
 * HV_UNAVAILABLE, HV_NOT_INITIALIZED, HV_MISMATCH, HV_REFUSED, HV_NO_MEMORY: nothing was stored.
 * HV_OUTCOME_UNKNOWN: the connection broke, or operation_timeout passed, after the statement was
 * sent and before the answer came: the entity may or may not be there.
 * HV_CORRUPT: either the shard's next_id() makes keys of another shard, and the entity was stored
 * under a key that does not lead to it (the key is in the error's detail); or the answer does not
 * fit this put, and the entity may or may not be there.
 * HV_NOT_STORED: the server reported no failure, but the row is not there: a BEFORE INSERT trigger
 * took it away, or the table has a rule that does something instead. HV_OK is returned only for a
 * row that the server reports as stored, and the key is that of the row as it was stored.
 *
 * With the option `exactly_once` the entity is stored under a key that was reserved for it, and the
 * put is repeated after a lost connection or a server's restart until operation_timeout has passed:
 * after HV_OK there is one entity, never two, and HV_OUTCOME_UNKNOWN is returned only if the server
 * does not come back in time.
 */
HV_API hv_status hv_put(hv_store *store, int shard, int kind, const hv_dict *dict, int64_t *key,
                        hv_error **error);

/*
 * Reserve `count` unused keys of a shard, 1 to 100,000, in one round trip. `keys` has room for
 * them; they come in ascending order and are never given out again, whether used or not. A
 * key's time is that of its reservation. Errors: as hv_put(), never HV_OUTCOME_UNKNOWN;
 * HV_NOT_INITIALIZED also for a shard that was made by the original implementation and has no
 * function for it.
 */
HV_API hv_status hv_reserve(hv_store *store, int shard, int count, int64_t *keys, hv_error **error);

/*
 * Store an entity under a key from hv_reserve(). The shard is the key's. Repeating the call is
 * safe: if the key has an entity of the same kind and attributes, that is HV_OK; if it has another,
 * or one that this role may not see, nothing is changed and the status is HV_CONFLICT.
 * HV_NOT_STORED also for a trigger that changes the key: nothing is stored then.
 * Errors: as hv_put(). After HV_OUTCOME_UNKNOWN, call it again with the same arguments.
 */
HV_API hv_status hv_put_key(hv_store *store, int64_t key, int kind, const hv_dict *dict,
                            hv_error **error);

/* An entity as hv_get() returned it. Immutable. */
typedef struct hv_entity hv_entity;

/*
 * Fetch an entity. HV_NOT_FOUND if its shard has none with this key. A connection that breaks on
 * the way is replaced once, silently. The entity belongs to the caller.
 * Errors: as hv_put(), HV_CORRUPT; never HV_OUTCOME_UNKNOWN.
 */
HV_API hv_status hv_get(hv_store *store, int64_t key, hv_entity **entity, hv_error **error);

/*
 * Is there an entity with this key? HV_OK: there is; HV_NOT_FOUND: there is none. It is cheaper
 * than hv_get(), since the attributes are not read. Errors: as hv_get().
 */
HV_API hv_status hv_exists(hv_store *store, int64_t key, hv_error **error);

/*
 * Fetch an entity with its version, and with chosen attributes only, for entities that have many or
 * large ones. `names` is a NULL-terminated array, or NULL for all attributes; one that the entity
 * does not have is left out. Otherwise as hv_get(), which is a little quicker.
 */
HV_API hv_status hv_get_only(hv_store *store, int64_t key, const char *const *names,
                             hv_entity **entity, hv_error **error);

HV_API void hv_entity_free(hv_entity *entity);
HV_API int64_t hv_entity_key(const hv_entity *entity);
HV_API int hv_entity_kind(const hv_entity *entity);
/* Never NULL; lives as long as the entity. */
HV_API const hv_dict *hv_entity_dict(const hv_entity *entity);

/*
 * The entity's version: a short text without spaces that differs after every change of the entity.
 * Lives as long as the entity. NULL for an entity of hv_get(), hv_get_many() and their like, which
 * do not fetch it; hv_get_only() and its like do, and the functions that change entities.
 *
 * Two readings of an entity that nobody has changed in between have the same version, unless its
 * table was rewritten (VACUUM FULL, CLUSTER, some ALTER TABLE), restored from a dump or moved: then
 * it may have another. So a condition on a version may find a change where there was none, but
 * misses none, with one exception: the version is made of the number of the transaction that wrote
 * the row (xmin) and the row's place in the table (ctid), and these numbers begin anew after 2^32
 * transactions. A version that is that old, or that comes from the entity's former server or from
 * before a restore, may fit by chance.
 */
HV_API const char *hv_entity_version(const hv_entity *entity);

/* ---- Changing entities ----------------------------------------------------------------------- */

/*
 * The condition of a change: everything in it must hold. The server checks it in the statement that
 * makes the change, so nobody can come between. A condition may be used for any number of changes.
 */
typedef struct hv_condition hv_condition;

/* A condition that always holds, or NULL if memory is short. */
HV_API hv_condition *hv_condition_new(void);
HV_API void hv_condition_free(hv_condition *condition);

/*
 * Add to a condition: the entity has these attributes with these values (NULL is a value: the
 * attribute is there and NULL); it does not have this attribute (`name_len` may be HV_STRLEN); it
 * is of this kind; it still has the version that hv_entity_version() returned.
 *
 * Errors: HV_INVALID if it contradicts the rest of the condition, for a kind that is out of range
 * and for text that is no version; HV_NO_MEMORY. The condition is then as it was.
 */
HV_API hv_status hv_condition_has(hv_condition *condition, const hv_dict *attributes,
                                  hv_error **error);
HV_API hv_status hv_condition_lacks(hv_condition *condition, const char *name, size_t name_len,
                                    hv_error **error);
HV_API hv_status hv_condition_kind(hv_condition *condition, int kind, hv_error **error);
HV_API hv_status hv_condition_version(hv_condition *condition, const char *version,
                                      hv_error **error);

/*
 * All changes have this in common. They change an entity that is there, and never make one:
 * HV_NOT_FOUND if there is none. With a `condition` (NULL: none) that does not hold, nothing is
 * changed and the status is HV_CHANGED; *present (may be NULL) is then the entity as it is, which
 * belongs to the caller, and otherwise NULL.
 *
 * HV_OK is returned only after the server has confirmed the commit. A lost connection: each
 * function says whether the change is then repeated, once, on another connection, or with the
 * option `exactly_once` until operation_timeout has passed; but not if other operations on the same
 * key were sent together with it. HV_OUTCOME_UNKNOWN: a try may have changed the entity, and no
 * later one was confirmed. If a change with a condition was repeated and finds that the condition
 * does not hold, or no entity, the reason may be its own first try: that is HV_OUTCOME_UNKNOWN too.
 *
 * What is repeated is done to the entity as it is then. If the first try was made, and another
 * caller has changed the entity since, or has put one under the key of one that was deleted, that
 * is overwritten or deleted. The same may happen if the server receives a lost first try late.
 * Where others may come between, use a condition on a version: no second try can meet it.
 *
 * HV_NOT_STORED: a trigger, a rule or a policy of the table kept the row as it was.
 * Other errors: as hv_put(); HV_INVALID also for a version of another key.
 */

/* Replace an entity's kind and all of its attributes (NULL: none). Repeated after a lost
 * connection. */
HV_API hv_status hv_replace(hv_store *store, int64_t key, int kind, const hv_dict *dict,
                            const hv_condition *condition, hv_entity **present, hv_error **error);

/*
 * Set the attributes in `set`, remove those named in `remove` (a NULL-terminated array), and leave
 * all others as they are; either may be NULL. Only these are sent. Repeated after a lost
 * connection. Errors: HV_INVALID if there is nothing to set or remove, or for an attribute in both.
 */
HV_API hv_status hv_merge(hv_store *store, int64_t key, const hv_dict *set,
                          const char *const *remove, const hv_condition *condition,
                          hv_entity **present, hv_error **error);

/*
 * Add `amount`, such as "1" or "-0.25", to an attribute that holds an integer or a decimal number;
 * one that is missing or NULL counts as 0. The sum is exact: integers stay integers, and decimals
 * keep the places that they have ("1.50" and "0.5" make "2.00"). On HV_OK *entity (may be NULL) is
 * the entity with this one attribute, which has its new value; with HV_CHANGED all of it.
 *
 * Not repeated after a lost connection, since it may then be added twice, unless the condition is
 * on a version. HV_OUTCOME_UNKNOWN also if memory is short for the result. Errors: HV_INVALID if
 * the amount or the attribute's value is not such a number, or if one of them or the sum has more
 * than 100 characters.
 */
HV_API hv_status hv_increment(hv_store *store, int64_t key, const char *attribute,
                              const char *amount, const hv_condition *condition, hv_entity **entity,
                              hv_error **error);

/* Delete an entity. Repeated after a lost connection; if the second try finds no entity, that is
 * HV_OK without a condition, since the first one may have deleted it. */
HV_API hv_status hv_delete(hv_store *store, int64_t key, const hv_condition *condition,
                           hv_entity **present, hv_error **error);

/* ---- Transactions ---------------------------------------------------------------------------- */

/*
 * A transaction: several operations on entities of one shard, and SQL of the caller's own, on one
 * connection, all of it or nothing. It is used by one thread at a time, and holds a connection of
 * the server's pool until it ends.
 *
 * Its operations are the functions below, not those of the store, which know nothing of it: they
 * use other connections, and may wait for its locks until their time is over. One transaction is in
 * one shard: for a key of another one, HV_INVALID.
 *
 * An operation that fails (with any status but HV_OK, HV_NOT_FOUND and HV_CHANGED) dooms the
 * transaction: it cannot be committed any more, and later operations fail at once, with the status
 * of that first failure. None is repeated by itself. Until the transaction has been committed
 * nothing is written, so HV_OUTCOME_UNKNOWN comes from its end alone.
 *
 * After fork() a transaction belongs to the parent: in the child it can only be ended, which sends
 * nothing there. An open one counts as a running operation for hv_close(); after hv_stop() it may
 * go on and be committed, but not begin again.
 */
typedef struct hv_tx hv_tx;

/* As in PostgreSQL. The role's default settings do not matter. */
typedef enum hv_isolation {
    HV_READ_COMMITTED = 0,
    HV_REPEATABLE_READ = 1,
    HV_SERIALIZABLE = 2,
} hv_isolation;

/* The work of a transaction: HV_OK commits it, any other status rolls it back. It may set *error,
 * which is never NULL, as a function of the library does. */
typedef hv_status (*hv_transaction_fn)(hv_tx *tx, void *context, hv_error **error);

/* How often hv_transaction() calls its function at most. */
#define HV_TRANSACTION_CALLS 100

/*
 * Run `work` in a transaction and commit it, within `timeout` milliseconds altogether (0: the
 * option operation_timeout). If it fails for a reason that may pass, it is rolled back and begun
 * again, after a pause that grows to a tenth of a second: so `work` is called at least once and at
 * most HV_TRANSACTION_CALLS times, unless no transaction can be begun, and what it does elsewhere
 * must bear repetition. It should not hold what it reads for longer than a call.
 *
 * Begun again after: a serialization failure or a deadlock (SQLSTATE class 40), in `work` or at
 * COMMIT; a connection lost before COMMIT was sent; a made key that has an entity already (see
 * docs/operations.md); statements that were prepared for a table or type that has changed; and a
 * shard that has moved to another server, where the transaction is begun then, without a pause. It
 * does not matter what `work` returns then. When the time or the calls are used up, the last of
 * these is the error. That no connection can be had is reported at once, but after one was lost it
 * is waited out.
 *
 * HV_OK: `work` returned it, and the server has confirmed the commit. If `work` returns another
 * status though no operation has failed, the transaction is rolled back, and that is the result,
 * with the error that `work` has set; none is needed for HV_NOT_FOUND and HV_CHANGED. At
 * HV_SERIALIZABLE, what was read counts only once it is committed, even if nothing was changed: let
 * `work` return HV_OK if the answer matters.
 *
 * Errors: HV_OUTCOME_UNKNOWN if the answer to COMMIT is lost or late, or if a statement of the
 * caller's own has ended the transaction; all others mean that nothing was written. HV_INVALID if
 * `work` returns HV_OK though an operation has failed, within `work` of another transaction of the
 * same store and thread, and for a timeout below 0; and as hv_put(), with the errors of the
 * operations.
 */
HV_API hv_status hv_transaction(hv_store *store, int shard, hv_isolation isolation, int64_t timeout,
                                hv_transaction_fn work, void *context, hv_error **error);

/*
 * The same in steps, for callers that cannot pass a function. Nothing is begun again by itself: if
 * hv_error_retriable(), the caller may do so. hv_commit() and hv_rollback() free the transaction,
 * whatever the status is; hv_rollback(NULL) is allowed. Errors: as hv_transaction(). If an
 * operation has failed for a reason that may pass, that is also the error of hv_commit(). If the
 * shard has moved, the operation that does not find it fails with HV_MOVED; the next hv_begin() is
 * on the server that has it.
 */
HV_API hv_status hv_begin(hv_store *store, int shard, hv_isolation isolation, int64_t timeout,
                          hv_tx **tx, hv_error **error);
HV_API hv_status hv_commit(hv_tx *tx, hv_error **error);
HV_API void hv_rollback(hv_tx *tx);

/* The number of this call of `work`, from 1. */
HV_API int hv_tx_call(const hv_tx *tx);

/*
 * The transaction's connection, for SQL of the caller's own; see hv_acquire() for its settings and
 * what to undo. Do not end the transaction with it: that is noticed only if no other one has begun
 * (COMMIT AND CHAIN). Do not change the client encoding, and leave the connection at rest: no COPY,
 * pipeline or query in progress. Time limits do not apply to these statements, only to those of the
 * library. It is not lent: do not pass it to hv_release(). It may be used while the transaction
 * exists. NULL in a forked child.
 */
HV_API struct pg_conn *hv_tx_connection(hv_tx *tx);

/*
 * Check the result of a statement of the caller's own (NULL: there is none). HV_OK, or it has
 * failed and the transaction is doomed: HV_REFUSED with the server's error, HV_UNAVAILABLE for a
 * lost connection, HV_MOVED if it has failed because the shard has moved, HV_NO_MEMORY. Without
 * this call the transaction does not know the reason, nor whether it may begin again. Not for a
 * statement whose failure is undone with a savepoint. The result remains the caller's.
 */
HV_API hv_status hv_tx_check(hv_tx *tx, const struct pg_result *result, hv_error **error);

/*
 * The same for a caller whose driver has reported a failure with a SQLSTATE (NULL: none) and a
 * message: returns its status, never HV_OK.
 */
HV_API hv_status hv_tx_failed(hv_tx *tx, const char *sqlstate, const char *message,
                              hv_error **error);

/*
 * As the functions of a store. `shard` must be the transaction's. The option exactly_once changes
 * nothing here. Increments are safe: the whole transaction is repeated, or nothing.
 */
HV_API hv_status hv_tx_put(hv_tx *tx, int shard, int kind, const hv_dict *dict, int64_t *key,
                           hv_error **error);
HV_API hv_status hv_tx_put_key(hv_tx *tx, int64_t key, int kind, const hv_dict *dict,
                               hv_error **error);
HV_API hv_status hv_tx_get(hv_tx *tx, int64_t key, hv_entity **entity, hv_error **error);
HV_API hv_status hv_tx_get_only(hv_tx *tx, int64_t key, const char *const *names,
                                hv_entity **entity, hv_error **error);
HV_API hv_status hv_tx_exists(hv_tx *tx, int64_t key, hv_error **error);
HV_API hv_status hv_tx_replace(hv_tx *tx, int64_t key, int kind, const hv_dict *dict,
                               const hv_condition *condition, hv_entity **present,
                               hv_error **error);
HV_API hv_status hv_tx_merge(hv_tx *tx, int64_t key, const hv_dict *set, const char *const *remove,
                             const hv_condition *condition, hv_entity **present, hv_error **error);
HV_API hv_status hv_tx_increment(hv_tx *tx, int64_t key, const char *attribute, const char *amount,
                                 const hv_condition *condition, hv_entity **entity,
                                 hv_error **error);
HV_API hv_status hv_tx_delete(hv_tx *tx, int64_t key, const hv_condition *condition,
                              hv_entity **present, hv_error **error);

/* ---- Many operations at once ----------------------------------------------------------------- */

/*
 * One thread can have any number of operations in flight, on any shards. Operations on one server
 * are batched: one statement for all puts or all gets of a shard, one commit for many; all servers
 * work at once. Each operation still has its own outcome, with the statuses and errors of the
 * function for one, such as hv_put(), hv_get() and hv_merge(): if the server refuses one, the
 * others are done without it; a server that is down fails its own operations and no others. After a
 * lost connection, gets are repeated, and those changes that hv_merge() and its like repeat; puts
 * have an unknown outcome, unless the option `exactly_once` is on: then they are repeated too. The
 * option `operation_timeout` counts for each operation from the moment that it is added.
 *
 * Operations on the same key, in one call or in one queue, take effect in the order in which they
 * were added; those on different keys in any order.
 *
 * The parameters of these statements are not logged.
 */

/* An entity to be stored. */
typedef struct hv_new_entity {
    int64_t key; /* from hv_reserve(), as in hv_put_key(); or 0: a new key in … */
    int shard;   /* … this shard */
    int kind;
    const hv_dict *dict; /* NULL: no attributes */
} hv_new_entity;

/*
 * Store `count` entities. The outcome of entities[i] is in statuses[i], its key in keys[i] (its
 * own, or on HV_OK the new one, otherwise 0), its error or NULL in errors[i], which belongs to the
 * caller. Each of the three arrays has room for `count`, or is NULL.
 *
 * HV_OK: all are stored. Otherwise the first status that is not HV_OK, in the order of `entities`,
 * and a copy of its error; or HV_CLOSED or HV_NO_MEMORY if nothing was begun, and then this is
 * every item's status.
 */
HV_API hv_status hv_put_many(hv_store *store, const hv_new_entity *entities, size_t count,
                             int64_t *keys, hv_status *statuses, hv_error **errors,
                             hv_error **error);

/*
 * Fetch `count` entities. entities[i] is that of keys[i] and belongs to the caller, or NULL; the
 * outcome is in statuses[i], which is HV_NOT_FOUND for an entity that is not there, and the error
 * or NULL in errors[i]. `statuses` and `errors` may be NULL. A key may occur more than once.
 *
 * HV_OK: every key was answered, with an entity or without. Otherwise as hv_put_many().
 */
HV_API hv_status hv_get_many(hv_store *store, const int64_t *keys, size_t count,
                             hv_entity **entities, hv_status *statuses, hv_error **errors,
                             hv_error **error);

/*
 * As hv_exists() for `count` keys: statuses[i] is HV_OK for a key that has an entity, HV_NOT_FOUND
 * for one that has none, and otherwise that of the error in errors[i]. `errors` may be NULL.
 * Returns the same as hv_get_many().
 */
HV_API hv_status hv_exists_many(hv_store *store, const int64_t *keys, size_t count,
                                hv_status *statuses, hv_error **errors, hv_error **error);

/* As hv_get_only(), the same `names` (or NULL) of all, for `count` keys. Otherwise as
 * hv_get_many(). */
HV_API hv_status hv_get_only_many(hv_store *store, const int64_t *keys, size_t count,
                                  const char *const *names, hv_entity **entities,
                                  hv_status *statuses, hv_error **errors, hv_error **error);

/* A change of an entity, for many at once; the fields are the arguments of the functions. */
typedef enum hv_change_type {
    HV_REPLACE = 1,   /* kind, dict */
    HV_MERGE = 2,     /* dict: those to be set; remove */
    HV_INCREMENT = 3, /* attribute, amount */
    HV_DELETE = 4,
} hv_change_type;

typedef struct hv_change {
    hv_change_type type;
    int64_t key;
    int kind;
    const hv_dict *dict;
    const char *const *remove;
    const char *attribute;
    const char *amount;
    const hv_condition *condition;
} hv_change;

/*
 * Make `count` changes, of any types, in their order where they concern the same key. The outcome
 * of changes[i] is in statuses[i], its entity or NULL (see hv_increment(), HV_CHANGED) in
 * entities[i] and its error or NULL in errors[i]; both belong to the caller. Each of the three
 * arrays has room for `count`, or is NULL.
 *
 * HV_OK: every change was answered, with HV_OK, HV_NOT_FOUND or HV_CHANGED. Otherwise as
 * hv_put_many().
 */
HV_API hv_status hv_change_many(hv_store *store, const hv_change *changes, size_t count,
                                hv_entity **entities, hv_status *statuses, hv_error **errors,
                                hv_error **error);

/*
 * Called once for each operation, with its outcome. `key` is the entity's; 0 for a put under a new
 * key that did not succeed. `entity` is what a get found, or what a change returns, otherwise NULL.
 * `error` is NULL with HV_OK, HV_NOT_FOUND and HV_CHANGED. Entity and error belong to the function:
 * hv_entity_free(), hv_error_free(). `tag` is the one that was passed with the operation.
 */
typedef void (*hv_done_fn)(void *context, void *tag, hv_status status, int64_t key,
                           hv_entity *entity, hv_error *error);

/* Sets *entity to the next one to be stored, which is copied at once, or returns false if there are
 * no more. *tag, NULL before, is passed on to hv_done_fn. */
typedef bool (*hv_next_entity_fn)(void *context, hv_new_entity *entity, void **tag);

/* The same for the next key to be fetched or looked for. */
typedef bool (*hv_next_key_fn)(void *context, int64_t *key, void **tag);

/* The same for the next change. */
typedef bool (*hv_next_change_fn)(void *context, hv_change *change, void **tag);

/*
 * As hv_put_many(), hv_get_many() and hv_exists_many(), for more than fits in memory: `next`
 * supplies the items and `done` is called with each outcome, in no particular order, both in the
 * caller's thread. They must not call the store.
 *
 * However many there are, at most 2,048 operations are in flight for each server, with 4 MB of
 * attributes to be stored, plus at most one larger entity; with what libpq needs to send them, that
 * makes up to 16 MB a server. Fetched entities come in addition: up to 1,024 at once for each of
 * two connections.
 */
HV_API hv_status hv_put_stream(hv_store *store, hv_next_entity_fn next, hv_done_fn done,
                               void *context, hv_error **error);
HV_API hv_status hv_get_stream(hv_store *store, hv_next_key_fn next, hv_done_fn done, void *context,
                               hv_error **error);
HV_API hv_status hv_exists_stream(hv_store *store, hv_next_key_fn next, hv_done_fn done,
                                  void *context, hv_error **error);
HV_API hv_status hv_change_stream(hv_store *store, hv_next_change_fn next, hv_done_fn done,
                                  void *context, hv_error **error);

/*
 * A queue is the same for event loops: operations can be added at any time, and nothing blocks. A
 * queue has one descriptor, to be watched with poll(2), epoll(7), libuv or the like; when it is
 * readable, hv_queue_advance() does what can be done.
 *
 *     hv_queue_new(store, done, context, &queue, &error);
 *     hv_queue_get(queue, key, tag, &error);
 *     while (hv_queue_pending(queue) > 0) {
 *         struct pollfd fd = {.fd = hv_queue_fd(queue), .events = POLLIN};
 *         poll(&fd, 1, -1);
 *         hv_queue_advance(queue, 0);
 *     }
 *
 * A queue may be used by one thread at a time; a store may have many queues. A queue uses
 * connections of the store's pools, up to two of each server, and returns them as soon as a batch
 * is done. While a queue exists, hv_close() finds the store in use. Two things can still make a
 * queue block: the look-up of a host's name, and a user-supplied connector without steps.
 *
 * After fork() a queue belongs to the parent: in the child it does nothing any more, and may be
 * freed if no thread was using it at the fork.
 */
typedef struct hv_queue hv_queue;

/*
 * Make a queue. `done` is called for each operation that was added, from within hv_queue_advance().
 * It may add operations; it must not advance or free the queue. Errors: HV_CLOSED, HV_NO_MEMORY
 * (file descriptors included).
 */
HV_API hv_status hv_queue_new(hv_store *store, hv_done_fn done, void *context, hv_queue **queue,
                              hv_error **error);

/* Abandon what is pending, without calling `done`: a put may or may not be stored. Does not
 * wait. */
HV_API void hv_queue_free(hv_queue *queue);

/*
 * Add an operation; its arguments are copied. On HV_OK it is pending, and `done` will be called for
 * it; it is sent when the queue is next advanced, and the descriptor becomes readable at once.
 * Otherwise nothing was added. The only limit is memory: if you add without bound, check
 * hv_queue_pending().
 * Errors: HV_INVALID, HV_NO_SERVER, HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_queue_put(hv_queue *queue, const hv_new_entity *entity, void *tag,
                              hv_error **error);
HV_API hv_status hv_queue_get(hv_queue *queue, int64_t key, void *tag, hv_error **error);
HV_API hv_status hv_queue_get_only(hv_queue *queue, int64_t key, const char *const *names,
                                   void *tag, hv_error **error);
HV_API hv_status hv_queue_exists(hv_queue *queue, int64_t key, void *tag, hv_error **error);
HV_API hv_status hv_queue_change(hv_queue *queue, const hv_change *change, void *tag,
                                 hv_error **error);

/* The descriptor to wait for until it is readable; the same for the queue's whole life. It belongs
 * to the queue: do not read from it or close it. */
HV_API int hv_queue_fd(const hv_queue *queue);

/* The number of operations that were added and are not done. */
HV_API size_t hv_queue_pending(const hv_queue *queue);

/*
 * Make progress, and call `done` for each operation that is finished. If none is, wait up to
 * `timeout` milliseconds (0: not at all, -1: forever) until one is, a signal arrives, or nothing is
 * pending. Returns the number of operations that were finished.
 */
HV_API size_t hv_queue_advance(hv_queue *queue, int64_t timeout);

/* ---- Many entities at once ------------------------------------------------------------------- */

/*
 * A load stores many entities on one server, through COPY, some thousand rows per transaction. Its
 * progress is kept in the database (table hypervault.imports) under the load's name, and written in
 * the transactions themselves. So each transaction happens exactly once, whatever happens to
 * connections, servers and the process: a program that opens the load again gets the position that
 * was committed last, and continues from there. Columns of the table other than id, type and body
 * get their defaults.
 *
 *     hv_load_open(store, server, "people/0", &load, &error)
 *     go to the row that follows hv_load_position(load)
 *     repeatedly:
 *         hv_load_add() for some rows
 *         hv_load_send() until it succeeds: they are stored, but not committed
 *         hv_load_row() for each: was it refused?
 *         hv_load_commit() with the new position; unless it succeeds, begin again with send
 *
 * Loads on several servers, or several on one, may go on at the same time, each by one thread. A
 * load takes a connection of the server's pool from hv_load_send() to hv_load_commit().
 */
typedef struct hv_load hv_load;

/*
 * Open the load `name` (1 to 200 bytes) on a server, or begin it. Only one process may continue a
 * load at a time: another one's hv_load_send() fails with HV_CONFLICT. An open load counts as a
 * running operation for hv_close(). After fork() it belongs to the parent: in the child it can only
 * be freed. Errors: HV_INVALID, HV_NOT_INITIALIZED, and as hv_get().
 */
HV_API hv_status hv_load_open(hv_store *store, int server, const char *name, hv_load **load,
                              hv_error **error);

/* End a load; rows that were not committed are not stored. NULL is allowed. */
HV_API void hv_load_free(hv_load *load);

/* The position that was committed last; 0 at the beginning. Its meaning is up to the caller. */
HV_API int64_t hv_load_position(const hv_load *load);

/* The note that was committed last, or NULL. Lives until the next commit. */
HV_API const char *hv_load_note(const hv_load *load);

/*
 * Add a row. `key` 0: the database makes a key of `shard`. Otherwise the entity is stored under
 * this key, which must belong to `shard` (-1: any shard); the shard will never make it again.
 * The dict is copied. Nothing is sent. Errors: HV_INVALID, HV_NO_SERVER, also if the shard is not
 * on the load's server; HV_NO_MEMORY, after which the load is good only for hv_load_free().
 */
HV_API hv_status hv_load_add(hv_load *load, int64_t key, int shard, int kind, const hv_dict *dict,
                             hv_error **error);

/*
 * The same with attributes that hv_dict_binary() has written, perhaps in another thread. The bytes
 * are not checked here: the server refuses a row with malformed ones.
 */
HV_API hv_status hv_load_add_binary(hv_load *load, int64_t key, int shard, int kind,
                                    const char *bytes, size_t len, hv_error **error);

/* The number of rows that were added and not yet committed. They are numbered from 0. */
HV_API size_t hv_load_count(const hv_load *load);

/*
 * Begin a transaction (or begin it again) and store the first `count` rows in it, in any order.
 * Rows that the server refuses by themselves, for a constraint or a trigger, do no harm to the
 * others: see hv_load_row(). After a failure nothing is stored, and the call can be repeated. After
 * HV_OUTCOME_UNKNOWN of hv_load_commit() it finds out whether that commit happened, and stores the
 * same rows again only if it did not; `count` is then ignored.
 *
 * A row that fails with a temporary error (a deadlock, a serialization failure) is tried a few
 * times. If it still fails, the call fails with that error, and *blocked (may be NULL) is the row's
 * number; in all other cases it is SIZE_MAX. Try again later, perhaps with fewer rows so that those
 * before it need not wait, or give the row up.
 *
 * The server's time limits on statements do not apply; each wait for the server is bounded by
 * operation_timeout. Errors: as hv_put(), HV_CONFLICT (see hv_load_open()), HV_CORRUPT (the shard's
 * next_id() is not this shard's); HV_MOVED if a shard has moved to another server, where this
 * load's record is not: not retriable; never HV_OUTCOME_UNKNOWN.
 */
HV_API hv_status hv_load_send(hv_load *load, size_t count, size_t *blocked, hv_error **error);

/*
 * The outcome of a row, after hv_load_send(). HV_OK: it is stored; *known (may be NULL) is whether
 * an entity of the same kind and attributes was there already under its key. Otherwise the status
 * of *error (may be NULL; lives until the commit), the reason why it was refused: HV_REFUSED by the
 * server, HV_NOT_STORED if a trigger or a rule took it away without an error, HV_CONFLICT if the
 * key has another entity, HV_INVALID if the key is so far ahead of the server's clock that it could
 * be made again. A refused row stays refused. HV_INVALID without an error if there is no such row.
 */
HV_API hv_status hv_load_row(const hv_load *load, size_t index, bool *known,
                             const hv_error **error);

/* Refuse a row that hv_load_send() reported as blocked, with the error that it returned. */
HV_API void hv_load_give_up(hv_load *load, size_t index);

/*
 * Commit what was sent, with the new position, which must be greater if there are rows, and a note
 * (NULL: as it was). The committed rows are removed from the load. Errors: as hv_put(): unless it
 * is HV_OUTCOME_UNKNOWN, nothing is stored. In any case go on with hv_load_send().
 */
HV_API hv_status hv_load_commit(hv_load *load, int64_t position, const char *note,
                                hv_error **error);

/* Called with a load's name, position and note (may be NULL), which live only during the call. */
typedef void (*hv_load_fn)(void *context, const char *name, int64_t position, const char *note);

/*
 * Call `each` for every load of a server whose name begins with `prefix`, in the order of the bytes
 * of their names. Loads stay there until they are deleted from hypervault.imports. Errors: as
 * hv_get().
 */
HV_API hv_status hv_load_list(hv_store *store, int server, const char *prefix, hv_load_fn each,
                              void *context, hv_error **error);

/*
 * A scan walks over a shard's entities in the order of their keys, as they were at the moment of
 * hv_scan_open(): keys, kinds and attributes, no further columns of the table. It takes little
 * memory, however many there are, and holds a connection of the server's pool until it is closed.
 * One thread at a time. After fork() it belongs to the parent: in the child it can only be closed.
 */
typedef struct hv_scan hv_scan;

/*
 * Begin a scan of the keys from `from` to before `until` (0: to the last); hv_key_bound() makes
 * such bounds from points in time. With `kind_count` > 0 it returns only entities of these kinds.
 * Close it before the store. Errors: as hv_get(), HV_INVALID for a kind out of range.
 */
HV_API hv_status hv_scan_open(hv_store *store, int shard, int64_t from, int64_t until,
                              const int *kinds, size_t kind_count, hv_scan **scan,
                              hv_error **error);

/*
 * Go to the next entity. HV_NOT_FOUND: there are no more. Errors: as hv_get(). After one the scan
 * returns nothing more, except after HV_CORRUPT if hv_scan_goes_on(); a new scan that starts after
 * the last key sees a later moment. Each wait for the server is bounded by operation_timeout.
 */
HV_API hv_status hv_scan_next(hv_scan *scan, hv_error **error);

/* After HV_CORRUPT: is this the only row that cannot be read, such as one whose body is NULL? Then
 * hv_scan_key() is its key, and hv_scan_next() goes on after it. */
HV_API bool hv_scan_goes_on(const hv_scan *scan);

/* Key, kind and attributes of the current entity. The dict, its attributes in the server's order,
 * lives until the next call. */
HV_API int64_t hv_scan_key(const hv_scan *scan);
HV_API int hv_scan_kind(const hv_scan *scan);
HV_API const hv_dict *hv_scan_dict(const hv_scan *scan);

/* End the scan, at any point. NULL is allowed. */
HV_API void hv_scan_close(hv_scan *scan);

/* ---- Finding, counting, following ------------------------------------------------------------ */

/*
 * A selection says which entities are meant: in which shards, of which kinds, with which keys and
 * attributes, in which order and how many. Everything in it must hold. It may be used for any
 * number of calls; they copy it. An empty selection means all entities of the store, the oldest
 * first.
 */
typedef struct hv_selection hv_selection;

/* An empty selection, or NULL if memory is short. */
HV_API hv_selection *hv_selection_new(void);
HV_API void hv_selection_free(hv_selection *selection);

/*
 * Only these shards, as the configuration writes them: "1-9,12" is 1 to 8 and 12. Several calls add
 * up. A shard that no server holds is HV_NO_SERVER where the selection is used. Errors: HV_INVALID
 * for a malformed or empty list.
 */
HV_API hv_status hv_selection_shards(hv_selection *selection, const char *shards, hv_error **error);

/* Not the shards of this server; what is left out is among what hv_reader_missing() returns.
 * Several calls add up. Errors: HV_INVALID for NULL or "". That the store has no such server is an
 * error where the selection is used. */
HV_API hv_status hv_selection_skip(hv_selection *selection, const char *server, hv_error **error);

/* Only this kind; after several calls, any of them. Errors: HV_INVALID out of range. */
HV_API hv_status hv_selection_kind(hv_selection *selection, int kind, hv_error **error);

/*
 * Only keys from `key` on; only keys below `key`; only entities created at `moment` or later; only
 * those created before `moment`. The first two and the last two may be mixed; of several lower or
 * upper bounds the narrowest counts. A moment counts as hv_key_bound() says, with the store's
 * epoch. Errors: HV_INVALID for a key that is not positive. A selection whose lower bound is above
 * its upper bound is HV_INVALID where it is used; if both are the same, it is empty.
 */
HV_API hv_status hv_selection_from(hv_selection *selection, int64_t key, hv_error **error);
HV_API hv_status hv_selection_until(hv_selection *selection, int64_t key, hv_error **error);
HV_API hv_status hv_selection_since(hv_selection *selection, int64_t moment, hv_error **error);
HV_API hv_status hv_selection_before(hv_selection *selection, int64_t moment, hv_error **error);

/*
 * Go on after this key, the last one of an earlier page: with the oldest first, only keys above it,
 * with the newest first, only those below it. So the last key is the page's token, and it need not
 * exist any more. A key that lies outside of the other bounds is harmless: what is left is either
 * everything or nothing. A later call replaces an earlier one. Errors: HV_INVALID for a key that is
 * not positive.
 */
HV_API hv_status hv_selection_after(hv_selection *selection, int64_t key, hv_error **error);

/*
 * Only entities whose attribute `name` has this value; one of these values; is there, whatever its
 * value; is not there. NULL is a value: the attribute is there and NULL. Lengths may be HV_STRLEN;
 * the `lengths` of several values may be NULL, which means that of all. All calls for one attribute
 * must hold: of several lists, what is in each of them.
 *
 * hv_selection_has(): the entity has all of these attributes with these values, which is what
 * several calls of hv_selection_equal() would select. The two are written differently in SQL, and
 * use different indexes: `equal` and `one_of` one on an attribute, (body -> 'user'), or best on
 * ((body -> 'user'), id), which also gives the order; `has`, `exists` a GIN index on body.
 *
 * Errors: HV_INVALID for text that no attribute can have, for no values or attributes at all, for
 * conditions on more than 1,000 attributes, and if it contradicts the rest of the selection;
 * HV_NO_MEMORY. The selection is then as it was.
 */
HV_API hv_status hv_selection_equal(hv_selection *selection, const char *name, size_t name_len,
                                    const char *value, size_t value_len, hv_error **error);
HV_API hv_status hv_selection_one_of(hv_selection *selection, const char *name, size_t name_len,
                                     const char *const *values, const size_t *lengths, size_t count,
                                     hv_error **error);
HV_API hv_status hv_selection_exists(hv_selection *selection, const char *name, size_t name_len,
                                     hv_error **error);
HV_API hv_status hv_selection_lacks(hv_selection *selection, const char *name, size_t name_len,
                                    hv_error **error);
HV_API hv_status hv_selection_has(hv_selection *selection, const hv_dict *attributes,
                                  hv_error **error);

/* The newest first, instead of the oldest. */
HV_API void hv_selection_newest(hv_selection *selection, bool newest);

/* At most so many entities. Errors: HV_INVALID for zero or less. */
HV_API hv_status hv_selection_limit(hv_selection *selection, int64_t limit, hv_error **error);

/* Of each entity only the attributes of these names, ended by NULL, are fetched; NULL, the default:
 * all; no names: none. Errors: HV_INVALID for text that no attribute can have, HV_NO_MEMORY. */
HV_API hv_status hv_selection_only(hv_selection *selection, const char *const *names,
                                   hv_error **error);

/*
 * How long each answer of a server may take, in milliseconds; 0, the default: operation_timeout;
 * -1: without limit. Counting, or finding what no index leads to, reads whole tables. Errors:
 * HV_INVALID for less than -1.
 */
HV_API hv_status hv_selection_timeout(hv_selection *selection, int64_t timeout, hv_error **error);

/*
 * Go on without the servers and shards that fail, instead of ending with their error:
 * hv_reader_missing() and hv_counts_missing() then say what is missing. Out of memory, a closed
 * store and errors of the selection itself still end the call.
 */
HV_API void hv_selection_partial(hv_selection *selection, bool partial);

/*
 * A reader returns the entities that a selection means, of all its shards and servers together, in
 * the order of their keys. It keeps a page for each server in memory, of about a megabyte or a
 * single entity if that is larger, and asks for the next ones ahead. (With a limit of up to 256,
 * which is asked for as a whole, pages have that many entities of any size.) It borrows a
 * connection of a server's pool only from asking for a page until that is read. One thread at a
 * time; a store may have many readers. After fork() it belongs to the parent: in the child it can
 * only be closed.
 *
 * Pages are read at different moments. An entity that is there all the time is returned once; one
 * that is put or deleted meanwhile is returned once or not at all.
 */
typedef struct hv_reader hv_reader;

/*
 * Find entities. The call sends the first statements, without waiting for them; close the reader
 * before the store. Statements read by primary key, unless an index on attributes is cheaper.
 * Errors: HV_INVALID for a selection that cannot be (see its functions), HV_NO_SERVER, HV_CLOSED,
 * HV_NO_MEMORY.
 *
 *     hv_find(store, selection, &reader, &error);
 *     while ((status = hv_reader_next(reader, -1, &error)) == HV_OK)
 *         use(hv_reader_key(reader), hv_reader_dict(reader));
 *     hv_reader_close(reader);
 */
HV_API hv_status hv_find(hv_store *store, const hv_selection *selection, hv_reader **reader,
                         hv_error **error);

/*
 * Follow what is put: every entity of the selection in the order of keys over all shards, up to the
 * moment of the call, or with `follow` on and on. The order must be the oldest first; a limit ends
 * it. To go on later, exactly where it ended, hv_selection_after() its last key, or
 * hv_selection_from() its hv_reader_position(), which advances also while nothing is put.
 *
 * Keys are made before their transactions commit, so a reader that only remembered the last key
 * would miss what is committed late. The feed returns a key only when no smaller one can come any
 * more: it asks each server for its time, waits until all transactions have ended that could have
 * made a key before, and stays `delay` milliseconds (-1: the default, 1000) behind the servers'
 * clocks. What it promises, and what not:
 *
 *  - Each entity that is put with a key that its INSERT or COPY made is returned exactly once, also
 *    from transactions that are open for long, prepared, or end while a server restarts; deletes
 *    and changes are not events: an entity is returned as it is when the feed reads it, if it is
 *    still there.
 *  - A key that was made before (hv_reserve(), the option exactly_once, next_id() by hand) and put
 *    later than `delay` comes too late and is missed.
 *  - A server's clock that steps back by less than `delay` does no harm. If it steps back by more,
 *    hv_reader_next() returns HV_MISMATCH once, with the key from which entities may have been
 *    missed, and then goes on.
 *
 * Errors: as hv_find(), and HV_INVALID for the newest first or a `delay` below -1.
 */
HV_API hv_status hv_feed(hv_store *store, const hv_selection *selection, bool follow, int64_t delay,
                         hv_reader **reader, hv_error **error);

/*
 * Go to the next entity, waiting for it for up to `timeout` milliseconds: 0, not at all, for event
 * loops, together with hv_reader_fd(); -1, until it is there. HV_NOT_FOUND: there are no more.
 * HV_TIMEOUT without an error object: none yet; call again.
 *
 * Errors: as hv_get(), naming server and shard. An error ends a find, and hv_selection_after() its
 * last key begins another; nothing is left out silently. A feed waits for servers that cannot be
 * reached (see hv_reader_holder()) instead of failing, if it follows; after another error it can be
 * called again.
 */
HV_API hv_status hv_reader_next(hv_reader *reader, int64_t timeout, hv_error **error);

/* The descriptor to wait for until it is readable, after HV_TIMEOUT; then call hv_reader_next(). It
 * is the same for the reader's whole life and belongs to it: do not read from it or close it. */
HV_API int hv_reader_fd(const hv_reader *reader);

/* Key, kind and attributes of the current entity. The dict, its attributes in the server's order,
 * lives until the next call of hv_reader_next(). */
HV_API int64_t hv_reader_key(const hv_reader *reader);
HV_API int hv_reader_kind(const hv_reader *reader);
HV_API const hv_dict *hv_reader_dict(const hv_reader *reader);

/* Of a feed: everything with a smaller key has been returned, or is outside of its promise. 0
 * before anything is known, and for finds. */
HV_API int64_t hv_reader_position(const hv_reader *reader);

/*
 * Of a feed: the reason why its position does not advance, or NULL: a server that cannot be
 * reached, or a transaction that has been open for longer than a second, named with server, process
 * id (or the name of the prepared transaction) and age. *behind (may be NULL) is by how many
 * milliseconds the position is behind the present, -1 if that is not known. The error lives until
 * the next call of hv_reader_next().
 */
HV_API const hv_error *hv_reader_holder(const hv_reader *reader, int64_t *behind);

/* What is missing from the answer of a partial selection, or was skipped: an error for each server,
 * or for each shard if only that failed. NULL past the end. Lives as long as the reader. */
HV_API const hv_error *hv_reader_missing(const hv_reader *reader, size_t index);

/* End it, at any point. NULL is allowed. */
HV_API void hv_reader_close(hv_reader *reader);

/* By what entities are counted. */
typedef enum hv_count_by {
    HV_COUNT_ALL = 0,
    HV_COUNT_KIND = 1,
    HV_COUNT_SHARD = 2,
    HV_COUNT_SERVER = 3,
    HV_COUNT_TIME = 4, /* by the moment when they were created */
} hv_count_by;

/* The result of counting: groups in ascending order. A snapshot that belongs to the caller. */
typedef struct hv_counts hv_counts;

/*
 * Count the entities of a selection, exactly; each shard at a moment of its own. Order, limit,
 * `after` and `only` must not be set. For HV_COUNT_TIME, `unit` is one of "second", "minute",
 * "hour", "day", "week" (from Monday), "month", "quarter", "year", and `zone` the name of a time
 * zone as PostgreSQL knows it (NULL: UTC); otherwise both are NULL. Groups without entities are
 * left out, except that HV_COUNT_SHARD and HV_COUNT_SERVER have all that were asked and have
 * answered, and HV_COUNT_ALL always has one group.
 *
 * With `estimate` only tables of up to 64 kB are counted, and the other numbers come at once from
 * the planner and the statistics that ANALYZE collects, and may be far from the truth where those
 * are old. Not by time; by kind only without conditions on attributes and keys, and HV_REFUSED for
 * a shard whose table has no statistics.
 *
 * Errors: as hv_get(); HV_INVALID for another unit, an unknown zone, or what cannot be combined.
 */
HV_API hv_status hv_count(hv_store *store, const hv_selection *selection, hv_count_by by,
                          const char *unit, const char *zone, bool estimate, hv_counts **counts,
                          hv_error **error);
HV_API void hv_counts_free(hv_counts *counts);

/*
 * The group at position `index`: false past the end. *group is the kind, the shard, the number of
 * the server, or the moment when the unit of time begins; 0 for HV_COUNT_ALL. Pointers may be NULL.
 */
HV_API bool hv_counts_at(const hv_counts *counts, size_t index, int64_t *group, int64_t *count);
/* The sum of all groups. */
HV_API int64_t hv_counts_total(const hv_counts *counts);
/* As hv_reader_missing(). */
HV_API const hv_error *hv_counts_missing(const hv_counts *counts, size_t index);

/*
 * Called by hv_explain() for each shard. `plan`: the server's plan of reading the first page of
 * this shard, as EXPLAIN writes it, without the parts that are the same everywhere; lines end with
 * '\n'. `warning`: NULL, or a sentence about what will be slow: a table of more than 10,000 rows is
 * read from beginning to end, or sorted. Both live only during the call.
 */
typedef void (*hv_explain_fn)(void *context, int shard, const char *plan, const char *warning);

/* Explain how a find of this selection would be executed. Nothing is read but the plans. Errors: as
 * hv_find() and hv_get(). */
HV_API hv_status hv_explain(hv_store *store, const hv_selection *selection, hv_explain_fn each,
                            void *context, hv_error **error);

/* ---- Lending connections --------------------------------------------------------------------- */

/*
 * Borrow a connection to the server that holds `shard`, for anything that libpq can do: any table
 * of the shard, transactions, COPY. It is the borrower's alone until hv_release(). It is in
 * autocommit, with client encoding UTF8 and time zone UTC; its search_path is untouched, so name
 * tables with their schema (shard0012.entities).
 *
 * If none is idle and no more may be opened, the caller waits for pool_block_timeout. Waiters are
 * served in the order in which they came; where connections are lent for microseconds only, without
 * any statement, a later caller may overtake, but no waiter that has waited for a millisecond is
 * overtaken.
 *
 * At hv_release() an open transaction is rolled back, and encoding and time zone are restored; a
 * connection in the middle of a COPY or a query, or in pipeline mode, is closed. The borrower must
 * undo other settings, temporary tables, LISTEN and advisory locks, send DISCARD ALL, or end the
 * loan with hv_discard(). Statements named "hv_…" belong to the store.
 *
 * Errors: HV_NO_SERVER, HV_TIMEOUT, HV_UNAVAILABLE, HV_MISMATCH, HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_acquire(hv_store *store, int shard, struct pg_conn **conn, hv_error **error);

/* The same for a server by its position, 0 .. hv_server_count()-1. */
HV_API hv_status hv_acquire_server(hv_store *store, int server, struct pg_conn **conn,
                                   hv_error **error);

/*
 * The same as hv_acquire(), but only if a usable connection is idle: it does not wait, opens and
 * closes nothing, and calls no callback. It is for a caller that holds a lock under which it should
 * not sleep (Python's GIL): after HV_TIMEOUT it releases the lock and calls hv_acquire(). Errors:
 * HV_TIMEOUT, without an error object; HV_INVALID, HV_NO_SERVER, HV_CLOSED.
 */
HV_API hv_status hv_try_acquire(hv_store *store, int shard, struct pg_conn **conn,
                                hv_error **error);

/*
 * Return a connection; the pointer is invalid afterwards, whatever the status. Do not PQfinish()
 * it. Errors: HV_INVALID for a connection that this store has not lent.
 */
HV_API hv_status hv_release(hv_store *store, struct pg_conn *conn, hv_error **error);

/*
 * Return a connection that must not be lent again, because the borrower has left it in a state that
 * cannot be undone: it is closed, and another may be opened in its place. Otherwise as
 * hv_release().
 */
HV_API hv_status hv_discard(hv_store *store, struct pg_conn *conn, hv_error **error);

/* The handle that the store's connector gave this connection, which is lent or a transaction's;
 * NULL with the default one. */
HV_API void *hv_connection_handle(hv_store *store, struct pg_conn *conn);

/* ---- Servers and shards ---------------------------------------------------------------------- */

/* The store's epoch. */
HV_API int64_t hv_epoch(const hv_store *store);
/* The number of servers. They are numbered in the order in which the options named them. */
HV_API int hv_server_count(const hv_store *store);
/* The name of a server, or NULL if `server` is out of range. Lives as long as the store. */
HV_API const char *hv_server_name(const hv_store *store, int server);
/*
 * The number of the server that holds a shard, as far as the store knows, or -1 if none does.
 *
 * Shards move to other servers; each server knows where its shards have gone. A store begins with
 * what the options say. An operation that does not find its shard asks the server and goes on where
 * the shard is, within its time; the store remembers that, and reports it through the log callback.
 */
HV_API int hv_shard_server(const hv_store *store, int shard);
/*
 * The same, by asking that server, and those to which it points: *server holds the shard now. For
 * statements of the caller's own: if one is refused because the shard's table or schema does not
 * exist (SQLSTATE 42P01, 3F000), the shard may have moved, and hv_acquire() then connects to the
 * server that has it.
 *
 * Errors: HV_NOT_INITIALIZED if it is nowhere; HV_NO_SERVER if the configuration does not name the
 * server to which it has moved; HV_MISMATCH if servers contradict each other; HV_TIMEOUT,
 * HV_UNAVAILABLE; HV_INVALID; HV_CLOSED; HV_NO_MEMORY.
 */
HV_API hv_status hv_where(hv_store *store, int shard, int *server, hv_error **error);
/*
 * The first shard above `after` that `server` (-1: any server) holds, or -1 if there is none. Start
 * with `after` -1.
 */
HV_API int hv_next_shard(const hv_store *store, int server, int after);

/*
 * Ask all servers which shards they hold, at the same time and within `pool_block_timeout`, and
 * follow what they say: shards that have moved, and with `shards = auto` those that are new. A
 * store does this by itself when it is opened with `shards = auto` and when a shard is used that
 * has no server (at most once a second). An operation in a queue never waits for that: only those
 * on that shard are held back until the servers have answered.
 *
 * If two servers hold a shard and neither is known to be the right one, writes to it fail with
 * HV_MISMATCH, and reads go to one of them, until one has given it up.
 *
 * Errors: those of the first server that could not be asked (what the others said counts all the
 * same), HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_locate_shards(hv_store *store, hv_error **error);

/* The number of the server that the configuration gives a shard to, wherever it is now; -1: none,
 * or one with `shards = auto`. */
HV_API int hv_configured_server(const hv_store *store, int shard);
/* Has this server `shards = auto`? */
HV_API bool hv_server_is_auto(const hv_store *store, int server);
/* The number of the other server that claims a shard, at the same generation as the one of
 * hv_shard_server(); -1: none, as far as is known. */
HV_API int hv_shard_rival(const hv_store *store, int shard);

/*
 * Ask all servers which shards they hold, and write that into a configuration file: the one of this
 * path or, if it is NULL, the first that hv_options_load() would find. Only lines with `shards`
 * change, of servers whose shards differ; `auto` becomes a list, too. Comments and everything else
 * stay as they are. The new file takes the place of the old one at once, with its mode and owner; a
 * symbolic link is followed. If the file says it all already, nothing is written.
 *
 * Errors, after which the file is as it was: those of the first server that could not be asked;
 * HV_MISMATCH: two servers claim a shard; HV_NO_SERVER: a shard has gone to a server that the
 * configuration does not name; HV_BAD_CONFIG: the file cannot be read, replaced or keep its owner,
 * names other servers than the store's, or was changed by another program meanwhile; HV_CLOSED,
 * HV_NO_MEMORY.
 */
HV_API hv_status hv_config_write(hv_store *store, const char *path, hv_error **error);

/*
 * The shard that a value belongs to, such as the e-mail address under which entities will be looked
 * up: *shard is set to one of the shards that the option `spread` names. It is the same for ever,
 * in every program and language and in `hv import --by`, as long as the option's shards are the
 * same: other servers, and a shard that moves to another server, change nothing. The rule is number
 * FNV-1a-64(bytes) modulo N of the option's N shards in ascending order, from 0; docs/operations.md
 * has test vectors, and how a store grows.
 *
 * `value` is any bytes, NUL bytes among them; `len` may be HV_STRLEN. Nothing is sent, and a
 * stopped store answers too. Errors: HV_BAD_CONFIG if the option is not set, with the line to write
 * into the configuration as the hint; HV_INVALID for a NULL pointer with a length; HV_NO_MEMORY.
 */
HV_API hv_status hv_shard_of(const hv_store *store, const char *value, size_t len, int *shard,
                             hv_error **error);

/* The first shard above `after` that hv_shard_of() spreads values over, or -1 if there is none.
 * Start with `after` -1. */
HV_API int hv_next_spread(const hv_store *store, int after);

/* What a pool counts. The first four are current values, the others grow from the pool's start. */
typedef enum hv_stat {
    HV_STAT_OPEN = 0,      /* connections open or being opened */
    HV_STAT_IDLE = 1,      /* … of them waiting to be lent */
    HV_STAT_LENT = 2,      /* … of them in use, by the store itself or by a borrower */
    HV_STAT_WAITING = 3,   /* callers waiting for a connection */
    HV_STAT_OPENED = 4,    /* connections opened */
    HV_STAT_CLOSED = 5,    /* connections closed, for whatever reason */
    HV_STAT_FAILED = 6,    /* attempts to open one that failed */
    HV_STAT_LOANS = 7,     /* connections lent */
    HV_STAT_WAITS = 8,     /* requests that had to wait, including those that timed out */
    HV_STAT_WAIT_US = 9,   /* the time they waited, microseconds */
    HV_STAT_TIMEOUTS = 10, /* waits that ended at their deadline, or were interrupted */
} hv_stat;

/* One number of one server's pool; -1 if there is no such server or number. */
HV_API int64_t hv_pool_stat(hv_store *store, int server, hv_stat stat);
/* Its name, for example "opened"; NULL past the last. */
HV_API const char *hv_stat_name(hv_stat stat);

/* ---- Making and seeing shards ---------------------------------------------------------------- */

/*
 * Called after each shard: `done` of `total` shards of this server are in order.
 */
typedef void (*hv_progress_fn)(void *context, int server, int done, int total);

/*
 * Create whatever is missing on one server: the extension hstore, the schema `hypervault` with the
 * layout's version, the epoch and the server's name, and for each of its shards the schema
 * (shard0012), the sequence table_id_seq, the functions next_id() and reserve_ids(), and the table
 * entities. What is there is not touched; shards that the original implementation made are accepted
 * as they are. Only if the option `keys` is strict or portable, shards whose keys are made in
 * another way are changed, while they are in use; no key is ever made again or goes back in time.
 * Each shard is done in a transaction of its own, so the call can be repeated after a failure, and
 * several may run at once. It uses a connection of its own, not the pool's.
 *
 * Before it creates anything, the call asks all other servers of the store, through their pools,
 * whether they hold a shard that is missing here: created here, it would be an empty copy. If one
 * does, or cannot be asked, nothing is created. They are asked once again at the end, because two
 * calls with different configurations may run at once: then HV_MISMATCH means that everything was
 * created, but that a shard is on two servers now.
 *
 * *created (may be NULL) is the number of shards that were missing, incomplete, or changed; it is
 * set on failure too. Errors: HV_UNAVAILABLE, HV_TIMEOUT, HV_MISMATCH (another epoch, a newer
 * layout, another server's name, a shard's table of another form, a shard that another server
 * holds, an object that belongs to an untrusted role), HV_REFUSED (no right to create, hstore not
 * installed, disk full), HV_INVALID (no such server).
 */
HV_API hv_status hv_create_shards(hv_store *store, int server, hv_progress_fn progress,
                                  void *context, int *created, hv_error **error);

/* The same, but goes on if one of the servers `without` (their numbers) cannot be reached: the
 * caller knows that it holds none of the shards. Those that can be reached are asked like all
 * others. */
HV_API hv_status hv_create_shards_without(hv_store *store, int server, const int *without,
                                          size_t without_count, hv_progress_fn progress,
                                          void *context, int *created, hv_error **error);

/* The state of a server: a snapshot that belongs to the caller. */
typedef struct hv_report hv_report;

typedef enum hv_shard_state {
    HV_SHARD_READY = 0,      /* everything is there */
    HV_SHARD_MISSING = 1,    /* the configuration gives it to this server, but there is no schema */
    HV_SHARD_INCOMPLETE = 2, /* schema there, but something missing, of another form, or owned by a
                                role that is not trusted: docs/operations.md */
    HV_SHARD_UNMAPPED = 3,   /* on this server, but the configuration gives it to none or another */
    /* Only hv_compare_reports() finds these two. */
    HV_SHARD_ELSEWHERE = 4, /* the configuration gives it to this server, but another holds it */
    HV_SHARD_TWICE = 5, /* on this server and on another, and the configuration gives it to one */
} hv_shard_state;

/*
 * Look at one server, through a connection of its pool. Reads the catalogue, and counts the
 * entities of small tables (up to 8 MB each); of larger ones it takes the server's estimate.
 * Errors: HV_INVALID (no such server), HV_TIMEOUT, HV_UNAVAILABLE, HV_MISMATCH, HV_REFUSED.
 */
HV_API hv_status hv_inspect(hv_store *store, int server, hv_report **report, hv_error **error);
HV_API void hv_report_free(hv_report *report);

/*
 * Compare the reports of all servers of a store, once: for a shard that lies on another server than
 * the configuration says, or on two, it sets state, detail and hint in the reports of both. Entries
 * may be NULL, for servers that could not be inspected. Two servers that are the same database are
 * not compared. Errors: HV_NO_MEMORY.
 */
HV_API hv_status hv_compare_reports(hv_report *const *reports, size_t count, hv_error **error);

/* Do the reports allow the shards that are missing on the server of the report at `index` to be
 * created? Errors: HV_MISMATCH, naming another server that holds some of them, and which. */
HV_API hv_status hv_check_reports(hv_report *const *reports, size_t count, size_t index,
                                  hv_error **error);

/* The generator of a shard's keys: see docs/operations.md. */
typedef enum hv_keys {
    HV_KEYS_NONE = 0,     /* there is no next_id() */
    HV_KEYS_ORIGINAL = 1, /* a next_id() that hypervault did not make */
    HV_KEYS_PORTABLE = 2, /* plain SQL */
    HV_KEYS_STRICT = 3,   /* the extension */
} hv_keys;

HV_API const char *hv_report_postgres_version(const hv_report *report); /* "15.18 (Debian …)" */
HV_API const char *hv_report_database(const hv_report *report);
/* The layout's version; 0 if the server has no schema `hypervault` (never initialised, or made by
 * the original implementation). */
HV_API int hv_report_layout(const hv_report *report);
/* The version of the extension `hypervault` in this database, or NULL if it is not installed. */
HV_API const char *hv_report_extension(const hv_report *report);
HV_API int hv_report_connections(const hv_report *report);     /* current client connections */
HV_API int hv_report_max_connections(const hv_report *report); /* the server's max_connections */
HV_API size_t hv_report_shard_count(const hv_report *report);
/* One shard of the report, in ascending order; false past the end. Any pointer may be NULL. */
HV_API bool hv_report_shard(const hv_report *report, size_t index, int *shard,
                            hv_shard_state *state, int64_t *entities, bool *exact, int64_t *bytes);
/* The generator of that shard's keys; HV_KEYS_NONE past the end. */
HV_API hv_keys hv_report_shard_keys(const hv_report *report, size_t index);
/* The faults of that shard, and what to do about them, in words that are the same for every shard
 * with the same faults. NULL if there are none, if the shard is missing, and past the end. They
 * belong to the report. */
HV_API const char *hv_report_shard_detail(const hv_report *report, size_t index);
HV_API const char *hv_report_shard_hint(const hv_report *report, size_t index);

/* ---- Work on all shards: SQL, migrations, indexes, drift ------------------------------------- */

/*
 * A rollout says how work on many shards proceeds: on which of them, how many at a time, how long
 * it waits, and when it stops. It may be used for any number of calls, which copy it; NULL is an
 * empty one.
 *
 * Such a call does the work itself, in the caller's thread, over connections that it borrows from
 * the pools and closes at the end; it returns when all of it is over. Its connections find clients
 * that have gone (client_connection_check_interval), so that what a killed program was doing ends
 * soon. Every call can be killed at any moment and repeated: what is done is recorded or can be
 * seen, and is not done twice. An advisory lock of each shard keeps two runs from working on it at
 * once.
 */
typedef struct hv_rollout hv_rollout;

/* An empty rollout, or NULL if memory is short. */
HV_API hv_rollout *hv_rollout_new(void);
HV_API void hv_rollout_free(hv_rollout *rollout);

/*
 * Set one of these, by the name that it has in the command and in Python, too:
 *
 * shards          only these, as in the configuration: "1-9,12"; default: all of the store
 * skip            leave this server out; may be set for several
 * parallel        at most so many shards of a server at once, 1 to 64, and no more than the option
 *                 pool_max less two; default: 4
 * parallel_total  at most so many altogether, 1 to 1024; default: 32
 * canary          one shard goes first, and the others only if it succeeds: on (default) or off
 * max_failures    go on until more shards than this have failed, 0 (default) or more, or "all":
 *                 go on in any case. What has begun is finished; a canary's failure ends it at once
 * lock_timeout    ms that a statement waits for a lock, while others queue behind it; then it gives
 *                 way, and is tried again after a pause of random length; default: 100
 * max_wait        ms that one shard may wait altogether: for locks, in all its tries, for another
 *                 run, and for the older transactions that CONCURRENTLY waits for, which block
 *                 nobody; -1: for ever; default: 60,000, for CONCURRENTLY an hour
 * timeout         ms that one statement may run after it has its locks, where something is run or
 *                 built; default: no limit
 *
 * Errors: HV_INVALID, naming what is allowed; HV_NO_MEMORY.
 */
HV_API hv_status hv_rollout_set(hv_rollout *rollout, const char *name, const char *value,
                                hv_error **error);

/* How far the work on a shard is. */
typedef enum hv_work {
    HV_WORK_NOT_BEGUN = 0, /* it ended before the shard's turn */
    HV_WORK_RUNNING = 1,
    HV_WORK_WAITING = 2,   /* for a lock, another run, or older transactions */
    HV_WORK_DONE = 3,      /* the shard was changed, or has answered */
    HV_WORK_UNCHANGED = 4, /* there was nothing to do */
    HV_WORK_FAILED = 5,    /* the error says why, and whether the outcome is unknown */
} hv_work;

/* The state's name in lower case, "not begun"; static. */
HV_API const char *hv_work_name(hv_work work);

/* One thing that has happened in a rollout. All texts belong to the caller of the function. */
typedef struct hv_rollout_event {
    int server;
    int shard; /* -1: the server as a whole */
    hv_work work;
    const char *step; /* for people: "0007_add_score.sql", "building: scanning table"; or NULL */
    /* While it waits, the cause: "process 4711 holds a lock on shard0012.entities"; or NULL. */
    const char *waits_for;
    double share;          /* of the step, 0 to 1; negative: unknown */
    const hv_error *error; /* of HV_WORK_FAILED */
} hv_rollout_event;

/* Called in the thread of the call whenever the work on a shard begins, has news, and ends. It must
 * not use the rollout. */
typedef void (*hv_rollout_fn)(void *context, const hv_rollout_event *event);
HV_API void hv_rollout_observe(hv_rollout *rollout, hv_rollout_fn observer, void *context);

/* What has become of each shard. It belongs to the caller, and does not change. */
typedef struct hv_summary hv_summary;
HV_API void hv_summary_free(hv_summary *summary);
HV_API size_t hv_summary_shards(const hv_summary *summary); /* of all states */
HV_API size_t hv_summary_count(const hv_summary *summary, hv_work work);
/* One of them, in ascending order; false past the end. Any pointer may be NULL. `*error`, of
 * HV_WORK_FAILED, belongs to the summary. */
HV_API bool hv_summary_at(const hv_summary *summary, size_t index, int *server, int *shard,
                          hv_work *work, const hv_error **error);

/*
 * Run SQL on every shard of the rollout, and receive the answers as they come. The search_path is
 * the shard's schema, then hstore's; every "@shard" that is a word of its own is replaced by the
 * schema's name. All of it is one transaction for each shard, which is read-only unless `write` is
 * set. Parameters, "$1" and so on, are text or NULL; with any, `sql` is one statement.
 *
 * The rollout has three more options for it:
 *
 * per_server  on: once for each server, without a shard; default: off
 * write       on: it may change the database; default: off
 * once        a name, with `write`: on each shard, the SQL of this name is run once and no more; it
 *             is recorded there in the same transaction, so an interrupted call can be repeated
 *
 * A canary is only for `write`. Errors: HV_INVALID for SQL that cannot be read, with its line, and
 * for COMMIT and the like in it; HV_CLOSED, HV_NO_MEMORY. A shard's own errors are in its answer.
 */
typedef struct hv_each hv_each;
HV_API hv_status hv_each_shard(hv_store *store, const char *sql, int parameter_count,
                               const char *const *parameters, const hv_rollout *rollout,
                               hv_each **each, hv_error **error);

/* One shard's answer. */
typedef struct hv_shard_answer {
    int server;
    int shard;             /* -1: the server as a whole */
    hv_work work;          /* HV_WORK_UNCHANGED: it was run on this shard before */
    const hv_error *error; /* of HV_WORK_FAILED */
    const void *result;    /* of HV_WORK_DONE: the last statement's (const PGresult *), in text */
} hv_shard_answer;

/*
 * Wait for the next answer. It belongs to the caller until the next call; HV_NOT_FOUND: there are
 * no more. Shards whose turn has not come when too many have failed have no answer; see
 * hv_each_summary(). Errors: HV_TIMEOUT if it is interrupted, HV_CLOSED, HV_NO_MEMORY; answers that
 * have come by then follow. Few answers are held in memory at a time: no more than run at once. The
 * work goes on only while the caller is in this function: SQL with parameters may be in the middle
 * of its transaction, and hold locks, until the next call.
 */
HV_API hv_status hv_each_next(hv_each *each, hv_shard_answer *answer, hv_error **error);

/* The summary so far: a copy. Errors: HV_NO_MEMORY. */
HV_API hv_status hv_each_summary(const hv_each *each, hv_summary **summary, hv_error **error);

/* End it. Statements that are running are cancelled. */
HV_API void hv_each_close(hv_each *each);

/*
 * Migrations: ordered SQL files that are run once on every shard. A file's name is its number, "_",
 * and a name: 0007_add_score.sql. Files whose names do not end in ".sql", or begin with ".", are
 * not looked at.
 *
 * In the file, "@shard" and the search_path are as in hv_each_shard(). It is run in one transaction
 * for each shard, together with the record of it in that shard's ledger, the table
 * hypervault_migrations: name, digest (SHA-256 of the file), when and for how long. A file that has
 * the line "-- hv: no-transaction" before its first statement is run statement by statement, each
 * recorded by itself; what an interrupted CONCURRENTLY has left is removed and built again.
 *
 * hv_create_shards() runs all files of the directory in the option `migrations` on each shard that
 * it makes.
 */
typedef struct hv_migrations hv_migrations;

/*
 * Read and check a directory. Errors, with file and line: HV_INVALID for a directory without
 * migrations, a name without a number, two files with one number, text that is not UTF-8, a quote
 * or comment that does not end, COMMIT or the like, an unknown "-- hv:" line; HV_BAD_CONFIG if it
 * cannot be read; HV_NO_MEMORY.
 */
HV_API hv_status hv_migrations_load(const char *directory, hv_migrations **migrations,
                                    hv_error **error);
HV_API void hv_migrations_free(hv_migrations *migrations);
HV_API size_t hv_migrations_count(const hv_migrations *migrations);
/* In the order of their numbers; NULL past the end. The digest is hexadecimal. */
HV_API const char *hv_migrations_name(const hv_migrations *migrations, size_t index);
HV_API const char *hv_migrations_digest(const hv_migrations *migrations, size_t index);
HV_API bool hv_migrations_in_transaction(const hv_migrations *migrations, size_t index);

/*
 * Run on each shard the files that it does not have, in their order. Before anything is changed, a
 * shard is refused (HV_MISMATCH) if a file was changed after it ran there, with both digests, or if
 * its ledger has a file that the directory lacks.
 *
 * HV_OK: all shards have all files. Otherwise the error is the first failure, and *summary (set
 * unless nothing was begun; may be NULL) has that of each shard.
 */
HV_API hv_status hv_migrate(hv_store *store, const hv_migrations *migrations,
                            const hv_rollout *rollout, hv_summary **summary, hv_error **error);

/* The ledgers of all shards, compared with a directory: a table of shards and files. It belongs to
 * the caller. */
typedef struct hv_ledger hv_ledger;

typedef enum hv_migration_state {
    HV_MIGRATION_PENDING = 0,
    HV_MIGRATION_DONE = 1,
    HV_MIGRATION_CHANGED = 2, /* done, but with another digest than the file has now */
    HV_MIGRATION_INTERRUPTED =
        3,                    /* without a transaction, and not all of its statements are done */
    HV_MIGRATION_NO_FILE = 4, /* done, but the directory does not have it */
} hv_migration_state;

/* `migrations` may be NULL: then the files are those that the ledgers name. A shard that cannot be
 * read is in the table with its error. Errors: HV_INVALID, HV_CLOSED, HV_TIMEOUT if it is
 * interrupted, HV_NO_MEMORY. */
HV_API hv_status hv_migrate_status(hv_store *store, const hv_migrations *migrations,
                                   const hv_rollout *rollout, hv_ledger **ledger, hv_error **error);
HV_API void hv_ledger_free(hv_ledger *ledger);
HV_API size_t hv_ledger_files(const hv_ledger *ledger);
HV_API const char *hv_ledger_file(const hv_ledger *ledger, size_t file); /* NULL past the end */
/* One shard, in ascending order; false past the end. `*error`: NULL, or why it could not be read,
 * the ledger's. Any pointer may be NULL. */
HV_API bool hv_ledger_shard(const hv_ledger *ledger, size_t index, int *server, int *shard,
                            const hv_error **error);
/* The state of a file in a shard. `*digest` is the recorded one, or NULL; `*applied_at` in ms since
 * 1970, or 0. Both may be NULL. */
HV_API hv_migration_state hv_ledger_state(const hv_ledger *ledger, size_t index, size_t file,
                                          const char **digest, int64_t *applied_at);

/* One statement of a plan. Texts belong to the plan. */
typedef struct hv_plan_step {
    size_t file; /* its number in the migrations */
    int line;
    const char *statement; /* its beginning, on one line */
    size_t shards;         /* that need it */
    const char *lock;      /* the strongest that it takes: "ACCESS EXCLUSIVE"; NULL: not known */
    const char *relation;  /* on this: "entities"; NULL: none or not known */
    bool rewrites;         /* it writes the whole table anew */
    bool reads;            /* it reads the whole table */
    int64_t bytes;         /* the table's size in the shard where it is largest; -1: not known */
    const char *warning;   /* for people: what to know before it is run; or NULL */
} hv_plan_step;

/*
 * Find out what hv_migrate() would run where, and what each statement locks. One shard's tables are
 * copied, without their rows, into temporary tables, which nobody else sees; the statements run on
 * these, each in a transaction of its own, and the server itself shows their locks and rewrites.
 * A statement that reaches anything but the copies, because it names another schema or the copy has
 * been dropped, has its locks for a moment and is rolled back; otherwise nothing of the shard is
 * locked but for reading. What is without a transaction, COPY, and what cannot be done with
 * temporary tables, is not tried. Errors: as hv_migrate(), and HV_REFUSED with file and
 * line for a statement that the server refuses.
 */
typedef struct hv_plan hv_plan;
HV_API hv_status hv_migrate_plan(hv_store *store, const hv_migrations *migrations,
                                 const hv_rollout *rollout, hv_plan **plan, hv_error **error);
HV_API void hv_plan_free(hv_plan *plan);
HV_API const hv_plan_step *hv_plan_at(const hv_plan *plan, size_t index); /* NULL past the end */

/*
 * The definition of an index on the table entities of every shard. An index on attributes is a
 * B-tree on these, in the order in which they were added, and on the key, so that
 *
 *     hv_selection_equal(…, "user", …), newest first
 *
 * is one walk along it. `type` is that of the values in the index: text (NULL), smallint, integer,
 * bigint, numeric, real, double precision, boolean, uuid, date, timestamp or timestamptz, or
 * another name that PostgreSQL has for one of these, such as int8. Dates and times
 * are in the form of ISO 8601, and read by functions in the schema `hypervault`, because
 * PostgreSQL's own depend on settings.
 */
typedef struct hv_index hv_index;
HV_API hv_index *hv_index_new(void); /* NULL if memory is short */
HV_API void hv_index_free(hv_index *index);
HV_API hv_status hv_index_attribute(hv_index *index, const char *name, const char *type,
                                    hv_error **error);
/* All attributes of an entity, for conditions of any of them: GIN. */
HV_API void hv_index_all(hv_index *index);
/* Only entities of this kind. */
HV_API void hv_index_kind(hv_index *index, int16_t kind);
/* In each shard, no two entities have these values; the key is not in the index. */
HV_API void hv_index_unique(hv_index *index);
/* Its name, 1 to 63 bytes; default: made from the definition, "entities_user_idx". */
HV_API hv_status hv_index_name(hv_index *index, const char *name, hv_error **error);
/* The expressions that the index is on, for a query's conditions, and its name; both belong to the
 * index until it is changed. NULL if it is on nothing, or memory is short. `hstore_schema`: as in
 * "public"; NULL: that. */
HV_API const char *hv_index_expression(hv_index *index, const char *hstore_schema);
HV_API const char *hv_index_chosen_name(hv_index *index);

/*
 * Build the index on every shard that lacks it, CONCURRENTLY: writers go on. An index of this name
 * that is not valid is dropped and built again. Errors: as hv_migrate(); HV_INVALID for a
 * definition that is none; HV_MISMATCH if a shard has another index or table of this name;
 * HV_REFUSED if values do not fit the type or are not unique, with the key of such an entity if it
 * can be found.
 */
HV_API hv_status hv_index_create(hv_store *store, const hv_index *index, const hv_rollout *rollout,
                                 hv_summary **summary, hv_error **error);

/* Drop the index of this name, CONCURRENTLY, from every shard that has it. The primary key, an
 * index of a constraint and one of another table are refused (HV_INVALID). */
HV_API hv_status hv_index_drop(hv_store *store, const char *name, const hv_rollout *rollout,
                               hv_summary **summary, hv_error **error);

/* An index of the tables entities, over all shards of the rollout. Texts belong to the list. */
typedef struct hv_index_info {
    const char *name;
    const char *definition; /* in most shards, with "@shard" for the schema */
    size_t shards;          /* that have it, valid and with this definition */
    size_t missing;
    size_t invalid; /* not valid, and not being built */
    size_t building;
    size_t different;       /* valid, with another definition */
    int64_t bytes;          /* in all shards */
    int64_t scans;          /* since the statistics were reset */
    const char *missing_in; /* shards, as ranges; "" */
    const char *invalid_in;
    const char *different_in;
} hv_index_info;

typedef struct hv_indexes hv_indexes;
/* All of them, the primary key first, then by name. A shard that is not there lacks each of them.
 * Errors: as hv_migrate_status(); all servers must answer, and HV_NOT_INITIALIZED if no shard is
 * there. */
HV_API hv_status hv_index_list(hv_store *store, const hv_rollout *rollout, hv_indexes **indexes,
                               hv_error **error);
HV_API void hv_indexes_free(hv_indexes *indexes);
HV_API const hv_index_info *hv_indexes_at(const hv_indexes *indexes, size_t index);

/*
 * Compare the schemas of all shards: tables, columns, types, defaults, constraints, indexes,
 * sequences, functions, triggers, rules, policies, views, types and grants, in a fixed order with
 * "@shard" in place of the schema's name. Shards with the same description form a group. The ledger
 * of migrations, and the values of sequences, are left out.
 */
typedef struct hv_schema_report hv_schema_report;
/* A shard that cannot be read is in no group, but among the failures. Errors: as
 * hv_migrate_status(). */
HV_API hv_status hv_schema_check(hv_store *store, const hv_rollout *rollout,
                                 hv_schema_report **report, hv_error **error);
HV_API void hv_schema_report_free(hv_schema_report *report);

/* Shards with the same schema. Texts belong to the report. */
typedef struct hv_schema_group {
    size_t count;
    const char *shards;      /* as ranges */
    const char *digest;      /* hexadecimal */
    const char *description; /* a line for each thing, "column entities.body hstore not null" */
    /* Lines of the largest group's description that this one lacks, with "-", and its own, with
     * "+"; "" for the largest. */
    const char *differences;
} hv_schema_group;

/* The largest first; NULL past the end. */
HV_API const hv_schema_group *hv_schema_report_group(const hv_schema_report *report, size_t index);
/* A shard that could not be read, in ascending order; false past the end. `*error` is the
 * report's. */
HV_API bool hv_schema_report_failure(const hv_schema_report *report, size_t index, int *server,
                                     int *shard, const hv_error **error);

/* ---- Moving shards --------------------------------------------------------------------------- */

/*
 * A shard moves to another server while its callers go on: its tables are copied and followed by
 * PostgreSQL's logical replication, the copy is compared with the original, and then the shard is
 * switched over in one transaction of the old server. Callers of any store, in any process, find it
 * there inside the same call. docs/operations.md has all of it as commands.
 *
 * Each step is written down in both databases before it is made. A program that moves a shard can
 * be killed at any moment, as can either server: hv_move_resume() then goes on, and hv_move_abort()
 * takes it back, from any machine. Until the switch the shard is where it was, and afterwards it
 * is at the target; it is never at both, nor at neither.
 */
typedef struct hv_move_options hv_move_options;

/* Options as they are without any being set, or NULL if memory is short. */
HV_API hv_move_options *hv_move_options_new(void);
HV_API void hv_move_options_free(hv_move_options *options);

/*
 * Set one of these, by the name that it has in the command and in Python, too. Durations are
 * written as in the configuration, "1h", "500ms"; a number alone is seconds.
 *
 * keep_undo  how long the old copy is kept and follows the new one after the switch, so that
 *            hv_move_undo() can go back; default: 0, not at all
 * offline    on: without logical replication, which needs wal_level = logical. The shard's writers
 *            wait while it is copied; default: off
 * verify     compare the copy with the original before the switch: on (default) or off
 * max_pause  how long the switch may stop the shard's callers, 10ms or more; default: 1s
 * max_offline  how long writers may have to wait for the copy of an offline move, 100ms or more;
 *            after that they go on, and the move takes itself back; default: 10min
 * max_wait   how long it waits altogether for locks, for long transactions, and for a server that
 *            cannot be reached; default: 5min
 * max_wal    bytes of WAL that the source may have to keep for the move ("16GB"); above that it
 *            takes itself back; default: 16GB
 *
 * Errors: HV_INVALID, naming what is allowed.
 */
HV_API hv_status hv_move_options_set(hv_move_options *options, const char *name, const char *value,
                                     hv_error **error);

typedef struct hv_move hv_move;

/* How far a move is. Values are part of the ABI. */
typedef enum hv_move_phase {
    HV_MOVE_BEGUN = 0,       /* looks at both servers */
    HV_MOVE_SCHEMA = 1,      /* makes the copy's tables */
    HV_MOVE_COPYING = 2,     /* rows are copied */
    HV_MOVE_INDEXING = 3,    /* indexes, triggers and all else are made */
    HV_MOVE_CATCHING_UP = 4, /* the stream of changes comes close */
    HV_MOVE_VERIFYING = 5,
    HV_MOVE_SWITCHING = 6, /* tries to stop the callers for a moment, and to switch */
    HV_MOVE_CLEANING = 7,  /* the shard is at the target; what is not needed any more is removed */
    HV_MOVE_KEPT = 8,      /* over; the old copy follows the new one, for hv_move_undo() */
    HV_MOVE_DONE = 9,      /* over, and nothing is left of it */
    HV_MOVE_ABORTING = 10, /* is taken back */
    HV_MOVE_ABORTED = 11,  /* over: the shard is where it was, and nothing is left of it */
} hv_move_phase;

/* The phase's name in lower case, "catching up"; static. */
HV_API const char *hv_move_phase_name(hv_move_phase phase);

/* The names of servers and the texts belong to the move, until it is advanced or freed. */
typedef struct hv_move_status {
    int shard;
    const char *source; /* of what is under way: for an undo, the server that it leaves */
    const char *target;
    const char *kind; /* "online", "offline", "undo" */
    hv_move_phase phase;
    const char *step;      /* for people: "copying entities" */
    const char *waits_for; /* for people: "process 4711 (psql, idle in transaction for 34 s) holds a
                              lock on shard0012.entities"; NULL: nothing */
    int64_t rows, rows_total;   /* copied or compared, of how many; -1: unknown */
    int64_t bytes, bytes_total; /* copied, of how many; -1: unknown */
    int64_t lag_bytes;          /* of WAL that the target is behind; -1: unknown */
    double seconds;             /* since it was begun, or resumed */
    double pause_ms;            /* the longest time that it has stopped callers, by its own clock */
    int64_t keep_until;         /* of HV_MOVE_KEPT: microseconds since 1970; else 0 */
    const char *left_behind;    /* what could not be removed, where; NULL: nothing */
} hv_move_status;

/*
 * Begin to move a shard to a server, by its number. What can be wrong with it is found when it is
 * advanced, before anything is copied. If the same move is in the journal already, it is resumed.
 * The target must be one of the store's servers. Errors: HV_INVALID, HV_NO_SERVER, HV_NO_MEMORY.
 */
HV_API hv_status hv_move_start(hv_store *store, int shard, int server,
                               const hv_move_options *options, hv_move **move, hv_error **error);

/*
 * Go on with a move that is in the journal; take one back, or bring it to its end if the shard is
 * switched already; go back to the old server with a move that was kept; drop the old copy of one.
 * Each is then advanced. Of the options only max_pause, max_offline, max_wait, max_wal and verify
 * count.
 */
HV_API hv_status hv_move_resume(hv_store *store, int shard, const hv_move_options *options,
                                hv_move **move, hv_error **error);
HV_API hv_status hv_move_abort(hv_store *store, int shard, const hv_move_options *options,
                               hv_move **move, hv_error **error);
HV_API hv_status hv_move_undo(hv_store *store, int shard, const hv_move_options *options,
                              hv_move **move, hv_error **error);
HV_API hv_status hv_move_clean(hv_store *store, int shard, const hv_move_options *options,
                               hv_move **move, hv_error **error);

/*
 * Go on for about `timeout` ms (negative: to the end); single statements, such as building the
 * indexes, may take longer. *done: it is over; hv_move_progress() says how. HV_OK without *done:
 * call it again. A lost connection or a restarted server is not an error, but waited for.
 *
 * On an error the move is over for this object, but not in the journal: it can be resumed or
 * aborted. Some end the move themselves, if nothing is switched: HV_MISMATCH (the copy differs, or
 * the schema was changed meanwhile) and a source that has to keep too much WAL; their hint says so.
 * Errors: HV_INVALID (it is there already, it is not there, nothing to resume, not kept), HV_BUSY
 * (another run works on this shard), HV_TIMEOUT (max_wait has passed, or it was interrupted),
 * HV_UNAVAILABLE, HV_REFUSED, HV_MISMATCH, HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_move_advance(hv_move *move, int64_t timeout, bool *done, hv_error **error);

HV_API void hv_move_progress(const hv_move *move, hv_move_status *status);

/* If it is not over, it stays in the journal, and its stream goes on. */
HV_API void hv_move_free(hv_move *move);

/* What the journals of all servers have. */
typedef struct hv_moves hv_moves;
typedef struct hv_move_info {
    int shard;
    const char *source; /* of the move as it was begun */
    const char *target;
    const char *kind; /* "online", "offline", "undo" */
    const char *step; /* as in the journal: "catching_up"; "kept": it is over and can be undone */
    bool running;     /* a process is at work on it */
    bool on_source;   /* that server has it in its journal */
    bool on_target;
    int64_t begun, changed; /* microseconds since 1970 */
    int64_t keep_until;     /* of "kept"; else 0 */
    const char *error;      /* the last that went wrong; NULL: nothing */
} hv_move_info;

/* Ask all servers. Removes nothing. Errors: HV_CLOSED, HV_NO_MEMORY; servers that do not answer
 * are in hv_moves_missing(). */
HV_API hv_status hv_moves_list(hv_store *store, hv_moves **moves, hv_error **error);
HV_API void hv_moves_free(hv_moves *moves);
HV_API size_t hv_moves_count(const hv_moves *moves);
HV_API const hv_move_info *hv_moves_at(const hv_moves *moves, size_t index); /* NULL past the end */
/* The error of a server that has not answered; NULL past the end. */
HV_API const hv_error *hv_moves_missing(const hv_moves *moves, size_t index);

/* Drop the old copies whose time is over, and what earlier moves could not remove because a server
 * was not there. Each new move begins with this, too. *removed, which may be NULL, is how many. */
HV_API hv_status hv_moves_sweep(hv_store *store, size_t *removed, hv_error **error);

/* ---- Distributing shards over servers -------------------------------------------------------- */

/* What is to be distributed, and how. */
typedef struct hv_balance_options hv_balance_options;

/* Options as they are without any being set, or NULL if memory is short. */
HV_API hv_balance_options *hv_balance_options_new(void);
HV_API void hv_balance_options_free(hv_balance_options *options);

/*
 * Set one of these, by the name that it has in the command and in Python, too:
 *
 * by         what servers are to have equal shares of: "size" (bytes on disk; the default), "rows"
 *            (as the server estimates them), "writes" (rows written since its statistics were
 *            reset), "count" (shards)
 * weight     "SERVER=2": this server is to have twice the share of one with the weight 1, which is
 *            the default; 0: it is to have nothing new, and keeps what it has. May be set for
 *            several servers
 * drain      a server that is to have no shard; may be set for several
 * max_moves  the most moves; default: as many as are worth it
 *
 * Errors: HV_INVALID, naming what is allowed; a server that the store does not know is an error of
 * hv_balance().
 */
HV_API hv_status hv_balance_options_set(hv_balance_options *options, const char *name,
                                        const char *value, hv_error **error);

/* A plan: which shards are to move, and how the servers stand before and after that. */
typedef struct hv_balance hv_balance;

/* One move. It takes `seconds` and makes its source keep so much WAL, both as expected: from the
 * shard's size, and from the WAL that the server is writing now. */
typedef struct hv_balance_move {
    int shard;
    int source, target; /* servers, by number */
    int64_t bytes;
    int64_t rows;
    int64_t seconds;
    int64_t wal_bytes;
} hv_balance_move;

/* One server. */
typedef struct hv_balance_server {
    int server;
    bool is_drained;
    double weight;
    int shards_before, shards_after;
    int64_t bytes_before, bytes_after;
    int64_t load_before, load_after; /* in the unit of the option `by` */
} hv_balance_server;

/*
 * Ask all servers what they hold, and make a plan; nothing is moved. It has few moves, each of
 * which makes the servers' shares clearly more equal, the most useful first; those that drain a
 * server come before all others. The same servers with the same shards get the same plan. Takes a
 * second, in which the servers' WAL is measured. `options` may be NULL. Errors: HV_INVALID for an
 * unknown server, or if every server is to be drained; those of a server that cannot be asked.
 */
HV_API hv_status hv_balance_plan(hv_store *store, const hv_balance_options *options,
                                 hv_balance **balance, hv_error **error);
HV_API void hv_balance_free(hv_balance *balance);
HV_API size_t hv_balance_count(const hv_balance *balance); /* moves */
/* Both: NULL past the end. */
HV_API const hv_balance_move *hv_balance_at(const hv_balance *balance, size_t index);
HV_API const hv_balance_server *hv_balance_server_at(const hv_balance *balance, size_t index);

/* ---- Before shards move ---------------------------------------------------------------------- */

typedef enum hv_severity {
    HV_SEVERITY_NOTE = 0,
    HV_SEVERITY_WARNING = 1, /* it may keep a shard from moving, or makes it slower */
    HV_SEVERITY_ERROR = 2,   /* it does keep shards from moving */
} hv_severity;

/* "warning"; static; NULL for an unknown one. */
HV_API const char *hv_severity_name(hv_severity severity);

typedef struct hv_finding {
    hv_severity severity;
    const char *server; /* where it is to be mended, mostly */
    const char *other;  /* the other server of the pair that it is about; NULL: none */
    int shard;          /* -1: none */
    const char *text;   /* "wal_level is replica, …" */
    const char *detail; /* a sentence, or NULL */
    const char *hint;   /* what to do about it, or NULL */
} hv_finding;

typedef struct hv_findings hv_findings;

/*
 * Find out what would keep shards from moving, before anything is copied: settings, slots, rights,
 * versions, extensions, roles, clocks, long transactions, tables that cannot be replicated, what
 * earlier moves have left; and whether each target reaches each source, which is really tried, as a
 * subscription that is rolled back. A move begins with a look at what would be an error here.
 * `from` and `to` are numbers of servers (-1: all), `shard` is one of the shards on `from` (-1:
 * all). Nothing is changed.
 *
 * A server that cannot be reached is a finding. Errors: HV_INVALID for a number out of range, or a
 * shard that is not on `from`, HV_NO_SERVER, HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_doctor(hv_store *store, int from, int to, int shard, hv_findings **findings,
                           hv_error **error);
HV_API size_t hv_findings_count(const hv_findings *findings);
HV_API const hv_finding *hv_findings_at(const hv_findings *findings,
                                        size_t index); /* NULL past the end */
HV_API void hv_findings_free(hv_findings *findings);

#ifdef __cplusplus
}
#endif
#endif
