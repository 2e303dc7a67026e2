// cuSOLVER: workspaces of the decompositions of one square single-precision matrix; the computation does nothing.
//
// Sizes are fitted to torch.linalg on an H200 (benchmarks/results/2026-11-27-h200/operations.json.gz) with n = 16, 200 and
// 1000. Between these points they are estimates, small beside the matrices except for eigh and svd. Other types, shapes,
// batches and routines (syevj, gesvd, gesvda, sytrf, ormqr, geev) were not measured: their names are left to the refusals.
#include <stdlib.h>

#include "vgpu.h"

enum { REAL_SINGLE = 0 };  // cudaDataType

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t blocks(int64_t n, int64_t each) { return (n + each - 1) / each; }

// Between two measured points on a line, and on along it.
static int64_t line(int64_t n, int64_t n1, int64_t y1, int64_t n2, int64_t y2) { return y1 + (n - n1) * (y2 - y1) / (n2 - n1); }

// Handles and parameters: small objects of no content.
#define OBJECT(create, destroy)                                               \
  API int create(void **object) {                                             \
    REFUSABLE(CUSOLVER_NOT_SUPPORTED);                                        \
    *object = calloc(1, 64);                                                  \
    return SUCCESS;                                                           \
  }                                                                           \
  API int destroy(void *object) {                                             \
    REFUSABLE(CUSOLVER_NOT_SUPPORTED);                                        \
    free(object);                                                             \
    return SUCCESS;                                                           \
  }
OBJECT(cusolverDnCreate, cusolverDnDestroy)
OBJECT(cusolverDnCreateParams, cusolverDnDestroyParams)
OBJECT(cusolverDnCreateGesvdjInfo, cusolverDnDestroyGesvdjInfo)
OBJECT(cusolverDnCreateSyevjInfo, cusolverDnDestroySyevjInfo)  // until torch 2.11

// Cholesky: 160, 352 and 4,224 bytes, all three equal.
API int cusolverDnXpotrf_bufferSize(void *handle, void *parameters, int triangle, int64_t n, int type, const void *a,
                                    int64_t stride, int compute, size_t *device, size_t *host) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  if (type != REAL_SINGLE) return refuse(__func__, CUSOLVER_NOT_SUPPORTED);
  *device = 128 + blocks(n, 256) * 32 * blocks(n, 32);
  *host = 0;
  return SUCCESS;
}

// LU (inv, solve): 192, 1,024 and 3,136 values, on lines through them; at most some 13 n bytes.
API int cusolverDnSgetrf_bufferSize(void *handle, int m, int n, float *a, int stride, int *values) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  int size = m > n ? m : n;
  *values = (int)larger(192, size < 200 ? line(size, 16, 192, 200, 1024) : line(size, 200, 1024, 1000, 3136));
  return SUCCESS;
}

// QR: 3,145,856 bytes for 16 and 200, 6,193,280 for 1000, all three equal.
API int cusolverDnXgeqrf_bufferSize(void *handle, void *parameters, int64_t m, int64_t n, int type, const void *a,
                                    int64_t stride, int tau_type, const void *tau, int compute, size_t *device,
                                    size_t *host) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  if (type != REAL_SINGLE) return refuse(__func__, CUSOLVER_NOT_SUPPORTED);
  *device = 128 + 98304 * larger(32, blocks(larger(m, n), 16));
  *host = 0;
  return SUCCESS;
}

// Q of a QR: 33,280, 93,440 and 400,640 values, all three equal.
API int cusolverDnSorgqr_bufferSize(void *handle, int m, int n, int k, const float *a, int stride, const float *tau,
                                    int *values) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  *values = (int)(16640 + larger(384 * (int64_t)larger(m, n), 16640));
  return SUCCESS;
}

// Eigenvalues and -vectors of a symmetric matrix: 314,636 bytes for 16 and 16,640,076 for 1000; the square's share, 16 bytes
// a value, is a guess that leaves little at both points. Eigenvalues alone were not measured.
API int cusolverDnXsyevd_bufferSize(void *handle, void *parameters, int vectors, int triangle, int64_t n, int type,
                                    const void *a, int64_t stride, int values_type, const void *values, int compute,
                                    size_t *device, size_t *host) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  if (type != REAL_SINGLE || !vectors) return refuse(__func__, CUSOLVER_NOT_SUPPORTED);
  *device = 16 * n * n + line(n, 16, 314636 - 16 * 16 * 16, 1000, 16640076 - 16 * 1000 * 1000);
  *host = 0;
  return SUCCESS;
}

// Jacobi SVD: 95,776 values for 200 and 2,071,712 for 1000: twice the square, and a rest on a line through both.
API int cusolverDnSgesvdj_bufferSize(void *handle, int vectors, int economic, int m, int n, const float *a, int stride,
                                     const float *s, const float *u, int u_stride, const float *v, int v_stride, int *values,
                                     void *parameters) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  if (m != n) return refuse(__func__, CUSOLVER_NOT_SUPPORTED);
  *values = (int)(2 * (int64_t)n * n + larger(0, line(n, 200, 15776, 1000, 71712)));
  return SUCCESS;
}

// The batched form, which PyTorch takes up to 32 x 32: 992 values for one of 16 x 16, the only one measured, in proportion
// to the square (16 KB at most).
API int cusolverDnSgesvdjBatched_bufferSize(void *handle, int vectors, int m, int n, const float *a, int stride,
                                            const float *s, const float *u, int u_stride, const float *v, int v_stride,
                                            int *values, void *parameters, int batch) {
  REFUSABLE(CUSOLVER_NOT_SUPPORTED);
  if (m != n || batch != 1) return refuse(__func__, CUSOLVER_NOT_SUPPORTED);
  *values = 992 * n * n / 256;
  return SUCCESS;
}

// Functions whose results lie on the device, status included: it reads as 0, success.
#define SUCCEEDS(name)                                                        \
  API int name(void) {                                                        \
    REFUSABLE(CUSOLVER_NOT_SUPPORTED);                                        \
    return SUCCESS;                                                           \
  }
SUCCEEDS(cusolverDnSetStream)
SUCCEEDS(cusolverDnXgesvdjSetTolerance)
SUCCEEDS(cusolverDnXgesvdjSetMaxSweeps)
SUCCEEDS(cusolverDnXgesvdjSetSortEig)
SUCCEEDS(cusolverDnXpotrf)
SUCCEEDS(cusolverDnXpotrs)
SUCCEEDS(cusolverDnSgetrf)
SUCCEEDS(cusolverDnXgeqrf)
SUCCEEDS(cusolverDnSorgqr)
SUCCEEDS(cusolverDnXsyevd)
SUCCEEDS(cusolverDnSgesvdj)
SUCCEEDS(cusolverDnSgesvdjBatched)
// These take no workspace, in any type.
#define FOUR_TYPES(name)                                                      \
  SUCCEEDS(cusolverDnS##name) SUCCEEDS(cusolverDnD##name)                     \
  SUCCEEDS(cusolverDnC##name) SUCCEEDS(cusolverDnZ##name)
FOUR_TYPES(getrs)
FOUR_TYPES(potrs)
FOUR_TYPES(potrfBatched)
FOUR_TYPES(potrsBatched)
