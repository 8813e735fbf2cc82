"""Golden vectors of the signal functions, from NumPy, SciPy and the definitions.

Writes signal.json beside this file. Whole numbers throughout, so that the direct method must agree
exactly:

    python tests/golden/signal_cases.py
"""

import itertools
import json
import pathlib

import numpy as np
import scipy.ndimage
import scipy.signal

rng = np.random.default_rng(20)
cases = []


def whole(shape, complex_=False):
    x = rng.integers(-9, 10, shape).astype(float)
    return x + 1j * rng.integers(-9, 10, shape) if complex_ else x


def pack(x):
    x = np.asarray(x)
    if np.iscomplexobj(x):
        flat = np.stack([x.real.ravel(), x.imag.ravel()], -1).ravel()
    else:
        flat = x.ravel()
    return {"shape": list(x.shape), "data": [int(round(v)) for v in flat]}


def add(source, op, a, b, z, mode="same", align="scipy", **more):
    complex_ = bool(np.iscomplexobj(a) or np.iscomplexobj(b))
    if complex_:
        a, b, z = (np.asarray(x).astype(complex) for x in (a, b, z))
    cases.append(dict(source=source, op=op, mode=mode, align=align, complex=complex_,
                      a=pack(a), b=pack(b), z=pack(z), **more))


def full(a, b, op):
    """The definition, as a sum over the elements of b."""
    if op == "correlate":
        b = np.conj(b[(slice(None, None, -1),) * b.ndim])
    out = np.zeros([n + k - 1 for n, k in zip(a.shape, b.shape)], np.result_type(a, b))
    for j in np.ndindex(*b.shape):
        out[tuple(slice(i, i + n) for i, n in zip(j, a.shape))] += b[j] * a
    return out


def crop(z, starts, lens):
    return z[tuple(slice(s, s + n) for s, n in zip(starts, lens))]


PAIRS = [(1, 1), (5, 1), (1, 4), (7, 3), (7, 4), (8, 3), (8, 4), (6, 6), (3, 7), (3, 8), (4, 7), (4, 8), (9, 2), (2, 9)]

# --- NumPy and SciPy, one axis
for (n, k), complex_ in itertools.product(PAIRS, (False, True)):
    a, b = whole(n, complex_), whole(k, complex_)
    for mode in ("full", "same", "valid"):
        add("numpy.convolve", "convolve", a, b, np.convolve(a, b, mode), mode, "numpy")
        add("numpy.correlate", "correlate", a, b, np.correlate(a, b, mode), mode, "numpy")
        if not complex_ or mode == "same":
            z = scipy.signal.convolve(a, b, mode, "direct")
            add("scipy.signal.convolve", "convolve", a, b, z, mode)
            z = scipy.signal.correlate(a, b, mode, "direct")
            add("scipy.signal.correlate", "correlate", a, b, z, mode)

# --- SciPy, two to four axes
SHAPES = [((5, 6), (2, 3)), ((4, 5), (4, 4)), ((6, 3), (3, 2)), ((2, 3), (4, 6)), ((3, 4, 5), (2, 3, 2)), ((2, 3, 2), (3, 3, 4)),
          ((3, 2, 4, 3), (2, 2, 3, 1))]
for (n, k), complex_ in itertools.product(SHAPES, (False, True)):
    if complex_ and len(n) > 2:
        continue
    a, b = whole(n, complex_), whole(k, complex_)
    for mode in ("full", "same", "valid"):
        z = scipy.signal.convolve(a, b, mode, "direct")
        add("scipy.signal.convolve", "convolve", a, b, z, mode)
        z = scipy.signal.correlate(a, b, mode, "direct")
        add("scipy.signal.correlate", "correlate", a, b, z, mode)

# --- convolve2d and correlate2d with their boundaries
for (n, k), mode in itertools.product([((4, 5), (2, 3)), ((5, 4), (3, 4)), ((3, 3), (4, 5))], ("full", "same", "valid")):
    if mode == "valid" and n == (3, 3):
        continue
    for boundary, fill in (("fill", 0), ("fill", 7), ("wrap", 0), ("symm", 0)):
        a, b = whole(n), whole(k)
        more = dict(boundary={"fill": "constant", "wrap": "wrap", "symm": "reflect"}[boundary], cval=fill)
        z = scipy.signal.convolve2d(a, b, mode, boundary, fill)
        add("scipy.signal.convolve2d", "convolve", a, b, z, mode, "scipy2d", **more)
        z = scipy.signal.correlate2d(a, b, mode, boundary, fill)
        add("scipy.signal.correlate2d", "correlate", a, b, z, mode, "scipy2d", **more)

# --- ndimage
for boundary in ("reflect", "constant", "nearest", "mirror", "wrap"):
    for n, k in [(7, 3), (7, 4), (6, 5), (3, 6), (1, 3), (2, 7)]:
        for origin in range(-(k // 2), (k - 1) // 2 + 1):
            if origin and (k not in (3, 4) or n < 7):
                continue
            a, b = whole(n), whole(k)
            more = dict(boundary=boundary, cval=3, origin=[origin])
            z = scipy.ndimage.convolve(a, b, mode=boundary, cval=3, origin=origin)
            add("scipy.ndimage.convolve", "convolve", a, b, z, "same", "ndimage", **more)
            z = scipy.ndimage.correlate(a, b, mode=boundary, cval=3, origin=origin)
            add("scipy.ndimage.correlate", "correlate", a, b, z, "same", "ndimage", **more)
    for n, k, origin in [((4, 5), (2, 3), (0, 0)), ((5, 3), (3, 4), (1, -2)), ((3, 2, 4), (2, 3, 2), (0, 1, -1))]:
        a, b = whole(n), whole(k)
        more = dict(boundary=boundary, cval=-2, origin=list(origin))
        z = scipy.ndimage.convolve(a, b, mode=boundary, cval=-2, origin=origin)
        add("scipy.ndimage.convolve", "convolve", a, b, z, "same", "ndimage", **more)
        z = scipy.ndimage.correlate(a, b, mode=boundary, cval=-2, origin=origin)
        add("scipy.ndimage.correlate", "correlate", a, b, z, "same", "ndimage", **more)

# --- MATLAB, PyTorch and causal, from their documented rules
for n, k in [((n,), (k,)) for n, k in PAIRS] + SHAPES[:5]:
    a, b = whole(n), whole(k)
    for op in ("convolve", "correlate"):
        z = full(a, b, op)
        half = [v // 2 for v in k]
        add("matlab same", op, a, b, crop(z, half, n), "same", "matlab")
        lens = [max(i - j + 1, 0) for i, j in zip(n, k)]
        lens = lens if all(lens) else [0 if i < j else i - j + 1 for i, j in zip(n, k)]
        add("matlab valid", op, a, b, crop(z, [v - 1 for v in k], lens), "valid", "matlab")
        add("causal", op, a, b, crop(z, [0] * len(n), n), "same", "causal")
    # padding='same': (k - 1) // 2 zeros before, the rest after, then a correlation
    padded = np.pad(a, [((v - 1) // 2, v - 1 - (v - 1) // 2) for v in k])
    windows = np.lib.stride_tricks.sliding_window_view(padded, k)
    z = np.tensordot(windows, b, len(k))
    add("torch padding='same'", "correlate", a, b, z, "same", "torch")

# --- some axes convolved, the others paired or shared
for shapes, axes in [(((4, 9), (1, 3)), [1]), (((4, 9), (4, 3)), [1]), (((1, 9), (3, 4)), [1]), (((9, 4), (4, 1)), [0]),
                     (((3, 5, 6), (1, 2, 3)), [1, 2]), (((5, 3, 6), (2, 3, 3)), [0, 2]), (((2, 1, 6), (1, 3, 2)), [2])]:
    for mode, complex_ in itertools.product(("full", "same", "valid"), (False, True)):
        if mode == "same" and any(i < j for axis, (i, j) in enumerate(zip(*shapes)) if axis not in axes):
            continue  # SciPy crops the batch axes as well, and drops results
        a, b = whole(shapes[0], complex_), whole(shapes[1], complex_)
        z = scipy.signal.fftconvolve(a, b, mode, axes=axes)
        add("scipy.signal.fftconvolve", "convolve", a, b, z, mode, axes=axes)

# --- xcorr, from its definition
xcorr = []
for nx, ny, maxlag, complex_ in [(4, 4, None, 0), (5, 5, 2, 0), (3, 3, 6, 0), (6, 3, None, 0), (2, 5, None, 0), (5, 2, 3, 1),
                                 (4, 4, None, 1), (1, 1, 0, 0)]:
    x, y = whole(nx, complex_), whole(ny, complex_)
    largest = max(nx, ny) - 1 if maxlag is None else maxlag
    size = max(nx, ny)
    xs, ys = np.pad(x, (0, size - nx)), np.pad(y, (0, size - ny))
    for scaling in ("none", "biased", "unbiased", "coeff"):
        if scaling != "none" and nx != ny:
            continue
        values = []
        for lag in range(-largest, largest + 1):
            s = sum(xs[i + lag] * np.conj(ys[i]) for i in range(size) if 0 <= i + lag < size)
            if scaling == "biased":
                s = s / size
            if scaling == "unbiased":
                s = s / (size - abs(lag)) if abs(lag) < size else 0
            if scaling == "coeff":
                s = s / np.sqrt((abs(xs) ** 2).sum() * (abs(ys) ** 2).sum())
            values.append(complex(s))
        xcorr.append(dict(x=pack(x.astype(complex)), y=pack(y.astype(complex)), maxlag=maxlag, scaling=scaling,
                          values=[p for v in values for p in (v.real, v.imag)]))

path = pathlib.Path(__file__).with_name("signal.json")
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
more = ",\n".join(json.dumps(c, separators=(",", ":")) for c in xcorr)
path.write_text(f'{{"cases":[\n{lines}\n],"xcorr":[\n{more}\n]}}\n')
print(len(cases), "cases,", len(xcorr), "of xcorr,", path.stat().st_size, "bytes")
