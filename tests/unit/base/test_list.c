/*
 * Tests of the intrusive list.
 */
#include "base/list.h"
#include "unit.h"

typedef struct item {
    int number;
    hvi_list node;
} item;

static item items[5];
static hvi_list head;

static int start(void **state) {
    (void) state;
    hvi_list_init(&head);
    for (int i = 0; i < (int) LENGTH(items); i++) {
        items[i].number = i;
        hvi_list_init(&items[i].node);
    }
    return 0;
}

/* The list holds these items, and its links are right in both directions. */
static void assert_holds(hvi_list *list, const char *numbers) {
    char found[20] = "";
    size_t len = 0;
    hvi_list *node = list;
    do {
        assert_ptr_equal(node->next->prev, node);
        node = node->next;
        if (node != list)
            found[len++] = (char) ('0' + hvi_list_entry(node, item, node)->number);
    } while (node != list);
    found[len] = '\0';
    assert_string_equal(found, numbers);
    assert_int_equal(hvi_list_empty(list), len == 0);
}

static void test_a_new_list_is_empty(void **state) {
    (void) state;
    assert_holds(&head, "");
    assert_null(hvi_list_pop_front(&head));
}

static void test_nodes_stand_where_they_were_put(void **state) {
    (void) state;
    hvi_list_push_back(&head, &items[1].node);
    hvi_list_push_back(&head, &items[2].node);
    hvi_list_push_front(&head, &items[0].node);
    hvi_list_insert_after(&items[1].node, &items[4].node);
    assert_holds(&head, "0142");
}

static void test_a_removed_node_is_alone_and_can_be_put_back(void **state) {
    (void) state;
    for (int i = 0; i < 3; i++)
        hvi_list_push_back(&head, &items[i].node);
    hvi_list_remove(&items[1].node);
    assert_holds(&head, "02");
    assert_true(hvi_list_empty(&items[1].node));
    hvi_list_remove(&items[1].node); /* once more does no harm */
    assert_holds(&head, "02");
    hvi_list_push_back(&head, &items[1].node);
    assert_holds(&head, "021");
}

static void test_nodes_are_popped_in_order(void **state) {
    (void) state;
    for (int i = 0; i < 3; i++)
        hvi_list_push_back(&head, &items[i].node);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(hvi_list_pop_front(&head), &items[i].node);
    assert_null(hvi_list_pop_front(&head));
}

static void test_a_node_may_be_removed_while_walking(void **state) {
    (void) state;
    for (int i = 0; i < 5; i++)
        hvi_list_push_back(&head, &items[i].node);
    int walked = 0;
    hvi_list_foreach (node, &head) {
        assert_int_equal(hvi_list_entry(node, item, node)->number, walked);
        if (walked++ % 2 == 0)
            hvi_list_remove(node);
    }
    assert_int_equal(walked, 5);
    assert_holds(&head, "13");
}

static void test_splicing_moves_all_to_the_end(void **state) {
    (void) state;
    hvi_list other;
    hvi_list_init(&other);
    hvi_list_splice_back(&head, &other);
    assert_holds(&head, "");
    hvi_list_push_back(&head, &items[0].node);
    for (int i = 1; i < 4; i++)
        hvi_list_push_back(&other, &items[i].node);
    hvi_list_splice_back(&head, &other);
    assert_holds(&head, "0123");
    assert_holds(&other, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_new_list_is_empty, start),
        cmocka_unit_test_setup(test_nodes_stand_where_they_were_put, start),
        cmocka_unit_test_setup(test_a_removed_node_is_alone_and_can_be_put_back, start),
        cmocka_unit_test_setup(test_nodes_are_popped_in_order, start),
        cmocka_unit_test_setup(test_a_node_may_be_removed_while_walking, start),
        cmocka_unit_test_setup(test_splicing_moves_all_to_the_end, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
