// Kernels: registered, launched, and computing nothing. The limits of a launch are the card's, with the card's errors.
#define _GNU_SOURCE
#include "memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned x, y, z; } Dim3;
typedef struct { Dim3 grid, block; size_t shared; void *stream; } Config;
typedef struct { const void *binary; } Module;  // what __cudaRegisterFatBinary was given
typedef struct { const void *function; const char *name; const Module *module; } Kernel;

enum { INVALID_CONFIGURATION = 9 };

void set_last_error(int error);

// --- registration: the name of each kernel, for the error of a launch and for what a boolean asks (shadow.c) ---

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Kernel *kernels;  // a hash table
static size_t num_kernels, room;

static size_t slot_of(const Kernel *table, size_t size, const void *function) {
  size_t i = ((uintptr_t)function >> 4) * 0x9E3779B97F4A7C15u & (size - 1);
  while (table[i].function && table[i].function != function) i = (i + 1) & (size - 1);
  return i;
}

static void grow(void) {
  size_t larger = room ? 2 * room : 1 << 16;
  Kernel *table = calloc(larger, sizeof *table);
  for (size_t i = 0; i < room; i++)
    if (kernels[i].function) table[slot_of(table, larger, kernels[i].function)] = kernels[i];
  free(kernels);
  kernels = table;
  room = larger;
}

static Kernel kernel_of(const void *function) {
  Kernel unknown = {function, "", NULL};
  if (!room) return unknown;
  Kernel kernel = kernels[slot_of(kernels, room, function)];
  return kernel.function && kernel.name ? kernel : unknown;
}

API void __cudaRegisterFunction(
    void **module, const char *function, char *device_name, const char *name, int threads, void *thread_index,
    void *block_index, void *block, void *grid, int *warp) {
  pthread_mutex_lock(&lock);
  if (2 * (num_kernels + 1) > room) grow();
  Kernel *kernel = &kernels[slot_of(kernels, room, function)];
  if (!kernel->function) num_kernels++;
  *kernel = (Kernel){function, name, (const Module *)module};
  pthread_mutex_unlock(&lock);
}

API void **__cudaRegisterFatBinary(void *binary) {
  Module *module = malloc(sizeof *module);
  module->binary = binary;
  return (void **)module;
}
API void __cudaRegisterFatBinaryEnd(void **module) {}
API void __cudaUnregisterFatBinary(void **module) {}
API void __cudaRegisterVar(
    void **module, char *variable, char *address, const char *name, int external, size_t size, int constant, int global) {}
API int __cudaInitModule(void **module) { return SUCCESS; }
API int __cudaGetKernel(void **kernel, const void *function) {
  *kernel = (void *)function;
  return SUCCESS;
}

// --- launches ---

static __thread Config configs[64];
static __thread int num_configs;

API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void *stream) {
  if (num_configs == 64) return CUDA_INVALID_VALUE;
  configs[num_configs++] = (Config){grid, block, shared, stream};
  return SUCCESS;
}

API int __cudaPopCallConfiguration(Dim3 *grid, Dim3 *block, size_t *shared, void *stream) {
  if (!num_configs) return CUDA_INVALID_VALUE;
  Config config = configs[--num_configs];
  *grid = config.grid;
  *block = config.block;
  *shared = config.shared;
  *(void **)stream = config.stream;
  return SUCCESS;
}

// Limits of CUDA since compute capability 3.0 (CUDA C++ Programming Guide, technical specifications).
static int launch(const void *function, Dim3 grid, Dim3 block, size_t shared, const void *stack) {
  uint64_t threads = (uint64_t)block.x * block.y * block.z;
  int fits = grid.x && grid.y && grid.z && threads && grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535 &&
             block.x <= 1024 && block.y <= 1024 && block.z <= 64 && threads <= 1024;
  if (!fits || shared > (size_t)(facts.shared_per_block_optin > 49152 ? facts.shared_per_block_optin : 49152)) {
    set_last_error(INVALID_CONFIGURATION);
    return INVALID_CONFIGURATION;
  }
  note_kernel(kernel_of(function).name);
  look_for_arguments(stack);
  return SUCCESS;
}

#define STACK __builtin_frame_address(0)

API int cudaLaunchKernel(const void *function, Dim3 grid, Dim3 block, void **arguments, size_t shared, void *stream) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return launch(function, grid, block, shared, STACK);
}

API int __cudaLaunchKernel(const void *kernel, Dim3 grid, Dim3 block, void **arguments, size_t shared, void *stream) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return launch(kernel, grid, block, shared, STACK);
}

API int cudaLaunchCooperativeKernel(
    const void *function, Dim3 grid, Dim3 block, void **arguments, size_t shared, void *stream) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return launch(function, grid, block, shared, STACK);
}

API int cudaLaunchKernelExC(const Config *config, const void *function, void **arguments) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return launch(function, config->grid, config->block, config->shared, STACK);
}

// --- what kernels are like: their registers are in the binaries, which only a driver reads; 32 is an assumption ---

// The headers of a fat binary and of the code for each architecture in it, as tools that read them describe them
// (such as VivekPanyam/cudaparsers). Only these members are read.
typedef struct { uint32_t magic, version; const uint8_t *data; void *file; } Wrapper;
typedef struct { uint32_t magic; uint16_t version, header_size; uint64_t size; } Binary;
typedef struct {
  uint16_t kind, version;
  uint32_t header_size;
  uint64_t size;
  uint32_t compressed_size, options;
  uint16_t minor, major;
  uint32_t architecture;  // such as 86
} Code;
enum { WRAPPER_MAGIC = 0x466243b1, BINARY_MAGIC = 0xBA55ED50, PTX = 1, CUBIN = 2 };

// The architecture whose code a driver would run on this card: the newest binary of its generation, else the newest PTX.
// CUB asks for it, to choose its tile sizes. The card's own if the binary cannot be read.
static int architecture_of(const Module *module) {
  int card = 10 * facts.major + facts.minor, cubin = 0, ptx = 0;
  const Wrapper *wrapper = module ? module->binary : NULL;
  if (!wrapper || wrapper->magic != WRAPPER_MAGIC) return card;
  const Binary *binary = (const Binary *)wrapper->data;
  if (binary->magic != BINARY_MAGIC) return card;
  const uint8_t *at = wrapper->data + binary->header_size, *end = at + binary->size;
  while (at + sizeof(Code) <= end) {
    const Code *code = (const Code *)at;
    int architecture = (int)code->architecture;
    if (code->kind == CUBIN && architecture / 10 == facts.major && architecture <= card && architecture > cubin)
      cubin = architecture;
    if (code->kind == PTX && architecture <= card && architecture > ptx) ptx = architecture;
    if (!code->header_size) break;
    at += code->header_size + code->size;
  }
  return cubin ? cubin : ptx ? ptx : card;
}

typedef struct {
  size_t shared, constant, local;
  int threads, registers, ptx, binary, cache_mode, dynamic_shared, carveout;
} FunctionAttributes;  // the members that all versions have

API int cudaFuncGetAttributes(FunctionAttributes *attributes, const void *function) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  int version = architecture_of(kernel_of(function).module);
  *attributes = (FunctionAttributes){0, 0, 0, 1024, 32, version, version, 0, facts.shared_per_block_optin, -1};
  return SUCCESS;
}

API int cudaFuncSetAttribute(const void *function, int attribute, int value) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return SUCCESS;
}

API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *blocks, const void *function, int threads, size_t shared, unsigned flags) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  int by_threads = threads > 0 ? facts.threads_per_multiprocessor / ((threads + 31) & ~31) : 1;
  size_t each = shared + facts.reserved_shared_per_block;
  int by_shared = each ? (int)(facts.shared_per_multiprocessor / each) : by_threads;
  *blocks = facts.blocks_per_multiprocessor;
  if (by_threads < *blocks) *blocks = by_threads;
  if (by_shared < *blocks) *blocks = by_shared;
  return SUCCESS;
}

API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t shared) {
  REFUSABLE(CUDA_NOT_SUPPORTED);
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

// A variable of the device: PyTorch reads none of those that its own code asks for.
API int cudaGetSymbolAddress(void **p, const void *symbol) {
  static char variables[1 << 20];
  REFUSABLE(CUDA_NOT_SUPPORTED);
  *p = variables;
  return SUCCESS;
}
