// NVML (this library is libnvidia-ml.so.1 to whoever looks for it): PyTorch counts GPUs with it, names other processes in its
// out-of-memory error, and asks for NVLink and fabrics, which a virtual GPU has not. A library of its own, because it is found
// by its name; preloaded with the other, it also keeps a process away from the NVML of a real GPU.
#include <stdio.h>
#include <string.h>

#define API __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };

int cudaGetDeviceCount(int *count);  // of the library that is libcuda.so.1

static int devices(void) {
  int count = 0;
  cudaGetDeviceCount(&count);
  return count;
}

API int nvmlInit_v2(void) { return SUCCESS; }
API int nvmlInit(void) { return SUCCESS; }
API int nvmlInitWithFlags(unsigned flags) { return SUCCESS; }
API int nvmlShutdown(void) { return SUCCESS; }
API const char *nvmlErrorString(int status) { return status ? "Not Supported" : "Success"; }

API int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = (unsigned)devices();
  return SUCCESS;
}

// A handle is the ordinal plus one.
API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if ((int)index >= devices()) return INVALID_ARGUMENT;
  *device = (char *)0 + index + 1;
  return SUCCESS;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
  unsigned domain, number;
  if (sscanf(bus, "%x:%x:", &domain, &number) != 2 || !number || (int)number > devices()) return INVALID_ARGUMENT;
  *device = (char *)0 + number;
  return SUCCESS;
}

// No other process is on the GPU.
static int nothing(unsigned *count) {
  *count = 0;
  return SUCCESS;
}
API int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, void *processes) { return nothing(count); }
API int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, void *processes) { return nothing(count); }
API int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *processes) { return nothing(count); }

API int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  *version = 13000;
  return SUCCESS;
}

// Leave the state as PyTorch sets it, which is that there is no fabric: it warns if this fails.
API int nvmlDeviceGetGpuFabricInfoV(void *device, void *information) { return SUCCESS; }

#define REFUSE(name) API int name(void) { return NOT_SUPPORTED; }
REFUSE(nvmlDeviceGetGpuFabricInfo)
REFUSE(nvmlDeviceGetNvLinkRemoteDeviceType) REFUSE(nvmlDeviceGetNvLinkRemotePciInfo_v2) REFUSE(nvmlDeviceGetNvLinkState)
REFUSE(nvmlDeviceGetUUID) REFUSE(nvmlDeviceGetName) REFUSE(nvmlDeviceGetMemoryInfo) REFUSE(nvmlDeviceGetMemoryInfo_v2)
REFUSE(nvmlDeviceGetUtilizationRates) REFUSE(nvmlDeviceGetTemperature) REFUSE(nvmlDeviceGetPowerUsage)
REFUSE(nvmlDeviceGetClockInfo) REFUSE(nvmlDeviceGetCurrentClocksEventReasons) REFUSE(nvmlDeviceGetP2PStatus)
