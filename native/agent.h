/* The conversation with the agent: whether there is one to be trusted, and one request to its answer. */
#ifndef TSNET_AGENT_H
#define TSNET_AGENT_H

#include "frame.h"

/* How a request ended. */
enum outcome {
    /* `answer` holds what to print. */
    ANSWERED,
    /* The agent has not begun, or says itself that one shot is the way. */
    NOT_BEGUN,
    /* The agent had begun and has not finished: it may have done anything between nothing and all. */
    INTERRUPTED,
};

struct answer {
    int status;
    struct bytes output;
    struct bytes problems;
};

/* Whether a socket stands at `path` that nobody but root and this user can have made or can write to. */
int agent_is_trusted(const char *folder, const char *path);

/*
 * Sends one request and waits for the answer, as long as the limits allow.
 * request: a finished frame. netns: a descriptor that goes along, or -1. state_folder: what the caller works in.
 * What `answer` points to stays until the process ends.
 */
enum outcome agent_ask(const char *path, const char *state_folder, const struct frame *request, int netns, struct answer *answer);

#endif
