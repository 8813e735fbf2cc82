// Where the elements of an activation stand, whatever its layout.
#pragma once

#include "element.cuh"

// Strides of an activation in elements.
struct ActivationMap {
  int64_t batch, channel, axis[4];
};

// The elements of one image in memory order, and how many images there are. An image has less than
// 2^31 elements; the host checks that.
struct ImageWalk {
  Divisor axis[4], pixels, channels;
  uint32_t channels_last, batch;
  int64_t elements;  // of an image

  // Channel and position of element e.
  DEVICE unsigned place(unsigned e, int (&position)[4]) const {
    const Divisor& inner = channels_last ? channels : pixels;
    unsigned outer = inner.quotient(e), rest = e - outer * inner.divisor;
    unravel(channels_last ? outer : rest, axis, position);
    return channels_last ? rest : outer;
  }
};
LAYOUT_SIZE(ImageWalk, 88);

// Runs f(image, e) for every element of every image: blocks along x share an image, along y images.
template <class F>
DEVICE void each_element(const ImageWalk& walk, F f) {
  for (int64_t image = blockIdx.y; image < walk.batch; image += gridDim.y)
    for (int64_t e = global_thread(); e < walk.elements; e += global_threads())
      f(image, static_cast<unsigned>(e));
}
