/*
 * NVIDIA GPUs through the driver's own interface (cuda.h of CUDA 12), which is looked for when it is asked for: copies,
 * launches, pinned memory, peers, and how fast a CPU feeds a GPU. Nothing of a card is set.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS_LIMIT 4096
#define BATCH_BYTES (8 * MIB)
#define THREADS_OF_BLOCK 256

typedef int result;
typedef unsigned long long pointer;

static struct {
    result (*init)(unsigned);
    result (*device)(int *, const char *);
    result (*retain)(void **, int);
    result (*use)(void *);
    result (*allocate)(pointer *, size_t);
    result (*release)(pointer);
    result (*pin)(void **, size_t, unsigned);
    result (*unpin)(void *);
    result (*in)(pointer, const void *, size_t);
    result (*out)(void *, pointer, size_t);
    result (*in_later)(pointer, const void *, size_t, void *);
    result (*peer)(pointer, void *, pointer, void *, size_t);
    result (*may_reach)(int *, int, int);
    result (*reach)(void *, unsigned);
    result (*stream)(void **, unsigned);
    result (*finish)(void *);
    result (*finish_all)(void);
    result (*module)(void **, const void *);
    result (*function)(void **, void *, const char *);
    result (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
    result (*words)(result, const char **);
} cuda;

static const struct {
    const char *name;
    void *place;
} NAMES[] = {
    {"cuInit", &cuda.init}, {"cuDeviceGetByPCIBusId", &cuda.device}, {"cuDevicePrimaryCtxRetain", &cuda.retain},
    {"cuCtxSetCurrent", &cuda.use}, {"cuMemAlloc_v2", &cuda.allocate}, {"cuMemFree_v2", &cuda.release},
    {"cuMemHostAlloc", &cuda.pin}, {"cuMemFreeHost", &cuda.unpin}, {"cuMemcpyHtoD_v2", &cuda.in},
    {"cuMemcpyDtoH_v2", &cuda.out}, {"cuMemcpyHtoDAsync_v2", &cuda.in_later}, {"cuMemcpyPeer", &cuda.peer},
    {"cuDeviceCanAccessPeer", &cuda.may_reach}, {"cuCtxEnablePeerAccess", &cuda.reach},
    {"cuStreamCreate", &cuda.stream}, {"cuStreamSynchronize", &cuda.finish}, {"cuCtxSynchronize", &cuda.finish_all},
    {"cuModuleLoadData", &cuda.module}, {"cuModuleGetFunction", &cuda.function}, {"cuLaunchKernel", &cuda.launch},
    {"cuGetErrorString", &cuda.words},
};

/* `nothing` ends at once; `work` squares each number again and again. */
static const char PTX[] =
    ".version 6.0\n.target sm_50\n.address_size 64\n"
    ".visible .entry nothing() { ret; }\n"
    ".visible .entry work(.param .u64 data) {\n"
    ".reg .b64 %p<4>; .reg .b32 %i<6>; .reg .f32 %f<2>; .reg .pred %q;\n"
    "ld.param.u64 %p0, [data]; cvta.to.global.u64 %p0, %p0;\n"
    "mov.u32 %i0, %ctaid.x; mov.u32 %i1, %ntid.x; mov.u32 %i2, %tid.x; mad.lo.s32 %i0, %i0, %i1, %i2;\n"
    "mul.wide.u32 %p1, %i0, 4; add.u64 %p0, %p0, %p1; ld.global.f32 %f0, [%p0]; mov.u32 %i3, 0;\n"
    "again: fma.rn.f32 %f0, %f0, %f0, 0f3A83126F; add.u32 %i3, %i3, 1; setp.lt.u32 %q, %i3, 64; @%q bra again;\n"
    "st.global.f32 [%p0], %f0; ret; }\n";

static void check(result code, const char *what)
{
    const char *said = NULL;
    if (code && cuda.words)
        cuda.words(code, &said);
    if (code)
        stop_with(FAILED, "%s: %s (%d)", what, said ? said : "CUDA failed", code);
}

static void load(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library)
        stop_with(UNSUPPORTED, "no CUDA driver: libcuda.so.1 is not there");
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        void *found = dlsym(library, NAMES[i].name);
        if (!found)
            stop_with(UNSUPPORTED, "the CUDA driver lacks %s", NAMES[i].name);
        memcpy(NAMES[i].place, &found, sizeof found);
    }
    check(cuda.init(0), "cuInit");
}

/* The GPU at a PCI address, made current. */
static int open_gpu(const char *address, void **context)
{
    int device = 0;
    check(cuda.device(&device, address), address);
    check(cuda.retain(context, device), "cuDevicePrimaryCtxRetain");
    check(cuda.use(*context), "cuCtxSetCurrent");
    return device;
}

/* The GPU, with this process on the CPUs of a list; `any` leaves them. */
static void begin(const char *address, const char *list)
{
    void *context;
    if (strcmp(list, "any")) {
        static int cpus[CPUS_LIMIT];
        cpu_set_t set;
        CPU_ZERO(&set);
        for (int i = cpus_of(list, cpus, CPUS_LIMIT) - 1; i >= 0; i--)
            if (cpus[i] < CPU_SETSIZE)
                CPU_SET(cpus[i], &set);
        if (sched_setaffinity(0, sizeof set, &set))
            stop_with(UNSUPPORTED, "CPUs %s may not be used here", list);
    }
    load();
    open_gpu(address, &context);
}

static void *function_of(const char *name)
{
    void *module, *function;
    check(cuda.module(&module, PTX), "cuModuleLoadData");
    check(cuda.function(&function, module, name), "cuModuleGetFunction");
    return function;
}

int gpu_copy(char **arguments)
{
    int is_in = !strcmp(arguments[2], "in"), is_pinned = !strcmp(arguments[3], "pinned");
    size_t bytes = (size_t)number(arguments[4], 1, 8192) * MIB;
    long count = number(arguments[5], 1, 10000);
    pointer there = 0;
    void *here = NULL;
    begin(arguments[0], arguments[1]);
    check(cuda.allocate(&there, bytes), "memory of the GPU");
    if (is_pinned)
        check(cuda.pin(&here, bytes, 0), "pinned memory");
    else if (!(here = malloc(bytes)))
        stop_with(FAILED, "out of memory");
    memset(here, 1, bytes);
    for (long i = -1; i < count; i++) {
        uint64_t start = now_ns();
        check(is_in ? cuda.in(there, here, bytes) : cuda.out(here, there, bytes), "the copy");
        check(cuda.finish_all(), "the copy");
        if (i >= 0)
            sample((double)bytes / (double)(now_ns() - start));
    }
    return 0;
}

int gpu_launch(char **arguments)
{
    long count = number(arguments[2], 1, 1000000);
    void *stream;
    begin(arguments[0], arguments[1]);
    void *function = function_of("nothing");
    check(cuda.stream(&stream, 1), "cuStreamCreate");
    for (long i = -1000; i < count; i++) {
        uint64_t start = now_ns();
        check(cuda.launch(function, 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL), "the launch");
        check(cuda.finish(stream), "the launch");
        if (i >= 0)
            sample((double)(now_ns() - start));
    }
    return 0;
}

int gpu_allocation(char **arguments)
{
    size_t bytes = (size_t)number(arguments[2], 1, 8192) * MIB;
    begin(arguments[0], arguments[1]);
    for (long i = number(arguments[3], 1, 1000); i > 0; i--) {
        void *here;
        uint64_t start = now_ns();
        check(cuda.pin(&here, bytes, 0), "pinned memory");
        sample((double)bytes / (double)(1024 * MIB) * 1e9 / (double)(now_ns() - start));
        check(cuda.unpin(here), "pinned memory");
    }
    return 0;
}

int gpu_peer(char **arguments)
{
    size_t bytes = (size_t)number(arguments[2], 1, 8192) * MIB;
    long count = number(arguments[3], 1, 10000);
    void *one, *other;
    pointer from, to;
    int can = 0;
    load();
    int second = open_gpu(arguments[1], &other);
    check(cuda.allocate(&to, bytes), "memory of the GPU");
    int first = open_gpu(arguments[0], &one);
    check(cuda.allocate(&from, bytes), "memory of the GPU");
    check(cuda.may_reach(&can, first, second), "cuDeviceCanAccessPeer");
    if (!can)
        stop_with(UNSUPPORTED, "%s cannot reach the memory of %s", arguments[0], arguments[1]);
    check(cuda.reach(other, 0), "cuCtxEnablePeerAccess");
    for (long i = -1; i < count; i++) {
        uint64_t start = now_ns();
        check(cuda.peer(to, other, from, one, bytes), "the copy");
        check(cuda.finish_all(), "the copy");
        if (i >= 0)
            sample((double)bytes / (double)(now_ns() - start));
    }
    return 0;
}

/* Pictures of bytes made to numbers on the CPU, copied, and worked on by the GPU, one batch after the other. */
int gpu_feed(char **arguments)
{
    long count = number(arguments[2], 1, 100000);
    size_t numbers = BATCH_BYTES / sizeof(float);
    unsigned char *pictures = malloc(numbers);
    float *here;
    pointer there;
    void *stream;
    begin(arguments[0], arguments[1]);
    if (!pictures)
        stop_with(FAILED, "out of memory");
    memset(pictures, 7, numbers);
    void *function = function_of("work");
    check(cuda.pin((void **)&here, BATCH_BYTES, 0), "pinned memory");
    check(cuda.allocate(&there, BATCH_BYTES), "memory of the GPU");
    check(cuda.stream(&stream, 1), "cuStreamCreate");
    void *given[] = {&there};
    for (long i = -10; i < count; i++) {
        uint64_t start = now_ns();
        for (size_t at = 0; at < numbers; at++)
            here[at] = ((float)pictures[at] / 255.0F - 0.45F) / 0.225F;
        check(cuda.in_later(there, here, BATCH_BYTES, stream), "the copy");
        check(cuda.launch(function, (unsigned)(numbers / THREADS_OF_BLOCK), 1, 1, THREADS_OF_BLOCK, 1, 1, 0, stream, given, NULL),
              "the launch");
        check(cuda.finish(stream), "the batch");
        if (i >= 0)
            sample(1e9 / (double)(now_ns() - start));
    }
    return 0;
}
