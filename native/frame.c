#include "frame.h"

#include <stdlib.h>
#include <string.h>

/* The agent refuses what is longer (src/agent/frame.ts). */
#define LARGEST_FRAME (2u << 20)

static const unsigned char MAGIC[4] = {'T', 'S', 'N', 'A'};

/* What is left to read of a payload. */
struct reader {
    const unsigned char *at;
    size_t left;
    int failed;
};

static uint64_t read_number(struct reader *reader, size_t size)
{
    if (reader->failed || reader->left < size) {
        reader->failed = 1;
        return 0;
    }
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;)
        value = value << 8 | reader->at[i];
    reader->at += size;
    reader->left -= size;
    return value;
}

static struct bytes read_field(struct reader *reader)
{
    size_t size = (size_t)read_number(reader, 4);
    struct bytes field = {reader->at, size};
    if (reader->failed || reader->left < size) {
        reader->failed = 1;
        field.size = 0;
        return field;
    }
    reader->at += size;
    reader->left -= size;
    return field;
}

/* What a later version appends would have another protocol number: anything left over is a fault. */
static int finish(const struct reader *reader)
{
    return reader->failed || reader->left != 0 ? -1 : 0;
}

int parse_header(const unsigned char bytes[FRAME_HEADER_SIZE], struct frame_header *header)
{
    struct reader reader = {bytes + sizeof MAGIC, FRAME_HEADER_SIZE - sizeof MAGIC, 0};
    if (memcmp(bytes, MAGIC, sizeof MAGIC) != 0 || read_number(&reader, 2) != FRAME_PROTOCOL)
        return -1;
    header->kind = (uint16_t)read_number(&reader, 2);
    header->size = (uint32_t)read_number(&reader, 4);
    return 0;
}

int parse_response(struct bytes payload, struct response *response)
{
    struct reader reader = {payload.data, payload.size, 0};
    response->status = (uint32_t)read_number(&reader, 4);
    response->output = read_field(&reader);
    response->problems = read_field(&reader);
    return finish(&reader);
}

static void write_number(unsigned char *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static int reserve(struct frame *frame, size_t size)
{
    if (frame->failed || size > LARGEST_FRAME - frame->size) {
        frame->failed = 1;
        return -1;
    }
    if (frame->size + size <= frame->capacity)
        return 0;
    size_t capacity = frame->capacity == 0 ? 4096 : frame->capacity;
    while (capacity < frame->size + size)
        capacity *= 2;
    unsigned char *data = realloc(frame->data, capacity);
    if (data == NULL) {
        frame->failed = 1;
        return -1;
    }
    frame->data = data;
    frame->capacity = capacity;
    return 0;
}

void frame_append(struct frame *frame, const void *data, size_t size)
{
    if (size == 0 || reserve(frame, size) != 0)
        return;
    memcpy(frame->data + frame->size, data, size);
    frame->size += size;
}

void frame_begin(struct frame *frame, enum frame_kind kind)
{
    unsigned char header[FRAME_HEADER_SIZE];
    memcpy(header, MAGIC, sizeof MAGIC);
    write_number(header + 4, FRAME_PROTOCOL, 2);
    write_number(header + 6, kind, 2);
    write_number(header + 8, 0, 4);
    memset(frame, 0, sizeof *frame);
    frame_append(frame, header, sizeof header);
}

void frame_number(struct frame *frame, uint64_t value)
{
    unsigned char bytes[8];
    write_number(bytes, value, sizeof bytes);
    frame_append(frame, bytes, sizeof bytes);
}

size_t frame_field_begin(struct frame *frame)
{
    unsigned char length[4] = {0};
    size_t field = frame->size;
    frame_append(frame, length, sizeof length);
    return field;
}

void frame_field_end(struct frame *frame, size_t field)
{
    if (!frame->failed)
        write_number(frame->data + field, frame->size - field - 4, 4);
}

void frame_field(struct frame *frame, const void *data, size_t size)
{
    size_t field = frame_field_begin(frame);
    frame_append(frame, data, size);
    frame_field_end(frame, field);
}

int frame_end(struct frame *frame)
{
    if (frame->failed)
        return -1;
    write_number(frame->data + 8, frame->size - FRAME_HEADER_SIZE, 4);
    return 0;
}
