/* libnvidia-ml.so.1 for tests: boards from data files, state shared between processes through a mapped file.
 *
 * FAKE_NVML_BOARD  text file of boards (tests/gpu/boards)
 * FAKE_NVML_STATE  file of the shared state, made at first use
 * FAKE_NVML_KNOBS  text file of faults, read at every call:
 *   lost G | pid G PID [GI] | fail_create N | fail_create_from N | fail_destroy | slow_ms N | no_permission
 *   reset_required G
 *
 * Structures and return codes: nvml.h of driver 580, as nvidia-ml-py binds it. The MIG state machine follows
 * the MIG user guide for Hopper: the mode changes at once, instances end with it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15,
       RESET_REQUIRED = 16, IN_USE = 19, NO_RESOURCES = 23, VERSION_MISMATCH = 25, DRIVER_NOT_LOADED = 9 };
enum { MAX_GPUS = 16, MAX_PROFILES = 16, MAX_GI = 16, MAX_CI = 8, MAX_INTS = 64, MAX_PIDS = 16 };

typedef struct { unsigned idx, id, p2p, slices, max, sm, ce, dec, enc, jpeg, ofa; unsigned long long mem;
                 char name[96]; unsigned size, count, starts[8]; } Profile;
typedef struct { char name[64]; unsigned value; int code; } Integer;
typedef struct { char uuid[96], name[96], vbios[32], serial[32]; unsigned domain, bus, device, pci_id, subsystem;
                 unsigned long long mem_total, mem_used; unsigned persistence, limit, limit_min, limit_max, limit_default;
                 int mig_capable; unsigned long cpus; unsigned cc_major, cc_minor; Profile profiles[MAX_PROFILES];
                 unsigned profile_count; Integer ints[MAX_INTS]; unsigned int_count; } Board;
typedef struct { int used; unsigned id, profile; } Ci;
typedef struct { int used; unsigned id, profile_id, start, size, slices; Ci cis[MAX_CI]; } Gi;
typedef struct { unsigned persistence, limit, mig; Gi gis[MAX_GI]; } Card;
typedef struct { int ready; unsigned creates; Card cards[MAX_GPUS]; } State;
typedef struct { int lost[MAX_GPUS], reset[MAX_GPUS], no_permission, fail_destroy; unsigned fail_create, fail_create_from;
                 struct { unsigned gpu, pid, gi; } pids[MAX_PIDS]; unsigned pid_count; } Knobs;

static Board boards[MAX_GPUS];
static unsigned board_count;
static char driver_version[80], nvml_version[80];
static State *state;
static int state_fd = -1;
static Knobs knobs;

static char *trimmed(char *text) { text[strcspn(text, "\n")] = 0; return text; }

static void read_profile(Board *b, const char *rest) {
    Profile *p = &b->profiles[b->profile_count];
    int used = 0;
    if (sscanf(rest, "%u %u %u %u %u %u %u %u %u %u %u %llu %95s %u%n", &p->idx, &p->id, &p->p2p, &p->slices, &p->max,
               &p->sm, &p->ce, &p->dec, &p->enc, &p->jpeg, &p->ofa, &p->mem, p->name, &p->size, &used) != 14) return;
    char full[96];
    snprintf(full, sizeof full, "MIG %.90s", p->name);
    strcpy(p->name, full);
    for (rest += used; p->count < 8 && sscanf(rest, "%u%n", &p->starts[p->count], &used) == 1; rest += used) p->count++;
    b->profile_count++;
}

static void read_boards(void) {
    const char *path = getenv("FAKE_NVML_BOARD");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    Board *b = NULL;
    board_count = 0;
    while (file && fgets(line, sizeof line, file)) {
        char key[64]; int used = 0;
        trimmed(line);
        if (line[0] == '#' || sscanf(line, "%63s%n", key, &used) != 1) continue;
        char *rest = line + used + (line[used] == ' ');
        if (!strcmp(key, "gpu") && board_count < MAX_GPUS) { b = &boards[board_count++]; memset(b, 0, sizeof *b); }
        else if (!strcmp(key, "driver")) snprintf(driver_version, sizeof driver_version, "%.79s", rest);
        else if (!strcmp(key, "nvml")) snprintf(nvml_version, sizeof nvml_version, "%.79s", rest);
        else if (!b) continue;
        else if (!strcmp(key, "uuid")) snprintf(b->uuid, sizeof b->uuid, "%.95s", rest);
        else if (!strcmp(key, "name")) snprintf(b->name, sizeof b->name, "%.95s", rest);
        else if (!strcmp(key, "vbios")) snprintf(b->vbios, sizeof b->vbios, "%.31s", rest);
        else if (!strcmp(key, "pci")) sscanf(rest, "%x %x %x %u %u", &b->domain, &b->bus, &b->device, &b->pci_id, &b->subsystem);
        else if (!strcmp(key, "memory")) sscanf(rest, "%llu %llu", &b->mem_total, &b->mem_used);
        else if (!strcmp(key, "persistence")) sscanf(rest, "%u", &b->persistence);
        else if (!strcmp(key, "power_mw")) sscanf(rest, "%u %u %u %u", &b->limit, &b->limit_min, &b->limit_max, &b->limit_default);
        else if (!strcmp(key, "mig")) b->mig_capable = atoi(rest);
        else if (!strcmp(key, "cpus")) sscanf(rest, "%lx", &b->cpus);
        else if (!strcmp(key, "compute")) sscanf(rest, "%u %u", &b->cc_major, &b->cc_minor);
        else if (!strcmp(key, "profile") && b->profile_count < MAX_PROFILES) read_profile(b, rest);
        else if ((!strcmp(key, "int") || !strcmp(key, "error")) && b->int_count < MAX_INTS) {
            Integer *i = &b->ints[b->int_count++];
            unsigned value = 0;
            sscanf(rest, "%63s %u", i->name, &value);
            if (key[0] == 'i') i->value = value; else i->code = (int)value;
        }
    }
    if (file) fclose(file);
}

static void read_knobs(void) {
    const char *path = getenv("FAKE_NVML_KNOBS");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], key[32];
    unsigned a, b, c;
    memset(&knobs, 0, sizeof knobs);
    while (file && fgets(line, sizeof line, file)) {
        int n = sscanf(line, "%31s %u %u %u", key, &a, &b, &c);
        if (n < 1) continue;
        if (!strcmp(key, "lost") && n > 1 && a < MAX_GPUS) knobs.lost[a] = 1;
        if (!strcmp(key, "reset_required") && n > 1 && a < MAX_GPUS) knobs.reset[a] = 1;
        if (!strcmp(key, "no_permission")) knobs.no_permission = 1;
        if (!strcmp(key, "fail_create") && n > 1) knobs.fail_create = a;
        if (!strcmp(key, "fail_create_from") && n > 1) knobs.fail_create_from = a;
        if (!strcmp(key, "fail_destroy")) knobs.fail_destroy = 1;
        if (!strcmp(key, "slow_ms") && n > 1) { struct timespec t = { a / 1000, (long)(a % 1000) * 1000000L }; nanosleep(&t, NULL); }
        if (!strcmp(key, "pid") && n > 2 && knobs.pid_count < MAX_PIDS) {
            knobs.pids[knobs.pid_count].gpu = a;
            knobs.pids[knobs.pid_count].pid = b;
            knobs.pids[knobs.pid_count++].gi = n > 3 ? c : 0xFFFFFFFFu;
        }
    }
    if (file) fclose(file);
}

static void enter(void) { flock(state_fd, LOCK_EX); read_knobs(); }
static int leave(int code) { flock(state_fd, LOCK_UN); return code; }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("FAKE_NVML_STATE");
    read_boards();
    if (!board_count || !path) return DRIVER_NOT_LOADED;
    if (state) return OK;
    state_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (state_fd < 0) return NO_PERMISSION;
    flock(state_fd, LOCK_EX);
    if (ftruncate(state_fd, sizeof(State))) return leave(NO_PERMISSION);
    state = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (state == MAP_FAILED) { state = NULL; return leave(NO_PERMISSION); }
    if (!state->ready) {
        for (unsigned i = 0; i < board_count; i++) {
            state->cards[i].persistence = boards[i].persistence;
            state->cards[i].limit = boards[i].limit;
        }
        state->ready = 1;
    }
    return leave(OK);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success"; case INVALID: return "Invalid Argument"; case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions"; case NOT_FOUND: return "Not Found";
    case TOO_SMALL: return "Insufficient Size"; case DRIVER_NOT_LOADED: return "Driver Not Loaded"; case LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires restart"; case IN_USE: return "In use by another client";
    case NO_RESOURCES: return "Insufficient Resources"; default: return "Unknown Error";
    }
}

static int copy(char *to, unsigned length, const char *from) {
    if (strlen(from) >= length) return TOO_SMALL;
    strcpy(to, from);
    return OK;
}
int nvmlSystemGetDriverVersion(char *text, unsigned length) { return copy(text, length, driver_version); }
int nvmlSystemGetNVMLVersion(char *text, unsigned length) { return copy(text, length, nvml_version); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = board_count; return OK; }

typedef Board *Device;
static int number(Device d) { return (d >= boards && d < boards + board_count) ? (int)(d - boards) : -1; }
static int check(Device d) {
    int n = number(d);
    if (n < 0) return INVALID;
    enter();
    return knobs.lost[n] ? leave(LOST) : OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *d) {
    if (index >= board_count) return INVALID;
    enter();
    if (knobs.lost[index]) return leave(LOST);
    *d = &boards[index];
    return leave(OK);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device *d) {
    for (unsigned i = 0; i < board_count; i++)
        if (!strcmp(boards[i].uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2(i, d);
    return NOT_FOUND;
}

#define GET(d) int code = check(d); if (code) return code
int nvmlDeviceGetUUID(Device d, char *text, unsigned length) { GET(d); return leave(copy(text, length, d->uuid)); }
int nvmlDeviceGetName(Device d, char *text, unsigned length) { GET(d); return leave(copy(text, length, d->name)); }
int nvmlDeviceGetVbiosVersion(Device d, char *text, unsigned length) { GET(d); return leave(copy(text, length, d->vbios)); }
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Device d, Pci *p) {
    GET(d);
    memset(p, 0, sizeof *p);
    snprintf(p->legacy, sizeof p->legacy, "%04X:%02X:%02X.0", d->domain & 0xFFFF, d->bus & 0xFF, d->device & 0xFF);
    snprintf(p->bus_id, sizeof p->bus_id, "%08X:%02X:%02X.0", d->domain, d->bus & 0xFF, d->device & 0xFF);
    p->domain = d->domain; p->bus = d->bus; p->device = d->device; p->id = d->pci_id; p->subsystem = d->subsystem;
    return leave(OK);
}
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Device d, Memory *m) {
    GET(d);
    m->total = d->mem_total; m->used = d->mem_used; m->free = d->mem_total - d->mem_used;
    return leave(OK);
}
int nvmlDeviceGetCudaComputeCapability(Device d, int *major, int *minor) {
    GET(d); *major = (int)d->cc_major; *minor = (int)d->cc_minor; return leave(OK);
}
int nvmlDeviceGetCpuAffinity(Device d, unsigned words, unsigned long *set) {
    GET(d); memset(set, 0, words * sizeof *set); if (words) set[0] = d->cpus; return leave(OK);
}
static int integer(Device d, const char *name, unsigned *value) {
    GET(d);
    for (unsigned i = 0; i < d->int_count; i++)
        if (!strcmp(d->ints[i].name, name)) { *value = d->ints[i].value; return leave(d->ints[i].code); }
    return leave(NOT_SUPPORTED);
}
#define INTEGER(name) int name(Device d, unsigned *value) { return integer(d, #name, value); }
INTEGER(nvmlDeviceGetArchitecture) INTEGER(nvmlDeviceGetBoardId) INTEGER(nvmlDeviceGetBrand)
INTEGER(nvmlDeviceGetComputeMode) INTEGER(nvmlDeviceGetCurrPcieLinkGeneration) INTEGER(nvmlDeviceGetCurrPcieLinkWidth)
INTEGER(nvmlDeviceGetEnforcedPowerLimit) INTEGER(nvmlDeviceGetIndex) INTEGER(nvmlDeviceGetMaxPcieLinkGeneration)
INTEGER(nvmlDeviceGetMaxPcieLinkWidth) INTEGER(nvmlDeviceGetMemoryBusWidth) INTEGER(nvmlDeviceGetMinorNumber)
INTEGER(nvmlDeviceGetModuleId) INTEGER(nvmlDeviceGetMultiGpuBoard) INTEGER(nvmlDeviceGetNumFans)
INTEGER(nvmlDeviceGetNumGpuCores) INTEGER(nvmlDeviceGetNumaNodeId) INTEGER(nvmlDeviceGetPcieReplayCounter)
INTEGER(nvmlDeviceGetPcieSpeed) INTEGER(nvmlDeviceGetPowerManagementMode) INTEGER(nvmlDeviceGetFanSpeed)
INTEGER(nvmlDeviceGetDisplayMode) INTEGER(nvmlDeviceGetDisplayActive) INTEGER(nvmlDeviceGetPowerSource)

int nvmlDeviceGetPersistenceMode(Device d, unsigned *mode) { GET(d); *mode = state->cards[number(d)].persistence; return leave(OK); }
int nvmlDeviceSetPersistenceMode(Device d, unsigned mode) {
    GET(d);
    if (knobs.no_permission) return leave(NO_PERMISSION);
    state->cards[number(d)].persistence = mode;
    return leave(OK);
}
int nvmlDeviceGetPowerManagementLimit(Device d, unsigned *limit) { GET(d); *limit = state->cards[number(d)].limit; return leave(OK); }
int nvmlDeviceGetPowerManagementDefaultLimit(Device d, unsigned *limit) { GET(d); *limit = d->limit_default; return leave(OK); }
int nvmlDeviceGetPowerManagementLimitConstraints(Device d, unsigned *low, unsigned *high) {
    GET(d); *low = d->limit_min; *high = d->limit_max; return leave(OK);
}
int nvmlDeviceSetPowerManagementLimit(Device d, unsigned limit) {
    GET(d);
    if (knobs.no_permission) return leave(NO_PERMISSION);
    if (limit < d->limit_min || limit > d->limit_max) return leave(INVALID);
    state->cards[number(d)].limit = limit;
    return leave(OK);
}

typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Device d, unsigned *count, Process *found) {
    GET(d);
    unsigned room = *count, used = 0;
    for (unsigned i = 0; i < knobs.pid_count; i++) used += knobs.pids[i].gpu == (unsigned)number(d);
    *count = used;
    if (used > room) return leave(TOO_SMALL);
    for (unsigned i = 0, at = 0; found && i < knobs.pid_count; i++)
        if (knobs.pids[i].gpu == (unsigned)number(d))
            found[at++] = (Process){ knobs.pids[i].pid, 1 << 20, knobs.pids[i].gi, 0xFFFFFFFFu };
    return leave(OK);
}
static int busy(int gpu, unsigned gi) {
    for (unsigned i = 0; i < knobs.pid_count; i++)
        if (knobs.pids[i].gpu == (unsigned)gpu && (gi == 0xFFFFFFFFu || knobs.pids[i].gi == gi)) return 1;
    return 0;
}

int nvmlDeviceGetMigMode(Device d, unsigned *current, unsigned *pending) {
    GET(d);
    if (!d->mig_capable) return leave(NOT_SUPPORTED);
    *current = *pending = state->cards[number(d)].mig;
    return leave(OK);
}
int nvmlDeviceSetMigMode(Device d, unsigned mode, unsigned *activation) {
    GET(d);
    int n = number(d);
    if (knobs.no_permission) return leave(NO_PERMISSION);
    if (!d->mig_capable) return leave(NOT_SUPPORTED);
    *activation = OK;
    if (state->cards[n].mig == mode) return leave(OK);
    if (busy(n, 0xFFFFFFFFu)) { *activation = IN_USE; return leave(OK); }
    if (knobs.reset[n]) { *activation = RESET_REQUIRED; return leave(OK); }
    for (int i = 0; i < MAX_GI; i++) if (state->cards[n].gis[i].used) { *activation = IN_USE; return leave(OK); }
    state->cards[n].mig = mode;
    return leave(OK);
}
int nvmlDeviceGetMaxMigDeviceCount(Device d, unsigned *count) {
    GET(d); *count = state->cards[number(d)].mig ? 7 : 0; return leave(OK);
}

typedef struct { unsigned version, id, p2p, slices, count, sm, ce, dec, enc, jpeg, ofa; unsigned long long mem; char name[96]; } GiProfile;
int nvmlDeviceGetGpuInstanceProfileInfoV(Device d, unsigned idx, GiProfile *info) {
    GET(d);
    if (!d->mig_capable) return leave(NOT_SUPPORTED);
    if (info->version != 0x02000098) return leave(VERSION_MISMATCH);
    for (unsigned i = 0; i < d->profile_count; i++) {
        Profile *p = &d->profiles[i];
        if (p->idx != idx) continue;
        *info = (GiProfile){ info->version, p->id, p->p2p, p->slices, p->max, p->sm, p->ce, p->dec, p->enc, p->jpeg, p->ofa, p->mem, "" };
        memcpy(info->name, p->name, sizeof info->name);
        return leave(OK);
    }
    return leave(idx < 32 ? NOT_SUPPORTED : INVALID);
}
static Profile *by_id(Device d, unsigned id) {
    for (unsigned i = 0; i < d->profile_count; i++) if (d->profiles[i].id == id) return &d->profiles[i];
    return NULL;
}
typedef struct { unsigned start, size; } Placement;
int nvmlDeviceGetGpuInstancePossiblePlacements_v2(Device d, unsigned id, Placement *places, unsigned *count) {
    GET(d);
    Profile *p = by_id(d, id);
    if (!p) return leave(INVALID);
    if (places) for (unsigned i = 0; i < p->count && i < *count; i++) places[i] = (Placement){ p->starts[i], p->size };
    *count = p->count;
    return leave(OK);
}

typedef struct { unsigned gpu, gi, ci; } Handle;
/* A handle is a number, so that it means the same in every process. */
static void *pack(unsigned gpu, unsigned gi, unsigned ci) { return (void *)(size_t)(0x100000000ul | gpu << 16 | gi << 8 | ci); }
static Handle unpack(void *handle) { size_t v = (size_t)handle; return (Handle){ v >> 16 & 0xFF, v >> 8 & 0xFF, v & 0xFF }; }
static Gi *gi_of(void *handle) {
    Handle h = unpack(handle);
    if (!((size_t)handle & 0x100000000ul) || h.gpu >= board_count || h.gi >= MAX_GI) return NULL;
    Gi *gi = &state->cards[h.gpu].gis[h.gi];
    return gi->used ? gi : NULL;
}
int nvmlDeviceGetGpuInstances(Device d, unsigned id, void **found, unsigned *count) {
    GET(d);
    unsigned n = (unsigned)number(d), used = 0;
    if (!by_id(d, id)) return leave(INVALID);
    if (!state->cards[n].mig) { *count = 0; return leave(NOT_SUPPORTED); }
    for (unsigned i = 0; i < MAX_GI; i++)
        if (state->cards[n].gis[i].used && state->cards[n].gis[i].profile_id == id) found[used++] = pack(n, i, 0);
    *count = used;
    return leave(OK);
}
int nvmlDeviceCreateGpuInstanceWithPlacement(Device d, unsigned id, const Placement *place, void **made) {
    GET(d);
    unsigned n = (unsigned)number(d), slices = 0, budget = 0, same = 0;
    Card *card = &state->cards[n];
    Profile *p = by_id(d, id);
    int slot = -1, fits = 0;
    if (knobs.no_permission) return leave(NO_PERMISSION);
    if (!p || !card->mig) return leave(!p ? INVALID : NOT_SUPPORTED);
    if (knobs.fail_create && ++state->creates == knobs.fail_create) return leave(NO_RESOURCES);
    if (knobs.fail_create_from && ++state->creates >= knobs.fail_create_from) return leave(NO_RESOURCES);
    for (unsigned i = 0; i < p->count; i++) fits |= p->starts[i] == place->start && p->size == place->size;
    if (!fits) return leave(INVALID);
    for (unsigned i = 0; i < d->profile_count; i++) if (d->profiles[i].slices > budget) budget = d->profiles[i].slices;
    for (int i = 0; i < MAX_GI; i++) {
        Gi *g = &card->gis[i];
        if (!g->used) { if (slot < 0) slot = i; continue; }
        slices += g->slices;
        same += g->profile_id == id;
        if (place->start < g->start + g->size && g->start < place->start + place->size) return leave(NO_RESOURCES);
    }
    if (slot < 0 || slices + p->slices > budget || same >= p->max) return leave(NO_RESOURCES);
    /* Real cards number instances by profile: 7-13 for 1g, 3-6 for 2g, 1-2 for 3g and 4g, 0 for 7g. */
    unsigned first = p->slices == 1 ? 7 : p->slices == 2 ? 3 : p->slices >= 7 ? 0 : 1, wanted = first;
    for (int again = 1; again;) {
        again = 0;
        for (int i = 0; i < MAX_GI; i++) if (card->gis[i].used && card->gis[i].id == wanted) { wanted++; again = 1; }
    }
    card->gis[slot] = (Gi){ 1, wanted, id, place->start, place->size, p->slices, { { 0, 0, 0 } } };
    *made = pack(n, (unsigned)slot, 0);
    return leave(OK);
}
typedef struct { Device device; unsigned id, profile_id; Placement placement; } GiInfo;
int nvmlGpuInstanceGetInfo(void *handle, GiInfo *info) {
    enter();
    Gi *gi = gi_of(handle);
    if (!gi) return leave(NOT_FOUND);
    *info = (GiInfo){ &boards[unpack(handle).gpu], gi->id, gi->profile_id, { gi->start, gi->size } };
    return leave(OK);
}
int nvmlGpuInstanceDestroy(void *handle) {
    enter();
    Gi *gi = gi_of(handle);
    if (!gi) return leave(NOT_FOUND);
    for (int i = 0; i < MAX_CI; i++) if (gi->cis[i].used) return leave(IN_USE);
    if (knobs.fail_destroy) return leave(IN_USE);
    if (busy((int)unpack(handle).gpu, gi->id)) return leave(IN_USE);
    gi->used = 0;
    return leave(OK);
}

typedef struct { unsigned version, id, slices, count, sm, ce, dec, enc, jpeg, ofa; char name[96]; } CiProfile;
static const unsigned CI_SLICES[] = { 1, 2, 3, 4, 7 };
int nvmlGpuInstanceGetComputeInstanceProfileInfoV(void *handle, unsigned idx, unsigned engine, CiProfile *info) {
    enter();
    Gi *gi = gi_of(handle);
    (void)engine;
    if (!gi) return leave(NOT_FOUND);
    if (info->version != 0x02000088) return leave(VERSION_MISMATCH);
    if (idx >= 5 || CI_SLICES[idx] > gi->slices) return leave(idx < 9 ? NOT_SUPPORTED : INVALID);
    *info = (CiProfile){ info->version, idx, CI_SLICES[idx], gi->slices / CI_SLICES[idx], 0, 0, 0, 0, 0, 0, "" };
    return leave(OK);
}
int nvmlGpuInstanceGetComputeInstances(void *handle, unsigned id, void **found, unsigned *count) {
    enter();
    Gi *gi = gi_of(handle);
    unsigned used = 0;
    if (!gi) return leave(NOT_FOUND);
    for (unsigned i = 0; i < MAX_CI; i++)
        if (gi->cis[i].used && gi->cis[i].profile == id) found[used++] = pack(unpack(handle).gpu, unpack(handle).gi, i);
    *count = used;
    return leave(OK);
}
int nvmlGpuInstanceCreateComputeInstance(void *handle, unsigned id, void **made) {
    enter();
    Gi *gi = gi_of(handle);
    unsigned taken = 0;
    int slot = -1;
    if (!gi || id >= 5) return leave(gi ? INVALID : NOT_FOUND);
    for (int i = 0; i < MAX_CI; i++) { if (gi->cis[i].used) taken += CI_SLICES[gi->cis[i].profile]; else if (slot < 0) slot = i; }
    if (slot < 0 || taken + CI_SLICES[id] > gi->slices) return leave(NO_RESOURCES);
    gi->cis[slot] = (Ci){ 1, (unsigned)slot, id };
    *made = pack(unpack(handle).gpu, unpack(handle).gi, (unsigned)slot);
    return leave(OK);
}
typedef struct { Device device; void *gi; unsigned id, profile_id; Placement placement; } CiInfo;
int nvmlComputeInstanceGetInfo_v2(void *handle, CiInfo *info) {
    enter();
    Gi *gi = gi_of(handle);
    Handle h = unpack(handle);
    if (!gi || h.ci >= MAX_CI || !gi->cis[h.ci].used) return leave(NOT_FOUND);
    *info = (CiInfo){ &boards[h.gpu], pack(h.gpu, h.gi, 0), gi->cis[h.ci].id, gi->cis[h.ci].profile, { 0, gi->slices } };
    return leave(OK);
}
int nvmlComputeInstanceDestroy(void *handle) {
    enter();
    Gi *gi = gi_of(handle);
    Handle h = unpack(handle);
    if (!gi || h.ci >= MAX_CI || !gi->cis[h.ci].used) return leave(NOT_FOUND);
    if (busy((int)h.gpu, gi->id)) return leave(IN_USE);
    gi->cis[h.ci].used = 0;
    return leave(OK);
}
