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
 *    on failure it then holds an error that you free with hv_error_free(). HV_NOT_FOUND is an
 *    answer, not a failure: it comes without an error object.
 *  - Text is UTF-8. Bytes are a pointer and a length; HV_STRLEN as the length means "up to the
 * NUL". PostgreSQL's text cannot hold a NUL byte, and neither can an attribute.
 *  - Functions that take `const` objects do not keep the pointers; what they return as `const`
 *    belongs to the object it came from and lives until that object is changed or freed.
 *  - `*_free(NULL)` is allowed. Output arguments are untouched on failure, unless said otherwise.
 *  - An hv_store may be used by any number of threads at once. Every other object by one thread at
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

/* libpq's connection, the only one of its types that appears here: `PGconn` is this struct. */
struct pg_conn;

/* A length that means: the bytes end at the first NUL. */
#define HV_STRLEN ((size_t) -1)

/* The library's version, for example "0.2.0". Static; never NULL. */
HV_API const char *hv_version(void);

/* ---- Status and errors ----------------------------------------------------------------------- */

/* What came of a call. Values are part of the ABI: new ones are only ever added at the end. */
typedef enum hv_status {
    HV_OK = 0,
    HV_NOT_FOUND = 1,   /* no entity has this key; no error object */
    HV_INVALID = 2,     /* an argument is wrong; nothing was sent */
    HV_BAD_CONFIG = 3,  /* an option or the configuration file is wrong */
    HV_NO_SERVER = 4,   /* no server of the store holds this shard */
    HV_TIMEOUT = 5,     /* a deadline passed, or it was interrupted; nothing was written */
    HV_UNAVAILABLE = 6, /* the server cannot be reached or refuses the login; nothing was written */
    HV_OUTCOME_UNKNOWN =
        7,          /* the connection was lost during a write: it may or may not have happened */
    HV_REFUSED = 8, /* the server answered with an error: see hv_error_sqlstate() */
    HV_NOT_INITIALIZED =
        9,             /* the shard's schema or table is missing on its server: run `hv init` */
    HV_MISMATCH = 10,  /* the database has another epoch, a newer layout or another server's name */
    HV_CORRUPT = 11,   /* the server sent something that is no answer to what was asked */
    HV_CLOSED = 12,    /* the store was closed */
    HV_BUSY = 13,      /* connections are still lent */
    HV_NO_MEMORY = 14, /* out of memory */
    HV_CONFLICT = 15,  /* the key has another entity already */
    HV_NOT_STORED = 16, /* a trigger or a rule of the table kept the row from being stored */
} hv_status;

/* The status's name, for example "HV_TIMEOUT". Static; never NULL; "HV_?" for an unknown one. */
HV_API const char *hv_status_name(hv_status status);

/*
 * Why a call failed. Immutable; owned by the caller that received it. The texts follow PostgreSQL's
 * style: the message is short and factual, the detail says more, the hint says what to do.
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
/* The name of the constraint that the server says was violated, or NULL. */
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
 *     bit  9..0   added_id  0..1023, tells keys of one shard and millisecond apart
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

/* Have both the same attributes with the same values? */
HV_API bool hv_dict_equal(const hv_dict *left, const hv_dict *right);

/*
 * Read hstore's text form, `"k"=>"v", "n"=>NULL`, as the server does (quoting is optional for plain
 * words, a backslash takes the next character as it is), except that of a key given twice the last
 * value wins. Errors: HV_INVALID with the position in bytes, HV_NO_MEMORY.
 */
HV_API hv_status hv_dict_parse(const char *text, size_t text_len, hv_dict **dict, hv_error **error);

/*
 * Write hstore's text form, attributes ordered as the server orders them. NUL-terminated; `*text`
 * belongs to the caller, who releases it with free(). Errors: HV_NO_MEMORY.
 */
HV_API hv_status hv_dict_text(const hv_dict *dict, char **text, hv_error **error);

/*
 * Write hstore's binary form, as the server takes it in binary parameters and COPY. `*bytes`
 * belongs to the caller, who releases it with free(). Errors: HV_NO_MEMORY.
 */
HV_API hv_status hv_dict_binary(const hv_dict *dict, char **bytes, size_t *len, hv_error **error);

/* ---- Options --------------------------------------------------------------------------------- */

/*
 * What a store is opened with: options by name, and servers. A server has a name, the parameters
 * that libpq's connection functions take ("host", "port", "user", "password", "dbname" or
 * "database", "service", "sslmode", …) and "shards", the logical shards that it holds: half-open
 * ranges and single shards, so "1-5,9" is 1, 2, 3, 4 and 9. What a server's parameters leave out
 * comes from where libpq takes it: environment, service file, .pgpass.
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

/* An option's present value as text, a boolean as "on" or "off", or NULL if there is no such
 * option. Valid until it is set. */
HV_API const char *hv_options_get(const hv_options *options, const char *name);

/*
 * Add a server, for a program that reads them from a list: two entries of one name are not taken
 * for one server. Errors: HV_BAD_CONFIG if there is a server of this name already, which says the
 * numbers of both, from 1; HV_NO_MEMORY.
 */
HV_API hv_status hv_options_add_server(hv_options *options, const char *server, hv_error **error);

/*
 * Set a parameter of a server; the first one brings the server into being. "shards" may be set
 * more than once and adds up; a server without shards, or with "", is one that is being prepared,
 * as long as another has some. Errors: HV_BAD_CONFIG for a parameter that libpq does not know, for
 * a value that holds a connection string or another setting `password`, for nonsense in "shards"
 * and for a shard that another server already has.
 */
HV_API hv_status hv_options_set_server(hv_options *options, const char *server,
                                       const char *parameter, const char *value, hv_error **error);

/*
 * Read a configuration file: an INI file with the options in [hypervault] and each server in
 * [server NAME]. With `path` NULL the first of these that exists is read: $HYPERVAULT_CONFIG,
 * ./hypervault.conf, $XDG_CONFIG_HOME/hypervault/hypervault.conf (~/.config without that variable),
 * /etc/hypervault/hypervault.conf. If `found` is not NULL, it receives the path
 * of the file, on failure too, or NULL if there is none in these places; free() it. Errors:
 * HV_BAD_CONFIG with file and line, or because others can write to the file, can read a password in
 * it, or own it (docs/config.md); the options are then in an unspecified state and good only for
 * hv_options_free().
 */
HV_API hv_status hv_options_load(hv_options *options, const char *path, char **found,
                                 hv_error **error);

/* The table of options, for help texts and completion: false past the end. All static. */
typedef struct hv_option_info {
    const char *name;
    const char *type;          /* "integer", "duration", "boolean", "choice" */
    const char *default_value; /* as hv_options_set() takes it */
    const char *range;         /* for people: "1 to 1000" */
    const char *help;          /* one sentence */
} hv_option_info;
HV_API bool hv_option_at(size_t index, hv_option_info *info);

/*
 * What a log callback is told: one statement that ran, on which server, for which shard, how long
 * it took and what came of it. Operations of several threads may have shared the statement (see the
 * option `lanes`). The event and what its accessors return live only during the call.
 */
typedef struct hv_log_event hv_log_event;
HV_API const char *hv_log_statement(const hv_log_event *event);
HV_API const char *hv_log_server(const hv_log_event *event);
HV_API int hv_log_shard(const hv_log_event *event); /* -1: none in particular */
HV_API int64_t hv_log_duration_us(const hv_log_event *event);
HV_API hv_status hv_log_status(const hv_log_event *event);
HV_API const char *hv_log_sqlstate(const hv_log_event *event); /* NULL: none */
/*
 * The statement's parameters, as text for people (a dict as hstore's text form). Their number is 0
 * unless the option `log_parameters` is on.
 */
HV_API size_t hv_log_parameter_count(const hv_log_event *event);
HV_API const char *hv_log_parameter(const hv_log_event *event, size_t index); /* NULL: NULL */

/*
 * Called after each statement that the library ran, by the thread that ran it, possibly by many
 * threads at once, never with a lock held. It must not use the store.
 */
typedef void (*hv_log_fn)(void *context, const hv_log_event *event);
HV_API void hv_options_set_log(hv_options *options, hv_log_fn log, void *context);

/*
 * An interrupt hook is for programs whose signal handlers only set a flag, as those of Python do:
 * it says whether the thread that calls it shall give up. It must not use the store.
 *
 * A thread that waits inside the library, for a connection, a lane or a server's answer, calls it
 * when a signal has interrupted its sleep, and otherwise every 250 ms, never with a lock held. Once
 * it returns true, the operation ends as if its deadline had passed at that moment: with HV_TIMEOUT
 * and nothing written, or with HV_OUTCOME_UNKNOWN; the error's message says "interrupted", and the
 * next operation starts afresh. The streams take up nothing more; hv_close() returns HV_BUSY.
 *
 * Who runs a batch of several threads' operations (see the option `lanes`) goes on while others
 * wait for it, so that their outcome does not become unknown: at most for operation_timeout. Not
 * interrupted are the look-up of a host's name, a connector of the user's that has no steps,
 * hv_release(), which waits for 5 s at most, and hv_queue_advance(), which ends at a signal by
 * itself.
 *
 * NULL, the default: nothing is called, and nobody wakes up for it.
 */
typedef bool (*hv_interrupt_fn)(void *context);
HV_API void hv_options_set_interrupt(hv_options *options, hv_interrupt_fn interrupt, void *context);

/*
 * A connector opens the connections that the store's pools lend, and closes them. The default one
 * uses libpq. Another driver that sits on libpq (psycopg2) brings its own, so that the store's own
 * statements and the driver's objects share one pool.
 *
 * connect: open a connection with the libpq parameters given (two NULL-terminated arrays) within
 * `timeout` milliseconds. On success set *conn, and *handle to whatever the connector wants to find
 * again through hv_connection_handle() (may be NULL). On failure return HV_UNAVAILABLE,
 * HV_TIMEOUT or HV_NO_MEMORY, with the reason in `message` (`message_size` bytes, NUL-terminated)
 * and the server's SQLSTATE in `sqlstate`, or "" if it sent none or it is not known. disconnect:
 * close the connection and release the handle; conn belongs to the connector. All are called by
 * any thread, without a lock held. Where a server has several hosts, connect_timeout is among the
 * parameters, and short enough for a second host to be tried if the first is silent. The parameters
 * are lent for the call: a connector that goes on afterwards needs copies.
 *
 * start, finish and give_up are the same in steps, for a connector that can do without holding its
 * caller up; then connect is not used and may be NULL. Without them, a queue (hv_queue) waits while
 * a connection is opened. start: begin to open a connection; set *attempt to whatever finish and
 * give_up are to be told, and *fd to a descriptor that becomes readable when it is over, one way or
 * the other; otherwise as connect. finish: it is over: as connect. give_up: it takes too long; what
 * comes of it is nobody's any more. Either ends the attempt, and may close the descriptor.
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
 * What the default connector does, for connectors that add something to it. Closed by PQfinish().
 * As PQconnectdb() it keeps connect_timeout and goes on to the next host, and no host uses up the
 * time of those after it. The arguments are those of hv_connector's connect.
 */
HV_API hv_status hv_connect(const char *const *keywords, const char *const *values, int64_t timeout,
                            struct pg_conn **conn, char *message, size_t message_size,
                            char sqlstate[6]);

/* The struct is copied; its context must outlive the store. NULL restores the default. */
HV_API void hv_options_set_connector(hv_options *options, const hv_connector *connector);

/* ---- Stores ---------------------------------------------------------------------------------- */

typedef struct hv_store hv_store;

/*
 * Open a store. Everything in the options is checked, and copied: they can be freed at once.
 * `options` NULL means a configuration file found as hv_options_load(NULL) does. Connections are
 * opened when first needed, unless the option `check_servers` is on: then each server is connected
 * to and checked now. Errors: HV_BAD_CONFIG, HV_NO_MEMORY; with `check_servers` also
 * HV_UNAVAILABLE, HV_TIMEOUT, HV_MISMATCH, HV_NOT_INITIALIZED.
 */
HV_API hv_status hv_open(const hv_options *options, hv_store **store, hv_error **error);

/*
 * Close a store and free it. New operations fail with HV_CLOSED from the moment of the call;
 * waiters are woken with it; then the call waits up to `timeout` milliseconds (0: not at all, -1:
 * without end) for lent connections and operations under way. If some are still out then, it
 * returns HV_BUSY and the store remains: closed for new work, to be closed again when they are
 * back. After HV_OK no thread may use `store` in any way. hv_close(NULL) is allowed.
 */
HV_API hv_status hv_close(hv_store *store, int64_t timeout, hv_error **error);

/*
 * The first half of hv_close(): new operations fail with HV_CLOSED, waiters are woken with it, idle
 * connections are closed. The store remains, for hv_release() and hv_close(): for a program whose
 * threads must all know that it is over before one of them can free it. NULL is allowed.
 */
HV_API void hv_stop(hv_store *store);

/*
 * Close every idle connection now, and every lent one when it is returned. The store goes on: the
 * next operation opens new ones.
 */
HV_API void hv_disconnect(hv_store *store);

/*
 * Make every pool anew: as hv_disconnect(), and the statistics and what is remembered about
 * unreachable servers start again. For use after a change of address or a fork.
 */
HV_API void hv_reinstantiate(hv_store *store);

/*
 * Fork: a child process makes its own connections and leaves its parent's alone, by itself;
 * nothing has to be called. A connection that was lent at the fork is of no use in the child: it
 * may only be given to hv_release() or hv_discard() there, which forget it without a word to the
 * server.
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
 * HV_CORRUPT: the shard's next_id() is not this shard's; the entity was stored, but under a key
 * that does not lead to it. The key is in the error's detail. Or the answer was none to this put:
 * then the entity may or may not be there.
 * HV_NOT_STORED: the server reported no failure, but the row is not there: a BEFORE INSERT trigger
 * took it away, or the table has a rule that does something instead. HV_OK is returned only for a
 * row that the server says it has stored, and the key is that of the row as it was stored.
 *
 * With the option `exactly_once` the entity is stored under a key that was reserved for it, and
 * over a lost connection or a restarted server the put is repeated until operation_timeout has
 * passed: after HV_OK there is one entity, never two; HV_OUTCOME_UNKNOWN remains only for a server
 * that does not come back in time.
 */
HV_API hv_status hv_put(hv_store *store, int shard, int kind, const hv_dict *dict, int64_t *key,
                        hv_error **error);

/*
 * Reserve `count` unused keys of a shard, 1 to 100,000, in one round trip. `keys` has room for
 * them; they come in ascending order and are given to nobody else, whether they are used or not. A
 * key's time is that of its reservation. Errors: as hv_put(), never HV_OUTCOME_UNKNOWN;
 * HV_NOT_INITIALIZED also for a shard that was made by the original implementation and has no
 * function for it.
 */
HV_API hv_status hv_reserve(hv_store *store, int shard, int count, int64_t *keys, hv_error **error);

/*
 * Store an entity under a key that the caller has, from hv_reserve(). The shard is the key's. To
 * repeat the call is safe: if the key has an entity of the same kind and attributes, that is HV_OK;
 * if it has another, or one that this role may not see, nothing is changed and the status is
 * HV_CONFLICT. HV_NOT_STORED also for a trigger that changes the key: nothing is stored then.
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

HV_API void hv_entity_free(hv_entity *entity);
HV_API int64_t hv_entity_key(const hv_entity *entity);
HV_API int hv_entity_kind(const hv_entity *entity);
/* Never NULL; lives as long as the entity. */
HV_API const hv_dict *hv_entity_dict(const hv_entity *entity);

/* ---- Many operations at once ----------------------------------------------------------------- */

/*
 * One thread can have any number of operations under way, over any shards. Those of one server go
 * together: a statement for all of one shard and kind, a commit for many; all servers work at once.
 * Each operation has its own fate all the same, with the statuses and errors of hv_put(),
 * hv_put_key() and hv_get(): if the server refuses one, the others are done without it; a server
 * that is down fails its own operations and no others. After a lost connection gets are repeated;
 * puts have an unknown outcome, unless the option `exactly_once` is on: then they are repeated too.
 * The option `operation_timeout` counts for each operation from the moment that it is taken up.
 *
 * The statements do not tell the log their parameters.
 */

/* An entity to be stored. */
typedef struct hv_new_entity {
    int64_t key; /* from hv_reserve(), as in hv_put_key(); or 0: a new key in … */
    int shard;   /* … this shard */
    int kind;
    const hv_dict *dict; /* NULL: no attributes */
} hv_new_entity;

/*
 * Store `count` entities. What came of entities[i] is in statuses[i], its key in keys[i] (its own,
 * or on HV_OK the new one, otherwise 0), its error or NULL in errors[i], which belongs to the
 * caller. Each of the three arrays has room for `count`, or is NULL.
 *
 * HV_OK: all are stored. Otherwise the first status that is not HV_OK, in the order of `entities`,
 * and a copy of its error; or HV_CLOSED, HV_NO_MEMORY and nothing was begun, which is every item's
 * status then.
 */
HV_API hv_status hv_put_many(hv_store *store, const hv_new_entity *entities, size_t count,
                             int64_t *keys, hv_status *statuses, hv_error **errors,
                             hv_error **error);

/*
 * Fetch `count` entities. entities[i] is that of keys[i] and belongs to the caller, or NULL; what
 * came of it is in statuses[i], which is HV_NOT_FOUND for an entity that is not there, and its
 * error or NULL in errors[i]. `statuses` and `errors` may be NULL. A key may occur more than once.
 *
 * HV_OK: every key was answered, with an entity or without. Otherwise as hv_put_many().
 */
HV_API hv_status hv_get_many(hv_store *store, const int64_t *keys, size_t count,
                             hv_entity **entities, hv_status *statuses, hv_error **errors,
                             hv_error **error);

/*
 * Told what came of one operation: once for each. `key` is the entity's; 0 for a put under a new
 * key that did not succeed. `entity` is what a get found, otherwise NULL. `error` is NULL with
 * HV_OK and HV_NOT_FOUND. Entity and error belong to the function: hv_entity_free(),
 * hv_error_free(). `tag` is what the operation was given.
 */
typedef void (*hv_done_fn)(void *context, void *tag, hv_status status, int64_t key,
                           hv_entity *entity, hv_error *error);

/* Gives the next entity to be stored, which is copied at once; or returns false: there are no more.
 * *tag, NULL before, is for hv_done_fn. */
typedef bool (*hv_next_entity_fn)(void *context, hv_new_entity *entity, void **tag);

/* The same for the next key to be fetched. */
typedef bool (*hv_next_key_fn)(void *context, int64_t *key, void **tag);

/*
 * As hv_put_many() and hv_get_many(), for more than fits in memory: `next` gives what is to be done
 * and `done` takes what came of it, in no particular order, both in the caller's thread. They must
 * not call the store.
 *
 * However many there are, for each server at most 2,048 operations are under way, with 4 MB of
 * attributes to be stored, beside one entity that is larger; with what libpq needs to send them
 * that makes up to 16 MB a server. Entities that were fetched come in addition: up to 1,024 at once
 * for each of two connections.
 */
HV_API hv_status hv_put_stream(hv_store *store, hv_next_entity_fn next, hv_done_fn done,
                               void *context, hv_error **error);
HV_API hv_status hv_get_stream(hv_store *store, hv_next_key_fn next, hv_done_fn done, void *context,
                               hv_error **error);

/*
 * A queue is the same for event loops: operations are added and done as it comes, and nothing
 * waits. It has one descriptor, to be waited for with poll(2), epoll(7), libuv or whatever there
 * is; when it is readable, hv_queue_advance() does what can be done.
 *
 *     hv_queue_new(store, done, context, &queue, &error);
 *     hv_queue_get(queue, key, tag, &error);
 *     while (hv_queue_pending(queue) > 0) {
 *         struct pollfd fd = {.fd = hv_queue_fd(queue), .events = POLLIN};
 *         poll(&fd, 1, -1);
 *         hv_queue_advance(queue, 0);
 *     }
 *
 * Used by one thread at a time; a store may have many queues. A queue uses connections of the
 * store's pools, up to two of each server, and gives them back as soon as a batch is done. While a
 * queue lives, hv_close() finds the store in use. Two things can still make a queue wait: the
 * look-up of a server's name, and a connector of the user's that has no steps.
 *
 * After fork() a queue is its parent's: in the child it does nothing any more, and may be freed, if
 * nobody was in it at the fork.
 */
typedef struct hv_queue hv_queue;

/*
 * Make a queue. `done` is called for each operation that was added, from within hv_queue_advance().
 * It may add operations; it must not advance or free the queue. Errors: HV_CLOSED, HV_NO_MEMORY
 * (file descriptors included).
 */
HV_API hv_status hv_queue_new(hv_store *store, hv_done_fn done, void *context, hv_queue **queue,
                              hv_error **error);

/* Abandon what is pending, without calling `done`: a put may or may not be stored. Waits for
 * nothing. */
HV_API void hv_queue_free(hv_queue *queue);

/*
 * Add an operation; what it needs is copied. On HV_OK it is pending, and `done` will be told; it is
 * sent when the queue is next advanced, for which its descriptor asks at once. Otherwise nothing
 * was added. There is no limit but memory: who adds without end looks at hv_queue_pending().
 * Errors: HV_INVALID, HV_NO_SERVER, HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_queue_put(hv_queue *queue, const hv_new_entity *entity, void *tag,
                              hv_error **error);
HV_API hv_status hv_queue_get(hv_queue *queue, int64_t key, void *tag, hv_error **error);

/* The descriptor to wait for until it is readable; the same for all of the queue's life. It is the
 * queue's: do not read from it or close it. */
HV_API int hv_queue_fd(const hv_queue *queue);

/* The operations that were added and are not done. */
HV_API size_t hv_queue_pending(const hv_queue *queue);

/*
 * Do what can be done, and call `done` for what is. If nothing is, wait up to `timeout`
 * milliseconds (0: not at all, -1: without end) until something is, a signal comes, or nothing is
 * pending. Returns the number of operations that were done.
 */
HV_API size_t hv_queue_advance(hv_queue *queue, int64_t timeout);

/* ---- Many entities at once ------------------------------------------------------------------- */

/*
 * A load stores many entities on one server, through COPY, some thousand rows a transaction. What
 * it has come to is kept in the database (table hypervault.imports) under the load's name, and
 * written in the transactions themselves. So each transaction happens once, whatever becomes of
 * connections, servers and the process: who opens the load again finds the position that was
 * committed last, and goes on behind it.
 *
 *     hv_load_open(store, server, "people/0", &load, &error)
 *     n = where hv_load_position(load) says to go on
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
 * Open the load `name` (1 to 200 bytes) on a server, or begin it. Only one process may go on with a
 * load at a time: another one's hv_load_send() fails with HV_CONFLICT. An open load counts as an
 * operation under way for hv_close(). After fork() it is its parent's: in the child it can only be
 * freed. Errors: HV_INVALID, HV_NOT_INITIALIZED, and as hv_get().
 */
HV_API hv_status hv_load_open(hv_store *store, int server, const char *name, hv_load **load,
                              hv_error **error);

/* What was not committed is not stored. */
HV_API void hv_load_free(hv_load *load);

/* The position that was committed last; 0 at the beginning. What it means is the caller's. */
HV_API int64_t hv_load_position(const hv_load *load);

/* The note that was committed last, or NULL. Lives until the next commit. */
HV_API const char *hv_load_note(const hv_load *load);

/*
 * Add a row. `key` 0: the database makes a key of `shard`. Otherwise the entity is stored under
 * this key, which belongs to `shard` (-1: whichever it says); the shard will never make it again.
 * The dict is copied. Nothing is sent. Errors: HV_INVALID, HV_NO_SERVER, also if the shard is not
 * on the load's server; HV_NO_MEMORY, after which the load is good only for hv_load_free().
 */
HV_API hv_status hv_load_add(hv_load *load, int64_t key, int shard, int kind, const hv_dict *dict,
                             hv_error **error);

/*
 * The same with attributes that hv_dict_binary() has written, perhaps in another thread. Other
 * bytes are for the server to judge: it refuses the row.
 */
HV_API hv_status hv_load_add_binary(hv_load *load, int64_t key, int shard, int kind,
                                    const char *bytes, size_t len, hv_error **error);

/* The rows that were added and not yet committed. They are numbered from 0. */
HV_API size_t hv_load_count(const hv_load *load);

/*
 * Begin a transaction (or begin it again) and store the first `count` rows in it, in any order.
 * Rows that the server refuses by themselves, for a constraint or a trigger, do no harm to the
 * others: see hv_load_row(). After a failure nothing is stored, and the call can be repeated. After
 * HV_OUTCOME_UNKNOWN of hv_load_commit() it finds out what became of that, and stores the same rows
 * again only if they are not stored; `count` is then ignored.
 *
 * A row that meets an error which may go by (a deadlock, a serialization failure) is tried a few
 * times. If it still fails, the call fails with that error, and *blocked (may be NULL) is the row's
 * number; in all other cases SIZE_MAX. Try again later, with fewer rows if those before it are not
 * to wait, or give the row up.
 *
 * The server's time limits on statements do not apply; each wait for the server is bounded by
 * operation_timeout. Errors: as hv_put(), HV_CONFLICT (see hv_load_open()), HV_CORRUPT (the shard's
 * next_id() is not this shard's); never HV_OUTCOME_UNKNOWN.
 */
HV_API hv_status hv_load_send(hv_load *load, size_t count, size_t *blocked, hv_error **error);

/*
 * After hv_load_send(): what became of a row. HV_OK: it is stored; *known (may be NULL) says
 * whether an entity of the same kind and attributes was there already under its key. Otherwise the
 * status of *error (may be NULL; lives until the commit), which says why it was refused: HV_REFUSED
 * by the server, HV_NOT_STORED if a trigger or a rule took it away without an error, HV_CONFLICT if
 * the key has another entity, HV_INVALID if the key is so far ahead
 * of the server's clock that it could be made again. A refused row stays refused. HV_INVALID
 * without an error if there is no such row.
 */
HV_API hv_status hv_load_row(const hv_load *load, size_t index, bool *known,
                             const hv_error **error);

/* Refuse a row that hv_load_send() said is blocked, for the reason that it told. */
HV_API void hv_load_give_up(hv_load *load, size_t index);

/*
 * Commit what was sent, with the new position, which must be greater if there are rows, and a note
 * (NULL: as it was). The rows are gone then. Errors: as hv_put(): unless it is HV_OUTCOME_UNKNOWN,
 * nothing is stored. In any case go on with hv_load_send().
 */
HV_API hv_status hv_load_commit(hv_load *load, int64_t position, const char *note,
                                hv_error **error);

/* Told of a load: its name, position and note (may be NULL), which live only during the call. */
typedef void (*hv_load_fn)(void *context, const char *name, int64_t position, const char *note);

/*
 * Tell of each load of a server whose name begins with `prefix`, in the order of their names'
 * bytes. They stay there until somebody deletes them from hypervault.imports. Errors: as hv_get().
 */
HV_API hv_status hv_load_list(hv_store *store, int server, const char *prefix, hv_load_fn tell,
                              void *context, hv_error **error);

/*
 * A scan walks over a shard's entities in the order of their keys, as they were at one moment: that
 * of hv_scan_open(). However many they are, it takes little memory. It has a connection of the
 * server's pool until its end. One thread at a time. After fork() it is its parent's: in the child
 * it can only be closed.
 */
typedef struct hv_scan hv_scan;

/*
 * Begin a scan of the keys from `from` to before `until` (0: to the last); hv_key_bound() makes
 * them of points in time. With `kind_count` > 0 only of these kinds. Close it before the store.
 * Errors: as hv_get(), HV_INVALID for a kind out of range.
 */
HV_API hv_status hv_scan_open(hv_store *store, int shard, int64_t from, int64_t until,
                              const int *kinds, size_t kind_count, hv_scan **scan,
                              hv_error **error);

/*
 * Go to the next entity. HV_NOT_FOUND: there are no more. Errors: as hv_get(), and nothing more can
 * be had from the scan: a new one, from behind the last key, sees a later moment. The exception is
 * HV_CORRUPT when hv_scan_goes_on(). Each wait for the server is bounded by operation_timeout.
 */
HV_API hv_status hv_scan_next(hv_scan *scan, hv_error **error);

/* After HV_CORRUPT: is it only this one row that cannot be read, such as one whose body is NULL?
 * hv_scan_key() is its key then, and hv_scan_next() goes on behind it. */
HV_API bool hv_scan_goes_on(const hv_scan *scan);

/* Of the entity that the scan is at. The dict, its attributes in the server's order, lives until
 * the next call. */
HV_API int64_t hv_scan_key(const hv_scan *scan);
HV_API int hv_scan_kind(const hv_scan *scan);
HV_API const hv_dict *hv_scan_dict(const hv_scan *scan);

/* Ends it wherever it is. NULL is allowed. */
HV_API void hv_scan_close(hv_scan *scan);

/* ---- Lending connections --------------------------------------------------------------------- */

/*
 * Borrow a connection to the server that holds `shard`, for anything that libpq can do: any table
 * of the shard, transactions, COPY. It is the borrower's alone until hv_release(). It is in
 * autocommit, with client encoding UTF8 and time zone UTC; its search_path is untouched, so name
 * tables with their schema (shard0012.entities).
 *
 * If none is idle and no more may be opened, the caller waits for pool_block_timeout. Those who
 * wait are served in the order they came; where connections are lent for microseconds only, without
 * any statement, somebody who comes later may be quicker, but nobody who has waited for a
 * millisecond is overtaken.
 *
 * What the borrower leaves behind: an open transaction is rolled back at hv_release(), encoding and
 * time zone are put right, a connection in the middle of a COPY, a query or pipeline mode is
 * closed. Other settings, temporary tables, LISTEN and advisory locks are the borrower's to undo;
 * or send DISCARD ALL, or end the loan with hv_discard(). Statements named "hv_…" are the store's.
 *
 * Errors: HV_NO_SERVER, HV_TIMEOUT, HV_UNAVAILABLE, HV_MISMATCH, HV_CLOSED, HV_NO_MEMORY.
 */
HV_API hv_status hv_acquire(hv_store *store, int shard, struct pg_conn **conn, hv_error **error);

/* The same for a server by its position, 0 .. hv_server_count()-1. */
HV_API hv_status hv_acquire_server(hv_store *store, int server, struct pg_conn **conn,
                                   hv_error **error);

/*
 * The same as hv_acquire(), but only if a usable connection is idle: nothing is waited for, opened
 * or closed, and no callback of the user's is called. It is the quick way of a caller who holds a
 * lock that he should not sleep with (Python's GIL): if it fails with HV_TIMEOUT, he lets go of the
 * lock and calls hv_acquire(). Errors: HV_TIMEOUT, without an error object; HV_INVALID,
 * HV_NO_SERVER, HV_CLOSED.
 */
HV_API hv_status hv_try_acquire(hv_store *store, int shard, struct pg_conn **conn,
                                hv_error **error);

/*
 * Return a connection; the pointer is invalid from then on, whatever comes back. Do not PQfinish()
 * it. Errors: HV_INVALID for a connection that this store has not lent.
 */
HV_API hv_status hv_release(hv_store *store, struct pg_conn *conn, hv_error **error);

/*
 * Return a connection that must not be lent again, because the borrower has left it in a state that
 * he cannot undo: it is closed, and another may be opened in its place. Otherwise as hv_release().
 */
HV_API hv_status hv_discard(hv_store *store, struct pg_conn *conn, hv_error **error);

/* The handle that the store's connector gave this lent connection; NULL with the default one. */
HV_API void *hv_connection_handle(hv_store *store, struct pg_conn *conn);

/* ---- Servers and shards ---------------------------------------------------------------------- */

/* The store's epoch. */
HV_API int64_t hv_epoch(const hv_store *store);
/* The number of servers. They are numbered in the order in which the options named them. */
HV_API int hv_server_count(const hv_store *store);
/* The name of a server, or NULL if `server` is out of range. Lives as long as the store. */
HV_API const char *hv_server_name(const hv_store *store, int server);
/* The number of the server that holds a shard, or -1 if none does. */
HV_API int hv_shard_server(const hv_store *store, int shard);
/*
 * The first shard above `after` that `server` holds (-1 for `server`: that any server holds), or -1
 * if there is none. Start with `after` -1.
 */
HV_API int hv_next_shard(const hv_store *store, int server, int after);

/* What a pool counts. The first four are of the moment, the others grow from the pool's start. */
typedef enum hv_stat {
    HV_STAT_OPEN = 0,      /* connections open or being opened */
    HV_STAT_IDLE = 1,      /* … of them waiting to be lent */
    HV_STAT_LENT = 2,      /* … of them in use, by the store itself or by a borrower */
    HV_STAT_WAITING = 3,   /* callers waiting for a connection */
    HV_STAT_OPENED = 4,    /* connections opened */
    HV_STAT_CLOSED = 5,    /* connections closed, for whatever reason */
    HV_STAT_FAILED = 6,    /* attempts to open one that failed */
    HV_STAT_LOANS = 7,     /* connections lent */
    HV_STAT_WAITS = 8,     /* loans that had to wait, those that timed out included */
    HV_STAT_WAIT_US = 9,   /* the time they waited, microseconds */
    HV_STAT_TIMEOUTS = 10, /* waits that ended at their deadline, or were interrupted */
} hv_stat;

/* One number of one server's pool; -1 if there is no such server or number. */
HV_API int64_t hv_pool_stat(hv_store *store, int server, hv_stat stat);
/* Its name, for example "opened"; NULL past the last. */
HV_API const char *hv_stat_name(hv_stat stat);

/* ---- Making and seeing shards ---------------------------------------------------------------- */

/*
 * Told after each shard looked at: `done` of `total` shards of this server are in order.
 */
typedef void (*hv_progress_fn)(void *context, int server, int done, int total);

/*
 * Create on one server what is missing of: the extension hstore, the schema `hypervault` with the
 * layout's version, the epoch and the server's name, and for each of its shards the schema
 * (shard0012), the sequence table_id_seq, the functions next_id() and reserve_ids(), and the table
 * entities. What is there is not touched; shards that the original implementation made are accepted
 * as they are. Only if the option `keys` says strict or portable, shards whose keys are made in
 * another way are changed, while they are in use; no key is ever made again or goes back in time.
 * Each shard is done in a transaction of its own, so the call can be repeated after a failure, and
 * several may run at once. It uses a connection of its own, not the pool's.
 *
 * Before anything is made, all other servers of the store are asked, through their pools, whether
 * they hold a shard that is missing here: made here, it would be an empty copy. If one does, or
 * cannot be asked, nothing is made. They are asked once again at the end, for two calls with
 * different configurations may run at once: then HV_MISMATCH means that all was made, but that a
 * shard is on two servers now.
 *
 * *created (may be NULL) is the number of shards that were missing, incomplete, or changed; it is
 * set on failure too. Errors: HV_UNAVAILABLE, HV_TIMEOUT, HV_MISMATCH (another epoch, a newer
 * layout, another server's name, a shard's table of another form, a shard that another server
 * holds, something that belongs to a role that is not trusted), HV_REFUSED (no right to create,
 * hstore not installed, disk full), HV_INVALID (no such server).
 */
HV_API hv_status hv_create_shards(hv_store *store, int server, hv_progress_fn progress,
                                  void *context, int *created, hv_error **error);

/* The same, going on if one of the servers `without` (their numbers) cannot be reached: the caller
 * knows that it holds none of the shards. Those that can be are asked as all others are. */
HV_API hv_status hv_create_shards_without(hv_store *store, int server, const int *without,
                                          size_t without_count, hv_progress_fn progress,
                                          void *context, int *created, hv_error **error);

/* What a server looks like: a snapshot that belongs to the caller. */
typedef struct hv_report hv_report;

typedef enum hv_shard_state {
    HV_SHARD_READY = 0,      /* everything is there */
    HV_SHARD_MISSING = 1,    /* the server's by the configuration, but no schema */
    HV_SHARD_INCOMPLETE = 2, /* schema there, but something missing, of another form, or owned by a
                                role that is not trusted: docs/operations.md */
    HV_SHARD_UNMAPPED = 3,   /* on this server, but the configuration does not give it to it */
    /* These two are seen by hv_compare_reports() only. */
    HV_SHARD_ELSEWHERE = 4, /* the server's by the configuration, but another holds it */
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
 * Compare reports of all servers of a store, once: a shard that lies on another server than the
 * configuration says, or on two, is given its state, detail and hint in the reports of both.
 * Entries may be NULL, for servers that could not be looked at. Two servers that are the same
 * database are not compared. Errors: HV_NO_MEMORY.
 */
HV_API hv_status hv_compare_reports(hv_report *const *reports, size_t count, hv_error **error);

/* May the shards that are missing on the server with the report at `index` be made, as far as the
 * reports say? Errors: HV_MISMATCH: another server holds some of them, and which. */
HV_API hv_status hv_check_reports(hv_report *const *reports, size_t count, size_t index,
                                  hv_error **error);

/* What makes the keys of a shard: see docs/operations.md. */
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
/* The version of the extension `hypervault` in this database, or NULL if it is not there. */
HV_API const char *hv_report_extension(const hv_report *report);
HV_API int hv_report_connections(const hv_report *report);     /* client connections now */
HV_API int hv_report_max_connections(const hv_report *report); /* the server's max_connections */
HV_API size_t hv_report_shard_count(const hv_report *report);
/* One shard of the report, in ascending order; false past the end. Any pointer may be NULL. */
HV_API bool hv_report_shard(const hv_report *report, size_t index, int *shard,
                            hv_shard_state *state, int64_t *entities, bool *exact, int64_t *bytes);
/* What makes the keys of that shard; HV_KEYS_NONE past the end. */
HV_API hv_keys hv_report_shard_keys(const hv_report *report, size_t index);
/* What is wrong with that shard, and what to do about it, in words that are the same for every
 * shard with the same faults. NULL if nothing is, if the shard is missing, and past the end. They
 * belong to the report. */
HV_API const char *hv_report_shard_detail(const hv_report *report, size_t index);
HV_API const char *hv_report_shard_hint(const hv_report *report, size_t index);

#ifdef __cplusplus
}
#endif
#endif
