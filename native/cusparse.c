// cuSPARSE: handles, descriptors, and products of a sparse and a dense matrix. All else is left to the refusals: products of
// two sparse matrices and pivots have results on the host, and other workspaces were not measured.
#include <stdlib.h>

#include "vgpu.h"

#define SUCCEEDS(name)                                                        \
  API int name(void) {                                                        \
    REFUSABLE(CUSPARSE_NOT_SUPPORTED);                                        \
    return SUCCESS;                                                           \
  }
// A small object of no content behind the first argument.
#define CREATES(name)                                                         \
  API int name(void **object) {                                               \
    REFUSABLE(CUSPARSE_NOT_SUPPORTED);                                        \
    *object = calloc(1, 64);                                                  \
    return SUCCESS;                                                           \
  }
#define DESTROYS(name)                                                        \
  API int name(void *object) {                                                \
    REFUSABLE(CUSPARSE_NOT_SUPPORTED);                                        \
    free(object);                                                             \
    return SUCCESS;                                                           \
  }

CREATES(cusparseCreate)
DESTROYS(cusparseDestroy)
SUCCEEDS(cusparseSetStream)
SUCCEEDS(cusparseSetPointerMode)
CREATES(cusparseCreateMatDescr)
DESTROYS(cusparseDestroyMatDescr)
SUCCEEDS(cusparseSetMatType)
SUCCEEDS(cusparseSetMatIndexBase)
SUCCEEDS(cusparseSetMatDiagType)
SUCCEEDS(cusparseSetMatFillMode)
CREATES(cusparseCreateDnMat)
CREATES(cusparseCreateDnVec)
DESTROYS(cusparseDestroyDnMat)
DESTROYS(cusparseDestroyDnVec)
SUCCEEDS(cusparseDnMatSetStridedBatch)

typedef struct {
  int rows_compressed;  // CSR, not coordinates
} Sparse;

static int create_sparse(void **matrix, int rows_compressed) {
  Sparse *made = calloc(1, 64);
  if (made) made->rows_compressed = rows_compressed;
  *matrix = made;
  return SUCCESS;
}

API int cusparseCreateCsr(void **matrix) {
  REFUSABLE(CUSPARSE_NOT_SUPPORTED);
  return create_sparse(matrix, 1);
}

API int cusparseCreateCoo(void **matrix) {
  REFUSABLE(CUSPARSE_NOT_SUPPORTED);
  return create_sparse(matrix, 0);
}

DESTROYS(cusparseDestroySpMat)
SUCCEEDS(cusparseCsrSetStridedBatch)
SUCCEEDS(cusparseCsrSetPointers)

API const char *cusparseGetErrorString(int status) { return status ? "cuSPARSE does not do this on a virtual GPU" : "success"; }

// 23 bytes for 1,000 x 1,000 with 1,000 values times 64 columns, on an H200 (operations.json.gz, sparse.mm). Were it to grow
// with the values or rows, it would stay under 0.2 % of the matrix; so 23 is given for every CSR product.
API int cusparseSpMM_bufferSize(void *handle, int a_way, int b_way, const void *alpha, const void *a, const void *b,
                                const void *beta, void *c, int compute, int algorithm, size_t *bytes) {
  REFUSABLE(CUSPARSE_NOT_SUPPORTED);
  const Sparse *sparse = a;
  if (!sparse || !sparse->rows_compressed) return refuse(__func__, CUSPARSE_NOT_SUPPORTED);
  *bytes = 23;
  return SUCCESS;
}

SUCCEEDS(cusparseSpMM)
