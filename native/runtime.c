// The CUDA runtime: devices, their properties, versions and errors.
#define _GNU_SOURCE
#include "vgpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static __thread int last_error;
static __thread int current_device;

void set_last_error(int error) { last_error = error; }
#define FAIL(error) return last_error = (error)

// PyTorch's own copy of a library, which this one is preloaded before; NULL if it is not loaded. The newest name first.
void *real_library(const char *stem) {
  char name[64];
  for (int version = 14; version >= 8; version--) {
    snprintf(name, sizeof name, "lib%s.so.%d", stem, version);
    void *library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (library) return library;
  }
  return NULL;
}

static void *real_runtime(const char *function) {
  static void *library;
  if (!library) library = real_library("cudart");
  return library ? dlsym(library, function) : NULL;
}

// --- versions and errors: the real runtime knows them without a device ---

API int cudaRuntimeGetVersion(int *version) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  int (*real)(int *) = real_runtime("cudaRuntimeGetVersion");
  *version = 13000;
  return real ? real(version) : SUCCESS;
}

// A driver that is as new as the runtime, and at least that of CUDA 13.0.
API int cudaDriverGetVersion(int *version) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  cudaRuntimeGetVersion(version);
  if (*version < 13000) *version = 13000;
  return SUCCESS;
}

API const char *cudaGetErrorString(int error) {
  const char *(*real)(int) = real_runtime("cudaGetErrorString");
  return real ? real(error) : "error of the virtual GPU";
}

API const char *cudaGetErrorName(int error) {
  const char *(*real)(int) = real_runtime("cudaGetErrorName");
  return real ? real(error) : "cudaErrorUnknown";
}

API int cudaGetLastError(void) {
  int error = last_error;
  last_error = SUCCESS;
  return error;
}

API int cudaPeekAtLastError(void) { return last_error; }

// --- devices ---

API int cudaGetDeviceCount(int *count) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *count = facts.count;
  return SUCCESS;
}

API int cudaGetDevice(int *device) {
  *device = current_device;
  return SUCCESS;
}

API int cudaSetDevice(int device) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (device < 0 || device >= facts.count) FAIL(101);  // cudaErrorInvalidDevice
  current_device = device;
  return SUCCESS;
}

API int cudaDeviceSynchronize(void) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

API int cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *can = device != peer;
  return SUCCESS;
}

API int cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

API int cudaDeviceGetPCIBusId(char *text, int size, int device) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  snprintf(text, size, "0000:%02x:00.0", device + 1);
  return SUCCESS;
}

API int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *least = 0;
  *greatest = -5;  // as an H200 with driver 580 reports
  return SUCCESS;
}

// Limits such as the stack size of kernels; what they are set to changes nothing here.
API int cudaDeviceGetLimit(size_t *value, int limit) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *value = limit == 0 ? 1024 : 8 << 20;  // stack size; heap and FIFO sizes: an H200's
  return SUCCESS;
}

API int cudaDeviceSetLimit(int limit, size_t value) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

// --- properties ---

// Where the members of cudaDeviceProp lie in CUDA 13 and in CUDA 12, and what they are. The offsets of CUDA 13 were checked
// against the structure of an H200. Members that are absent here are 0.
typedef struct { int in13, in12; int value; } Member;

static void fill(char *out, int device, int is12) {
  const Member members[] = {
      {304, 304, facts.registers_per_multiprocessor},  // per block: as many
      {308, 308, 32}, {320, 320, 1024},                // warp size, threads per block
      {324, 324, 1024}, {328, 328, 1024}, {332, 332, 64},
      {336, 336, 2147483647}, {340, 340, 65535}, {344, 344, 65535},
      {-1, 348, facts.clock_khz},
      {360, 360, facts.major}, {364, 364, facts.minor},
      {-1, 384, 1},                                    // copies overlap
      {384, 388, facts.multiprocessors},
      {392, 400, 1},                                   // maps host memory
      {560, 576, 1},                                   // concurrent kernels
      {568, 584, device + 1},                          // PCI bus
      {584, 600, 3}, {588, 604, 1},                    // copy engines, unified addressing
      {-1, 608, facts.memory_clock_khz},
      {592, 612, facts.bus_width}, {596, 616, facts.l2},
      {604, 624, facts.threads_per_multiprocessor},
      {608, 628, 1}, {612, 632, 1}, {616, 636, 1},     // stream priorities, caches in L1
      {632, 648, facts.registers_per_multiprocessor},
      {636, 652, 1},                                   // managed memory
      {-1, 668, 2},                                    // rate of float64
      {656, 676, 1}, {660, 680, 1}, {664, 684, 1},     // concurrent managed access, preemption, registered memory
      {668, 688, 1},                                   // cooperative launch
      {688, 712, facts.blocks_per_multiprocessor},
      {704, 728, 1}, {708, 732, 1}, {712, 736, 1}, {716, 740, 1}, {720, 744, 1},
      {748, 772, facts.major >= 9}, {752, 776, 1},     // clusters, unified function pointers
  };
  const struct { int in13, in12; size_t value; } sizes[] = {
      {288, 288, facts.memory}, {296, 296, 49152}, {312, 312, 2147483647}, {352, 352, 65536}, {368, 368, 512},
      {376, 376, 32}, {552, 568, 512}, {624, 640, facts.shared_per_multiprocessor},
      {672, 696, facts.shared_per_block_optin}, {696, 720, facts.reserved_shared_per_block},
  };
  memset(out, 0, is12 ? 1032 : 1008);
  snprintf(out, 256, "%s", facts.name);
  memcpy(out + 256, "vram virtual gpu", 16);  // the UUID
  out[271] = (char)device;
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    int at = is12 ? members[i].in12 : members[i].in13;
    if (at >= 0) memcpy(out + at, &members[i].value, sizeof(int));
  }
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    memcpy(out + (is12 ? sizes[i].in12 : sizes[i].in13), &sizes[i].value, sizeof(size_t));
}

API int cudaGetDeviceProperties(void *properties, int device) {  // CUDA 13
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (device < 0 || device >= facts.count) FAIL(101);
  fill(properties, device, 0);
  return SUCCESS;
}

API int cudaGetDeviceProperties_v2(void *properties, int device) {  // CUDA 12
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (device < 0 || device >= facts.count) FAIL(101);
  fill(properties, device, 1);
  return SUCCESS;
}

// By cudaDeviceAttr, which has the driver's numbers. An attribute that is absent here is 0, as on a card that lacks it.
API int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (device < 0 || device >= facts.count) FAIL(101);
  switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;            // threads per block, block x and y
    case 4: *value = 64; break;                              // block z
    case 5: *value = 2147483647; break;                      // grid x
    case 6: case 7: *value = 65535; break;                   // grid y and z
    case 8: *value = 49152; break;                           // shared memory per block
    case 9: *value = 65536; break;                           // constant memory
    case 10: *value = 32; break;                             // warp
    case 11: *value = 2147483647; break;                     // pitch
    case 12: case 82: *value = facts.registers_per_multiprocessor; break;
    case 13: *value = facts.clock_khz; break;
    case 14: *value = 512; break;                            // texture alignment
    case 16: *value = facts.multiprocessors; break;
    case 33: *value = device + 1; break;                     // PCI bus
    case 36: *value = facts.memory_clock_khz; break;
    case 37: *value = facts.bus_width; break;
    case 38: *value = facts.l2; break;
    case 39: *value = facts.threads_per_multiprocessor; break;
    case 40: *value = 3; break;                              // copy engines
    case 75: *value = facts.major; break;
    case 76: *value = facts.minor; break;
    case 81: *value = facts.shared_per_multiprocessor; break;
    case 97: *value = facts.shared_per_block_optin; break;
    case 106: *value = facts.blocks_per_multiprocessor; break;
    case 111: *value = facts.reserved_shared_per_block; break;
    case 120: *value = facts.major >= 9; break;              // cluster launch
    case 15: case 19: case 31: case 41: case 78: case 79: case 80: case 83: case 89: case 90: case 91: case 95: case 96:
    case 99: case 102: case 103: case 115: *value = 1; break;  // capabilities of every card since Pascal
    default: *value = 0;
  }
  return SUCCESS;
}
