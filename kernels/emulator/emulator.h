// What a kernel source sees of CUDA when g++ compiles it: the built-in variables, barriers, warp
// collectives and asynchronous copies, run by one fiber per CUDA thread (runtime.cpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint3_t {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace emulator {

// A buffer that the launch declared: a kernel may touch nothing else.
struct Region {
  uint64_t begin, end;
  uint64_t writable;
};

// What every thread of a running block sees.
struct Block {
  uint3_t block_index, grid_size;
  unsigned threads;
  unsigned char* shared;
  unsigned shared_bytes;
  const Region* regions;
  unsigned region_count;
  bool late_copies;
};

// `__thread`: a `thread_local` would be reached through a function call.
extern __thread Block block;
extern __thread unsigned thread_index;

// Ends the block: reports `what` with the running thread's position.
[[noreturn]] void fail(const char* what, long long detail = 0, long long limit = 0);

// Block barrier `id` for `threads` threads (0: all of the block); `site` tells two calls apart.
void barrier(unsigned id, unsigned threads, unsigned site, bool wait);

// All lanes of `mask` meet; the last one runs `compute(arguments by lane, mask)`.
using Collective = void (*)(void* const* lanes, unsigned mask);
void collective(unsigned mask, Collective compute, void* mine, unsigned site);

// Asynchronous copies into shared memory; bytes from `valid` on are zeros.
void copy_async(void* target, const void* source, unsigned bytes, unsigned valid);
void copy_commit();
void copy_wait(unsigned groups_left);

// A point where another warp may be scheduled.
void yield();

inline void check_shared(const void* at, size_t bytes, size_t alignment) {
  auto p = static_cast<const unsigned char*>(at);
  if (p < block.shared || p + bytes > block.shared + block.shared_bytes)
    fail("shared memory access out of bounds: offset %lld of %lld bytes", p - block.shared,
         block.shared_bytes);
  if (reinterpret_cast<uintptr_t>(p) % alignment)
    fail("misaligned shared memory access: offset %lld, alignment %lld", p - block.shared,
         static_cast<long long>(alignment));
}

inline void check_global(const void* base, int64_t offset, size_t bytes, bool write) {
  auto begin = reinterpret_cast<uint64_t>(base);
  for (unsigned i = 0; i < block.region_count; ++i) {
    const Region& region = block.regions[i];
    if (region.begin != begin) continue;
    if (write && !region.writable) continue;
    auto size = static_cast<int64_t>(region.end - begin);
    if (offset < 0 || offset + static_cast<int64_t>(bytes) > size)
      fail(write ? "global write out of bounds: byte %lld of a buffer of %lld"
                 : "global read out of bounds: byte %lld of a buffer of %lld",
           offset, size);
    if (offset % static_cast<int64_t>(bytes))
      fail("misaligned global access: byte %lld, width %lld", offset,
           static_cast<long long>(bytes));
    return;
  }
  fail(write ? "write through a pointer that the launch did not give for writing"
             : "read through a pointer that the launch did not give");
}

using Body = void (*)(const void* arguments);
struct Entry {
  const char* name;
  Body body;
  size_t argument_bytes;
  unsigned threads;
  Entry* next;
};
struct Registrar {
  Entry entry;
  Registrar(const char* name, Body body, size_t argument_bytes, unsigned threads);
};

template <class T>
T shuffle(unsigned mask, T value, int lane, unsigned site) {
  struct Argument {
    T value;
    int lane;
  } mine{value, lane};
  collective(
      mask,
      [](void* const* lanes, unsigned mask) {
        T values[32];
        for (int i = 0; i < 32; ++i)
          if (mask >> i & 1) values[i] = static_cast<Argument*>(lanes[i])->value;
        for (int i = 0; i < 32; ++i) {
          if (!(mask >> i & 1)) continue;
          auto argument = static_cast<Argument*>(lanes[i]);
          // a lane that takes no part has no value to give
          if (mask >> (argument->lane & 31) & 1)
            argument->value = values[argument->lane & 31];
          else
            std::memset(&argument->value, 0xff, sizeof(T));
        }
      },
      &mine, site);
  return mine.value;
}

}  // namespace emulator

#define threadIdx (uint3_t{emulator::thread_index, 0, 0})
#define blockDim (uint3_t{emulator::block.threads, 1, 1})
#define blockIdx (emulator::block.block_index)
#define gridDim (emulator::block.grid_size)

#define __syncthreads() emulator::barrier(0, 0, __LINE__, true)
#define __syncwarp(...) \
  emulator::collective(0xffffffffu, [](void* const*, unsigned) {}, nullptr, __LINE__)
#define __shfl_sync(mask, value, lane) emulator::shuffle(mask, value, lane, __LINE__)
#define __shfl_xor_sync(mask, value, bits) \
  emulator::shuffle(mask, value, int(emulator::thread_index % 32) ^ (bits), __LINE__)

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
