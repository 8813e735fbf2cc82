#!/usr/bin/env python3
"""One peer, held in memory by compare.py: reads requests from standard input, a JSON object a line.

    {"layer": {...}}                                     the layer that the next requests are about
    {"pass": "fprop", "layout": "channels_first", "threads": 2, "dtype": "f32", "budget": 0.1}

answers one line each: {} or {"seconds": median, "repeats": n}, or {"error": text}.
"""

import json
import os
import statistics
import sys
import time


def measure(run, budget):
    """The median of at least two calls in a budget, after as long a time, or one call, that warms up:
    processors that rested are slow at first."""
    begin = time.perf_counter()
    run()
    while time.perf_counter() - begin < budget:
        run()
    times, begin = [], time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begin < budget:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times), len(times)


class Torch:
    PASSES = {"fprop": "forward", "dgrad": "dgrad", "wgrad": "wgrad"}

    def __init__(self):
        import torch
        import torch_conv

        self.torch, self.run_of = torch, torch_conv.run_of
        torch.set_grad_enabled(False)

    def prepare(self, layer, which, layout, threads, dtype):
        self.torch.set_num_threads(threads)
        if len(layer["input"]) == 4:
            return self.four_axes(layer, which, layout, dtype)
        return self.run_of(layer, self.PASSES[which], dtype, layout, self.torch.device("cpu"))

    def four_axes(self, layer, which, layout, dtype):
        """conv4d as a user of PyTorch has it: conv3d of every slice of the kernel, summed."""
        if which != "fprop" or layout != "channels_first" or layer["transposed"] or dtype != "f32":
            raise NotImplementedError("four axes: forward, channels first, f32")
        torch = self.torch
        assert set(layer["stride"]) == set(layer["dilation"]) == {1}
        batch, channels = layer["batch"], layer["in_channels"]
        x = torch.rand(batch, channels, *layer["input"]) * 2 - 1
        w = torch.rand(layer["out_channels"], channels // layer["groups"], *layer["kernel_size"]) * 2 - 1
        first, *rest = layer["padding"]

        def run():
            padded = torch.nn.functional.pad(x, (0, 0) * 3 + (first, first))
            count = padded.shape[2] - w.shape[2] + 1
            total = None
            for k in range(w.shape[2]):
                slices = padded[:, :, k : k + count].transpose(1, 2).flatten(0, 1)
                part = torch.nn.functional.conv3d(slices, w[:, :, k], padding=rest, groups=layer["groups"])
                total = part if total is None else total.add_(part)
            return total.unflatten(0, (batch, count)).transpose(1, 2)

        return run


class OnnxRuntime:
    def prepare(self, layer, which, layout, threads, dtype):
        import numpy
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        if which != "fprop" or layout != "channels_first" or dtype != "f32":
            raise NotImplementedError("inference, channels first, f32")
        groups, inputs, outputs = layer["groups"], layer["in_channels"], layer["out_channels"]
        channels = (inputs, outputs // groups) if layer["transposed"] else (outputs, inputs // groups)
        random = numpy.random.default_rng(1)
        draw = lambda *shape: random.uniform(-1, 1, shape).astype(numpy.float32)
        x, w = draw(layer["batch"], inputs, *layer["input"]), draw(*channels, *layer["kernel_size"])
        settings = {
            "strides": layer["stride"],
            "dilations": layer["dilation"],
            "group": groups,
            "pads": layer["padding"] * 2,
            "kernel_shape": layer["kernel_size"],
        }
        if layer["transposed"]:
            settings["output_padding"] = layer["output_padding"]
        node = helper.make_node("ConvTranspose" if layer["transposed"] else "Conv", ["x", "w"], ["y"], **settings)
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [node],
            layer["name"],
            [value("x", TensorProto.FLOAT, x.shape)],
            [value("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(w, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": x})


class Jax:
    """Every pass through the convolution, of which a transposed layer is the adjoint."""

    def prepare(self, layer, which, layout, threads, dtype):
        import jax

        if layout != "channels_first" or threads != os.cpu_count() or dtype != "f32":
            raise NotImplementedError("channels first, all processors, f32")
        rank, transposed = len(layer["input"]), layer["transposed"]
        inputs, outputs, groups = layer["in_channels"], layer["out_channels"], layer["groups"]
        spatial = list(layer["input"])
        if transposed:
            inputs, outputs = outputs, inputs
            sizes = zip(*(layer[k] for k in ("input", "stride", "padding", "dilation", "kernel_size", "output_padding")))
            spatial = [(i - 1) * s - 2 * p + d * (k - 1) + o + 1 for i, s, p, d, k, o in sizes]
        keys = jax.random.split(jax.random.key(1), 3)
        draw = lambda key, *shape: jax.random.uniform(key, shape, minval=-1, maxval=1)
        x = draw(keys[0], layer["batch"], inputs, *spatial)
        w = draw(keys[1], outputs, inputs // groups, *layer["kernel_size"])
        letters = "DEHW"[4 - rank :]

        def conv(x, w):
            return jax.lax.conv_general_dilated(
                x,
                w,
                layer["stride"],
                [(p, p) for p in layer["padding"]],
                rhs_dilation=layer["dilation"],
                feature_group_count=groups,
                dimension_numbers=("NC" + letters, "OI" + letters, "NC" + letters),
            )

        dy = draw(keys[2], *jax.eval_shape(conv, x, w).shape)
        passes = {
            "fprop": (lambda x, w, dy: conv(x, w)),
            "dgrad": (lambda x, w, dy: jax.vjp(lambda x: conv(x, w), x)[1](dy)[0]),
            "wgrad": (lambda x, w, dy: jax.vjp(lambda w: conv(x, w), w)[1](dy)[0]),
        }
        if transposed:
            which = {"fprop": "dgrad", "dgrad": "fprop"}.get(which, which)
        compiled = jax.jit(passes[which])
        return lambda: compiled(x, w, dy).block_until_ready()


PEERS = {"torch": Torch, "onnxruntime": OnnxRuntime, "jax": Jax}


def main():
    peer = PEERS[sys.argv[1]]()
    layer, prepared = None, {}
    for line in sys.stdin:
        request = json.loads(line)
        if "layer" in request:
            layer, prepared, answer = request["layer"], {}, {}
        else:
            try:
                key = tuple(request[k] for k in ("pass", "layout", "threads", "dtype"))
                if key not in prepared:
                    prepared[key] = peer.prepare(layer, *key)
                if sys.argv[1] == "torch":
                    peer.torch.set_num_threads(request["threads"])
                seconds, repeats = measure(prepared[key], request["budget"])
                answer = {"seconds": seconds, "repeats": repeats}
            except Exception as error:  # what a peer cannot do is an answer too
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
