/* A libnvidia-ml.so.1 for one GPU of 24000 MiB that does not exist: as far as heygemd asks.
 *
 * Read anew at every call: /run/nvml, with the MiB in use and the process that holds them, such as "20000 4711", and
 * where a third number follows, how many seconds the driver hangs first.
 * gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvml.c
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MIB 1048576ull
#define TOTAL (24000 * MIB)
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

static int card;

static int now(unsigned long long *used, unsigned *pid) {
  FILE *file = fopen("/run/nvml", "re");
  unsigned long long mib = 0;
  if (!file) return DRIVER_NOT_LOADED;
  unsigned seconds = 0;
  int read = fscanf(file, "%llu %u %u", &mib, pid, &seconds);
  fclose(file);
  *used = mib * MIB;
  while (seconds) seconds = sleep(seconds);
  return read >= 2 ? SUCCESS : DRIVER_NOT_LOADED;
}

static int say(char *to, unsigned length, const char *text) {
  if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
  strcpy(to, text);
  return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
  unsigned long long used;
  unsigned pid;
  (void)flags;
  return now(&used, &pid);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code ? "failed" : "Success"; }
int nvmlSystemGetDriverVersion(char *to, unsigned length) { return say(to, length, "550.54.15"); }

int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = 1;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = &card;
  return index ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetName(void *device, char *to, unsigned length) {
  (void)device;
  return say(to, length, "NVIDIA Stand-in");
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned length) {
  (void)device;
  return say(to, length, "GPU-00000000-0000-0000-0000-000000000000");
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *info) {
  unsigned pid;
  (void)device;
  info->total = TOTAL;
  info->reserved = 0;
  int code = now(&info->used, &pid);
  info->free = TOTAL - info->used;
  return code;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *found) {
  unsigned long long used;
  unsigned pid, room = *count;
  (void)device;
  int code = now(&used, &pid);
  if (code) return code;
  *count = 1;
  if (!found || room < 1) return INSUFFICIENT_SIZE;
  *found = (process){pid, used, ~0u, ~0u};
  return SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process *found) {
  (void)device;
  (void)found;
  *count = 0;
  return SUCCESS;
}
