// cuFFT: plans with the size of their work area; execution computes on the device only.
//
// Work areas are modelled after 12 transforms on an H200 (cuFFT of CUDA 13.0; benchmarks/results/2026-11-27-h200/
// operations.json.gz): 0 for lengths 64, 400, 1000, 1021 (prime) and 4096 and for 224 x 224; the complex data once more for
// 100,000. Where several kernels begin between 4,096 and 100,000 was not measured: there one more buffer is given, an upper
// bound for smooth lengths. What nothing measured bears on is refused.
#include <stdbool.h>
#include <stdlib.h>

#include "vgpu.h"

enum { REAL_SINGLE = 0, REAL_DOUBLE = 1, COMPLEX_SINGLE = 4, COMPLEX_DOUBLE = 5 };  // cudaDataType
enum { ONE_KERNEL = 4096 };                                                         // longest single pass that was measured

// Whether the length is a product of small primes, which cuFFT's documentation names as its fast sizes (2, 3, 5, 7).
static bool smooth(long long n) {
  static const int primes[] = {2, 3, 5, 7, 11, 13};
  for (int i = 0; i < 6; i++)
    while (n % primes[i] == 0) n /= primes[i];
  return n == 1;
}

// Bytes of the work area; a negative number for what is unknown.
static long long work_area(int rank, const long long *sizes, int in, int out, long long batch) {
  bool twice = in == REAL_DOUBLE || in == COMPLEX_DOUBLE;
  bool real = in == REAL_SINGLE || in == REAL_DOUBLE || out == REAL_SINGLE || out == REAL_DOUBLE;
  long long complex = twice ? 16 : 8, longest = twice ? ONE_KERNEL / 2 : ONE_KERNEL, last = sizes[rank - 1];
  if (rank > 1) {
    for (int i = 0; i < rank; i++)
      if (!smooth(sizes[i]) || sizes[i] > longest) return -1;
    return real && last % 2 ? -1 : 0;
  }
  // Chirps of at least twice the length must still fit in one kernel.
  if (!smooth(last) && 2 * last > longest) return -1;
  // Odd real lengths go through complex ones: 16 of 1,021 took 130,880 bytes. The formula gives that one measured value.
  if (real && last % 2) return last > longest ? -1 : batch * (complex / 2 * last + complex * ((last + 3) / 2));
  if (last <= longest) return 0;
  return batch * complex * (real ? last / 2 + 1 : last);
}

API int cufftCreate(int *plan) {
  REFUSABLE(CUFFT_NOT_SUPPORTED);
  static int plans;
  *plan = __atomic_add_fetch(&plans, 1, __ATOMIC_RELAXED);
  return SUCCESS;
}

API int cufftXtMakePlanMany(int plan, int rank, long long *sizes, long long *in_embed, long long in_stride,
                            long long in_distance, int in, long long *out_embed, long long out_stride, long long out_distance,
                            int out, long long batch, size_t *bytes, int execution) {
  REFUSABLE(CUFFT_NOT_SUPPORTED);
  bool known = in == REAL_SINGLE || in == REAL_DOUBLE || in == COMPLEX_SINGLE || in == COMPLEX_DOUBLE;  // not half
  long long area = known && rank >= 1 && rank <= 3 ? work_area(rank, sizes, in, out, batch) : -1;
  if (area < 0) return refuse(__func__, CUFFT_NOT_SUPPORTED);
  *bytes = area;
  return SUCCESS;
}

// Functions without a result on the host.
#define SUCCEEDS(name)                                                        \
  API int name(void) {                                                        \
    REFUSABLE(CUFFT_NOT_SUPPORTED);                                           \
    return SUCCESS;                                                           \
  }
SUCCEEDS(cufftDestroy)
SUCCEEDS(cufftSetAutoAllocation)
SUCCEEDS(cufftSetStream)
SUCCEEDS(cufftSetWorkArea)
SUCCEEDS(cufftXtExec)
