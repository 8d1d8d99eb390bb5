/*
 * fork: keep objects with locks consistent across fork().
 *
 * Lock order: registry_lock before any member's lock.
 */
#include "base/fork.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static hvi_list members = {&members, &members};
static unsigned generation; /* changed only in a child that has no other thread yet */

static hvi_fork_member *member_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_fork_member, link);
}

static void prepare(void) {
    pthread_mutex_lock(&registry_lock);
    hvi_list_foreach (node, &members)
        if (member_of(node)->lock != NULL)
            pthread_mutex_lock(member_of(node)->lock);
}

static void parent(void) {
    hvi_list_foreach (node, &members)
        if (member_of(node)->lock != NULL)
            pthread_mutex_unlock(member_of(node)->lock);
    pthread_mutex_unlock(&registry_lock);
}

static void child(void) {
    generation++;
    hvi_list_foreach (node, &members) {
        if (member_of(node)->lock != NULL)
            pthread_mutex_init(member_of(node)->lock, NULL);
        member_of(node)->child(member_of(node));
    }
    pthread_mutex_init(&registry_lock, NULL);
}

static void install(void) {
    pthread_atfork(prepare, parent, child);
}

unsigned hvi_fork_generation(void) {
    return generation;
}

void hvi_fork_join(hvi_fork_member *member) {
    pthread_once(&once, install);
    pthread_mutex_lock(&registry_lock);
    hvi_list_push_back(&members, &member->link);
    pthread_mutex_unlock(&registry_lock);
}

void hvi_fork_leave(hvi_fork_member *member) {
    pthread_mutex_lock(&registry_lock);
    hvi_list_remove(&member->link);
    pthread_mutex_unlock(&registry_lock);
}
