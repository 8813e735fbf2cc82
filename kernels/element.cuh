// Element types, the types that sums are kept in, and checked access to memory.
#pragma once

#include "ptx.cuh"

// Storage of the 16-bit types; arithmetic is in float.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};
using f32 = float;
using f64 = double;

template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<f64> {
  using type = double;
};
// f32 for f16, bf16 and f32; f64 for f64.
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

DEVICE float widen(f16 v) { return ptx::f16_to_float(v.bits); }
DEVICE float widen(bf16 v) { return ptx::bf16_to_float(v.bits); }
DEVICE float widen(f32 v) { return v; }
DEVICE double widen(f64 v) { return v; }

// Rounds to nearest, ties to even.
template <class T>
DEVICE T narrow(Accumulator<T> v) {
  return v;
}
template <>
DEVICE f16 narrow<f16>(float v) {
  return f16{ptx::float_to_f16(v)};
}
template <>
DEVICE bf16 narrow<bf16>(float v) {
  return bf16{ptx::float_to_bf16(v)};
}

// One rounding from f64: a float that keeps a sticky last bit rounds to 16 bits as its origin would.
DEVICE float round_to_odd(double v) {
  float truncated = ptx::double_to_float_rz(v);
  if (static_cast<double>(truncated) == v || v != v) return truncated;
  return ptx::bits_float(ptx::float_bits(truncated) | 1);
}
template <class T>
DEVICE T from_double(double v) {
  return static_cast<T>(v);
}
template <>
DEVICE f16 from_double<f16>(double v) {
  return narrow<f16>(round_to_odd(v));
}
template <>
DEVICE bf16 from_double<bf16>(double v) {
  return narrow<bf16>(round_to_odd(v));
}

// A pointer into global memory as it stands in an argument struct. It is only ever indexed, never
// moved: so the emulator knows which buffer an access means, and checks it against that one.
template <class T>
struct Global {
  T* pointer;

  DEVICE T load(int64_t i) const {
#ifndef __CUDACC__
    emulator::check_global(pointer, i * static_cast<int64_t>(sizeof(T)), sizeof(T), false);
#endif
    return pointer[i];
  }
  DEVICE void store(int64_t i, T v) const {
#ifndef __CUDACC__
    emulator::check_global(pointer, i * static_cast<int64_t>(sizeof(T)), sizeof(T), true);
#endif
    pointer[i] = v;
  }
  // COUNT elements beside each other, for vector and asynchronous reads.
  template <int COUNT>
  DEVICE const T* vector(int64_t i) const {
#ifndef __CUDACC__
    emulator::check_global(pointer, i * static_cast<int64_t>(sizeof(T)), sizeof(T) * COUNT, false);
#endif
    return pointer + i;
  }
  DEVICE bool is_null() const { return pointer == nullptr; }
};

// An array in shared memory.
template <class T>
struct Shared {
  T* pointer;

  DEVICE T& operator[](int i) const {
#ifndef __CUDACC__
    emulator::check_shared(pointer + i, sizeof(T), alignof(T));
#endif
    return pointer[i];
  }
};

// Cuts the block's dynamic shared memory into arrays, each 16-aligned.
struct SharedCutter {
  unsigned char* next;

  template <class T>
  DEVICE Shared<T> take(int count) {
    Shared<T> array{reinterpret_cast<T*>(next)};
    next += (count * static_cast<int>(sizeof(T)) + 15) / 16 * 16;
    return array;
  }
};

// Division of numbers below 2^31 by a number known at launch (Granlund and Montgomery, 1994).
struct Divisor {
  uint32_t divisor, multiplier, shift;

  DEVICE unsigned quotient(unsigned n) const { return (__umulhi(n, multiplier) + n) >> shift; }
};

// Row-major position of `index` in `sizes`, outermost axis first.
DEVICE void unravel(unsigned index, const Divisor (&sizes)[4], int (&position)[4]) {
#pragma unroll
  for (int a = 3; a > 0; --a) {
    unsigned outer = sizes[a].quotient(index);
    position[a] = static_cast<int>(index - outer * sizes[a].divisor);
    index = outer;
  }
  position[0] = static_cast<int>(index);
}

DEVICE int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
DEVICE int64_t global_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// The tables at the foot of a file: the same body for every element type.
#define KERNEL_EACH_ELEMENT(NAME, THREADS, ARGS, BODY) \
  KERNEL(NAME##_f16, THREADS, ARGS<f16>, BODY<f16>)    \
  KERNEL(NAME##_bf16, THREADS, ARGS<bf16>, BODY<bf16>) \
  KERNEL(NAME##_f32, THREADS, ARGS<f32>, BODY<f32>)    \
  KERNEL(NAME##_f64, THREADS, ARGS<f64>, BODY<f64>)

// Size and offsets of an argument struct, as src/cuda/args.rs has them.
#define LAYOUT_SIZE(ARGS, BYTES) \
  static_assert(sizeof(ARGS) == BYTES, #ARGS " is not what src/cuda/args.rs passes")
#define LAYOUT_FIELD(ARGS, FIELD, OFFSET) \
  static_assert(offsetof(ARGS, FIELD) == OFFSET, #ARGS "::" #FIELD " is elsewhere in src/cuda/args.rs")
