// Device memory: address space that is counted against the card's size, and takes no RAM.
//
// The pages cannot be read or written (PROT_NONE), like a GPU's from the host. What the host copies there is kept aside
// (shadow.c). Allocations are rounded as an H200 with driver 580 rounds them: above 1 MiB to multiples of 2 MiB, and
// smaller ones share blocks of 2 MiB.
#define _GNU_SOURCE
#include "memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK ((size_t)2 << 20)
#define SMALL ((size_t)1 << 20)
#define MOST_DEVICES 64

typedef struct {
  size_t start, size;  // in the arena
  int device;
  int live;            // small allocations that share it; 1 for what has a range of its own
} Range;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *arena;
static size_t arena_size;
static Range *ranges;  // by address
static size_t num_ranges, room;
static size_t used[MOST_DEVICES], peak[MOST_DEVICES];
static struct { size_t next, end; } small[MOST_DEVICES];  // what is left of the block that small allocations share

void set_last_error(int error);
#define FAIL(error) do { set_last_error(error); return error; } while (0)

static int device_now(void) {
  int cudaGetDevice(int *);
  int device;
  cudaGetDevice(&device);
  return device;
}

// The addresses that all allocations come from: as many as the system gives, at most 16 TiB.
static int open_arena(void) {
  if (arena) return 1;
  for (size_t size = (size_t)1 << 44; size >= (size_t)1 << 33; size >>= 1) {
    char *start = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) continue;
    size_t skip = -(size_t)start & (BLOCK - 1);
    arena_size = size - BLOCK;
    arena = start + skip;
    return 1;
  }
  return 0;
}

int is_device_address(const void *p) { return arena && (const char *)p >= arena && (const char *)p < arena + arena_size; }

// The index of the first range that begins above an offset.
static size_t above(size_t offset) {
  size_t low = 0, high = num_ranges;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (ranges[middle].start <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

static Range *range_of(const void *p) {
  if (!is_device_address(p)) return NULL;
  size_t offset = (const char *)p - arena, i = above(offset);
  return i && offset < ranges[i - 1].start + ranges[i - 1].size ? &ranges[i - 1] : NULL;
}

// Take addresses: the first gap that is large enough. The lock is held.
static void *take(size_t size, int device) {
  if (!open_arena()) return NULL;
  if (num_ranges == room) {
    room = room ? 2 * room : 256;
    ranges = realloc(ranges, room * sizeof *ranges);
  }
  size_t start = 0, i = 0;
  while (i < num_ranges && start + size > ranges[i].start) start = ranges[i].start + ranges[i].size, i++;
  if (start + size > arena_size) return NULL;
  memmove(ranges + i + 1, ranges + i, (num_ranges - i) * sizeof *ranges);
  ranges[i] = (Range){start, size, device, 1};
  num_ranges++;
  return arena + start;
}

static void give_back(Range *range) {
  forget(arena + range->start, range->size);
  size_t i = range - ranges;
  memmove(ranges + i, ranges + i + 1, (num_ranges - i - 1) * sizeof *ranges);
  num_ranges--;
}

int count_bytes(int device, size_t size) {
  if (used[device] + size + facts.context > facts.memory) return 0;
  used[device] += size;
  if (used[device] > peak[device]) peak[device] = used[device];
  return 1;
}

static void *allocate(size_t size, int device) {
  if (size <= SMALL && small[device].next + size <= small[device].end) {
    void *p = arena + small[device].next;
    range_of(p)->live++;
    small[device].next += (size + 511) & ~(size_t)511;
    return p;
  }
  size_t rounded = (size + BLOCK - 1) & ~(BLOCK - 1);
  if (rounded < size || !count_bytes(device, rounded)) return NULL;
  char *p = take(rounded, device);
  if (!p) {
    used[device] -= rounded;
    return NULL;
  }
  if (size <= SMALL) {
    small[device].next = p - arena + ((size + 511) & ~(size_t)511);
    small[device].end = p - arena + BLOCK;
  }
  return p;
}

API int cudaMalloc(void **p, size_t size) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (!size) {
    *p = NULL;
    return SUCCESS;
  }
  pthread_mutex_lock(&lock);
  *p = allocate(size, device_now());
  pthread_mutex_unlock(&lock);
  if (!*p) FAIL(CUDA_OUT_OF_MEMORY);
  return SUCCESS;
}

API int cudaFree(void *p) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (!p) return SUCCESS;
  pthread_mutex_lock(&lock);
  Range *range = range_of(p);
  int status = range ? SUCCESS : CUDA_INVALID_VALUE;
  if (range && --range->live == 0) {
    int device = range->device;
    if (range->start + range->size == small[device].end) small[device].next = small[device].end = 0;
    used[device] -= range->size;
    give_back(range);
  }
  pthread_mutex_unlock(&lock);
  if (status) FAIL(status);
  return status;
}

API int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *total = facts.memory;
  *free_bytes = facts.memory - facts.context - used[device_now()];
  return SUCCESS;
}

// --- memory of the host that the GPU can reach ---

typedef struct { char *start; size_t size; int is_ours; } Pinned;
static Pinned *pinned;
static size_t num_pinned, room_pinned;

static void pin(void *p, size_t size, int is_ours) {
  pthread_mutex_lock(&lock);
  if (num_pinned == room_pinned) {
    room_pinned = room_pinned ? 2 * room_pinned : 64;
    pinned = realloc(pinned, room_pinned * sizeof *pinned);
  }
  pinned[num_pinned++] = (Pinned){p, size, is_ours};
  pthread_mutex_unlock(&lock);
}

static int unpin(void *p) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < num_pinned; i++)
    if (pinned[i].start == p) {
      pinned[i] = pinned[--num_pinned];
      found = 1;
      break;
    }
  pthread_mutex_unlock(&lock);
  return found;
}

static int is_pinned(const char *p) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < num_pinned && !found; i++) found = p >= pinned[i].start && p < pinned[i].start + pinned[i].size;
  pthread_mutex_unlock(&lock);
  return found;
}

API int cudaHostAlloc(void **p, size_t size, unsigned flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *p = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
  if (!*p) FAIL(CUDA_OUT_OF_MEMORY);
  pin(*p, size, 1);
  return SUCCESS;
}

API int cudaMallocHost(void **p, size_t size) { REFUSABLE(CUDA_NOT_SUPPORTED); return cudaHostAlloc(p, size, 0); }

API int cudaFreeHost(void *p) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (unpin(p)) free(p);
  return SUCCESS;
}

API int cudaHostRegister(void *p, size_t size, unsigned flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  pin(p, size, 0);
  return SUCCESS;
}

API int cudaHostUnregister(void *p) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  unpin(p);
  return SUCCESS;
}

// The members that CUDA 12 and 13 have in common.
typedef struct { int type, device; void *device_pointer, *host_pointer; } Attributes;

API int cudaPointerGetAttributes(Attributes *attributes, const void *p) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  pthread_mutex_lock(&lock);
  Range *range = range_of(p);
  int device = range ? range->device : -1;
  pthread_mutex_unlock(&lock);
  if (range) *attributes = (Attributes){2, device, (void *)p, NULL};
  else if (is_pinned(p)) *attributes = (Attributes){1, device_now(), (void *)p, (void *)p};
  else *attributes = (Attributes){0, -2, NULL, (void *)p};  // not registered
  return SUCCESS;
}

// --- the driver's virtual memory, on which expandable segments stand: addresses, physical memory, and mappings ---

typedef struct { size_t size; int device; } Physical;

API int cuMemGetAllocationGranularity(size_t *granularity, const void *properties, int option) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *granularity = BLOCK;
  return SUCCESS;
}

API int cuMemAddressReserve(uint64_t *p, size_t size, size_t alignment, uint64_t wanted, unsigned long long flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  pthread_mutex_lock(&lock);
  *p = (uint64_t)take((size + BLOCK - 1) & ~(BLOCK - 1), device_now());
  pthread_mutex_unlock(&lock);
  return *p ? SUCCESS : CUDA_OUT_OF_MEMORY;
}

API int cuMemAddressFree(uint64_t p, size_t size) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  pthread_mutex_lock(&lock);
  Range *range = range_of((void *)p);
  if (range) give_back(range);
  pthread_mutex_unlock(&lock);
  return range ? SUCCESS : CUDA_INVALID_VALUE;
}

API int cuMemCreate(uint64_t *handle, size_t size, const int *properties, unsigned long long flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  int device = properties[3];  // CUmemAllocationProp: type, handle types, location type, location id
  pthread_mutex_lock(&lock);
  int fits = count_bytes(device, size);
  pthread_mutex_unlock(&lock);
  if (!fits) return CUDA_OUT_OF_MEMORY;
  Physical *physical = malloc(sizeof *physical);
  *physical = (Physical){size, device};
  *handle = (uint64_t)physical;
  return SUCCESS;
}

API int cuMemRelease(uint64_t handle) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  Physical *physical = (Physical *)handle;
  pthread_mutex_lock(&lock);
  used[physical->device] -= physical->size;
  pthread_mutex_unlock(&lock);
  free(physical);
  return SUCCESS;
}

API int cuMemMap(uint64_t p, size_t size, size_t offset, uint64_t handle, unsigned long long flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

API int cuMemUnmap(uint64_t p, size_t size) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  forget((void *)p, size);
  return SUCCESS;
}

API int cuMemSetAccess(uint64_t p, size_t size, const void *access, size_t count) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

API int cuMemGetAddressRange_v2(uint64_t *start, size_t *size, uint64_t p) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  pthread_mutex_lock(&lock);
  Range *range = range_of((void *)p);
  if (range && start) *start = (uint64_t)(arena + range->start);
  if (range && size) *size = range->size;
  pthread_mutex_unlock(&lock);
  return range ? SUCCESS : CUDA_INVALID_VALUE;
}

// The most that was allocated on a device at a time, in bytes.
API size_t vgpu_peak(int device) { return peak[device]; }
