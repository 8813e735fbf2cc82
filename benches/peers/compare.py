#!/usr/bin/env python3
"""The CPU engine and its peers on a list of layers, in turn, layer by layer; compare_cpu.sh starts it.

Every peer is a process of its own that stays; a layer and pass is timed in rounds, each peer for a moment in every
round, and the median over the rounds counts. The passes of a transposed layer are the layer's own: its fprop is the
forward pass. A ratio above 1 means that this crate is faster; PyTorch is taken in the better of its two memory formats
and so is this crate in its two layouts. Random data; every call allocates its result and packs the weights, which
are written between calls as in training; the peer "kept" is this crate with weights that stay as they are, the peer
"f32" this crate in f32 where another type is asked for.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAYERS = HERE.parent / "layers"
PASSES = ("fprop", "dgrad", "wgrad")
LAYOUTS = ("channels_first", "channels_last")
# The allocator keeps what it has had: without this, first touches of fresh pages are half of a peer's time.
REUSE = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}


# Peers that are this crate.
OWN = ("ndconv", "kept", "f32")


class Worker:
    def __init__(self, name, command, environment):
        self.name = name
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=os.environ | environment
        )

    def ask(self, request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare: {self.name} ended with status {self.process.wait()}")
        return json.loads(line)


def layouts(peer, which):
    if peer == "kept":
        return LAYOUTS if which != "wgrad" else ()
    return LAYOUTS if peer in (*OWN, "torch") else LAYOUTS[:1]


def entries(peers, passes, threads):
    """(pass, threads, peer, layout): everything that is timed of a layer."""
    for which in passes:
        for count in threads:
            for peer in peers:
                for layout in layouts(peer, which):
                    yield which, count, peer, layout


def measure(layer, workers, options):
    for worker in set(workers.values()):
        worker.ask({"layer": layer})
    timed, refused = {}, set()
    for _ in range(options.rounds):
        for entry in entries(options.peers, options.passes, options.threads):
            which, threads, peer, layout = entry
            if entry in refused:
                continue
            request = {"pass": which, "layout": layout, "threads": threads, "budget": options.budget}
            request["kept"] = peer == "kept"
            request["dtype"] = "f32" if peer == "f32" else options.dtype
            time.sleep(options.pause)
            answer = workers[peer, threads].ask(request)
            if "seconds" in answer:
                timed.setdefault(entry, []).append(answer["seconds"])
            else:
                refused.add(entry)
    return [
        dict(zip(("pass", "threads", "peer", "layout", "seconds"), (*entry, statistics.median(times))))
        for entry, times in timed.items()
    ]


class Row:
    """The times of one pass of a layer with one number of threads."""

    def __init__(self, layer, which, threads, results):
        self.layer, self.which = layer, which
        self.times = {
            (r["peer"], r["layout"]): r["seconds"]
            for r in results
            if r["pass"] == which and r["threads"] == threads
        }

    def best(self, peer):
        return min((t for (p, _), t in self.times.items() if p == peer), default=None)

    def time(self, peer, layout):
        return self.times.get((peer, layout))

    def ratio(self, peer="torch"):
        return quotient(self.best(peer), self.best("ndconv"))


def quotient(a, b):
    return a / b if a and b else None


def geomean(values):
    values = [v for v in values if v]
    return math.exp(statistics.fmean(map(math.log, values))) if values else float("nan")


def cell(value, form="{:.2f}"):
    return "-" if value is None else form.format(value)


def work(layer):
    """Floating-point operations of a pass."""
    if layer["transposed"]:
        positions = math.prod(layer["input"])
    else:
        sizes = zip(*(layer[k] for k in ("input", "stride", "padding", "dilation", "kernel_size")))
        positions = math.prod((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, s, p, d, k in sizes)
    pairs = layer["in_channels"] * layer["out_channels"] // layer["groups"]
    return 2 * layer["batch"] * positions * pairs * math.prod(layer["kernel_size"])


def report(layers, saved, options):
    """The table and the summary; the number of layers and passes below 0.9 of PyTorch."""
    threads = options.threads[0]
    print(f"{options.dtype}, {threads} threads; GFLOP/s in the two layouts; ratios above 1: ndconv is faster")
    heading = ["layer", "pass", "first", "last", "torch", "t.last", "onnxrt", "jax",
               "ratio", "first", "last", "/onnxrt", "/jax", "scale", "kept", "/f32"]
    widths = [34, 6] + [7] * (len(heading) - 2)
    line = lambda cells: print(" ".join(f"{c:<{w}}" if i < 2 else f"{c:>{w}}"
                                        for i, (c, w) in enumerate(zip(cells, widths))))
    line(heading)
    rows = []
    for layer in layers:
        results = saved.get(layer["name"], [])
        for which in options.passes:
            row = Row(layer, which, threads, results)
            if row.best("ndconv") is None:
                continue
            rows.append(row)
            rate = lambda t: cell(t and work(layer) / t / 1e9, "{:.0f}")
            alone = Row(layer, which, 1, results).best("ndconv") if threads != 1 else None
            line([
                layer["name"], which,
                *(rate(row.time("ndconv", layout)) for layout in LAYOUTS),
                *(rate(row.time("torch", layout)) for layout in LAYOUTS), rate(row.best("onnxruntime")),
                rate(row.best("jax")), cell(row.ratio()),
                *(cell(quotient(row.time("torch", layout), row.time("ndconv", layout))) for layout in LAYOUTS),
                cell(row.ratio("onnxruntime")), cell(row.ratio("jax")), cell(quotient(alone, row.best("ndconv"))),
                rate(row.best("kept")), cell(row.ratio("f32")),
            ])
    listed = [row for row in rows if len(row.layer["input"]) < 4]
    low = [row for row in listed if (row.ratio() or 1) < 0.9]
    for row in low:
        print(f"below 0.9: {row.layer['name']} {row.which} {row.ratio():.2f}")
    means = [geomean(row.ratio() for row in listed if row.which == which) for which in PASSES]
    worst = min((row.ratio() for row in listed if row.ratio()), default=float("nan"))
    print("geomean " + " ".join(f"{which} {mean:.2f}" for which, mean in zip(PASSES, means)) + f" worst {worst:.2f}")


def write(path, saved, peers):
    """The results so far, whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.resolve().parent, delete=False) as file:
        json.dump({"peers": peers, "results": saved}, file, indent=1)
    os.replace(file.name, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", help="the program of benches/conv.rs")
    parser.add_argument("--list", action="append", type=Path, help="JSON lists of layers (default: the CPU lists)")
    parser.add_argument("--layers", default="", help="a regular expression that names of layers must match")
    parser.add_argument("--passes", default=",".join(PASSES))
    parser.add_argument("--threads", default="2,1", help="the first is reported; 1 beside it gives the scaling")
    parser.add_argument("--peers", default="kept,torch,onnxruntime,jax")
    parser.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=0.05, help="seconds for each peer in a round")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds for the threads of one peer to stop "
                        "spinning before the next begins")
    parser.add_argument("--json", type=Path, help="keep results here; layers that it holds are not timed again")
    parser.add_argument("--until", type=float, default=math.inf, help="start no layer after so many seconds")
    parser.add_argument("--report", action="store_true", help="only print what --json holds")
    options = parser.parse_args()
    options.passes = options.passes.split(",")
    options.threads = [int(n) for n in options.threads.split(",")]
    lists = options.list or [LAYERS / "cpu_layers.json", LAYERS / "cpu_conv4d.json"]
    layers = [layer for path in lists for layer in json.loads(path.read_text())]
    layers = [layer for layer in layers if re.search(options.layers, layer["name"])]

    saved = {}
    if options.json and options.json.exists():
        saved = json.loads(options.json.read_text())["results"]
    if not options.report:
        begin = time.monotonic()
        options.peers = ["ndconv"] + [p for p in options.peers.split(",") if p]
        workers = {}
        for peer in options.peers:
            if peer in OWN:
                # called from outside of rayon's pool, which has as many threads as the process is told
                for threads in options.threads:
                    told = {"RAYON_NUM_THREADS": str(threads)}
                    workers[peer, threads] = Worker(peer, [options.bench, "--serve"], told)
            else:
                worker = Worker(peer, [sys.executable, str(HERE / "workers.py"), peer], REUSE)
                workers |= {(peer, threads): worker for threads in options.threads}
        for layer in layers:
            if layer["name"] in saved or time.monotonic() - begin > options.until:
                continue
            print(f"{layer['name']} ..", file=sys.stderr, flush=True)
            saved[layer["name"]] = measure(layer, workers, options)
            if options.json:
                write(options.json, saved, options.peers)
    report(layers, saved, options)


if __name__ == "__main__":
    main()
