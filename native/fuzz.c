/* Feeds the parsers with frames that are nearly right: whatever they make of them must lie inside the bytes they were given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

static void expect_inside(struct bytes part, struct bytes whole)
{
    if (part.data < whole.data || part.size > whole.size || (size_t)(part.data - whole.data) > whole.size - part.size)
        abort();
}

/* The first byte chooses the parser. The bytes are copied to a block of just their size, so that a sanitizer sees each step beyond. */
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0)
        return 0;
    struct bytes payload = {NULL, size - 1};
    unsigned char *copy = malloc(size);
    if (copy == NULL)
        return 0;
    memcpy(copy, data, size);
    unsigned char *block = malloc(payload.size > 0 ? payload.size : 1);
    if (block != NULL) {
        memcpy(block, copy + 1, payload.size);
        payload.data = block;
        struct frame_header header;
        struct response response;
        if (copy[0] % 2 == 0 && payload.size >= FRAME_HEADER_SIZE) {
            parse_header(block, &header);
        } else if (copy[0] % 2 == 1 && parse_response(payload, &response) == 0) {
            expect_inside(response.output, payload);
            expect_inside(response.problems, payload);
        }
    }
    free(block);
    free(copy);
    return 0;
}

#ifndef LIBFUZZER

#define ROUNDS 300000
#define LARGEST 600

static unsigned long long state = 0x9e3779b97f4a7c15ull;

static unsigned next_random(unsigned limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % limit;
}

/* A right frame's payload, its parser before it. */
static size_t make_seed(unsigned char *bytes, unsigned kind)
{
    struct frame frame;
    static const unsigned char numbers[4] = {1, 2, 3};
    char text[128];
    memset(text, 'x', sizeof text);
    frame_begin(&frame, FRAME_RESPONSE);
    size_t head = frame.size;
    frame_append(&frame, numbers, sizeof numbers);
    frame_field(&frame, text, next_random(sizeof text));
    frame_field(&frame, text, next_random(sizeof text));
    if (frame_end(&frame) != 0)
        abort();
    size_t skip = kind == 0 ? 0 : head;
    size_t size = frame.size - skip;
    bytes[0] = (unsigned char)kind;
    memcpy(bytes + 1, frame.data + skip, size);
    free(frame.data);
    return size + 1;
}

static size_t mutate(unsigned char *bytes, size_t size)
{
    for (unsigned i = next_random(6); i > 0; i--) {
        size_t at = 1 + next_random((unsigned)size);
        if (at >= size)
            size = next_random(2) == 0 && size > 1 ? size - 1 - next_random((unsigned)size - 1) : size + 1 < LARGEST ? size + 1 : size;
        else
            bytes[at] = next_random(3) == 0 ? 0xff : (unsigned char)next_random(256);
        if (size == 0)
            size = 1;
    }
    return size;
}

int main(void)
{
    static unsigned char bytes[LARGEST];
    unsigned long long accepted = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t size = make_seed(bytes, i % 2);
        struct response response;
        struct bytes seed = {bytes + 1, size - 1};
        if (i % 2 == 1 && parse_response(seed, &response) == 0)
            accepted++;
        LLVMFuzzerTestOneInput(bytes, mutate(bytes, size));
    }
    printf("%u mutations, %llu seeds accepted\n", ROUNDS, accepted);
    return accepted == ROUNDS / 2 ? 0 : 1;
}

#endif
