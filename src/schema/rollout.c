/*
 * rollout: the struct hv_rollout.
 */
#include "schema/rollout.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/shard_ranges.h"
#include "base/suggest.h"
#include "base/utf8.h"

/* ---- life ---- */

hv_rollout *hv_rollout_new(void) {
    hv_rollout *rollout = calloc(1, sizeof *rollout);
    if (rollout == NULL)
        return NULL;
    rollout->parallel_total = 32;
    rollout->canary = true;
    rollout->lock_timeout = 100;
    return rollout;
}

void hv_rollout_free(hv_rollout *rollout) {
    if (rollout == NULL)
        return;
    for (size_t i = 0; i < rollout->skipped_count; i++)
        free(rollout->skipped[i]);
    free(rollout->skipped);
    free(rollout->shards);
    free(rollout->once);
    free(rollout);
}

/* Put a copy of a text in place of another; NULL stays NULL. */
static bool copy_text(char **text, const char *value) {
    char *copy = value != NULL ? strdup(value) : NULL;
    if (value != NULL && copy == NULL)
        return false;
    free(*text);
    *text = copy;
    return true;
}

static bool add_skipped(hv_rollout *rollout, const char *server) {
    char **longer =
        realloc(rollout->skipped, (rollout->skipped_count + 1) * sizeof *rollout->skipped);
    if (longer == NULL)
        return false;
    rollout->skipped = longer;
    rollout->skipped[rollout->skipped_count] = strdup(server);
    return rollout->skipped[rollout->skipped_count] != NULL && ++rollout->skipped_count > 0;
}

hv_rollout *hvi_rollout_copy(const hv_rollout *rollout) {
    hv_rollout *copy = hv_rollout_new();
    if (copy == NULL || rollout == NULL)
        return copy;
    *copy = *rollout;
    copy->shards = copy->once = NULL;
    copy->skipped = NULL;
    copy->skipped_count = 0;
    bool ok = copy_text(&copy->shards, rollout->shards) && copy_text(&copy->once, rollout->once);
    for (size_t i = 0; ok && i < rollout->skipped_count; i++)
        ok = add_skipped(copy, rollout->skipped[i]);
    if (!ok) {
        hv_rollout_free(copy);
        return NULL;
    }
    return copy;
}

void hv_rollout_observe(hv_rollout *rollout, hv_rollout_fn observer, void *context) {
    rollout->observer = observer;
    rollout->context = context;
}

/* ---- setting ---- */

/* What a value may be. */
typedef enum kind { TEXT, SERVER, SWITCH, NUMBER, FAILURES, WAIT } kind;

static const struct option {
    const char *name;
    kind kind;
    int64_t min; /* of numbers and times, inclusive */
    int64_t max;
    const char *allowed; /* for messages */
    size_t offset;       /* of the field; a number is an int, a time an int64_t */
} options[] = {
    {"shards", TEXT, 0, 0, "shards as in the configuration, \"1-9,12\"",
     offsetof(hv_rollout, shards)},
    {"skip", SERVER, 0, 0, "the name of a server", 0},
    {"parallel", NUMBER, 1, 64, "1 to 64", offsetof(hv_rollout, parallel)},
    {"parallel_total", NUMBER, 1, 1024, "1 to 1024", offsetof(hv_rollout, parallel_total)},
    {"canary", SWITCH, 0, 1, "on or off", offsetof(hv_rollout, canary)},
    {"max_failures", FAILURES, 0, INT_MAX - 1, "a number, 0 or more, or all",
     offsetof(hv_rollout, max_failures)},
    {"lock_timeout", WAIT, 1, INT_MAX, "milliseconds, 1 or more",
     offsetof(hv_rollout, lock_timeout)},
    {"max_wait", WAIT, -1, INT_MAX, "milliseconds, 1 or more, or -1: for ever",
     offsetof(hv_rollout, max_wait)},
    {"timeout", WAIT, 0, INT_MAX, "milliseconds, or 0: no limit", offsetof(hv_rollout, timeout)},
    {"per_server", SWITCH, 0, 1, "on or off", offsetof(hv_rollout, per_server)},
    {"write", SWITCH, 0, 1, "on or off", offsetof(hv_rollout, write)},
    {"once", TEXT, 0, 0, "a name of 1 to 200 bytes", offsetof(hv_rollout, once)},
};

#define OPTION_COUNT (sizeof options / sizeof options[0])
#define ONCE_MAX     200

static const struct option *find(const char *name, hv_error **error) {
    hvi_suggestion near;
    hvi_suggestion_init(&near, name);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
        hvi_suggestion_offer(&near, options[i].name);
    }
    hvi_fail(error, HV_INVALID, "a rollout has no option \"%s\"",
             hvi_utf8_excerpt(name, strlen(name)).text);
    if (near.best != NULL)
        hvi_error_hint(error, "Perhaps \"%s\" is meant.", near.best);
    return NULL;
}

static hv_status fail_value(const struct option *option, const char *value, hv_error **error) {
    hvi_fail(error, HV_INVALID, "invalid value of the rollout's option \"%s\": \"%s\"",
             option->name, hvi_utf8_excerpt(value, strlen(value)).text);
    hvi_error_hint(error, "Allowed: %s.", option->allowed);
    return HV_INVALID;
}

static bool read_number(const struct option *option, const char *value, int64_t *number) {
    char *end;
    errno = 0;
    long long read = strtoll(value, &end, 10);
    if (*value == '\0' || *end != '\0' || errno != 0 || read < option->min || read > option->max ||
        (option->kind == WAIT && option->min < 0 && read == 0))
        return false;
    *number = read;
    return true;
}

/* Mark the shards in the text; `wanted` may be NULL. */
static hv_status read_shards(const char *text, bool wanted[HV_SHARDS], hv_error **error) {
    hvi_shard_reader reader = hvi_shard_reader_of(text, "option of a rollout", "shards");
    hvi_shard_range range;
    reader.status = HV_INVALID;
    do {
        hv_status status = hvi_shard_reader_next(&reader, &range, error);
        if (status != HV_OK)
            return status;
        for (int shard = range.begin; wanted != NULL && shard < range.end; shard++)
            wanted[shard] = true;
    } while (hvi_shard_reader_goes_on(&reader));
    return HV_OK;
}

/* Is the value good for a name? */
static bool is_name(const char *value) {
    size_t len = strlen(value);
    return len > 0 && len <= ONCE_MAX && hvi_utf8_prefix(value, len) == len;
}

static hv_status set_text(const struct option *option, char **field, const char *value,
                          hv_error **error) {
    if (field != NULL && strcmp(option->name, "shards") == 0) {
        hv_status status = read_shards(value, NULL, error);
        if (status != HV_OK)
            return status;
    } else if (!is_name(value)) {
        return fail_value(option, value, error);
    }
    return copy_text(field, value) ? HV_OK : hvi_no_memory(error);
}

hv_status hv_rollout_set(hv_rollout *rollout, const char *name, const char *value,
                         hv_error **error) {
    if (name == NULL || value == NULL)
        return hvi_fail(error, HV_INVALID, "an option of a rollout has a name and a value");
    const struct option *option = find(name, error);
    if (option == NULL)
        return HV_INVALID;
    void *field = (char *) rollout + option->offset;
    int64_t number = INT_MAX; /* "all" */
    switch (option->kind) {
    case TEXT:
        return set_text(option, field, value, error);
    case SERVER:
        if (*value == '\0')
            return fail_value(option, value, error);
        return add_skipped(rollout, value) ? HV_OK : hvi_no_memory(error);
    case SWITCH:
        if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
            return fail_value(option, value, error);
        *(bool *) field = strcmp(value, "on") == 0;
        return HV_OK;
    case NUMBER:
    case FAILURES:
        if (!(option->kind == FAILURES && strcmp(value, "all") == 0) &&
            !read_number(option, value, &number))
            return fail_value(option, value, error);
        *(int *) field = (int) number;
        return HV_OK;
    case WAIT:
        if (!read_number(option, value, &number))
            return fail_value(option, value, error);
        *(int64_t *) field = number;
        return HV_OK;
    }
    return HV_OK;
}

hv_status hvi_rollout_refuse_each(const hv_rollout *rollout, hv_error **error) {
    const char *set = rollout->per_server     ? "per_server"
                      : rollout->write        ? "write"
                      : rollout->once != NULL ? "once"
                                              : NULL;
    if (set == NULL)
        return HV_OK;
    return hvi_fail(error, HV_INVALID, "the option \"%s\" of a rollout is only for hv_each_shard()",
                    set);
}

/* ---- the shards that are meant ---- */

bool hvi_rollout_skips(const hv_rollout *rollout, const char *server) {
    for (size_t i = 0; i < rollout->skipped_count; i++)
        if (strcmp(rollout->skipped[i], server) == 0)
            return true;
    return false;
}

/* Is there a server for each name that is to be skipped? */
static hv_status check_skipped(const hv_rollout *rollout, const hvi_router *router,
                               hv_error **error) {
    for (size_t i = 0; i < rollout->skipped_count; i++) {
        bool found = false;
        for (int j = 0; j < router->server_count; j++)
            found = found || strcmp(router->servers[j].name, rollout->skipped[i]) == 0;
        if (!found)
            return hvi_fail(error, HV_INVALID, "there is no server \"%s\" to skip",
                            rollout->skipped[i]);
    }
    return HV_OK;
}

/* Do all these shards have a server? */
static hv_status check_held(const hvi_router *router, const bool wanted[HV_SHARDS],
                            hv_error **error) {
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (wanted[shard] && hvi_router_holder(router, shard) < 0) {
            hvi_fail(error, HV_INVALID, "no server holds shard %d", shard);
            hvi_error_where(error, NULL, shard);
            return HV_INVALID;
        }
    return HV_OK;
}

/* Mark all shards that there are. */
static hv_status mark_all(const hv_rollout *rollout, hvi_router *router, bool wanted[HV_SHARDS],
                          hv_error **error) {
    hvi_router_locate(router);
    for (int i = 0; i < router->server_count; i++)
        if (!hvi_rollout_skips(rollout, router->servers[i].name)) {
            hv_status status = hvi_router_settle_server(router, i, error);
            if (status != HV_OK)
                return status;
        }
    for (int shard = -1; (shard = hvi_router_next(router, -1, shard)) >= 0;)
        wanted[shard] = true;
    return HV_OK;
}

/* Mark the shards that are named. */
static hv_status mark_named(const hv_rollout *rollout, hvi_router *router, bool wanted[HV_SHARDS],
                            hv_error **error) {
    hv_status status = read_shards(rollout->shards, wanted, error);
    /* Only with `shards = auto` may it turn out that a server holds others. */
    if (status == HV_OK && !hvi_options_auto(router->options))
        status = check_held(router, wanted, error);
    if (status != HV_OK)
        return status;
    hvi_router_locate(router);
    return check_held(router, wanted, error);
}

hv_status hvi_rollout_shards(const hv_rollout *rollout, hvi_router *router, int **shards,
                             int *count, hv_error **error) {
    bool wanted[HV_SHARDS] = {false};
    int *list = NULL;
    int found = 0;
    hv_status status = check_skipped(rollout, router, error);
    if (status == HV_OK)
        status = rollout->shards == NULL ? mark_all(rollout, router, wanted, error)
                                         : mark_named(rollout, router, wanted, error);
    if (status == HV_OK && (list = malloc(HV_SHARDS * sizeof *list)) == NULL)
        status = hvi_no_memory(error);
    if (status != HV_OK)
        return status;
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (wanted[shard]) {
            int server = hvi_router_holder(router, shard);
            if (!hvi_rollout_skips(rollout, router->servers[server].name))
                list[found++] = shard;
        }
    if (found == 0) {
        free(list);
        return hvi_fail(error, HV_INVALID, "no shard is left: all servers are skipped");
    }
    *shards = list;
    *count = found;
    return HV_OK;
}

hv_status hvi_rollout_shards_to_change(const hv_rollout *rollout, hvi_router *router, int **shards,
                                       int *count, hv_error **error) {
    hv_status status = hvi_rollout_shards(rollout, router, shards, count, error);
    if (status != HV_OK)
        return status;
    for (int i = 0; status == HV_OK && i < *count; i++)
        status = hvi_router_settle(router, (*shards)[i], true, error);
    if (status != HV_OK) {
        free(*shards);
        *shards = NULL;
    }
    return status;
}
