/*
 * counter_stress: threads that increment one attribute of one entity, each so many times.
 *
 * usage: counter_stress CONFIG KEY THREADS COUNT increment|merge|version [OPTION=VALUE...]
 *
 * With "increment" by hv_increment(); with "version" by hv_increment() on the condition that it is
 * still the version that was read; with "merge" by reading the attribute "n" and merging its
 * successor on the same condition. A change that is refused because another thread has come first
 * is tried again, with what is there now. Increments with an unknown outcome are counted and not
 * tried again, others that fail in a way that passes are. Prints the numbers of increments that
 * were acknowledged, of those with an unknown outcome, and of tries that another thread came
 * before.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hypervault.h"

#define PAUSE_US 10000 /* after a failure that passes */

static hv_store *store;
static int64_t key;
static int count;
static bool reads;    /* which way it is done */
static bool by_merge; /* … */
static atomic_long acknowledged, unknown, overtaken;

static void die(const char *what, const hv_error *error) {
    printf("%s: %s\n", what, error != NULL ? hv_error_message(error) : "");
    exit(1);
}

static hv_entity *read_it(void) {
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    while (hv_get_only(store, key, NULL, &entity, &error) != HV_OK) {
        if (!hv_error_retriable(error))
            die("could not read it", error);
        usleep(PAUSE_US);
        hv_error_free(error);
        error = NULL;
    }
    return entity;
}

static hv_status merge_next(const hv_entity *now, const hv_condition *condition,
                            hv_entity **present, hv_error **error) {
    const char *value;
    char next[32];
    if (!hv_dict_get(hv_entity_dict(now), "n", 1, &value, NULL))
        die("the attribute is gone", NULL);
    snprintf(next, sizeof next, "%" PRId64, (int64_t) strtoll(value, NULL, 10) + 1);
    hv_dict *set = hv_dict_new();
    if (hv_dict_set(set, "n", next, NULL) != HV_OK)
        die("no memory", NULL);
    hv_status status = hv_merge(store, key, set, NULL, condition, present, error);
    hv_dict_free(set);
    return status;
}

/* One try; *now is what was read last, or NULL, and is replaced. */
static hv_status try_it(hv_entity **now, hv_error **error) {
    hv_entity *after = NULL;
    if (!reads)
        return hv_increment(store, key, "n", "1", NULL, NULL, error);
    if (*now == NULL)
        *now = read_it();
    hv_condition *condition = hv_condition_new();
    if (hv_condition_version(condition, hv_entity_version(*now), NULL) != HV_OK)
        die("not a version", NULL);
    hv_status status = by_merge ? merge_next(*now, condition, &after, error)
                                : hv_increment(store, key, "n", "1", condition, &after, error);
    hv_condition_free(condition);
    hv_entity_free(*now);
    *now = after;
    if (status == HV_OK && by_merge && after != NULL)
        die("a merge that was made returned an entity", NULL);
    return status;
}

static void *work(void *context) {
    hv_entity *now = NULL;
    for (int left = count; left > 0;) {
        hv_error *error = NULL;
        hv_status status = try_it(&now, &error);
        if (status == HV_OK) {
            atomic_fetch_add(&acknowledged, 1);
            left--;
        } else if (status == HV_CHANGED) {
            atomic_fetch_add(&overtaken, 1);
        } else if (status == HV_OUTCOME_UNKNOWN) {
            atomic_fetch_add(&unknown, 1);
            left--;
        } else if (!hv_error_retriable(error)) {
            die(hv_status_name(status), error);
        } else {
            usleep(PAUSE_US);
        }
        hv_error_free(error);
    }
    hv_entity_free(now);
    return context;
}

int main(int argc, char **argv) {
    hv_error *error = NULL;
    hv_options *options = hv_options_new();
    if (argc < 6)
        return 2;
    hv_status status = hv_options_load(options, argv[1], NULL, &error);
    for (int i = 6; i < argc && status == HV_OK; i++) {
        char *value = strchr(argv[i], '=');
        *value++ = '\0';
        status = hv_options_set(options, argv[i], value, &error);
    }
    if (status == HV_OK)
        status = hv_open(options, &store, &error);
    if (status != HV_OK)
        die("could not open the store", error);
    hv_options_free(options);
    key = strtoll(argv[2], NULL, 10);
    int threads = atoi(argv[3]);
    count = atoi(argv[4]);
    reads = strcmp(argv[5], "increment") != 0;
    by_merge = strcmp(argv[5], "merge") == 0;
    pthread_t *started = calloc((size_t) threads, sizeof *started);
    for (int i = 0; i < threads; i++)
        pthread_create(&started[i], NULL, work, NULL);
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
    free(started);
    printf("%ld %ld %ld\n", atomic_load(&acknowledged), atomic_load(&unknown),
           atomic_load(&overtaken));
    return hv_close(store, 0, NULL) == HV_OK ? 0 : 3;
}
