// Softmax over the channel axis: y = exp(x - max) / sum, dx = y (dy - <y, dy>).
//
// A row has `length` elements `step` apart. With step 1 a warp owns a row and its lanes take every
// 32nd element; else a thread owns a row, and neighbouring threads read neighbouring elements.
#include "element.cuh"

namespace {

template <class T>
struct SoftmaxArgs {
  Global<T> x, dy, result;  // dy: null in the forward pass
  int64_t rows, length, step;
};
LAYOUT_SIZE(SoftmaxArgs<f32>, 48);

// Adds (or takes the maximum of) the lanes' values in a fixed tree.
template <class A, class F>
DEVICE A across_warp(A v, bool by_warp, F f) {
  if (by_warp)
    for (int bits = 16; bits > 0; bits /= 2) v = f(v, ptx::shuffle_xor(v, bits));
  return v;
}

// The maximum; a NaN may win or lose, the sum is NaN either way.
template <class A>
DEVICE A larger(A a, A b) {
  return a > b ? a : b;
}

template <class T>
struct Row {
  using A = Accumulator<T>;
  const SoftmaxArgs<T>& args;
  int64_t base, first, stride;
  bool by_warp;
  A max, sum;

  DEVICE Row(const SoftmaxArgs<T>& args, int64_t row) : args(args), by_warp(args.step == 1) {
    base = row / args.step * args.length * args.step + row % args.step;
    first = by_warp ? threadIdx.x % 32 : 0;
    stride = by_warp ? 32 : 1;
    max = -INFINITY;
    for (int64_t c = first; c < args.length; c += stride) max = larger(max, x(c));
    max = across_warp(max, by_warp, [](A a, A b) { return larger(a, b); });
    sum = 0;
    for (int64_t c = first; c < args.length; c += stride) sum += ptx::exponential(x(c) - max);
    sum = across_warp(sum, by_warp, [](A a, A b) { return a + b; });
  }
  DEVICE int64_t at(int64_t c) const { return base + c * args.step; }
  DEVICE A x(int64_t c) const { return widen(args.x.load(at(c))); }
  DEVICE A y(int64_t c) const { return ptx::exponential(x(c) - max) / sum; }
};

template <class T, class F>
DEVICE void each_row(const SoftmaxArgs<T>& args, F f) {
  const int64_t width = args.step == 1 ? 32 : 1;
  for (int64_t row = global_thread() / width; row < args.rows; row += global_threads() / width)
    f(Row<T>(args, row));
}

template <class T>
DEVICE void softmax_forward(const SoftmaxArgs<T>& args) {
  each_row(args, [&](const Row<T>& row) {
    for (int64_t c = row.first; c < args.length; c += row.stride)
      args.result.store(row.at(c), narrow<T>(row.y(c)));
  });
}

template <class T>
DEVICE void softmax_backward(const SoftmaxArgs<T>& args) {
  using A = Accumulator<T>;
  each_row(args, [&](const Row<T>& row) {
    A inner = 0;
    for (int64_t c = row.first; c < args.length; c += row.stride)
      inner += row.y(c) * widen(args.dy.load(row.at(c)));
    inner = across_warp(inner, row.by_warp, [](A a, A b) { return a + b; });
    for (int64_t c = row.first; c < args.length; c += row.stride)
      args.result.store(row.at(c), narrow<T>(row.y(c) * (widen(args.dy.load(row.at(c))) - inner)));
  });
}

}  // namespace

KERNEL_EACH_ELEMENT(softmax_forward, 256, SoftmaxArgs, softmax_forward)
KERNEL_EACH_ELEMENT(softmax_backward, 256, SoftmaxArgs, softmax_backward)
