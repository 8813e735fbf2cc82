#!/usr/bin/env python3
"""Time PyTorch on a list of layers, for `ndconv bench --compare`.

    ndconv bench --shapes cpu --list > layers.json
    python benches/peers/torch_conv.py layers.json > torch.json
    ndconv bench --shapes cpu --compare torch.json

`--layout both` times PyTorch's two memory formats; `channels_last` means the memory of torch.channels_last, and
in one dimension a transposed view, which is what PyTorch offers there. Forward is timed alone; dgrad and wgrad each
through `aten::convolution_backward` with only that gradient asked for. The median of the repeats counts.
"""

import argparse
import json
import statistics
import sys
import time

import torch

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
PASSES = ("forward", "dgrad", "wgrad")


def with_layout(tensor, layout):
    if layout == "channels_first":
        return tensor.contiguous()
    if tensor.ndim in FORMATS:
        return tensor.contiguous(memory_format=FORMATS[tensor.ndim])
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def run_of(layer, which, dtype, layout, device):
    """A function that runs one pass of a layer."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        values = torch.rand(*shape, generator=generator) * 2 - 1
        return with_layout(values.to(device=device, dtype=DTYPES[dtype]), layout)

    rank = len(layer["input"])
    if any(isinstance(p, list) and p[0] != p[1] for p in layer["padding"]):
        raise NotImplementedError("padding that differs between the sides")
    padding = [p[0] if isinstance(p, list) else p for p in layer["padding"]]
    inputs, outputs, groups = layer["in_channels"], layer["out_channels"], layer["groups"]
    transposed = layer["transposed"]
    channels = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    x, w = draw(layer["batch"], inputs, *layer["input"]), draw(*channels, *layer["kernel_size"])
    settings = [layer["stride"], padding, layer["dilation"], transposed, layer["output_padding"], groups]

    def forward():
        return torch.ops.aten.convolution(x, w, None, *settings)

    if which == "forward":
        return forward
    dy = draw(*forward().shape)
    mask = [which == "dgrad", which == "wgrad", False]
    assert rank <= 3, "PyTorch has no convolution of more than three axes"
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, *settings, mask)


def seconds(run, device, repeats, budget):
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    begin = time.perf_counter()
    run()
    wait()
    first = time.perf_counter() - begin
    while len(times) < repeats and time.perf_counter() - begin < budget:
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times or [first]), len(times) or 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layers", help="a JSON list of layers, or - for standard input")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:ORDINAL (default: cpu)")
    parser.add_argument("--dtype", default="f32", help="comma-separated: f16, bf16, f32, f64")
    parser.add_argument("--layout", default="channels_first", help="channels_first, channels_last or both")
    parser.add_argument("--passes", default=",".join(PASSES), help="comma-separated (default: all three)")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each pass")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 on CUDA; by default f32 is f32")
    options = parser.parse_args()

    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_conv: PyTorch sees no CUDA device: use --device cpu")
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    torch.backends.cudnn.allow_tf32 = options.tf32
    torch.backends.cudnn.benchmark = True
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    layouts = ["channels_first", "channels_last"] if options.layout == "both" else options.layout.split(",")

    with open(0 if options.layers == "-" else options.layers) as file:
        layers = json.load(file)
    results = []
    with torch.no_grad():
        for layer in layers:
            for dtype in options.dtype.split(","):
                for layout in layouts:
                    for which in options.passes.split(","):
                        try:
                            run = run_of(layer, which, dtype, layout, device)
                            median, repeats = seconds(run, device, options.repeats, options.budget)
                        except (RuntimeError, NotImplementedError, AssertionError) as error:
                            print(f"{layer['name']} {which} {dtype} {layout}: {error}", file=sys.stderr)
                            continue
                        results.append(
                            {
                                "layer": layer["name"],
                                "pass": which,
                                "dtype": dtype,
                                "layout": layout,
                                "seconds": median,
                                "repeats": repeats,
                            }
                        )
            print(f"{layer['name']} done", file=sys.stderr)
    name = f"PyTorch {torch.__version__.split('+')[0]} on {where}{', TF32' if options.tf32 else ''}"
    json.dump({"name": name, "results": results}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
