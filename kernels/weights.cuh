// wgrad as rows (tap, channel) of a matrix product, for `contract` and its tensor-core sibling.
//
// The sum over batch * pixels falls into `splits` stretches of fixed length, each with its own copy
// of dw in `partial`; reduce.cu adds the copies in order, so the bits never depend on timing.
#pragma once

#include "conv.cuh"

// The side of wgrad in `contract`.
template <class T>
struct Weights {
  const ConvArgs<T>& args;
  unsigned group, split, first_row, first_column;
  uint32_t begin, end;

  DEVICE Place place_p(int i) const {
    Place place{0, -1, {{NOWHERE, 0, 0, 0}}};
    unsigned row = first_row + static_cast<unsigned>(i);
    if (row >= args.rows) return place;
    const Divisor& inner = args.channels_inner ? args.channels : args.tap_count;
    unsigned outer = inner.quotient(row), rest = row - outer * inner.divisor;
    unsigned channel = args.channels_inner ? rest : outer, tap = args.channels_inner ? outer : rest;
    int j[4];
    unravel(tap, args.tap_axis, j);
    place.offset = (static_cast<int64_t>(group) * args.channels.divisor + channel) * args.from.channel;
    place.counterpart = channel * args.weight_channel;
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      int position = j[a] * args.dilation[a] - args.padding[a];
      place.position.axis[a] = position;
      place.offset += position * args.from.axis[a];
      place.counterpart += j[a] * args.weight_axis[a];
    }
    return place;
  }

  DEVICE Place place_s(uint32_t s) const {
    unsigned image = args.pixels.quotient(s);
    int u[4];
    unravel(s - image * args.pixels.divisor, args.pixel_axis, u);
    Place place;
    place.offset = image * args.from.batch;
    place.counterpart = image * args.to.batch;
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      place.position.axis[a] = u[a] * args.stride[a];
      place.offset += place.position.axis[a] * args.from.axis[a];
      place.counterpart += u[a] * args.to.axis[a];
    }
    return place;
  }

  DEVICE int64_t other_q(int i) const {
    unsigned column = first_column + static_cast<unsigned>(i);
    if (column >= args.columns) return -1;
    return (static_cast<int64_t>(group) * args.columns + column) * args.to.channel;
  }

  DEVICE void store(int64_t at_p, int i, Accumulator<T> sum) const {
    int64_t k = static_cast<int64_t>(group) * args.columns + first_column + i;
    int64_t at = at_p + k * args.weight_outer;
    if (!args.partial.is_null()) return args.partial.store(split * args.result_length + at, sum);
    if (args.accumulate) sum += widen(args.result.load(at));
    args.result.store(at, narrow<T>(sum));
  }
};

// What the running block owns of it.
template <class T, int P, int Q>
DEVICE Weights<T> block_weights(const ConvArgs<T>& args) {
  // blocks: (splits, groups, row tiles, column tiles), column tiles side by side
  unsigned block = blockIdx.x;
  const unsigned columns = (args.columns + Q - 1) / Q, rows = (args.rows + P - 1) / P;
  const unsigned column = block % columns;
  block /= columns;
  const unsigned row = block % rows;
  block /= rows;
  const unsigned group = block % args.groups, split = block / args.groups;
  const unsigned begin = split * args.split_length;
  const unsigned end = begin + args.split_length < args.steps ? begin + args.split_length : args.steps;
  return {args, group, split, row * P, column * Q, begin, end};
}
