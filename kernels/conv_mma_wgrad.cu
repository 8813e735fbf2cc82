// wgrad on tensor cores: (taps * c, batch * pixels) x (batch * pixels, k) of every group, in stretches
// that reduce.cu adds in order; element types as in conv_mma_rows.cu.
//
//   wgrad:    any activations
//   channels: ones whose channels lie side by side (channels last), in 16 bits
// A block owns one tile of one split of one group; its warps parts of it (mma.cuh).
#include "mma.cuh"
#include "weights.cuh"

namespace {

template <class T>
struct MmaWeights : Weights<T> {
  static constexpr bool WHOLE_CHUNKS = false;
};

template <class T, class TILE>
DEVICE void wgrad(const MmaArgs<T>& args) {
#if TENSOR_CORES
  DYNAMIC_SHARED(memory);
  const MmaWeights<T> side{block_weights<T, TILE::P, TILE::Q>(args.conv)};
  contract_mma<T, TILE>(args, side, SharedCutter{memory});
#endif
}

template <int P, int Q>
using Channels = Tile<P, Q, true, true>;

}  // namespace

#define TILES(T)                                                                                  \
  KERNEL_BLOCKS(conv_mma_wgrad_64_##T, 256, 3, MmaArgs<T>, wgrad<T, Tile<64, 64>>)                \
  KERNEL_BLOCKS(conv_mma_wgrad_128_##T, 256, 2, MmaArgs<T>, wgrad<T, Tile<128, 128>>)             \
  KERNEL_BLOCKS(conv_mma_wgrad_128x32_##T, 256, 3, MmaArgs<T>, wgrad<T, Tile<128, 32>>)
#define CHANNEL_TILES(T)                                                                          \
  KERNEL_BLOCKS(conv_mma_wgrad_channels_64_##T, 256, 3, MmaArgs<T>, wgrad<T, Channels<64, 64>>)   \
  KERNEL_BLOCKS(conv_mma_wgrad_channels_128_##T, 256, 2, MmaArgs<T>, wgrad<T, Channels<128, 128>>) \
  KERNEL_BLOCKS(conv_mma_wgrad_channels_128x32_##T, 256, 3, MmaArgs<T>, wgrad<T, Channels<128, 32>>)
TILES(f16)
TILES(bf16)
TILES(f32)
CHANNEL_TILES(f16)
CHANNEL_TILES(bf16)
KERNEL(conv_mma_wgrad_64_f64, 256, MmaArgs<f64>, wgrad<f64, Tile<64, 64>>)
