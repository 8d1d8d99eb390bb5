/*
 * options: the hv_options object.
 *
 * Holds always: a server has a name and parameters that libpq knows, each at most once; no shard
 * belongs to two servers. Refused values never appear in an error, as one may be a password on the
 * wrong line; except shards that look like shards.
 */
#include "config/options.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/shard_ranges.h"
#include "base/suggest.h"
#include "config/hosts.h"

hv_options *hv_options_new(void) {
    hv_options *options = calloc(1, sizeof *options);
    if (options == NULL)
        return NULL;
    for (int i = 0; i < HVI_OPTION_COUNT; i++) {
        /* Any unit test would find a default that does not parse. */
        hvi_option_parse((hvi_option_id) i, hvi_option_table[i].default_text, &options->values[i],
                         NULL);
    }
    hvi_shard_map_init(&options->map);
    return options;
}

static void free_value(char *value) {
    if (value != NULL)
        explicit_bzero(value, strlen(value));
    free(value);
}

static void fini_server(hvi_server_options *server) {
    for (size_t i = 0; i < server->count; i++) {
        free(server->keywords[i]);
        free_value(server->values[i]);
    }
    for (int i = 0; i < HVI_MOVE_SETTINGS; i++)
        free_value(server->move[i]);
    free(server->keywords);
    free(server->values);
    free(server->name);
}

void hv_options_free(hv_options *options) {
    if (options == NULL)
        return;
    for (int i = 0; i < options->server_count; i++)
        fini_server(&options->servers[i]);
    free(options->servers);
    for (int i = 0; i < HVI_OPTION_COUNT; i++)
        free(options->texts[i]);
    free(options);
}

bool hvi_holds_settings(const char *text) {
    static const char word[] = "password";
    for (const char *at = text; (at = strcasestr(at, word)) != NULL;) {
        at += strlen(word);
        at += strspn(at, " \t");
        if (*at == '=' || *at == ':')
            return true;
    }
    return strcasestr(text, "postgres://") != NULL || strcasestr(text, "postgresql://") != NULL;
}

static hv_status fail_holds_settings(const char *name, hv_error **error) {
    hvi_fail(error, HV_BAD_CONFIG, "the value of \"%s\" contains other settings", name);
    hvi_error_detail(error, "It is not shown because it may contain a password.");
    hvi_error_hint(error, "Give each setting separately: host, port, user, password, dbname, …");
    return HV_BAD_CONFIG;
}

hv_status hv_options_set(hv_options *options, const char *name, const char *value,
                         hv_error **error) {
    hvi_option_id id;
    hv_status status = hvi_option_find(name, &id, error);
    if (status != HV_OK)
        return status;
    if (hvi_holds_settings(value))
        return fail_holds_settings(name, error);
    int64_t parsed;
    status = hvi_option_parse(id, value, &parsed, error);
    if (status != HV_OK)
        return status;
    char *text = strdup(value);
    if (text == NULL)
        return hvi_no_memory(error);
    free(options->texts[id]);
    options->texts[id] = text;
    options->values[id] = parsed;
    return HV_OK;
}

const char *hv_options_get(const hv_options *options, const char *name) {
    hvi_option_id id;
    if (hvi_option_find(name, &id, NULL) != HV_OK)
        return NULL;
    if (hvi_option_table[id].type == HVI_BOOLEAN)
        return options->values[id] != 0 ? "on" : "off";
    return options->texts[id] != NULL ? options->texts[id] : hvi_option_table[id].default_text;
}

void hv_options_set_log(hv_options *options, hv_log_fn log, void *context) {
    options->log = log;
    options->log_context = context;
}

void hv_options_set_interrupt(hv_options *options, hv_interrupt_fn interrupt, void *context) {
    options->interrupt = (hvi_interrupt){.fn = interrupt, .context = context};
}

void hv_options_set_connector(hv_options *options, const hv_connector *connector) {
    options->has_connector = connector != NULL;
    if (connector != NULL)
        options->connector = *connector;
}

int hvi_options_server(const hv_options *options, const char *name) {
    for (int i = 0; i < options->server_count; i++)
        if (strcmp(options->servers[i].name, name) == 0)
            return i;
    return -1;
}

const char *hvi_server_parameter(const hvi_server_options *server, const char *keyword) {
    for (size_t i = 0; i < server->count; i++)
        if (strcmp(server->keywords[i], keyword) == 0)
            return server->values[i];
    return NULL;
}

/* The server of this name, added if it is new. NULL: out of memory. */
static hvi_server_options *find_or_add_server(hv_options *options, const char *name) {
    int at = hvi_options_server(options, name);
    if (at >= 0)
        return &options->servers[at];
    hvi_server_options *servers =
        realloc(options->servers, (size_t) (options->server_count + 1) * sizeof *servers);
    if (servers == NULL)
        return NULL;
    options->servers = servers;
    hvi_server_options *server = &servers[options->server_count];
    *server = (hvi_server_options){0};
    server->name = strdup(name);
    server->keywords = calloc(1, sizeof *server->keywords);
    server->values = calloc(1, sizeof *server->values);
    if (server->name == NULL || server->keywords == NULL || server->values == NULL) {
        fini_server(server);
        return NULL;
    }
    options->server_count++;
    return server;
}

static bool set_parameter(hvi_server_options *server, const char *keyword, const char *value) {
    char *copy = strdup(value);
    if (copy == NULL)
        return false;
    for (size_t i = 0; i < server->count; i++) {
        if (strcmp(server->keywords[i], keyword) == 0) {
            free_value(server->values[i]);
            server->values[i] = copy;
            return true;
        }
    }
    char *word = strdup(keyword);
    size_t bytes = (server->count + 2) * sizeof(char *);
    char **keywords = realloc(server->keywords, bytes);
    if (keywords != NULL)
        server->keywords = keywords;
    char **values = realloc(server->values, bytes);
    if (values != NULL)
        server->values = values;
    if (word == NULL || keywords == NULL || values == NULL) {
        free(word);
        free(copy);
        return false;
    }
    keywords[server->count] = word;
    values[server->count] = copy;
    server->count++;
    keywords[server->count] = NULL;
    values[server->count] = NULL;
    return true;
}

/* A setting for moves. NULL: none. */
static bool set_move(hvi_server_options *server, hvi_move_setting setting, const char *value) {
    char *copy = value != NULL ? strdup(value) : NULL;
    if (value != NULL && copy == NULL)
        return false;
    free_value(server->move[setting]);
    server->move[setting] = copy;
    return true;
}

/* Give shards to a server. */
static hv_status add_shards(hv_options *options, int server, const char *text, hv_error **error) {
    const char **names = malloc((size_t) options->server_count * sizeof *names);
    if (names == NULL)
        return hvi_no_memory(error);
    for (int i = 0; i < options->server_count; i++)
        names[i] = options->servers[i].name;
    hv_status status = hvi_shard_map_add(&options->map, text, server, names, error);
    free(names);
    return status;
}

static bool is_auto(const char *text) {
    static const char word[] = "auto", spaces[] = " \t\r\n\v\f";
    text += strspn(text, spaces);
    return strncasecmp(text, word, strlen(word)) == 0 &&
           text[strlen(word) + strspn(text + strlen(word), spaces)] == '\0';
}

/* Ranges of shards, none, or "auto". A server cannot have both: what its database says would never
 * be asked for the ranges. */
static hv_status take_shards(hv_options *options, int server, const char *text, hv_error **error) {
    hvi_server_options *entry = &options->servers[server];
    if (text[strspn(text, " \t\r\n\v\f")] == '\0')
        return HV_OK;
    bool wants_auto = is_auto(text);
    bool has_ranges = hvi_shard_map_next(&options->map, server, -1) >= 0;
    if (wants_auto ? has_ranges : entry->is_auto) {
        hvi_fail(error, HV_BAD_CONFIG, "server \"%s\": \"shards\" are both \"auto\" and ranges",
                 entry->name);
        hvi_error_hint(error, "Give ranges, or let the server itself be asked: shards = auto.");
        hvi_error_where(error, entry->name, -1);
        return HV_BAD_CONFIG;
    }
    if (!wants_auto)
        return add_shards(options, server, text, error);
    entry->is_auto = true;
    return HV_OK;
}

/* Is this a parameter that the linked libpq takes? */
static hv_status check_keyword(const char *server, const char *keyword, hv_error **error) {
    /* Rather than PQconndefaults(), which also reads the environment, files and user database. */
    PQconninfoOption *known = PQconninfoParse("", NULL);
    if (known == NULL)
        return hvi_no_memory(error);
    hvi_suggestion nearest;
    hvi_suggestion_init(&nearest, keyword);
    hvi_suggestion_offer(&nearest, "shards");
    hvi_suggestion_offer(&nearest, "database");
    for (int i = 0; i < HVI_MOVE_SETTINGS; i++)
        hvi_suggestion_offer(&nearest, hvi_move_setting_table[i].name);
    bool found = false;
    for (PQconninfoOption *option = known; option->keyword != NULL && !found; option++) {
        found = strcmp(option->keyword, keyword) == 0;
        hvi_suggestion_offer(&nearest, option->keyword);
    }
    hv_status status = HV_OK;
    if (!found) {
        status = hvi_fail(error, HV_BAD_CONFIG, "server \"%s\": unknown parameter \"%s\"", server,
                          keyword);
        hvi_error_where(error, server, -1);
        if (nearest.best != NULL)
            hvi_error_hint(error, "Did you mean \"%s\"?", nearest.best);
        else
            hvi_error_hint(error, "A server takes libpq's connection parameters, \"shards\" and "
                                  "settings for moves (\"move_host\" and the like).");
    }
    PQconninfoFree(known);
    return status;
}

/* Check a port, or a list of ports for several hosts, now rather than at the first connection. */
static hv_status check_port(const char *server, const char *value, hv_error **error) {
    const char *at = value;
    for (;;) {
        char *end;
        long port = *at == ',' || *at == '\0' ? 1 : strtol(at, &end, 10);
        if (*at != ',' && *at != '\0') {
            if (end == at || port < 1 || port > 65535 || (*end != ',' && *end != '\0'))
                break;
            at = end;
        }
        if (*at == '\0')
            return HV_OK;
        at++;
    }
    hvi_fail(error, HV_BAD_CONFIG, "server \"%s\": invalid port", server);
    hvi_error_where(error, server, -1);
    hvi_error_hint(error, "A port is a number from 1 to 65535.");
    return HV_BAD_CONFIG;
}

/* Parameters that libpq reads as numbers: it checks them only when it connects, and the first one
 * never if it does not block. */
static const char *const numbers[] = {
    "connect_timeout",     "keepalives",       "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout",
};

static hv_status check_number(const char *server, const char *keyword, const char *value,
                              hv_error **error) {
    int number;
    bool is_number = false;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        is_number = is_number || strcmp(keyword, numbers[i]) == 0;
    if (!is_number || *value == '\0' || hvi_hosts_number(value, &number))
        return HV_OK;
    hvi_fail(error, HV_BAD_CONFIG, "server \"%s\": \"%s\" is not a whole number", server, keyword);
    hvi_error_where(error, server, -1);
    hvi_error_hint(error, "libpq takes it without a unit; the time-outs and intervals are seconds, "
                          "but tcp_user_timeout is milliseconds.");
    return HV_BAD_CONFIG;
}

bool hvi_is_secret(const char *keyword) {
    hvi_move_setting setting = hvi_move_setting_find(keyword);
    return strcmp(keyword, "password") == 0 || strcmp(keyword, "sslpassword") == 0 ||
           (setting != HVI_MOVE_SETTINGS && hvi_move_setting_table[setting].is_secret);
}

static hv_status check_name(const char *server, hv_error **error) {
    if (server[0] == '\0')
        return hvi_fail(error, HV_BAD_CONFIG, "a server's name must not be empty");
    if (hvi_holds_settings(server))
        return hvi_fail(error, HV_BAD_CONFIG, "a server's name must not contain settings");
    return HV_OK;
}

hv_status hv_options_add_server(hv_options *options, const char *server, hv_error **error) {
    hv_status status = check_name(server, error);
    if (status != HV_OK)
        return status;
    int other = hvi_options_server(options, server);
    if (other >= 0) {
        hvi_fail(error, HV_BAD_CONFIG, "servers %d and %d are both named \"%s\"", other + 1,
                 options->server_count + 1, server);
        hvi_error_where(error, server, -1);
        hvi_error_hint(error, "Give each server a name of its own, and put all settings of one "
                              "server in one place.");
        return HV_BAD_CONFIG;
    }
    return find_or_add_server(options, server) == NULL ? hvi_no_memory(error) : HV_OK;
}

/* "database" is another name of "dbname": with different values it is unclear which is meant. */
static hv_status check_dbname(const hvi_server_options *server, const char *parameter,
                              const char *value, hv_error **error) {
    if (server->dbname_given_as == NULL || strcmp(server->dbname_given_as, parameter) == 0 ||
        strcmp(hvi_server_parameter(server, "dbname"), value) == 0)
        return HV_OK;
    hvi_fail(error, HV_BAD_CONFIG,
             "server \"%s\": \"dbname\" and \"database\" have different values", server->name);
    hvi_error_where(error, server->name, -1);
    hvi_error_hint(error, "They are two names of one parameter: give one of them.");
    return HV_BAD_CONFIG;
}

hv_status hv_options_set_server(hv_options *options, const char *server, const char *parameter,
                                const char *value, hv_error **error) {
    bool is_shards = strcmp(parameter, "shards") == 0;
    const char *keyword = strcmp(parameter, "database") == 0 ? "dbname" : parameter;
    bool is_dbname = strcmp(keyword, "dbname") == 0;
    hvi_move_setting move = hvi_move_setting_find(parameter);
    hv_status status = check_name(server, error);
    if (status == HV_OK && !is_shards && move == HVI_MOVE_SETTINGS)
        status = check_keyword(server, keyword, error);
    /* A password may be any text. This also catches a dbname that is a connection string, which
     * libpq is not asked to expand. */
    if (status == HV_OK && !hvi_is_secret(keyword) && hvi_holds_settings(value)) {
        status = fail_holds_settings(parameter, error);
        hvi_error_where(error, server, -1);
    }
    if (status == HV_OK && (strcmp(keyword, "port") == 0 || move == HVI_MOVE_PORT))
        status = check_port(server, value, error);
    if (status == HV_OK)
        status = check_number(server, keyword, value, error);
    if (status != HV_OK)
        return status;
    hvi_server_options *entry = find_or_add_server(options, server);
    if (entry == NULL)
        return hvi_no_memory(error);
    if (is_shards)
        return take_shards(options, (int) (entry - options->servers), value, error);
    if (move != HVI_MOVE_SETTINGS)
        return set_move(entry, move, value) ? HV_OK : hvi_no_memory(error);
    if (is_dbname && (status = check_dbname(entry, parameter, value, error)) != HV_OK)
        return status;
    if (!set_parameter(entry, keyword, value))
        return hvi_no_memory(error);
    if (is_dbname)
        entry->dbname_given_as = keyword == parameter ? "dbname" : "database";
    return HV_OK;
}

hv_options *hvi_options_copy(const hv_options *options) {
    hv_options *copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    memcpy(copy->values, options->values, sizeof copy->values);
    copy->map = options->map;
    copy->log = options->log;
    copy->log_context = options->log_context;
    copy->interrupt = options->interrupt;
    copy->has_connector = options->has_connector;
    copy->connector = options->connector;
    for (int i = 0; i < HVI_OPTION_COUNT; i++) {
        if (options->texts[i] != NULL && (copy->texts[i] = strdup(options->texts[i])) == NULL)
            goto no_memory;
    }
    for (int i = 0; i < options->server_count; i++) {
        const hvi_server_options *from = &options->servers[i];
        hvi_server_options *to = find_or_add_server(copy, from->name);
        if (to == NULL)
            goto no_memory;
        for (size_t j = 0; j < from->count; j++)
            if (!set_parameter(to, from->keywords[j], from->values[j]))
                goto no_memory;
        for (int j = 0; j < HVI_MOVE_SETTINGS; j++)
            if (!set_move(to, (hvi_move_setting) j, from->move[j]))
                goto no_memory;
        to->is_auto = from->is_auto;
    }
    return copy;

no_memory:
    hv_options_free(copy);
    return NULL;
}

const char *hvi_options_migrations(const hv_options *options) {
    return options->values[HVI_MIGRATIONS] != 0 ? options->texts[HVI_MIGRATIONS] : NULL;
}

void hvi_options_spread(const hv_options *options, hvi_spread *spread) {
    const char *text = options->texts[HVI_SPREAD];
    hvi_spread_read(spread, text != NULL ? text : "", NULL); /* it was read when it was set */
}

bool hvi_options_auto(const hv_options *options) {
    for (int i = 0; i < options->server_count; i++)
        if (options->servers[i].is_auto)
            return true;
    return false;
}

/* Values must not lose their shard because a server, or some of its shards, are left out. */
static hv_status check_spread(const hv_options *options, hv_error **error) {
    hvi_spread spread;
    hvi_buffer missing = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &missing};
    hvi_options_spread(options, &spread);
    for (int shard = -1; (shard = hvi_spread_next(&spread, shard)) >= 0;)
        if (hvi_shard_map_server(&options->map, shard) < 0)
            hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    hv_status status = HV_OK;
    if (!hvi_buffer_ok(&missing)) {
        status = hvi_no_memory(error);
    } else if (missing.len > 0) {
        status = hvi_fail(error, HV_BAD_CONFIG,
                          "no server holds the shards %s, which \"spread\" names", missing.data);
        hvi_error_detail(error,
                         "Values are spread over a fixed set of shards. Without some of them "
                         "most values would belong to other shards than before.");
        hvi_error_hint(error, "Add them to \"shards\" of the server that has them.");
    }
    hvi_buffer_fini(&missing);
    return status;
}

hv_status hvi_options_validate(const hv_options *options, hv_error **error) {
    if (options->server_count == 0) {
        hvi_fail(error, HV_BAD_CONFIG, "no server is configured");
        hvi_error_hint(error,
                       "Add a section [server NAME] with libpq's parameters and \"shards\".");
        return HV_BAD_CONFIG;
    }
    /* Which shards there are, spread over or not, is known when servers have been asked. */
    if (hvi_options_auto(options))
        return HV_OK;
    /* A server without shards is one that is being prepared. */
    if (hvi_shard_map_next(&options->map, -1, -1) < 0) {
        const char *name = options->servers[0].name;
        hvi_fail(error, HV_BAD_CONFIG,
                 options->server_count == 1 ? "server \"%s\" has no shards"
                                            : "neither server \"%s\" nor any other has shards",
                 name);
        hvi_error_where(error, name, -1);
        hvi_error_hint(
            error,
            "Add a line like \"shards = 0-8\" (0 to 7) to [server %s]; or, if its shards "
            "are made already, \"shards = auto\".",
            name);
        return HV_BAD_CONFIG;
    }
    return check_spread(options, error);
}
