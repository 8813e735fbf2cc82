"""Writes small HDF5 and Keras files for the fuzzer to begin with: FOLDER/hdf5 and FOLDER/keras. Needs h5py and numpy.

Those of tests/files are longer than -max_len; cut off there, they lose what their headers point to.
"""

import pathlib
import sys
import zipfile

import h5py
import numpy as np

VALUES = (np.arange(24) / 8).reshape(6, 4).astype("<f4")
FILTERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}


def low_level(file, name, layout, early=False):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(layout)
    if layout == h5py.h5d.CHUNKED:
        plist.set_chunk((2, 2))
    if early:
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    space = h5py.h5s.create_simple(VALUES.shape)
    dataset = h5py.h5d.create(file.id, name, h5py.h5t.IEEE_F32LE, space, plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, VALUES)


def partial(file):
    file.create_dataset("a", (6, 4), "<f4", chunks=(2, 3), fillvalue=2.5)[0:2, 0:3] = 1


def groups(file):
    file.create_dataset("group/0", data=VALUES.astype(">f8"))
    file["again"] = file["group/0"]
    file["soft"] = h5py.SoftLink("/group")
    file.attrs["keras_version"] = "3"


def links(file):
    for i in range(10):
        file.create_dataset(f"tensor_{i}", data=np.float32(i))


KINDS = {
    "contiguous": lambda file: file.create_dataset("a", data=VALUES),
    "compact": lambda file: low_level(file, b"a", h5py.h5d.COMPACT),
    "chunked": lambda file: file.create_dataset("a", data=VALUES, chunks=(2, 3)),
    "filtered": lambda file: file.create_dataset("a", data=VALUES, chunks=(2, 3), **FILTERS),
    "one_chunk": lambda file: file.create_dataset("a", data=VALUES, chunks=(6, 4), compression="gzip"),
    "implicit": lambda file: low_level(file, b"a", h5py.h5d.CHUNKED, early=True),
    "grows": lambda file: file.create_dataset("a", data=VALUES, chunks=(2, 2), maxshape=(None, 4)),
    "grows_filtered": lambda file: file.create_dataset("a", data=VALUES, chunks=(2, 2), maxshape=(None, 4), **FILTERS),
    "grows_both_ways": lambda file: file.create_dataset("a", data=VALUES, chunks=(2, 2), maxshape=(None, None)),
    "partial": partial,
    "groups": groups,
    "links": links,
}


def main(folder):
    hdf5, keras = folder / "hdf5", folder / "keras"
    hdf5.mkdir(parents=True, exist_ok=True)
    keras.mkdir(parents=True, exist_ok=True)
    for kind, write in KINDS.items():
        for version in ("earliest", "latest"):
            path = hdf5 / f"{kind}_{version}.h5"
            with h5py.File(path, "w", libver=version, meta_block_size=512) as file:
                write(file)
            for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
                with zipfile.ZipFile(keras / f"{path.stem}_{name}.keras", "w", compression) as file:
                    file.writestr("metadata.json", "{}")
                    file.writestr("model.weights.h5", path.read_bytes())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
