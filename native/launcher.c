/*
 * What runtimes execute: hands a CNI request to the agent if there is one, and else becomes node, which does the same in
 * one shot. It decides nothing about networks. README.md says what it trusts, and what it does when.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent.h"
#include "config.h"

/* A longer configuration is refused, so one byte more is all that need be read. */
#define LARGEST_INPUT ((size_t)1 << 20)
#define NSFS_MAGIC 0x6e736673
#define TOKEN_SIZE 17
#define PATH_SIZE (PATH_MAX + 64)

extern char **environ;

static struct {
    unsigned char data[LARGEST_INPUT + 1];
    size_t size;
} input;

/* Plugin types that a bundle of their own holds; plugin types that are no command. */
static const char *const own_types[] = {TSNET_OWN_TYPES NULL};
static const char *const plugins_only[] = {TSNET_PLUGINS_ONLY NULL};

/* What node starts one call with (docs/decisions/0016), and what all else. */
static const char *const one_shot_options[] = {TSNET_NODE_OPTIONS NULL};
static const char *const none[] = {NULL};

static int is_one_of(const char *name, const char *const names[])
{
    for (size_t i = 0; names[i] != NULL; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return 0;
}

static int starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *variable(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value == NULL || *value == '\0' ? otherwise : value;
}

static int write_all(int fd, const void *data, size_t size)
{
    const unsigned char *at = data;
    while (size > 0) {
        ssize_t count = write(fd, at, size);
        if (count > 0) {
            at += count;
            size -= (size_t)count;
        } else if (count < 0 && errno == EAGAIN) {
            struct pollfd entry = {fd, POLLOUT, 0};
            poll(&entry, 1, -1);
        } else if (count == 0 || errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

/* Whatever is opened must not become standard input or output by chance. */
static void occupy_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0)
            _exit(1);
}

/* Returns 0, or -1 when nothing can be read at all. */
static int read_input(void)
{
    while (input.size < sizeof input.data) {
        ssize_t count = read(0, input.data + input.size, sizeof input.data - input.size);
        if (count > 0) {
            input.size += (size_t)count;
        } else if (count == 0) {
            return 0;
        } else if (errno == EAGAIN) {
            struct pollfd entry = {0, POLLIN, 0};
            poll(&entry, 1, -1);
        } else if (errno != EINTR) {
            return input.size > 0 ? 0 : -1;
        }
    }
    return 0;
}

/* What has been read becomes standard input again. */
static void restore_input(void)
{
    if (input.size == 0)
        return;
    int fd = memfd_create("tsnet-request", MFD_CLOEXEC);
    if (fd < 0 || write_all(fd, input.data, input.size) != 0 || lseek(fd, 0, SEEK_SET) != 0 || dup2(fd, 0) < 0) {
        perror("tsnet: cannot hand the request to node");
        _exit(1);
    }
}

/* Node's own variables would change what it loads, prints and trusts. */
static void clean_environment(void)
{
    char **kept = environ;
    for (char **at = environ; *at != NULL; at++)
        if (!starts_with(*at, "NODE_"))
            *kept++ = *at;
    *kept = NULL;
}

/* Writes the path of a file in a folder beside this program. Returns 0 when it can be accessed as mode says. */
static int find_beside(char path[PATH_SIZE], const char *folder, const char *name, int mode)
{
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size <= 0)
        return -1;
    self[size] = '\0';
    snprintf(path, PATH_SIZE, "%s/%s/%s", dirname(self), folder, name);
    return access(path, mode);
}

/*
 * The path of a bundle: where `tsnet install` says, else beside the folder of this program, else where the build put it. The last counts least:
 * where the build was another machine's, that path may be anybody's here.
 */
static const char *bundle_path(const char *name)
{
    static char path[PATH_SIZE];
    if (find_beside(path, ".tsnet/dist", name, R_OK) != 0 && find_beside(path, "..", name, R_OK) != 0)
        snprintf(path, sizeof path, "%s/%s", TSNET_DIST, name);
    return path;
}

/* The path of node: where `tsnet install` says, else what the build ran with. */
static const char *node_path(void)
{
    static char path[PATH_SIZE];
    return find_beside(path, ".tsnet", "node", X_OK) == 0 ? path : TSNET_NODE;
}

/* Says in the way of who has called why nothing can be run. what and hint hold nothing of the caller's. */
__attribute__((noreturn)) static void give_up(const char *what, const char *reason, const char *hint)
{
    if (getenv("CNI_COMMAND") != NULL)
        printf("{\"code\":999,\"msg\":\"Cannot run %s: %s\",\"details\":\"%s\"}\n", what, reason, hint);
    else
        fprintf(stderr, "tsnet: Cannot run %s: %s. Hint: %s\n", what, reason, hint);
    fflush(stdout);
    _exit(1);
}

static size_t length_of(const char *const words[])
{
    size_t count = 0;
    while (words[count] != NULL)
        count++;
    return count;
}

/* Node refuses to start with an option that it does not know, and only the build's own was asked. By its size, for any copy of it will do. */
static int is_node_of_build(const char *path)
{
    struct stat file;
    return stat(path, &file) == 0 && file.st_size == TSNET_NODE_SIZE;
}

/* Becomes node. options: for the node of the build alone; words: what follows the bundle; both ended by NULL. */
__attribute__((noreturn)) static void become_node(const char *const options[], const char *bundle, const char *const words[])
{
    const char *node = node_path();
    size_t count = is_node_of_build(node) ? length_of(options) : 0;
    const char **argv = calloc(count + length_of(words) + 3, sizeof *argv);
    if (argv == NULL)
        _exit(1);
    argv[0] = node;
    memcpy(argv + 1, options, count * sizeof *argv);
    argv[count + 1] = bundle_path(bundle);
    if (access(argv[count + 1], R_OK) != 0)
        give_up(bundle, strerror(errno), "It was in " TSNET_DIST " when tsnet was built, or lies beside the folder of the program");
    memcpy(argv + count + 2, words, length_of(words) * sizeof *argv);
    clean_environment();
    execv(node, (char *const *)argv);
    argv[count] = "node";
    execvp("node", (char *const *)(argv + count));
    give_up("node", strerror(errno), "It was " TSNET_NODE " when tsnet was built");
}

/* token: of a request that an agent may have begun, by which its work is recognised; else NULL. */
__attribute__((noreturn)) static void run_one_shot(char *entry, const char *token)
{
    const char *const words[] = {entry, NULL};
    if (token != NULL)
        setenv("TSNET_REQUEST", token, 1);
    else
        unsetenv("TSNET_REQUEST");
    restore_input();
    become_node(one_shot_options, is_one_of(entry, own_types) ? "cni.cjs" : "plugins.cjs", words);
}

/* The namespace is opened here, so that neither another mount namespace nor a path that changes matters. Returns -1 for none. */
static int open_netns(void)
{
    const char *path = variable("CNI_NETNS", NULL);
    struct statfs system;
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstatfs(fd, &system) == 0 && system.f_type == NSFS_MAGIC)
        return fd;
    close(fd);
    return -1;
}

static int make_token(char token[TOKEN_SIZE])
{
    unsigned char bytes[(TOKEN_SIZE - 1) / 2];
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes)
        return -1;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

static int add_namespace(struct frame *request, const char *path)
{
    struct stat own;
    if (stat(path, &own) != 0)
        return -1;
    frame_number(request, own.st_dev);
    frame_number(request, own.st_ino);
    return 0;
}

static void add_text(struct frame *request, const char *text)
{
    frame_field(request, text, strlen(text));
}

/* First who asks: the agent declines unless it is the same program in the same place. */
static int make_request(struct frame *request, const char *entry, const char *token)
{
    frame_begin(request, FRAME_REQUEST);
    if (add_namespace(request, "/proc/self/ns/net") != 0 || add_namespace(request, "/proc/self/ns/mnt") != 0)
        return -1;
    add_text(request, TSNET_BUILD);
    add_text(request, variable("TSNET_STATE_DIR", "/run/tsnet"));
    add_text(request, variable("TSNET_SYSCTL_DIR", ""));
    add_text(request, token);
    add_text(request, entry);
    size_t field = frame_field_begin(request);
    for (char **at = environ; *at != NULL; at++)
        if (starts_with(*at, "CNI_") || starts_with(*at, "TSNET_TIMEOUT="))
            frame_append(request, *at, strlen(*at) + 1);
    frame_field_end(request, field);
    frame_field(request, input.data, input.size);
    return frame_end(request);
}

/* Returns only for a request that has to be run in one shot: with its token if an agent may have begun it, else NULL. */
static const char *try_agent(const char *command, const char *entry)
{
    static char token[TOKEN_SIZE];
    char path[PATH_MAX];
    struct frame request;
    struct response response;
    const char *folder = variable("TSNET_RUN_DIR", "/run/tsnet");
    if ((size_t)snprintf(path, sizeof path, "%s/tsnet.sock", folder) >= sizeof path || !agent_is_trusted(folder, path) || read_input() != 0)
        return NULL;
    int netns = open_netns();
    /* What is wrong with the path is for node to say. */
    if (netns < 0 && (strcmp(command, "ADD") == 0 || strcmp(command, "CHECK") == 0))
        return NULL;
    if (make_token(token) != 0 || make_request(&request, entry, token) != 0)
        return NULL;
    if (agent_ask(path, &request, netns, &response) != 0)
        return token;
    signal(SIGPIPE, SIG_IGN);
    write_all(2, response.problems.data, response.problems.size);
    _exit(write_all(1, response.output.data, response.output.size) == 0 ? (int)response.status : 1);
}

int main(int argc, char **argv)
{
    static char tsnet[] = "tsnet";
    char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    char *entry = slash != NULL ? slash + 1 : argc > 0 && *argv[0] != '\0' ? argv[0] : tsnet;
    const char *command = getenv("CNI_COMMAND");
    occupy_standard_files();
    if (strcmp(entry, "dhcp") == 0 && argc > 1 && strcmp(argv[1], "daemon") == 0)
        become_node(none, "dhcp.cjs", (const char *const *)argv + 2);
    if (command == NULL && !is_one_of(entry, plugins_only))
        become_node(none, "cli.cjs", argc > 0 ? (const char *const *)argv + 1 : none);
    /* podman asks every plugin of every list in every command. */
    if (command != NULL && strcmp(command, "VERSION") == 0)
        _exit(write_all(1, TSNET_VERSION_DOCUMENT, sizeof TSNET_VERSION_DOCUMENT - 1) == 0 ? 0 : 1);
    run_one_shot(entry, command == NULL || *command == '\0' ? NULL : try_agent(command, entry));
}
