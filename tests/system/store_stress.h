/*
 * store_stress.h: shared by the threads of store_stress: the journal of all puts.
 */
#ifndef STORE_STRESS_H
#define STORE_STRESS_H

#include <pthread.h>
#include <stdatomic.h>

#include "hypervault.h"

typedef struct put {
    int writer;
    int number;
    int shard;
    hv_status status;
    int64_t key; /* 0 unless acknowledged; 0 for a load, which does not give its keys back */
    int64_t ended;
} put;

typedef struct worker worker;

/* One step of a thread: put one entity, or some. */
typedef void (*way_fn)(worker *self);

struct worker {
    pthread_t thread;
    way_fn way;
    int writer;
    int number; /* of its next put */
    unsigned random;
    int64_t slowest; /* milliseconds */
    hv_queue *queue; /* of the way "queue"; owned */
    hv_load *load;   /* of the way "load"; owned */
    int load_server;
};

extern hv_store *stress_store;
extern atomic_bool stress_ended;

int64_t stress_now_ms(void);
void stress_note_time(worker *self, int64_t began);

/* Add a line to the journal, for a put that is about to begin into a shard of `server` (-1: of
 * any). It lives until the end of the process. */
put *stress_begin(worker *self, int server);

/* The attributes of a put, to be freed. */
hv_dict *stress_body(const put *of);
int stress_kind(const put *of);

/* Note the result of a put; takes the error. An entity that was stored is read back from now on. */
void stress_end(put *this, hv_status status, int64_t key, hv_error *error);

/* Print that something is wrong, and end the process. */
_Noreturn void stress_die(const char *what, const put *of, hv_error *error);

/* The way of this name, or NULL: put, key, many, queue, load. */
way_fn stress_way(const char *name);
void stress_way_fini(worker *self);

#endif
