// Circular convolution and correlation over rows of N elements, summed over pairs of rows:
//   z[o, n] = sum over the pairs (i, j) of o, over k, of x[i, k] y[j, (n - k) mod N]   (convolve)
//                                                     x[i, k] y[j, (n + k) mod N]   (correlate)
// The pairs of an output are a stretch of a list, which holds what broadcasting means for a forward
// pass and a gradient alike. They fall into splits of fixed length; with more than one, each writes
// sums of its own, which reduce.cu adds in order.
//
//   direct: any N; a block owns 2 x 256 elements of one output and one split
//   fft:    N a power of two; a block owns one output and one split. Both rows are transformed at once
//           as x + i y, and the spectra of all pairs are added before the one inverse transform
#include "element.cuh"

namespace {

constexpr int THREADS = 256, EACH = 2;

template <class T>
struct CircularArgs {
  Global<T> x, y, z;
  Global<Accumulator<T>> partial;  // (splits, outputs, N); null: straight into z
  Global<uint32_t> starts, pairs;  // (outputs + 1); (pairs, 2)
  uint32_t length, outputs;        // N
  uint32_t split_length, correlate;
};
LAYOUT_SIZE(CircularArgs<f32>, 64);
LAYOUT_FIELD(CircularArgs<f32>, starts, 32);
LAYOUT_FIELD(CircularArgs<f32>, length, 48);

// The pairs [begin, end) of an output in the split of the running block.
template <class T>
struct Stretch {
  uint32_t begin, end;

  DEVICE Stretch(const CircularArgs<T>& args, uint32_t output) {
    const uint32_t last = args.starts.load(output + 1);
    begin = args.starts.load(output) + blockIdx.y * args.split_length;
    end = last - begin < args.split_length ? last : begin + args.split_length;
    if (begin > last) end = begin;
  }
};

template <class T>
DEVICE void store(const CircularArgs<T>& args, uint32_t output, uint32_t n, Accumulator<T> sum) {
  const int64_t at = static_cast<int64_t>(output) * args.length + n;
  const int64_t all = static_cast<int64_t>(args.outputs) * args.length;
  if (args.partial.is_null())
    args.z.store(at, narrow<T>(sum));
  else
    args.partial.store(blockIdx.y * all + at, sum);
}

template <class T>
DEVICE void direct(const CircularArgs<T>& args) {
  using A = Accumulator<T>;
  constexpr int TILE = THREADS * EACH, WINDOW = TILE + THREADS - 1;
  DYNAMIC_SHARED(memory);
  SharedCutter cut{memory};
  auto x = cut.take<A>(THREADS);
  auto y = cut.take<A>(WINDOW);
  const int thread = static_cast<int>(threadIdx.x);
  const uint32_t length = args.length, tiles = (length + TILE - 1) / TILE;
  const uint32_t output = blockIdx.x / tiles, first = blockIdx.x % tiles * TILE;
  const Stretch<T> mine(args, output);
  A sums[EACH] = {};
  for (uint32_t pair = mine.begin; pair < mine.end; ++pair) {
    const int64_t x_row = static_cast<int64_t>(args.pairs.load(2 * int64_t{pair})) * length;
    const int64_t y_row = static_cast<int64_t>(args.pairs.load(2 * int64_t{pair} + 1)) * length;
    for (uint32_t k0 = 0; k0 < length; k0 += THREADS) {
      __syncthreads();  // the tiles of the round before are no longer read
      const uint32_t k = k0 + static_cast<uint32_t>(thread);
      if (k < length) x[thread] = widen(args.x.load(x_row + k));
      // the window's first element: of n = first and the last k of the tile, or the first
      const uint32_t start = args.correlate
                                 ? (first + k0) % length
                                 : (first % length + length - (k0 + THREADS - 1) % length) % length;
      for (int i = thread; i < WINDOW; i += THREADS)
        y[i] = widen(args.y.load(y_row + (start + static_cast<uint32_t>(i)) % length));
      __syncthreads();
      const int count = length - k0 < THREADS ? static_cast<int>(length - k0) : THREADS;
      for (int i = 0; i < count; ++i) {
        const A factor = x[i];
        const int at = thread + (args.correlate ? i : THREADS - 1 - i);
#pragma unroll
        for (int e = 0; e < EACH; ++e)
          sums[e] = ptx::multiply_add(factor, y[at + e * THREADS], sums[e]);
      }
    }
  }
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const uint32_t n = first + static_cast<uint32_t>(thread + e * THREADS);
    if (n < length) store(args, output, n, sums[e]);
  }
}

template <class A>
struct alignas(2 * sizeof(A)) Complex {
  A re, im;
};
template <class A>
DEVICE Complex<A> multiply(Complex<A> a, Complex<A> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// Transforms of N elements in shared memory by radix-2 Stockham steps, which need no reordering.
template <class A>
struct Transform {
  Shared<Complex<A>> from, to, turns;  // turns: exp(-2 pi i k / N), k < N / 2
  int length;

  DEVICE void fill_turns() const {
    for (int k = static_cast<int>(threadIdx.x); k < length / 2; k += THREADS) {
      Complex<A> turn;
      ptx::sine_cosine_pi(A(-2) * A(k) / A(length), turn.im, turn.re);
      turns[k] = turn;
    }
  }
  // Transforms `from` into `from`, after a barrier and with one behind it.
  template <bool INVERSE>
  DEVICE void run() {
    for (int stride = 1; stride < length; stride *= 2) {
      for (int t = static_cast<int>(threadIdx.x); t < length / 2; t += THREADS) {
        const int q = t & (stride - 1), base = t - q;  // base: p * stride
        Complex<A> turn = turns[base];
        if (INVERSE) turn.im = -turn.im;
        const Complex<A> a = from[t], b = from[t + length / 2];
        to[q + 2 * base] = {a.re + b.re, a.im + b.im};
        to[q + 2 * base + stride] = multiply(Complex<A>{a.re - b.re, a.im - b.im}, turn);
      }
      __syncthreads();
      const Shared<Complex<A>> done = to;
      to = from;
      from = done;
    }
  }
};

template <class T>
DEVICE void fft(const CircularArgs<T>& args) {
  using A = Accumulator<T>;
  DYNAMIC_SHARED(memory);
  SharedCutter cut{memory};
  const int thread = static_cast<int>(threadIdx.x), length = static_cast<int>(args.length);
  auto spectrum = cut.take<Complex<A>>(length / 2 + 1);  // the rest are conjugates
  auto first = cut.take<Complex<A>>(length);
  auto second = cut.take<Complex<A>>(length);
  Transform<A> transform{first, second, cut.take<Complex<A>>(length / 2), length};
  const uint32_t output = blockIdx.x;
  const Stretch<T> mine(args, output);
  transform.fill_turns();
  for (int f = thread; f <= length / 2; f += THREADS) spectrum[f] = {0, 0};
  for (uint32_t pair = mine.begin; pair < mine.end; ++pair) {
    const int64_t x_row = static_cast<int64_t>(args.pairs.load(2 * int64_t{pair})) * length;
    const int64_t y_row = static_cast<int64_t>(args.pairs.load(2 * int64_t{pair} + 1)) * length;
    __syncthreads();  // the transform of the pair before is no longer read
    for (int n = thread; n < length; n += THREADS)
      transform.from[n] = {widen(args.x.load(x_row + n)), widen(args.y.load(y_row + n))};
    __syncthreads();
    transform.template run<false>();
    for (int f = thread; f <= length / 2; f += THREADS) {
      // X = (Z[f] + conj(Z[-f])) / 2 and Y = (Z[f] - conj(Z[-f])) / 2i
      const Complex<A> z = transform.from[f], w = transform.from[(length - f) & (length - 1)];
      Complex<A> x{(z.re + w.re) / 2, (z.im - w.im) / 2}, y{(z.im + w.im) / 2, (w.re - z.re) / 2};
      if (args.correlate) x.im = -x.im;
      const Complex<A> product = multiply(x, y), sum = spectrum[f];
      spectrum[f] = {sum.re + product.re, sum.im + product.im};
    }
  }
  __syncthreads();
  for (int f = thread; f < length; f += THREADS) {
    const bool upper = f > length / 2;
    Complex<A> sum = spectrum[upper ? length - f : f];
    if (upper) sum.im = -sum.im;
    transform.from[f] = sum;
  }
  __syncthreads();
  transform.template run<true>();
  for (int n = thread; n < length; n += THREADS)
    store(args, output, static_cast<uint32_t>(n), transform.from[n].re / A(length));
}

}  // namespace

KERNEL_EACH_ELEMENT(circular_direct, 256, CircularArgs, direct)
KERNEL_EACH_ELEMENT(circular_fft, 256, CircularArgs, fft)
