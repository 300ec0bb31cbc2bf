/* The frames between launcher and agent, as README.md describes them. Pure: bytes in, values out, nothing else. */
#ifndef TSNET_FRAME_H
#define TSNET_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_SIZE 12
#define FRAME_PROTOCOL 1

enum frame_kind { FRAME_HELLO = 1, FRAME_REQUEST = 2, FRAME_STARTED = 3, FRAME_RESPONSE = 4, FRAME_DECLINED = 5 };

/* Bytes that belong to somebody else. */
struct bytes {
    const unsigned char *data;
    size_t size;
};

struct frame_header {
    uint16_t kind;
    uint32_t size;
};

struct response {
    uint32_t status;
    struct bytes output;
    struct bytes problems;
};

/* Each returns 0, or -1 for bytes that are not what they should be; then the result is not to be looked at. */
int parse_header(const unsigned char bytes[FRAME_HEADER_SIZE], struct frame_header *header);
int parse_response(struct bytes payload, struct response *response);

/* A frame that grows while it is written. `failed` stays set when memory or the limit of its size ran out. */
struct frame {
    unsigned char *data;
    size_t size;
    size_t capacity;
    int failed;
};

/* Begins a frame; the caller frees frame->data. */
void frame_begin(struct frame *frame, enum frame_kind kind);
/* Appends a number of 8 bytes. */
void frame_number(struct frame *frame, uint64_t value);
/* Appends a field: its length, then its bytes. */
void frame_field(struct frame *frame, const void *data, size_t size);
/* Begins a field that frame_append() fills; returns what frame_field_end() wants. */
size_t frame_field_begin(struct frame *frame);
void frame_append(struct frame *frame, const void *data, size_t size);
void frame_field_end(struct frame *frame, size_t field);
/* Writes the length into the header. Returns 0, or -1 when the frame failed. */
int frame_end(struct frame *frame);

#endif
