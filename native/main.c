/* The kernels of `tuneagent probe`: tuneagent-kernels NAME ARGUMENT... Each measures one thing and prints its samples. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_ALIGNMENT (2 * MIB)
#define NODES_LIMIT 1024
#define MPOL_BIND_POLICY 2

static const struct {
    const char *name;
    int arguments;
    int (*run)(char **);
} KERNELS[] = {
    {"jitter", 2, jitter},           /* CPU MILLISECONDS: time taken away, ns a gap */
    {"wakeup", 3, wakeup},           /* CPU INTERVAL_US COUNT: lateness, ns */
    {"clock", 2, clock_cost},        /* CPU COUNT: ns a call */
    {"syscall", 2, syscall_cost},    /* CPU COUNT: ns a call */
    {"touch", 5, touch},             /* CPU NODE PAGES MIB COUNT: GiB a second */
    {"chase", 5, chase},             /* CPU NODE PAGES MIB COUNT: ns a load */
    {"bandwidth", 4, bandwidth},     /* CPUS NODE MIB COUNT: GB a second */
    {"tcp", 3, tcp},                 /* CPU CPU COUNT: ns there and back */
    {"storage", 4, storage},         /* FOLDER MIB sequential|random COUNT: MB a second */
    {"gpu-copy", 6, gpu_copy},       /* GPU CPUS in|out pinned|pageable MIB COUNT: GB a second */
    {"gpu-launch", 3, gpu_launch},   /* GPU CPUS COUNT: ns a launch with its end */
    {"gpu-allocation", 4, gpu_allocation}, /* GPU CPUS MIB COUNT: GiB a second */
    {"gpu-peer", 4, gpu_peer},       /* GPU GPU MIB COUNT: GB a second */
    {"gpu-feed", 3, gpu_feed},       /* GPU CPUS COUNT: batches a second */
};

void sample(double value)
{
    printf("sample %.6g\n", value);
}

void stop_with(int code, const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(code);
}

long number(const char *text, long least, long most)
{
    char *end;
    errno = 0;
    long found = strtol(text, &end, 10);
    if (errno || end == text || *end || found < least || found > most)
        stop_with(WRONG_USE, "%s: expected a whole number from %ld to %ld", text, least, most);
    return found;
}

void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    if (cpu >= CPU_SETSIZE)
        stop_with(UNSUPPORTED, "CPU %d: more CPUs than this program knows", cpu);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one))
        stop_with(UNSUPPORTED, "CPU %d: %s", cpu, strerror(errno));
}

int cpus_of(const char *list, int *cpus, int most)
{
    int count = 0;
    const char *rest = list;
    while (*rest) {
        char *end;
        long first = strtol(rest, &end, 10), last = first;
        if (end == rest || first < 0)
            stop_with(WRONG_USE, "%s: not a list of CPUs", list);
        if (*end == '-') {
            rest = end + 1;
            last = strtol(rest, &end, 10);
            if (end == rest || last < first)
                stop_with(WRONG_USE, "%s: not a list of CPUs", list);
        }
        for (long cpu = first; cpu <= last && count < most; cpu++)
            cpus[count++] = (int)cpu;
        if (*end && *end != ',')
            stop_with(WRONG_USE, "%s: not a list of CPUs", list);
        rest = *end ? end + 1 : end;
    }
    if (!count)
        stop_with(WRONG_USE, "an empty list of CPUs");
    return count;
}

static void bind_to(void *memory, size_t bytes, int node)
{
    if (node < 0)
        return;
    unsigned long mask[NODES_LIMIT / (8 * sizeof(unsigned long))] = {0};
    if (node >= NODES_LIMIT)
        stop_with(UNSUPPORTED, "node %d: more nodes than this program knows", node);
    mask[(size_t)node / (8 * sizeof *mask)] |= 1UL << ((size_t)node % (8 * sizeof *mask));
    if (syscall(SYS_mbind, memory, bytes, MPOL_BIND_POLICY, mask, (unsigned long)NODES_LIMIT, 0UL))
        stop_with(UNSUPPORTED, "memory of node %d: %s", node, strerror(errno));
}

void *memory_of(size_t bytes, const char *pages, int node)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int is_pool = !strcmp(pages, "hugetlb"), is_thp = !strcmp(pages, "thp");
    if (!is_pool && !is_thp && strcmp(pages, "base"))
        stop_with(WRONG_USE, "%s: expected base, thp or hugetlb", pages);
    size_t extra = is_thp ? HUGE_ALIGNMENT : 0;
    char *memory = mmap(NULL, bytes + extra, PROT_READ | PROT_WRITE, flags | (is_pool ? MAP_HUGETLB : 0), -1, 0);
    if (memory == MAP_FAILED)
        stop_with(UNSUPPORTED, is_pool ? "no free huge pages in the pool for %zu MiB (%s)" : "%zu MiB of memory: %s",
                  bytes / MIB, strerror(errno));
    if (is_thp) {
        char *aligned = (char *)(((uintptr_t)memory + extra - 1) & ~(uintptr_t)(extra - 1));
        if (aligned > memory)
            munmap(memory, (size_t)(aligned - memory));
        munmap(aligned + bytes, extra - (size_t)(aligned - memory));
        memory = aligned;
    }
    if (!is_pool)
        madvise(memory, bytes, is_thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    bind_to(memory, bytes, node);
    return memory;
}

void release(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}

void need_thp(const void *memory, size_t bytes)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from, to, kib = 0, found = 0;
    int is_ours = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            is_ours = from < (uintptr_t)memory + bytes && to > (uintptr_t)memory;
        else if (is_ours && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
            found += kib;
    }
    if (maps)
        fclose(maps);
    if (found * 1024 < bytes / 2)
        stop_with(UNSUPPORTED, "the kernel gave no transparent huge pages (%lu of %zu MiB)", found / 1024, bytes / MIB);
}

int main(int count, char **words)
{
    /* Whoever asked is gone: nobody reads the samples. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* If memory runs out it is us that the kernel should end, not a job. */
    FILE *score = fopen("/proc/self/oom_score_adj", "w");
    if (score) {
        fputs("1000", score);
        fclose(score);
    }
    for (size_t i = 0; count > 1 && i < sizeof KERNELS / sizeof *KERNELS; i++)
        if (!strcmp(words[1], KERNELS[i].name)) {
            if (count - 2 != KERNELS[i].arguments)
                stop_with(WRONG_USE, "%s takes %d arguments", words[1], KERNELS[i].arguments);
            int code = KERNELS[i].run(words + 2);
            return fflush(stdout) ? FAILED : code;
        }
    stop_with(WRONG_USE, "tuneagent-kernels NAME ARGUMENT...: no such kernel");
}
