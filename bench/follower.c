/*
 * follower: follows what is put, for bench/feed.
 *
 *     follower CONFIG SHARDS
 *
 * Prints a line when it has begun. Ends after SIGTERM, when it has returned all that was put
 * before, and prints the result as a JSON object: how many entities there were, and how long after
 * their keys were made they came, in milliseconds.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "hypervault.h"

#define LAGS_MAX 10000000

static volatile sig_atomic_t is_over;

static void end(int number) {
    (void) number;
    is_over = 1;
}

static void die(const char *what, const hv_error *error) {
    fprintf(stderr, "%s: %s\n", what, error != NULL ? hv_error_message(error) : "failed");
    exit(1);
}

static int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * INT64_C(1000) + time.tv_nsec / 1000000;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *) left, b = *(const int64_t *) right;
    return a < b ? -1 : a > b;
}

static hv_store *open_store(const char *config) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    hv_error *error = NULL;
    if (options == NULL || hv_options_load(options, config, NULL, &error) != HV_OK ||
        hv_open(options, &store, &error) != HV_OK)
        die("opening the store", error);
    hv_options_free(options);
    return store;
}

static void print_result(int64_t *lags, size_t count, size_t attributes) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double) (used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double) (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(lags, count, sizeof *lags, compare);
    printf("{\"entities\": %zu, \"attributes\": %zu, \"cpu_seconds\": %.6f", count, attributes,
           cpu);
    if (count > 0)
        printf(", \"lag_median\": %" PRId64 ", \"lag_99\": %" PRId64 ", \"lag_most\": %" PRId64,
               lags[count / 2], lags[count / 100 * 99], lags[count - 1]);
    puts("}");
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: follower CONFIG SHARDS", NULL);
    signal(SIGTERM, end);
    hv_store *store = open_store(argv[1]);
    hv_selection *selection = hv_selection_new();
    hv_reader *reader = NULL;
    hv_error *error = NULL;
    int64_t *lags = malloc(LAGS_MAX * sizeof *lags);
    int64_t last = 0, created;
    size_t count = 0, attributes = 0;
    if (selection == NULL || lags == NULL ||
        hv_selection_shards(selection, argv[2], &error) != HV_OK ||
        hv_selection_since(selection, now_ms(), &error) != HV_OK ||
        hv_feed(store, selection, true, -1, &reader, &error) != HV_OK)
        die("following", error);
    puts("{}");
    fflush(stdout);
    while (last == 0 || hv_reader_position(reader) <= last) {
        hv_status status = hv_reader_next(reader, 100, &error);
        if (error != NULL || (status != HV_OK && status != HV_TIMEOUT))
            die("following", error);
        if (status == HV_OK) {
            hv_key_unpack(hv_reader_key(reader), HV_DEFAULT_EPOCH, &created, NULL, NULL, NULL);
            attributes += hv_dict_count(hv_reader_dict(reader));
            if (count < LAGS_MAX)
                lags[count++] = now_ms() - created;
        }
        if (is_over && last == 0)
            hv_key_bound(now_ms() + 1, HV_DEFAULT_EPOCH, &last, NULL);
    }
    print_result(lags, count, attributes);
    hv_reader_close(reader);
    hv_selection_free(selection);
    free(lags);
    return hv_close(store, 0, NULL) == HV_OK ? 0 : 1;
}
