// fprop and dgrad on CUDA cores: (batch * pixels, taps * channels) x (taps * channels, columns).
//
// A block owns one tile of one phase (rows.cuh) of one group; a thread a part of it (conv.cuh).
#include "rows.cuh"

namespace {

template <class T, int P, int Q>
DEVICE void conv_rows(const ConvArgs<T>& args) {
  DYNAMIC_SHARED(memory);
  SharedCutter cut{memory};
  const auto side = block_rows<T, P, Q, false>(args, args.channels, cut);
  contract<T, P, Q>(args, side, cut);
}

}  // namespace

KERNEL(conv_rows_64_f16, 256, ConvArgs<f16>, conv_rows<f16, 64, 64>)
KERNEL(conv_rows_64_bf16, 256, ConvArgs<bf16>, conv_rows<bf16, 64, 64>)
KERNEL(conv_rows_64_f32, 256, ConvArgs<f32>, conv_rows<f32, 64, 64>)
KERNEL(conv_rows_64_f64, 256, ConvArgs<f64>, conv_rows<f64, 64, 64>)
KERNEL_BLOCKS(conv_rows_128_f32, 256, 1, ConvArgs<f32>, conv_rows<f32, 128, 128>)
KERNEL_BLOCKS(conv_rows_128x32_f32, 256, 2, ConvArgs<f32>, conv_rows<f32, 128, 32>)
