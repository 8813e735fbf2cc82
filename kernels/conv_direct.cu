// fprop and dgrad of groups with few channels, depthwise above all: a thread owns an element of the
// result, y[image, group k + column, pixel] = sum over (tap, channel), and walks taps and channels.
// Threads go along memory, so neighbours read neighbouring pixels or channels, and mostly from cache.
#include "conv.cuh"

namespace {

template <class T>
struct DirectArgs {
  ConvArgs<T> conv;
  ImageWalk walk;   // of the result
  Divisor columns;  // channels of a group in the result
  uint32_t reserved;
};
LAYOUT_SIZE(DirectArgs<f32>, 584);
LAYOUT_FIELD(DirectArgs<f32>, walk, 480);
LAYOUT_FIELD(DirectArgs<f32>, columns, 568);

template <class T>
struct DirectSum {
  const ConvArgs<T>& args;
  const int (&position)[4];
  int64_t channel_step;  // in the weight
  Accumulator<T> sum;

  // Adds the taps of AXIS and the axes inside it; `g` and `w` are where the axes outside led to.
  template <int AXIS>
  DEVICE void add(int64_t g, int64_t w) {
    if constexpr (AXIS == 4) {
      for (unsigned c = 0; c < args.channels.divisor; ++c)
        sum = ptx::multiply_add(widen(args.gathered.load(g + c * args.from.channel)),
                                widen(args.other.load(w + c * channel_step)), sum);
    } else {
#pragma unroll 1
      for (int tap = 0; tap < args.taps[AXIS]; ++tap) {
        const int reach = tap * args.dilation[AXIS], stride = args.stride[AXIS];
        int at = position[AXIS] * stride - args.padding[AXIS] + reach;
        if (args.transposed) {
          const int numerator = position[AXIS] + args.padding[AXIS] - reach;
          at = numerator / stride;
          if (at * stride != numerator) continue;
        }
        if (static_cast<unsigned>(at) >= static_cast<unsigned>(args.gathered_size[AXIS])) continue;
        add<AXIS + 1>(g + at * args.from.axis[AXIS], w + tap * args.weight_axis[AXIS]);
      }
    }
  }
};

template <class T>
DEVICE void conv_direct(const DirectArgs<T>& args) {
  const ConvArgs<T>& conv = args.conv;
  each_element(args.walk, [&](int64_t image, unsigned e) {
    int position[4];
    const unsigned channel = args.walk.place(e, position);
    const unsigned group = args.columns.quotient(channel);
    const unsigned column = channel - group * args.columns.divisor;
    const int64_t first = static_cast<int64_t>(group) * conv.channels.divisor;
    int64_t g = image * conv.from.batch + first * conv.from.channel;
    int64_t w = conv.transposed ? first * conv.weight_outer + column * conv.weight_channel
                                : channel * conv.weight_outer;
    DirectSum<T> total{conv, position, conv.transposed ? conv.weight_outer : conv.weight_channel, 0};
    total.template add<0>(g, w);
    if (!conv.bias.is_null()) total.sum += widen(conv.bias.load(channel));
    const int64_t at = image * args.walk.elements + e;
    if (conv.accumulate) total.sum += widen(conv.result.load(at));
    conv.result.store(at, narrow<T>(total.sum));
  });
}

}  // namespace

KERNEL_EACH_ELEMENT(conv_direct, 256, DirectArgs, conv_direct)
