// What cudnn.c asks of cudnn_attention.c as it forwards the backend's functions.
#ifndef CUDNN_ATTENTION_H
#define CUDNN_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

// A descriptor that cudnn.c or cudnn_attention.c must know again (cudnn.c keeps them by address).
typedef struct Described {
  void *descriptor;
  int kind;
  struct Described *next;
  // Of cudnn_attention.c:
  bool invented;       // the real library does not know what this is: cudnn_attention.c answers for it
  bool attention;      // an operation graph of an attention, and what is made for it
  int64_t workspace;   // of its plans
  bool exponential;    // a pointwise operation, or its descriptor, that is exp
  int64_t full_heads;  // a reduction over heads: bytes of what it sums
  bool product;        // a tensor that is the result of a matrix product
  int64_t elements, width;
} Described;

Described *described(void *descriptor);

// cudnnBackendDescriptorType_t of cuDNN 9.
enum {
  POINTWISE = 0, ENGINE = 2, ENGINE_CONFIG = 3, ENGINE_HEURISTICS = 4, EXECUTION_PLAN = 5, OPERATION_POINTWISE = 13,
  OPERATION_GRAPH = 15, TENSOR = 17, OPERATION_MATMUL = 19, OPERATION_REDUCTION = 22, DEVICE_PROPERTIES = 38,
  OPERATION_SDPA_FORWARD = 41,
};

// Whether descriptors of this kind are to be known again.
bool is_of_attention(int kind);

// Each returns whether it answered the call, with the status in *status; if not, it goes to the real library.
bool attention_set(void *descriptor, int name, int64_t count, const void *values, int *status);
bool attention_get(void *descriptor, int name, int64_t wanted, int64_t *count, void *values, int *status);
bool attention_finalize(void *descriptor, int *status);

// After the real library answered with `status`: what it could not do without a device is done here. Returns the status.
int attention_after_get(void *descriptor, int name, int64_t wanted, int64_t *count, void *values, int status);
int attention_after_finalize(void *descriptor, int status);

#endif
