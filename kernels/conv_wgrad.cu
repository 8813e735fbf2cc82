// wgrad on CUDA cores: (taps * c, batch * pixels) x (batch * pixels, k) of every group.
//
// A block owns one tile of one split (weights.cuh) of one group; a thread a part of it (conv.cuh).
#include "weights.cuh"

namespace {

template <class T, int P, int Q>
DEVICE void conv_wgrad(const ConvArgs<T>& args) {
  DYNAMIC_SHARED(memory);
  contract<T, P, Q>(args, block_weights<T, P, Q>(args), SharedCutter{memory});
}

}  // namespace

KERNEL_BLOCKS(conv_wgrad_64_f16, 256, 3, ConvArgs<f16>, conv_wgrad<f16, 64, 64>)
KERNEL_BLOCKS(conv_wgrad_64_bf16, 256, 3, ConvArgs<bf16>, conv_wgrad<bf16, 64, 64>)
KERNEL_BLOCKS(conv_wgrad_64_f32, 256, 3, ConvArgs<f32>, conv_wgrad<f32, 64, 64>)
KERNEL(conv_wgrad_64_f64, 256, ConvArgs<f64>, conv_wgrad<f64, 64, 64>)
KERNEL_BLOCKS(conv_wgrad_128_f32, 256, 1, ConvArgs<f32>, conv_wgrad<f32, 128, 128>)
KERNEL_BLOCKS(conv_wgrad_128x32_f32, 256, 2, ConvArgs<f32>, conv_wgrad<f32, 128, 32>)
