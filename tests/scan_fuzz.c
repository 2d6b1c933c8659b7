/* scan.c on damaged pieces of a text, in buffers that are as large as told and no larger: for the sanitizers.
 * scan_fuzz TIMES FILE; what does not hold aborts. The pieces are the same every time.
 */
#include SCAN

#include <stdio.h>
#include <stdlib.h>

#define HOLDS(what) do { if (!(what)) fprintf(stderr, "%s does not hold\n", #what), abort(); } while (0)

static uint64_t state = 88172645463325252u;

static int64_t any(int64_t below) { /* Marsaglia's xorshift64 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (int64_t)(state % (uint64_t)below);
}

static void *room(int64_t size) { return memset(malloc((size_t)size), 0xA5, (size_t)size); }

/* A piece of the seed, some of its bytes changed, taken out or put elsewhere. */
static uint8_t *damaged(const uint8_t *seed, int64_t *size) {
    static const char tokens[] = "{}[],:\"\\-.e0nN\xff\xe2\xf0 ";
    int64_t all = *size, length = 1 + any(all);
    uint8_t *text = malloc((size_t)length);
    memcpy(text, seed + any(all - length + 1), (size_t)length);
    for (int64_t edits = any(8); edits > 0; edits--) {
        int64_t at = any(length), from = any(length), most = length - (at > from ? at : from);
        switch (any(4)) {
        case 0: text[at] = (uint8_t)any(256); break;
        case 1: text[at] = (uint8_t)tokens[any(sizeof tokens - 1)]; break;
        case 2: memmove(text + at, text + from, (size_t)any(1 + most)); break;
        default: memset(text + at, tokens[any(sizeof tokens - 1)], (size_t)any(1 + most)); break;
        }
    }
    *size = length;
    return text;
}

static void check(const Scan *s, int64_t size) {
    int64_t word = 0, args = 0, end = 0;
    HOLDS(s->rows <= s->capacity && s->consumed >= 0 && s->consumed <= size && s->word_count <= s->table_size / 2);
    HOLDS(s->state != ROWS_FULL || s->consumed > 0);
    for (int64_t i = 0; i < s->word_count; word = s->word_ends[i++])
        HOLDS(s->word_ends[i] >= word && s->word_ends[i] <= s->text_capacity);
    for (int64_t row = 0; row < s->rows; args = s->args_ends[row], end = s->ends[row++]) {
        HOLDS(s->begins[row] >= end && s->ends[row] >= s->begins[row] && s->ends[row] <= size);
        HOLDS(s->args_ends[row] >= args && s->args_ends[row] <= s->text_capacity);
        HOLDS(s->problems[row] >= OK && s->problems[row] <= TOO_MUCH && s->problems[row] != NEED_MORE);
        for (int i = 0; i < COLUMNS; i++) HOLDS(s->codes[i][row] >= -1 && s->codes[i][row] < s->word_count);
    }
}

static void once(const uint8_t *seed, int64_t size) {
    uint8_t *text = damaged(seed, &size);
    Scan s = {.capacity = 1 + any(20), .table_size = 4 << any(7), .lost = !any(4), .first = (int32_t)any(2)};
    s.text_capacity = any(4) ? 2 * size + 4096 : 1 + any(size + 64);
    int64_t **numbers[] = {&s.start_ns, &s.duration_ns, &s.args_ends, &s.begins, &s.ends};
    char **texts[] = {&s.words, &s.args, &s.scratch};
    for (int i = 0; i < 5; i++) *numbers[i] = room(8 * s.capacity);
    for (int i = 0; i < 3; i++) *texts[i] = room(s.text_capacity);
    for (int i = 0; i < COLUMNS; i++) s.codes[i] = room(4 * s.capacity);
    for (int i = 0; i < NUMBERS; i++) s.numbers[i] = room(8 * s.capacity);
    s.problems = room(s.capacity), s.word_ends = room(4 * s.table_size), s.table = calloc((size_t)s.table_size, 8);
    scan(&s, text, size, (int)any(2));
    check(&s, size);
    for (int i = 0; i < 5; i++) free(*numbers[i]);
    for (int i = 0; i < 3; i++) free(*texts[i]);
    for (int i = 0; i < COLUMNS; i++) free(s.codes[i]);
    for (int i = 0; i < NUMBERS; i++) free(s.numbers[i]);
    free(s.problems), free(s.word_ends), free(s.table), free(text);
}

int main(int count, char **words) {
    static uint8_t seed[1 << 16];
    FILE *file = count == 3 ? fopen(words[2], "rb") : NULL;
    if (!file) return 2;
    int64_t size = (int64_t)fread(seed, 1, sizeof seed, file);
    fclose(file);
    for (long times = atol(words[1]); times > 0; times--) once(seed, size);
    return 0;
}
