/* The loopback interface, there and back, and a file read from its device. */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MESSAGE 64
#define BLOCK (128 * 1024)
#define PART (16 * MIB)
#define TMPFS 0x01021994L

struct answering {
    int listener, cpu;
};

static void all(int socket, char *data, int is_sent)
{
    for (size_t done = 0; done < MESSAGE;) {
        ssize_t part = is_sent ? send(socket, data + done, MESSAGE - done, MSG_NOSIGNAL) : recv(socket, data + done, MESSAGE - done, 0);
        if (part <= 0)
            stop_with(FAILED, "the connection broke: %s", strerror(errno));
        done += (size_t)part;
    }
}

static void *answer(void *given)
{
    struct answering *mine = given;
    char data[MESSAGE];
    int one = 1;
    pin(mine->cpu);
    int socket = accept(mine->listener, NULL, NULL);
    if (socket < 0)
        stop_with(FAILED, "accept: %s", strerror(errno));
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (recv(socket, data, 1, MSG_PEEK) > 0) {
        all(socket, data, 0);
        all(socket, data, 1);
    }
    close(socket);
    return NULL;
}

int tcp(char **arguments)
{
    struct answering other = {.cpu = (int)number(arguments[1], 0, 65535)};
    long count = number(arguments[2], 1, 1000000);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    char data[MESSAGE] = {0};
    int one = 1;
    pthread_t thread;
    other.listener = socket(AF_INET, SOCK_STREAM, 0);
    if (other.listener < 0 || bind(other.listener, (struct sockaddr *)&place, size) || listen(other.listener, 1) ||
        getsockname(other.listener, (struct sockaddr *)&place, &size))
        stop_with(UNSUPPORTED, "the loopback interface: %s", strerror(errno));
    if (pthread_create(&thread, NULL, answer, &other))
        stop_with(FAILED, "a thread could not be started");
    pin((int)number(arguments[0], 0, 65535));
    int mine = socket(AF_INET, SOCK_STREAM, 0);
    if (mine < 0 || connect(mine, (struct sockaddr *)&place, size))
        stop_with(UNSUPPORTED, "the loopback interface: %s", strerror(errno));
    setsockopt(mine, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (long i = 0; i < count; i++) {
        uint64_t start = now_ns();
        all(mine, data, 1);
        all(mine, data, 0);
        sample((double)(now_ns() - start));
    }
    close(mine);
    pthread_join(thread, NULL);
    close(other.listener);
    return 0;
}

static int filled(const char *folder, size_t bytes, char *block)
{
    struct statfs found;
    char path[4096];
    snprintf(path, sizeof path, "%s/.tuneagent-probe-XXXXXX", folder);
    int file = mkstemp(path);
    if (file < 0)
        stop_with(UNSUPPORTED, "%s: %s", folder, strerror(errno));
    /* Nothing is left behind, however this ends. */
    unlink(path);
    if (fstatfs(file, &found) == 0 && found.f_type == TMPFS)
        stop_with(UNSUPPORTED, "%s lies in memory, not on a device", folder);
    if (found.f_bavail * (size_t)found.f_bsize < 2 * bytes)
        stop_with(UNSUPPORTED, "%s: less than %zu MiB free", folder, 2 * bytes / MIB);
    for (size_t at = 0; at < bytes; at += BLOCK) {
        memset(block, (int)(at / BLOCK), BLOCK);
        if (write(file, block, BLOCK) != BLOCK)
            stop_with(UNSUPPORTED, "%s: %s", folder, strerror(errno));
    }
    if (fsync(file))
        stop_with(FAILED, "%s: %s", folder, strerror(errno));
    return file;
}

int storage(char **arguments)
{
    size_t bytes = (size_t)number(arguments[1], 16, 65536) / 16 * PART;
    int is_random = !strcmp(arguments[2], "random");
    char *block = NULL;
    if (posix_memalign((void **)&block, 4096, BLOCK))
        stop_with(FAILED, "out of memory");
    int file = filled(arguments[0], bytes, block);
    /* With POSIX_FADV_RANDOM the kernel reads nothing ahead. */
    posix_fadvise(file, 0, 0, is_random ? POSIX_FADV_RANDOM : POSIX_FADV_NORMAL);
    for (long i = number(arguments[3], 1, 1000); i > 0; i--) {
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        for (size_t at = 0; at < bytes;) {
            uint64_t start = now_ns();
            for (size_t end = at + PART; at < end; at += BLOCK)
                if (pread(file, block, BLOCK, (off_t)at) != BLOCK)
                    stop_with(FAILED, "%s: %s", arguments[0], strerror(errno));
            sample((double)PART * 1e3 / (double)(now_ns() - start));
        }
    }
    close(file);
    free(block);
    return 0;
}
