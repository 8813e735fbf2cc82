// Element by element: activations and their gradients, dropout, casts, filling.
//
// A thread takes every (threads of the grid)th element.
#include "element.cuh"

namespace {

enum Function : uint32_t { relu = 0, leaky_relu = 1, sigmoid = 2, hyperbolic_tangent = 3 };

template <class T>
struct ActivateArgs {
  Global<T> x, dy;  // dy: null in the forward pass
  Global<T> result;
  int64_t length;
  double slope;
  uint32_t function, reserved;
};
LAYOUT_SIZE(ActivateArgs<f32>, 48);

// 1 / (1 + exp(-x)) without an overflow on either side.
template <class A>
DEVICE A sigmoid_of(A x) {
  A e = ptx::exponential(x < 0 ? x : -x);
  return (x < 0 ? e : A(1)) / (A(1) + e);
}

template <class T>
DEVICE void pointwise_activate(const ActivateArgs<T>& args) {
  using A = Accumulator<T>;
  const A slope = static_cast<A>(args.slope);
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    A x = widen(args.x.load(i)), y = 0;
    // comparisons are written so that NaN stays NaN
    if (args.function == relu) y = x < 0 ? A(0) : x;
    if (args.function == leaky_relu) y = x < 0 ? slope * x : x;
    if (args.function == sigmoid) y = sigmoid_of(x);
    if (args.function == hyperbolic_tangent) y = ptx::hyperbolic_tangent(x);
    args.result.store(i, narrow<T>(y));
  }
}

template <class T>
DEVICE void pointwise_activate_backward(const ActivateArgs<T>& args) {
  using A = Accumulator<T>;
  const A slope = static_cast<A>(args.slope);
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    A x = widen(args.x.load(i)), dy = widen(args.dy.load(i)), dx = 0;
    if (args.function == relu) dx = x <= 0 ? A(0) : dy;
    if (args.function == leaky_relu) dx = x > 0 ? dy : slope * dy;
    if (args.function == sigmoid) {
      A y = sigmoid_of(x);
      dx = dy * y * (A(1) - y);
    }
    if (args.function == hyperbolic_tangent) {
      A y = ptx::hyperbolic_tangent(x);
      dx = dy * (A(1) - y * y);
    }
    args.result.store(i, narrow<T>(dx));
  }
}

template <class T>
struct DropoutArgs {
  Global<T> x, result;
  int64_t length;
  uint64_t seed;
  double probability, scale;
};
LAYOUT_SIZE(DropoutArgs<f32>, 48);

// The finaliser of SplitMix64 on a counter (Steele, Lea and Flood, 2014), its upper 53 bits in [0, 1).
DEVICE double uniform(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * (1.0 / 9007199254740992.0);
}

template <class T>
DEVICE void pointwise_dropout(const DropoutArgs<T>& args) {
  const auto scale = static_cast<Accumulator<T>>(args.scale);
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    T kept = narrow<T>(widen(args.x.load(i)) * scale);
    bool keep = uniform(args.seed, static_cast<uint64_t>(i)) >= args.probability;
    args.result.store(i, keep ? kept : T{});
  }
}

template <class T>
struct FillArgs {
  Global<T> result;
  int64_t length;
  uint64_t pattern;
};
LAYOUT_SIZE(FillArgs<uint32_t>, 24);

template <class T>
DEVICE void pointwise_fill(const FillArgs<T>& args) {
  for (int64_t i = global_thread(); i < args.length; i += global_threads())
    args.result.store(i, static_cast<T>(args.pattern));
}

template <class S, class T>
struct CastArgs {
  Global<S> source;
  Global<T> result;
  int64_t length;
};

// Through f64, which holds every type: one rounding.
template <class S, class T>
DEVICE void pointwise_cast(const CastArgs<S, T>& args) {
  for (int64_t i = global_thread(); i < args.length; i += global_threads())
    args.result.store(i, from_double<T>(static_cast<double>(widen(args.source.load(i)))));
}

}  // namespace

KERNEL_EACH_ELEMENT(pointwise_activate, 256, ActivateArgs, pointwise_activate)
KERNEL_EACH_ELEMENT(pointwise_activate_backward, 256, ActivateArgs, pointwise_activate_backward)
KERNEL_EACH_ELEMENT(pointwise_dropout, 256, DropoutArgs, pointwise_dropout)
KERNEL(pointwise_fill_b2, 256, FillArgs<uint16_t>, pointwise_fill<uint16_t>)
KERNEL(pointwise_fill_b4, 256, FillArgs<uint32_t>, pointwise_fill<uint32_t>)
KERNEL(pointwise_fill_b8, 256, FillArgs<uint64_t>, pointwise_fill<uint64_t>)

// An argument list with a comma in it does not pass through a macro: a name without one does.
#define CAST(SOURCE, TARGET)                                  \
  using CastArgs_##SOURCE##_##TARGET = CastArgs<SOURCE, TARGET>; \
  KERNEL(pointwise_cast_##SOURCE##_##TARGET, 256, CastArgs_##SOURCE##_##TARGET, pointwise_cast<SOURCE, TARGET>)
CAST(f16, bf16)
CAST(f16, f32)
CAST(f16, f64)
CAST(bf16, f16)
CAST(bf16, f32)
CAST(bf16, f64)
CAST(f32, f16)
CAST(f32, bf16)
CAST(f32, f64)
CAST(f64, f16)
CAST(f64, bf16)
CAST(f64, f32)
