// Groups of few channels, depthwise above all, without a matrix product.
//
//   rows:  fprop and dgrad, y[image, group k + column, pixel] = sum over (tap, channel); a thread owns
//          RUN neighbours on the last axis and walks taps and channels, so that a weight is read once
//          for all of them, and with stride and dilation 1 on that axis every x but once a row of taps
//   wgrad: dw[k, (tap, c)] = sum over (image, pixel); a block owns CELLS of (tap, c) for 1 or 32
//          channels k in one split of the sum, a thread a part of the sum
// Threads go along memory, so neighbours read neighbouring pixels or channels.
#include "weights.cuh"

namespace {

constexpr int RUN = 4, CELLS = 9;  // CELLS: the taps of 3 x 3

template <class T>
struct DirectArgs {
  ConvArgs<T> conv;
  ImageWalk walk;   // of the result, in runs along the last axis
  Divisor columns;  // channels of a group in the result
  uint32_t reserved;
};
LAYOUT_SIZE(DirectArgs<f32>, 584);
LAYOUT_FIELD(DirectArgs<f32>, walk, 480);
LAYOUT_FIELD(DirectArgs<f32>, columns, 568);

template <class T>
struct RunSum {
  using A = Accumulator<T>;
  const ConvArgs<T>& args;
  const int (&position)[4];  // of the run's first
  int64_t channel_step;      // in the weight
  A sums[RUN];

  // Where `tap` leads from a position of the result; false: to nothing.
  DEVICE bool source(int axis, int from, int tap, int& at) const {
    const int reach = tap * args.dilation[axis], stride = args.stride[axis];
    at = from * stride - args.padding[axis] + reach;
    bool there = true;
    if (args.transposed) {
      const int numerator = from + args.padding[axis] - reach;
      at = stride == 1 ? numerator : numerator / stride;
      there = at * stride == numerator;
    }
    return there && static_cast<unsigned>(at) < static_cast<unsigned>(args.gathered_size[axis]);
  }

  // Adds the taps of AXIS and the axes inside it; `g` and `w` are where the axes outside led to.
  template <int AXIS>
  DEVICE void add(int64_t g, int64_t w) {
    if constexpr (AXIS == 3) {
#pragma unroll 1
      for (unsigned c = 0; c < args.channels.divisor; ++c)
        along(g + c * args.from.channel, w + c * channel_step);
    } else {
#pragma unroll 1
      for (int tap = 0, at; tap < args.taps[AXIS]; ++tap)
        if (source(AXIS, position[AXIS], tap, at))
          add<AXIS + 1>(g + at * args.from.axis[AXIS], w + tap * args.weight_axis[AXIS]);
    }
  }

  DEVICE A element(int64_t g, int from, int tap) const {
    int at;
    return source(3, from, tap, at) ? widen(args.gathered.load(g + at * args.from.axis[3])) : A{};
  }

  // The taps of the last axis.
  DEVICE void along(int64_t g, int64_t w) {
    const bool slides = args.stride[3] == 1 && args.dilation[3] == 1;
    A x[RUN];
#pragma unroll 1
    for (int tap = 0; tap < args.taps[3]; ++tap) {
      if (tap == 0 || !slides) {
#pragma unroll
        for (int i = 0; i < RUN; ++i) x[i] = element(g, position[3] + i, tap);
      } else if (args.transposed) {
#pragma unroll
        for (int i = RUN - 1; i > 0; --i) x[i] = x[i - 1];
        x[0] = element(g, position[3], tap);
      } else {
#pragma unroll
        for (int i = 0; i < RUN - 1; ++i) x[i] = x[i + 1];
        x[RUN - 1] = element(g, position[3] + RUN - 1, tap);
      }
      const A factor = widen(args.other.load(w + tap * args.weight_axis[3]));
#pragma unroll
      for (int i = 0; i < RUN; ++i) sums[i] = ptx::multiply_add(x[i], factor, sums[i]);
    }
  }
};

template <class T>
DEVICE void rows(const DirectArgs<T>& args) {
  const ConvArgs<T>& conv = args.conv;
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int position[4];
    const unsigned channel = args.walk.place(e, position);
    position[3] *= RUN;
    const unsigned group = args.columns.quotient(channel);
    const unsigned column = channel - group * args.columns.divisor;
    const int64_t first = static_cast<int64_t>(group) * conv.channels.divisor;
    const int64_t g = image * conv.from.batch + first * conv.from.channel;
    const int64_t w = conv.transposed ? first * conv.weight_outer + column * conv.weight_channel
                                      : channel * conv.weight_outer;
    RunSum<T> run{conv, position, conv.transposed ? conv.weight_outer : conv.weight_channel, {}};
    run.template add<0>(g, w);
    int64_t at = image * conv.to.batch + channel * conv.to.channel;
    for (int a = 0; a < 4; ++a) at += position[a] * conv.to.axis[a];
#pragma unroll
    for (int i = 0; i < RUN; ++i)
      if (position[3] + i < conv.result_size[3])
        store_result(conv, at + i * conv.to.axis[3], channel, run.sums[i]);
  });
}

template <class T>
struct DirectWgradArgs {
  ConvArgs<T> conv;
  Divisor columns;  // channels k of a group
  uint32_t lanes;   // neighbouring threads on neighbouring channels k: 1 or 32
};
LAYOUT_SIZE(DirectWgradArgs<f32>, 496);
LAYOUT_FIELD(DirectWgradArgs<f32>, columns, 480);

template <class T>
DEVICE void wgrad(const DirectWgradArgs<T>& args) {
  using A = Accumulator<T>;
  const ConvArgs<T>& conv = args.conv;
  DYNAMIC_SHARED(memory);
  SharedCutter cut{memory};
  auto offset = cut.take<int64_t>(CELLS);
  auto in_weight = cut.take<int64_t>(CELLS);
  auto position = cut.take<Position>(CELLS);
  auto sums = cut.take<A>(CELLS * 256);
  const int thread = static_cast<int>(threadIdx.x), lanes = static_cast<int>(args.lanes);
  // blocks: (splits, channels, cells), the cells of a channel side by side
  const unsigned all = conv.groups * conv.columns, cells = (conv.rows + CELLS - 1) / CELLS;
  const unsigned channels = (all + args.lanes - 1) / args.lanes;
  const unsigned block = blockIdx.x / cells, split = block / channels;
  const unsigned channel =
      block % channels * args.lanes + static_cast<unsigned>(thread % lanes);
  const unsigned begin = split * conv.split_length;
  const unsigned end = conv.steps - begin < conv.split_length ? conv.steps : begin + conv.split_length;
  const unsigned group = args.columns.quotient(channel);
  const Weights<T> of_group_0{conv, 0, split, blockIdx.x % cells * CELLS, 0, begin, end};
  if (thread < CELLS) {
    const Place place = of_group_0.place_p(thread);
    offset[thread] = place.offset;
    in_weight[thread] = place.counterpart;
    position[thread] = place.position;
  }
  __syncthreads();
  A mine[CELLS] = {};
  if (channel < all) {
    const int64_t x = static_cast<int64_t>(group) * conv.channels.divisor * conv.from.channel;
    const int64_t dy = channel * conv.to.channel;
    for (unsigned s = begin + static_cast<unsigned>(thread / lanes); s < end; s += 256 / args.lanes) {
      const Place place = of_group_0.place_s(s);
      const A factor = widen(conv.other.load(dy + place.counterpart));
#pragma unroll
      for (int e = 0; e < CELLS; ++e)
        if (inside(position[e], place.position, conv.gathered_size))
          mine[e] = ptx::multiply_add(widen(conv.gathered.load(x + offset[e] + place.offset)), factor,
                                      mine[e]);
    }
  }
  for (int e = 0; e < CELLS; ++e) sums[e * 256 + thread] = mine[e];
  __syncthreads();
  for (int half = 128; half >= lanes; half /= 2) {
    if (thread < half)
      for (int e = 0; e < CELLS; ++e) sums[e * 256 + thread] += sums[e * 256 + thread + half];
    __syncthreads();
  }
  if (thread >= lanes || channel >= all) return;
  const Weights<T> side{conv, group, split, 0, channel - group * args.columns.divisor, begin, end};
  for (int e = 0; e < CELLS; ++e)
    if (in_weight[e] >= 0) side.store(in_weight[e], 0, sums[e * 256 + thread]);
}

}  // namespace

KERNEL_EACH_ELEMENT(conv_direct_rows, 256, DirectArgs, rows)
KERNEL_EACH_ELEMENT(conv_direct_wgrad, 256, DirectWgradArgs, wgrad)
