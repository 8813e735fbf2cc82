// Losses and their gradients: every block leaves the sum of its terms in `partial`, which
// loss_total adds in order. Terms and sums are f64.
#include "element.cuh"

namespace {

enum Kind : uint32_t { squared_error = 0, binary_cross_entropy = 1 };

// The sum of one value of every thread of a block of 256, in a fixed tree; thread 0 has it.
DEVICE double block_sum(double v) {
  DYNAMIC_SHARED(memory);
  Shared<double> sums{reinterpret_cast<double*>(memory)};
  const int thread = static_cast<int>(threadIdx.x);
  sums[thread] = v;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  return sums[0];
}

template <class T>
struct PairArgs {
  Global<T> x, target, gradient;
  Global<double> partial;  // one per block
  int64_t length;
  double scale;  // of the gradient
  uint32_t kind, reserved;
};
LAYOUT_SIZE(PairArgs<f32>, 56);

// Losses of pairs (x, target), element by element.
template <class T>
DEVICE void loss_pairs(const PairArgs<T>& args) {
  using A = Accumulator<T>;
  const A scale = static_cast<A>(args.scale);
  double sum = 0;
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    A x = widen(args.x.load(i)), t = widen(args.target.load(i));
    double wide = x, wide_t = t;
    if (args.kind == squared_error) {
      args.gradient.store(i, narrow<T>((x - t) * scale));
      sum += (wide - wide_t) * (wide - wide_t);
    } else {
      A e = ptx::exponential(x < 0 ? x : -x);
      A s = (x < 0 ? e : A(1)) / (A(1) + e);
      args.gradient.store(i, narrow<T>((s - t) * scale));
      // max(x, 0) - x t + ln(1 + exp(-|x|))
      sum += (wide > 0 ? wide : 0.0) - wide * wide_t + log1p(exp(wide < 0 ? wide : -wide));
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) args.partial.store(blockIdx.x, sum);
}

template <class T>
struct ClassArgs {
  Global<T> x, gradient;  // (batch, classes)
  Global<uint32_t> targets;
  Global<double> partial;  // one per block
  int64_t batch, classes;
};
LAYOUT_SIZE(ClassArgs<f32>, 48);

// Cross-entropy of softmaxed rows against class numbers; a warp owns a row.
template <class T>
DEVICE void loss_classes(const ClassArgs<T>& args) {
  const int64_t lane = threadIdx.x % 32;
  double total = 0;
  for (int64_t row = global_thread() / 32; row < args.batch; row += global_threads() / 32) {
    const int64_t base = row * args.classes;
    auto x = [&](int64_t c) { return static_cast<double>(widen(args.x.load(base + c))); };
    double max = -INFINITY, sum = 0;
    for (int64_t c = lane; c < args.classes; c += 32) max = x(c) > max ? x(c) : max;
    for (int bits = 16; bits > 0; bits /= 2) {
      double other = ptx::shuffle_xor(max, bits);
      max = other > max ? other : max;
    }
    for (int64_t c = lane; c < args.classes; c += 32) sum += exp(x(c) - max);
    for (int bits = 16; bits > 0; bits /= 2) sum += ptx::shuffle_xor(sum, bits);
    const int64_t target = args.targets.load(row);
    for (int64_t c = lane; c < args.classes; c += 32) {
      double p = exp(x(c) - max) / sum - (c == target ? 1.0 : 0.0);
      args.gradient.store(base + c, from_double<T>(p / static_cast<double>(args.batch)));
    }
    if (lane == 0) total += log(sum) + max - x(target);
  }
  total = block_sum(total);
  if (threadIdx.x == 0) args.partial.store(blockIdx.x, total);
}

struct TotalArgs {
  Global<double> partial, result;
  int64_t length;
  double divisor;
};
LAYOUT_SIZE(TotalArgs, 32);

// result[0] = sum of partial / divisor, in one block.
DEVICE void total(const TotalArgs& args) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < args.length; i += 256) sum += args.partial.load(i);
  sum = block_sum(sum);
  if (threadIdx.x == 0) args.result.store(0, sum / args.divisor);
}

}  // namespace

KERNEL_EACH_ELEMENT(loss_pairs, 256, PairArgs, loss_pairs)
KERNEL_EACH_ELEMENT(loss_classes, 256, ClassArgs, loss_classes)
KERNEL(loss_total, 256, TotalArgs, total)
