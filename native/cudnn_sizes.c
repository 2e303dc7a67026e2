// cuDNN's older calls that take a handle: sizes of workspaces, weights and states, and the descriptors that they read.
//
// The handle is ours, so the real library cannot be asked. Sizes are formulas found in 5,076 batch norms and 4,000 recurrent
// networks that cuDNN 9.19 answered on an H200 (benchmarks/results/2026-11-27-h200/cudnn_sizes.json.gz, made by
// benchmarks/card.py). Each formula states how well it agrees. Other generations of cards and versions were not measured.
//
// Descriptors are our own structures. libcudnn_cnn.so imports some of these setters too and hands them its own structures:
// a descriptor without our mark goes to the real function.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu.h"

// Values of enumerations, after cuDNN's public API reference (docs.nvidia.com/deeplearning/cudnn/backend).
enum { BAD_PARAM = 2000, INTERNAL_ERROR = 4000 };
enum { FLOAT = 0, DOUBLE = 1, HALF = 2, BFLOAT16 = 9 };
enum { SPATIAL_PERSISTENT = 2 };
enum { RELU = 0, TANH = 1, LSTM = 2, GRU = 3 };
enum { NO_BIAS = 0, DOUBLE_BIAS = 2 };
enum { PERSIST_DYNAMIC = 2, SMALL_HIDDEN = 3 };
enum { ALLOW_CONVERSION = 2 };
enum { MOST_DIMENSIONS = 8 };

typedef enum { TENSOR = 1, FILTER, RNN, RNN_DATA, DROPOUT, OTHER } Kind;

typedef struct {
  uint64_t mark;
  Kind kind;
  int dtype, count;
  int sizes[MOST_DIMENSIONS], strides[MOST_DIMENSIONS];
  int format;  // of a filter
  int algorithm, cell, bias, directions, math, input, hidden, projection, layers;  // of a recurrent network
  float dropout;                                                                     // of it and of a dropout
  int length, batch;                                                                 // of recurrent data
} Descriptor;

static const uint64_t MARK = 0x7672616d64657363;  // "vramdesc"

static Descriptor *ours(void *descriptor, Kind kind) {
  Descriptor *d = descriptor;
  return d && d->mark == MARK && d->kind == kind ? d : NULL;
}

static int create(void **descriptor, Kind kind) {
  Descriptor *d = calloc(1, sizeof *d);
  if (!d) return INTERNAL_ERROR;
  d->mark = MARK;
  d->kind = kind;
  *descriptor = d;
  return SUCCESS;
}

// The real function, for a descriptor of the real library.
static void *real(const char *name) {
  static const char *const libraries[] = {"libcudnn_ops.so.9", "libcudnn.so.9"};
  for (int i = 0; i < 2; i++) {
    void *library = dlopen(libraries[i], RTLD_NOW | RTLD_NOLOAD);
    void *function = library ? dlsym(library, name) : NULL;
    if (library) dlclose(library);
    if (function) return function;
  }
  return NULL;
}

#define REAL(arguments, ...)                                                  \
  do {                                                                        \
    int(*function) arguments = (int(*) arguments)real(__func__);              \
    return function ? function(__VA_ARGS__) : BAD_PARAM;                      \
  } while (0)

// Creation and destruction.

#define DESCRIPTOR(name, kind)                                                \
  API int cudnnCreate##name(void **descriptor) {                              \
    REFUSABLE(CUDNN_NOT_SUPPORTED);                                           \
    return create(descriptor, kind);                                          \
  }                                                                           \
  API int cudnnDestroy##name(void *descriptor) {                              \
    REFUSABLE(CUDNN_NOT_SUPPORTED);                                           \
    if (descriptor && !ours(descriptor, kind)) REAL((void *), descriptor);    \
    free(descriptor);                                                         \
    return SUCCESS;                                                           \
  }
DESCRIPTOR(TensorDescriptor, TENSOR)
DESCRIPTOR(FilterDescriptor, FILTER)
DESCRIPTOR(RNNDescriptor, RNN)
DESCRIPTOR(RNNDataDescriptor, RNN_DATA)
DESCRIPTOR(DropoutDescriptor, DROPOUT)
DESCRIPTOR(ActivationDescriptor, OTHER)
DESCRIPTOR(CTCLossDescriptor, OTHER)
DESCRIPTOR(ConvolutionDescriptor, OTHER)
DESCRIPTOR(SpatialTransformerDescriptor, OTHER)

// What these hold is read by computing functions only, and those compute nothing here.
#define ACCEPTED(name)                                                        \
  API int name(void *descriptor) {                                            \
    REFUSABLE(CUDNN_NOT_SUPPORTED);                                           \
    return ours(descriptor, OTHER) ? SUCCESS : BAD_PARAM;                     \
  }
ACCEPTED(cudnnSetActivationDescriptor)
ACCEPTED(cudnnSetCTCLossDescriptorEx)
ACCEPTED(cudnnSetCTCLossDescriptor_v9)
ACCEPTED(cudnnSetConvolutionNdDescriptor)
ACCEPTED(cudnnSetConvolutionGroupCount)
ACCEPTED(cudnnSetConvolutionMathType)
ACCEPTED(cudnnSetSpatialTransformerNdDescriptor)

// Tensors and filters.

static int set_tensor(Descriptor *d, int dtype, int count, const int *sizes, const int *strides) {
  if (count < 1 || count > MOST_DIMENSIONS) return BAD_PARAM;
  d->dtype = dtype;
  d->count = count;
  memcpy(d->sizes, sizes, count * sizeof *sizes);
  memcpy(d->strides, strides, count * sizeof *strides);
  return SUCCESS;
}

API int cudnnSetTensorNdDescriptor(void *tensor, int dtype, int count, const int *sizes, const int *strides) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(tensor, TENSOR);
  if (!d) REAL((void *, int, int, const int *, const int *), tensor, dtype, count, sizes, strides);
  return set_tensor(d, dtype, count, sizes, strides);
}

API int cudnnSetTensor4dDescriptorEx(void *tensor, int dtype, int n, int c, int h, int w, int n_stride, int c_stride,
                                     int h_stride, int w_stride) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(tensor, TENSOR);
  if (!d) {
    REAL((void *, int, int, int, int, int, int, int, int, int), tensor, dtype, n, c, h, w, n_stride, c_stride, h_stride,
         w_stride);
  }
  return set_tensor(d, dtype, 4, (int[]){n, c, h, w}, (int[]){n_stride, c_stride, h_stride, w_stride});
}

API int cudnnSetTensor4dDescriptor(void *tensor, int format, int dtype, int n, int c, int h, int w) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(tensor, TENSOR);
  if (!d) REAL((void *, int, int, int, int, int, int), tensor, format, dtype, n, c, h, w);
  if (format == 0) return set_tensor(d, dtype, 4, (int[]){n, c, h, w}, (int[]){c * h * w, h * w, w, 1});
  if (format == 1) return set_tensor(d, dtype, 4, (int[]){n, c, h, w}, (int[]){c * h * w, 1, w * c, c});
  return refuse(__func__, CUDNN_NOT_SUPPORTED);  // vectors of channels (int8)
}

API int cudnnGetTensorNdDescriptor(void *tensor, int wanted, int *dtype, int *count, int *sizes, int *strides) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(tensor, TENSOR);
  if (!d) REAL((void *, int, int *, int *, int *, int *), tensor, wanted, dtype, count, sizes, strides);
  if (dtype) *dtype = d->dtype;
  if (count) *count = d->count;
  int copied = wanted < d->count ? wanted : d->count;
  if (sizes) memcpy(sizes, d->sizes, copied * sizeof *sizes);
  if (strides) memcpy(strides, d->strides, copied * sizeof *strides);
  return SUCCESS;
}

API int cudnnSetFilterNdDescriptor(void *filter, int dtype, int format, int count, const int *sizes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(filter, FILTER);
  if (!d) REAL((void *, int, int, int, const int *), filter, dtype, format, count, sizes);
  d->format = format;
  return set_tensor(d, dtype, count, sizes, (int[MOST_DIMENSIONS]){0});
}

API int cudnnSetFilter4dDescriptor(void *filter, int dtype, int format, int k, int c, int h, int w) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  if (!ours(filter, FILTER)) REAL((void *, int, int, int, int, int, int), filter, dtype, format, k, c, h, w);
  return cudnnSetFilterNdDescriptor(filter, dtype, format, 4, (int[]){k, c, h, w});
}

API int cudnnGetFilterNdDescriptor(void *filter, int wanted, int *dtype, int *format, int *count, int *sizes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(filter, FILTER);
  if (!d) REAL((void *, int, int *, int *, int *, int *), filter, wanted, dtype, format, count, sizes);
  if (dtype) *dtype = d->dtype;
  if (format) *format = d->format;
  if (count) *count = d->count;
  if (sizes) memcpy(sizes, d->sizes, (wanted < d->count ? wanted : d->count) * sizeof *sizes);
  return SUCCESS;
}

// Dropout. The states are one XORWOW generator of 48 bytes (cuRAND's documented curandState) for each of 1,024 threads a
// multiprocessor: 6,488,064 bytes on the H200's 132, to the byte.

API int cudnnDropoutGetStatesSize(void *handle, size_t *bytes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  *bytes = (size_t)facts.multiprocessors * 1024 * 48;
  return SUCCESS;
}

static int set_dropout(void *dropout, float probability) {
  Descriptor *d = ours(dropout, DROPOUT);
  if (!d) return BAD_PARAM;
  d->dropout = probability;
  return SUCCESS;
}

API int cudnnSetDropoutDescriptor(void *dropout, void *handle, float probability, void *states, size_t bytes,
                                  unsigned long long seed) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  return set_dropout(dropout, probability);
}

API int cudnnRestoreDropoutDescriptor(void *dropout, void *handle, float probability, void *states, size_t bytes,
                                      unsigned long long seed) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  return set_dropout(dropout, probability);
}

// Batch norm. Only the persistent algorithm on channels-last tensors takes a workspace: partial sums for blocks of rows
// (values of one channel). A block is 64 rows in single precision, 160 in half, 96 in the backward pass, and four times as
// many with at most four channels. 5,076 of 5,076 measured answers are equal, all three sizes.

typedef struct {
  size_t forward, backward;
} Workspaces;

static size_t blocks(size_t n, size_t each) { return (n + each - 1) / each; }

// Fill in the workspaces. Return false for what was not measured.
static bool batch_norm(int mode, int operations, void *tensor, Workspaces *bytes) {
  Descriptor *x = ours(tensor, TENSOR);
  *bytes = (Workspaces){0, 0};
  if (!x || x->count < 2 || operations != 0) return false;
  if (mode != SPATIAL_PERSISTENT || x->strides[1] != 1) return true;
  if (x->dtype != FLOAT && x->dtype != HALF && x->dtype != BFLOAT16) return false;
  size_t rows = 1, channels = x->sizes[1];
  for (int i = 0; i < x->count; i++) rows *= i == 1 ? 1 : x->sizes[i];
  size_t groups = blocks(channels, 64), padded = channels <= 4 ? 4 : 64 * groups, factor = channels <= 4 ? 4 : 1;
  size_t forward = blocks(rows, factor * (x->dtype == FLOAT ? 64 : 160)), backward = blocks(rows, factor * 96);
  bytes->forward = 1072 + 4 * groups + forward * (8 * padded + 4 * groups);
  bytes->backward = 1056 + 4 * groups + backward * 8 * padded;
  return true;
}

API int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *handle, int mode, int operations, void *x, void *z,
                                                                 void *y, void *parameters, void *activation,
                                                                 size_t *bytes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Workspaces found;
  if (!batch_norm(mode, operations, x, &found)) return refuse(__func__, CUDNN_NOT_SUPPORTED);
  *bytes = found.forward;
  return SUCCESS;
}

API int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *handle, int mode, int operations, void *x, void *y, void *dy,
                                                          void *dz, void *dx, void *parameters, void *activation,
                                                          size_t *bytes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Workspaces found;
  if (!batch_norm(mode, operations, x, &found)) return refuse(__func__, CUDNN_NOT_SUPPORTED);
  *bytes = found.backward;
  return SUCCESS;
}

API int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *handle, int mode, int operations, void *activation, void *x,
                                                             size_t *bytes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Workspaces found;
  if (!batch_norm(mode, operations, x, &found)) return refuse(__func__, CUDNN_NOT_SUPPORTED);
  *bytes = 0;  // only the fused activations keep a mask
  return SUCCESS;
}

API int cudnnDeriveBNTensorDescriptor(void *derived, void *tensor, int mode) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(derived, TENSOR), *x = ours(tensor, TENSOR);
  if (!d || !x) REAL((void *, void *, int), derived, tensor, mode);
  int sizes[MOST_DIMENSIONS], strides[MOST_DIMENSIONS], stride = 1;
  for (int i = x->count - 1; i >= 0; i--) {
    sizes[i] = i == 1 || (mode == 0 && i > 1) ? x->sizes[i] : 1;
    strides[i] = stride;
    stride *= sizes[i];
  }
  return set_tensor(d, x->dtype == DOUBLE ? DOUBLE : FLOAT, x->count, sizes, strides);
}

// Recurrent networks.

API int cudnnSetRNNDescriptor_v8(void *network, int algorithm, int cell, int bias, int direction, int input_mode, int dtype,
                                 int precision, int math, int input, int hidden, int projection, int layers, void *dropout,
                                 unsigned flags) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(network, RNN), *drop = ours(dropout, DROPOUT);
  if (!d || cell < RELU || cell > GRU || direction < 0 || direction > 1 || layers < 1) return BAD_PARAM;
  if (input_mode != 0) return refuse(__func__, CUDNN_NOT_SUPPORTED);  // without input matrices; PyTorch has no such mode
  d->algorithm = algorithm;
  d->cell = cell;
  d->bias = bias;
  d->directions = 1 + direction;
  d->dtype = dtype;
  d->math = math;
  d->input = input;
  d->hidden = hidden;
  d->projection = projection;
  d->layers = layers;
  d->dropout = drop ? drop->dropout : 0;
  return SUCCESS;
}

API int cudnnSetRNNDataDescriptor(void *data, int dtype, int layout, int length, int batch, int width, const int *lengths,
                                  void *fill) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(data, RNN_DATA);
  if (!d) return BAD_PARAM;
  d->dtype = dtype;
  d->length = length;
  d->batch = batch;
  return SUCCESS;
}

static size_t width(int dtype) { return dtype == DOUBLE ? 8 : dtype == FLOAT ? 4 : 2; }
static size_t gates(const Descriptor *d) { return d->cell == LSTM ? 4 : d->cell == GRU ? 3 : 1; }
static bool projected(const Descriptor *d) { return d->projection != d->hidden && d->projection > 0; }
static size_t output(const Descriptor *d) { return projected(d) ? d->projection : d->hidden; }
static size_t aligned(size_t bytes) { return (bytes + 31) / 32 * 32; }

// Values of the matrices of the first `pseudo` layers (a layer and direction each).
static size_t matrices(const Descriptor *d, int pseudo) {
  size_t values = 0, hidden = d->hidden;
  for (int i = 0; i < pseudo; i++) {
    size_t input = i < d->directions ? (size_t)d->input : d->directions * output(d);
    values += gates(d) * hidden * (input + output(d)) + (projected(d) ? hidden * output(d) : 0);
  }
  return values;
}

static size_t biases(const Descriptor *d) {
  return d->bias == NO_BIAS ? 0 : (d->bias == DOUBLE_BIAS ? 2 : 1) * gates(d) * d->hidden;
}

// Matrices and biases without padding: equal in 4,000 of 4,000 measured cases.
API int cudnnGetRNNWeightSpaceSize(void *handle, void *network, size_t *bytes) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(network, RNN);
  if (!d) return BAD_PARAM;
  int pseudo = d->layers * d->directions;
  *bytes = (matrices(d, pseudo) + pseudo * biases(d)) * width(d->dtype);
  return SUCCESS;
}

static void describe(void *tensor, int dtype, int rows, int columns) {
  Descriptor *d = ours(tensor, TENSOR);
  if (d) set_tensor(d, dtype, 3, (int[]){1, rows, columns}, (int[]){rows * columns, columns, 1});
}

// Where one matrix and its bias lie. The order of the parts was not measured; it does not change any size. PyTorch wants
// the input matrices of a layer in one piece, and likewise its recurrent matrices and either half of its biases; it asks for
// a matrix or for a bias at a time, and gives NULL for the other.
API int cudnnGetRNNWeightParams(void *handle, void *network, int pseudo, size_t bytes, const void *weights, int id,
                                void *matrix, void **matrix_address, void *bias, void **bias_address) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(network, RNN);
  if (!d || pseudo < 0 || pseudo >= d->layers * d->directions) return BAD_PARAM;
  size_t hidden = d->hidden, kinds = gates(d), each = width(d->dtype);
  size_t input = pseudo < d->directions ? (size_t)d->input : d->directions * output(d);
  size_t start = matrices(d, pseudo), bias_start = matrices(d, d->layers * d->directions) + pseudo * biases(d);
  char *base = (char *)weights;
  void *nowhere;
  if (!matrix_address) matrix_address = &nowhere;
  if (!bias_address) bias_address = &nowhere;
  *matrix_address = *bias_address = NULL;
  describe(matrix, d->dtype, 0, 0);
  describe(bias, d->dtype, 0, 0);
  if (id < 0 || (size_t)id > 2 * kinds || ((size_t)id == 2 * kinds && !projected(d))) return SUCCESS;
  if ((size_t)id < kinds) {
    describe(matrix, d->dtype, d->hidden, (int)input);
    *matrix_address = base + (start + id * hidden * input) * each;
  } else if ((size_t)id < 2 * kinds) {
    describe(matrix, d->dtype, d->hidden, (int)output(d));
    *matrix_address = base + (start + kinds * hidden * input + (id - kinds) * hidden * output(d)) * each;
  } else {
    describe(matrix, d->dtype, (int)output(d), d->hidden);
    *matrix_address = base + (start + kinds * hidden * (input + output(d))) * each;
    return SUCCESS;  // a projection has no bias
  }
  bool input_bias = d->bias == DOUBLE_BIAS || d->bias == 1, recurrent_bias = d->bias == DOUBLE_BIAS || d->bias == 3;
  if ((size_t)id < kinds ? input_bias : recurrent_bias) {
    describe(bias, d->dtype, d->hidden, 1);
    size_t place = d->bias == 3 ? id - kinds : (size_t)id;  // 3: recurrent biases only
    *bias_address = base + (bias_start + place * hidden) * each;
  }
  return SUCCESS;
}

// What the forward pass keeps for the backward one: gates, cells, outputs between the layers, masks of dropout as bits.
// Equal in 2,444 of 2,444 measured trainings (without ALLOW_CONVERSION), and in all 216 of operations.json.gz.
static size_t reserve_space(const Descriptor *d, size_t length, size_t batch) {
  size_t each = width(d->dtype), layers = d->layers, both = d->directions;
  size_t step = length * batch * d->hidden * both * each, projection = length * batch * output(d) * both;
  size_t bytes = 256;
  if (d->cell == GRU) bytes += aligned(6 * layers * step);
  if (d->cell == LSTM) bytes += aligned(4 * layers * step) + aligned(layers * step);
  if (d->cell <= TANH) bytes += aligned(layers * step);
  bytes += aligned((layers - 1) * step);
  if (d->dropout > 0) bytes += (layers - 1) * both * aligned((projection + 7) / 8);
  if (projected(d)) bytes += aligned(layers * step) + aligned(layers * projection * each);
  return bytes;
}

// Steps of the outputs' gradients that are held at once by the backward pass of several layers in one direction: a chunk for
// each layer, and at least 8 more. The chunk depends on batch and length; the borders between the measured values (batch 1, 2,
// 7, 32, 64, 100; length 100, 200) are guesses.
static size_t held_steps(size_t length, size_t batch, size_t layers) {
  if (layers == 1) return length;
  size_t chunk = batch < 2 ? 32 : batch < 32 ? 16 : length >= 128 ? 8 : batch <= 64 ? 4 : 2;
  size_t steps = chunk * layers + (chunk > 8 ? chunk : 8);
  return steps < length ? steps : length;
}

static size_t several(size_t count, size_t bytes) { return count * aligned(bytes); }

// Working space: 8 MiB for each layer and direction (its own stream), the lengths, a copy of the matrices, and the larger of
// what the forward and backward passes take. Equal in 3,602 of 3,612 measured cases of the standard algorithm without
// ALLOW_CONVERSION; 10 trainings with a projection are 32 bytes off. The matrix products of one direction run in pieces of
// 256 steps (length 513 only). The small-hidden algorithm was measured in training with input == hidden only (96 of
// operations.json.gz, equal; in bfloat16 it takes what the standard one does), and LSTM and GRU in one layer only; for
// other inputs, more layers and inference its figure is an extrapolation. The static persistent algorithm was not measured:
// the standard one's figure is given.
static size_t work_space(const Descriptor *d, size_t length, size_t batch, bool training) {
  size_t each = width(d->dtype), layers = d->layers, kinds = gates(d), both = d->directions;
  size_t state = batch * d->hidden * each, out = batch * output(d) * each;  // of one direction, layer and step
  size_t input = length * batch * d->input * each, step = length * state;
  size_t wide = input > step ? input : step;  // holds either the input's or the outputs' gradient
  size_t bytes = layers * both * (8 << 20) + 256 + aligned(8 * batch) + aligned(matrices(d, d->layers * both) * each);
  bool lstm = d->cell == LSTM;

  if (d->algorithm == SMALL_HIDDEN && d->dtype != BFLOAT16) {
    static const size_t steps[2][3] = {{12, 17, 19}, {15, 20, 25}}, states[2][3] = {{6, 6, 8}, {14, 14, 18}};
    int way = both - 1, cell = lstm ? 2 : d->cell == GRU ? 1 : 0;
    size_t more = layers > 1 ? both : 0;
    return bytes + 2 * aligned(input) + aligned((way ? 4 : 1) * wide) + several(steps[way][cell] + more, step) +
           states[way][cell] * layers * state;
  }

  size_t forward = aligned(input), backward = 2 * aligned(input);
  if (both == 1) {
    size_t pass = length < 256 ? length : 256;
    forward += several(d->dropout > 0 ? 2 : 1, step) + aligned(kinds * pass * state) + aligned(kinds * layers * state);
    forward += several(2, layers * out);
    if (lstm) forward += aligned(2 * layers * state) + several(2, layers * state);
    if (projected(d)) forward += aligned(length * out);
    backward += aligned(wide) + several(2, step) + aligned(held_steps(length, batch, layers) * state);
    if (lstm) backward += aligned(2 * layers * state) + several(5, layers * state) + several(4, layers * out);
    else backward += several(5, layers * state);
  } else {
    forward += aligned(4 * step) + aligned(2 * step) + aligned(2 * kinds * step) + aligned(2 * kinds * layers * state);
    forward += aligned(4 * layers * state) + several(2, 2 * layers * out);
    if (lstm) forward += aligned(4 * layers * state) + several(2, 2 * layers * state);
    if (projected(d)) forward += aligned(2 * length * out);
    backward += aligned(4 * wide) + aligned(layers > 1 ? 4 * step : 2 * step) + several(2, 2 * step);
    if (lstm) backward += several(2, 4 * layers * state) + several(5, 2 * layers * state) + several(4, 2 * layers * out);
    else backward += aligned(4 * layers * state) + several(5, 2 * layers * state);
  }
  return bytes + (training && backward > forward ? backward : forward);
}

API int cudnnGetRNNTempSpaceSizes(void *handle, void *network, int mode, void *data, size_t *work, size_t *reserve) {
  REFUSABLE(CUDNN_NOT_SUPPORTED);
  Descriptor *d = ours(network, RNN), *x = ours(data, RNN_DATA);
  if (!d || !x) return BAD_PARAM;
  // PyTorch asks for neither: single precision through half, and kernels made at run time.
  if ((d->math == ALLOW_CONVERSION && d->dtype == FLOAT) || d->algorithm == PERSIST_DYNAMIC) {
    return refuse(__func__, CUDNN_NOT_SUPPORTED);
  }
  if (work) *work = work_space(d, x->length, x->batch, mode != 0);
  if (reserve) *reserve = mode != 0 ? reserve_space(d, x->length, x->batch) : 0;
  return SUCCESS;
}

// Functions that compute on the device only. Their arguments are left alone. CTC loss is not among them: its workspace was
// not measured, so cudnnGetCTCLossWorkspaceSize and cudnnCTCLoss are left to the refusals.
#define COMPUTES(name)                                                        \
  API int name(void) {                                                        \
    REFUSABLE(CUDNN_NOT_SUPPORTED);                                           \
    return SUCCESS;                                                           \
  }
COMPUTES(cudnnBatchNormalizationForwardTrainingEx)
COMPUTES(cudnnBatchNormalizationForwardInference)
COMPUTES(cudnnBatchNormalizationBackwardEx)
COMPUTES(cudnnRNNForward)
COMPUTES(cudnnRNNBackwardData_v8)
COMPUTES(cudnnRNNBackwardWeights_v8)
COMPUTES(cudnnSpatialTfGridGeneratorForward)
COMPUTES(cudnnSpatialTfGridGeneratorBackward)
COMPUTES(cudnnSpatialTfSamplerForward)
COMPUTES(cudnnSpatialTfSamplerBackward)
