/* A stand-in for the NVIDIA driver's library, for tests: what pynvml asks for, answered from a text file.

   gcc -O1 -Wall -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvml_stub.c

   $NVML_STUB names the file, which is read at every call, so that a test can change the machine while a daemon runs:
     count=2   driver=550.54
     gpu0.total=10737418240   gpu0.used=0   gpu0.name=..   gpu0.uuid=..   gpu0.util=37   gpu0.temp=61
     gpu0.procs=4242:512000000,77:1000
     fail=15          every call fails with this code      fail.nvmlInit=9   only that one does
     gpu1.fail=15     only calls about that GPU            sleep_ms=60000    a driver that hangs
   The structures are those of nvml.h, version 2 of the memory's and version 3 of the processes'. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MOST 16
typedef unsigned long long u64;

static __thread char text[16384];
static int cards[MOST]; /* a handle is the address of one of these */
static volatile int opened;

static void reread(void) {
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "re") : NULL;
    size_t got = 0;
    text[0] = '\n';
    if (file) {
        got = fread(text + 1, 1, sizeof text - 2, file);
        fclose(file);
    }
    text[got + 1] = 0;
}

static int word(const char *key, char *out, size_t room) {
    char pattern[96];
    snprintf(pattern, sizeof pattern, "\n%s=", key);
    char *at = strstr(text, pattern);
    if (!at) return 0;
    at += strlen(pattern);
    size_t length = strcspn(at, "\r\n");
    if (length >= room) length = room - 1;
    memcpy(out, at, length);
    out[length] = 0;
    return 1;
}

static u64 number(const char *key, u64 otherwise) {
    char found[64];
    return word(key, found, sizeof found) ? strtoull(found, NULL, 0) : otherwise;
}

static int index_of(void *handle) {
    long i = (int *)handle - cards;
    return handle && i >= 0 && i < MOST ? (int)i : -1;
}

static const char *of(int card, const char *key) {
    static __thread char whole[96];
    snprintf(whole, sizeof whole, "gpu%d.%s", card, key);
    return whole;
}

/* 0, or the code that this call fails with; hangs first where the file says so */
static int enter(const char *name, int card) {
    char key[96];
    int code;
    reread();
    u64 ms = number("sleep_ms", 0);
    if (ms) {
        usleep(ms * 1000);
        reread();
    }
    snprintf(key, sizeof key, "fail.%s", name);
    if ((code = (int)number(key, number("fail", 0)))) return code;
    if (strcmp(name, "nvmlInit") && !opened) return 1;
    if (card >= 0 && (code = (int)number(of(card, "fail"), 0))) return code;
    return 0;
}

#define ENTER(name, card) do { int code_ = enter(name, card); if (code_) return code_; } while (0)
#define CARD(name) int card = index_of(handle); if (card < 0) return 2; ENTER(name, card)

static int give(const char *key, const char *otherwise, char *out, unsigned room) {
    char found[256];
    if (!word(key, found, sizeof found)) snprintf(found, sizeof found, "%s", otherwise);
    if (strlen(found) + 1 > room) return 7;
    strcpy(out, found);
    return 0;
}

API int nvmlInit_v2(void) { ENTER("nvmlInit", -1); __sync_fetch_and_add(&opened, 1); return 0; }
API int nvmlInit(void) { return nvmlInit_v2(); }
API int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
API int nvmlShutdown(void) { ENTER("nvmlShutdown", -1); __sync_fetch_and_sub(&opened, 1); return 0; }
API const char *nvmlErrorString(int code) { (void)code; return "stub"; }
API int nvmlSystemGetDriverVersion(char *out, unsigned room) {
    ENTER("nvmlSystemGetDriverVersion", -1);
    return give("driver", "550.54.15", out, room);
}
API int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER("nvmlDeviceGetCount", -1);
    *count = (unsigned)number("count", 1);
    return 0;
}
API int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **handle) {
    ENTER("nvmlDeviceGetHandleByIndex", (int)i);
    if (i >= number("count", 1) || i >= MOST) return 2;
    *handle = &cards[i];
    return 0;
}
API int nvmlDeviceGetName(void *handle, char *out, unsigned room) {
    CARD("nvmlDeviceGetName");
    return give(of(card, "name"), "NVIDIA Stub", out, room);
}
API int nvmlDeviceGetUUID(void *handle, char *out, unsigned room) {
    char otherwise[64];
    CARD("nvmlDeviceGetUUID");
    snprintf(otherwise, sizeof otherwise, "GPU-00000000-0000-0000-0000-%012d", card);
    return give(of(card, "uuid"), otherwise, out, room);
}

struct memory1 { u64 total, free, used; };
struct memory2 { unsigned version; u64 total, reserved, free, used; };

API int nvmlDeviceGetMemoryInfo(void *handle, struct memory1 *memory) {
    CARD("nvmlDeviceGetMemoryInfo");
    memory->total = number(of(card, "total"), 8ull << 30);
    memory->used = number(of(card, "used"), 0);
    memory->free = memory->total - memory->used;
    return 0;
}
API int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory2 *memory) {
    struct memory1 plain;
    if (memory->version != 0x02000028) return 25;
    int code = nvmlDeviceGetMemoryInfo(handle, &plain);
    memory->total = plain.total;
    memory->reserved = 0;
    memory->free = plain.free;
    memory->used = plain.used;
    return code;
}

struct utilization { unsigned gpu, memory; };

API int nvmlDeviceGetUtilizationRates(void *handle, struct utilization *rates) {
    CARD("nvmlDeviceGetUtilizationRates");
    rates->gpu = (unsigned)number(of(card, "util"), 0);
    rates->memory = 0;
    return 0;
}
API int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    CARD("nvmlDeviceGetTemperature");
    (void)sensor;
    *celsius = (unsigned)number(of(card, "temp"), 40);
    return 0;
}

struct process { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; };

API int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process *out) {
    char list[4096], *rest = NULL;
    unsigned have = 0, room = *count;
    CARD("nvmlDeviceGetComputeRunningProcesses");
    if (word(of(card, "procs"), list, sizeof list))
        for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
            unsigned pid;
            u64 used = ~0ull;
            if (sscanf(one, "%u:%llu", &pid, &used) < 1) continue;
            if (out && have < room) out[have] = (struct process){pid, used, ~0u, ~0u};
            have++;
        }
    *count = have;
    return have && (!out || have > room) ? 7 : 0;
}
API int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, struct process *out) {
    CARD("nvmlDeviceGetGraphicsRunningProcesses");
    (void)out;
    *count = 0;
    return 0;
}
