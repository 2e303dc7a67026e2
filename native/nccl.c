// NCCL: this process is one rank of a group whose others do not exist. Collectives take what PyTorch gives them and compute
// nothing; what is known of small buffers is passed on as if every rank held what this one does.
#include "memory.h"

#include <stdlib.h>
#include <string.h>

typedef struct { int ranks, rank; } Communicator;
typedef struct { char internal[128]; } UniqueId;
enum { ON_DEVICE = 3 };

int cudaMalloc(void **p, size_t size);
int cudaFree(void *p);

static int communicator(void **out, int ranks, int rank) {
  Communicator *made = malloc(sizeof *made);
  *made = (Communicator){ranks, rank};
  *out = made;
  return SUCCESS;
}

API int ncclGetVersion(int *version) { REFUSABLE(NCCL_INVALID_USAGE); *version = 22809; return SUCCESS; }
API int ncclGetUniqueId(UniqueId *id) { REFUSABLE(NCCL_INVALID_USAGE); memset(id, 7, sizeof *id); return SUCCESS; }
API int ncclCommInitRank(void **out, int ranks, UniqueId id, int rank) { REFUSABLE(NCCL_INVALID_USAGE); return communicator(out, ranks, rank); }
API int ncclCommInitRankConfig(void **out, int ranks, UniqueId id, int rank, void *config) { REFUSABLE(NCCL_INVALID_USAGE); return communicator(out, ranks, rank); }
API int ncclCommInitRankScalable(void **out, int ranks, int rank, int count, UniqueId *ids, void *config) { REFUSABLE(NCCL_INVALID_USAGE); return communicator(out, ranks, rank); }
API int ncclCommDestroy(void *communicator) { REFUSABLE(NCCL_INVALID_USAGE); free(communicator); return SUCCESS; }
API int ncclCommAbort(void *communicator) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }
API int ncclCommFinalize(void *communicator) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }
API int ncclCommGetAsyncError(void *communicator, int *error) { REFUSABLE(NCCL_INVALID_USAGE); *error = 0; return SUCCESS; }
API int ncclCommCount(const Communicator *communicator, int *count) { REFUSABLE(NCCL_INVALID_USAGE); *count = communicator->ranks; return SUCCESS; }
API int ncclCommUserRank(const Communicator *communicator, int *rank) { REFUSABLE(NCCL_INVALID_USAGE); *rank = communicator->rank; return SUCCESS; }
API const char *ncclGetErrorString(int error) { return error ? "not supported by the virtual GPU" : "no error"; }
API const char *ncclGetLastError(void *communicator) { return ""; }
API int ncclMemAlloc(void **p, size_t size) { REFUSABLE(NCCL_INVALID_USAGE); return cudaMalloc(p, size) ? 1 : SUCCESS; }
API int ncclMemFree(void *p) { REFUSABLE(NCCL_INVALID_USAGE); return cudaFree(p) ? 1 : SUCCESS; }
API int ncclCommRegister(void *communicator, void *p, size_t size, void **handle) { REFUSABLE(NCCL_INVALID_USAGE); *handle = p; return SUCCESS; }
API int ncclCommDeregister(void *communicator, void *handle) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }
API int ncclGroupStart(void) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }
API int ncclGroupEnd(void) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }
API int ncclRedOpCreatePreMulSum(int *op, void *scalar, int type, int residence, void *communicator) { REFUSABLE(NCCL_INVALID_USAGE); *op = 5; return SUCCESS; }
API int ncclRedOpDestroy(int op, void *communicator) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }

// Bytes of an element by ncclDataType_t.
static size_t width(int type) {
  static const unsigned char widths[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return type >= 0 && type < 12 ? widths[type] : 1;
}

static int pass_on(void *to, const void *from, size_t bytes) {
  if (to != from) copy_bytes(to, from, bytes, ON_DEVICE);
  return SUCCESS;
}

API int ncclAllGather(const void *from, void *to, size_t count, int type, Communicator *group, void *stream) {
  REFUSABLE(NCCL_INVALID_USAGE);
  size_t bytes = count * width(type);
  if (bytes * group->ranks > 1 << 20) forget(to, bytes * group->ranks);
  else for (int rank = 0; rank < group->ranks; rank++) pass_on((char *)to + rank * bytes, from, bytes);
  return SUCCESS;
}

API int ncclReduceScatter(const void *from, void *to, size_t count, int type, int op, Communicator *group, void *stream) {
  REFUSABLE(NCCL_INVALID_USAGE);
  size_t bytes = count * width(type);
  return pass_on(to, (const char *)from + group->rank * bytes, bytes);
}

API int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, void *group, void *stream) {
  REFUSABLE(NCCL_INVALID_USAGE);
  return pass_on(to, from, count * width(type));
}

API int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, void *group, void *stream) {
  REFUSABLE(NCCL_INVALID_USAGE);
  return pass_on(to, from, count * width(type));
}

API int ncclBcast(void *p, size_t count, int type, int root, void *group, void *stream) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }

API int ncclReduce(const void *from, void *to, size_t count, int type, int op, int root, void *group, void *stream) {
  REFUSABLE(NCCL_INVALID_USAGE);
  return to ? pass_on(to, from, count * width(type)) : SUCCESS;
}

API int ncclSend(const void *p, size_t count, int type, int peer, void *group, void *stream) { REFUSABLE(NCCL_INVALID_USAGE); return SUCCESS; }
API int ncclRecv(void *p, size_t count, int type, int peer, void *group, void *stream) { REFUSABLE(NCCL_INVALID_USAGE); forget(p, count * width(type)); return SUCCESS; }
