// Sums in a fixed order, so that the bits never depend on timing.
#include "walk.cuh"

namespace {

template <class T>
struct SplitsArgs {
  Global<Accumulator<T>> partial;  // (splits, length)
  Global<T> result;                // (length)
  int64_t length;
  uint32_t splits, accumulate;
};
LAYOUT_SIZE(SplitsArgs<f32>, 32);

// result[i] (+)= sum over s of partial[s, i]; a thread owns an element.
template <class T>
DEVICE void reduce_splits(const SplitsArgs<T>& args) {
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    Accumulator<T> sum = 0;
    for (uint32_t s = 0; s < args.splits; ++s) sum += args.partial.load(s * args.length + i);
    if (args.accumulate) sum += widen(args.result.load(i));
    args.result.store(i, narrow<T>(sum));
  }
}

template <class T>
struct ChannelsArgs {
  Global<T> dy;
  Global<Accumulator<T>> partial;  // (splits, channels)
  int64_t batch_stride, channel_stride, pixel_stride;
  Divisor pixels;
  uint32_t rows, channels;  // rows: batch * pixels
  uint32_t lanes;           // neighbouring threads on neighbouring channels: 1 or 32
  uint32_t splits, split_length;
};
LAYOUT_SIZE(ChannelsArgs<f32>, 72);
LAYOUT_FIELD(ChannelsArgs<f32>, pixels, 40);
LAYOUT_FIELD(ChannelsArgs<f32>, lanes, 60);

// partial[split, c] = sum over rows of the split of dy[row, c]. A block owns `lanes` channels of one
// split, each `256 / lanes` threads, whose sums it adds in a tree.
template <class T>
DEVICE void reduce_channels(const ChannelsArgs<T>& args) {
  using A = Accumulator<T>;
  DYNAMIC_SHARED(memory);
  Shared<A> sums{reinterpret_cast<A*>(memory)};
  const int thread = static_cast<int>(threadIdx.x);
  const auto lanes = static_cast<int>(args.lanes);
  const uint32_t channel = blockIdx.x * args.lanes + static_cast<uint32_t>(thread % lanes);
  const uint32_t begin = blockIdx.y * args.split_length;
  const uint32_t end = args.rows - begin < args.split_length ? args.rows : begin + args.split_length;
  A sum = 0;
  if (channel < args.channels)
    for (uint32_t row = begin + thread / lanes; row < end; row += 256 / lanes) {
      uint32_t image = args.pixels.quotient(row);
      uint32_t pixel = row - image * args.pixels.divisor;
      sum += widen(args.dy.load(image * args.batch_stride + channel * args.channel_stride +
                                pixel * args.pixel_stride));
    }
  sums[thread] = sum;
  __syncthreads();
  for (int half = 128; half >= lanes; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (thread < lanes && channel < args.channels)
    args.partial.store(static_cast<int64_t>(blockIdx.y) * args.channels + channel, sums[thread]);
}

}  // namespace

KERNEL_EACH_ELEMENT(reduce_splits, 256, SplitsArgs, reduce_splits)
KERNEL_EACH_ELEMENT(reduce_channels, 256, ChannelsArgs, reduce_channels)
