// fprop and dgrad on tensor cores: (batch * pixels, taps * channels) x (taps * channels, columns), all
// phases of a strided dgrad in one launch; f16 and bf16 with sums in f32, f32 as TF32 where the
// caller allows it, f64.
//
//   rows:   any gathered activation
//   pixels: one whose pixels lie side by side under every tap (channels first; 1x1 above all)
//   pack:   the weight as both take it: a row (taps, channels) for every column of all groups, padded
//           with zeros to whole chunks of 16 bytes, and its channels too where the taps of a phase
//           are not all taps
// A block owns one tile of one phase of one group; its warps parts of it (mma.cuh).
#include "mma.cuh"
#include "rows.cuh"

namespace {

template <class T>
struct PackedRows : Rows<T, true> {
  static constexpr bool WHOLE_CHUNKS = true;
};

template <class T, class TILE>
DEVICE void rows(const MmaArgs<T>& args) {
#if TENSOR_CORES
  DYNAMIC_SHARED(memory);
  SharedCutter cut{memory};
  const PackedRows<T> side{block_rows<T, TILE::P, TILE::Q, true>(args.conv, args.padded, cut)};
  contract_mma<T, TILE>(args, side, cut);
#endif
}

template <class T>
struct PackArgs {
  Global<T> source, target;
  int64_t group_stride, column_stride, channel_stride, axis[4];  // of the source
  Divisor tap_axis[4], row, padded, columns;  // elements of a row, columns of a group
  uint32_t channels, taps, length;            // elements of the target
};
LAYOUT_SIZE(PackArgs<uint16_t>, 168);
LAYOUT_FIELD(PackArgs<uint16_t>, axis, 40);
LAYOUT_FIELD(PackArgs<uint16_t>, padded, 132);
LAYOUT_FIELD(PackArgs<uint16_t>, length, 164);

// A thread owns an element of the packed weight.
template <class T>
DEVICE void pack(const PackArgs<T>& args) {
  for (int64_t e = global_thread(); e < args.length; e += global_threads()) {
    const unsigned row = args.row.quotient(static_cast<unsigned>(e));
    const unsigned place = static_cast<unsigned>(e) - row * args.row.divisor;
    const unsigned which = args.padded.quotient(place), group = args.columns.quotient(row);
    const unsigned channel = place - which * args.padded.divisor;
    int tap[4];
    unravel(which, args.tap_axis, tap);
    int64_t at = group * args.group_stride +
                 (row - group * args.columns.divisor) * args.column_stride +
                 channel * args.channel_stride;
    for (int a = 0; a < 4; ++a) at += tap[a] * args.axis[a];
    const bool there = which < args.taps && channel < args.channels;
    args.target.store(e, there ? args.source.load(at) : T{});
  }
}

template <int SIDE>
using Pixels = Tile<SIDE, SIDE, true, false>;

}  // namespace

#define TILES(T)                                                                            \
  KERNEL_BLOCKS(conv_mma_rows_64_##T, 256, 3, MmaArgs<T>, rows<T, Tile<64, 64>>)            \
  KERNEL_BLOCKS(conv_mma_rows_128_##T, 256, 2, MmaArgs<T>, rows<T, Tile<128, 128>>)         \
  KERNEL_BLOCKS(conv_mma_rows_128x32_##T, 256, 3, MmaArgs<T>, rows<T, Tile<128, 32>>)
#define PIXEL_TILES(T)                                                                      \
  KERNEL_BLOCKS(conv_mma_rows_pixels_64_##T, 256, 3, MmaArgs<T>, rows<T, Pixels<64>>)       \
  KERNEL_BLOCKS(conv_mma_rows_pixels_128_##T, 256, 2, MmaArgs<T>, rows<T, Pixels<128>>)
TILES(f16)
TILES(bf16)
TILES(f32)
PIXEL_TILES(f16)
PIXEL_TILES(bf16)
KERNEL(conv_mma_rows_64_f64, 256, MmaArgs<f64>, rows<f64, Tile<64, 64>>)
KERNEL(conv_mma_rows_pack_b2, 256, PackArgs<uint16_t>, pack<uint16_t>)
KERNEL(conv_mma_rows_pack_b4, 256, PackArgs<uint32_t>, pack<uint32_t>)
KERNEL(conv_mma_rows_pack_b8, 256, PackArgs<uint64_t>, pack<uint64_t>)
