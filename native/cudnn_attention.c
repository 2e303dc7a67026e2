// cuDNN's attention without a device: PyTorch prefers it on Hopper and newer cards for fp16 and bf16.
//
// cuDNN builds the kernels of an attention as it is planned, which needs the driver, so its heuristics name the engines and
// then decline each of them ("cannot load libcuda", CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING). For such an
// operation graph, and for no other, one engine config, engine and plan are answered here, so that PyTorch's own code
// (aten/src/ATen/native/cudnn/MHA.cpp, and cudnn-frontend under it) runs on and allocates what it does on a card. A graph that
// cuDNN declines for another reason stays declined: so it is on the card.
// The workspace is a model: see WORKSPACE.
#define _GNU_SOURCE
#include "cudnn_attention.h"
#include "vgpu.h"

#include <string.h>

// cudnnBackendAttributeName_t of cuDNN 9.
enum {
  POINTWISE_MODE = 0, HEURISTICS_GRAPH = 201, HEURISTICS_RESULTS = 202, CONFIG_ENGINE = 300, CONFIG_INTERMEDIATES = 301,
  CONFIG_KNOBS = 302, CONFIG_WORKSPACE = 303, CONFIG_SHARED_MEMORY = 304, PLAN_CONFIG = 401, PLAN_WORKSPACE = 402,
  PLAN_COMPUTED_INTERMEDIATES = 403, PLAN_RUN_INTERMEDIATES = 404, POINTWISE_DESCRIPTOR = 750,
  GRAPH_OPERATIONS = 801, TENSOR_TYPE = 901, TENSOR_DIMENSIONS = 902, ENGINE_GRAPH = 1300, ENGINE_INDEX = 1301,
  ENGINE_KNOBS = 1302, ENGINE_NUMERICAL_NOTES = 1303, ENGINE_LAYOUTS = 1304, ENGINE_BEHAVIOR_NOTES = 1305,
  MATMUL_RESULT = 1522, REDUCTION_INPUT = 1610,
};
enum { EXPONENTIAL = 13, RUNTIME_COMPILATION = 0, FLOAT = 0 };  // cudnnPointwiseMode_t, …BehaviorNote_t, cudnnDataType_t
enum { RUNTIME_PREREQUISITE_MISSING = 3008 };

// Measured on an H200 (torch 2.11, cuDNN 9.19; benchmarks/results/2026-11-27-h200/snapshot_*): torchvision's ViT-B/16
// (64 x 12 heads x 197 x 64, bf16) and GPT-2 (4 x 12 x 512 x 64, fp16, causal, dropout) both ask for 256 bytes forward, and
// backward for 256 bytes more than cudnn-frontend itself adds (dQ in fp32, and the sums of dO * O: 39,337,216 = 38,731,776 +
// 605,184 + 256; 6,390,016 = 6,291,456 + 98,304 + 256). Other lengths, head sizes, masks and cards: the same is assumed.
//
// With fewer heads of keys than of queries, the backward graph has the gradients of K and V for each head of the queries, and
// sums them: they are added in their type. Not measured, but what NVIDIA's open kernel for such heads does (cudnn-frontend,
// docs/fe-oss-apis/attention/sdpa_bwd_sm120.md: partials of B * S_kv * H_q * D elements each).
#define WORKSPACE 256

const char *cudnn_last_error(void);
void cudnnGetLastErrorString(char *text, size_t size);
static void forget_error(void) { char none; cudnnGetLastErrorString(&none, sizeof none); }

static Described *of(const void *values) { return described(*(void *const *)values); }

bool is_of_attention(int kind) {
  switch (kind) {
    case POINTWISE: case ENGINE: case ENGINE_CONFIG: case ENGINE_HEURISTICS: case EXECUTION_PLAN: case OPERATION_POINTWISE:
    case OPERATION_GRAPH: case TENSOR: case OPERATION_MATMUL: case OPERATION_REDUCTION: case OPERATION_SDPA_FORWARD: return true;
  }
  return false;
}

// An attention is cuDNN's own operation, or two and more matrix products with an exponential among them: that of the softmax.
static void look_at(Described *graph, int64_t count, void *const *operations) {
  int products = 0, exponentials = 0, fused = 0;
  graph->workspace = WORKSPACE;
  for (int64_t i = 0; i < count; i++) {
    Described *operation = described(operations[i]);
    if (!operation) continue;
    products += operation->kind == OPERATION_MATMUL;
    fused += operation->kind == OPERATION_SDPA_FORWARD;
    exponentials += operation->exponential;
    graph->workspace += operation->full_heads;
  }
  graph->attention = fused || (products >= 2 && exponentials);
}

static void inherit(Described *from, Described *to) {
  if (!from) return;
  to->attention = from->attention;
  to->workspace = from->workspace;
}

// Make the descriptor that the caller brought one of an invented plan.
static void invent(Described *from, void *descriptor) {
  Described *made = described(descriptor);
  if (!made) return;
  inherit(from, made);
  made->invented = true;
}

static void note_tensor(Described *tensor, int name, int64_t count, const void *values) {
  if (name == TENSOR_TYPE) tensor->width = *(const int *)values == FLOAT ? 4 : 2;
  if (name != TENSOR_DIMENSIONS) return;
  tensor->elements = 1;
  for (int64_t i = 0; i < count; i++) tensor->elements *= ((const int64_t *)values)[i];
}

bool attention_set(void *descriptor, int name, int64_t count, const void *values, int *status) {
  Described *known = described(descriptor), *value;
  if (!known || !values) return false;
  switch (known->kind) {
    case POINTWISE:
      if (name == POINTWISE_MODE) known->exponential = *(const int *)values == EXPONENTIAL;
      break;
    case TENSOR: note_tensor(known, name, count, values); break;
    case OPERATION_POINTWISE:
      if (name == POINTWISE_DESCRIPTOR && (value = of(values))) known->exponential = value->exponential;
      break;
    case OPERATION_MATMUL:
      if (name == MATMUL_RESULT && (value = of(values))) value->product = true;
      break;
    case OPERATION_REDUCTION:
      if (name == REDUCTION_INPUT && (value = of(values)) && value->product) known->full_heads = value->elements * value->width;
      break;
    case OPERATION_GRAPH:
      if (name == GRAPH_OPERATIONS) look_at(known, count, values);
      break;
    case ENGINE_HEURISTICS:
      if (name == HEURISTICS_GRAPH) inherit(of(values), known);
      break;
    case ENGINE:
      if (name == ENGINE_GRAPH) inherit(of(values), known);
      break;
    case ENGINE_CONFIG: case EXECUTION_PLAN:
      if ((name == CONFIG_ENGINE || name == PLAN_CONFIG) && (value = of(values))) {
        inherit(value, known);
        known->invented = value->invented;
      }
  }
  *status = SUCCESS;
  return known->invented;
}

// Answer an attribute that is a list without elements.
static bool nothing(int64_t *count) {
  if (count) *count = 0;
  return true;
}

// Answer an attribute of one element, or tell that it is one.
static bool one(const void *value, size_t size, int64_t wanted, int64_t *count, void *values) {
  if (count) *count = 1;
  if (wanted > 0 && values) memcpy(values, value, size);
  return true;
}

static bool answer(Described *known, int name, int64_t wanted, int64_t *count, void *values) {
  const int64_t none = 0;
  const int behavior = RUNTIME_COMPILATION;
  switch (name) {
    case HEURISTICS_RESULTS:
    case CONFIG_ENGINE:
      if (wanted > 0 && values) invent(known, *(void **)values);
      if (count) *count = 1;
      return true;
    case CONFIG_WORKSPACE:
    case PLAN_WORKSPACE: return one(&known->workspace, sizeof known->workspace, wanted, count, values);
    case CONFIG_SHARED_MEMORY:
    case ENGINE_INDEX: return one(&none, sizeof none, wanted, count, values);
    case ENGINE_BEHAVIOR_NOTES: return one(&behavior, sizeof behavior, wanted, count, values);
    case CONFIG_INTERMEDIATES: case CONFIG_KNOBS: case ENGINE_KNOBS: case ENGINE_NUMERICAL_NOTES: case ENGINE_LAYOUTS:
    case PLAN_COMPUTED_INTERMEDIATES: case PLAN_RUN_INTERMEDIATES: return nothing(count);
  }
  return false;
}

bool attention_get(void *descriptor, int name, int64_t wanted, int64_t *count, void *values, int *status) {
  Described *known = described(descriptor);
  if (!known || !known->attention) return false;
  if (!known->invented) forget_error();  // so that the next is of this call
  else if (answer(known, name, wanted, count, values)) *status = SUCCESS;
  else *status = refuse("cudnnBackendGetAttribute", CUDNN_NOT_SUPPORTED);
  return known->invented;
}

bool attention_finalize(void *descriptor, int *status) {
  Described *known = described(descriptor);
  *status = SUCCESS;
  return known && known->invented;
}

// Whether the real library declined only because it could not compile. Its heuristics succeed without a result, and name the
// engines that they had chosen in the text of the last error: with the reasons in 9.19 and newer, without any in 9.10.
static bool lacks_the_driver(int status) {
  if (status) return status == RUNTIME_PREREQUISITE_MISSING;
  const char *text = cudnn_last_error();
  return strstr(text, "RUNTIME_PREREQUISITE_MISSING") || (strstr(text, "engineId") && !strstr(text, "NOT_SUPPORTED"));
}

int attention_after_get(void *descriptor, int name, int64_t wanted, int64_t *count, void *values, int status) {
  Described *known = described(descriptor);
  if (!known || !known->attention || known->kind != ENGINE_HEURISTICS || name != HEURISTICS_RESULTS) return status;
  if (!status && count && *count > 0) {  // the library's own configs: a plan may still fail
    for (int64_t i = 0; wanted > 0 && values && i < *count; i++) {
      Described *config = described(((void **)values)[i]);
      if (config) inherit(known, config);
    }
  } else if (lacks_the_driver(status)) {
    forget_error();
    known->invented = true;
    attention_get(descriptor, name, wanted, count, values, &status);
  }
  return status;
}

int attention_after_finalize(void *descriptor, int status) {
  Described *known = described(descriptor);
  if (!known || !known->attention || !status || !lacks_the_driver(status)) return status;
  forget_error();
  known->invented = true;
  return SUCCESS;
}
