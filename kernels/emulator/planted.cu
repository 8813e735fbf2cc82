// Kernels with planted bugs, each beside its correct form: the emulator's own tests.
//
// result[i] = neighbour's input[i + 1 mod 128], through shared memory; bug is what is left out.
#include "../element.cuh"

namespace {

struct PlantedArgs {
  Global<f32> input, result;
  uint32_t bug;
  uint32_t reserved;
};

enum Bug : uint32_t { none, no_barrier, no_wait, past_the_end, divergent, deadlock, early_overwrite,
                      shared_overrun, write_to_input };

// One block of 128 threads passes `input` on by one place, by asynchronous copies in two stages.
DEVICE void copy_kernel(const PlantedArgs& args) {
  DYNAMIC_SHARED(memory);
  Shared<f32> tile{reinterpret_cast<f32*>(memory)};
  const int i = static_cast<int>(threadIdx.x);
  const auto bug = args.bug;
  float sum = 0;
  for (int round = 0; round < 4; ++round) {
    ptx::copy_async<4>(&tile[i], args.input.vector<1>(i + (bug == past_the_end)), 4);
    ptx::copy_commit();
    if (bug != no_wait) ptx::copy_wait<0>();
    if (bug != no_barrier) __syncthreads();
    sum += tile[bug == shared_overrun ? i + 1 : (i + 1) % 128] * static_cast<float>(1 << round);
    if (bug == no_wait) ptx::copy_wait<0>();
    // Without this one a fast warp's next copy lands in a tile that a slow one still reads.
    if (bug != early_overwrite) __syncthreads();
    if (bug == early_overwrite) ptx::copy_async<4>(&tile[i], args.input.vector<1>((i + 64) % 128), 4);
    if (bug == early_overwrite) ptx::copy_commit(), ptx::copy_wait<0>(), __syncthreads();
  }
  if (bug == divergent) {
    if (i < 64)
      __syncthreads();
    else
      __syncthreads();
  }
  if (bug == deadlock && i < 32) ptx::named_barrier_sync<1, 64>();
  if (bug == write_to_input) args.input.store(i, sum);
  args.result.store(i, sum);
}

// d[16][8] = a[16][16] b[16][8] in one warp by ldmatrix and mma.sync; with `bug` 1 the registers
// of a are in the order of a column-major fragment, with 2 b is loaded untransposed.
DEVICE void mma_kernel(const PlantedArgs& args) {
  DYNAMIC_SHARED(memory);
  Shared<f16> a{reinterpret_cast<f16*>(memory)}, b{reinterpret_cast<f16*>(memory + 512)};
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) a[i] = narrow<f16>(args.input.load(i));
  for (int i = lane; i < 128; i += 32) b[i] = narrow<f16>(args.input.load(256 + i));
  __syncwarp();
  unsigned fa[4], fb[2];
  ptx::load_matrix_x4(fa, &a[lane % 16 * 16 + lane / 16 * 8]);
  if (args.bug == 2)
    ptx::load_matrix_x2(fb, &b[lane % 16 * 8]);
  else
    ptx::load_matrix_x2_transposed(fb, &b[lane % 16 * 8]);
  if (args.bug == 1) {
    unsigned swap = fa[1];
    fa[1] = fa[2];
    fa[2] = swap;
  }
  float d[4] = {};
  ptx::mma_f16(d, fa, fb);
  for (int i = 0; i < 4; ++i)
    args.result.store((lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2, d[i]);
}

}  // namespace

KERNEL(planted_copy, 128, PlantedArgs, copy_kernel)
KERNEL(planted_mma, 32, PlantedArgs, mma_kernel)
