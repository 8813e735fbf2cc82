// fprop and dgrad as rows (pixels) of a matrix product, for `contract` and its tensor-core sibling.
//
// A strided dgrad falls into prod(stride) phases: input positions i with (i + padding) % stride = r
// meet the taps t with (t * dilation) % stride = r alone, and within a phase the pass is a dense
// convolution of stride 1. All phases are in one launch; one without taps writes zeros or the bias.
#pragma once

#include "conv.cuh"

DEVICE Divisor divisor(unsigned d) {
  unsigned shift = 0;
  while (shift < 32 && (uint64_t{1} << shift) < d) ++shift;
  uint64_t multiplier = ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - d)) / d + 1;
  return Divisor{d, static_cast<uint32_t>(multiplier), shift};
}

// One axis of one phase: result position u stands at first + u * spacing, and meets the phase's tap
// j, which is tap first_tap + j * tap_spacing, at origin + u * step + j * hop of the other side.
struct PhaseAxis {
  int first, spacing, count;
  int first_tap, tap_spacing;
  int origin, step, hop;
  Divisor taps;
};

template <class T>
DEVICE PhaseAxis phase_axis(const ConvArgs<T>& args, int a, int r) {
  const int stride = args.stride[a], dilation = args.dilation[a], padding = args.padding[a];
  const int taps = args.taps[a];
  if (!args.transposed)
    return {0, 1, args.result_size[a], 0, 1, -padding, stride, dilation,
            divisor(static_cast<unsigned>(taps))};
  int period = 1;  // stride / gcd(stride, dilation): taps of one phase lie so far apart
  while (static_cast<int64_t>(period) * dilation % stride != 0) ++period;
  int tap = 0;
  while (tap < period && tap < taps && static_cast<int64_t>(tap) * dilation % stride != r) ++tap;
  const bool any = tap < period && tap < taps;
  int first = (r - padding) % stride;
  if (first < 0) first += stride;
  const int count = first < args.result_size[a] ? (args.result_size[a] - 1 - first) / stride + 1 : 0;
  const unsigned there = any ? static_cast<unsigned>((taps - 1 - tap) / period + 1) : 0;
  const auto hop = static_cast<int>(static_cast<int64_t>(period) * dilation / stride);
  // exact: first + padding and tap * dilation leave the same remainder
  const auto origin = static_cast<int>((static_cast<int64_t>(first) + padding -
                                        static_cast<int64_t>(tap) * dilation) / stride);
  return {first, stride, count, tap, period, origin, 1, -hop,
          any ? divisor(there) : Divisor{0, 0, 0}};
}

// The side of fprop and dgrad in `contract`. PACKED: the weight was rearranged to (columns of all
// groups, taps, channels), where `channels` counts those that pad it too; their products are left out.
template <class T, bool PACKED>
struct Rows {
  const ConvArgs<T>& args;
  Shared<PhaseAxis> axes;
  unsigned group, first_row, first_column;
  uint32_t begin, end;
  Divisor taps, channels;

  DEVICE Place place_p(int i) const {
    Place place{0, -1, {{NOWHERE, 0, 0, 0}}};
    unsigned row = first_row + static_cast<unsigned>(i);
    if (row >= args.rows) return place;
    unsigned image = args.pixels.quotient(row);
    int u[4];
    unravel(row - image * args.pixels.divisor, args.pixel_axis, u);
    int64_t offset = image * args.from.batch, result = image * args.to.batch;
    bool exists = true;
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      const PhaseAxis& axis = axes[a];
      exists &= u[a] < axis.count;
      int position = axis.origin + u[a] * axis.step;
      place.position.axis[a] = position;
      offset += position * args.from.axis[a];
      result += (axis.first + u[a] * axis.spacing) * args.to.axis[a];
    }
    if (!exists) place.position.axis[0] = NOWHERE;
    place.offset = offset;
    place.counterpart = exists ? result : -1;
    return place;
  }

  DEVICE Place place_s(uint32_t s) const {
    const Divisor& inner = PACKED || args.channels_inner ? channels : taps;
    unsigned outer = inner.quotient(s), rest = s - outer * inner.divisor;
    unsigned channel = rest, tap = outer;
    if (!PACKED && !args.channels_inner) channel = outer, tap = rest;
    Place place;
    place.offset = (static_cast<int64_t>(group) * args.channels.divisor + channel) * args.from.channel;
    // fprop sums over the weight's channels, dgrad over its outer axis
    place.counterpart =
        !PACKED && args.transposed
            ? (static_cast<int64_t>(group) * args.channels.divisor + channel) * args.weight_outer
            : channel * args.weight_channel;
#pragma unroll
    for (int a = 3; a >= 0; --a) {
      const PhaseAxis& axis = axes[a];
      unsigned next = axis.taps.quotient(tap);
      auto j = static_cast<int>(tap - next * axis.taps.divisor);
      tap = next;
      place.position.axis[a] = j * axis.hop;
      place.offset += j * axis.hop * args.from.axis[a];
      place.counterpart += (axis.first_tap + j * axis.tap_spacing) * args.weight_axis[a];
    }
    if (PACKED && channel >= args.channels.divisor) place.position.axis[0] = NOWHERE;
    return place;
  }

  DEVICE int64_t other_q(int i) const {
    unsigned column = first_column + static_cast<unsigned>(i);
    if (column >= args.columns) return -1;
    return !PACKED && args.transposed
               ? column * args.weight_channel
               : (static_cast<int64_t>(group) * args.columns + column) * args.weight_outer;
  }

  DEVICE void store(int64_t at_p, int i, Accumulator<T> sum) const {
    int64_t channel = static_cast<int64_t>(group) * args.columns + first_column + i;
    store_result(args, at_p + channel * args.to.channel, channel, sum);
  }
};

// What the running block owns of it.
template <class T, int P, int Q, bool PACKED>
DEVICE Rows<T, PACKED> block_rows(const ConvArgs<T>& args, const Divisor& channels,
                                  SharedCutter& cut) {
  auto axes = cut.take<PhaseAxis>(4);
  // blocks: (phases, row tiles, groups, column tiles), column tiles side by side, then the groups:
  // where channels come last they share the lines of a pixel
  unsigned block = blockIdx.x;
  const unsigned columns = (args.columns + Q - 1) / Q, rows = (args.rows + P - 1) / P;
  const unsigned column = block % columns;
  block /= columns;
  const unsigned group = block % args.groups;
  block /= args.groups;
  const unsigned row = block % rows, phase = block / rows;
  if (threadIdx.x < 4) {
    const int a = static_cast<int>(threadIdx.x);
    unsigned r = phase;
    if (args.transposed) {
      for (int b = 3; b > a; --b) r /= static_cast<unsigned>(args.stride[b]);
      r %= static_cast<unsigned>(args.stride[a]);
    }
    axes[a] = phase_axis(args, a, static_cast<int>(r));
  }
  __syncthreads();
  unsigned taps = 1;
  for (int a = 0; a < 4; ++a) taps *= axes[a].taps.divisor;
  return {args,     axes, group, row * P, column * Q, 0, taps * channels.divisor,
          taps ? divisor(taps) : Divisor{0, 0, 0}, channels};
}
