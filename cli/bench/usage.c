/*
 * usage: the cost of a run: connections, and CPU time of this process and of the servers.
 *
 * A server's CPU time is that of its main process, of its children that have ended, and of its
 * present children: so connections that were closed during the run are included.
 */
#include "bench/usage.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "ui/memory.h"

/* A session's start is recorded a little after its process's start. */
#define AGE_TOLERANCE_MS 1000

/* ---- Processes ------------------------------------------------------------------------------- */

typedef struct process {
    char name[32];
    int parent;
    uint64_t own_ticks;   /* user and system */
    uint64_t ended_ticks; /* … of children that have ended */
    uint64_t start_ticks; /* since the machine's start */
} process;

static bool read_process(int pid, process *found) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *open = strchr(text, '(');
    const char *close = strrchr(text, ')'); /* the name may contain one */
    if (open == NULL || close == NULL || close < open)
        return false;
    snprintf(found->name, sizeof found->name, "%.*s", (int) (close - open - 1), open + 1);
    uint64_t user, system, ended_user, ended_system;
    int count =
        sscanf(close + 1,
               " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %*d %*d %*d %*d %" SCNu64,
               &found->parent, &user, &system, &ended_user, &ended_system, &found->start_ticks);
    found->own_ticks = user + system;
    found->ended_ticks = ended_user + ended_system;
    return count == 6;
}

static bool is_postgres(const process *seen) {
    return strstr(seen->name, "postgres") != NULL;
}

static int64_t ticks_to_us(uint64_t ticks) {
    return (int64_t) (ticks * 1000000 / (uint64_t) sysconf(_SC_CLK_TCK));
}

int bench_usage_find_server(int session_pid, int64_t session_age_ms) {
    process session, parent;
    struct timespec up;
    if (!read_process(session_pid, &session) || !is_postgres(&session))
        return 0;
    clock_gettime(CLOCK_BOOTTIME, &up);
    int64_t up_ms = (int64_t) up.tv_sec * 1000 + up.tv_nsec / 1000000;
    int64_t age_ms = up_ms - ticks_to_us(session.start_ticks) / 1000;
    if (llabs(age_ms - session_age_ms) > AGE_TOLERANCE_MS)
        return 0;
    if (!read_process(session.parent, &parent) || !is_postgres(&parent))
        return 0;
    return session.parent;
}

/* Add up the CPU time of each of these processes and its children. */
static void read_cpu(const int *postmasters, int count, int64_t *cpu_us) {
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    process seen;
    for (int i = 0; i < count; i++) {
        bool there = postmasters[i] > 0 && read_process(postmasters[i], &seen) &&
                     is_postgres(&seen) && folder != NULL;
        cpu_us[i] = there ? ticks_to_us(seen.own_ticks + seen.ended_ticks) : -1;
    }
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (!isdigit((unsigned char) entry->d_name[0]) || !read_process(atoi(entry->d_name), &seen))
            continue;
        for (int i = 0; i < count; i++)
            if (cpu_us[i] >= 0 && postmasters[i] == seen.parent)
                cpu_us[i] += ticks_to_us(seen.own_ticks + seen.ended_ticks);
    }
    if (folder != NULL)
        closedir(folder);
}

/* ---- Public ---------------------------------------------------------------------------------- */

/* Several databases of one server may be servers of the store. */
static bool is_repeated(const int *postmasters, int index) {
    for (int i = 0; i < index; i++)
        if (postmasters[i] == postmasters[index])
            return true;
    return false;
}

void bench_usage_take(bench_usage *usage, hv_store *store, const int *postmasters) {
    int count = hv_server_count(store);
    int64_t *cpu_us = new_memory((size_t) count * sizeof *cpu_us);
    usage->server_count = count;
    usage->servers = new_memory((size_t) count * sizeof *usage->servers);
    read_cpu(postmasters, count, cpu_us);
    for (int i = 0; i < count; i++) {
        bench_server_usage *server = &usage->servers[i];
        server->cpu_us = cpu_us[i];
        for (int stat = 0; stat < BENCH_STATS; stat++)
            server->stats[stat] = hv_pool_stat(store, i, (hv_stat) stat);
        if (postmasters[i] == 0 || (postmasters[i] > 0 && cpu_us[i] < 0))
            usage->servers_us = -1;
        else if (cpu_us[i] >= 0 && usage->servers_us >= 0 && !is_repeated(postmasters, i))
            usage->servers_us += cpu_us[i];
    }
    free(cpu_us);
    struct rusage client;
    getrusage(RUSAGE_SELF, &client);
    usage->client_us = (int64_t) (client.ru_utime.tv_sec + client.ru_stime.tv_sec) * 1000000 +
                       client.ru_utime.tv_usec + client.ru_stime.tv_usec;
}

static int64_t difference(int64_t now, int64_t before) {
    return now >= 0 && before >= 0 && now >= before ? now - before : -1;
}

void bench_usage_since(bench_usage *usage, const bench_usage *before) {
    usage->client_us = difference(usage->client_us, before->client_us);
    usage->servers_us = difference(usage->servers_us, before->servers_us);
    for (int i = 0; i < usage->server_count; i++) {
        bench_server_usage *server = &usage->servers[i];
        server->cpu_us = difference(server->cpu_us, before->servers[i].cpu_us);
        for (int stat = HV_STAT_OPENED; stat < BENCH_STATS; stat++)
            server->stats[stat] = difference(server->stats[stat], before->servers[i].stats[stat]);
    }
}

void bench_usage_fini(bench_usage *usage) {
    free(usage->servers);
    *usage = (bench_usage){0};
}
