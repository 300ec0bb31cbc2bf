/* The conversation with the agent: whether there is one to be trusted, and one request to its answer. */
#ifndef TSNET_AGENT_H
#define TSNET_AGENT_H

#include "frame.h"

/* Whether a socket stands at `path` that nobody but root and this user can have made or can write to. */
int agent_is_trusted(const char *folder, const char *path);

/*
 * Sends one request and waits for the answer, as long as the limits allow.
 * request: a finished frame. netns: a descriptor that goes along, or -1.
 * Returns 0 when it was answered; what `response` points to stays until the process ends. Returns -1 otherwise: then the agent
 * may have done anything between nothing and all, but will not begin any more.
 */
int agent_ask(const char *path, const struct frame *request, int netns, struct response *response);

#endif
