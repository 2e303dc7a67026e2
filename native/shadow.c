// What is known of the contents of device memory, and who reads what cannot be known.
//
// Kernels compute nothing. Small copies from the host are kept (sizes, seeds, flags, metadata of collectives), and are given
// back if the host reads them. A kernel whose arguments may contain the address of such a copy may have changed it: from
// then on, a single value is no longer known, and a longer copy is given back as it was. Everything else reads as zeros.
// Each read of a value that only a kernel could have computed is reported to a callback, which finds the user's line.
#define _GNU_SOURCE
#include "memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 65536  // bytes of a copy that is kept
#define MOST 4096      // copies that are kept
#define SINGLE 8       // bytes of a single value

enum { TO_DEVICE = 1, TO_HOST = 2, ON_DEVICE = 3, BY_ADDRESS = 4 };
enum { KNOWN = 0, KEPT = 1, COMPUTED = 2, SIZE = 3, MOST_POSSIBLE = 4 };

typedef struct {
  const char *start;
  size_t size;
  char *bytes;
  int is_touched;
} Copy;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Copy copies[MOST];  // by address, without overlaps
static size_t num_copies;
static void (*on_read)(size_t size, int kind);
static __thread const char *last_kernel = "";
static __thread uint64_t assumed_size;

// Call `callback(bytes, kind)` as the host reads device memory: kind 1 if a kernel may have changed what the host had
// copied there, 2 if only a kernel could have computed it, 3 if that is the size of a tensor, 4 if it is one and the caller
// has said the largest. NULL ends it.
API void vgpu_on_read(void (*callback)(size_t, int)) { on_read = callback; }

// Answer reads of this thread that ask for the size of a tensor by `size`, the largest that is possible; 0 ends it.
API void vgpu_assume_size(uint64_t size) { assumed_size = size; }

void note_kernel(const char *name) { last_kernel = name; }

// The index of the first copy that ends above an address. The lock is held.
static size_t first_above(const char *p) {
  size_t low = 0, high = num_copies;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (copies[middle].start + copies[middle].size <= p) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Forget every copy that overlaps; what is left of it at the sides goes too. The lock is held.
static void drop(const char *start, size_t size) {
  size_t i = first_above(start), end = i;
  while (end < num_copies && copies[end].start < start + size) free(copies[end++].bytes);
  memmove(copies + i, copies + end, (num_copies - end) * sizeof *copies);
  num_copies -= end - i;
}

void forget(const void *p, size_t size) {
  pthread_mutex_lock(&lock);
  drop(p, size);
  pthread_mutex_unlock(&lock);
}

static void keep(const char *start, const void *bytes, size_t size) {
  pthread_mutex_lock(&lock);
  size_t i = first_above(start);
  if (i < num_copies && copies[i].start == start && copies[i].size == size) {
    memcpy(copies[i].bytes, bytes, size);
    copies[i].is_touched = 0;
  } else {
    drop(start, size);
    if (size && size <= LONGEST && num_copies < MOST) {
      i = first_above(start);
      memmove(copies + i + 1, copies + i, (num_copies - i) * sizeof *copies);
      copies[i] = (Copy){start, size, malloc(size), 0};
      memcpy(copies[i].bytes, bytes, size);
      num_copies++;
    }
  }
  pthread_mutex_unlock(&lock);
}

// Whether a value of one byte, a boolean, is true. The name of the kernel that ran last says what it asked: the products of
// booleans in isfinite and the reductions in all() are as in a training that goes well, and all else is false: any(),
// isnan(), isinf(), comparisons.
static int boolean(void) {
  return strstr(last_kernel, "and_kernel") || strstr(last_kernel, "AndOp") || strstr(last_kernel, "MulFunctor") ||
         strstr(last_kernel, "logical_and");
}

// Whether a single value is how many elements nonzero, a boolean mask, unique or coalesce found: PyTorch counts them with
// kernels of CUB and Thrust, and allocates as many.
static int is_size(size_t size) {
  return (size == 4 || size == 8) && (strstr(last_kernel, "3cub") || strstr(last_kernel, "cuda_cub"));
}

// Read device memory as the host sees it; return how much of it is known.
static int recall(void *to, const char *from, size_t size) {
  int kind = KNOWN;
  size_t covered = 0;
  if (size != 1) memset(to, 0, size);
  pthread_mutex_lock(&lock);
  for (size_t i = first_above(from); i < num_copies && copies[i].start < from + size; i++) {
    const char *start = copies[i].start > from ? copies[i].start : from;
    const char *end = copies[i].start + copies[i].size < from + size ? copies[i].start + copies[i].size : from + size;
    if (copies[i].is_touched && size <= SINGLE) continue;
    if (copies[i].is_touched) kind = KEPT;
    memcpy((char *)to + (start - from), copies[i].bytes + (start - copies[i].start), end - start);
    covered += end - start;
  }
  pthread_mutex_unlock(&lock);
  if (covered == size) return kind;
  if (size == 1) *(char *)to = (char)boolean();
  if (!is_size(size)) return COMPUTED;
  memcpy(to, &assumed_size, size);  // the low bytes come first
  return assumed_size ? MOST_POSSIBLE : SIZE;
}

// Copy as cudaMemcpy does, as far as the contents are known.
void copy_bytes(void *to, const void *from, size_t size, int kind) {
  int on_device = is_device_address(to), from_device = is_device_address(from);
  if (!size || (kind == BY_ADDRESS && !on_device && !from_device && to == from)) return;
  if (!on_device && !from_device) memmove(to, from, size);
  else if (!from_device) keep(to, from, size);
  else if (on_device) {
    if (size > LONGEST) forget(to, size);
    else {
      char *bytes = malloc(size);
      if (recall(bytes, from, size) <= KEPT) keep(to, bytes, size);
      else forget(to, size);
      free(bytes);
    }
  } else {
    int known = recall(to, from, size);
    if (known != KNOWN && on_read) on_read(size, known);
  }
}

static const char *end_of_stack(void) {
  pthread_attr_t attributes;
  void *start = NULL;
  size_t size = 0;
  if (!pthread_getattr_np(pthread_self(), &attributes)) {
    pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_destroy(&attributes);
  }
  return (char *)start + size;
}

// Mark the copies whose address lies in the part of the stack where a kernel's arguments are. Some of what lies there is
// older than the launch: then a value counts as changed that is not.
void look_for_arguments(const void *stack) {
  enum { WORDS = 768 };
  static __thread const char *end;
  if (!num_copies) return;
  if (!end) end = end_of_stack();
  pthread_mutex_lock(&lock);
  const char *const *word = stack;
  for (int n = 0; n < WORDS && (const char *)(word + n + 1) <= end; n++) {
    if (!is_device_address(word[n])) continue;
    size_t i = first_above(word[n]);
    // The address of a tensor is the start of its storage or lies inside it.
    if (i < num_copies && copies[i].start <= word[n]) copies[i].is_touched = 1;
  }
  pthread_mutex_unlock(&lock);
}

// --- the runtime's copies ---

API int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  copy_bytes(to, from, size, kind);
  return SUCCESS;
}

API int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  copy_bytes(to, from, size, kind);
  return SUCCESS;
}

API int cudaMemcpyPeerAsync(void *to, int device, const void *from, int other, size_t size, void *stream) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  copy_bytes(to, from, size, ON_DEVICE);
  return SUCCESS;
}

API int cudaMemcpy2DAsync(
    void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, int kind, void *stream) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  for (size_t row = 0; row < height; row++)
    copy_bytes((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width, kind);
  return SUCCESS;
}

// A constant of kernels: nothing reads it.
API int cudaMemcpyToSymbol(const void *symbol, const void *from, size_t size, size_t offset, int kind) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

API int cudaMemset(void *p, int value, size_t size) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  if (size > LONGEST) {
    forget(p, size);
    return SUCCESS;
  }
  char *bytes = malloc(size + 1);
  memset(bytes, value, size);
  keep(p, bytes, size);
  free(bytes);
  return SUCCESS;
}

API int cudaMemsetAsync(void *p, int value, size_t size, void *stream) { REFUSABLE(CUDA_NOT_SUPPORTED); return cudaMemset(p, value, size); }
