// cuBLAS: products are computed on the device, so nothing is done. Workspaces are PyTorch's own: it allocates them before it
// asks (CUDABlas.cpp), and hands them over. Functions that return a value to the host, such as norms, refuse unless they
// write to the device.
#define _GNU_SOURCE
#include "vgpu.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int math_mode, pointer_mode; } Handle;
enum { TO_HOST = 0 };

void *real_library(const char *stem);

#define DONE(name) API int name(void) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return SUCCESS; }
#define VALUE(name) API int name(Handle *handle) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return handle->pointer_mode == TO_HOST ? refuse(#name, CUBLAS_NOT_SUPPORTED) : SUCCESS; }

API int cublasCreate_v2(Handle **handle) { REFUSABLE(CUBLAS_NOT_SUPPORTED); *handle = calloc(1, sizeof **handle); return SUCCESS; }
API int cublasDestroy_v2(Handle *handle) { REFUSABLE(CUBLAS_NOT_SUPPORTED); free(handle); return SUCCESS; }
API int cublasGetMathMode(Handle *handle, int *mode) { REFUSABLE(CUBLAS_NOT_SUPPORTED); *mode = handle->math_mode; return SUCCESS; }
API int cublasSetMathMode(Handle *handle, int mode) { REFUSABLE(CUBLAS_NOT_SUPPORTED); handle->math_mode = mode; return SUCCESS; }
API int cublasGetPointerMode_v2(Handle *handle, int *mode) { REFUSABLE(CUBLAS_NOT_SUPPORTED); *mode = handle->pointer_mode; return SUCCESS; }
API int cublasSetPointerMode_v2(Handle *handle, int mode) { REFUSABLE(CUBLAS_NOT_SUPPORTED); handle->pointer_mode = mode; return SUCCESS; }
API int cublasGetVersion_v2(Handle *handle, int *version) { REFUSABLE(CUBLAS_NOT_SUPPORTED); *version = 130000; return SUCCESS; }
DONE(cublasSetStream_v2) DONE(cublasSetWorkspace_v2) DONE(cublasSetSmCountTarget)

#define TYPES(name) DONE(cublasS##name) DONE(cublasD##name) DONE(cublasC##name) DONE(cublasZ##name)
TYPES(gemm_v2) TYPES(gemmBatched) TYPES(gemmStridedBatched) TYPES(gemv_v2) TYPES(axpy_v2) TYPES(copy_v2) TYPES(scal_v2)
TYPES(swap_v2) TYPES(symm_v2) TYPES(syrk_v2) TYPES(syr2k_v2) TYPES(trmm_v2) TYPES(trmv_v2) TYPES(trsm_v2) TYPES(trsv_v2)
TYPES(trsmBatched) TYPES(getrfBatched) TYPES(symv_v2) TYPES(syr_v2) TYPES(syr2_v2)
DONE(cublasSger_v2) DONE(cublasDger_v2) DONE(cublasCgeru_v2) DONE(cublasCgerc_v2) DONE(cublasZgeru_v2) DONE(cublasZgerc_v2)
DONE(cublasChemm_v2) DONE(cublasZhemm_v2) DONE(cublasChemv_v2) DONE(cublasZhemv_v2) DONE(cublasCherk_v2) DONE(cublasZherk_v2)
DONE(cublasCher_v2) DONE(cublasZher_v2) DONE(cublasCher2_v2) DONE(cublasZher2_v2) DONE(cublasCher2k_v2) DONE(cublasZher2k_v2)
DONE(cublasCsscal_v2) DONE(cublasZdscal_v2) DONE(cublasGemmEx) DONE(cublasSgemmEx) DONE(cublasGemmStridedBatchedEx) DONE(cublasGemmBatchedEx)

VALUE(cublasSdot_v2) VALUE(cublasDdot_v2) VALUE(cublasDotEx) VALUE(cublasCdotu_v2) VALUE(cublasCdotc_v2)
VALUE(cublasZdotu_v2) VALUE(cublasZdotc_v2) VALUE(cublasSnrm2_v2) VALUE(cublasDnrm2_v2) VALUE(cublasScnrm2_v2) VALUE(cublasDznrm2_v2)

// These say in a variable of the host whether their arguments are valid, which they are if PyTorch made them.
static int valid(int *info) { if (info) *info = 0; return SUCCESS; }
#define GETRS(T) API int cublas##T##getrsBatched(void *handle, int trans, int n, int nrhs, const void *const *a, int lda, const int *pivots, void *const *b, int ldb, int *info, int batch) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return valid(info); }
#define GEQRF(T) API int cublas##T##geqrfBatched(void *handle, int m, int n, void *const *a, int lda, void *const *tau, int *info, int batch) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return valid(info); }
GETRS(S) GETRS(D) GETRS(C) GETRS(Z) GEQRF(S) GEQRF(D) GEQRF(C) GEQRF(Z)

// --- cublasLt: descriptors are pure data of the host; the heuristics always have an algorithm ---

API size_t cublasLtGetVersion(void) {
  static size_t (*real)(void);
  void *library = real ? NULL : real_library("cublasLt");
  if (library) real = (size_t (*)(void))dlsym(library, "cublasLtGetVersion");
  return real ? real() : 130000;
}

static int describe(void **descriptor) { *descriptor = calloc(1, 256); return SUCCESS; }
static int discard(void *descriptor) { free(descriptor); return SUCCESS; }
API int cublasLtCreate(void **handle) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return describe(handle); }
API int cublasLtDestroy(void *handle) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return discard(handle); }
API int cublasLtMatmulDescCreate(void **descriptor, int compute, int scale) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return describe(descriptor); }
API int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns, int64_t stride) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return describe(layout); }
API int cublasLtMatmulPreferenceCreate(void **preference) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return describe(preference); }
API int cublasLtMatmulDescDestroy(void *descriptor) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return discard(descriptor); }
API int cublasLtMatrixLayoutDestroy(void *layout) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return discard(layout); }
API int cublasLtMatmulPreferenceDestroy(void *preference) { REFUSABLE(CUBLAS_NOT_SUPPORTED); return discard(preference); }
DONE(cublasLtMatmulDescSetAttribute) DONE(cublasLtMatrixLayoutSetAttribute) DONE(cublasLtMatmulPreferenceSetAttribute)
DONE(cublasLtMatmul)

// cublasLtMatmulHeuristicResult_t of the documentation: algorithm, workspace, state, waves. The first algorithm needs no
// workspace of its own: PyTorch has allocated what it allows (at::cuda::getCUDABlasLtWorkspaceSize) before it asks.
typedef struct { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; } Heuristic;

API int cublasLtMatmulAlgoGetHeuristic(
    void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference, int wanted, Heuristic *results, int *found) {
  REFUSABLE(CUBLAS_NOT_SUPPORTED);
  memset(results, 0, sizeof *results);
  *found = 1;
  return SUCCESS;
}
