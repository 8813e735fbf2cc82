#!/usr/bin/env python3
"""Write the golden cases of ndconv: layers as PyTorch, Keras, JAX and ONNX compute them.

How to run (Python 3.11 or later; CPU only, about two minutes):

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/generate.py            # everything
    venv/bin/python tests/golden/generate.py --only torch_conv2d   # cases whose name holds that text
    venv/bin/python tests/golden/generate.py --no-shapes           # leave shapes.csv alone

What it writes, next to this file:

    cases/*.safetensors   one case per file: a layer's settings (metadata), its input and what must come out
    shapes.csv            rows of 1-D output sizes, or `error`, as each framework answers

Versions used: see requirements.txt (every file also says its own, under `source`).

How it works. Every case is drawn from a NumPy generator seeded with the CRC-32 of its name, so that adding or
removing a case leaves the others alone. `y` comes from the framework named in `source`; `dx`, `dw` and `dbias` are
that framework's own vector-Jacobian products for a random `dy`. Everything is computed in float64. A case stored in
a narrower type has its inputs rounded to that type first, and its results rounded once at the end; a case whose
name starts with `integer_` holds small whole numbers, and its results are asserted to be exact in the stored type.

The file format. Each value of the safetensors string map is JSON text. Keys that equal the documented default are
mostly left out, so that a reader's defaults are tested too. Files are written by the few lines of `write_case`
rather than by the safetensors package, whose metadata order changes from run to run.
"""

import argparse
import csv
import functools
import itertools
import json
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import keras
import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.reference
import tensorflow as tf
import torch
import torch.nn.functional as F

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")
tf.get_logger().setLevel("ERROR")

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
TORCH = f"PyTorch {torch.__version__.split('+')[0]}"
JAX = f"JAX {jax.__version__}"
KERAS = f"Keras {keras.__version__} (TensorFlow {tf.__version__})"
ONNX = f"ONNX {onnx.__version__}"

ONLY = ""  # set by --only
WRITTEN = {}  # name -> size in bytes


# ---------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------


def write_atomically(path, data):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def write_case(name, source, meta, tensors, dtype="F64"):
    """One case file: an 8-byte little-endian header length, the JSON header, the tensors in order."""
    exact = name.startswith("integer_")
    meta = {"op": meta["op"], **{k: v for k, v in meta.items() if v is not None}, "name": name, "source": source}
    header = {"__metadata__": {k: json.dumps(v) for k, v in meta.items()}}
    body = b""
    for key in ("x", "w", "bias", "dy", "y", "dx", "dw", "dbias"):
        if tensors.get(key) is None:
            continue
        value = np.ascontiguousarray(tensors[key], dtype=np.float64)
        assert value.size > 0 and np.isfinite(value).all(), (name, key)
        stored = value.astype(DTYPES[dtype])
        if exact or key in ("x", "w", "bias", "dy"):
            assert (stored.astype(np.float64) == value).all(), f"{name}: {key} is not exact in {dtype}"
        if exact:
            assert (value.astype(np.float32) == value).all() and np.abs(value).max() < 2**20, (name, key)
        data = stored.tobytes()
        header[key] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    assert name not in WRITTEN, f"two cases are called {name}"
    CASES.mkdir(parents=True, exist_ok=True)
    write_atomically(CASES / f"{name}.safetensors", struct.pack("<Q", len(text)) + text + body)
    WRITTEN[name] = 8 + len(text) + len(body)


def wanted(name):
    return ONLY in name


class Draw:
    """Random inputs of one case, already rounded to the type they are stored in."""

    def __init__(self, name, dtype, integers):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.dtype = DTYPES[dtype]
        self.integers = integers

    def __call__(self, *shape):
        if self.integers:
            return self.rng.integers(-self.integers, self.integers + 1, shape).astype(np.float64)
        return self.rng.standard_normal(shape).astype(self.dtype).astype(np.float64)

    def distinct(self, *shape):
        """No two equal values: the largest of a pooling window is never in doubt."""
        if self.integers:
            count = int(np.prod(shape))
            return (self.rng.permutation(count) - count // 2).reshape(shape).astype(np.float64)
        value = self(*shape)
        assert len(np.unique(value)) == value.size
        return value


# ---------------------------------------------------------------------------------------------------------------
# Layouts: everything is computed channels first with PyTorch's weights, and permuted for the file
# ---------------------------------------------------------------------------------------------------------------


def data_to(layout, value):
    return np.moveaxis(value, 1, -1) if layout == "channels_last" else value


def weight_to(layout, op, w):
    """PyTorch's weight (or its gradient) in another layout."""
    if layout == "keras":  # (out, in, k..) -> (k.., in, out); transposed (in, out, k..) -> (k.., out, in)
        return np.moveaxis(w, (0, 1), (-1, -2))
    if layout == "theano":
        assert op == "conv"
        return np.flip(w, tuple(range(2, w.ndim)))
    return w


def expand(value, rank):
    return [value] * rank if isinstance(value, int) else list(value)


def pairs(padding, rank):
    """3 -> [[3, 3]] * rank; [1, 2] -> [[1, 1], [2, 2]]; [(1, 0), ...] as is."""
    return [[p, p] if isinstance(p, int) else list(p) for p in expand(padding, rank)]


def common_meta(rank, stride, dilation):
    return {
        "stride": expand(stride, rank) if set(expand(stride, rank)) != {1} else None,
        "dilation": expand(dilation, rank) if set(expand(dilation, rank)) != {1} else None,
    }


def finish(name, source, meta, layout, weight_layout, dtype, values):
    op = meta["op"]
    meta = {
        **meta,
        "layout": layout if layout != "channels_first" else None,
        "weight_layout": weight_layout if weight_layout != "pytorch" else None,
    }
    tensors = {}
    for key, value in values.items():
        if value is None:
            continue
        value = np.asarray(value)
        if key in ("x", "y", "dx", "dy"):
            value = data_to(layout, value)
        elif key in ("w", "dw"):
            value = weight_to(weight_layout, op, value)
        tensors[key] = value
    write_case(name, source, meta, tensors, dtype)


# ---------------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------------

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
PAD_MODE = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def torch_pad(x, padding, mode="zeros", value=None):
    flat = [p for pair in reversed(padding) for p in pair]
    return F.pad(x, flat, mode=PAD_MODE[mode], **({"value": value} if value is not None else {}))


def torch_vjp(function, inputs, draw):
    """y, dy and the gradients of sum(y * dy); None stays None."""
    leaves = [None if v is None else torch.tensor(v, requires_grad=True) for v in inputs]
    y = function(*leaves)
    dy = draw(*y.shape)
    grads = iter(torch.autograd.grad(y, [v for v in leaves if v is not None], torch.tensor(dy)))
    return y.detach().numpy(), dy, [None if v is None else next(grads).numpy() for v in leaves]


def torch_conv(
    name,
    x,
    out,
    k,
    stride=1,
    dilation=1,
    padding=None,
    groups=1,
    bias=True,
    mode="zeros",
    layout="channels_first",
    weight_layout="pytorch",
    dtype="F64",
    integers=0,
    op="conv",
    gradients=True,
):
    """x is (n, channels, *spatial); padding None, 'same', 'full', an int or a list of ints or (lo, hi) pairs."""
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d = expand(k, rank), expand(stride, rank), expand(dilation, rank)
    draw = Draw(name, dtype, integers)
    xv, wv, bv = draw(*x), draw(out, x[1] // groups, *k), draw(out) if bias else None

    def forward(x, w, b):
        if padding == "same" and mode == "zeros":
            return CONV[rank](x, w, b, s, "same", d, groups)
        if padding == "same":  # what nn.Conv does for the other modes: left = total // 2
            total = [di * (ki - 1) for di, ki in zip(d, k)]
            explicit = [[t // 2, t - t // 2] for t in total]
        elif padding == "full":
            explicit = [[di * (ki - 1)] * 2 for di, ki in zip(d, k)]
        else:
            explicit = pairs(padding or 0, rank)
        if mode == "zeros" and all(lo == hi for lo, hi in explicit):
            return CONV[rank](x, w, b, s, [lo for lo, _ in explicit], d, groups)
        return CONV[rank](torch_pad(x, explicit, mode), w, b, s, 0, d, groups)

    y, dy, (dx, dw, db) = torch_vjp(forward, [xv, wv, bv], draw)
    meta = {
        "op": op,
        **common_meta(rank, s, d),
        "padding": padding if padding in ("same", "full", None) else pairs(padding, rank),
        "padding_mode": mode if mode != "zeros" else None,
        "groups": groups if groups != 1 and op == "conv" else None,
    }
    values = {"x": xv, "w": wv, "bias": bv, "y": y}
    if gradients:
        values.update(dy=dy, dx=dx, dw=dw, dbias=db)
    finish(name, TORCH, meta, layout, weight_layout, dtype, values)


def torch_conv_transpose(
    name,
    x,
    out,
    k,
    stride=1,
    dilation=1,
    padding=0,
    output_padding=0,
    groups=1,
    bias=True,
    layout="channels_first",
    weight_layout="pytorch",
    dtype="F64",
    integers=0,
):
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d = expand(k, rank), expand(stride, rank), expand(dilation, rank)
    p, op = expand(padding, rank), expand(output_padding, rank)
    draw = Draw(name, dtype, integers)
    xv, wv, bv = draw(*x), draw(x[1], out // groups, *k), draw(out) if bias else None
    y, dy, (dx, dw, db) = torch_vjp(
        lambda x, w, b: CONV_TRANSPOSE[rank](x, w, b, s, p, op, groups, d), [xv, wv, bv], draw
    )
    meta = {
        "op": "conv_transpose",
        **common_meta(rank, s, d),
        "padding": pairs(p, rank) if any(p) else None,
        "output_padding": op if any(op) else None,
        "groups": groups if groups != 1 else None,
    }
    values = {"x": xv, "w": wv, "bias": bv, "dy": dy, "y": y, "dx": dx, "dw": dw, "dbias": db}
    finish(name, TORCH, meta, layout, weight_layout, dtype, values)


def torch_pool(
    name,
    kind,
    x,
    k,
    stride=None,
    dilation=1,
    padding=0,
    ceil_mode=False,
    count_include_pad=False,
    layout="channels_first",
    dtype="F64",
    integers=0,
):
    if not wanted(name):
        return
    rank = len(x) - 2
    k, d, p = expand(k, rank), expand(dilation, rank), pairs(padding, rank)
    s = k if stride is None else expand(stride, rank)
    symmetric = all(lo == hi for lo, hi in p)
    begin = [lo for lo, _ in p]
    draw = Draw(name, dtype, integers)
    xv = draw.distinct(*x) if kind == "max_pool" else draw(*x)

    def forward(x):
        if kind == "max_pool" and symmetric:
            return MAX_POOL[rank](x, k, s, begin, d, ceil_mode)
        if kind == "max_pool":
            assert not ceil_mode
            return MAX_POOL[rank](torch_pad(x, p, value=float("-inf")), k, s, 0, d)
        if symmetric:
            return AVG_POOL[rank](x, k, s, begin, ceil_mode, count_include_pad)
        assert not ceil_mode and count_include_pad
        return AVG_POOL[rank](torch_pad(x, p), k, s)

    y, dy, (dx,) = torch_vjp(forward, [xv], draw)
    meta = {
        "op": kind,
        "kernel_size": k,
        **common_meta(rank, s, d),
        "padding": p if any(v for pair in p for v in pair) else None,
        "ceil_mode": True if ceil_mode else None,
        "count_include_pad": count_include_pad if kind == "avg_pool" else None,
    }
    finish(name, TORCH, meta, layout, "pytorch", dtype, {"x": xv, "dy": dy, "y": y, "dx": dx})


def torch_dense(name, n, inputs, out, bias=True, weight_layout="pytorch", dtype="F64", integers=0):
    if not wanted(name):
        return
    draw = Draw(name, dtype, integers)
    xv, wv, bv = draw(n, inputs), draw(out, inputs), draw(out) if bias else None
    y, dy, (dx, dw, db) = torch_vjp(F.linear, [xv, wv, bv], draw)
    if weight_layout == "keras":
        wv, dw = wv.T, dw.T
    meta = {"op": "dense", "weight_layout": weight_layout if weight_layout != "pytorch" else None}
    values = {"x": xv, "w": wv, "bias": bv, "dy": dy, "y": y, "dx": dx, "dw": dw, "dbias": db}
    write_case(name, TORCH, meta, values, dtype)


# ---------------------------------------------------------------------------------------------------------------
# JAX: four spatial axes
# ---------------------------------------------------------------------------------------------------------------

JAX_PAD = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def jax_case(name, forward, inputs, draw):
    """y, dy and the gradients by jax.vjp; the bias, when there is one, is the last input."""
    leaves = [jnp.asarray(v) for v in inputs if v is not None]
    y, vjp = jax.vjp(forward, *leaves)
    dy = draw(*y.shape)
    grads = iter(vjp(jnp.asarray(dy)))
    return np.asarray(y), dy, [None if v is None else np.asarray(next(grads)) for v in inputs]


def jax_conv(
    name,
    x,
    out,
    k,
    stride=1,
    dilation=1,
    padding=None,
    groups=1,
    bias=True,
    mode="zeros",
    rules=None,
    layout="channels_first",
    weight_layout="pytorch",
    dtype="F64",
    integers=0,
):
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d = expand(k, rank), expand(stride, rank), expand(dilation, rank)
    axes = "".join(str(i) for i in range(rank))
    last, keras_weights = layout == "channels_last", weight_layout == "keras"
    spec = (
        f"N{axes}C" if last else f"NC{axes}",
        f"{axes}IO" if keras_weights else f"OI{axes}",
        f"N{axes}C" if last else f"NC{axes}",
    )
    draw = Draw(name, dtype, integers)
    # Drawn in the file's own layout: JAX computes in it as it is.
    xv = draw(x[0], *x[2:], x[1]) if last else draw(*x)
    wv = draw(*k, x[1] // groups, out) if keras_weights else draw(out, x[1] // groups, *k)
    bv = draw(out) if bias else None

    def forward(x, w, b=None):
        pad = "SAME" if padding == "same" else pairs(padding or 0, rank)
        if mode != "zeros":
            spatial = [(0, 0), *pad, (0, 0)] if last else [(0, 0), (0, 0), *pad]
            x, pad = jnp.pad(x, spatial, mode=JAX_PAD[mode]), [(0, 0)] * rank
        y = jax.lax.conv_general_dilated(
            x,
            w,
            s,
            pad,
            rhs_dilation=d,
            dimension_numbers=spec,
            feature_group_count=groups,
            precision=jax.lax.Precision.HIGHEST,
        )
        return y if b is None else y + (b if last else b.reshape(-1, *[1] * rank))

    y, dy, (dx, dw, db) = jax_case(name, forward, [xv, wv, bv], draw)
    meta = {
        "op": "conv",
        "rules": rules,
        **common_meta(rank, s, d),
        "padding": padding if padding in ("same", None) else pairs(padding, rank),
        "padding_mode": mode if mode != "zeros" else None,
        "groups": groups if groups != 1 else None,
        "layout": layout if last else None,
        "weight_layout": weight_layout if keras_weights else None,
    }
    values = {"x": xv, "w": wv, "bias": bv, "dy": dy, "y": y, "dx": dx, "dw": dw, "dbias": db}
    write_case(name, JAX, meta, values, dtype)


def jax_conv_transpose(
    name,
    x,
    out,
    k,
    stride=1,
    dilation=1,
    padding=0,
    output_padding=0,
    groups=1,
    bias=True,
    layout="channels_first",
    weight_layout="pytorch",
    dtype="F64",
    integers=0,
):
    """PyTorch's rule, as a convolution of the input dilated by the stride with the flipped, swapped kernel."""
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d = expand(k, rank), expand(stride, rank), expand(dilation, rank)
    p, op = expand(padding, rank), expand(output_padding, rank)
    draw = Draw(name, dtype, integers)
    xv, wv, bv = draw(*x), draw(x[1], out // groups, *k), draw(out) if bias else None
    axes = "".join(str(i) for i in range(rank))
    spec = (f"NC{axes}", f"OI{axes}", f"NC{axes}")

    def forward(x, w, b=None):
        w = w.reshape(groups, x.shape[1] // groups, out // groups, *k)
        w = jnp.swapaxes(w, 1, 2).reshape(out, x.shape[1] // groups, *k)
        w = jnp.flip(w, tuple(range(2, rank + 2)))
        reach = [di * (ki - 1) for di, ki in zip(d, k)]
        pad = [(r - pi, r - pi + oi) for r, pi, oi in zip(reach, p, op)]
        y = jax.lax.conv_general_dilated(
            x,
            w,
            [1] * rank,
            pad,
            lhs_dilation=s,
            rhs_dilation=d,
            dimension_numbers=spec,
            feature_group_count=groups,
            precision=jax.lax.Precision.HIGHEST,
        )
        return y if b is None else y + b.reshape(-1, *[1] * rank)

    y, dy, (dx, dw, db) = jax_case(name, forward, [xv, wv, bv], draw)
    meta = {
        "op": "conv_transpose",
        **common_meta(rank, s, d),
        "padding": pairs(p, rank) if any(p) else None,
        "output_padding": op if any(op) else None,
        "groups": groups if groups != 1 else None,
    }
    values = {"x": xv, "w": wv, "bias": bv, "dy": dy, "y": y, "dx": dx, "dw": dw, "dbias": db}
    finish(name, JAX, meta, layout, weight_layout, dtype, values)


# ---------------------------------------------------------------------------------------------------------------
# Keras, on TensorFlow
# ---------------------------------------------------------------------------------------------------------------

KERAS_LAYERS = {
    "conv": {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D},
    "conv_transpose": {
        1: keras.layers.Conv1DTranspose,
        2: keras.layers.Conv2DTranspose,
        3: keras.layers.Conv3DTranspose,
    },
    "depthwise_conv": {1: keras.layers.DepthwiseConv1D, 2: keras.layers.DepthwiseConv2D},
    "max_pool": {1: keras.layers.MaxPooling1D, 2: keras.layers.MaxPooling2D, 3: keras.layers.MaxPooling3D},
    "avg_pool": {1: keras.layers.AveragePooling1D, 2: keras.layers.AveragePooling2D, 3: keras.layers.AveragePooling3D},
}


def keras_layer(
    name,
    op,
    x,
    k=None,
    out=None,
    stride=1,
    dilation=1,
    padding="valid",
    output_padding=None,
    groups=1,
    multiplier=1,
    bias=True,
    layout="channels_last",
    dtype="F64",
    integers=0,
    compute="float64",
):
    """x is (n, *spatial, channels), whatever the layout. `k` and `out` are the layer's arguments.

    The layer runs under XLA: without it TensorFlow's CPU kernels lack channels_first, groups and the dilated
    transposed convolution.
    """
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d = expand(k, rank), expand(stride, rank), expand(dilation, rank)
    first = layout == "channels_first"
    shape = (x[0], x[-1], *x[1:-1]) if first else tuple(x)
    draw = Draw(name, dtype, integers)
    pooling = op in ("max_pool", "avg_pool")
    arguments = {"padding": padding, "strides": tuple(s), "data_format": layout, "dtype": compute}
    if pooling:
        layer = KERAS_LAYERS[op][rank](tuple(k), **arguments)
    else:
        arguments.update(kernel_size=tuple(k), dilation_rate=tuple(d), use_bias=bias)
        if op == "depthwise_conv":
            arguments.update(depth_multiplier=multiplier)
        else:
            arguments.update(filters=out)
        if op == "conv_transpose":
            given = None if output_padding is None else tuple(expand(output_padding, rank))
            arguments.update(output_padding=given)
        if op == "conv" and groups != 1:
            arguments.update(groups=groups)
        layer = KERAS_LAYERS[op][rank](**arguments)
    layer.build(shape)
    xv = draw.distinct(*shape) if op == "max_pool" else draw(*shape)
    weights = [draw(*v.shape) for v in layer.weights]
    layer.set_weights(weights)
    dy = draw(*layer.compute_output_shape(shape))

    @tf.function(jit_compile=True)
    def run(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x] + [v.value for v in layer.weights], output_gradients=dy)

    y, grads = run(tf.constant(xv, compute), tf.constant(dy, compute))
    y, grads = y.numpy(), [g.numpy() for g in grads]
    assert y.shape == dy.shape, (name, y.shape, dy.shape)
    # Keras adds the bias along the last axis when that has as many elements as there are filters, even where the
    # channels come first (its TensorFlow backend guesses the data format).
    assert not (first and bias and not pooling and y.shape[-1] == y.shape[1]), f"{name}: Keras's bias is ambiguous"
    meta = {
        "op": op,
        "rules": "keras",
        "layout": "channels_last" if not first else None,
        "weight_layout": "keras" if not pooling else None,
        "kernel_size": k if pooling else None,
        **common_meta(rank, s, d),
        "padding": padding if padding != "valid" else None,
        "groups": groups if groups != 1 else None,
        "output_padding": None if output_padding is None else expand(output_padding, rank),
    }
    values = {"x": xv, "dy": dy, "y": y, "dx": grads[0]}
    if not pooling:
        values.update(w=weights[0], dw=grads[1])
        if bias:
            values.update(bias=weights[1], dbias=grads[2])
    write_case(name, KERAS, meta, values, dtype)


# ---------------------------------------------------------------------------------------------------------------
# ONNX
# ---------------------------------------------------------------------------------------------------------------

AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID", None: "NOTSET"}


def onnx_conv_pads(length, ke, s, padding):
    out = -(-length // s)
    total = max((out - 1) * s + ke - length, 0)
    begin = total // 2 if padding == "same" else total - total // 2
    return begin, total - begin


def onnx_transpose_pads(length, ke, s, op, padding, output_shape):
    """The equations of the ConvTranspose operator. The total may be negative: the division rounds down."""
    out = length * s if output_shape is None else output_shape
    total = s * (length - 1) + op + ke - out
    begin = total // 2 if padding == "same" else total - total // 2
    return begin, total - begin


def onnx_reference(operator, inputs, **attributes):
    names = ["X", "W", "B"][: len(inputs)]
    node = onnx.helper.make_node(operator, names, ["Y"], **attributes)
    types = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in names]
    result = [onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.DOUBLE, None)]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "case", types, result))
    return onnx.reference.ReferenceEvaluator(model).run(None, dict(zip(names, inputs)))[0]


def onnx_conv(name, x, out, k, padding, stride=1, dilation=1, groups=1, bias=True, dtype="F64", integers=0):
    """auto_pad SAME_UPPER or SAME_LOWER: y by ONNX's reference evaluator, the gradients by PyTorch."""
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d = expand(k, rank), expand(stride, rank), expand(dilation, rank)
    draw = Draw(name, dtype, integers)
    xv, wv, bv = draw(*x), draw(out, x[1] // groups, *k), draw(out) if bias else None
    inputs = [v for v in (xv, wv, bv) if v is not None]
    y = onnx_reference("Conv", inputs, auto_pad=AUTO_PAD[padding], strides=s, dilations=d, group=groups)
    pads = [onnx_conv_pads(l, di * (ki - 1) + 1, si, padding) for l, ki, si, di in zip(x[2:], k, s, d)]
    check, dy, (dx, dw, db) = torch_vjp(
        lambda x, w, b: CONV[rank](torch_pad(x, pads), w, b, s, 0, d, groups), [xv, wv, bv], draw
    )
    assert np.allclose(y, check, rtol=1e-13, atol=1e-13), name
    meta = {
        "op": "conv",
        "rules": "onnx",
        **common_meta(rank, s, d),
        "padding": padding,
        "groups": groups if groups != 1 else None,
    }
    values = {"x": xv, "w": wv, "bias": bv, "dy": dy, "y": y, "dx": dx, "dw": dw, "dbias": db}
    source = f"{ONNX} reference evaluator; gradients by {TORCH} with the resolved pads"
    write_case(name, source, meta, values, dtype)


def onnx_conv_transpose(
    name,
    x,
    out,
    k,
    padding=None,
    stride=1,
    dilation=1,
    output_padding=0,
    output_shape=None,
    groups=1,
    bias=True,
    dtype="F64",
    integers=0,
):
    """padding None (NOTSET), 'same', 'same_lower' or explicit pairs.

    y is by ONNX's reference evaluator where that follows the operator's equations: not for groups (it raises) and
    not for output_shape without SAME_* (it takes the pads as zero). There y is PyTorch's full transposed
    convolution, cropped or extended by the pads of the equations; the gradients always are.
    """
    if not wanted(name):
        return
    rank = len(x) - 2
    k, s, d, op = (expand(v, rank) for v in (k, stride, dilation, output_padding))
    draw = Draw(name, dtype, integers)
    xv, wv, bv = draw(*x), draw(x[1], out // groups, *k), draw(out) if bias else None
    explicit = isinstance(padding, (list, int))
    if explicit:
        assert output_shape is None
        pads = pairs(padding, rank)
    elif padding is None and output_shape is None:
        pads = [(0, 0)] * rank
    else:
        shape = output_shape or [None] * rank
        pads = [
            onnx_transpose_pads(l, di * (ki - 1) + 1, si, oi, padding, t)
            for l, ki, si, di, oi, t in zip(x[2:], k, s, d, op, shape)
        ]

    def forward(x, w, b):
        y = CONV_TRANSPOSE[rank](x, w, None, s, 0, 0, groups, d)
        y = torch_pad(y, [(-lo, oi - hi) for (lo, hi), oi in zip(pads, op)])
        return y if b is None else y + b.reshape(-1, *[1] * rank)

    y, dy, (dx, dw, db) = torch_vjp(forward, [xv, wv, bv], draw)
    source = f"the equations of {ONNX}, computed with {TORCH}"
    if groups == 1 and (padding is not None or output_shape is None):
        attributes = {"strides": s, "dilations": d}
        if any(op):
            attributes["output_padding"] = op
        if explicit:
            attributes["pads"] = [lo for lo, _ in pads] + [hi for _, hi in pads]
        elif padding:
            attributes["auto_pad"] = AUTO_PAD[padding]
        if output_shape:
            attributes["output_shape"] = output_shape
        reference = onnx_reference("ConvTranspose", [v for v in (xv, wv, bv) if v is not None], **attributes)
        assert reference.shape == y.shape and np.allclose(reference, y, rtol=1e-13, atol=1e-13), name
        y, source = reference, f"{ONNX} reference evaluator; gradients by {TORCH} with the resolved pads"
    meta = {
        "op": "conv_transpose",
        "rules": "onnx",
        **common_meta(rank, s, d),
        "padding": [list(p) for p in pads] if explicit else padding,
        "output_padding": op if any(op) else None,
        "output_shape": output_shape,
        "groups": groups if groups != 1 else None,
    }
    values = {"x": xv, "w": wv, "bias": bv, "dy": dy, "y": y, "dx": dx, "dw": dw, "dbias": db}
    write_case(name, source, meta, values, dtype)


# ---------------------------------------------------------------------------------------------------------------
# The cases
# ---------------------------------------------------------------------------------------------------------------

SIZES = {1: (13,), 2: (7, 5), 3: (5, 4, 3), 4: (4, 3, 5, 3)}  # ragged, mostly prime
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2), 4: (2, 3, 2, 2)}


def torch_cases():
    conv, transpose, dense = torch_conv, torch_conv_transpose, torch_dense
    for rank in (1, 2, 3):
        size, k = SIZES[rank], KERNELS[rank]
        n, c = (2, 3) if rank < 3 else (1, 2)
        x = (n, c, *size)
        p = f"torch_conv{rank}d_"
        conv(p + "valid", x, 4, k)
        if rank < 3:
            conv(p + "no_bias", (1, 3, *size), 2, k, bias=False)
            conv(p + "padding_over_kernel", (1, 1, *size), 2, 2, padding=[4, 3][:rank])
            conv(p + "same_odd", x, 2, 3, padding="same")
        conv(p + "pointwise", (n, c, *size), 5 - c // 2, 1)
        conv(p + "kernel_is_input", (2, 2, *size), 3, size)
        conv(p + "stride2_remainder", (2, 2, 2 * size[0] - 2, *size[1:]), 3, k, stride=2)
        conv(p + "stride_over_kernel", x, 2, 2, stride=[3, 3, 2][:rank])
        conv(p + "dilation", (1, 2, size[0], *(v + 2 for v in size[1:])), 3, 2, dilation=[3, 2, 4][:rank])
        conv(
            p + "stride_dilation_padding",
            x,
            2,
            k,
            stride=[2, 1, 3][:rank],
            dilation=[2, 3, 1][:rank],
            padding=[2, 3, 1][:rank],
        )
        conv(p + "asymmetric_padding", x, 2, k, padding=[(2, 0), (0, 1), (1, 3)][:rank])
        conv(p + "asymmetric_stride", x, 2, k, stride=2, padding=[(0, 3), (1, 0), (2, 1)][:rank])
        conv(p + "groups", (n, 4, *size), 6 if rank < 3 else 4, k, groups=2)
        conv(
            p + "groups_stride_dilation",
            (1, 6, *size),
            3,
            2,
            groups=3,
            stride=[2, 1, 2][:rank],
            dilation=[3, 2, 1][:rank],
            padding=1,
        )
        conv(p + "depthwise_multiplier2", (1, *x[1:]), 2 * c, k, groups=c, padding=1 if rank < 3 else 0)
        conv(p + "same_even", x, 2, [4, 2, 2][:rank], padding="same")
        conv(p + "same_even_dilated", (1, 2, *size), 2, [2, 4, 2][:rank], dilation=[3, 1, 3][:rank], padding="same")
        modes = {"reflect": [2, (1, 2), 2], "replicate": [(3, 1), 2, (0, 2)], "circular": [(2, 4), (3, 1), (0, 3)]}
        for mode, padding in modes.items():
            conv(
                p + mode,
                (n, 2 if rank < 3 else 1, *size),
                2,
                k,
                padding=padding[:rank],
                mode=mode,
                dtype="F64" if rank < 3 else "F32",
            )
        conv(p + "channels_last", (n, 3, *size), 4, k, stride=[1, 2, 2][:rank], padding=1, layout="channels_last")
        conv(p + "theano_weights", x, 2, k, padding=1, weight_layout="theano")

        p = f"torch_conv_transpose{rank}d_"
        small = {1: (6,), 2: (4, 3), 3: (3, 2, 3)}[rank]
        x = (n, c, *small)
        transpose(p + "unit", x, 2, k)
        transpose(p + "stride", x, 2, k, stride=[3, 2, 2][:rank])
        transpose(p + "stride_padding", x, 2, k, stride=2, padding=[1, 1, 1][:rank])
        transpose(p + "output_padding", x, 2, k, stride=[3, 2, 2][:rank], padding=1, output_padding=[2, 1, 0][:rank])
        transpose(
            p + "output_padding_over_stride",
            (1, 2, *small),
            2,
            2,
            stride=[2, 1, 2][:rank],
            dilation=[4, 3, 3][:rank],
            padding=[1, 0, 2][:rank],
            output_padding=[3, 2, 2][:rank],
            dtype="F64" if rank < 3 else "F32",
        )
        transpose(p + "dilation", x, 2, k, dilation=[2, 3, 1][:rank], padding=[0, 2, 1][:rank])
        transpose(
            p + "groups",
            (1, 4, *small),
            6 if rank < 3 else 4,
            k,
            stride=2 if rank < 3 else [1, 2, 1],
            groups=2,
            output_padding=1 if rank < 3 else [0, 1, 0],
        )
        transpose(
            p + "kernel_under_stride",
            x,
            2,
            [2, 1, 1][:rank],
            stride=[5] if rank == 1 else [3, 2, 2][:rank],
            output_padding=[4] if rank == 1 else [1, 1, 0][:rank],
        )
        transpose(p + "depthwise_no_bias", (1, 3, *small), 3, k, stride=2, padding=1, groups=3, bias=False)
        transpose(
            p + "channels_last",
            x,
            4 if rank < 3 else 3,
            k,
            stride=2 if rank < 3 else [2, 1, 2],
            padding=1,
            output_padding=1 if rank < 3 else [1, 0, 1],
            layout="channels_last",
        )

        x = (n, 2, *size)
        pool = functools.partial(torch_pool, dtype="F64" if rank < 3 else "F32")
        for kind in ("max_pool", "avg_pool"):
            p = f"torch_{kind}{rank}d_"
            pool(p + "plain", kind, x, 2)
            pool(p + "overlap_padding", kind, x, 3, stride=[2, 1, 2][:rank], padding=1)
            pool(p + "ceil_mode", kind, x, [3, 2, 2][:rank], stride=[2, 3, 2][:rank], ceil_mode=True)
            # Length 10, window 3, stride 4, padding 1: the last window would start in the padding on the right, and
            # is dropped.
            pool(
                p + "ceil_mode_padding",
                kind,
                (1, 2, *([10, 5, 4][:rank])),
                [3, 2, 2][:rank],
                stride=[4, 5, 3][:rank],
                padding=1,
                ceil_mode=True,
            )
        p = f"torch_max_pool{rank}d_"
        pool(
            p + "dilation",
            "max_pool",
            x,
            2,
            stride=[1, 2, 1][:rank],
            dilation=[3, 2, 2][:rank],
            padding=[1, 1, 0][:rank],
        )
        pool(p + "channels_last", "max_pool", (n, 3, *size), 2, stride=2, layout="channels_last")
        pool(
            p + "asymmetric_padding", "max_pool", x, [3, 2, 2][:rank], stride=2, padding=[(0, 2), (1, 0), (0, 1)][:rank]
        )
        p = f"torch_avg_pool{rank}d_"
        pool(p + "count_include_pad", "avg_pool", x, 3, stride=2, padding=1, count_include_pad=True)
        pool(
            p + "count_include_pad_ceil",
            "avg_pool",
            x,
            [4, 3, 3][:rank],
            stride=[3, 3, 2][:rank],
            padding=1,
            ceil_mode=True,
            count_include_pad=True,
        )
        pool(p + "channels_last", "avg_pool", (n, 3, *size), 2, stride=2, padding=1, layout="channels_last")

    # Singles.
    conv("torch_conv1d_long_f32", (2, 3, 101), 3, 17, stride=3, padding=8, dtype="F32")
    conv("torch_conv1d_batch_of_one_channel", (1, 1, 31), 1, 7)
    conv("torch_conv1d_causal_as_explicit", (2, 2, 11), 3, 3, dilation=2, padding=[(4, 0)])
    conv("torch_conv1d_full", (2, 2, 9), 2, 4, padding="full")
    conv("torch_conv2d_full_dilation", (1, 2, 4, 5), 2, [3, 2], dilation=[1, 2], padding="full")
    conv("torch_conv1d_one_element", (1, 1, 1), 1, 1)
    conv("torch_conv1d_same_reflect", (2, 2, 9), 2, 4, padding="same", mode="reflect")
    conv("torch_conv2d_same_circular", (1, 2, 5, 6), 2, [3, 4], padding="same", mode="circular")
    conv("torch_conv2d_circular_whole_period", (1, 1, 3, 4), 2, 2, padding=[(3, 2), (0, 4)], mode="circular")
    conv("torch_conv2d_forward_only", (1, 2, 6, 5), 3, 3, gradients=False)
    conv(
        "torch_conv2d_keras_weights",
        (2, 3, 6, 5),
        4,
        [3, 2],
        stride=[2, 1],
        padding=1,
        layout="channels_last",
        weight_layout="keras",
    )
    conv("torch_conv2d_17_channels_f32", (1, 17, 5, 3), 9, 3, padding=1, dtype="F32")
    conv(
        "torch_conv2d_4_to_2_channels_last_groups_f32",
        (2, 4, 7, 6),
        8,
        3,
        stride=2,
        padding=1,
        groups=4,
        layout="channels_last",
        dtype="F32",
    )
    conv("torch_conv3d_depth_only", (1, 2, 7, 3, 2), 3, [5, 1, 1], padding=[2, 0, 0], dtype="F32")
    conv("torch_conv1d_depthwise_op", (2, 3, 11), 6, 3, groups=3, padding=1, op="depthwise_conv")
    conv(
        "torch_conv2d_depthwise_op_stride",
        (1, 2, 7, 5),
        6,
        [3, 2],
        groups=2,
        stride=[2, 1],
        dilation=[1, 2],
        op="depthwise_conv",
        dtype="F32",
    )
    transpose("torch_conv_transpose1d_f32", (2, 3, 9), 4, 5, stride=3, padding=2, output_padding=1, dtype="F32")
    transpose(
        "torch_conv_transpose2d_keras_weights",
        (2, 2, 3, 4),
        3,
        [3, 2],
        stride=2,
        padding=[1, 0],
        layout="channels_last",
        weight_layout="keras",
    )
    transpose("torch_conv_transpose2d_padding_over_kernel", (1, 2, 6, 5), 2, [2, 3], stride=2, padding=[3, 4])
    # "Backwards correlation": 3x3 kernels scattered over a 5x5 scalar field, whole (7x7) and cropped to the field.
    transpose("torch_scatter_3x3_over_5x5_full", (1, 1, 5, 5), 3, 3, bias=False)
    transpose("torch_scatter_3x3_over_5x5_cropped", (1, 1, 5, 5), 3, 3, padding=1, bias=False)
    dense("torch_dense", 3, 7, 5)
    dense("torch_dense_no_bias", 1, 5, 11, bias=False)
    dense("torch_dense_keras_weights", 2, 6, 5, weight_layout="keras")
    dense("torch_dense_f32", 4, 33, 3, dtype="F32")


def jax_cases():
    conv, transpose = jax_conv, jax_conv_transpose
    size, k = SIZES[4], KERNELS[4]
    p = "jax_conv4d_"
    conv(p + "valid", (1, 2, *size), 2, k)
    conv(p + "no_bias", (1, 1, *size), 2, 2, bias=False)
    conv(p + "pointwise", (2, 3, 2, 1, 3, 2), 2, 1)
    conv(p + "kernel_is_input", (2, 2, 2, 3, 1, 2), 3, [2, 3, 1, 2])
    conv(p + "stride", (1, 2, *size), 2, 2, stride=[2, 1, 3, 2], padding=1)
    conv(p + "dilation", (1, 2, *size), 2, 2, dilation=[2, 1, 3, 2])
    conv(
        p + "stride_dilation_asymmetric",
        (1, 1, *size),
        2,
        [2, 1, 2, 3],
        stride=[1, 2, 2, 1],
        dilation=[3, 1, 2, 1],
        padding=[(1, 0), (0, 1), (2, 0), (1, 2)],
    )
    conv(p + "groups", (1, 4, 3, 2, 3, 2), 6, 2, groups=2, padding=[0, 1, 0, 0])
    conv(p + "depthwise", (1, 3, 3, 2, 3, 3), 6, 2, groups=3)
    conv(p + "circular", (1, 1, 3, 3, 4, 2), 1, 2, padding=[1, (2, 0), (0, 1), 1], mode="circular")
    conv(p + "replicate", (1, 1, 3, 2, 3, 2), 1, 3, padding=1, mode="replicate")
    conv(p + "reflect", (1, 1, 3, 2, 4, 2), 1, [3, 2, 3, 2], padding=[1, (1, 0), 2, (0, 1)], mode="reflect")
    conv(
        p + "channels_last_keras_same",
        (1, 2, 3, 4, 3, 2),
        2,
        [3, 2, 2, 1],
        padding="same",
        rules="keras",
        layout="channels_last",
        weight_layout="keras",
    )
    conv(
        p + "channels_last_keras_same_stride",
        (1, 2, 4, 3, 5, 2),
        3,
        [2, 3, 2, 2],
        stride=2,
        padding="same",
        rules="keras",
        layout="channels_last",
        weight_layout="keras",
    )
    conv(
        p + "channels_last_valid",
        (2, 2, 3, 2, 3, 2),
        2,
        2,
        layout="channels_last",
        weight_layout="keras",
        rules="keras",
    )
    conv(p + "f32", (2, 2, *size), 2, k, padding=[1, 0, 1, 1], dtype="F32")
    p = "jax_conv_transpose4d_"
    small = (2, 3, 2, 2)
    transpose(p + "unit", (1, 2, *small), 2, k)
    transpose(p + "stride_padding", (1, 2, *small), 2, k, stride=[2, 1, 2, 3], padding=[1, 1, 0, 1])
    transpose(p + "output_padding", (1, 2, *small), 1, k, stride=2, padding=1, output_padding=[1, 0, 1, 1])
    transpose(p + "dilation", (1, 1, *small), 2, 2, dilation=[2, 1, 3, 1], padding=[1, 0, 1, 0])
    transpose(
        p + "dilation_over_stride",
        (1, 1, *small),
        1,
        2,
        stride=[1, 2, 1, 1],
        dilation=[2, 3, 1, 2],
        padding=[0, 1, 0, 1],
        output_padding=[1, 2, 0, 1],
    )
    transpose(p + "groups", (1, 4, 2, 1, 2, 2), 4, 2, stride=[1, 2, 1, 1], groups=2)
    transpose(
        p + "depthwise_no_bias",
        (1, 3, 2, 1, 2, 2),
        3,
        [2, 3, 2, 1],
        stride=[1, 1, 2, 2],
        padding=[0, 1, 0, 0],
        groups=3,
        bias=False,
    )
    transpose(
        p + "kernel_under_stride",
        (1, 2, *small),
        2,
        [1, 2, 1, 1],
        stride=[2, 3, 1, 2],
        output_padding=[1, 2, 0, 1],
        dtype="F32",
    )
    transpose(
        p + "channels_last_keras_weights",
        (1, 2, *small),
        3,
        [2, 1, 2, 2],
        stride=[2, 1, 1, 2],
        padding=[1, 0, 0, 0],
        layout="channels_last",
        weight_layout="keras",
    )


def keras_cases():
    layer = keras_layer
    sizes = {1: (11,), 2: (7, 6), 3: (5, 4, 3)}
    for rank in (1, 2, 3):
        n = 2 if rank < 3 else 1
        x = (n, *sizes[rank], 3)
        p = f"keras_conv{rank}d_"
        layer(p + "valid_stride", "conv", x, KERNELS[rank], 4, stride=2)
        layer(p + "same", "conv", x, [4, 3, 2][:rank], 3 if rank < 3 else 2, padding="same")
        layer(p + "same_stride", "conv", x, [5, 2, 3][:rank], 2, stride=[3, 2, 2][:rank], padding="same")
        layer(p + "same_dilation", "conv", x, [2, 3, 2][:rank], 2, dilation=[3, 2, 1][:rank], padding="same")
        layer(p + "groups", "conv", (1, *sizes[rank], 4), 2, 6 if rank < 3 else 2, groups=2, padding="same", bias=False)
        layer(
            p + "channels_first_same_stride",
            "conv",
            x,
            [2, 3, 2][:rank],
            4,
            stride=[2, 3, 2][:rank],
            padding="same",
            layout="channels_first",
        )
        p = f"keras_conv_transpose{rank}d_"
        small = {1: (5,), 2: (3, 4), 3: (2, 3, 2)}[rank]
        x = (n, *small, 3)
        k = [3, 2, 3][:rank]
        layer(p + "valid", "conv_transpose", x, k, 2, stride=2)
        layer(p + "valid_kernel_under_stride", "conv_transpose", x, [2, 1, 2][:rank], 2, stride=[3, 3, 2][:rank])
        layer(
            p + "valid_output_padding",
            "conv_transpose",
            x,
            k,
            2,
            stride=[3, 2, 2][:rank],
            output_padding=[2, 0, 1][:rank],
            dtype="F64" if rank < 3 else "F32",
        )
        layer(p + "same", "conv_transpose", x, k, 2, stride=[2, 3, 2][:rank], padding="same")
        layer(
            p + "same_wide_kernel",
            "conv_transpose",
            x,
            [5, 4, 3][:rank],
            2,
            stride=2,
            padding="same",
            dtype="F64" if rank < 3 else "F32",
        )
        layer(
            p + "same_kernel_under_stride",
            "conv_transpose",
            x,
            [1, 2, 1][:rank],
            2,
            stride=[3, 3, 2][:rank],
            padding="same",
        )
        layer(
            p + "same_output_padding",
            "conv_transpose",
            x,
            [5, 4, 3][:rank],
            2,
            stride=[3, 2, 2][:rank],
            padding="same",
            output_padding=[1, 1, 0][:rank],
            dtype="F64" if rank < 3 else "F32",
        )
        layer(p + "same_dilation", "conv_transpose", x, k, 2, dilation=[2, 3, 2][:rank], padding="same")
        layer(
            p + "channels_first_same",
            "conv_transpose",
            x,
            [4, 3, 2][:rank],
            2,
            stride=[3, 2, 2][:rank],
            padding="same",
            layout="channels_first",
        )
        for op in ("max_pool", "avg_pool"):
            # TensorFlow pools three axes in float32 at most.
            layer(
                f"keras_{op}{rank}d_same",
                op,
                (n, *sizes[rank], 2),
                [3, 2, 2][:rank],
                stride=2,
                padding="same",
                dtype="F64" if rank < 3 else "F32",
                compute="float64" if rank < 3 else "float32",
            )
    layer("keras_conv1d_causal", "conv", (2, 9, 3), 4, 2, padding="causal")
    layer("keras_conv1d_causal_dilation", "conv", (2, 9, 2), 3, 3, dilation=3, padding="causal")
    layer("keras_conv1d_causal_stride", "conv", (2, 10, 2), 3, 3, stride=2, padding="causal")
    layer("keras_conv1d_causal_kernel_over_input", "conv", (1, 3, 2), 5, 2, padding="causal")
    layer("keras_conv1d_same_kernel_over_input", "conv", (1, 3, 2), 6, 2, padding="same")
    layer("keras_conv2d_same_f32", "conv", (1, 6, 7, 5), 3, 4, stride=2, padding="same", dtype="F32")
    layer(
        "keras_conv_transpose1d_same_output_padding_zero",
        "conv_transpose",
        (2, 4, 2),
        3,
        2,
        stride=2,
        padding="same",
        output_padding=0,
    )
    layer(
        "keras_conv_transpose1d_same_output_padding_even",
        "conv_transpose",
        (2, 4, 2),
        4,
        2,
        stride=3,
        padding="same",
        output_padding=1,
    )
    layer(
        "keras_conv_transpose1d_same_output_padding_pointwise",
        "conv_transpose",
        (2, 4, 2),
        1,
        2,
        stride=4,
        padding="same",
        output_padding=2,
    )
    layer("keras_conv_transpose1d_valid_dilation", "conv_transpose", (2, 4, 2), 3, 2, dilation=3)
    layer(
        "keras_conv_transpose2d_same_f32", "conv_transpose", (1, 4, 3, 5), 3, 3, stride=2, padding="same", dtype="F32"
    )
    p = "keras_depthwise_conv1d_"
    layer(p + "valid_stride", "depthwise_conv", (2, 11, 3), 3, stride=2, multiplier=2)
    layer(p + "same_multiplier3", "depthwise_conv", (2, 7, 2), 4, padding="same", multiplier=3)
    layer(p + "same_dilation", "depthwise_conv", (1, 9, 3), 3, dilation=2, padding="same", bias=False)
    p = "keras_depthwise_conv2d_"
    layer(p + "valid", "depthwise_conv", (2, 6, 5, 3), [3, 2], multiplier=2)
    layer(p + "same_stride", "depthwise_conv", (2, 7, 6, 2), [3, 4], stride=2, padding="same", multiplier=2)
    layer(p + "same_dilation", "depthwise_conv", (1, 6, 5, 2), [2, 3], dilation=[3, 2], padding="same", multiplier=3)
    layer(
        p + "channels_first",
        "depthwise_conv",
        (2, 5, 6, 3),
        3,
        stride=2,
        padding="same",
        multiplier=2,
        layout="channels_first",
    )
    layer("keras_avg_pool2d_valid", "avg_pool", (2, 7, 5, 3), [3, 2], stride=[2, 1])
    layer(
        "keras_max_pool1d_channels_first", "max_pool", (2, 9, 3), 4, stride=3, padding="same", layout="channels_first"
    )


def onnx_cases():
    conv, transpose = onnx_conv, onnx_conv_transpose
    for padding, tag in (("same", "same_upper"), ("same_lower", "same_lower")):
        p = f"onnx_conv_{tag}_"
        conv(p + "1d_even", (2, 2, 9), 3, 4, padding)
        conv(p + "1d_stride_dilation", (1, 3, 10), 2, 2, padding, stride=3, dilation=4)
        conv(p + "2d_stride", (2, 3, 7, 6), 2, [2, 3], padding, stride=[3, 2])
        conv(p + "2d_groups", (1, 4, 5, 6), 6, [2, 4], padding, dilation=[3, 1], groups=2)
        conv(p + "3d", (1, 2, 4, 5, 3), 2, [2, 3, 2], padding, stride=[1, 2, 2], bias=False)
        p = f"onnx_conv_transpose_{tag}_"
        transpose(p + "1d", (2, 2, 5), 2, 4, padding, stride=3)
        transpose(p + "2d", (2, 3, 3, 4), 2, [3, 4], padding, stride=2)
        transpose(p + "1d_output_shape", (1, 2, 4), 2, 3, padding, stride=3, output_shape=[9])
        # Without output_shape, SAME_* and output_padding together are ambiguous: shape inference adds the padding
        # to L * s, the reference evaluator does not.
        transpose(
            p + "1d_output_shape_and_padding", (1, 2, 4), 2, 4, padding, stride=3, output_padding=1, output_shape=[11]
        )
        transpose(p + "2d_output_shape_beyond", (1, 2, 3, 2), 2, [3, 2], padding, stride=[3, 2], output_shape=[10, 7])
        transpose(p + "2d_groups", (1, 4, 3, 2), 6, [3, 2], padding, stride=[2, 1], groups=2)
    p = "onnx_conv_transpose_"
    # Totals of -1 and -1: the first output is computed, the last holds the bias alone.
    transpose(p + "output_shape_total_minus_one", (1, 1, 3, 3), 2, 3, stride=[3, 2], output_shape=[10, 8])
    transpose(p + "output_shape_odd_total", (1, 2, 5), 2, 4, stride=2, output_shape=[9])
    transpose(p + "output_shape_even_total", (2, 2, 3, 4), 2, 3, stride=[2, 3], output_shape=[5, 10])
    transpose(p + "output_shape_total_minus_three", (1, 2, 3), 2, 3, stride=2, output_shape=[10])
    transpose(p + "output_shape_groups", (1, 4, 3, 2), 4, [3, 2], stride=2, groups=2, output_shape=[6, 5])
    transpose(p + "output_shape_3d", (1, 1, 2, 3, 2), 2, [2, 3, 2], stride=[2, 2, 1], output_shape=[3, 8, 2])
    transpose(p + "explicit_asymmetric", (2, 2, 4, 3), 2, [3, 4], [(1, 0), (0, 2)], stride=2)
    transpose(p + "explicit_asymmetric_output_padding", (1, 2, 5), 2, 3, [(2, 1)], stride=3, output_padding=2)
    transpose(p + "explicit_dilation", (1, 2, 4), 2, 3, [(0, 2)], stride=2, dilation=3)


def integer_cases():
    """Whole numbers: every result is exact, in the stored type and in float32, whatever the order of summation."""
    for rank in (1, 2, 3):
        size, k = SIZES[rank], KERNELS[rank]
        for dtype, n in (("F32", 5), ("F16", 3), ("BF16", 1)):
            t = f"_{dtype.lower()}"
            x = (2, 2, *size) if dtype != "BF16" else (1, 2, *(min(v, 5) for v in size))
            torch_conv(f"integer_conv{rank}d{t}", x, 3, k, stride=[2, 1, 1][:rank], padding=1, dtype=dtype, integers=n)
            torch_conv_transpose(
                f"integer_conv_transpose{rank}d{t}",
                (1, 2, *(min(v, 4) for v in size)),
                2,
                k,
                stride=2,
                padding=1,
                output_padding=1,
                dtype=dtype,
                integers=n,
            )
            torch_pool(f"integer_max_pool{rank}d{t}", "max_pool", x, 2, dtype=dtype, integers=n)
            torch_pool(
                f"integer_avg_pool{rank}d{t}",
                "avg_pool",
                x,
                2,
                padding=1,
                count_include_pad=True,
                dtype=dtype,
                integers=n,
            )
    for dtype, n in (("F32", 5), ("F16", 3), ("BF16", 1)):
        t = f"_{dtype.lower()}"
        torch_dense(f"integer_dense{t}", 3, 7, 5, dtype=dtype, integers=n)
        jax_conv(f"integer_conv4d{t}", (1, 2, 3, 3, 2, 4), 2, 2, padding=[1, 0, 1, 0], dtype=dtype, integers=n)
        jax_conv_transpose(
            f"integer_conv_transpose4d{t}",
            (1, 2, 2, 3, 2, 2),
            2,
            2,
            stride=[2, 1, 1, 2],
            padding=[1, 0, 0, 1],
            dtype=dtype,
            integers=n,
        )
    torch_conv(
        "integer_conv2d_groups_f64", (1, 4, 6, 5), 6, 3, groups=2, padding=2, dilation=2, dtype="F64", integers=9
    )
    torch_conv(
        "integer_conv2d_channels_last_f16",
        (1, 4, 5, 4),
        4,
        3,
        padding=1,
        layout="channels_last",
        dtype="F16",
        integers=3,
    )
    torch_conv("integer_conv2d_circular_f32", (1, 2, 5, 4), 2, 3, padding=2, mode="circular", dtype="F32", integers=5)
    torch_conv("integer_conv1d_depthwise_f32", (2, 3, 11), 6, 3, groups=3, dtype="F32", integers=7)
    keras_layer(
        "integer_keras_conv2d_same_f32",
        "conv",
        (2, 5, 4, 3),
        [2, 3],
        4,
        stride=2,
        padding="same",
        dtype="F32",
        integers=4,
    )
    keras_layer(
        "integer_keras_conv_transpose2d_same_f16",
        "conv_transpose",
        (1, 3, 4, 2),
        3,
        2,
        stride=2,
        padding="same",
        dtype="F16",
        integers=2,
    )
    onnx_conv_transpose(
        "integer_onnx_conv_transpose_output_shape_f32",
        (1, 2, 3),
        2,
        3,
        stride=3,
        output_shape=[10],
        dtype="F32",
        integers=4,
    )


# ---------------------------------------------------------------------------------------------------------------
# Shape arithmetic
# ---------------------------------------------------------------------------------------------------------------

COLUMNS = [
    "rules",
    "op",
    "input",
    "kernel",
    "stride",
    "dilation",
    "padding",
    "output_padding",
    "output_shape",
    "ceil_mode",
    "expected",
    "pad_begin",
    "pad_end",
    "reason",
]


def row(
    rules,
    op,
    length,
    k,
    s,
    d,
    padding,
    expected,
    output_padding=None,
    output_shape=None,
    ceil_mode=0,
    pads=("", ""),
    reason="",
):
    return {
        "rules": rules,
        "op": op,
        "input": length,
        "kernel": k,
        "stride": s,
        "dilation": d,
        "padding": padding if isinstance(padding, str) else f"{padding[0]}:{padding[1]}",
        "output_padding": "" if output_padding is None else output_padding,
        "output_shape": "" if output_shape is None else output_shape,
        "ceil_mode": ceil_mode,
        "expected": expected,
        "pad_begin": pads[0],
        "pad_end": pads[1],
        "reason": reason,
    }


def why(error):
    """A short name for a framework's complaint."""
    text = str(error).lower()
    for needle, reason in (
        ("non-positive stride", "zero_stride"),
        ("stride must be greater than zero", "zero_stride"),
        ("stride should not be zero", "zero_stride"),
        ("`strides` cannot contain", "zero_stride"),
        ("argument `strides`", "zero_stride"),
        ("'strides' argument", "zero_stride"),
        ("`strides` argument", "zero_stride"),
        ("dilation should be greater than zero", "zero_dilation"),
        ("dilation must be greater than zero", "zero_dilation"),
        ("`dilation_rate` argument", "zero_dilation"),
        ("argument `dilation_rate`", "zero_dilation"),
        ("same' is not supported for strided", "same_with_stride"),
        ("in conjunction with", "stride_with_dilation"),
        ("output padding must be smaller", "output_padding_too_large"),
        ("output_padding` must be strictly", "output_padding_too_large"),
        ("half of effective kernel", "pool_padding_over_half"),
        ("half of kernel", "pool_padding_over_half"),
        ("kernel size can't be greater", "kernel_over_input"),
        ("zero or negative", "kernel_over_input"),
        ("output size is too small", "empty_output"),
        ("empty output", "empty_output"),
        ("calculated output size", "empty_output"),
        ("computed output size", "empty_output"),
        ("invalid computed output size", "empty_output"),
    ):
        if needle in text:
            return reason
    return "unnamed: " + " ".join(text.split())[:70]


def sample(rng, combinations, count):
    """`count` of the combinations, in their own order."""
    combinations = list(combinations)
    chosen = sorted(rng.choice(len(combinations), size=min(count, len(combinations)), replace=False))
    return [combinations[i] for i in chosen]


def torch_shape_rows(rng):
    def ask(function):
        try:
            return int(function().shape[-1]), ""
        except (RuntimeError, ValueError) as error:
            return "error", why(error)

    rows = []
    x = lambda length: torch.zeros(1, 1, length)
    # Convolution.
    grid = itertools.product(
        (1, 2, 5, 7, 8, 11), (1, 2, 3, 4, 5), (1, 2, 3, 5), (1, 2, 3), ((0, 0), (1, 1), (2, 1), (0, 3))
    )
    extra = [
        (5, 3, 0, 1, (0, 0)),
        (5, 3, 1, 0, (0, 0)),
        (4, 5, 1, 1, (0, 0)),
        (4, 3, 1, 2, (0, 0)),
        (5, 3, 1, 2, (0, 0)),
        (4, 2, 9, 1, (0, 0)),
        (3, 3, 1, 1, (0, 0)),
        (2, 3, 2, 1, (0, 0)),
        (2, 3, 2, 1, (0, 1)),
    ]
    for length, k, s, d, p in sample(rng, grid, 110) + extra:

        def run():
            if p[0] == p[1]:
                return F.conv1d(x(length), torch.zeros(1, 1, k), None, s, p[0], d)
            return F.conv1d(F.pad(x(length), p), torch.zeros(1, 1, k), None, s, 0, d)

        expected, reason = ask(run)
        rows.append(row("pytorch", "conv", length, k, s, d, p, expected, reason=reason))
    grid = itertools.product((1, 3, 6, 7), (1, 2, 3, 4, 5), (1,), (1, 2, 3))
    for length, k, s, d in sample(rng, grid, 20) + [(7, 3, 2, 1), (6, 2, 3, 1), (7, 1, 2, 2)]:
        expected, reason = ask(lambda: F.conv1d(x(length), torch.zeros(1, 1, k), None, s, "same", d))
        rows.append(row("pytorch", "conv", length, k, s, d, "same", expected, reason=reason))
    # Transposed convolution.
    grid = itertools.product((1, 2, 4, 5, 7), (1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3), (0, 1, 2), (0, 1, 2, 3))
    usable = [g for g in grid if g[5] < max(g[2], g[3])]
    extra = [
        (4, 3, 2, 1, 0, 2),
        (4, 3, 2, 3, 0, 2),
        (4, 3, 2, 3, 0, 3),
        (4, 3, 1, 1, 1, 1),
        (5, 2, 3, 2, 1, 3),
        (1, 1, 1, 1, 1, 0),
        (1, 2, 1, 1, 1, 0),
        (2, 1, 1, 1, 1, 0),
        (4, 3, 0, 1, 0, 0),
        (4, 3, 1, 0, 0, 0),
        (1, 3, 2, 1, 1, 1),
        (6, 4, 2, 1, 1, 0),
        (14, 3, 2, 1, 1, 1),
        (14, 3, 2, 1, 0, 0),
    ]
    for length, k, s, d, p, op in sample(rng, usable, 120) + extra:
        expected, reason = ask(lambda: F.conv_transpose1d(x(length), torch.zeros(1, 1, k), None, s, p, op, 1, d))
        rows.append(row("pytorch", "conv_transpose", length, k, s, d, (p, p), expected, op, reason=reason))
    # Pooling.
    for kind in ("max_pool", "avg_pool"):
        grid = itertools.product(
            (1, 2, 5, 7, 9, 10),
            (1, 2, 3, 4, 5),
            (1, 2, 3, 4, 5),
            (1, 2, 3) if kind == "max_pool" else (1,),
            (0, 1, 2),
            (0, 1),
        )
        usable = [g for g in grid if 2 * g[4] <= g[1]]
        extra = [
            (5, 3, 0, 1, 0, 0),
            (3, 4, 1, 1, 0, 0),
            (3, 4, 2, 1, 0, 1),
            (3, 4, 1, 1, 2, 0),
            (5, 3, 2, 1, 2, 0),
            (5, 3, 4, 1, 1, 1),
            (5, 3, 4, 1, 1, 0),
            (9, 2, 5, 1, 1, 1),
            (4, 2, 3, 1, 1, 1),
            (6, 2, 2, 1, 0, 1),
        ]
        extra += [(5, 3, 1, 0, 0, 0), (5, 2, 1, 3, 1, 1), (4, 3, 2, 2, 0, 0)] if kind == "max_pool" else []
        for length, k, s, d, p, ceil in sample(rng, usable, 65) + extra:
            if kind == "max_pool":
                expected, reason = ask(lambda: F.max_pool1d(x(length), k, s, p, d, bool(ceil)))
            else:
                expected, reason = ask(lambda: F.avg_pool1d(x(length), k, s, p, bool(ceil)))
            rows.append(row("pytorch", kind, length, k, s, d, (p, p), expected, ceil_mode=ceil, reason=reason))
    return rows


def keras_shape_rows(rng):
    """compute_output_shape, confirmed by a call under XLA. A setting that one accepts and the other refuses depends
    on the backend, and is left out."""
    rows, skipped = [], []

    def ask(op, length, k, s, d, padding, op_pad=None):
        arguments = {"kernel_size": k, "strides": s, "padding": padding, "dilation_rate": d, "dtype": "float32"}
        if op == "conv_transpose":
            arguments["output_padding"] = op_pad
        shape = (1, length, 1)
        try:
            if op in ("max_pool", "avg_pool"):
                layer = KERAS_LAYERS[op][1](k, strides=s, padding=padding)
            else:
                layer = KERAS_LAYERS[op][1](filters=1, **arguments)
            planned = int(layer.compute_output_shape(shape)[1])
            layer.build(shape)
        except ValueError as error:
            return "error", why(error)
        try:
            called = int(tf.function(layer, jit_compile=True)(tf.zeros(shape)).shape[1])
        except Exception as error:  # TensorFlow raises its own types
            called = type(error).__name__
        if called != planned:
            skipped.append((op, length, k, s, d, padding, op_pad, planned, called))
            return None, ""
        return planned, ""

    grid = itertools.product((1, 3, 6, 7, 10), (1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3), ("valid", "same", "causal"))
    usable = [g for g in grid if g[2] == 1 or g[3] == 1]
    extra = [
        (7, 3, 2, 2, "same"),
        (9, 2, 3, 2, "valid"),
        (7, 3, 2, 3, "causal"),
        (3, 5, 1, 1, "valid"),
        (4, 3, 1, 2, "valid"),
        (7, 3, 0, 1, "valid"),
        (7, 3, 1, 0, "valid"),
        (28, 3, 2, 1, "same"),
        (28, 3, 2, 1, "valid"),
    ]
    for length, k, s, d, padding in sample(rng, usable, 75) + extra:
        expected, reason = ask("conv", length, k, s, d, padding)
        if expected is not None:
            rows.append(row("keras", "conv", length, k, s, d, padding, expected, reason=reason))
    grid = itertools.product(
        (1, 2, 4, 5), (1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3), ("valid", "same"), (None, 0, 1, 2, 3)
    )
    usable = [g for g in grid if (g[2] == 1 or g[3] == 1) and (g[5] is None or g[5] < g[2])]
    extra = [
        (4, 3, 2, 1, "same", 2),
        (4, 3, 2, 1, "valid", 2),
        (4, 3, 1, 1, "same", 1),
        (4, 3, 2, 2, "same", None),
        (4, 3, 0, 1, "valid", None),
        (4, 3, 1, 0, "valid", None),
        (14, 3, 2, 1, "same", None),
        (14, 3, 2, 1, "valid", None),
    ]
    for length, k, s, d, padding, op_pad in sample(rng, usable, 110) + extra:
        expected, reason = ask("conv_transpose", length, k, s, d, padding, op_pad)
        if expected is not None:
            rows.append(row("keras", "conv_transpose", length, k, s, d, padding, expected, op_pad, reason=reason))
    for kind in ("max_pool", "avg_pool"):
        grid = itertools.product((1, 4, 7, 9), (1, 2, 3, 5), (1, 2, 3), (1,), ("valid", "same"))
        for length, k, s, d, padding in sample(rng, grid, 18) + [(3, 4, 1, 1, "valid")]:
            expected, reason = ask(kind, length, k, s, d, padding)
            if expected is not None:
                rows.append(row("keras", kind, length, k, s, d, padding, expected, reason=reason))
    return rows, skipped


def onnx_shape_rows(rng):
    """onnx.shape_inference, with the reference evaluator's own result wherever it follows the equations."""
    rows, skipped = [], []

    def infer(operator, length, k, **attributes):
        node = onnx.helper.make_node(operator, ["X", "W"], ["Y"], **attributes)
        info = lambda n, shape: onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, shape)
        graph = onnx.helper.make_graph(
            [node], "row", [info("X", (1, 1, length)), info("W", (1, 1, k))], [info("Y", None)]
        )
        inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph), strict_mode=True)
        dims = inferred.graph.output[0].type.tensor_type.shape.dim
        return dims[2].dim_value if len(dims) == 3 else None  # it is silent for an output_shape below the input's

    rng_data = np.random.default_rng(5)
    # Convolution.
    grid = itertools.product(
        (3, 6, 7, 10), (1, 2, 3, 4, 5), (1, 2, 3), (1, 2, 3), ("same", "same_lower", (0, 0), (1, 2), (2, 0))
    )
    for length, k, s, d, padding in sample(rng, grid, 60):
        attributes = {"strides": [s], "dilations": [d], "kernel_shape": [k]}
        if isinstance(padding, str):
            attributes["auto_pad"] = AUTO_PAD[padding]
        else:
            attributes["pads"] = list(padding)
            if length + sum(padding) < d * (k - 1) + 1:
                continue  # shape inference leaves the empty result to the runtime
        x, w = rng_data.standard_normal((1, 1, length)), rng_data.standard_normal((1, 1, k))
        y = onnx_reference("Conv", [x, w], **attributes)
        expected = infer("Conv", length, k, **attributes)
        if y.shape[2] != expected:
            skipped.append(("conv", length, k, s, d, padding, None, None, expected, y.shape[2]))
            continue
        rows.append(row("onnx", "conv", length, k, s, d, padding, expected))
    # Transposed convolution.
    grid = itertools.product(
        (1, 2, 4, 5),
        (1, 2, 3, 4, 5),
        (1, 2, 3),
        (1, 2, 3),
        ("same", "same_lower", "valid", (0, 0), (1, 2), (1, 0)),
        (0, 1, 2),
        (None, -2, -1, 0, 1, 2, 3),
    )
    usable = []
    for length, k, s, d, padding, op, beyond in grid:
        ke = d * (k - 1) + 1
        full = s * (length - 1) + ke + op
        if op >= max(s, d) or (beyond is not None and isinstance(padding, tuple)):
            continue
        shape = None if beyond is None else full + beyond
        if shape is not None and shape < 1:
            continue
        if isinstance(padding, tuple) and full - sum(padding) < 1:
            continue
        if padding in ("same", "same_lower") and shape is None and ke < s:
            continue  # shape inference and the operator's text disagree
        usable.append((length, k, s, d, padding, op, shape))
    usable = [g for g in usable if g[6] is None or rng.random() < 0.35]
    extra = [(3, 3, 3, 1, "valid", 0, 10), (3, 3, 2, 1, "valid", 0, 8)]  # the operator's own test, one axis at a time
    for length, k, s, d, padding, op, shape in sample(rng, usable, 120) + extra:
        ke = d * (k - 1) + 1
        attributes = {"strides": [s], "dilations": [d], "kernel_shape": [k], "output_padding": [op]}
        if shape is not None:
            attributes["output_shape"] = [shape]
        if isinstance(padding, tuple):
            attributes["pads"], pads = list(padding), padding
        elif padding == "valid" and shape is None:
            pads = (0, 0)
        else:
            pads = onnx_transpose_pads(length, ke, s, op, padding, shape)
        if padding in ("same", "same_lower"):
            attributes["auto_pad"] = AUTO_PAD[padding]
        expected = s * (length - 1) + op + ke - sum(pads)
        inferred = infer("ConvTranspose", length, k, **attributes)
        note = None
        if inferred != expected:
            note = ("inferred", inferred)
        elif not (padding == "valid" and shape is not None):
            # The pads themselves: the reference's values must be the full result cropped by them.
            x, w = rng_data.standard_normal((1, 1, length)), rng_data.standard_normal((1, 1, k))
            full = F.conv_transpose1d(torch.tensor(x), torch.tensor(w), None, s, 0, 0, 1, d)
            cropped = F.pad(full, (-pads[0], op - pads[1])).numpy()
            try:
                y = onnx_reference("ConvTranspose", [x, w], **attributes)
            except ValueError:  # it refuses an output_padding of a stride or more, which the operator's text allows
                assert op >= s, (length, k, s, d, padding, op, shape)
                y = cropped
            if y.shape != cropped.shape or not np.allclose(y, cropped, rtol=1e-12, atol=1e-12):
                note = ("reference", y.shape)
        if note:
            skipped.append(("conv_transpose", length, k, s, d, padding, op, shape, expected, note))
            continue
        rows.append(row("onnx", "conv_transpose", length, k, s, d, padding, expected, op, shape, pads=pads))
    return rows, skipped


def write_shapes():
    rng = np.random.default_rng(20240229)
    keras_rows, keras_skipped = keras_shape_rows(rng)
    onnx_rows, onnx_skipped = onnx_shape_rows(rng)
    seen, rows = set(), []
    for r in torch_shape_rows(rng) + keras_rows + onnx_rows:
        key = tuple(r.values())
        if key not in seen:
            seen.add(key)
            rows.append(r)
    for r in rows:
        assert not r["reason"].startswith("unnamed"), r
    temporary = HERE / "shapes.csv.tmp"
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, HERE / "shapes.csv")
    counts = {}
    for r in rows:
        key = (r["rules"], r["op"], "error" if r["expected"] == "error" else "ok")
        counts[key] = counts.get(key, 0) + 1
    print(f"shapes.csv: {len(rows)} rows")
    for key, count in counts.items():
        print("   ", *key, count)
    for title, skipped in (("keras", keras_skipped), ("onnx", onnx_skipped)):
        print(f"{title}: {len(skipped)} settings left out, on which its own parts disagree")
        for s in skipped:
            print("   ", *s)


def main():
    global ONLY
    parser = argparse.ArgumentParser(description="write the golden cases and shapes.csv")
    parser.add_argument("--only", default="", metavar="TEXT", help="write only the cases whose name holds TEXT")
    parser.add_argument("--no-shapes", action="store_true", help="leave shapes.csv alone")
    parser.add_argument("--no-cases", action="store_true", help="leave the case files alone")
    arguments = parser.parse_args()
    ONLY = arguments.only
    if not arguments.no_cases:
        for group in (torch_cases, jax_cases, keras_cases, onnx_cases, integer_cases):
            before, bytes_before = len(WRITTEN), sum(WRITTEN.values())
            group()
            size = sum(WRITTEN.values()) - bytes_before
            print(f"{group.__name__}: {len(WRITTEN) - before} cases, {size} bytes", flush=True)
        if not ONLY:  # files of cases that are gone
            for path in CASES.glob("*.safetensors"):
                if path.stem not in WRITTEN:
                    path.unlink()
        print(f"total: {len(WRITTEN)} cases, {sum(WRITTEN.values())} bytes")
    if not arguments.no_shapes and not ONLY:
        write_shapes()
    return 0


if __name__ == "__main__":
    sys.exit(main())
