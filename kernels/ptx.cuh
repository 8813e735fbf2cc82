// Every PTX instruction and every CUDA built-in that a kernel uses, each with its host twin for the
// emulator. Fragment layouts are those of the PTX manual's section on warp-level matrix operations.
#pragma once

#ifdef __CUDACC__
#include <stdint.h>
#define HOST_DEVICE __host__ __device__ __forceinline__
#define DEVICE __device__ __forceinline__
// The `extern "C"` entry NAME of a driver-API module, in blocks of THREADS of which BLOCKS should fit
// on a multiprocessor; the rest is the body template to call. Without a number of blocks ptxas
// aims at one of its own and spills for it.
#define KERNEL_BLOCKS(NAME, THREADS, BLOCKS, ARGS, ...)                       \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)               \
      NAME(const __grid_constant__ ARGS args) {                               \
    __VA_ARGS__(args);                                                        \
  }
#define DYNAMIC_SHARED(NAME) extern __shared__ __align__(128) unsigned char NAME[]
#else
#include "emulator/matrix.h"
#define HOST_DEVICE inline
#define DEVICE inline
#define KERNEL_BLOCKS(NAME, THREADS, BLOCKS, ARGS, ...)                                       \
  static void NAME##_body(const void* args) { __VA_ARGS__(*static_cast<const ARGS*>(args)); } \
  static emulator::Registrar NAME##_entry{#NAME, NAME##_body, sizeof(ARGS), THREADS};
#define DYNAMIC_SHARED(NAME) unsigned char* NAME = emulator::block.shared
#endif
#define KERNEL(NAME, THREADS, ARGS, ...) KERNEL_BLOCKS(NAME, THREADS, 2, ARGS, __VA_ARGS__)

namespace ptx {

// a * b + c in one rounding on the device, in two on the host: integers below the mantissa agree.
DEVICE float multiply_add(float a, float b, float c) {
#ifdef __CUDACC__
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}
DEVICE double multiply_add(double a, double b, double c) {
#ifdef __CUDACC__
  return __fma_rn(a, b, c);
#else
  return a * b + c;
#endif
}

DEVICE float exponential(float v) { return expf(v); }
DEVICE double exponential(double v) { return exp(v); }
DEVICE float hyperbolic_tangent(float v) { return tanhf(v); }
DEVICE double hyperbolic_tangent(double v) { return tanh(v); }
DEVICE float square_root(float v) { return sqrtf(v); }
DEVICE double square_root(double v) { return sqrt(v); }

// Sine and cosine of pi v.
DEVICE void sine_cosine_pi(float v, float& sine, float& cosine) {
#ifdef __CUDACC__
  sincospif(v, &sine, &cosine);
#else
  sine = static_cast<float>(sin(M_PI * v)), cosine = static_cast<float>(cos(M_PI * v));
#endif
}
DEVICE void sine_cosine_pi(double v, double& sine, double& cosine) {
#ifdef __CUDACC__
  sincospi(v, &sine, &cosine);
#else
  sine = sin(M_PI * v), cosine = cos(M_PI * v);
#endif
}

// The value of the lane whose number differs in these bits.
template <class T>
DEVICE T shuffle_xor(T v, int bits) {
  return __shfl_xor_sync(0xffffffffu, v, bits);
}

DEVICE unsigned float_bits(float v) {
#ifdef __CUDACC__
  return __float_as_uint(v);
#else
  unsigned bits;
  memcpy(&bits, &v, 4);
  return bits;
#endif
}
DEVICE float bits_float(unsigned v) {
#ifdef __CUDACC__
  return __uint_as_float(v);
#else
  float value;
  memcpy(&value, &v, 4);
  return value;
#endif
}

// Truncates to float, towards zero.
DEVICE float double_to_float_rz(double v) {
#ifdef __CUDACC__
  return __double2float_rz(v);
#else
  return emulator::double_to_float_rz(v);
#endif
}

// binary16 to nearest, ties to even.
DEVICE uint16_t float_to_f16(float v) {
#ifdef __CUDACC__
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
  return bits;
#else
  return emulator::float_to_f16(v);
#endif
}
DEVICE float f16_to_float(uint16_t bits) {
#ifdef __CUDACC__
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
  return v;
#else
  return emulator::f16_to_float(bits);
#endif
}

// bfloat16 to nearest, ties to even: the upper half of a float.
DEVICE uint16_t float_to_bf16(float v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
  return bits;
#else
  unsigned bits = float_bits(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
#endif
}
DEVICE float bf16_to_float(uint16_t bits) { return bits_float(static_cast<unsigned>(bits) << 16); }

// TF32 to nearest, ties away from zero; a multiplication drops the lower 13 bits by itself.
DEVICE unsigned float_to_tf32(float v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return bits;
#else
  unsigned bits = float_bits(v);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#endif
}

// The address that instructions on shared memory take.
using SharedAddress = unsigned;
DEVICE SharedAddress shared_address(const void* p) {
#ifdef __CUDACC__
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
#else
  return static_cast<unsigned>(static_cast<const unsigned char*>(p) - emulator::block.shared);
#endif
}

// Copies BYTES (4, 8 or 16) from global to shared memory behind the back of the thread; bytes from
// `valid` on become zeros. 16-byte copies stay out of the L1 cache.
template <int BYTES>
DEVICE void copy_async(void* target, const void* source, unsigned valid) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)),
                 "l"(source), "r"(valid)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(target)),
                 "l"(source), "n"(BYTES), "r"(valid)
                 : "memory");
#elif defined(__CUDACC__)
  for (int i = 0; i < BYTES; ++i)
    static_cast<char*>(target)[i] = i < valid ? static_cast<const char*>(source)[i] : 0;
#else
  emulator::copy_async(target, source, BYTES, valid);
#endif
}
// Closes the group of copies issued since the last commit.
DEVICE void copy_commit() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif !defined(__CUDACC__)
  emulator::copy_commit();
#endif
}
// Waits for this thread's copies until at most LEFT groups are under way; other threads see them
// after a barrier.
template <int LEFT>
DEVICE void copy_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#elif !defined(__CUDACC__)
  emulator::copy_wait(LEFT);
#endif
}

// Barrier ID (1 to 15; 0 is __syncthreads) among THREADS threads; `arrive` does not wait.
template <int ID, int THREADS>
DEVICE void named_barrier_sync() {
#ifdef __CUDACC__
  asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
#else
  emulator::barrier(ID, THREADS, __LINE__, true);
#endif
}
template <int ID, int THREADS>
DEVICE void named_barrier_arrive() {
#ifdef __CUDACC__
  asm volatile("bar.arrive %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
#else
  emulator::barrier(ID, THREADS, __LINE__, false);
#endif
}

// 8x8 matrices of 16-bit elements from shared memory: lane 8 i + r points at row r of matrix i (16
// bytes, 16-aligned) and gets of every matrix the elements (lane / 4, 2 (lane % 4) + {0, 1}).
DEVICE void load_matrix_x4(unsigned (&r)[4], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
#else
  emulator::load_matrix<4, false>(r, row);
#endif
}
DEVICE void load_matrix_x2(unsigned (&r)[2], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
#else
  emulator::load_matrix<2, false>(r, row);
#endif
}
// The same with every matrix transposed.
DEVICE void load_matrix_x4_transposed(unsigned (&r)[4], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
#else
  emulator::load_matrix<4, true>(r, row);
#endif
}
DEVICE void load_matrix_x2_transposed(unsigned (&r)[2], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
#else
  emulator::load_matrix<2, true>(r, row);
#endif
}

// d[16][8] += a[16][16] b[16][8]; with g = lane / 4 and t = lane % 4 a lane holds
// a: (g, 2t+{0,1}) (g+8, 2t+{0,1}) (g, 2t+8+{0,1}) (g+8, 2t+8+{0,1}), two to a register
// b: (2t+{0,1}, g) (2t+8+{0,1}, g)      d: (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
DEVICE void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::mma_16bit(d, a, b, emulator::f16_to_float);
#endif
}
DEVICE void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::mma_16bit(d, a, b, bf16_to_float);
#endif
}
// d[16][8] += a[16][8] b[8][8] in TF32.
// a: (g, t) (g+8, t) (g, t+4) (g+8, t+4)      b: (t, g) (t+4, g)      d as above
DEVICE void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::mma_tf32(d, a, b);
#endif
}
// d[8][8] += a[8][4] b[4][8] in f64.   a: (g, t)   b: (t, g)   d: (g, 2t) (g, 2t+1)
DEVICE void mma_f64(double (&d)[2], double a, double b) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
      : "+d"(d[0]), "+d"(d[1])
      : "d"(a), "d"(b));
#else
  emulator::mma_f64(d, a, b);
#endif
}

}  // namespace ptx
