"""Batched circular correlation with SciPy: the sizes of benches/circular.rs.

    python benches/peers/scipy_circular.py [repeats]

Prints the median and the best time of each case in milliseconds, real transforms, two workers.
"""

import sys
import time

import numpy
import scipy
from scipy import fft

ROWS = 4096


def correlate(x, y):
    n = x.shape[-1]
    spectrum = numpy.conj(fft.rfft(x, workers=2)) * fft.rfft(y, workers=2)
    return fft.irfft(spectrum, n, workers=2)


def gradients(x, y, dz):
    n = x.shape[-1]
    fx, fy, fz = (fft.rfft(v, workers=2) for v in (x, y, dz))
    dx = fft.irfft(numpy.conj(fz) * fy, n, workers=2)
    dy = fft.irfft((fz * fx).sum(axis=0), n, workers=2)
    return dx, dy


def measure(name, call, repeats):
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    times.sort()
    print(f"{name:<48}{times[len(times) // 2]:>10.2f}{times[0]:>10.2f}")


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(f"NumPy {numpy.__version__}, SciPy {scipy.__version__}, workers=2")
    print(f"{'case':<48}{'median ms':>10}{'best ms':>10}")
    random = numpy.random.default_rng(1)
    for dtype in (numpy.float64, numpy.float32):
        for length in (512, 1000, 997):
            x, batch = (random.standard_normal((ROWS, length)).astype(dtype) for _ in range(2))
            one = batch[0].copy()
            name = f"circular {numpy.dtype(dtype).name} {ROWS}x{length}"
            measure(f"{name}/one vector", lambda: correlate(x, one), repeats)
            measure(f"{name}/batch by batch", lambda: correlate(x, batch), repeats)
            measure(f"{name}/one vector, gradients", lambda: gradients(x, one, batch), repeats)


if __name__ == "__main__":
    main()
