// Host twins of conversions and warp-level matrix instructions: the lanes bring their fragments, the
// last to arrive computes for all.
#pragma once

#include "emulator.h"

namespace emulator {

inline float f16_to_float(uint16_t bits) {
  unsigned sign = static_cast<unsigned>(bits & 0x8000) << 16;
  unsigned exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  float value;
  if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  unsigned word = sign | (exponent == 31 ? 0xffu : exponent + 112) << 23 | mantissa << 13;
  std::memcpy(&value, &word, 4);
  return value;
}

inline uint16_t float_to_f16(float v) {
  unsigned bits;
  std::memcpy(&bits, &v, 4);
  unsigned sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);  // rounds past 65504
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    float steps = std::fabs(v) * 0x1p24f;
    // adding 2^23 rounds to an integer, ties to even
    float rounded = (steps + 0x1p23f) - 0x1p23f;
    return static_cast<uint16_t>(sign | static_cast<unsigned>(rounded));
  }
  unsigned rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

inline float double_to_float_rz(double v) {
  auto value = static_cast<float>(v);
  if (std::isnan(v) || std::fabs(static_cast<double>(value)) <= std::fabs(v)) return value;
  return std::nextafter(value, 0.0f);
}

template <int COUNT, bool TRANSPOSED>
void load_matrix(unsigned (&r)[COUNT], const void* row) {
  struct Argument {
    const void* row;
    unsigned r[COUNT];
  } mine{row, {}};
  // lanes past the last row address of an x2 load give none
  if (static_cast<int>(thread_index % 32) < COUNT * 8) check_shared(row, 16, 16);
  collective(
      0xffffffffu,
      [](void* const* lanes, unsigned) {
        for (int i = 0; i < COUNT; ++i) {
          uint16_t m[8][8];
          for (int j = 0; j < 8; ++j)
            std::memcpy(m[j], static_cast<Argument*>(lanes[i * 8 + j])->row, 16);
          for (int lane = 0; lane < 32; ++lane) {
            int g = lane / 4, t = lane % 4;
            unsigned low = TRANSPOSED ? m[2 * t][g] : m[g][2 * t];
            unsigned high = TRANSPOSED ? m[2 * t + 1][g] : m[g][2 * t + 1];
            static_cast<Argument*>(lanes[lane])->r[i] = low | high << 16;
          }
        }
      },
      &mine, 1000000 + COUNT * 2 + TRANSPOSED);
  std::memcpy(r, mine.r, sizeof(r));
}

// The accumulators of a 16 x 8 tile, gathered and scattered.
template <class Argument>
void each_accumulator(void* const* lanes, float (&d)[16][8], bool scatter) {
  for (int lane = 0; lane < 32; ++lane) {
    auto argument = static_cast<Argument*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      float& there = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
      if (scatter)
        argument->d[i] = there;
      else
        there = argument->d[i];
    }
  }
}

struct Mma {
  float* d;
  const unsigned *a, *b;
  float (*widen)(uint16_t);
};

inline void mma_16bit(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                      float (*widen)(uint16_t)) {
  Mma mine{d, a, b, widen};
  collective(
      0xffffffffu,
      [](void* const* lanes, unsigned) {
        float wide_a[16][16], wide_b[16][8], sums[16][8];
        for (int lane = 0; lane < 32; ++lane) {
          auto m = static_cast<Mma*>(lanes[lane]);
          int g = lane / 4, t = lane % 4;
          for (int i = 0; i < 8; ++i) {
            auto half = [&](const unsigned* r) {
              return m->widen(static_cast<uint16_t>(r[i / 2] >> (i % 2 * 16)));
            };
            wide_a[g + (i / 2 % 2) * 8][2 * t + i % 2 + i / 4 * 8] = half(m->a);
            if (i < 4) wide_b[2 * t + i % 2 + i / 2 * 8][g] = half(m->b);
          }
        }
        each_accumulator<Mma>(lanes, sums, false);
        for (int i = 0; i < 16; ++i)
          for (int k = 0; k < 16; ++k)
            for (int j = 0; j < 8; ++j) sums[i][j] += wide_a[i][k] * wide_b[k][j];
        each_accumulator<Mma>(lanes, sums, true);
      },
      &mine, 1000010);
}

inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Mma mine{d, a, b, nullptr};
  collective(
      0xffffffffu,
      [](void* const* lanes, unsigned) {
        float wide_a[16][8], wide_b[8][8], sums[16][8];
        auto tf32 = [](unsigned bits) {
          bits &= 0xffffe000u;  // the tensor core does not read the rest
          float v;
          std::memcpy(&v, &bits, 4);
          return v;
        };
        for (int lane = 0; lane < 32; ++lane) {
          auto m = static_cast<Mma*>(lanes[lane]);
          int g = lane / 4, t = lane % 4;
          for (int i = 0; i < 4; ++i) wide_a[g + i % 2 * 8][t + i / 2 * 4] = tf32(m->a[i]);
          for (int i = 0; i < 2; ++i) wide_b[t + i * 4][g] = tf32(m->b[i]);
        }
        each_accumulator<Mma>(lanes, sums, false);
        for (int i = 0; i < 16; ++i)
          for (int k = 0; k < 8; ++k)
            for (int j = 0; j < 8; ++j) sums[i][j] += wide_a[i][k] * wide_b[k][j];
        each_accumulator<Mma>(lanes, sums, true);
      },
      &mine, 1000011);
}

inline void mma_f64(double (&d)[2], double a, double b) {
  struct Argument {
    double* d;
    double a, b;
  } mine{d, a, b};
  collective(
      0xffffffffu,
      [](void* const* lanes, unsigned) {
        for (int lane = 0; lane < 32; ++lane) {
          auto m = static_cast<Argument*>(lanes[lane]);
          for (int i = 0; i < 2; ++i)
            for (int k = 0; k < 4; ++k) {
              double left = static_cast<Argument*>(lanes[lane / 4 * 4 + k])->a;
              double right = static_cast<Argument*>(lanes[(lane % 4 * 2 + i) * 4 + k])->b;
              m->d[i] += left * right;
            }
        }
      },
      &mine, 1000012);
}

}  // namespace emulator
