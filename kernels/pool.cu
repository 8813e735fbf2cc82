// Max and average pooling and their gradients: y[n, c, o] from x[n, c, o * stride + t * dilation - p].
//
// A thread owns one element of the result and gathers: a gradient visits the windows over its
// position in ascending order, so the bits never depend on timing.
#include "walk.cuh"

namespace {

template <class T>
struct PoolArgs {
  Global<T> source;          // x, or dy of a gradient
  Global<T> target;          // y or dx; null: only the winners are wanted
  Global<uint32_t> winners;  // per window the offset in its image of the first maximum, or null
  ActivationMap from;        // of the source
  ImageWalk walk;            // of the target; of the winners when there is no target
  int32_t input[4], output[4], taps[4], stride[4], dilation[4], before[4], after[4];
  uint32_t count_padding, reserved;
};
LAYOUT_SIZE(PoolArgs<f32>, 280);
LAYOUT_FIELD(PoolArgs<f32>, walk, 72);
LAYOUT_FIELD(PoolArgs<f32>, input, 160);
LAYOUT_FIELD(PoolArgs<f32>, count_padding, 272);

// No input: what a window that lies in padding alone has for a winner.
constexpr uint32_t NOBODY = 0xffffffffu;

DEVICE int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }
DEVICE int divide_up(int a, int b) { return a > 0 ? (a - 1) / b + 1 : -(-a / b); }

// The taps [begin, end) of window o on one axis that lie on the input.
template <class T>
DEVICE void taps_inside(const PoolArgs<T>& args, int a, int o, int& begin, int& end) {
  int origin = o * args.stride[a] - args.before[a];
  begin = clamp(divide_up(-origin, args.dilation[a]), 0, args.taps[a]);
  end = clamp(divide_up(args.input[a] - origin, args.dilation[a]), begin, args.taps[a]);
}

// Runs f(offset in the image) for the inputs of a window in row-major order.
template <int AXIS, class T, class F>
DEVICE void each_input(const PoolArgs<T>& args, const int (&o)[4], int64_t at, F& f) {
  if constexpr (AXIS == 4) {
    f(at);
  } else {
    int begin, end;
    taps_inside(args, AXIS, o[AXIS], begin, end);
#pragma unroll 1
    for (int t = begin; t < end; ++t) {
      int i = o[AXIS] * args.stride[AXIS] - args.before[AXIS] + t * args.dilation[AXIS];
      each_input<AXIS + 1>(args, o, at + i * args.from.axis[AXIS], f);
    }
  }
}

// Runs f(position of the window) for the windows over an input, in row-major order.
template <int AXIS, class T, class F>
DEVICE void each_window(const PoolArgs<T>& args, const int (&i)[4], int (&o)[4], F& f) {
  if constexpr (AXIS == 4) {
    f();
  } else {
    int reach = i[AXIS] + args.before[AXIS];
    int first = divide_up(reach - (args.taps[AXIS] - 1) * args.dilation[AXIS], args.stride[AXIS]);
    int last = clamp(reach / args.stride[AXIS], -1, args.output[AXIS] - 1);
#pragma unroll 1
    for (o[AXIS] = first > 0 ? first : 0; o[AXIS] <= last; ++o[AXIS])
      if ((reach - o[AXIS] * args.stride[AXIS]) % args.dilation[AXIS] == 0)
        each_window<AXIS + 1>(args, i, o, f);
  }
}

// sum / count, where count is what the window's mean divides by.
template <class T>
DEVICE Accumulator<T> share(const PoolArgs<T>& args, const int (&o)[4], Accumulator<T> sum) {
  int64_t count = 1;
  for (int a = 0; a < 4; ++a) {
    int begin, end;
    taps_inside(args, a, o[a], begin, end);
    int origin = o[a] * args.stride[a] - args.before[a];
    int limit = args.input[a] + args.after[a] - origin;  // what lies past the padding never counts
    count *= args.count_padding ? clamp(divide_up(limit, args.dilation[a]), 0, args.taps[a])
                                : end - begin;
  }
  return count ? sum / static_cast<Accumulator<T>>(count) : 0;
}

template <class T>
DEVICE void pool_max(const PoolArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int o[4];
    unsigned channel = args.walk.place(e, o);
    uint32_t winner = NOBODY;
    Accumulator<T> best = -INFINITY;
    auto visit = [&](int64_t at) {
      auto v = widen(args.source.load(image * args.from.batch + at));
      // the first maximum wins, and the first NaN for good
      if (winner == NOBODY || (best == best && (v > best || v != v))) {
        winner = static_cast<uint32_t>(at);
        best = v;
      }
    };
    each_input<0>(args, o, channel * args.from.channel, visit);
    int64_t at = image * args.walk.elements + e;
    if (!args.winners.is_null()) args.winners.store(at, winner);
    if (!args.target.is_null()) args.target.store(at, narrow<T>(best));
  });
}

template <class T>
DEVICE void pool_avg(const PoolArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int o[4];
    unsigned channel = args.walk.place(e, o);
    Accumulator<T> sum = 0;
    auto visit = [&](int64_t at) { sum += widen(args.source.load(image * args.from.batch + at)); };
    each_input<0>(args, o, channel * args.from.channel, visit);
    args.target.store(image * args.walk.elements + e, narrow<T>(share(args, o, sum)));
  });
}

// dx[i] = sum of dy over the windows that i won.
template <class T>
DEVICE void pool_max_backward(const PoolArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int i[4], o[4];
    unsigned channel = args.walk.place(e, i);
    Accumulator<T> sum = 0;
    auto visit = [&]() {
      int64_t at = image * args.from.batch + channel * args.from.channel;
      for (int a = 0; a < 4; ++a) at += o[a] * args.from.axis[a];
      if (args.winners.load(at) == e) sum += widen(args.source.load(at));
    };
    each_window<0>(args, i, o, visit);
    args.target.store(image * args.walk.elements + e, narrow<T>(sum));
  });
}

// dx[i] = sum over the windows that hold i of dy / count.
template <class T>
DEVICE void pool_avg_backward(const PoolArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int i[4], o[4];
    unsigned channel = args.walk.place(e, i);
    Accumulator<T> sum = 0;
    auto visit = [&]() {
      int64_t at = image * args.from.batch + channel * args.from.channel;
      for (int a = 0; a < 4; ++a) at += o[a] * args.from.axis[a];
      sum += share(args, o, widen(args.source.load(at)));
    };
    each_window<0>(args, i, o, visit);
    args.target.store(image * args.walk.elements + e, narrow<T>(sum));
  });
}

}  // namespace

KERNEL_EACH_ELEMENT(pool_max, 256, PoolArgs, pool_max)
KERNEL_EACH_ELEMENT(pool_max_backward, 256, PoolArgs, pool_max_backward)
KERNEL_EACH_ELEMENT(pool_avg, 256, PoolArgs, pool_avg)
KERNEL_EACH_ELEMENT(pool_avg_backward, 256, PoolArgs, pool_avg_backward)
