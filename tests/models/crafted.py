"""Files that claim what they do not hold, point elsewhere, or bring code, and how they are made."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np

HUGE = 2**31


def small():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a")], name="m")


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _rewritten(path, change, packing=zipfile.ZIP_STORED):
    small().save(path)
    members = _members(path)
    change(members)
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _with_config(path, change):
    def changed(members):
        config = json.loads(members["config.json"])
        change(config)
        members["config.json"] = json.dumps(config)

    _rewritten(path, changed)


def _with_weights(path, change):
    def changed(members):
        held = io.BytesIO(members["model.weights.h5"])
        with h5py.File(held, "a") as file:
            change(file)
        members["model.weights.h5"] = held.getvalue()

    _rewritten(path, changed)


def many_units(path):
    def change(config):
        config["config"]["layers"][1]["config"]["units"] = HUGE

    _with_config(path, change)


def many_entries(path):
    def change(config):
        layer = config["config"]["layers"][1]
        layer["class_name"], layer["config"] = "Embedding", {"input_dim": HUGE, "output_dim": 64}
        layer["build_config"] = {"input_shape": [None, 4]}

    _with_config(path, change)


def unstored_array(path):
    def change(file):
        file.create_dataset("bomb", (HUGE,), "float32", chunks=(2**20,))

    _with_weights(path, change)


def packed_array(path):
    def change(file):
        made = file.create_dataset("bomb", (2**27,), "u1", chunks=(2**24,), compression="gzip")
        made[:] = 0

    _with_weights(path, change)


def array_elsewhere(path):
    def change(file):
        file.create_dataset("stolen", (8,), "u1", external=[("/etc/hostname", 0, 8)])

    _with_weights(path, change)


def link_elsewhere(path):
    def change(file):
        file["linked"] = h5py.ExternalLink("/etc/other.h5", "/")

    _with_weights(path, change)


def zip_bomb(path):
    def change(members):
        members["config.json"] += b" " * 2**27

    _rewritten(path, change, zipfile.ZIP_DEFLATED)


def climbing_name(path):
    _rewritten(path, lambda members: members.update({"../../escaped.txt": b"x"}))


def code_in_config(path):
    def change(config):
        config["config"]["layers"][1]["class_name"] = "Lambda"
        config["config"]["layers"][1]["config"] = {
            "name": "a",
            "function": {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}},
        }

    _with_config(path, change)


def other_module(path):
    def change(config):
        layer = config["config"]["layers"][1]
        layer.update(module="os", class_name="system", registered_name=None)

    _with_config(path, change)


def legacy_unstored(path):
    small().save(path)
    with h5py.File(path, "a") as file:
        file.create_dataset("model_weights/bomb", (HUGE,), "float32", chunks=(2**20,))


def cut_off(path):
    small().save(path)
    path.write_bytes(path.read_bytes()[:-200])


MODELS = {
    "many units.keras": many_units,
    "many entries.keras": many_entries,
    "unstored array.keras": unstored_array,
    "packed array.keras": packed_array,
    "array elsewhere.keras": array_elsewhere,
    "link elsewhere.keras": link_elsewhere,
    "zip bomb.keras": zip_bomb,
    "climbing name.keras": climbing_name,
    "code in config.keras": code_in_config,
    "other module.keras": other_module,
    "legacy unstored.h5": legacy_unstored,
    "cut off.keras": cut_off,
}


def _npz(path, member, content, packing=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("y_train.npy", _npy(np.zeros(2)))
        archive.writestr(member, content)


def _npy(array, shape=None):
    written = io.BytesIO()
    np.save(written, array)
    text = written.getvalue()
    return text if shape is None else text.replace(b"(2,)", shape.encode())


def false_shape(path):
    content = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**34,)}
    np.lib.format.write_array_header_1_0(content, header)
    _npz(path, "x_train.npy", content.getvalue() + b"\0" * 16)


def packed_zeros(path):
    _npz(path, "x_train.npy", _npy(np.zeros(2**28, "u1")), zipfile.ZIP_DEFLATED)


def pickled(path):
    np.savez(path, x_train=np.array([{"a": 1}], object))


def lzma(path):
    _npz(path, "x_train.npy", _npy(np.zeros(8)), zipfile.ZIP_LZMA)


def no_zip(path):
    path.write_bytes(b"PK\x03\x04 no more")


ARRAYS = {
    "false shape": false_shape,
    "pickled": pickled,
    "lzma": lzma,
    "no zip": no_zip,
}

TEXTS = {
    "no JSON": b"{",
    "no UTF-8": b'{"kept": "\xff"}',
    "deep": b"[" * 100_000,
    "list": b"[1, 2]",
    "ragged": b'{"kept": {"a": [[0], [1, 2]]}, "widths": {"a": 3}}',
    "shares": b'{"kept": {"a": [0.7]}, "widths": {"a": 3}}',
    "negative": b'{"kept": {"a": [-1, 0]}, "widths": {"a": 3}}',
    "huge": b'{"kept": {"a": [0, 1e400]}, "widths": {"a": 3}}',
    "huger": b'{"kept": {"a": [0, 99999999999999999999999]}, "widths": {"a": 9}}',
    "words": b'{"kept": {"a": "01"}, "widths": {"a": 2}}',
}
