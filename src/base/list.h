/*
 * list: an intrusive, doubly linked, circular list.
 *
 * The list's head is a node of its own; an empty list's head points at itself. A node is in at most
 * one list. hvi_list_entry() returns the struct that embeds a node.
 */
#ifndef HVI_LIST_H
#define HVI_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct hvi_list {
    struct hvi_list *prev;
    struct hvi_list *next;
} hvi_list;

#define hvi_list_entry(node, type, member) ((type *) ((char *) (node) -offsetof(type, member)))

/* `node` may be removed inside the loop: the next one is read beforehand. */
#define hvi_list_foreach(node, head)                                               \
    for (hvi_list *node = (head)->next, *node##_next = node->next; node != (head); \
         node = node##_next, node##_next = node->next)

static inline void hvi_list_init(hvi_list *head) {
    head->prev = head->next = head;
}

static inline bool hvi_list_empty(const hvi_list *head) {
    return head->next == head;
}

static inline void hvi_list_insert_after(hvi_list *where, hvi_list *node) {
    node->prev = where;
    node->next = where->next;
    where->next->prev = node;
    where->next = node;
}

static inline void hvi_list_push_front(hvi_list *head, hvi_list *node) {
    hvi_list_insert_after(head, node);
}

static inline void hvi_list_push_back(hvi_list *head, hvi_list *node) {
    hvi_list_insert_after(head->prev, node);
}

static inline void hvi_list_remove(hvi_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    hvi_list_init(node);
}

/* Take the first node out, or NULL if the list is empty. */
static inline hvi_list *hvi_list_pop_front(hvi_list *head) {
    hvi_list *node = head->next;
    if (node == head)
        return NULL;
    hvi_list_remove(node);
    return node;
}

/* Move all nodes of `from` to the end of `head`. */
static inline void hvi_list_splice_back(hvi_list *head, hvi_list *from) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(from)) != NULL)
        hvi_list_push_back(head, node);
}

#endif
