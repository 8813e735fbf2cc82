// The SIMT implicit GEMM that all passes share: D[p, q] = sum over s of G[s, p] * O[s, q].
//
// Every pass contracts one gathered activation G with a second operand O:
//   fprop  y[pixel, k]    = sum over (tap, c)  of x[pixel, tap, c]  * w[k, c, tap]
//   dgrad  dx[pixel, c]   = sum over (tap, k)  of dy[pixel, tap, k] * w[k, c, tap]
//   wgrad  dw[(tap, c),k] = sum over pixel     of x[pixel, tap, c]  * dy[pixel, k]
// p runs over pixels (fprop, dgrad) or (tap, c) (wgrad), q over channels, s over what is summed. An
// element of G belongs to one p and one s, one of them a pixel and the other a tap: its place on
// axis a is position(p)[a] + position(s)[a], outside of the activation it is zero, and its offset is
// offset(p) + offset(s). Rank plays no part: lower ranks have unit axes in front.
//
// A block owns a P x Q tile of D: 64 x 64, 128 x 128, or 128 x 32 where there are few columns; a thread
// 4 x 4 of it, or four such squares. Tables in shared memory hold offset and position of the tile's p (made once) and of the next steps s.
#pragma once

#include "walk.cuh"

template <class T>
struct ConvArgs {
  Global<T> gathered;              // x (fprop, wgrad) or dy (dgrad)
  Global<T> other;                 // w (fprop, dgrad) or dy (wgrad)
  Global<T> bias;                  // null: none
  Global<T> result;                // y, dx or dw
  Global<Accumulator<T>> partial;  // wgrad: (splits, dw) sums; null: straight into dw
  ActivationMap from;              // of the gathered activation
  ActivationMap to;                // of the one on the pixel side: y, dx, or wgrad's dy
  int64_t weight_outer, weight_channel, weight_axis[4];  // strides of w or dw
  int64_t result_length;                                 // elements of dw
  int32_t gathered_size[4];                              // positions of the gathered activation
  int32_t result_size[4];                                // fprop, dgrad: positions of the result
  int32_t taps[4], stride[4], dilation[4], padding[4];
  Divisor pixel_axis[4];           // pixels of an image; dgrad: of its largest phase
  Divisor pixels;                  // their product
  Divisor tap_axis[4], tap_count;  // wgrad
  Divisor channels;                // channels of a group in G
  uint32_t rows, columns;          // p and q that there are, per group (and phase)
  uint32_t groups, phases;
  uint32_t splits, split_length;   // wgrad: steps of one split, steps being batch x pixels
  uint32_t steps;                  // wgrad
  uint32_t transposed;             // dgrad
  uint32_t channels_inner;         // of (tap, channel) the channel runs faster
  uint32_t gathered_by_p, other_by_q, result_by_p;  // neighbouring threads go along p or q
  uint32_t accumulate;
  uint32_t rectify;                // fprop: ReLU of the result
  uint32_t reserved;
};

LAYOUT_SIZE(ConvArgs<f32>, 480);
LAYOUT_FIELD(ConvArgs<f32>, partial, 32);
LAYOUT_FIELD(ConvArgs<f32>, from, 40);
LAYOUT_FIELD(ConvArgs<f32>, to, 88);
LAYOUT_FIELD(ConvArgs<f32>, weight_outer, 136);
LAYOUT_FIELD(ConvArgs<f32>, result_length, 184);
LAYOUT_FIELD(ConvArgs<f32>, gathered_size, 192);
LAYOUT_FIELD(ConvArgs<f32>, padding, 272);
LAYOUT_FIELD(ConvArgs<f32>, pixel_axis, 288);
LAYOUT_FIELD(ConvArgs<f32>, pixels, 336);
LAYOUT_FIELD(ConvArgs<f32>, tap_axis, 348);
LAYOUT_FIELD(ConvArgs<f32>, channels, 408);
LAYOUT_FIELD(ConvArgs<f32>, rows, 420);
LAYOUT_FIELD(ConvArgs<f32>, channels_inner, 452);
LAYOUT_FIELD(ConvArgs<f32>, accumulate, 468);

struct alignas(16) Position {
  int axis[4];
};
// A place that is on no activation, whatever is added to it.
constexpr int NOWHERE = -(1 << 30);

DEVICE bool inside(const Position& a, const Position& b, const int32_t (&size)[4]) {
  bool all = true;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    all &= static_cast<unsigned>(a.axis[i] + b.axis[i]) < static_cast<unsigned>(size[i]);
  return all;
}

// What becomes of a finished sum of fprop or dgrad; `at` is where it stands in the result.
template <class T>
DEVICE void store_result(const ConvArgs<T>& args, int64_t at, int64_t channel, Accumulator<T> sum) {
  if (!args.bias.is_null()) sum += widen(args.bias.load(channel));
  if (args.accumulate) sum += widen(args.result.load(at));
  if (args.rectify && sum < 0) sum = 0;
  args.result.store(at, narrow<T>(sum));
}

// What one p or one s stands for.
struct Place {
  int64_t offset;      // in G
  int64_t counterpart; // of p: in the result; of s: in O; -1: there is no such p or s
  Position position;
};

template <class A>
struct alignas(16) Four {
  A v[4];
};

// SIDE gives place_p(int), place_s(uint32_t), other_q(int) (-1: no such q), store(p, q, sum) and
// the range of steps [begin, end).
template <class T, int P, int Q, class SIDE>
DEVICE void contract(const ConvArgs<T>& args, const SIDE& side, SharedCutter cut) {
  using A = Accumulator<T>;
  constexpr int THREADS = 256, STEPS = 1024 / P, P_ROW = P + 4, Q_ROW = Q + 4;
  constexpr int EACH = P == Q ? P / 16 : 4;           // rows and columns of a thread
  constexpr int ACROSS = P / EACH, DOWN = Q / EACH;   // threads along p and along q
  static_assert(ACROSS * DOWN == THREADS, "a thread for every part of the tile");
  constexpr int P_LOADS = P * STEPS / THREADS, Q_LOADS = Q * STEPS / THREADS;
  auto p_offset = cut.take<int64_t>(P);
  auto p_result = cut.take<int64_t>(P);
  auto p_position = cut.take<Position>(P);
  auto q_other = cut.take<int64_t>(Q);
  auto s_offset = cut.take<int64_t>(2 * STEPS);
  auto s_other = cut.take<int64_t>(2 * STEPS);
  auto s_position = cut.take<Position>(2 * STEPS);
  auto g_tile = cut.take<A>(2 * STEPS * P_ROW);
  auto o_tile = cut.take<A>(2 * STEPS * Q_ROW);
  const int thread = static_cast<int>(threadIdx.x);

  auto fill_steps = [&](uint32_t first, int buffer) {
    if (thread >= STEPS) return;
    int slot = buffer * STEPS + thread;
    uint32_t s = first + static_cast<uint32_t>(thread);
    Place place{0, -1, {{NOWHERE, 0, 0, 0}}};
    if (s < side.end) place = side.place_s(s);
    s_offset[slot] = place.offset;
    s_other[slot] = place.counterpart;
    s_position[slot] = place.position;
  };
  T g_next[P_LOADS], o_next[Q_LOADS];
  auto fetch = [&](int buffer) {
#pragma unroll
    for (int e = 0; e < P_LOADS; ++e) {
      int i = thread + e * THREADS;
      int p = args.gathered_by_p ? i % P : i / STEPS;
      int slot = buffer * STEPS + (args.gathered_by_p ? i / P : i % STEPS);
      g_next[e] = inside(p_position[p], s_position[slot], args.gathered_size)
                      ? args.gathered.load(p_offset[p] + s_offset[slot])
                      : T{};
    }
#pragma unroll
    for (int e = 0; e < Q_LOADS; ++e) {
      int i = thread + e * THREADS;
      int q = args.other_by_q ? i % Q : i / STEPS;
      int slot = buffer * STEPS + (args.other_by_q ? i / Q : i % STEPS);
      int64_t at_q = q_other[q], at_s = s_other[slot];
      o_next[e] = (at_q | at_s) >= 0 ? args.other.load(at_q + at_s) : T{};
    }
  };
  auto keep = [&](int buffer) {
#pragma unroll
    for (int e = 0; e < P_LOADS; ++e) {
      int i = thread + e * THREADS;
      int p = args.gathered_by_p ? i % P : i / STEPS;
      int s = args.gathered_by_p ? i / P : i % STEPS;
      g_tile[(buffer * STEPS + s) * P_ROW + p] = widen(g_next[e]);
    }
#pragma unroll
    for (int e = 0; e < Q_LOADS; ++e) {
      int i = thread + e * THREADS;
      int q = args.other_by_q ? i % Q : i / STEPS;
      int s = args.other_by_q ? i / Q : i % STEPS;
      o_tile[(buffer * STEPS + s) * Q_ROW + q] = widen(o_next[e]);
    }
  };

  for (int i = thread; i < P; i += THREADS) {
    Place place = side.place_p(i);
    p_offset[i] = place.offset;
    p_result[i] = place.counterpart;
    p_position[i] = place.position;
    if (i < Q) q_other[i] = side.other_q(i);
  }
  fill_steps(side.begin, 0);
  __syncthreads();

  const int p0 = (args.result_by_p ? thread % ACROSS : thread / DOWN) * 4;
  const int q0 = (args.result_by_p ? thread / ACROSS : thread % DOWN) * 4;
  A sums[EACH][EACH] = {};
  if (side.begin < side.end) {
    fetch(0);
    fill_steps(side.begin + STEPS, 1);
    keep(0);
  }
  __syncthreads();
  int buffer = 0;
  for (uint32_t first = side.begin; first < side.end; first += STEPS, buffer ^= 1) {
    // Tables and tiles of the other buffer were last read before the barrier just passed.
    const bool more = first + STEPS < side.end;
    if (more) {
      fetch(buffer ^ 1);
      fill_steps(first + 2 * STEPS, buffer);
    }
#pragma unroll
    for (int s = 0; s < STEPS; ++s) {
      A g[EACH], o[EACH];
      const int g_row = (buffer * STEPS + s) * P_ROW, o_row = (buffer * STEPS + s) * Q_ROW;
#pragma unroll
      for (int h = 0; h < EACH; h += 4) {
        Shared<Four<A>> g4{reinterpret_cast<Four<A>*>(&g_tile[g_row + h * ACROSS + p0])};
        Shared<Four<A>> o4{reinterpret_cast<Four<A>*>(&o_tile[o_row + h * DOWN + q0])};
        const Four<A> a = g4[0], b = o4[0];
#pragma unroll
        for (int i = 0; i < 4; ++i) g[h + i] = a.v[i], o[h + i] = b.v[i];
      }
#pragma unroll
      for (int i = 0; i < EACH; ++i)
#pragma unroll
        for (int j = 0; j < EACH; ++j) sums[i][j] = ptx::multiply_add(g[i], o[j], sums[i][j]);
    }
    if (more) keep(buffer ^ 1);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    int p = i / 4 * 4 * ACROSS + p0 + i % 4;
    int64_t at_p = p_result[p];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      int q = j / 4 * 4 * DOWN + q0 + j % 4;
      if (at_p >= 0 && q_other[q] >= 0) side.store(at_p, q, sums[i][j]);
    }
  }
}
