/*
 * Runs a program and stops it at a chosen system call: to be killed there, or to have the call fail. What counts is what the
 * program and its children do from the first touch of tsnet's state folder on; before, node itself starts.
 *
 *     tracer LOG list -- PROGRAM …                 writes a line for each call: POINT NAME WHAT
 *     tracer LOG kill POINT one|all -- PROGRAM …   kills the process that comes to the point, or all of them, before the call
 *     tracer LOG fail POINT ERRNO -- PROGRAM …     the call is not done, and gives this error
 *     tracer LOG orphan POINT MS -- PROGRAM …      kills the first process when a child comes to the point, and holds the child for so long
 *
 * A point is `<process>.<class><number>`: processes count from 0 in the order of their birth, calls of each class from 1. Class `c`
 * changes something, class `a` is the answer on standard output, class `o` only asks or prepares. LOG gets the line of a point that was reached. A seccomp filter lets all
 * other calls pass at full speed. The exit status is the program's.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STATE_FOLDER "/run/tsnet"
#define MOST_TASKS 4096
#define MOST_PROCESSES 256
#define TEXT_SIZE 512

/* net/ipv4/netfilter/ip_tables.c, by which iptables-legacy writes; the same number for IPv6. */
#define IPT_SO_SET_REPLACE 64
#define NFNL_SUBSYS_CTNETLINK 1
#define NFNL_SUBSYS_NFTABLES 10
#define NFNL_SUBSYS_NFT_COMPAT 11

static const struct {
    int number;
    const char *name;
} calls[] = {
#define CALL(name) {__NR_##name, #name}
    CALL(openat),      CALL(write),      CALL(writev),    CALL(pwrite64), CALL(ftruncate),  CALL(renameat), CALL(renameat2), CALL(mkdirat),
    CALL(unlinkat),    CALL(fchmod),     CALL(fchmodat),  CALL(linkat),   CALL(symlinkat),  CALL(fsync),    CALL(fdatasync), CALL(sendto),
    CALL(sendmsg),     CALL(setsockopt), CALL(recvfrom),  CALL(recvmsg),  CALL(socket),     CALL(connect),  CALL(bind),      CALL(flock),
    CALL(setns),       CALL(pipe2),      CALL(clone),     CALL(clone3),   CALL(execve),     CALL(read),     CALL(pread64),   CALL(getdents64),
#ifdef __NR_open
    CALL(open),        CALL(rename),     CALL(mkdir),     CALL(unlink),   CALL(rmdir),      CALL(chmod),
#endif
#undef CALL
};
#define CALL_COUNT (sizeof calls / sizeof calls[0])

enum class { PASSED_OVER, CHANGE, ANSWER, OTHER };
static const char LETTERS[] = " cao";

static struct {
    pid_t tid;
    int process;
} tasks[MOST_TASKS];
static int task_count;

static struct {
    pid_t pid;
    unsigned count[4];
    int ended;
} processes[MOST_PROCESSES];
static int process_count;

static struct {
    const char *mode;
    int process;
    enum class class;
    unsigned number;
    const char *argument;
} wish;

static FILE *report;
static int armed;
static int done;

__attribute__((noreturn)) static void die(const char *what)
{
    perror(what);
    exit(125);
}

static void install_filter(void)
{
    struct sock_filter code[CALL_COUNT + 3];
    size_t at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALL_COUNT; i++)
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].number, (uint8_t)(CALL_COUNT - i), 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog program = {(unsigned short)at, code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        die("tracer: seccomp");
}

static const char *name_of(int number)
{
    for (size_t i = 0; i < CALL_COUNT; i++)
        if (calls[i].number == number)
            return calls[i].name;
    return "?";
}

/* Threads belong to the process that they are in, whose number is that of its birth. */
static int process_of(pid_t tid)
{
    for (int i = 0; i < task_count; i++)
        if (tasks[i].tid == tid)
            return tasks[i].process;
    char path[64], line[128];
    pid_t pid = tid;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Tgid: %d", &pid) == 1)
            break;
    if (file != NULL)
        fclose(file);
    int process = 0;
    while (process < process_count && processes[process].pid != pid)
        process++;
    if (process == MOST_PROCESSES || task_count == MOST_TASKS)
        die("tracer: too many tasks");
    if (process == process_count)
        processes[process_count++].pid = pid;
    tasks[task_count].tid = tid;
    tasks[task_count++].process = process;
    return process;
}

static ssize_t read_memory(pid_t tid, uint64_t address, void *data, size_t size)
{
    struct iovec local = {data, size}, remote = {(void *)(uintptr_t)address, size};
    return process_vm_readv(tid, &local, 1, &remote, 1, 0);
}

/* A string may end before a page that cannot be read. */
static void read_text(pid_t tid, uint64_t address, char *text, size_t size)
{
    size_t length = 0;
    while (length + 1 < size && read_memory(tid, address + length, text + length, 1) == 1 && text[length] != '\0')
        length++;
    text[length] = '\0';
}

static void read_link(pid_t tid, uint64_t fd, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, (int)fd);
    ssize_t length = readlink(path, text, size - 1);
    text[length < 0 ? 0 : length] = '\0';
}

static int starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Files on which something depends; neither libraries nor node's own. */
static int is_file(const char *path)
{
    return path[0] == '/' && !starts_with(path, "/dev/") && !starts_with(path, "/memfd:");
}

static int is_watched(const char *path)
{
    return starts_with(path, "/run/") || starts_with(path, "/proc/sys/") || starts_with(path, "/proc/thread-self/") || starts_with(path, "/proc/net/") ||
           starts_with(path, "/proc/self/net/");
}

static enum class look_at_open(pid_t tid, uint64_t path, uint64_t flags, char *text)
{
    read_text(tid, path, text, TEXT_SIZE);
    if (strstr(text, STATE_FOLDER) != NULL)
        armed = 1;
    if ((flags & (O_CREAT | O_TRUNC)) != 0 && is_file(text))
        return CHANGE;
    return is_watched(text) ? OTHER : PASSED_OVER;
}

static enum class look_at_path(pid_t tid, uint64_t path, char *text)
{
    read_text(tid, path, text, TEXT_SIZE);
    if (strstr(text, STATE_FOLDER) != NULL)
        armed = 1;
    return CHANGE;
}

static enum class look_at_write(pid_t tid, uint64_t fd, char *text)
{
    read_link(tid, fd, text, TEXT_SIZE);
    if (fd == 1 && process_of(tid) == 0)
        return ANSWER;
    if (is_file(text))
        return CHANGE;
    return starts_with(text, "pipe:") ? OTHER : PASSED_OVER;
}

static enum class look_at_read(pid_t tid, uint64_t fd, char *text)
{
    read_link(tid, fd, text, TEXT_SIZE);
    return is_watched(text) ? OTHER : PASSED_OVER;
}

static int asks_only(unsigned type)
{
    switch (type >> 8) {
    case 0:
        return (type & 3) == 2;
    case NFNL_SUBSYS_CTNETLINK:
        return (type & 0xff) == 1;
    case NFNL_SUBSYS_NFTABLES:
        return (type & 0xff) % 3 == 1;
    case NFNL_SUBSYS_NFT_COMPAT:
        return 1;
    default:
        return 0;
    }
}

static enum class look_at_message(pid_t tid, uint64_t address, char *text)
{
    struct nlmsghdr header = {0};
    if (read_memory(tid, address, &header, sizeof header) != sizeof header)
        return PASSED_OVER;
    snprintf(text, TEXT_SIZE, "netlink type %u flags %#x, %u bytes", header.nlmsg_type, header.nlmsg_flags, header.nlmsg_len);
    return asks_only(header.nlmsg_type) ? OTHER : CHANGE;
}

static enum class look_at_sendmsg(pid_t tid, uint64_t address, char *text)
{
    struct msghdr message;
    struct iovec part;
    if (read_memory(tid, address, &message, sizeof message) != sizeof message ||
        read_memory(tid, (uint64_t)(uintptr_t)message.msg_iov, &part, sizeof part) != sizeof part)
        return PASSED_OVER;
    return look_at_message(tid, (uint64_t)(uintptr_t)part.iov_base, text);
}

static enum class look_at_clone(uint64_t flags)
{
    return (flags & CLONE_VFORK) != 0 ? OTHER : PASSED_OVER;
}

static enum class look_at(pid_t tid, int number, const uint64_t *args, char *text)
{
    uint64_t flags = 0;
    switch (number) {
    case __NR_openat:
        return look_at_open(tid, args[1], args[2], text);
    case __NR_write:
    case __NR_writev:
    case __NR_pwrite64:
        return look_at_write(tid, args[0], text);
    case __NR_ftruncate:
    case __NR_fchmod:
    case __NR_fsync:
    case __NR_fdatasync:
        read_link(tid, args[0], text, TEXT_SIZE);
        return is_file(text) ? CHANGE : PASSED_OVER;
    case __NR_renameat:
    case __NR_renameat2:
    case __NR_mkdirat:
    case __NR_unlinkat:
    case __NR_fchmodat:
    case __NR_symlinkat:
    case __NR_linkat:
        return look_at_path(tid, args[1], text);
#ifdef __NR_open
    case __NR_open:
        return look_at_open(tid, args[0], args[1], text);
    case __NR_rename:
    case __NR_mkdir:
    case __NR_unlink:
    case __NR_rmdir:
    case __NR_chmod:
        return look_at_path(tid, args[0], text);
#endif
    case __NR_sendto:
        return look_at_message(tid, args[1], text);
    case __NR_sendmsg:
        return look_at_sendmsg(tid, args[1], text);
    case __NR_setsockopt:
        return (args[1] == 0 || args[1] == 41) && args[2] == IPT_SO_SET_REPLACE ? CHANGE : PASSED_OVER;
    case __NR_recvfrom:
    case __NR_recvmsg:
    case __NR_connect:
    case __NR_bind:
    case __NR_socket:
    case __NR_setns:
    case __NR_pipe2:
    case __NR_execve:
        return OTHER;
    case __NR_flock:
    case __NR_read:
    case __NR_pread64:
    case __NR_getdents64:
        return look_at_read(tid, args[0], text);
    case __NR_clone:
        return look_at_clone(args[0]);
    case __NR_clone3:
        read_memory(tid, args[0], &flags, sizeof flags);
        return look_at_clone(flags);
    default:
        return PASSED_OVER;
    }
}

/* The call is not done; the caller sees the error. */
static void refuse(pid_t tid, int error)
{
    struct user_regs_struct registers;
    struct iovec part = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &part) != 0)
        die("tracer: read registers");
#if defined(__x86_64__)
    registers.orig_rax = (unsigned long long)-1;
    registers.rax = (unsigned long long)-(long long)error;
#elif defined(__aarch64__)
    int none = -1;
    struct iovec number = {&none, sizeof none};
    if (ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &number) != 0)
        die("tracer: skip a system call");
    registers.regs[0] = (unsigned long long)-(long long)error;
#else
#error "Which register holds the result of a system call?"
#endif
    if (ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &part) != 0)
        die("tracer: write registers");
}

static void kill_all(void)
{
    for (int i = 0; i < process_count; i++)
        if (!processes[i].ended)
            kill(processes[i].pid, SIGKILL);
}

static void hold(int milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&pause, NULL);
}

static void act(pid_t tid, int process)
{
    done = 1;
    if (strcmp(wish.mode, "fail") == 0)
        refuse(tid, atoi(wish.argument));
    else if (strcmp(wish.mode, "orphan") == 0) {
        kill(processes[0].pid, SIGKILL);
        fflush(report);
        hold(atoi(wish.argument));
    } else if (strcmp(wish.argument, "all") == 0)
        kill_all();
    else
        kill(processes[process].pid, SIGKILL);
}

static void at_call(pid_t tid)
{
    struct __ptrace_syscall_info info;
    char text[TEXT_SIZE] = "";
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) <= 0)
        return;
    enum class class = look_at(tid, (int)info.seccomp.nr, info.seccomp.args, text);
    if (class == PASSED_OVER || !armed)
        return;
    int process = process_of(tid);
    unsigned number = ++processes[process].count[class];
    int hit = !done && wish.number == number && wish.class == class && wish.process == process;
    if (hit || wish.number == 0)
        fprintf(report, "%d.%c%u %s %s\n", process, LETTERS[class], number, name_of((int)info.seccomp.nr), text);
    if (hit)
        act(tid, process);
}

/* Returns the signal that the task is to get when it goes on. */
static int at_stop(pid_t tid, int status)
{
    int signal = WSTOPSIG(status);
    if (status >> 16 == PTRACE_EVENT_SECCOMP) {
        at_call(tid);
        return 0;
    }
    /* A task that is born stops once by itself. */
    int born = 1;
    for (int i = 0; i < task_count; i++)
        born &= tasks[i].tid != tid;
    process_of(tid);
    return signal == SIGTRAP || (born && signal == SIGSTOP) ? 0 : signal;
}

static int follow(pid_t first)
{
    int result = 0, status;
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == EINTR)
            continue;
        if (tid < 0)
            return result;
        if (WIFSTOPPED(status)) {
            int signal = at_stop(tid, status);
            ptrace(PTRACE_CONT, tid, 0, signal);
            continue;
        }
        for (int i = 0; i < process_count; i++)
            processes[i].ended |= processes[i].pid == tid;
        if (tid == first)
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

static void parse_point(const char *text)
{
    char class;
    if (sscanf(text, "%d.%c%u", &wish.process, &class, &wish.number) != 3)
        die("tracer: no point");
    wish.class = class == 'c' ? CHANGE : class == 'a' ? ANSWER : OTHER;
}

int main(int argc, char **argv)
{
    int at = 3;
    if (argc < 5 || (report = fopen(argv[1], "we")) == NULL)
        die("tracer: LOG MODE");
    wish.mode = argv[2];
    if (strcmp(wish.mode, "list") != 0) {
        parse_point(argv[at++]);
        wish.argument = argv[at++];
    }
    if (at + 1 >= argc || strcmp(argv[at], "--") != 0)
        die("tracer: -- PROGRAM");
    pid_t first = fork();
    if (first < 0)
        die("tracer: fork");
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        install_filter();
        execv(argv[at + 1], argv + at + 1);
        die("tracer: exec");
    }
    int status;
    waitpid(first, &status, __WALL);
    process_of(first);
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SETOPTIONS, first, 0, options) != 0)
        die("tracer: options");
    ptrace(PTRACE_CONT, first, 0, 0);
    int result = follow(first);
    fclose(report);
    return result;
}
