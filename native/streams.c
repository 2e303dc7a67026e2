// Streams and events: nothing runs, so everything is done as soon as it is asked for.
#include "vgpu.h"

#include <stdlib.h>

static int make(void **handle) {
  *handle = calloc(1, 16);
  return SUCCESS;
}

static int destroy(void *handle) {
  free(handle);
  return SUCCESS;
}

#define DONE(name, ...) API int name(__VA_ARGS__) { REFUSABLE(CUDA_NOT_SUPPORTED); return SUCCESS; }

API int cudaStreamCreate(void **stream) { REFUSABLE(CUDA_NOT_SUPPORTED); return make(stream); }
API int cudaStreamCreateWithFlags(void **stream, unsigned flags) { REFUSABLE(CUDA_NOT_SUPPORTED); return make(stream); }
API int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority) { REFUSABLE(CUDA_NOT_SUPPORTED); return make(stream); }
API int cudaStreamDestroy(void *stream) { REFUSABLE(CUDA_NOT_SUPPORTED); return destroy(stream); }
DONE(cudaStreamQuery, void *stream)
DONE(cudaStreamSynchronize, void *stream)
DONE(cudaStreamWaitEvent, void *stream, void *event, unsigned flags)

API int cudaStreamGetPriority(void *stream, int *priority) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *priority = 0;
  return SUCCESS;
}

// No stream is ever captured into a graph: cudaStreamBeginCapture refuses. The versions differ in what follows the id.
static int not_captured(int *status, unsigned long long *id) {
  if (status) *status = 0;
  if (id) *id = 0;
  return SUCCESS;
}

API int cudaStreamIsCapturing(void *stream, int *status) { REFUSABLE(CUDA_NOT_SUPPORTED); return not_captured(status, NULL); }
API int cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id) { REFUSABLE(CUDA_NOT_SUPPORTED); return not_captured(status, id); }
API int cudaStreamGetCaptureInfo_v2(void *stream, int *status, unsigned long long *id) { REFUSABLE(CUDA_NOT_SUPPORTED); return not_captured(status, id); }
API int cudaStreamGetCaptureInfo_v3(void *stream, int *status, unsigned long long *id) { REFUSABLE(CUDA_NOT_SUPPORTED); return not_captured(status, id); }

API int cudaThreadExchangeStreamCaptureMode(int *mode) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *mode = 0;  // cudaStreamCaptureModeGlobal
  return SUCCESS;
}

API int cudaStreamAddCallback(void *stream, void (*callback)(void *, int, void *), void *data, unsigned flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  callback(stream, SUCCESS, data);
  return SUCCESS;
}

API int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  function(data);
  return SUCCESS;
}

API int cudaEventCreate(void **event) { REFUSABLE(CUDA_NOT_SUPPORTED); return make(event); }
API int cudaEventCreateWithFlags(void **event, unsigned flags) { REFUSABLE(CUDA_NOT_SUPPORTED); return make(event); }
API int cudaEventDestroy(void *event) { REFUSABLE(CUDA_NOT_SUPPORTED); return destroy(event); }
DONE(cudaEventRecord, void *event, void *stream)
DONE(cudaEventRecordWithFlags, void *event, void *stream, unsigned flags)
DONE(cudaEventQuery, void *event)
DONE(cudaEventSynchronize, void *event)

// Time is not modelled: the shortest that a caller can divide by.
API int cudaEventElapsedTime(float *milliseconds, void *start, void *end) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *milliseconds = 0.001f;
  return SUCCESS;
}

API int cudaEventElapsedTime_v2(float *milliseconds, void *start, void *end) { REFUSABLE(CUDA_NOT_SUPPORTED); return cudaEventElapsedTime(milliseconds, start, end); }

DONE(cudaProfilerStart, void)
DONE(cudaProfilerStop, void)
