// The implicit GEMM of conv.cuh on tensor cores: the same sides, the same places, D = G O.
//
// A block owns a TILE x TILE tile of D, each of its 2 x 4 warps TILE/2 x TILE/4 of it in squares of
// 16 x 8. Tiles of G and O stand in shared memory as rows of 64 bytes along s (CHUNKS of 16 bytes,
// swizzled so that neither `ldmatrix` nor the stores meet a bank twice), in STAGES stages. An
// operand whose elements lie side by side along s is copied asynchronously, as wide as its alignment
// allows; any other is read element by element along the rows while the stage before is multiplied.
// Pixels are on M when channels come last and on N when they come first: N lies contiguous in D.
#pragma once

#include "conv.cuh"

template <class T>
struct MmaArgs {
  ConvArgs<T> conv;
  Divisor padded;           // fprop, dgrad: channels of a group in G with those that pad the weight
  uint32_t gathered_width;  // elements that one copy along s may take
  uint32_t other_width;
  uint32_t gathered_on_m;
};
LAYOUT_SIZE(MmaArgs<f32>, 504);
LAYOUT_FIELD(MmaArgs<f32>, padded, 480);
LAYOUT_FIELD(MmaArgs<f32>, gathered_on_m, 500);

// Sixteen bytes along s.
struct alignas(16) Chunk {
  unsigned word[4];
};
constexpr int CHUNKS = 4, STAGES = 3;

DEVICE int swizzled(int row, int chunk) { return row * CHUNKS + (chunk ^ (row >> 1 & 3)); }

DEVICE void multiply(f16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  ptx::mma_f16(d, a, b);
}
DEVICE void multiply(bf16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  ptx::mma_bf16(d, a, b);
}
DEVICE void multiply(f32, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  ptx::mma_tf32(d, a, b);
}
// What the multiplication takes of a fragment: TF32 is rounded, the core itself would truncate.
template <class T, int COUNT>
DEVICE void round_fragment(unsigned (&r)[COUNT]) {
  if constexpr (sizeof(T) == 4)
#pragma unroll
    for (int i = 0; i < COUNT; ++i) r[i] = ptx::float_to_tf32(ptx::bits_float(r[i]));
}

// Brings one tile of one operand. `at(row, slot)` is where the element of a row and of a slot of
// the tables of s stands, -1: it is zero.
template <class T, int TILE>
struct TileLoader {
  static constexpr int THREADS = 256, EACH = 16 / sizeof(T), LOADS = TILE * CHUNKS / THREADS;
  const Global<T>& from;
  unsigned width;
  bool by_row;  // neighbouring threads go along the rows, not along s

  DEVICE bool copies() const { return sizeof(T) == 4 || width > 1; }
  DEVICE int row(int load) const {
    int i = static_cast<int>(threadIdx.x) + load * THREADS;
    return by_row ? i % TILE : i / CHUNKS;
  }
  DEVICE int chunk(int load) const {
    int i = static_cast<int>(threadIdx.x) + load * THREADS;
    return by_row ? i / TILE : i % CHUNKS;
  }
  template <int BYTES, class AT>
  DEVICE void copy(Chunk& target, int row, int slot, const AT& at) const {
    constexpr int COUNT = BYTES / static_cast<int>(sizeof(T));
#pragma unroll
    for (int piece = 0; piece < 16 / BYTES; ++piece) {
      int64_t source = at(row, slot + piece * COUNT);
      bool there = source >= 0;
      ptx::copy_async<BYTES>(&target.word[piece * BYTES / 4],
                             from.template vector<COUNT>(there ? source : 0), there ? BYTES : 0);
    }
  }
  // Copies into the tile, or reads into `held`.
  template <class AT>
  DEVICE void fetch(Shared<Chunk> tile, int tile_begin, int first_slot, const AT& at,
                    Chunk (&held)[LOADS]) const {
#pragma unroll
    for (int e = 0; e < LOADS; ++e) {
      const int r = row(e), c = chunk(e), slot = first_slot + c * EACH;
      if (copies()) {
        Chunk& target = tile[tile_begin + swizzled(r, c)];
        if (width * sizeof(T) == 16)
          copy<16>(target, r, slot, at);
        else if (width * sizeof(T) == 8)
          copy<8>(target, r, slot, at);
        else
          copy<4>(target, r, slot, at);
      } else if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
          int64_t source = at(r, slot + j);
          unsigned bits = source >= 0 ? from.load(source).bits : 0;
          held[e].word[j / 2] = j % 2 ? held[e].word[j / 2] | bits << 16 : bits;
        }
      }
    }
  }
  DEVICE void keep(Shared<Chunk> tile, int tile_begin, const Chunk (&held)[LOADS]) const {
    if (copies()) return;
#pragma unroll
    for (int e = 0; e < LOADS; ++e) tile[tile_begin + swizzled(row(e), chunk(e))] = held[e];
  }
};

template <class T, int TILE, class SIDE>
DEVICE void contract_mma(const MmaArgs<T>& args, const SIDE& side, SharedCutter cut) {
  using Loader = TileLoader<T, TILE>;
  constexpr int STEPS = CHUNKS * Loader::EACH, CELLS = TILE * CHUNKS;
  constexpr int WARP_M = TILE / 2, WARP_N = TILE / 4, MS = WARP_M / 16, NS = WARP_N / 8;
  const ConvArgs<T>& conv = args.conv;
  auto p_offset = cut.take<int64_t>(TILE);
  auto p_result = cut.take<int64_t>(TILE);
  auto p_position = cut.take<Position>(TILE);
  auto q_other = cut.take<int64_t>(TILE);
  auto s_offset = cut.take<int64_t>(2 * STEPS);
  auto s_other = cut.take<int64_t>(2 * STEPS);
  auto s_position = cut.take<Position>(2 * STEPS);
  auto g_tile = cut.take<Chunk>(STAGES * CELLS);
  auto o_tile = cut.take<Chunk>(STAGES * CELLS);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const Loader g_loader{conv.gathered, args.gathered_width, conv.gathered_by_p != 0};
  const Loader o_loader{conv.other, SIDE::WHOLE_CHUNKS ? Loader::EACH : args.other_width,
                        SIDE::WHOLE_CHUNKS ? false : conv.other_by_q != 0};

  const auto count = static_cast<int>(
      side.begin < side.end ? (side.end - side.begin + STEPS - 1) / STEPS : 0);
  auto fill_steps = [&](int step) {
    if (thread >= STEPS) return;
    int slot = step % 2 * STEPS + thread;
    uint32_t s = side.begin + static_cast<uint32_t>(step * STEPS + thread);
    Place place{0, -1, {{NOWHERE, 0, 0, 0}}};
    if (s < side.end) place = side.place_s(s);
    s_offset[slot] = place.offset;
    s_other[slot] = place.counterpart;
    s_position[slot] = place.position;
  };
  Chunk g_held[Loader::LOADS], o_held[Loader::LOADS];
  auto fetch = [&](int step) {
    const int tile_begin = step % STAGES * CELLS, slot = step % 2 * STEPS;
    auto g_at = [&](int p, int s) {
      return inside(p_position[p], s_position[s], conv.gathered_size) ? p_offset[p] + s_offset[s]
                                                                      : int64_t{-1};
    };
    auto o_at = [&](int q, int s) {
      int64_t at_q = q_other[q], at_s = s_other[s];
      return (at_q | at_s) >= 0 ? at_q + at_s : int64_t{-1};
    };
    g_loader.fetch(g_tile, tile_begin, slot, g_at, g_held);
    o_loader.fetch(o_tile, tile_begin, slot, o_at, o_held);
  };
  auto keep = [&](int step) {
    g_loader.keep(g_tile, step % STAGES * CELLS, g_held);
    o_loader.keep(o_tile, step % STAGES * CELLS, o_held);
  };

  for (int i = thread; i < TILE; i += Loader::THREADS) {
    Place place = side.place_p(i);
    p_offset[i] = place.offset;
    p_result[i] = place.counterpart;
    p_position[i] = place.position;
    q_other[i] = side.other_q(i);
  }
  fill_steps(0);
  fill_steps(1);
  __syncthreads();
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < count) {
      fetch(step);
      keep(step);
    }
    ptx::copy_commit();
  }
  __syncthreads();
  fill_steps(2);

  const Shared<Chunk> m_tile = args.gathered_on_m ? g_tile : o_tile;
  const Shared<Chunk> n_tile = args.gathered_on_m ? o_tile : g_tile;
  const int m0 = warp / 4 * WARP_M, n0 = warp % 4 * WARP_N;
  float sums[MS][NS][4] = {};
  for (int step = 0; step < count; ++step) {
    ptx::copy_wait<STAGES - 2>();
    __syncthreads();
    // The stage to be filled was last read before this barrier, and so was the table after next.
    const bool more = step + STAGES - 1 < count;
    if (more) fetch(step + STAGES - 1);
    ptx::copy_commit();
    fill_steps(step + STAGES);
    const int tile_begin = step % STAGES * CELLS;
#pragma unroll
    for (int half = 0; half < CHUNKS / 2; ++half) {
      unsigned a[MS][4], b[NS][2];
#pragma unroll
      for (int i = 0; i < MS; ++i) {
        int cell = swizzled(m0 + i * 16 + lane % 16, half * 2 + lane / 16);
        ptx::load_matrix_x4(a[i], &m_tile[tile_begin + cell]);
        round_fragment<T>(a[i]);
      }
#pragma unroll
      for (int j = 0; j < NS; j += 2) {
        unsigned pair[4];
        int cell = swizzled(n0 + j * 8 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2);
        ptx::load_matrix_x4(pair, &n_tile[tile_begin + cell]);
        round_fragment<T>(pair);
        b[j][0] = pair[0], b[j][1] = pair[1], b[j + 1][0] = pair[2], b[j + 1][1] = pair[3];
      }
#pragma unroll
      for (int i = 0; i < MS; ++i)
#pragma unroll
        for (int j = 0; j < NS; ++j) multiply(T{}, sums[i][j], a[i], b[j]);
    }
    if (more) keep(step + STAGES - 1);
  }
#pragma unroll
  for (int i = 0; i < MS; ++i)
#pragma unroll
    for (int j = 0; j < NS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int m = m0 + i * 16 + lane / 4 + e / 2 * 8, n = n0 + j * 8 + lane % 4 * 2 + e % 2;
        int p = args.gathered_on_m ? m : n, q = args.gathered_on_m ? n : m;
        int64_t at_p = p_result[p];
        if (at_p >= 0 && q_other[q] >= 0) side.store(at_p, q, sums[i][j][e]);
      }
}
