/*
 * named: the server that an option names.
 */
#ifndef NAMED_H
#define NAMED_H

#include "hypervault.h"

/* Its number; -1 after an error message, whose hint is the name that may be meant, or else this
 * one. */
int server_named(const hv_store *store, const char *name, const char *hint);

#endif
