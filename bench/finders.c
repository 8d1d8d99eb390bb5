/*
 * finders: reads entities of many shards again and again, for bench/find.
 *
 *     finders hv|table|loop|union|copy [NAME=VALUE]...
 *
 * Prints the result as a JSON object. Reads count if they began before the time was over; the time
 * counts up to the end of the last one.
 */
#include "finder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* So many reads warm up at least: a server plans a statement anew for the first five of them. */
#define WARM_UP 12

static const finder_way *const ways[] = {&finder_hv, &finder_table, &finder_loop, &finder_union,
                                         &finder_copy};

void finder_see(const finder_settings *settings, finder_found *found, int64_t *last, int64_t key) {
    if (found->rows > 0 && (settings->limit > 0 ? key >= *last : key <= *last))
        bench_die("%" PRId64 " came after %" PRId64, key, *last);
    *last = key;
    found->rows++;
    found->keys += (uint64_t) key;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

/* The most memory that this program has had; that of getrusage() includes its parent's. */
static long peak_kb(void) {
    char line[128];
    long peak = -1;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %ld kB", &peak) == 1)
            break;
    if (peak < 0)
        bench_die("the peak of memory is unknown");
    fclose(file);
    return peak;
}

static finder_found read_once(const finder_settings *settings, const finder_way *way, void *mine,
                              uint64_t *random) {
    finder_found found = {.rows = 0};
    char user[16];
    if (settings->limit == 0) {
        way->all(mine, &found);
        return found;
    }
    if (settings->users > 0) {
        *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        snprintf(user, sizeof user, "%d", (int) (*random >> 33) % settings->users);
    }
    way->newest(mine, settings->users > 0 ? user : NULL, &found);
    if (found.rows != settings->limit)
        bench_die("%" PRId64 " rows were found, not %d", found.rows, settings->limit);
    return found;
}

/* Every user is another one, so keys are summed up over one read only: the first. */
static void measure(const finder_settings *settings, const finder_way *way) {
    uint64_t random = 1;
    void *mine = way->open(settings);
    finder_found found = {.rows = 0};
    int64_t reads = 0;
    double start = now(CLOCK_MONOTONIC), until = start + settings->seconds / 5;
    if (settings->seconds > 0)
        found = read_once(settings, way, mine, &random);
    for (int i = 1; settings->seconds > 0 && (i < WARM_UP || now(CLOCK_MONOTONIC) < until); i++)
        read_once(settings, way, mine, &random);
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    start = now(CLOCK_MONOTONIC), until = start + settings->seconds;
    do {
        finder_found last = read_once(settings, way, mine, &random);
        if (reads++ == 0 && settings->seconds <= 0)
            found = last;
    } while (now(CLOCK_MONOTONIC) < until);
    double took = now(CLOCK_MONOTONIC) - start;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    long peak = peak_kb();
    way->close(mine);
    printf("{\"reads\": %" PRId64 ", \"rows\": %" PRId64 ", \"keys\": \"%" PRIu64
           "\", \"attributes\": %" PRId64
           ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"peak_kb\": %ld}\n",
           reads, found.rows, found.keys, found.attributes, took, cpu, peak);
}

static void set(finder_settings *settings, char *argument) {
    char *value = strchr(argument, '=');
    if (value == NULL)
        bench_die("\"%s\" is not NAME=VALUE", argument);
    *value++ = '\0';
    if (strcmp(argument, "config") == 0)
        settings->config = value;
    else if (strcmp(argument, "server1") == 0)
        settings->server[0] = value;
    else if (strcmp(argument, "server2") == 0)
        settings->server[1] = value;
    else if (strcmp(argument, "shards") == 0)
        settings->shards = atoi(value);
    else if (strcmp(argument, "limit") == 0)
        settings->limit = atoi(value);
    else if (strcmp(argument, "users") == 0)
        settings->users = atoi(value);
    else if (strcmp(argument, "seconds") == 0)
        settings->seconds = atof(value);
    else
        bench_die("unknown setting \"%s\"", argument);
}

int main(int argc, char **argv) {
    finder_settings settings = {.shards = 1};
    const finder_way *way = NULL;
    if (argc < 2)
        bench_die("usage: finders hv|table|loop|union|copy [NAME=VALUE]...");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (strcmp(argv[1], ways[i]->name) == 0)
            way = ways[i];
    if (way == NULL)
        bench_die("there is no way \"%s\"", argv[1]);
    for (int i = 2; i < argc; i++)
        set(&settings, argv[i]);
    if (settings.limit > 0 ? way->newest == NULL : way->all == NULL)
        bench_die("\"%s\" cannot do this", argv[1]);
    measure(&settings, way);
    return 0;
}
