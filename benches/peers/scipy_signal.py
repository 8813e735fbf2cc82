"""Convolutions and circular correlations side by side with SciPy: `python benches/peers/scipy_signal.py`.

Builds the bench program of this crate (or takes its path as the first argument), then alternates between the
two on every problem and prints the best time of each (a busy machine disturbs that least). SciPy runs the
function that a user would call; its transforms get `workers=2` (pocketfft). Both use two threads: set
RAYON_NUM_THREADS=2 on a larger machine. ROUNDS (3) and ONLY=targets or sweep choose how much is run.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import scipy
import scipy.fft
import scipy.signal

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ONLY = os.environ.get("ONLY", "targets sweep")

TARGETS = [  # (dtype, mode, method, n, k, SciPy's function, wanted ratio)
    ("f64", "full", "fft", (1 << 18,), (4096,), "fftconvolve", 1.5),
    ("f32", "full", "fft", (1 << 18,), (4096,), "fftconvolve", 1.5),
    ("f64", "full", "overlap-add", (1 << 18,), (4096,), "oaconvolve", 1.5),
    ("f32", "full", "overlap-add", (1 << 18,), (4096,), "oaconvolve", 1.5),
    ("f64", "same", "direct", (512, 512), (11, 11), "convolve2d", 2.0),
    ("f32", "same", "direct", (512, 512), (11, 11), "convolve2d", 2.0),
]
TARGETS += [(dtype, "circular", what, (4096, n), (n,) if what == "vector" else (4096, n), "rfft", 1.5)
            for n in (512, 1000) for dtype in ("f64", "f32") for what in ("vector", "batch", "gradients")]

SWEEP = [("f64", "full", "auto", (n,), (k,), "convolve", 0.9)
         for n in (100, 1000, 10_000, 100_000, 1_000_000) for k in (3, 31, 255, 4000)]
SWEEP += [("f64", "same", "auto", (n, n), (k, k), "convolve", 0.9)
          for n in (16, 64, 256, 1000) for k in (3, 7, 15, 51)]
SWEEP += [("f64", "full", "auto", (n,) * 3, (k,) * 3, "convolve", 0.9) for n in (16, 64) for k in (3, 9)]


def build():
    command = ["cargo", "bench", "--bench", "signal", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [m["executable"] for m in map(json.loads, lines)
             if m.get("executable") and m.get("target", {}).get("name") == "signal"]
    return found[-1]


def best(call):
    call()
    times, start = [], time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - start < 0.3 and len(times) < 2000):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def correlate(x, y):
    spectrum = np.conj(scipy.fft.rfft(x)) * scipy.fft.rfft(y)
    return scipy.fft.irfft(spectrum, x.shape[-1])


def gradients(x, y, dz):
    n = x.shape[-1]
    fx, fy, fz = (scipy.fft.rfft(v) for v in (x, y, dz))
    return scipy.fft.irfft(np.conj(fz) * fy, n), scipy.fft.irfft(fz * fx, n)


def peer_call(mode, method, function, a, b):
    if mode != "circular":
        return lambda: getattr(scipy.signal, function)(a, b, mode=mode)
    return (lambda: gradients(a, b, a)) if method == "gradients" else (lambda: correlate(a, b))


def main():
    ours_serving = subprocess.Popen([sys.argv[1] if len(sys.argv) > 1 else build(), "--serve"],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    text = lambda shape: "x".join(map(str, shape))
    problems = [p for part, list_ in (("targets", TARGETS), ("sweep", SWEEP)) if part in ONLY for p in list_]
    below = 0
    print(f"NumPy {np.__version__}, SciPy {scipy.__version__}, workers=2, best of {ROUNDS} rounds")
    print(f"{'problem':58} {'SciPy':>10} {'ndconv':>10} {'ratio':>7}  chosen")
    for dtype, mode, method, n, k, function, wanted in problems:
        a = np.random.default_rng(0).standard_normal(n).astype({"f32": "f4", "f64": "f8"}[dtype])
        b = np.random.default_rng(1).standard_normal(k).astype(a.dtype)
        call = peer_call(mode, method, function, a, b)
        ours, theirs, chosen = [], [], ""
        for _ in range(ROUNDS):
            print(dtype, mode, method, text(n), text(k), file=ours_serving.stdin, flush=True)
            seconds, _, chosen = ours_serving.stdout.readline().partition(" ")
            ours.append(float(seconds))
            with scipy.fft.set_workers(2):
                theirs.append(best(call))
        ratio = min(theirs) / min(ours)
        below += ratio < wanted
        name = f"{function} {dtype} {mode} {text(n)} * {text(k)} {method}"
        mark = "" if ratio >= wanted else f"  below {wanted}"
        print(f"{name:58} {min(theirs) * 1e3:8.3f}ms {min(ours) * 1e3:8.3f}ms {ratio:7.2f}  "
              f"{chosen.split(':')[0].strip()}{mark}", flush=True)
    print(f"{below} of {len(problems)} below what is wanted")


if __name__ == "__main__":
    main()
