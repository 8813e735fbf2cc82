// Layout changes: target[image, column, row] = source[image, row, column], by width of the element.
//
// A block moves 32 x 32 tiles through shared memory, so that reads and writes are both contiguous.
#include "element.cuh"

namespace {

template <class T>
struct LayoutArgs {
  Global<T> source, target;
  uint32_t batch, rows, columns, reserved;
};
LAYOUT_SIZE(LayoutArgs<uint32_t>, 32);

template <class T>
DEVICE void layout_transpose(const LayoutArgs<T>& args) {
  DYNAMIC_SHARED(memory);
  Shared<T> tile{reinterpret_cast<T*>(memory)};  // 32 rows of 33: no two of a column in one bank
  const uint32_t across = (args.columns + 31) / 32;
  const uint32_t row0 = blockIdx.x / across * 32, column0 = blockIdx.x % across * 32;
  const uint32_t x = threadIdx.x % 32, y = threadIdx.x / 32;
  for (int64_t image = blockIdx.y; image < args.batch; image += gridDim.y) {
    const int64_t base = image * args.rows * args.columns;
    for (uint32_t i = y; i < 32; i += 8)
      if (row0 + i < args.rows && column0 + x < args.columns)
        tile[static_cast<int>(i * 33 + x)] =
            args.source.load(base + static_cast<int64_t>(row0 + i) * args.columns + column0 + x);
    __syncthreads();
    for (uint32_t i = y; i < 32; i += 8)
      if (column0 + i < args.columns && row0 + x < args.rows)
        args.target.store(base + static_cast<int64_t>(column0 + i) * args.rows + row0 + x,
                          tile[static_cast<int>(x * 33 + i)]);
    __syncthreads();
  }
}

}  // namespace

KERNEL(layout_transpose_b2, 256, LayoutArgs<uint16_t>, layout_transpose<uint16_t>)
KERNEL(layout_transpose_b4, 256, LayoutArgs<uint32_t>, layout_transpose<uint32_t>)
KERNEL(layout_transpose_b8, 256, LayoutArgs<uint64_t>, layout_transpose<uint64_t>)
