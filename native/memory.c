/* Memory: what the first touch of a page costs, how long a dependent load takes, and how much flows. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 64
#define LOADS_OF_SAMPLE 100000
#define THREADS_LIMIT 1024
#define GIB (1024.0 * 1024.0 * 1024.0)

int touch(char **arguments)
{
    pin((int)number(arguments[0], 0, 65535));
    int node = (int)number(arguments[1], -1, 1023);
    size_t bytes = (size_t)number(arguments[3], 1, 65536) * MIB, step = (size_t)sysconf(_SC_PAGESIZE);
    for (long i = number(arguments[4], 1, 1000); i > 0; i--) {
        volatile char *memory = memory_of(bytes, arguments[2], node);
        uint64_t start = now_ns();
        for (size_t at = 0; at < bytes; at += step)
            memory[at] = 1;
        double seconds = (double)(now_ns() - start) / 1e9;
        if (!strcmp(arguments[2], "thp"))
            need_thp((const void *)memory, bytes);
        sample((double)bytes / GIB / seconds);
        release((void *)memory, bytes);
    }
    return 0;
}

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % limit;
}

/* One cycle through all lines in random order (Sattolo), each line holding the number of the next. */
static void link_lines(char *memory, size_t lines)
{
    uint64_t state = 88172645463325252UL;
    for (size_t i = 0; i < lines; i++)
        *(size_t *)(memory + i * LINE) = i;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t other = random_below(&state, i);
        size_t *one = (size_t *)(memory + i * LINE), *two = (size_t *)(memory + other * LINE), kept = *one;
        *one = *two;
        *two = kept;
    }
}

int chase(char **arguments)
{
    pin((int)number(arguments[0], 0, 65535));
    int node = (int)number(arguments[1], -1, 1023);
    size_t bytes = (size_t)number(arguments[3], 1, 65536) * MIB;
    char *memory = memory_of(bytes, arguments[2], node);
    link_lines(memory, bytes / LINE);
    if (!strcmp(arguments[2], "thp"))
        need_thp(memory, bytes);
    volatile size_t sink;
    size_t at = 0;
    for (long i = number(arguments[4], 1, 10000); i > 0; i--) {
        uint64_t start = now_ns();
        for (int j = 0; j < LOADS_OF_SAMPLE; j++)
            at = *(volatile size_t *)(memory + at * LINE);
        sample((double)(now_ns() - start) / LOADS_OF_SAMPLE);
        sink = at;
    }
    (void)sink;
    release(memory, bytes);
    return 0;
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    int cpu, node;
    size_t elements;
    long rounds;
};

/* a = b + 3 c, as STREAM's triad: three arrays of doubles, 24 bytes an element. */
static void *triad(void *given)
{
    struct worker *worker = given;
    pin(worker->cpu);
    size_t bytes = worker->elements * sizeof(double);
    double *restrict a = memory_of(bytes, "base", worker->node), *restrict b = memory_of(bytes, "base", worker->node),
           *restrict c = memory_of(bytes, "base", worker->node);
    for (size_t i = 0; i < worker->elements; i++) {
        a[i] = 0;
        b[i] = 1;
        c[i] = 2;
    }
    for (long round = 0; round < worker->rounds; round++) {
        pthread_barrier_wait(worker->barrier);
        for (size_t i = 0; i < worker->elements; i++)
            a[i] = b[i] + 3.0 * c[i];
        /* The stores of a round must not be left out. */
        __asm__ volatile("" : : "r"(a) : "memory");
        pthread_barrier_wait(worker->barrier);
    }
    release(a, bytes);
    release(b, bytes);
    release(c, bytes);
    return NULL;
}

int bandwidth(char **arguments)
{
    static struct worker workers[THREADS_LIMIT];
    int cpus[THREADS_LIMIT], count = cpus_of(arguments[0], cpus, THREADS_LIMIT);
    int node = (int)number(arguments[1], -1, 1023);
    size_t elements = (size_t)number(arguments[2], 1, 65536) * MIB / sizeof(double) / (size_t)count;
    long rounds = number(arguments[3], 1, 10000);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.barrier = &barrier, .cpu = cpus[i], .node = node, .elements = elements, .rounds = rounds};
        if (pthread_create(&workers[i].thread, NULL, triad, &workers[i]))
            stop_with(FAILED, "a thread could not be started");
    }
    for (long round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        uint64_t start = now_ns();
        pthread_barrier_wait(&barrier);
        sample(24.0 * (double)elements * count / (double)(now_ns() - start));
    }
    for (int i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    return 0;
}
