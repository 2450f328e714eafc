"""Counts codes as numpy and PyTorch can: counting.py numpy | counting.py torch, which answer JSON lines.

counting.py make FILE ROWS FEATURES DENSITY LIVE writes random codes to count: a share LIVE of the features is on at times,
and with LIVE below 1 each of these at a rate of its own (exponential), so that a share DENSITY of all bits is on.

Pairs are counted from what suits a way best, which is made beforehand: bits as f32, f64, 8-bit integers, or packed by feature.
"""

import sys

import numpy as np
from lines import answer_lines, milliseconds


def make(path, rows, features, density, live):
    from safetensors.numpy import save_file

    generator = np.random.default_rng(0)
    rates = np.full(features, density, np.float32)
    if live < 1:
        alive = generator.permutation(features) < round(live * features)
        rates = np.where(alive, generator.exponential(density / live, features), 0).astype(np.float32)
    packed = np.empty((rows, -(-features // 8)), np.uint8)
    for start in range(0, rows, 4096):
        part = packed[start : start + 4096]
        bits = generator.random((len(part), features), np.float32) < rates
        part[:] = np.packbits(bits, axis=1, bitorder="little")
    save_file({"codes": packed}, path, {"rows": str(rows), "d_sae": str(features), "model": ""})


def load(path):
    """Codes as they lie in the file, eight features to a byte, and a byte for each bit."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        features = int(file.metadata()["d_sae"])
        packed = file.get_tensor("codes")
    return packed, np.unpackbits(packed, axis=1, count=features, bitorder="little")


def triangle(square):
    """Of counts [m, m], those of i < j, j by j."""
    return np.asarray(square)[np.tril_indices(len(square), -1)]


class Numpy:
    name, version = "numpy", np.__version__

    def __init__(self, path, threads):
        self.packed, self.bits = load(path)
        self.floats = self.bits.astype(np.float32)
        rows, self.features = self.bits.shape
        by_feature = np.packbits(self.bits, axis=0, bitorder="little")
        by_feature = np.pad(by_feature, ((0, -len(by_feature) % 8), (0, 0)))
        self.by_feature = np.ascontiguousarray(by_feature.T).view(np.uint64)

    def pairs_f32(self):
        return self.floats.T @ self.floats

    def pairs_bitwise_count(self):
        """AND of packed features, few enough at a time to stay in the cache."""
        block, words = 32, self.by_feature.shape[1]
        square = np.zeros((self.features, self.features), np.uint32)
        both, ones = np.empty((block, words), np.uint64), np.empty((block, words), np.uint8)
        for first in range(0, self.features, block):
            columns = self.by_feature[first : first + block]
            for j in range(first + 1, self.features):
                n = min(len(columns), j - first)
                np.bitwise_and(columns[:n], self.by_feature[j], out=both[:n])
                np.bitwise_count(both[:n], out=ones[:n])
                ones[:n].sum(axis=1, dtype=np.uint32, out=square[j, first : first + n])
        return square

    def ones_unpackbits(self):
        bits = np.unpackbits(self.packed, axis=1, count=self.features, bitorder="little")
        return bits.sum(axis=0, dtype=np.uint32)

    def ones_uint8(self):
        return self.bits.sum(axis=0, dtype=np.uint32)

    def ones_f32(self):
        return self.floats.sum(axis=0)


class Torch:
    name = "PyTorch"

    def __init__(self, path, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.version = torch, torch.__version__
        self.bits = torch.from_numpy(load(path)[1])
        self.floats = self.bits.float()
        self.bytes = self.bits.to(torch.int8)
        self.by_feature = self.bytes.t().contiguous()

    def pairs_f32(self):
        return self.floats.t() @ self.floats

    def pairs_int8(self):
        return self.torch._int_mm(self.by_feature, self.bytes)

    def ones_uint8(self):
        return self.bits.sum(0, dtype=self.torch.int32)

    def ones_f32(self):
        return self.floats.sum(0)


def serve(library):
    state = {}

    def command(cmd, **given):
        if cmd == "open":
            state["peer"] = peer = library(given["fixture"], given["threads"])
            return {"name": peer.name, "version": peer.version}
        count = getattr(state["peer"], given["what"])
        if cmd == "check":
            counts = count()
            counts = triangle(counts) if given["what"].startswith("pairs") else np.asarray(counts)
            counts.astype("<u4").tofile(given["out"])
            return {}
        if cmd == "time":
            return {"ms": [milliseconds(count) for _ in range(given["count"])]}
        return {"error": f"no such command: {cmd}"}

    answer_lines(command)


if sys.argv[1] == "make":
    rows, features = map(int, sys.argv[3:5])
    make(sys.argv[2], rows, features, *map(float, sys.argv[5:7]))
else:
    serve({"numpy": Numpy, "torch": Torch}[sys.argv[1]])
