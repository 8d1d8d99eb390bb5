/*
 * servers: do something on all servers of a store at the same time.
 */
#ifndef SERVERS_H
#define SERVERS_H

#include <stddef.h>

#include "hypervault.h"

/* What is done on one server; `item` is its own element of the array given below. */
typedef void (*server_task)(hv_store *store, int server, void *item);

/* Run the task for each server in a thread of its own, and wait for all. `items` is an array with
 * an element of `item_size` bytes for each server. */
void on_all_servers(hv_store *store, server_task task, void *items, size_t item_size);

/* How many shards the configuration gives to a server. */
int count_shards(const hv_store *store, int server);

#endif
