// Libra's own TensorFlow ops for the CPU, on TensorFlow's C API. They register when the binding that holds them loads.
// A GPU composes them of TensorFlow's ops (fused.ts).
#include <tensorflow/c/ops.h>
#include <tensorflow/c/tf_tensor.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"

// From tensorflow/c/kernels.h, which itself needs the headers of the plug-in interface for devices.
extern "C" {
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;
TF_KernelBuilder* TF_NewKernelBuilder(const char* op, const char* device, void* (*create)(TF_OpKernelConstruction*),
                                      void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*));
void TF_RegisterKernelBuilder(const char* name, TF_KernelBuilder*, TF_Status*);
void TF_GetInput(TF_OpKernelContext*, int, TF_Tensor**, TF_Status*);
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext*, int, TF_DataType, const int64_t* dims, int rank, size_t bytes,
                             TF_Status*);
void TF_OpKernelContext_Failure(TF_OpKernelContext*, TF_Status*);
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction*, TF_Status*);
void TF_OpKernelConstruction_GetAttrSize(TF_OpKernelConstruction*, const char* name, int32_t* length, int32_t* bytes,
                                         TF_Status*);
void TF_OpKernelConstruction_GetAttrFloatList(TF_OpKernelConstruction*, const char* name, float* values, int most,
                                              TF_Status*);
}

// --- threads ------------------------------------------------------------------------------------

namespace {

int thread_count() {
  const char* wish = std::getenv("TF_NUM_INTRAOP_THREADS");
  const int n = wish ? std::atoi(wish) : 0;
  return n > 0 ? n : std::max(1u, std::thread::hardware_concurrency());
}

/** Some 10 µs: ops follow one another faster than the system wakes a thread. */
template <typename F>
void spin(const F& done) {
  for (int i = 0; i < 2000 && !done(); i++) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
  }
}

/** Threads that help the caller. They live as long as the process, as TensorFlow's do. */
class Helpers {
 public:
  explicit Helpers(int count) {
    for (int i = 0; i < count; i++) std::thread([this] { help(); }).detach();
    size_ = count;
  }
  void run(int64_t count, const void* job, Work work) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (size_ == 0 || count == 1 || !turn.owns_lock()) {  // a second caller works alone
      for (int64_t i = 0; i < count; i++) work(job, i);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = job, work_ = work, count_ = count, next_ = 0, open_ = true;
    }
    start_.notify_all();
    take(count, job, work);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      open_ = false;
    }
    spin([this] { return busy_ == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    end_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void take(int64_t count, const void* job, Work work) {
    for (int64_t i; (i = next_.fetch_add(1)) < count;) work(job, i);
  }
  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      lock.unlock();
      spin([this] { return open_ && next_ < count_; });
      lock.lock();
      start_.wait(lock, [this] { return open_ && next_ < count_; });
      busy_++;
      const auto [count, job, work] = std::tuple(count_.load(), job_, work_);
      lock.unlock();
      take(count, job, work);
      lock.lock();
      if (--busy_ == 0) end_.notify_all();
    }
  }
  std::mutex turn_, mutex_;
  std::condition_variable start_, end_;
  int size_ = 0;
  const void* job_ = nullptr;
  Work work_ = nullptr;
  std::atomic<int> busy_{0};
  std::atomic<bool> open_{false};
  std::atomic<int64_t> count_{0}, next_{0};
};

}  // namespace

void parallel(int64_t count, const void* job, Work work) {
  static Helpers& helpers = *new Helpers(thread_count() - 1);
  if (count > 0) helpers.run(count, job, work);
}

// --- which instruction set ------------------------------------------------------------------------

#ifdef __x86_64__
extern const Kernels kernels_v4, kernels_v3, kernels_v2;
#else
extern const Kernels kernels_any;
#endif

namespace {

const Kernels& kernels() {
#ifdef __x86_64__
  static const Kernels& best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                                       __builtin_cpu_supports("avx512cd")
                                   ? kernels_v4
                               : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                                       __builtin_cpu_supports("bmi2")
                                   ? kernels_v3
                                   : kernels_v2;
  return best;
#else
  return kernels_any;
#endif
}

// --- ops ------------------------------------------------------------------------------------------

/** The inputs and outputs of one call. The first error is reported to TensorFlow, and then nothing is computed. */
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call() {
    if (!ok()) TF_OpKernelContext_Failure(context_, status_);
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }
  bool ok() const { return TF_GetCode(status_) == TF_OK; }
  void check(bool holds, const char* what) {
    if (ok() && !holds) TF_SetStatus(status_, TF_INVALID_ARGUMENT, what);
  }
  template <typename T = float>
  const T* input(int i) {
    return static_cast<const T*>(TF_TensorData(tensor(i)));
  }
  int64_t size(int i) { return TF_TensorElementCount(tensor(i)); }
  int64_t dim(int i, int axis) { return TF_NumDims(tensor(i)) > axis ? TF_Dim(tensor(i), axis) : 1; }
  float* output(int i, std::vector<int64_t> shape) {
    int64_t size = 1;
    for (int64_t n : shape) size *= n;
    if (!ok()) return nullptr;
    TF_Tensor* made =
        TF_AllocateOutput(context_, i, TF_FLOAT, shape.data(), shape.size(), size * sizeof(float), status_);
    if (!ok()) return nullptr;
    tensors_.push_back(made);
    return static_cast<float*>(TF_TensorData(made));
  }
  float* output_like(int i, int input) {
    std::vector<int64_t> shape;
    for (int axis = 0; axis < TF_NumDims(tensor(input)); axis++) shape.push_back(TF_Dim(tensor(input), axis));
    return output(i, shape);
  }

 private:
  TF_Tensor* tensor(int i) {
    if (i >= static_cast<int>(inputs_.size())) inputs_.resize(i + 1);
    if (!inputs_[i]) {
      TF_GetInput(context_, i, &inputs_[i], status_);
      tensors_.push_back(inputs_[i]);
    }
    return inputs_[i];
  }
  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_, tensors_;
};

void rms_norm(Call& call, const std::vector<float>& options) {
  const int64_t width = call.size(1), rows = call.size(0) / std::max<int64_t>(1, width);
  call.check(rows * width == call.size(0), "LibraRmsNorm: x does not end in the width of w");
  float *y = call.output_like(0, 0), *inverse = call.output(1, {rows});
  if (call.ok()) kernels().rms_norm(rows, width, call.input(0), call.input(1), options[0], y, inverse);
}

void rms_norm_grad(Call& call, const std::vector<float>& options) {
  const int64_t width = call.size(2), rows = call.size(3);
  const bool skips = call.size(4) > 0, weight = options[0] > 0;
  call.check(rows * width == call.size(0) && call.size(0) == call.size(1) && (!skips || call.size(4) == call.size(0)),
             "LibraRmsNormGrad: shapes do not match");
  float *dx = call.output_like(0, 0), *dw = call.output(1, {weight ? width : 0});
  if (call.ok())
    kernels().rms_norm_grad(rows, width, call.input(0), call.input(1), call.input(2), call.input(3),
                            skips ? call.input(4) : nullptr, dx, weight ? dw : nullptr);
}

void swiglu(Call& call, const std::vector<float>&) {
  call.check(call.size(0) == call.size(1), "LibraSwiGlu: gate and up differ in size");
  float* y = call.output_like(0, 0);
  if (call.ok()) kernels().swiglu(call.size(0), call.input(0), call.input(1), y);
}

void swiglu_grad(Call& call, const std::vector<float>&) {
  call.check(call.size(0) == call.size(1) && call.size(0) == call.size(2), "LibraSwiGluGrad: sizes differ");
  float *dgate = call.output_like(0, 0), *dup = call.output_like(1, 0);
  if (call.ok()) kernels().swiglu_grad(call.size(0), call.input(0), call.input(1), call.input(2), dgate, dup);
}

/** inputs 0 … 4: q, k, v, segments [S, 4], angles; options: heads, kv heads, width, window, last */
Attention attention_of(Call& call, const std::vector<float>& options) {
  Attention a{};
  a.heads = options[0], a.kv_heads = options[1], a.width = options[2], a.window = options[3], a.last = options[4] > 0;
  a.rows = call.dim(1, 0), a.count = call.dim(3, 0);
  a.q = call.input(0), a.k = call.input(1), a.v = call.input(2);
  a.segments = reinterpret_cast<const Segment*>(call.input<int32_t>(3));
  a.angles = call.size(4) > 0 ? call.input(4) : nullptr;
  const int64_t positions = call.dim(4, 0);
  call.check(call.size(0) == (a.last ? a.count : a.rows) * a.heads * a.width &&
                 call.size(1) == a.rows * a.kv_heads * a.width && call.size(2) == call.size(1) &&
                 call.size(3) == 4 * a.count && a.kv_heads > 0 && a.heads % a.kv_heads == 0 && a.width % 2 == 0,
             "LibraAttention: shapes do not match");
  for (int64_t i = 0; call.ok() && i < a.count; i++) {
    const Segment& s = a.segments[i];
    call.check(s.start >= 0 && s.length > 0 && s.start + s.length <= a.rows && s.parent < i && s.position >= 0 &&
                   (!a.angles || s.position + s.length <= positions) &&
                   (s.parent < 0 || a.segments[s.parent].parent < 0),
               "LibraAttention: a segment is out of range");
  }
  return a;
}

void attention(Call& call, const std::vector<float>& options) {
  const Attention a = attention_of(call, options);
  float *context = call.output_like(0, 0), *logsumexp = call.output(1, {a.last ? a.count : a.rows, a.heads});
  if (call.ok()) kernels().attention(a, context, logsumexp);
}

void attention_grad(Call& call, const std::vector<float>& options) {
  const Attention a = attention_of(call, options);
  call.check(call.size(5) == call.size(0) && call.size(6) == call.size(0), "LibraAttentionGrad: shapes do not match");
  float *dq = call.output_like(0, 0), *dk = call.output_like(1, 1), *dv = call.output_like(2, 2);
  if (call.ok()) kernels().attention_grad(a, call.input(5), call.input(6), call.input(7), dq, dk, dv);
}

void check_labels(Call& call, int64_t rows, int64_t width) {
  call.check(call.size(1) == rows, "LibraLogProb: one label per row");
  for (int64_t r = 0; call.ok() && r < rows; r++) {
    const int32_t label = call.input<int32_t>(1)[r];
    call.check(label >= 0 && label < width, "LibraLogProb: a label is out of range");
  }
}
void log_prob(Call& call, const std::vector<float>&) {
  const int64_t rows = call.dim(0, 0), width = call.dim(0, 1);
  check_labels(call, rows, width);
  float *logprob = call.output(0, {rows}), *logsumexp = call.output(1, {rows});
  if (call.ok())
    kernels().log_prob(rows, width, call.input(0), call.input<int32_t>(1), logprob, logsumexp);
}
void log_prob_grad(Call& call, const std::vector<float>&) {
  const int64_t rows = call.dim(0, 0), width = call.dim(0, 1);
  check_labels(call, rows, width);
  call.check(call.size(2) == rows && call.size(3) == rows, "LibraLogProbGrad: one number per row");
  float* dz = call.output_like(0, 0);
  if (call.ok())
    kernels().log_prob_grad(rows, width, call.input(0), call.input<int32_t>(1), call.input(2), call.input(3), dz);
}

/** inputs: p, g, m, v, decayed (1 or 0), and what changes from step to step: clip, rate, √ of 1 / (1 − β₂ᵗ), decay */
void adamw(Call& call, const std::vector<float>& options) {
  const int64_t size = call.size(0);
  for (int i = 1; i < 5; i++) call.check(call.size(i) == size, "LibraAdamW: sizes differ");
  call.check(call.size(5) == 4, "LibraAdamW: four numbers of the step");
  float *p = call.output_like(0, 0), *m = call.output_like(1, 0), *v = call.output_like(2, 0);
  if (!call.ok()) return;
  const float* step = call.input(5);
  const AdamW o{step[0], options[0], options[1], options[2], step[1], step[2], step[3]};
  kernels().adamw(size, call.input(0), call.input(1), call.input(2), call.input(3), call.input(4), o, p, m, v);
}

void linear(Call& call, const std::vector<float>&) {
  const int64_t M = call.dim(0, 0), K = call.dim(0, 1), N = call.dim(1, 0);
  call.check(call.dim(1, 1) == K, "LibraLinear: x and w differ in width");
  float* y = call.output(0, {M, N});
  if (call.ok()) kernels().linear(M, N, K, call.input(0), call.input(1), y);
}

/** options: heads, kv heads, width, window. Writes into keys and values where they lie, as InplaceUpdate does. */
void cached_attention(Call& call, const std::vector<float>& options) {
  CachedAttention a{};
  a.heads = options[0], a.kv_heads = options[1], a.width = options[2], a.window = options[3];
  a.rows = call.dim(0, 0);
  a.q = call.input(0), a.k = call.input(1), a.v = call.input(2);
  a.keys = const_cast<float*>(call.input(3)), a.values = const_cast<float*>(call.input(4));
  a.positions = call.input(5);
  a.angles = call.size(6) > 0 ? call.input(6) : nullptr;
  const int64_t own = a.rows * a.kv_heads * a.width;
  a.slots = own > 0 ? call.size(3) / own : 0;
  call.check(call.size(0) == a.rows * a.heads * a.width && call.size(1) == own && call.size(2) == own &&
                 call.size(3) == own * a.slots && call.size(4) == call.size(3) && call.size(5) == a.rows &&
                 a.heads % a.kv_heads == 0 && a.width % 2 == 0 && (!a.angles || call.size(6) >= a.slots * a.width),
             "LibraCachedAttention: shapes do not match");
  for (int64_t row = 0; call.ok() && row < a.rows; row++)
    call.check(a.positions[row] >= 0 && a.positions[row] < a.slots, "LibraCachedAttention: a position has no slot");
  float* context = call.output_like(0, 0);
  if (call.ok()) kernels().cached_attention(a, context);
}

/** inputs: logits, rows of [token, position, uniform], 1 / temperature; options: greedy */
void choose(Call& call, const std::vector<float>& options) {
  const int64_t rows = call.dim(0, 0), width = call.dim(0, 1);
  call.check(call.size(1) == 3 * rows && call.size(2) == 1 && width > 0, "LibraChoose: shapes do not match");
  float* chosen = call.output(0, {rows, 2});
  if (call.ok())
    kernels().choose(rows, width, call.input(0), call.input(1) + 2, call.input(2)[0], options[0] > 0, chosen);
}

// --- registration -----------------------------------------------------------------------------------

using Compute = void (*)(Call&, const std::vector<float>&);

template <Compute compute>
void add(const char* name, std::vector<const char*> inputs, std::vector<const char*> outputs) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  TF_OpDefinitionBuilderAddAttr(op, "options: list(float)");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(
      op, [](TF_ShapeInferenceContext* context, TF_Status* status) {
        TF_ShapeInferenceContextSetUnknownShape(context, status);
      });
  TF_Status* status = TF_NewStatus();
  TF_RegisterOpDefinition(op, status);
  if (TF_GetCode(status) == TF_OK) {
    TF_KernelBuilder* kernel = TF_NewKernelBuilder(
        name, "CPU",
        [](TF_OpKernelConstruction* construction) -> void* {
          auto* options = new std::vector<float>;
          TF_Status* status = TF_NewStatus();
          int32_t length = 0, total = 0;
          TF_OpKernelConstruction_GetAttrSize(construction, "options", &length, &total, status);
          if (TF_GetCode(status) == TF_OK && length > 0) {
            options->resize(length);
            TF_OpKernelConstruction_GetAttrFloatList(construction, "options", options->data(), length, status);
          }
          if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
          TF_DeleteStatus(status);
          return options;
        },
        [](void* options, TF_OpKernelContext* context) {
          Call call(context);
          compute(call, *static_cast<std::vector<float>*>(options));
        },
        [](void* options) { delete static_cast<std::vector<float>*>(options); });
    TF_RegisterKernelBuilder(name, kernel, status);
  }
  TF_DeleteStatus(status);
}

const bool registered = [] {
  const std::vector<const char*> attention_inputs{"q: float", "k: float", "v: float", "segments: int32",
                                                  "angles: float"};
  std::vector<const char*> gradient_inputs = attention_inputs;
  for (const char* input : {"dcontext: float", "context: float", "logsumexp: float"}) gradient_inputs.push_back(input);
  add<rms_norm>("LibraRmsNorm", {"x: float", "w: float"}, {"y: float", "inverse: float"});
  add<rms_norm_grad>("LibraRmsNormGrad", {"dy: float", "x: float", "w: float", "inverse: float", "skip: float"},
                     {"dx: float", "dw: float"});
  add<swiglu>("LibraSwiGlu", {"gate: float", "up: float"}, {"y: float"});
  add<swiglu_grad>("LibraSwiGluGrad", {"dy: float", "gate: float", "up: float"},
                   {"dgate: float", "dup: float"});
  add<attention>("LibraAttention", attention_inputs, {"context: float", "logsumexp: float"});
  add<attention_grad>("LibraAttentionGrad", gradient_inputs, {"dq: float", "dk: float", "dv: float"});
  add<log_prob>("LibraLogProb", {"z: float", "labels: int32"}, {"logprob: float", "logsumexp: float"});
  add<log_prob_grad>("LibraLogProbGrad", {"z: float", "labels: int32", "logsumexp: float", "d: float"},
                     {"dz: float"});
  add<adamw>("LibraAdamW", {"p: float", "g: float", "m: float", "v: float", "decayed: float", "step: float"},
             {"new_p: float", "new_m: float", "new_v: float"});
  add<linear>("LibraLinear", {"x: float", "w: float"}, {"y: float"});
  add<cached_attention>("LibraCachedAttention",
                        {"q: float", "k: float", "v: float", "keys: float", "values: float", "positions: float",
                         "angles: float"},
                        {"context: float"});
  add<choose>("LibraChoose", {"z: float", "rows: float", "inverse_temperature: float"}, {"chosen: float"});
  return true;
}();

}  // namespace
