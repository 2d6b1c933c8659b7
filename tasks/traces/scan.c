/* The events of a Chrome trace, from JSON text to columns, in one pass. See scan.py for what it promises.
 *
 * Nothing is allocated here: the caller gives every buffer, with room for `capacity` rows, for strings of
 * `text_capacity` bytes and for a hash table. No byte at or beyond `end` is read, nesting is bounded, numbers are
 * decimal throughout. Strings of few distinct values (name, category, ...) become codes of one dictionary.
 */
#include <stdint.h>
#include <string.h>

enum { OK, NEED_MORE, NOT_JSON, NOT_OBJECT, NOT_UTF8, TOO_DEEP, BAD_TIME, BAD_TYPE, CUT_OFF, TOO_LONG, TOO_MUCH };
enum { ARRAY_GOES_ON, ARRAY_ENDED, ROWS_FULL };
enum { DEPTH = 128, COLUMNS = 7, NUMBERS = 8 };
enum { PH, NAME, CAT, PID, TID, ID, EXTRA };

static const int64_t NONE = INT64_MIN;
static const int64_t LATEST_NS = 4000000000000000000;

typedef struct {
    /* in: how much room there is */
    int64_t capacity, text_capacity, table_size;
    /* out, a row each: codes of the dictionary (-1: absent), times, ids, arguments as text, and what is wrong */
    int32_t *codes[COLUMNS];
    int64_t *start_ns, *duration_ns;
    int64_t *numbers[NUMBERS];
    int64_t *args_ends;
    int8_t *problems;
    int64_t *begins, *ends; /* bytes of the row in the text */
    /* out: the dictionary and the arguments */
    char *words;
    int64_t *word_ends;
    char *args;
    char *scratch; /* text_capacity bytes */
    int64_t *table; /* hash -> code + 1; zeroed by the caller */
    /* state and results */
    int64_t rows, word_count, problem_rows, consumed;
    int32_t lost;  /* in: looking for the next event, as the text before could not be read; out */
    int32_t first; /* in: no comma is due; out */
    int32_t state; /* out: ARRAY_* */
} Scan;

typedef struct {
    const uint8_t *at, *end;
    int depth;
} Text;

typedef struct {
    char *at, *end;
} Room;

#define KEY(text) {text, sizeof text - 1}
static const struct {
    const char *text;
    int64_t size;
} NUMBER_KEYS[NUMBERS] = {
    KEY("correlation"), KEY("External id"), KEY("device"), KEY("stream"),
    KEY("Python id"), KEY("Python parent id"), KEY("lineno"), KEY("external id"),
};

static inline uint64_t eight(const uint8_t *p) {
    uint64_t bytes;
    memcpy(&bytes, p, 8);
    return bytes;
}

/* Eight bytes at once: all of them `byte`; and, by the highest bit of each, which are 0 (or one that follows a 0). */
#define ALL(byte) (0x0101010101010101u * (uint64_t)(byte))
#define ZEROS(word) (((word) - ALL(1)) & ~(word) & ALL(0x80))

static inline void blank(Text *t) {
    for (;;) {
        if (t->at >= t->end || (*t->at != ' ' && *t->at != '\n' && *t->at != '\t' && *t->at != '\r')) return;
        t->at++;
        while (t->end - t->at >= 8 && eight(t->at) == ALL(' ')) t->at += 8;
    }
}

/* One code point of several bytes. */
static int wide(Text *t) {
    const uint8_t *p = t->at;
    int more = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
    if (*p < 0xC2 || *p > 0xF4) return NOT_UTF8;
    if (t->end - p <= more) return NEED_MORE;
    for (int i = 1; i <= more; i++)
        if ((p[i] & 0xC0) != 0x80) return NOT_UTF8;
    if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) ||
        (*p == 0xF4 && p[1] > 0x8F))
        return NOT_UTF8;
    t->at += more + 1;
    return OK;
}

static int hex4(const uint8_t *p) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* After a backslash: the length of the escape in *size and its code point in *point. */
static int escape(const uint8_t *p, const uint8_t *end, int *size, uint32_t *point) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p >= end) return NEED_MORE;
    if (*p != 'u') {
        const char *found = *p ? strchr(from, *p) : NULL;
        if (!found) return NOT_JSON;
        *size = 1, *point = (uint32_t)(uint8_t)to[found - from];
        return OK;
    }
    if (end - p < 5) return NEED_MORE;
    int high = hex4(p + 1);
    *size = 5, *point = (uint32_t)high;
    if (high < 0) return NOT_JSON;
    if (high < 0xD800 || high > 0xDFFF) return OK;
    if (high > 0xDBFF) return NOT_UTF8;
    if ((end - p > 5 && p[5] != '\\') || (end - p > 6 && p[6] != 'u')) return NOT_UTF8;
    if (end - p < 11) return NEED_MORE;
    int low = hex4(p + 7);
    if (low < 0xDC00 || low > 0xDFFF) return NOT_UTF8;
    *size = 11, *point = 0x10000 + (((uint32_t)high - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    return OK;
}

/* The string at `at` (its opening quote); afterwards [*from, *to) is what is between the quotes. */
static int string(Text *t, const uint8_t **from, const uint8_t **to, int *escaped) {
    static const uint8_t plain[256] = {
        [0x20 ... 0x21] = 1, [0x23 ... 0x5B] = 1, [0x5D ... 0x7F] = 1,
    };
    *from = ++t->at, *escaped = 0;
    for (;;) {
        while (t->end - t->at >= 8) {
            uint64_t bytes = eight(t->at);
            if ((ZEROS(bytes ^ ALL('"')) | ZEROS(bytes ^ ALL('\\')) | ((bytes - ALL(0x20)) & ~bytes) | bytes) & ALL(0x80)) break;
            t->at += 8;
        }
        while (t->at < t->end && plain[*t->at]) t->at++;
        if (t->at >= t->end) return NEED_MORE;
        if (*t->at == '"') break;
        if (*t->at >= 0x80) {
            int wrong = wide(t);
            if (wrong) return wrong;
        } else if (*t->at == '\\') {
            int size;
            uint32_t point;
            int wrong = escape(t->at + 1, t->end, &size, &point);
            if (wrong) return wrong;
            t->at += 1 + size, *escaped = 1;
        } else {
            return NOT_JSON;
        }
    }
    *to = t->at++;
    return OK;
}

/* Put what is between the quotes without its escapes; at most as long as it was. */
static int unescaped(const uint8_t *from, const uint8_t *to, Room *room) {
    if (to - from > room->end - room->at) return TOO_MUCH;
    while (from < to) {
        if (*from != '\\') {
            *room->at++ = (char)*from++;
            continue;
        }
        int size = 0;
        uint32_t c = 0;
        escape(from + 1, to, &size, &c);
        from += 1 + size;
        if (c < 0x80) {
            *room->at++ = (char)c;
        } else if (c < 0x800) {
            *room->at++ = (char)(0xC0 | c >> 6), *room->at++ = (char)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            *room->at++ = (char)(0xE0 | c >> 12), *room->at++ = (char)(0x80 | (c >> 6 & 0x3F));
            *room->at++ = (char)(0x80 | (c & 0x3F));
        } else {
            *room->at++ = (char)(0xF0 | c >> 18), *room->at++ = (char)(0x80 | (c >> 12 & 0x3F));
            *room->at++ = (char)(0x80 | (c >> 6 & 0x3F)), *room->at++ = (char)(0x80 | (c & 0x3F));
        }
    }
    return OK;
}

static int put(Room *room, const void *from, int64_t size) {
    if (size > room->end - room->at) return TOO_MUCH;
    memcpy(room->at, from, (size_t)size);
    room->at += size;
    return OK;
}

static inline int digit(const Text *t) { return t->at < t->end && *t->at >= '0' && *t->at <= '9'; }

/* The number at `at`, by JSON's grammar. A number that the text's end might cut is not complete. */
static int number(Text *t) {
    if (*t->at == '-') t->at++;
    if (t->at >= t->end) return NEED_MORE;
    if (!digit(t)) return NOT_JSON;
    if (*t->at == '0') t->at++;
    else while (digit(t)) t->at++;
    if (t->at < t->end && *t->at == '.') {
        t->at++;
        if (t->at >= t->end) return NEED_MORE;
        if (!digit(t)) return NOT_JSON;
        while (digit(t)) t->at++;
    }
    if (t->at < t->end && (*t->at == 'e' || *t->at == 'E')) {
        t->at++;
        if (t->at < t->end && (*t->at == '+' || *t->at == '-')) t->at++;
        if (t->at >= t->end) return NEED_MORE;
        if (!digit(t)) return NOT_JSON;
        while (digit(t)) t->at++;
    }
    return t->at < t->end ? OK : NEED_MORE;
}

/* A literal at `at`: OK when it stands there, NEED_MORE when the text ends in it. */
static int literal(Text *t, const char *word) {
    for (const uint8_t *p = t->at; *word; p++, word++) {
        if (p >= t->end) return NEED_MORE;
        if (*p != (uint8_t)*word) return NOT_JSON;
        if (!word[1]) t->at = p + 1;
    }
    return OK;
}

/* true, false, null; and, put as text, what Python and C++ write for numbers that JSON has not. */
static int word(Text *t, Room *room) {
    static const char *const words[] = {"true", "false", "null", "NaN", "nan", "-nan", "-NaN", "Infinity", "-Infinity", "inf", "-inf"};
    int best = NOT_JSON;
    for (int i = 0; i < 11; i++) {
        int found = literal(t, words[i]);
        if (found == NEED_MORE) best = NEED_MORE;
        if (found) continue;
        if (!room) return OK;
        if (i < 3) return put(room, words[i], (int64_t)strlen(words[i]));
        return put(room, "\"", 1) || put(room, words[i], (int64_t)strlen(words[i])) || put(room, "\"", 1) ? TOO_MUCH : OK;
    }
    return best;
}

static int value(Text *t, Room *room);

/* The members of an object or array, whose bracket has been read, to the other bracket. */
static int members(Text *t, Room *room, int is_object) {
    const char close = is_object ? '}' : ']';
    for (int first = 1;; first = 0) {
        blank(t);
        if (t->at >= t->end) return NEED_MORE;
        if (first && *t->at == close) break;
        if (!first) {
            if (*t->at == close) break;
            if (*t->at != ',') return NOT_JSON;
            t->at++, blank(t);
            if (t->at >= t->end) return NEED_MORE;
            if (room && put(room, ",", 1)) return TOO_MUCH;
        }
        if (is_object) {
            const uint8_t *from, *to;
            int escaped;
            if (*t->at != '"') return NOT_JSON;
            int wrong = string(t, &from, &to, &escaped);
            if (wrong) return wrong;
            blank(t);
            if (t->at >= t->end) return NEED_MORE;
            if (*t->at++ != ':') return NOT_JSON;
            if (room && (put(room, from - 1, to - from + 2) || put(room, ":", 1))) return TOO_MUCH;
        }
        int wrong = value(t, room);
        if (wrong) return wrong;
    }
    t->at++;
    return room ? put(room, &close, 1) : OK;
}

/* Any value; put into `room`, if there is one, as it is written but without white space. */
static int value(Text *t, Room *room) {
    blank(t);
    if (t->at >= t->end) return NEED_MORE;
    const uint8_t *start = t->at, *from, *to;
    int wrong, escaped;
    switch (*start) {
    case '"':
        wrong = string(t, &from, &to, &escaped);
        break;
    case '{':
    case '[':
        if (++t->depth > DEPTH) return TOO_DEEP;
        t->at++;
        if (room && put(room, start, 1)) return TOO_MUCH;
        wrong = members(t, room, *start == '{');
        t->depth--;
        return wrong;
    case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        wrong = number(t);
        break;
    case '-':
        wrong = number(t);
        if (wrong != NOT_JSON) break;
        t->at = start;
        return word(t, room);
    default:
        return word(t, room);
    }
    return wrong || !room ? wrong : put(room, start, t->at - start);
}

/* A decimal text times 1000, exactly; what is beyond is rounded, halves away from zero. 0: not such a number. */
static int thousandfold(const uint8_t *p, const uint8_t *end, int64_t *result) {
    unsigned __int128 digits = 0;
    int scale = 3, negative = 0, dot = 0, seen = 0;
    if (p < end && *p == '-') negative = 1, p++;
    for (; p < end && ((*p >= '0' && *p <= '9') || (*p == '.' && !dot)); p++) {
        if (*p == '.') {
            dot = 1;
            continue;
        }
        seen = 1;
        if (digits < (unsigned __int128)1 << 120) digits = digits * 10 + (*p - '0'), scale -= dot;
        else scale += !dot;
    }
    if (!seen) return 0;
    if (p < end && (*p == 'e' || *p == 'E')) {
        int sign = 1, power = 0, any = 0;
        if (++p < end && (*p == '+' || *p == '-')) sign = *p++ == '-' ? -1 : 1;
        for (; p < end && *p >= '0' && *p <= '9'; p++, any = 1)
            if (power < 100000) power = power * 10 + (*p - '0');
        if (!any) return 0;
        scale += sign * power;
    }
    if (p != end) return 0;
    for (; scale < -1 && digits; scale++) digits /= 10;
    if (scale < 0) digits = (digits + 5) / 10;
    for (; scale > 0 && digits && digits <= (unsigned __int128)LATEST_NS; scale--) digits *= 10;
    if (digits > (unsigned __int128)LATEST_NS) return 0;
    *result = negative ? -(int64_t)digits : (int64_t)digits;
    return 1;
}

/* A whole number that fits, or NONE. */
static int64_t whole(const uint8_t *p, const uint8_t *end) {
    int negative = p < end && *p == '-';
    int64_t result = 0;
    p += negative;
    if (p >= end || end - p > 18) return NONE;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9') return NONE;
        result = result * 10 + (*p - '0');
    }
    return negative ? -result : result;
}

/* The code of a string in the dictionary; -1: no room. `at` is where it has been put, after the other words. */
static int32_t coded(Scan *s, Room *words) {
    int64_t begin = s->word_count ? s->word_ends[s->word_count - 1] : 0;
    const char *text = s->words + begin;
    uint64_t size = (uint64_t)(words->at - text), hash = 0x9E3779B97F4A7C15u ^ size, left = size, chunk;
    for (const char *p = text; left; p += 8, left -= left < 8 ? left : 8) {
        chunk = 0;
        memcpy(&chunk, p, left < 8 ? left : 8);
        hash = (hash ^ chunk) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    for (uint64_t slot = hash & (uint64_t)(s->table_size - 1);; slot = (slot + 1) & (uint64_t)(s->table_size - 1)) {
        int64_t code = s->table[slot] - 1;
        if (code < 0) {
            if (s->word_count >= s->table_size / 2) return -1;
            s->table[slot] = s->word_count + 1;
            s->word_ends[s->word_count] = words->at - s->words;
            return (int32_t)s->word_count++;
        }
        int64_t from = code ? s->word_ends[code - 1] : 0;
        if ((uint64_t)(s->word_ends[code] - from) == size && !memcmp(s->words + from, text, size)) {
            words->at = s->words + begin;
            return (int32_t)code;
        }
    }
}

static Room words_room(Scan *s) {
    int64_t begin = s->word_count ? s->word_ends[s->word_count - 1] : 0;
    return (Room){s->words + begin, s->words + s->text_capacity};
}

/* Whether the row before has this very text in the column: most process and thread ids, categories and phases. */
static int repeats(const Scan *s, int column, int64_t row, const uint8_t *from, const uint8_t *to) {
    int32_t code = row ? s->codes[column][row - 1] : -1;
    if (code < 0) return 0;
    int64_t begin = code ? s->word_ends[code - 1] : 0;
    return s->word_ends[code] - begin == to - from && !memcmp(s->words + begin, from, (size_t)(to - from));
}

/* A string or number at `at` into a column of codes; null stays absent. */
static int text_field(Scan *s, Text *t, int column, int64_t row) {
    const uint8_t *from, *to;
    int escaped = 0, wrong;
    if (*t->at == '"') {
        if ((wrong = string(t, &from, &to, &escaped))) return wrong;
    } else if (digit(t) || (*t->at == '-' && t->at + 1 < t->end && t->at[1] <= '9')) {
        from = t->at;
        if ((wrong = number(t))) return wrong;
        to = t->at;
    } else if ((wrong = literal(t, "null")) != NOT_JSON) {
        s->codes[column][row] = -1;
        return wrong;
    } else {
        wrong = value(t, NULL);
        return wrong ? wrong : BAD_TYPE;
    }
    if (!escaped && repeats(s, column, row, from, to)) {
        s->codes[column][row] = s->codes[column][row - 1];
        return OK;
    }
    Room words = words_room(s);
    if ((wrong = escaped ? unescaped(from, to, &words) : put(&words, from, to - from))) return wrong;
    int32_t code = coded(s, &words);
    s->codes[column][row] = code;
    return code < 0 ? TOO_MUCH : OK;
}

static int time_field(Text *t, int64_t *result) {
    const uint8_t *from = t->at, *to;
    int escaped, wrong;
    *result = NONE;
    if ((wrong = literal(t, "null")) != NOT_JSON) return wrong;
    if (*t->at == '"') {
        if ((wrong = string(t, &from, &to, &escaped))) return wrong;
    } else {
        if ((wrong = value(t, NULL))) return wrong;
        to = t->at;
    }
    return thousandfold(from, to, result) ? OK : BAD_TIME;
}

/* args: kept as text, and the numbers in it that are used. */
static int args_field(Scan *s, Text *t, Room *args, int64_t row) {
    const uint8_t *from, *to;
    int wrong, escaped;
    if (*t->at != '{') return value(t, args);
    t->at++, t->depth++;
    if (put(args, "{", 1)) return TOO_MUCH;
    for (int first = 1;; first = 0) {
        blank(t);
        if (t->at >= t->end) return NEED_MORE;
        if (*t->at == '}') break;
        if (!first) {
            if (*t->at++ != ',') return NOT_JSON;
            blank(t);
            if (t->at >= t->end) return NEED_MORE;
            if (put(args, ",", 1)) return TOO_MUCH;
        }
        if (*t->at != '"') return NOT_JSON;
        if ((wrong = string(t, &from, &to, &escaped))) return wrong;
        blank(t);
        if (t->at >= t->end) return NEED_MORE;
        if (*t->at++ != ':') return NOT_JSON;
        if (put(args, from - 1, to - from + 2) || put(args, ":", 1)) return TOO_MUCH;
        blank(t);
        const uint8_t *begin = t->at;
        if ((wrong = value(t, args))) return wrong;
        if (*begin != '-' && (*begin < '0' || *begin > '9')) continue;
        int64_t size = to - from;
        if (size < 6 || size > 16) continue;
        for (int i = 0; i < NUMBERS; i++)
            if (NUMBER_KEYS[i].size == size && !memcmp(NUMBER_KEYS[i].text, from, (size_t)size))
                s->numbers[i][row] = whole(begin, t->at);
    }
    t->at++, t->depth--;
    return put(args, "}", 1);
}

static int key_is(const uint8_t *from, const uint8_t *to, const char *key) {
    return (size_t)(to - from) == strlen(key) && !memcmp(from, key, (size_t)(to - from));
}

/* One event. BAD_TIME and BAD_TYPE are told after the whole of it has been read. */
static int event(Scan *s, Text *t, int64_t row) {
    int problem = OK, wrong, escaped, extras = 0;
    int64_t args_begin = row ? s->args_ends[row - 1] : 0;
    Room args = {s->args + args_begin, s->args + s->text_capacity};
    Room extra = {s->scratch, s->scratch + s->text_capacity};
    for (int i = 0; i < COLUMNS; i++) s->codes[i][row] = -1;
    for (int i = 0; i < NUMBERS; i++) s->numbers[i][row] = NONE;
    s->start_ns[row] = s->duration_ns[row] = NONE;
    if (*t->at != '{') {
        wrong = value(t, NULL);
        s->args_ends[row] = args_begin;
        return wrong ? wrong : NOT_OBJECT;
    }
    t->at++, t->depth = 1;
    for (int first = 1;; first = 0) {
        const uint8_t *from, *to;
        blank(t);
        if (t->at >= t->end) return NEED_MORE;
        if (*t->at == '}') break;
        if (!first) {
            if (*t->at++ != ',') return NOT_JSON;
            blank(t);
            if (t->at >= t->end) return NEED_MORE;
        }
        if (*t->at != '"') return NOT_JSON;
        if ((wrong = string(t, &from, &to, &escaped))) return wrong;
        blank(t);
        if (t->at >= t->end) return NEED_MORE;
        if (*t->at++ != ':') return NOT_JSON;
        blank(t);
        if (t->at >= t->end) return NEED_MORE;
        if (key_is(from, to, "ph")) wrong = text_field(s, t, PH, row);
        else if (key_is(from, to, "name")) wrong = text_field(s, t, NAME, row);
        else if (key_is(from, to, "cat")) wrong = text_field(s, t, CAT, row);
        else if (key_is(from, to, "pid")) wrong = text_field(s, t, PID, row);
        else if (key_is(from, to, "tid")) wrong = text_field(s, t, TID, row);
        else if (key_is(from, to, "id")) wrong = text_field(s, t, ID, row);
        else if (key_is(from, to, "ts")) wrong = time_field(t, &s->start_ns[row]);
        else if (key_is(from, to, "dur")) wrong = time_field(t, &s->duration_ns[row]);
        else if (key_is(from, to, "args")) {
            args.at = s->args + args_begin;
            for (int i = 0; i < NUMBERS; i++) s->numbers[i][row] = NONE;
            wrong = args_field(s, t, &args, row);
        } else {
            if (put(&extra, extras++ ? "," : "{", 1) || put(&extra, from - 1, to - from + 2) || put(&extra, ":", 1))
                return TOO_MUCH;
            wrong = value(t, &extra);
        }
        if (wrong == BAD_TIME || wrong == BAD_TYPE) problem = wrong;
        else if (wrong) return wrong;
    }
    t->at++;
    s->args_ends[row] = args.at - s->args;
    if (extras && !problem) {
        Room words = words_room(s);
        if (put(&extra, "}", 1) || put(&words, s->scratch, extra.at - s->scratch)) return TOO_MUCH;
        if ((s->codes[EXTRA][row] = coded(s, &words)) < 0) return TOO_MUCH;
    }
    return problem;
}

/* A row for text that is no event; its columns are empty. */
static void rejected(Scan *s, int problem, int64_t begin, int64_t end) {
    int64_t row = s->rows++;
    for (int i = 0; i < COLUMNS; i++) s->codes[i][row] = -1;
    for (int i = 0; i < NUMBERS; i++) s->numbers[i][row] = NONE;
    s->start_ns[row] = s->duration_ns[row] = NONE;
    s->args_ends[row] = row ? s->args_ends[row - 1] : 0;
    s->problems[row] = (int8_t)problem, s->begins[row] = begin, s->ends[row] = end;
    s->problem_rows++;
}

static int is_blank(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* An event that may follow text that could not be read: its failures leave words, which must not fill the dictionary. */
static int candidate(Scan *s, Text *t) {
    const Text start = *t;
    int wrong = event(s, t, s->rows);
    if (wrong != TOO_MUCH || s->rows) return wrong;
    memset(s->table, 0, (size_t)s->table_size * sizeof *s->table);
    s->word_count = 0;
    *t = start;
    return event(s, t, s->rows);
}

/* The next event after text that could not be read: an object with a ph, after a comma. Where it begins, or -1; then
 * *searched is how far there is none, and *is_full tells that there was no more room to look. */
static int64_t found_again(Scan *s, const uint8_t *text, int64_t at, int64_t size, int final, int64_t *searched, int *is_full) {
    *is_full = 0;
    for (*searched = at; at < size; at++) {
        if (text[at] != '{') continue;
        int64_t before = at - 1;
        while (before >= 0 && is_blank(text[before])) before--;
        if (before < 0 || text[before] != ',') continue;
        *searched = before;
        Text t = {text + at, text + size, 0};
        int wrong = candidate(s, &t);
        if (!wrong && s->codes[PH][s->rows] >= 0) return at;
        *is_full = wrong == TOO_MUCH && s->rows;
        if (*is_full || (wrong == NEED_MORE && !final)) return -1;
        if (t.at > text + at + 1) at = t.at - text - 1;
    }
    if (!final) /* the comma of the next one may be the last that stands here */
        while (size > *searched && is_blank(text[size - 1])) size--;
    *searched = final || size <= *searched ? size : size - 1;
    return -1;
}

/* Read events from `text` until it ends, the array ends, or there is no more room. */
void scan(Scan *s, const uint8_t *text, int64_t size, int final) {
    int64_t at = 0, begin, searched;
    int is_full;
    s->state = ARRAY_GOES_ON;
    while (s->rows < s->capacity) {
        if (s->lost) {
            begin = found_again(s, text, at, size, final, &searched, &is_full);
            s->consumed = begin < 0 ? searched : begin;
            s->state = is_full ? ROWS_FULL : ARRAY_GOES_ON;
            if (begin < 0) return;
            s->lost = 0, s->first = 1, at = begin;
        }
        Text t = {text + at, text + size, 0};
        blank(&t);
        s->consumed = t.at - text;
        if (t.at >= t.end) return;
        if (*t.at == ']') {
            s->consumed++, s->state = ARRAY_ENDED;
            return;
        }
        begin = t.at - text;
        int wrong = OK;
        if (!s->first) {
            if (*t.at == ',') {
                t.at++, blank(&t);
                if (t.at < t.end && *t.at == ']') { /* Chrome's own reader takes a comma too many as well */
                    s->consumed = t.at - text + 1, s->state = ARRAY_ENDED;
                    return;
                }
            } else {
                wrong = NOT_JSON;
            }
        }
        if (t.at >= t.end) { /* a comma, and nothing yet that it should be followed by */
            s->consumed = size, s->first = 1;
            return;
        }
        int64_t row = s->rows, from = t.at - text;
        if (!wrong) wrong = event(s, &t, row);
        if (wrong == NEED_MORE && !final) return;
        if (wrong == TOO_MUCH && row) {
            s->state = ROWS_FULL;
            return;
        }
        if (wrong == OK || wrong == BAD_TIME || wrong == BAD_TYPE || wrong == NOT_OBJECT) {
            at = t.at - text, s->first = 0, s->rows++;
            s->problems[row] = (int8_t)wrong, s->begins[row] = from, s->ends[row] = at;
            s->problem_rows += wrong != OK;
            s->consumed = at;
            continue;
        }
        if (wrong == NEED_MORE) wrong = CUT_OFF;
        int64_t next = found_again(s, text, from + 1, size, final, &searched, &is_full);
        if (next < 0 && (is_full || !final)) {
            s->state = is_full ? ROWS_FULL : ARRAY_GOES_ON; /* from here again, with more room or more text */
            s->consumed = begin;
            return;
        }
        rejected(s, wrong, from, next < 0 ? size : next);
        if (next < 0) {
            s->consumed = size;
            return;
        }
        at = next, s->first = 1, s->consumed = at;
    }
    s->state = ROWS_FULL;
}
