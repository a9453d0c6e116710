/* What the kernels of the probes share. Each prints lines `sample NUMBER`; the caller makes a distribution of them. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define MIB (1024UL * 1024UL)

/* Exit codes. */
enum { FAILED = 1, WRONG_USE = 2, UNSUPPORTED = 3 };

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000UL + (uint64_t)t.tv_nsec;
}

void sample(double value);
/* End with a reason on standard error. */
void stop_with(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* A whole number from `least` to `most`, or the end with WRONG_USE. */
long number(const char *text, long least, long most);
/* Keep this thread on one CPU. */
void pin(int cpu);
/* CPUs of a list such as `0-3,8`; returns how many. */
int cpus_of(const char *list, int *cpus, int most);
/*
 * Memory of one kind, `base`, `thp` or `hugetlb`, bound to a NUMA node unless that is -1; not touched yet.
 * Ends with UNSUPPORTED where the kernel has none.
 */
void *memory_of(size_t bytes, const char *pages, int node);
void release(void *memory, size_t bytes);
/* End with UNSUPPORTED unless most of `memory`, which was touched, lies on transparent huge pages. */
void need_thp(const void *memory, size_t bytes);

int jitter(char **arguments);
int wakeup(char **arguments);
int clock_cost(char **arguments);
int syscall_cost(char **arguments);
int touch(char **arguments);
int chase(char **arguments);
int bandwidth(char **arguments);
int tcp(char **arguments);
int storage(char **arguments);
int gpu_copy(char **arguments);
int gpu_launch(char **arguments);
int gpu_allocation(char **arguments);
int gpu_peer(char **arguments);
int gpu_feed(char **arguments);

#endif
