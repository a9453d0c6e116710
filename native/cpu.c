/* What a CPU loses to others, how late it wakes, and what asking the kernel costs. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GAPS_LIMIT 50000
/* Two readings of the clock further apart than this were interrupted. */
#define GAP_NS 1000
#define BATCH 1000

int jitter(char **arguments)
{
    pin((int)number(arguments[0], 0, 65535));
    uint64_t length = (uint64_t)number(arguments[1], 1, 60000) * 1000000UL;
    double *gaps = malloc(GAPS_LIMIT * sizeof *gaps);
    if (!gaps)
        stop_with(FAILED, "out of memory");
    memset(gaps, 0, GAPS_LIMIT * sizeof *gaps);
    size_t count = 0;
    uint64_t lost = 0, start = now_ns(), last = start;
    while (last - start < length) {
        uint64_t now = now_ns();
        if (now - last > GAP_NS) {
            lost += now - last;
            if (count < GAPS_LIMIT)
                gaps[count++] = (double)(now - last);
        }
        last = now;
    }
    for (size_t i = 0; i < count; i++)
        sample(gaps[i]);
    /* Microseconds lost in each second. */
    printf("value %.6g\n", (double)lost * 1e6 / (double)(last - start));
    free(gaps);
    return 0;
}

int wakeup(char **arguments)
{
    pin((int)number(arguments[0], 0, 65535));
    long interval = number(arguments[1], 10, 1000000) * 1000;
    long count = number(arguments[2], 1, 1000000);
    struct timespec next;
    /* The kernel may join the timers of an ordinary thread, by 50 us: not what is measured. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (long i = 0; i < count; i++) {
        next.tv_nsec += interval;
        while (next.tv_nsec >= 1000000000L) {
            next.tv_nsec -= 1000000000L;
            next.tv_sec++;
        }
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL))
            stop_with(FAILED, "clock_nanosleep was interrupted");
        uint64_t wanted = (uint64_t)next.tv_sec * 1000000000UL + (uint64_t)next.tv_nsec;
        uint64_t late = now_ns() - wanted;
        sample((double)late);
        /* As cyclictest does: what was slept over is not made up for. */
        if (late > (uint64_t)interval)
            clock_gettime(CLOCK_MONOTONIC, &next);
    }
    return 0;
}

int clock_cost(char **arguments)
{
    pin((int)number(arguments[0], 0, 65535));
    long count = number(arguments[1], 1, 100000);
    volatile uint64_t sink = 0;
    for (long i = 0; i < count; i++) {
        uint64_t start = now_ns();
        for (int j = 0; j < BATCH; j++)
            sink += now_ns();
        sample((double)(now_ns() - start) / (BATCH + 1));
    }
    return 0;
}

int syscall_cost(char **arguments)
{
    pin((int)number(arguments[0], 0, 65535));
    long count = number(arguments[1], 1, 100000);
    for (long i = 0; i < count; i++) {
        uint64_t start = now_ns();
        for (int j = 0; j < BATCH; j++)
            syscall(SYS_getppid);
        sample((double)(now_ns() - start) / BATCH);
    }
    return 0;
}
