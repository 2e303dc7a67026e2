// Whatever PyTorch imports and no other file answers: a function that refuses and says its name. A generic success would be
// a wrong number. The list is the union over the supported versions of PyTorch (refusals.h, made by list_imports.py); the
// definitions here are weak, so that a file that answers a function replaces its refusal.
#include "vgpu.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static char names[1 << 14];
static void (*on_refusal)(const char *function);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int refuse(const char *function, int status) {
  char line[256];
  snprintf(line, sizeof line, "%s\n", function);
  pthread_mutex_lock(&lock);
  int is_new = !strstr(names, line);
  if (is_new && strlen(names) + strlen(line) < sizeof names) strcat(names, line);
  pthread_mutex_unlock(&lock);
  // For vram, if the caller ends the process because of it.
  if (is_new) fprintf(stderr, "virtual GPU: %s is not answered\n", function);
  if (is_new && on_refusal) on_refusal(function);
  return status;
}

// Call `callback(function)` as a function refuses for the first time, in the thread that called it. NULL ends it.
API void vgpu_on_refusal(void (*callback)(const char *)) { on_refusal = callback; }

// The names of the functions that refused so far, one a line.
API const char *vgpu_refusals(void) { return names; }

API void vgpu_forget_refusals(void) {
  pthread_mutex_lock(&lock);
  names[0] = 0;
  pthread_mutex_unlock(&lock);
}

void set_last_error(int error);

#define CUDA(name) API __attribute__((weak)) int name(void) { set_last_error(CUDA_NOT_SUPPORTED); return refuse(#name, CUDA_NOT_SUPPORTED); }
#define DRIVER(name) API __attribute__((weak)) int name(void) { return refuse(#name, CUDA_NOT_SUPPORTED); }
#define CUBLAS(name) API __attribute__((weak)) int name(void) { return refuse(#name, CUBLAS_NOT_SUPPORTED); }
#define CUDNN(name) API __attribute__((weak)) int name(void) { return refuse(#name, CUDNN_NOT_SUPPORTED); }
#define CUSOLVER(name) API __attribute__((weak)) int name(void) { return refuse(#name, CUSOLVER_NOT_SUPPORTED); }
#define CUSPARSE(name) API __attribute__((weak)) int name(void) { return refuse(#name, CUSPARSE_NOT_SUPPORTED); }
#define CUFFT(name) API __attribute__((weak)) int name(void) { return refuse(#name, CUFFT_NOT_SUPPORTED); }
#define NCCL(name) API __attribute__((weak)) int name(void) { return refuse(#name, NCCL_INVALID_USAGE); }
#include "refusals.h"
