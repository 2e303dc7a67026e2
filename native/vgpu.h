// What the files of the virtual GPU share. No NVIDIA header is needed: the declarations here and in the files are our own,
// after the public documentation of CUDA, cuDNN, cuBLAS and NCCL.
#ifndef VGPU_H
#define VGPU_H

#include <stddef.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))

// Statuses that mean "not supported", by library.
enum {
  SUCCESS = 0,
  CUDA_INVALID_VALUE = 1,
  CUDA_OUT_OF_MEMORY = 2,
  CUDA_NOT_SUPPORTED = 801,
  CUBLAS_NOT_SUPPORTED = 15,
  CUDNN_NOT_SUPPORTED = 3000,
  CUSOLVER_NOT_SUPPORTED = 9,
  CUSPARSE_NOT_SUPPORTED = 10,
  CUFFT_NOT_SUPPORTED = 16,
  NCCL_INVALID_USAGE = 5,
};

// Facts of the card, read once from the environment variable VRAM_VIRTUAL_GPU: lines of "key=value" (facts.c).
typedef struct {
  char name[256];
  char cudnn[4096];  // cuDNN's JSON of the device
  size_t memory;     // bytes that the driver reports
  size_t context;    // bytes of it that are in use before the first allocation
  int count;         // GPUs
  int major, minor;  // compute capability
  int multiprocessors, threads_per_multiprocessor, blocks_per_multiprocessor;
  int registers_per_multiprocessor;
  int shared_per_multiprocessor, shared_per_block_optin, reserved_shared_per_block;
  int l2, clock_khz, memory_clock_khz, bus_width;
} Facts;
extern Facts facts;

// Record that a function refuses, and print nothing: vram reads the names (refusals.c). Returns `status`.
int refuse(const char *function, int status);

// Whether a name is in VRAM_VIRTUAL_GPU's refuse=NAME,NAME line, or was given to vgpu_refuse.
int is_refused(const char *function);
#define REFUSABLE(status) \
  do { if (is_refused(__func__)) return refuse(__func__, status); } while (0)

#endif
