// Padding modes and their adjoint: padded[n, c, q] = x[n, c, source(q)], dx = its transpose.
//
// A thread owns one element of the result and gathers; sums run in the order of q.
#include "walk.cuh"

namespace {

enum Mode : uint32_t { reflect = 1, replicate = 2, circular = 3 };

template <class T>
struct PadArgs {
  Global<T> source, target;
  ActivationMap from;   // of the source
  ImageWalk walk;       // of the target
  int32_t input[4];     // positions of the unpadded activation
  int32_t before[4], after[4];
  uint32_t mode, accumulate;
};
LAYOUT_SIZE(PadArgs<f32>, 208);
LAYOUT_FIELD(PadArgs<f32>, walk, 64);
LAYOUT_FIELD(PadArgs<f32>, input, 152);

// The input position that padded position q, counted from the input's first, is copied from.
DEVICE int fold(uint32_t mode, int q, int size) {
  if (q >= 0 && q < size) return q;
  if (mode == replicate) return q < 0 ? 0 : size - 1;
  if (mode == circular) return q < 0 ? q + size : q - size;
  return q < 0 ? -q : 2 * (size - 1) - q;
}

template <class T>
DEVICE void pad_forward(const PadArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int position[4];
    unsigned channel = args.walk.place(e, position);
    int64_t at = image * args.from.batch + channel * args.from.channel;
#pragma unroll
    for (int a = 0; a < 4; ++a)
      at += fold(args.mode, position[a] - args.before[a], args.input[a]) * args.from.axis[a];
    args.target.store(image * args.walk.elements + e, args.source.load(at));
  });
}

// The padded positions q that fold onto input position i, ascending, as three stretches.
struct Stretches {
  int begin[3], end[3];
};
DEVICE Stretches sources_of(uint32_t mode, int i, int size, int before, int after) {
  Stretches s{{0, i, 0}, {0, i + 1, 0}};
  auto single = [&](int k, int q) {
    bool there = k == 0 ? q < 0 && q >= -before : q >= size && q < size + after;
    if (there) s.begin[k] = q, s.end[k] = q + 1;
  };
  if (mode == replicate) {
    if (i == 0) s.begin[0] = -before, s.end[0] = 0;
    if (i == size - 1) s.begin[2] = size, s.end[2] = size + after;
  } else if (mode == circular) {
    single(0, i - size);
    single(2, i + size);
  } else {
    single(0, -i);
    single(2, 2 * (size - 1) - i);
  }
  return s;
}

template <class T>
struct AdjointSum {
  const PadArgs<T>& args;
  Stretches (&stretches)[4];
  Accumulator<T> sum;

  template <int AXIS>
  DEVICE void add(int64_t at) {
    if constexpr (AXIS == 4) {
      sum += widen(args.source.load(at));
    } else {
      for (int k = 0; k < 3; ++k)
        for (int q = stretches[AXIS].begin[k]; q < stretches[AXIS].end[k]; ++q)
          add<AXIS + 1>(at + (q + args.before[AXIS]) * args.from.axis[AXIS]);
    }
  }
};

template <class T>
DEVICE void pad_adjoint(const PadArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int position[4];
    unsigned channel = args.walk.place(e, position);
    Stretches stretches[4];
#pragma unroll
    for (int a = 0; a < 4; ++a)
      stretches[a] = sources_of(args.mode, position[a], args.input[a], args.before[a], args.after[a]);
    int64_t at = image * args.walk.elements + e;
    AdjointSum<T> total{args, stretches, args.accumulate ? widen(args.target.load(at)) : 0};
    total.template add<0>(image * args.from.batch + channel * args.from.channel);
    args.target.store(at, narrow<T>(total.sum));
  });
}

}  // namespace

KERNEL(pad_forward_b2, 256, PadArgs<uint16_t>, pad_forward<uint16_t>)
KERNEL(pad_forward_b4, 256, PadArgs<uint32_t>, pad_forward<uint32_t>)
KERNEL(pad_forward_b8, 256, PadArgs<uint64_t>, pad_forward<uint64_t>)
KERNEL_EACH_ELEMENT(pad_adjoint, 256, PadArgs, pad_adjoint)
