"""Writes the small model files that tests/suite/files.rs reads, with the libraries that own the formats.

Needs torch, keras (any backend), onnx, safetensors, h5py and numpy. Every tensor named NAME of a file
holds ramp(shape): element i is ((i * 37 + 11 * len(shape)) % 101 - 50) / 8, exact in every float type.
"""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np

HERE = pathlib.Path(__file__).parent


def ramp(shape):
    count = int(np.prod(shape, dtype=np.int64))
    values = ((np.arange(count) * 37 + 11 * len(shape)) % 101 - 50) / 8
    return values.reshape(shape)


def numpy_files():
    np.save(HERE / "c_order.npy", ramp((3, 4, 5)).astype("<f4"))
    np.save(HERE / "fortran.npy", np.asfortranarray(ramp((3, 4, 5)).astype("<f8")))
    np.save(HERE / "big_endian.npy", ramp((7,)).astype(">f4"))
    np.save(HERE / "half.npy", ramp((2, 3)).astype("<f2"))
    np.save(HERE / "scalar.npy", np.array(-4.875 - 1.375, dtype="<f4"))
    arrays = {"conv/kernel": ramp((3, 3, 2, 4)).astype("f4"), "bias": ramp((4,)).astype("f8")}
    arrays["steps"] = np.arange(6, dtype="i8")
    np.savez(HERE / "plain.npz", **arrays)
    np.savez_compressed(HERE / "compressed.npz", **arrays)


def complex_files():
    np.savez(HERE / "complex.npz", spectrum=np.array([1 + 2j, -3.5j], "<c8"), plain=ramp((3,)))


def safetensors_files():
    import torch
    from safetensors.torch import save_file

    types = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
    tensors = {name: torch.tensor(ramp((2, 3))).to(kind) for name, kind in types.items()}
    tensors["i64"] = torch.arange(5)
    save_file(tensors, HERE / "types.safetensors", metadata={"format": "pt"})


def torch_files():
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4))
            self.classifier = torch.nn.Linear(36, 5)

    net = Net()
    for value in net.state_dict().values():
        value.copy_(torch.tensor(ramp(tuple(value.shape))))
    torch.save(net.state_dict(), HERE / "state_dict.pt")

    base = torch.tensor(ramp((4, 6)), dtype=torch.float32)
    views = {
        "transposed": base.t(),
        "slice": base[1:3, 2:5],
        "every_other": base.flatten()[::2],
        "expanded": torch.tensor(ramp((3, 1)), dtype=torch.float32).expand(3, 4),
        "bf16": torch.tensor(ramp((3, 2))).to(torch.bfloat16),
        "f16": torch.tensor(ramp((3, 2))).to(torch.float16),
        "f64": torch.tensor(ramp((3, 2))).to(torch.float64),
        "bool": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(1.5),
    }
    torch.save(views, HERE / "views.pt")

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.classifier(torch.ones(1, 36)).sum().backward()
    optimizer.step()
    for value in net.state_dict().values():
        value.copy_(torch.tensor(ramp(tuple(value.shape))))
    checkpoint = {
        "epoch": 3,
        "loss": 0.25,
        "note": "text",
        "shapes": [(1, 2), {"deep": None}],
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameter": torch.nn.Parameter(torch.tensor(ramp((2, 2)), dtype=torch.float32)),
        "big": 10**30,
    }
    torch.save(checkpoint, HERE / "checkpoint.pth")
    torch.save(net.classifier, HERE / "whole_module.pt")  # names a class: must be refused
    torch.save(net.state_dict(), HERE / "legacy.pth", _use_new_zipfile_serialization=False)


def keras_files():
    import keras

    def model():
        net = keras.Sequential(
            [
                keras.layers.Input((5, 5, 2)),
                keras.layers.Conv2D(4, 3, name="features"),
                keras.layers.Flatten(),
                keras.layers.Dense(5, name="classifier"),
            ]
        )
        net.set_weights([ramp(w.shape).astype("f4") for w in net.get_weights()])
        return net

    net = model()
    net.save_weights(HERE / "model.weights.h5")
    net.save(HERE / "model.keras")
    net.save(HERE / "legacy.h5")
    keras.mixed_precision.set_dtype_policy("bfloat16")
    net = model()
    net.save_weights(HERE / "bfloat16.weights.h5")


def hdf5_files():
    import h5py

    for version in ("earliest", "latest"):
        with h5py.File(HERE / f"layouts_{version}.h5", "w", libver=version) as file:
            values = ramp((20, 30)).astype("<f4")
            file.create_dataset("contiguous", data=values)
            file.create_dataset("gzip", data=values, chunks=(8, 7), compression="gzip")
            file.create_dataset("one_chunk", data=values, chunks=(20, 30), compression="gzip")
            more = file.create_group("more")
            filters = {"compression": "gzip", "shuffle": True, "fletcher32": True}
            more.create_dataset("shuffled", data=values, chunks=(8, 7), **filters)
            more.create_dataset("chunked", data=values, chunks=(20, 10))
            partial = more.create_dataset("partial", (20, 30), "<f4", chunks=(8, 7), fillvalue=2.5)
            partial[0:8, 0:7] = values[0:8, 0:7]
            more.create_dataset("unwritten", (3, 2), "<f4")
            file.create_dataset("types/big_endian", data=values.astype(">f8"))
            file.create_dataset("types/half", data=values.astype("<f2"))
            file.create_dataset("types/scalar", data=np.float32(1.5))
            file.create_dataset("types/whole", data=np.arange(4, dtype="<i8"))
            file.create_dataset("types/flag", data=np.array([True, False]))
            file.create_dataset("types/text", data="not a tensor")
            file["again"] = file["types/half"]
            file["soft"] = h5py.SoftLink("/types/half")
            compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            compact.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple((3, 2))
            dataset = h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, compact)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, ramp((3, 2)).astype("<f4"))
            if version == "earliest":
                file.create_dataset("opaque", data=np.array([0x3F80, 0xC040], "<u2").view("V2"))
                file.create_dataset("growing", data=values, chunks=(8, 7), maxshape=(None, 30))
                for i in range(40):
                    file.create_dataset(f"group/deep/tensor_{i:02}", data=ramp((i + 1,)).astype("<f4"))


def hdf5_links():
    """Groups whose links are in a heap: an index of two levels, blocks of several rows, long names."""
    import h5py

    with h5py.File(HERE / "links_latest.h5", "w", libver="latest") as file:
        file.create_dataset("one", data=ramp((2, 3)).astype("<f4"))
        for i in range(600):
            file[f"many/link_{i:03}"] = file["one"]
        few = file.create_group("few")
        for i in range(9):
            few.create_dataset("long" * 30 + str(i), data=np.float32(i))


def hdf5_growing():
    """Chunks of datasets that may grow: every index of newer files, in shapes smaller than the largest."""
    import h5py

    kinds = {
        "fixed": ((6, 4), (2, 3), (12, 9), {}),
        "one_way": ((20, 6), (8, 4), (None, 9), {}),
        "one_way_filtered": ((20, 6), (8, 4), (None, 6), {"compression": "gzip", "shuffle": True}),
        "second_way": ((6, 20), (4, 8), (9, None), {}),
        "one_way_far": ((260,), (1,), (None,), {}),  # past the blocks that the first block knows
        "both_ways": ((20, 6), (8, 4), (None, None), {}),
        "both_ways_filtered": ((20, 6), (8, 4), (None, None), {"compression": "gzip"}),
        "both_ways_far": ((10, 9), (1, 1), (None, None), {}),  # an index of two levels
    }
    with h5py.File(HERE / "growing_latest.h5", "w", libver="latest", meta_block_size=512) as file:
        for name, (shape, chunks, maxshape, filters) in kinds.items():
            kind = "<f4" if len(shape) > 1 and max(chunks) > 1 else "<f2"
            file.create_dataset(name, data=ramp(shape).astype(kind), chunks=chunks, maxshape=maxshape, **filters)
        file.create_dataset("unwritten", (3, 2), "<f4", chunks=(2, 2), maxshape=(None, 2))
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_chunk((2, 3))
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((6, 4), (12, 9))
        dataset = h5py.h5d.create(file.id, b"implicit", h5py.h5t.IEEE_F32LE, space, early)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, ramp((6, 4)).astype("<f4"))


def onnx_files():
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    w, b = ramp((4, 2, 3, 3)), ramp((4,))
    constant = helper.make_node(
        "Constant", [], ["shift"], value=numpy_helper.from_array(ramp((3,)).astype("f4"), "shift_value")
    )
    initializers = [
        numpy_helper.from_array(w.astype("f4"), "conv.weight"),
        numpy_helper.from_array(b.astype("f8"), "doubles"),
        numpy_helper.from_array(b.astype("f2"), "halves"),
        helper.make_tensor("listed", TensorProto.FLOAT, [4], b.tolist()),
        helper.make_tensor("listed_f16", TensorProto.FLOAT16, [4], b.tolist()),
        helper.make_tensor("listed_f64", TensorProto.DOUBLE, [4], b.tolist()),
        helper.make_tensor("bf16", TensorProto.BFLOAT16, [4], b.tolist()),
        numpy_helper.from_array(np.array([1, -1], dtype="i8"), "shape"),
        helper.make_tensor("listed_i64", TensorProto.INT64, [2], [3, -4]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    conv = helper.make_node("Conv", ["x", "conv.weight"], ["y"])
    graph = helper.make_graph([constant, conv], "net", [x], [y], initializers)
    onnx.save(helper.make_model(graph), HERE / "model.onnx")

    outside = numpy_helper.from_array(ramp((6, 4)).astype("f4"), "outside.weight")
    graph = helper.make_graph([], "net", [x], [y], [outside])
    onnx.save(
        helper.make_model(graph),
        HERE / "external.onnx",
        save_as_external_data=True,
        location="external.onnx.data",
        size_threshold=0,
    )


if __name__ == "__main__":
    numpy_files()
    complex_files()
    safetensors_files()
    torch_files()
    hdf5_files()
    hdf5_links()
    hdf5_growing()
    onnx_files()
    keras_files()
