/*
 * The floor of an ADD: sends recorded netlink messages and waits for each acknowledgement, and does nothing else. What it makes in the
 * kernel is what the recorded ADD made; floor.ts records.
 *
 * floor NETNS FILE NUMBER: FILE holds, for each message, four numbers of 4 bytes (protocol of the socket, whether it lies in NETNS, size of
 * the bytes that follow, how many acknowledgements come back) and the bytes. They know NETNS as the descriptor NUMBER.
 */
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGEST ((size_t)1 << 20)
#define PROTOCOLS 32

struct entry {
    uint32_t protocol;
    uint32_t inside;
    uint32_t size;
    uint32_t acknowledgements;
};

static unsigned char recording[LARGEST];
static int sockets[2][PROTOCOLS];

static int fail(const char *what)
{
    perror(what);
    exit(1);
}

static int netlink_socket(const struct entry *entry, int own, int container)
{
    int *known = &sockets[entry->inside != 0][entry->protocol % PROTOCOLS];
    if (*known != 0)
        return *known;
    if (entry->inside && setns(container, CLONE_NEWNET) != 0)
        fail("setns");
    *known = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)entry->protocol);
    if (*known < 0)
        fail("socket");
    if (entry->inside && setns(own, CLONE_NEWNET) != 0)
        fail("setns");
    return *known;
}

static void await(int fd, uint32_t acknowledgements)
{
    static _Alignas(struct nlmsghdr) unsigned char answer[LARGEST];
    while (acknowledgements > 0) {
        ssize_t size = recv(fd, answer, sizeof answer, 0);
        if (size < 0)
            fail("recv");
        unsigned int left = (unsigned int)size;
        for (struct nlmsghdr *header = (struct nlmsghdr *)answer; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_type != NLMSG_ERROR)
                continue;
            const struct nlmsgerr *error = NLMSG_DATA(header);
            if (error->error != 0) {
                fprintf(stderr, "message of type %u: %s\n", error->msg.nlmsg_type, strerror(-error->error));
                exit(1);
            }
            acknowledgements--;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int container = open(argv[1], O_RDONLY | O_CLOEXEC);
    int file = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (own < 0 || container < 0 || file < 0)
        fail("open");
    int number = atoi(argv[3]);
    if (number <= file || dup2(container, number) != number)
        return 2;
    ssize_t total = read(file, recording, sizeof recording);
    if (total < 0)
        fail("read");
    for (size_t at = 0; at + sizeof(struct entry) <= (size_t)total;) {
        struct entry entry;
        memcpy(&entry, recording + at, sizeof entry);
        at += sizeof entry;
        if (entry.size > (size_t)total - at)
            return 2;
        int fd = netlink_socket(&entry, own, container);
        if (send(fd, recording + at, entry.size, 0) < 0)
            fail("send");
        await(fd, entry.acknowledgements);
        at += entry.size;
    }
    return 0;
}
