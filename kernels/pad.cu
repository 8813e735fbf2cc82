// Padding modes and their adjoint: padded[n, c, q] = x[n, c, source(q)], dx = its transpose.
//
// A thread owns one element of the result and gathers; sums run in the order of q.
#include "walk.cuh"

namespace {

enum Mode : uint32_t { reflect = 1, replicate = 2, circular = 3 };

template <class T, class Source = T>
struct PadArgs {
  Global<Source> source;
  Global<T> target;
  ActivationMap from;   // of the source
  ImageWalk walk;       // of the target
  int32_t input[4];     // positions of the unpadded activation
  int32_t before[4], after[4];
  uint32_t mode, accumulate;
};
LAYOUT_SIZE(PadArgs<f32>, 208);
LAYOUT_FIELD(PadArgs<f32>, walk, 64);
LAYOUT_FIELD(PadArgs<f32>, input, 152);

// The adjoint reads sums that have not been rounded yet.
template <class T>
using AdjointArgs = PadArgs<T, Accumulator<T>>;

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

// The padded positions [begin, end) that fold onto input position i, in three stretches k: before
// the input, i itself, after the input.
DEVICE void sources_of(uint32_t mode, int k, int i, int size, int before, int after, int& begin,
                       int& end) {
  begin = i, end = i + 1;
  if (k == 1) return;
  if (mode == replicate) {
    begin = k == 0 ? -before : size;
    end = k == 0 ? 0 : size + after;
    if (i != (k == 0 ? 0 : size - 1)) end = begin;
    return;
  }
  if (mode == circular)
    begin = k == 0 ? i - size : i + size;
  else
    begin = k == 0 ? -i : 2 * (size - 1) - i;
  const bool there = k == 0 ? begin < 0 && begin >= -before : begin >= size && begin < size + after;
  end = there ? begin + 1 : begin;
}

template <class T>
struct AdjointSum {
  const AdjointArgs<T>& args;
  const int (&position)[4];
  Accumulator<T> sum;

  template <int AXIS>
  DEVICE void add(int64_t at) {
    if constexpr (AXIS == 4) {
      sum += args.source.load(at);
    } else {
#pragma unroll 1
      for (int k = 0; k < 3; ++k) {
        int begin, end;
        sources_of(args.mode, k, position[AXIS], args.input[AXIS], args.before[AXIS],
                   args.after[AXIS], begin, end);
#pragma unroll 1
        for (int q = begin; q < end; ++q)
          add<AXIS + 1>(at + (q + args.before[AXIS]) * args.from.axis[AXIS]);
      }
    }
  }
};

template <class T>
DEVICE void pad_adjoint(const AdjointArgs<T>& args) {
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int position[4];
    unsigned channel = args.walk.place(e, position);
    int64_t at = image * args.walk.elements + e;
    AdjointSum<T> total{args, position, args.accumulate ? widen(args.target.load(at)) : 0};
    total.template add<0>(image * args.from.batch + channel * args.from.channel);
    args.target.store(at, narrow<T>(total.sum));
  });
}

}  // namespace

KERNEL(pad_forward_b2, 256, PadArgs<uint16_t>, pad_forward<uint16_t>)
KERNEL(pad_forward_b4, 256, PadArgs<uint32_t>, pad_forward<uint32_t>)
KERNEL(pad_forward_b8, 256, PadArgs<uint64_t>, pad_forward<uint64_t>)
KERNEL_EACH_ELEMENT(pad_adjoint, 256, AdjointArgs, pad_adjoint)
