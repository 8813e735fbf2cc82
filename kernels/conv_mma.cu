// All passes on tensor cores: f16 and bf16 with sums in f32, f32 as TF32 where the caller allows it.
//
//   rows:  fprop and dgrad, (batch * pixels, taps * channels) x (taps * channels, columns), all
//          phases of a strided dgrad in one launch
//   wgrad: (taps * c, batch * pixels) x (batch * pixels, k), in stretches that reduce.cu adds in order
//   pack:  the weight as `rows` takes it: (columns of all groups, taps, channels), channels padded
//          with zeros to whole chunks of 16 bytes
// A block owns one tile of one phase or split of one group; its warps parts of it (mma.cuh).
#include "mma.cuh"
#include "rows.cuh"
#include "weights.cuh"

namespace {

// Tensor cores with these instructions came with sm_80; the planner asks no older GPU to do this.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define TENSOR_CORES 0
#else
#define TENSOR_CORES 1
#endif

template <class T>
struct PackedRows : Rows<T, true> {
  static constexpr bool WHOLE_CHUNKS = true;
};
template <class T>
struct MmaWeights : Weights<T> {
  static constexpr bool WHOLE_CHUNKS = false;
};

template <class T, int TILE>
DEVICE void rows(const MmaArgs<T>& args) {
#if TENSOR_CORES
  DYNAMIC_SHARED(memory);
  SharedCutter cut{memory};
  const PackedRows<T> side{block_rows<T, TILE, true>(args.conv, args.padded, cut)};
  contract_mma<T, TILE>(args, side, cut);
#endif
}

template <class T, int TILE>
DEVICE void wgrad(const MmaArgs<T>& args) {
#if TENSOR_CORES
  DYNAMIC_SHARED(memory);
  const MmaWeights<T> side{block_weights<T, TILE>(args.conv)};
  contract_mma<T, TILE>(args, side, SharedCutter{memory});
#endif
}

template <class T>
struct PackArgs {
  Global<T> source, target;
  int64_t group_stride, column_stride, channel_stride, axis[4];  // of the source
  Divisor tap_axis[4], taps, padded, columns;                    // columns of a group
  uint32_t channels, length;                                     // elements of the target
  uint32_t reserved;
};
LAYOUT_SIZE(PackArgs<uint16_t>, 168);
LAYOUT_FIELD(PackArgs<uint16_t>, axis, 40);
LAYOUT_FIELD(PackArgs<uint16_t>, padded, 132);
LAYOUT_FIELD(PackArgs<uint16_t>, length, 160);

// A thread owns an element of the packed weight.
template <class T>
DEVICE void pack(const PackArgs<T>& args) {
  for (int64_t e = global_thread(); e < args.length; e += global_threads()) {
    unsigned place = args.padded.quotient(static_cast<unsigned>(e));
    const unsigned channel = static_cast<unsigned>(e) - place * args.padded.divisor;
    const unsigned row = args.taps.quotient(place), group = args.columns.quotient(row);
    int tap[4];
    unravel(place - row * args.taps.divisor, args.tap_axis, tap);
    int64_t at = group * args.group_stride +
                 (row - group * args.columns.divisor) * args.column_stride +
                 channel * args.channel_stride;
    for (int a = 0; a < 4; ++a) at += tap[a] * args.axis[a];
    args.target.store(e, channel < args.channels ? args.source.load(at) : T{});
  }
}

}  // namespace

#define TILES(T)                                                              \
  KERNEL_BLOCKS(conv_mma_rows_64_##T, 256, 3, MmaArgs<T>, rows<T, 64>)        \
  KERNEL_BLOCKS(conv_mma_rows_128_##T, 256, 2, MmaArgs<T>, rows<T, 128>)      \
  KERNEL_BLOCKS(conv_mma_wgrad_64_##T, 256, 3, MmaArgs<T>, wgrad<T, 64>)      \
  KERNEL_BLOCKS(conv_mma_wgrad_128_##T, 256, 2, MmaArgs<T>, wgrad<T, 128>)
TILES(f16)
TILES(bf16)
TILES(f32)
KERNEL(conv_mma_pack_b2, 256, PackArgs<uint16_t>, pack<uint16_t>)
KERNEL(conv_mma_pack_b4, 256, PackArgs<uint32_t>, pack<uint32_t>)
