// The CUDA driver (this library is libcuda.so.1 to whoever looks for it): what PyTorch asks it beside memory (memory.c), and
// what Triton's launcher does, which torch.compile uses. Modules are loaded and their kernels launched; nothing is computed.
#define _GNU_SOURCE
#include "memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int cudaGetDeviceCount(int *count);
int cudaGetDevice(int *device);
int cudaSetDevice(int device);
int cudaDeviceGetAttribute(int *value, int attribute, int device);
int cudaDriverGetVersion(int *version);

#define CONTEXT ((void *)8)
#define MODULE ((void *)16)
#define FUNCTION ((void *)24)
#define DONE(name, ...) API int name(__VA_ARGS__) { REFUSABLE(CUDA_NOT_SUPPORTED); return SUCCESS; }
#define GIVE(name, value, ...) API int name(__VA_ARGS__) { REFUSABLE(CUDA_NOT_SUPPORTED); *out = (value); return SUCCESS; }

// PyTorch and Triton look functions up by name; a newer version of a function has a suffix.
static void *look_up(const char *name) {
  char versioned[128];
  snprintf(versioned, sizeof versioned, "%s_v2", name);
  void *function = dlsym(RTLD_DEFAULT, versioned);
  return function ? function : dlsym(RTLD_DEFAULT, name);
}

static int entry_point(const char *name, void **function, int *result) {
  *function = look_up(name);
  if (!*function) refuse(name, CUDA_NOT_SUPPORTED);
  if (result) *result = *function ? 0 : 1;  // success, or symbol not found
  return SUCCESS;
}

API int cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags, int *result) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return entry_point(name, function, result);
}

API int cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags, int *result) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return entry_point(name, function, result);
}

// cuGetProcAddress is left out on purpose: with it the copies of the runtime inside cuDNN and cuBLAS start, ask for functions
// that no document describes, and crash. Without it they see a machine without a driver, and answer what needs no device.

DONE(cuInit, unsigned flags)

// NVRTC asks for tables that are not documented, and goes on without them.
API int cuGetExportTable(const void **table, const void *id) {
  (void)id;
  *table = NULL;
  return 500;  // CUDA_ERROR_NOT_FOUND (cuda.h)
}
API int cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }
API int cuDeviceGetCount(int *count) { return cudaGetDeviceCount(count); }
API int cuDeviceGetAttribute(int *value, int attribute, int device) { return cudaDeviceGetAttribute(value, attribute, device); }
GIVE(cuDeviceGet, ordinal, int *out, int ordinal)
GIVE(cuDeviceTotalMem_v2, facts.memory, size_t *out, int device)
GIVE(cuCtxGetCurrent, CONTEXT, void **out)
GIVE(cuCtxPopCurrent_v2, CONTEXT, void **out)
GIVE(cuDevicePrimaryCtxRetain, CONTEXT, void **out, int device)
DONE(cuDevicePrimaryCtxRelease_v2, int device)
DONE(cuCtxSetCurrent, void *context)
DONE(cuCtxPushCurrent_v2, void *context)
DONE(cuCtxSynchronize, void)
DONE(cuCtxSetLimit, int limit, size_t value)
GIVE(cuCtxGetLimit, 0, size_t *out, int limit)
API int cuCtxGetDevice(int *device) { return cudaGetDevice(device); }

API int cuDeviceGetName(char *name, int size, int device) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  snprintf(name, size, "%s", facts.name);
  return SUCCESS;
}

API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *flags = 0;
  *active = 1;
  return SUCCESS;
}

static int text_of(int error, const char **text) {
  *text = error == SUCCESS ? "no error" : error == CUDA_OUT_OF_MEMORY ? "out of memory"
        : error == CUDA_NOT_SUPPORTED ? "operation not supported" : "invalid argument";
  return SUCCESS;
}
API int cuGetErrorString(int error, const char **text) { return text_of(error, text); }
API int cuGetErrorName(int error, const char **text) { return text_of(error, text); }

API int cuPointerGetAttribute(void *out, int attribute, uint64_t p) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  enum { CONTEXT_OF = 1, MEMORY_TYPE = 2, DEVICE_POINTER = 3 };
  if (attribute == MEMORY_TYPE) *(int *)out = is_device_address((void *)p) ? 2 : 1;
  else if (attribute == DEVICE_POINTER || attribute == CONTEXT_OF) *(uint64_t *)out = attribute == CONTEXT_OF ? 8 : p;
  else return refuse(__func__, CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

// PyTorch asks to hear the driver's log, which is empty here.
GIVE(cuLogsRegisterCallback, CONTEXT, void **unused, void *data, void **out)
DONE(cuLogsUnregisterCallback, void *callback)

GIVE(cuModuleLoad, MODULE, void **out, const char *file)
GIVE(cuModuleLoadData, MODULE, void **out, const void *image)
GIVE(cuModuleLoadDataEx, MODULE, void **out, const void *image, unsigned count, int *options, void **values)
DONE(cuModuleUnload, void *module)
GIVE(cuModuleGetFunction, FUNCTION, void **out, void *module, const char *name)
DONE(cuFuncSetAttribute, void *function, int attribute, int value)
DONE(cuFuncSetCacheConfig, void *function, int config)
GIVE(cuOccupancyMaxActiveBlocksPerMultiprocessor, 1, int *out, void *function, int threads, size_t shared)
GIVE(cuOccupancyMaxActiveClusters, 1, int *out, void *function, const void *config)

API int cuFuncGetAttribute(int *value, int attribute, void *function) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  enum { THREADS = 0, REGISTERS = 4 };
  *value = attribute == THREADS ? 1024 : attribute == REGISTERS ? 32 : 0;
  return SUCCESS;
}

API int cuLaunchKernel(
    void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
    unsigned shared, void *stream, void **arguments, void **extra) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  note_kernel("");
  look_for_arguments(__builtin_frame_address(0));
  return SUCCESS;
}

API int cuLaunchKernelEx(const void *config, void *function, void **arguments, void **extra) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  note_kernel("");
  look_for_arguments(__builtin_frame_address(0));
  return SUCCESS;
}
