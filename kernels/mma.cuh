// The implicit GEMM of conv.cuh on tensor cores: the same sides, the same places, D = G O.
//
// A block of 8 warps owns a P x Q tile of D, a warp a part of it in squares of 16 x 8 (f64: 8 x 8).
// Tiles of G and O stand in shared memory in STAGES stages of CHUNKS chunks of 16 bytes a row:
//   along s:    a row is a p or a q and its chunks lie along s; `ldmatrix` reads it as it stands
//   along rows: a row is an s and its chunks lie along p or q; `ldmatrix` transposes (16 bits alone)
// An operand whose elements lie side by side in one of the two directions is copied asynchronously,
// as wide as its alignment allows. Any other is read element by element, with neighbouring threads
// along the rows, while the stage before is multiplied, and stored in whole chunks along s.
// Pixels are on M when channels come last and on N when they come first, since N lies contiguous in
// D; tiles that are not square have them on M.
#pragma once

#include "conv.cuh"

// Tensor cores with these instructions came with sm_80; the planner asks no older GPU to do this.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define TENSOR_CORES 0
#else
#define TENSOR_CORES 1
#endif

template <class T>
struct MmaArgs {
  ConvArgs<T> conv;
  Divisor padded;           // fprop, dgrad: channels of a tap in a row of the packed weight
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

// Where a chunk of a tile stands. A row of 4 chunks takes half a line of the banks: eight rows of one
// chunk (`ldmatrix`, stores along the rows), and four rows of two chunks (f64), meet every bank once.
template <int IN_ROW>
DEVICE int cell(int row, int chunk) {
  if (IN_ROW == 4) return row * 4 + (chunk ^ ((row >> 2 & 1) | (row & 2)));
  return row * IN_ROW + (chunk ^ (row & 7));
}

// The tensor core's unit of work on T: (M x K) x (K x 8), K being two chunks.
template <class T>
struct Square {
  static constexpr int M = 16, SUMS = 4, A = 4, B = 2;
  using Part = unsigned;
};
template <>
struct Square<f64> {
  static constexpr int M = 8, SUMS = 2, A = 1, B = 1;
  using Part = double;
};
DEVICE void multiply(f16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  ptx::mma_f16(d, a, b);
}
DEVICE void multiply(bf16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  ptx::mma_bf16(d, a, b);
}
DEVICE void multiply(f32, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  ptx::mma_tf32(d, a, b);
}
DEVICE void multiply(f64, double (&d)[2], const double (&a)[1], const double (&b)[1]) {
  ptx::mma_f64(d, a[0], b[0]);
}

// Reads a warp's factors of one K out of a tile of ROWS rows: COUNT squares from row `first` on, and
// of every row the chunks 2 `half` and 2 `half` + 1.
template <class T, int ROWS, bool ALONG_ROWS>
struct Factors {
  using S = Square<T>;
  using Part = typename S::Part;
  Shared<Chunk> tile;
  int begin;  // of the stage

  DEVICE const Chunk* at(int row, int chunk) const { return &tile[begin + cell<CHUNKS>(row, chunk)]; }
  // A chunk along the rows; `s` counts within the step.
  DEVICE const Chunk* across(int s, int row) const {
    return &tile[begin + cell<ROWS / 8>(s, row / 8)];
  }
  template <int COUNT>
  DEVICE void read_m(Part (&a)[COUNT][S::A], int first, int half) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int row = first + i * S::M;
      if constexpr (sizeof(T) == 8)
        a[i][0] = scalar(row + lane / 4, half);
      else if constexpr (ALONG_ROWS)
        ptx::load_matrix_x4_transposed(
            a[i], across(half * 16 + lane / 16 * 8 + lane % 8, row + lane / 8 % 2 * 8));
      else
        ptx::load_matrix_x4(a[i], at(row + lane % 16, half * 2 + lane / 16));
      round(a[i]);
    }
  }
  template <int COUNT>
  DEVICE void read_n(Part (&b)[COUNT][S::B], int first, int half) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if constexpr (sizeof(T) == 8) {
#pragma unroll
      for (int j = 0; j < COUNT; ++j) b[j][0] = scalar(first + j * 8 + lane / 4, half);
    } else {
#pragma unroll
      for (int j = 0; j < COUNT; j += 2) {
        unsigned pair[4];
        const int row = first + j * 8;
        if constexpr (ALONG_ROWS)
          ptx::load_matrix_x4_transposed(pair,
                                         across(half * 16 + lane % 16, row + lane / 16 * 8));
        else
          ptx::load_matrix_x4(pair, at(row + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
        round(pair);
        b[j][0] = pair[0], b[j][1] = pair[1], b[j + 1][0] = pair[2], b[j + 1][1] = pair[3];
      }
    }
  }
  // The element of this lane's k in a row of f64.
  DEVICE double scalar(int row, int half) const {
    const int k = static_cast<int>(threadIdx.x) % 4;
    const Chunk* chunk = at(row, half * 2 + k / 2);
    return reinterpret_cast<const double*>(chunk)[k % 2];
  }
  // TF32 is rounded here: the core itself would truncate.
  template <int COUNT>
  DEVICE static void round(Part (&r)[COUNT]) {
    if constexpr (sizeof(T) == 4)
#pragma unroll
      for (int i = 0; i < COUNT; ++i) r[i] = ptx::float_to_tf32(ptx::bits_float(r[i]));
  }
};

// Brings a tile of ROWS rows of one operand. `at(row, slot)` is where the element of a row and of a
// slot of the tables of s stands, -1: it is zero.
template <class T, int ROWS, bool ALONG_ROWS>
struct TileLoader {
  static constexpr int THREADS = 256, EACH = 16 / sizeof(T), CELLS = ROWS * CHUNKS;
  static constexpr int LOADS = (CELLS + THREADS - 1) / THREADS;
  const Global<T>& from;
  unsigned width;  // elements that one copy may take
  bool by_row;     // neighbouring threads go along the rows, not along s

  DEVICE bool copies() const { return sizeof(T) > 2 || width > 1; }
  // The row (or s) and the chunk in it of one load; false: there is none.
  DEVICE bool place(int load, int& row, int& chunk) const {
    constexpr int IN_ROW = ALONG_ROWS ? ROWS / EACH : CHUNKS;
    const int i = static_cast<int>(threadIdx.x) + load * THREADS;
    const bool turned = !ALONG_ROWS && by_row;
    row = turned ? i % ROWS : i / IN_ROW;
    chunk = turned ? i / ROWS : i % IN_ROW;
    return CELLS % THREADS == 0 || i < CELLS;
  }
  DEVICE static int where(int row, int chunk) {
    return ALONG_ROWS ? cell<ROWS / EACH>(row, chunk) : cell<CHUNKS>(row, chunk);
  }
  template <int BYTES, class AT>
  DEVICE void copy(Chunk& target, int row, int slot, const AT& at) const {
    constexpr int COUNT = BYTES / static_cast<int>(sizeof(T));
    if constexpr (COUNT > 0) {
#pragma unroll
      for (int piece = 0; piece < 16 / BYTES; ++piece) {
        const int next = piece * COUNT;
        int64_t source = ALONG_ROWS ? at(row + next, slot) : at(row, slot + next);
        bool there = source >= 0;
        ptx::copy_async<BYTES>(&target.word[piece * BYTES / 4],
                               from.template vector<COUNT>(there ? source : 0), there ? BYTES : 0);
      }
    }
  }
  // Copies into the tile, or reads into `held`.
  template <class AT>
  DEVICE void fetch(Shared<Chunk> tile, int begin, int first_slot, const AT& at,
                    Chunk (&held)[LOADS]) const {
#pragma unroll
    for (int e = 0; e < LOADS; ++e) {
      int r, c;
      if (!place(e, r, c)) continue;
      if (ALONG_ROWS || copies()) {
        Chunk& target = tile[begin + where(r, c)];
        const int row = ALONG_ROWS ? c * EACH : r, slot = first_slot + (ALONG_ROWS ? r : c * EACH);
        if (width * sizeof(T) == 16)
          copy<16>(target, row, slot, at);
        else if (width * sizeof(T) == 8)
          copy<8>(target, row, slot, at);
        else
          copy<4>(target, row, slot, at);
      } else if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
          int64_t source = at(r, first_slot + c * EACH + j);
          unsigned bits = source >= 0 ? from.load(source).bits : 0;
          held[e].word[j / 2] = j % 2 ? held[e].word[j / 2] | bits << 16 : bits;
        }
      }
    }
  }
  DEVICE void keep(Shared<Chunk> tile, int begin, const Chunk (&held)[LOADS]) const {
    if constexpr (!ALONG_ROWS && sizeof(T) == 2) {
      if (copies()) return;
#pragma unroll
      for (int e = 0; e < LOADS; ++e) {
        int r, c;
        if (place(e, r, c)) tile[begin + where(r, c)] = held[e];
      }
    }
  }
};

// The tile of a block, and which of its operands stand along the rows in shared memory.
template <int P_, int Q_, bool G_ALONG_ = false, bool O_ALONG_ = false>
struct Tile {
  static constexpr int P = P_, Q = Q_;
  static constexpr bool G_ALONG = G_ALONG_, O_ALONG = O_ALONG_;
};

template <class T, class TILE, class SIDE>
DEVICE void contract_mma(const MmaArgs<T>& args, const SIDE& side, SharedCutter cut) {
  constexpr int P = TILE::P, Q = TILE::Q;
  using GLoader = TileLoader<T, P, TILE::G_ALONG>;
  using OLoader = TileLoader<T, Q, TILE::O_ALONG>;
  using S = Square<T>;
  constexpr int EACH = GLoader::EACH, STEPS = CHUNKS * EACH;
  // 8 warps: 2 x 4 of a square, 4 x 2 of a tile with few columns
  constexpr int WARPS_N = P == Q ? 4 : 2, WARP_M = P / (8 / WARPS_N), WARP_N = Q / WARPS_N;
  constexpr int MS = WARP_M / S::M, NS = WARP_N / 8;
  const ConvArgs<T>& conv = args.conv;
  auto p_offset = cut.take<int64_t>(P);
  auto p_result = cut.take<int64_t>(P);
  auto p_position = cut.take<Position>(P);
  auto q_other = cut.take<int64_t>(Q);
  auto s_offset = cut.take<int64_t>(2 * STEPS);
  auto s_other = cut.take<int64_t>(2 * STEPS);
  auto s_position = cut.take<Position>(2 * STEPS);
  auto g_tile = cut.take<Chunk>(STAGES * GLoader::CELLS);
  auto o_tile = cut.take<Chunk>(STAGES * OLoader::CELLS);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const GLoader g_loader{conv.gathered, args.gathered_width, conv.gathered_by_p != 0};
  const OLoader o_loader{conv.other, SIDE::WHOLE_CHUNKS ? EACH : args.other_width,
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
  Chunk g_held[GLoader::LOADS], o_held[OLoader::LOADS];
  auto fetch = [&](int step) {
    const int stage = step % STAGES, slot = step % 2 * STEPS;
    auto g_at = [&](int p, int s) {
      return inside(p_position[p], s_position[s], conv.gathered_size) ? p_offset[p] + s_offset[s]
                                                                      : int64_t{-1};
    };
    auto o_at = [&](int q, int s) {
      int64_t at_q = q_other[q], at_s = s_other[s];
      return (at_q | at_s) >= 0 ? at_q + at_s : int64_t{-1};
    };
    g_loader.fetch(g_tile, stage * GLoader::CELLS, slot, g_at, g_held);
    o_loader.fetch(o_tile, stage * OLoader::CELLS, slot, o_at, o_held);
  };
  auto keep = [&](int step) {
    g_loader.keep(g_tile, step % STAGES * GLoader::CELLS, g_held);
    o_loader.keep(o_tile, step % STAGES * OLoader::CELLS, o_held);
  };

  for (int i = thread; i < P; i += GLoader::THREADS) {
    Place place = side.place_p(i);
    p_offset[i] = place.offset;
    p_result[i] = place.counterpart;
    p_position[i] = place.position;
    if (i < Q) q_other[i] = side.other_q(i);
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

  // known here unless both operands stand alike
  constexpr bool ALIKE = P == Q && TILE::G_ALONG == TILE::O_ALONG && !TILE::G_ALONG;
  const bool g_on_m = ALIKE ? args.gathered_on_m != 0 : P != Q;
  const int m0 = warp / WARPS_N * WARP_M, n0 = warp % WARPS_N * WARP_N;
  Accumulator<T> sums[MS][NS][S::SUMS] = {};
  for (int step = 0; step < count; ++step) {
    ptx::copy_wait<STAGES - 2>();
    __syncthreads();
    // The stage to be filled was last read before this barrier, and so was the table after next.
    const bool more = step + STAGES - 1 < count;
    if (more) fetch(step + STAGES - 1);
    ptx::copy_commit();
    fill_steps(step + STAGES);
    const int g_begin = step % STAGES * GLoader::CELLS, o_begin = step % STAGES * OLoader::CELLS;
#pragma unroll
    for (int half = 0; half < CHUNKS / 2; ++half) {
      typename S::Part a[MS][S::A], b[NS][S::B];
      const Factors<T, P, TILE::G_ALONG> g{g_tile, g_begin};
      const Factors<T, Q, TILE::O_ALONG> o{o_tile, o_begin};
      if constexpr (ALIKE) {
        Factors<T, P, false>{g_on_m ? g_tile : o_tile, g_begin}.read_m(a, m0, half);
        Factors<T, Q, false>{g_on_m ? o_tile : g_tile, o_begin}.read_n(b, n0, half);
      } else if constexpr (P != Q) {
        g.read_m(a, m0, half);
        o.read_n(b, n0, half);
      } else {
        o.read_m(a, m0, half);
        g.read_n(b, n0, half);
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
      for (int e = 0; e < S::SUMS; ++e) {
        int m = m0 + i * S::M + lane / 4 + e / 2 * 8, n = n0 + j * 8 + lane % 4 * 2 + e % 2;
        int p = g_on_m ? m : n, q = g_on_m ? n : m;
        int64_t at_p = p_result[p];
        if (at_p >= 0 && q_other[q] >= 0) side.store(at_p, q, sums[i][j][e]);
      }
}
