/*
 * keys_view: which generators make the keys of a server's shards, in words and as JSON.
 */
#include "keys_view.h"

#include <jansson.h>
#include <stdlib.h>

#include "ui/memory.h"

const char *keys_name(hv_keys keys) {
    switch (keys) {
    case HV_KEYS_STRICT:
        return "strict";
    case HV_KEYS_PORTABLE:
        return "portable";
    case HV_KEYS_ORIGINAL:
        return "original";
    default:
        return "none";
    }
}

keys_count keys_count_report(const hv_report *report) {
    keys_count count = {{0}};
    hv_shard_state state;
    for (size_t i = 0; hv_report_shard(report, i, NULL, &state, NULL, NULL, NULL); i++)
        if (state == HV_SHARD_READY || state == HV_SHARD_INCOMPLETE)
            count.of[hv_report_shard_keys(report, i)]++;
    return count;
}

char *keys_count_text(const keys_count *count) {
    int kinds = 0;
    for (int keys = HV_KEYS_ORIGINAL; keys <= HV_KEYS_STRICT; keys++)
        kinds += count->of[keys] > 0;
    char *text = copy_text(kinds > 0 ? "" : "-");
    for (int keys = HV_KEYS_ORIGINAL; keys <= HV_KEYS_STRICT; keys++) {
        if (count->of[keys] == 0)
            continue;
        const char *name = keys_name((hv_keys) keys);
        char *longer = kinds == 1 ? copy_text(name)
                                  : format_text("%s%s%d %s", text, text[0] != '\0' ? ", " : "",
                                                count->of[keys], name);
        free(text);
        text = longer;
    }
    return text;
}

json_t *keys_count_json(const keys_count *count) {
    return json_pack("{s:i, s:i, s:i}", "strict", count->of[HV_KEYS_STRICT], "portable",
                     count->of[HV_KEYS_PORTABLE], "original", count->of[HV_KEYS_ORIGINAL]);
}
