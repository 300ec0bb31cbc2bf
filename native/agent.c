#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How long the agent may be silent before it says that it is there; while others are served first, during which it says so again and again; while it works. A runtime waits for minutes. */
#define HELLO_MS 2000
#define START_MS 5000
#define LONGEST_TURN_MS 60000
#define FINISH_MS 60000

#define LARGEST_NOTICE 8192u
#define LARGEST_RESPONSE (16u << 20)

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Returns 0 when the socket is ready for `events`, -1 when the time is over. */
static int wait_for(int fd, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline - now_ms();
        struct pollfd entry = {fd, events, 0};
        int ready = poll(&entry, 1, left > 0 ? (int)left : 0);
        if (ready > 0)
            return 0;
        if (ready == 0 || errno != EINTR)
            return -1;
    }
}

static int receive(int fd, unsigned char *data, size_t size, int64_t deadline)
{
    while (size > 0) {
        ssize_t count = recv(fd, data, size, MSG_DONTWAIT);
        if (count > 0) {
            data += count;
            size -= (size_t)count;
        } else if (count == 0 || (errno != EAGAIN && errno != EINTR) || wait_for(fd, POLLIN, deadline) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Receives one frame. The payload is never freed: the process ends soon. Returns its kind, or -1. */
static int receive_frame(int fd, uint32_t largest, int64_t deadline, struct bytes *payload)
{
    unsigned char bytes[FRAME_HEADER_SIZE];
    struct frame_header header;
    if (receive(fd, bytes, sizeof bytes, deadline) != 0 || parse_header(bytes, &header) != 0 || header.size > largest)
        return -1;
    unsigned char *data = malloc(header.size + 1u);
    if (data == NULL || receive(fd, data, header.size, deadline) != 0)
        return -1;
    payload->data = data;
    payload->size = header.size;
    return header.kind;
}

/* The descriptor goes with the first bytes. Returns 0, or -1 with the request sent in part at most. */
static int send_request(int fd, const struct frame *request, int netns, int64_t deadline)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    control.header.cmsg_len = CMSG_LEN(sizeof netns);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), &netns, sizeof netns);
    for (size_t sent = 0; sent < request->size;) {
        struct iovec part = {request->data + sent, request->size - sent};
        struct msghdr message = {0};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (netns >= 0 && sent == 0) {
            message.msg_control = &control;
            message.msg_controllen = sizeof control;
        }
        ssize_t count = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count > 0)
            sent += (size_t)count;
        else if ((errno != EAGAIN && errno != EINTR) || wait_for(fd, POLLOUT, deadline) != 0)
            return -1;
    }
    return 0;
}

/* Root's, or this user's own, and nobody else may write to it. */
static int is_ours(const struct stat *file)
{
    return (file->st_uid == 0 || file->st_uid == geteuid()) && (file->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int agent_is_trusted(const char *folder, const char *path)
{
    struct stat file;
    /* Who can write to the folder can put another socket there. */
    if (lstat(path, &file) != 0 || !S_ISSOCK(file.st_mode) || !is_ours(&file))
        return 0;
    return lstat(folder, &file) == 0 && S_ISDIR(file.st_mode) && is_ours(&file);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* A full queue is refused at once (EAGAIN): then one shot is faster than waiting. */
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid()))
        return fd;
    close(fd);
    return -1;
}

/* Others come first, and the agent says now and then that it is there. Returns 0 when it begins. */
static int await_turn(int fd, int64_t begin)
{
    struct bytes payload;
    int kind;
    do
        kind = receive_frame(fd, LARGEST_NOTICE, now_ms() + START_MS, &payload);
    while (kind == FRAME_HELLO && now_ms() - begin < LONGEST_TURN_MS);
    return kind == FRAME_STARTED ? 0 : -1;
}

static int converse(int fd, const struct frame *request, int netns, struct response *response)
{
    struct bytes payload;
    int64_t begin = now_ms();
    /* A queue that is long says so at once; only who is dead or stopped is silent. */
    if (send_request(fd, request, netns, begin + HELLO_MS) != 0 ||
        receive_frame(fd, LARGEST_NOTICE, begin + HELLO_MS, &payload) != FRAME_HELLO ||
        await_turn(fd, begin) != 0 ||
        receive_frame(fd, LARGEST_RESPONSE, now_ms() + FINISH_MS, &payload) != FRAME_RESPONSE)
        return -1;
    return parse_response(payload, response) == 0 && response->status <= 255 ? 0 : -1;
}

int agent_ask(const char *path, const struct frame *request, int netns, struct response *response)
{
    int fd = connect_to(path);
    if (fd < 0)
        return -1;
    int result = converse(fd, request, netns, response);
    /* By this the agent sees that nobody waits any more, before it begins. */
    close(fd);
    return result;
}
