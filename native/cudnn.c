// cuDNN: PyTorch chooses among cuDNN's own plans for the card, and asks each for its workspace.
//
// Since 9.8 cuDNN answers without a device, if its heuristics and plans are given a description of one (documented in
// "Deviceless Ahead-of-time Compilation" of cudnn-frontend). So the backend's functions go to the library that PyTorch
// brings: handles are left out, and the device is added as an engine, its heuristics or a plan is finalised. Running a plan
// does nothing. Sizes of batch norm and of recurrent networks are in cudnn_sizes.c, plans of attention in cudnn_attention.c.
#define _GNU_SOURCE
#include "cudnn_attention.h"
#include "vgpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// cudnnBackendAttributeName_t and cudnnBackendAttributeType_t of cuDNN 9.
enum { HEURISTICS_DEVICE = 204, PLAN_DEVICE = 407, ENGINE_DEVICE = 1307, DEVICE_JSON = 2702 };
enum { TYPE_HANDLE = 0, TYPE_DESCRIPTOR = 15, TYPE_CHAR = 24 };
enum { NOT_INITIALIZED = 1001 };
#define FIRST_DEVICELESS 90800

void *real_library(const char *stem);

static void *real(const char *function) {
  static void *library;
  if (!library) library = real_library("cudnn");
  return library ? dlsym(library, function) : NULL;
}

typedef int (*Create)(int, void **);
typedef int (*Set)(void *, int, int, int64_t, const void *);
typedef int (*Get)(void *, int, int, int64_t, int64_t *, void *);
typedef int (*One)(void *);

// --- the library itself ---

API size_t cudnnGetVersion(void) { size_t (*f)(void) = real("cudnnGetVersion"); return f ? f() : 0; }
API size_t cudnnGetCudartVersion(void) { size_t (*f)(void) = real("cudnnGetCudartVersion"); return f ? f() : 0; }
API int cudnnGetProperty(int type, int *value) { int (*f)(int, int *) = real("cudnnGetProperty"); return f ? f(type, value) : NOT_INITIALIZED; }
API const char *cudnnGetErrorString(int status) { const char *(*f)(int) = real("cudnnGetErrorString"); return f ? f(status) : "error of the virtual GPU"; }

// The text of the last error, which the real library forgets as it tells it: kept until PyTorch asks.
static _Thread_local char last_error[1 << 15];
const char *cudnn_last_error(void) {
  void (*f)(char *, size_t) = real("cudnnGetLastErrorString");
  static _Thread_local char newer[sizeof last_error];
  if (f) f(newer, sizeof newer);
  if (f && newer[0]) memcpy(last_error, newer, sizeof newer);
  return last_error;
}

API void cudnnGetLastErrorString(char *text, size_t size) {
  if (size) snprintf(text, size, "%s", cudnn_last_error());
  last_error[0] = 0;
}

typedef struct { void *stream; } Handle;
API int cudnnCreate(Handle **handle) { REFUSABLE(CUDNN_NOT_SUPPORTED); *handle = calloc(1, sizeof **handle); return SUCCESS; }
API int cudnnDestroy(Handle *handle) { REFUSABLE(CUDNN_NOT_SUPPORTED); free(handle); return SUCCESS; }
API int cudnnSetStream(Handle *handle, void *stream) { REFUSABLE(CUDNN_NOT_SUPPORTED); handle->stream = stream; return SUCCESS; }
API int cudnnGetStream(Handle *handle, void **stream) { REFUSABLE(CUDNN_NOT_SUPPORTED); *stream = handle->stream; return SUCCESS; }

// --- the backend ---

static Described *descriptors[4096];  // those that want the device or are of an attention, by address
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static Described **bucket(void *descriptor) { return &descriptors[((uintptr_t)descriptor >> 4) % 4096]; }

static void remember(void *descriptor, int kind) {
  Described *made = calloc(1, sizeof *made);
  pthread_mutex_lock(&lock);
  *made = (Described){.descriptor = descriptor, .kind = kind, .next = *bucket(descriptor)};
  *bucket(descriptor) = made;
  pthread_mutex_unlock(&lock);
}

// Return what is known of a descriptor, or NULL. It stays until the descriptor is destroyed.
Described *described(void *descriptor) {
  pthread_mutex_lock(&lock);
  Described *at = *bucket(descriptor);
  while (at && at->descriptor != descriptor) at = at->next;
  pthread_mutex_unlock(&lock);
  return at;
}

static void forget(void *descriptor) {
  pthread_mutex_lock(&lock);
  for (Described **at = bucket(descriptor); *at; at = &(*at)->next)
    if ((*at)->descriptor == descriptor) {
      Described *found = *at;
      *at = found->next;
      free(found);
      break;
    }
  pthread_mutex_unlock(&lock);
}

// cuDNN's description of the card, made once; NULL if this cuDNN has none.
static void *device(void) {
  static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
  static void *made;
  static int tried;
  pthread_mutex_lock(&once);
  if (!tried) {
    tried = 1;
    Create create = (Create)real("cudnnBackendCreateDescriptor");
    Set set = (Set)real("cudnnBackendSetAttribute");
    One finalize = (One)real("cudnnBackendFinalize");
    if (cudnnGetVersion() < FIRST_DEVICELESS || !facts.cudnn[0] || create(DEVICE_PROPERTIES, &made) ||
        set(made, DEVICE_JSON, TYPE_CHAR, strlen(facts.cudnn), facts.cudnn) || finalize(made))
      made = NULL;
  }
  pthread_mutex_unlock(&once);
  return made;
}

API int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Create create = (Create)real(__func__);
  if (!create || !device()) return refuse(__func__, CUDNN_NOT_SUPPORTED);
  int status = create(kind, descriptor);
  if (!status && is_of_attention(kind)) remember(*descriptor, kind);
  return status;
}

API int cudnnBackendDestroyDescriptor(void *descriptor) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  forget(descriptor);
  return ((One)real(__func__))(descriptor);
}

API int cudnnBackendSetAttribute(void *descriptor, int name, int type, int64_t count, const void *values) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  if (type == TYPE_HANDLE) return SUCCESS;  // ours, which the real library must not see
  int status;
  if (attention_set(descriptor, name, count, values, &status)) return status;
  return ((Set)real(__func__))(descriptor, name, type, count, values);
}

API int cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t wanted, int64_t *count, void *values) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  int status;
  if (attention_get(descriptor, name, wanted, count, values, &status)) return status;
  status = ((Get)real(__func__))(descriptor, name, type, wanted, count, values);
  return attention_after_get(descriptor, name, wanted, count, values, status);
}

API int cudnnBackendFinalize(void *descriptor) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  int status;
  if (attention_finalize(descriptor, &status)) return status;
  Described *known = described(descriptor);
  int name = !known ? 0 : known->kind == ENGINE ? ENGINE_DEVICE : known->kind == EXECUTION_PLAN ? PLAN_DEVICE
             : known->kind == ENGINE_HEURISTICS ? HEURISTICS_DEVICE : 0;
  if (name) {
    void *properties = device();
    status = ((Set)real("cudnnBackendSetAttribute"))(descriptor, name, TYPE_DESCRIPTOR, 1, &properties);
    if (status) return status;
  }
  return attention_after_finalize(descriptor, ((One)real(__func__))(descriptor));
}

API int cudnnBackendExecute(void *handle, void *plan, void *variants) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  return SUCCESS;
}
