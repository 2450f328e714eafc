"""Makes files of hidden states and times how Python reads them: reading.py make DIR MIB | reading.py time PASSES FILE...

Each file is read from start to end into one float32 array of 2,048 rows, as ours is: numpy through a memory map, pyarrow
by batches. A line of JSON for each file, as the Rust bench has it."""

import json
import pathlib
import sys
import time

import numpy as np

ROWS, D_IN = 2048, 576


def make(folder, mib):
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet
    from safetensors.numpy import save_file

    generator = np.random.default_rng(0)

    def states(kind):
        rows = mib * 2**20 // (D_IN * np.dtype(kind).itemsize)
        return generator.standard_normal((rows, D_IN), dtype=np.float32).astype(kind)

    single, half = states("<f4"), states("<f2")
    np.save(folder / "f32.npy", single)
    np.save(folder / "f16.npy", half)
    save_file({"hidden_states": half}, folder / "f16.safetensors")
    del half
    lists = pa.FixedSizeListArray.from_arrays(pa.array(single.reshape(-1)), D_IN)
    table = pa.table({"hidden_states": lists})
    # row groups and batches of about 32 MiB
    group = 2**25 // (D_IN * 4)
    write = lambda name, **options: pa.parquet.write_table(table, folder / name, row_group_size=group, **options)
    write("none.parquet", compression="none", use_dictionary=False)
    write("zstd.parquet", compression="zstd", use_dictionary=False)
    for name, compression in [("none.arrow", None), ("lz4.arrow", "lz4")]:
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(folder / name, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=group)


def arrays(path):
    """The hidden states in arrays of at most 2,048 rows."""
    kind = path.suffix
    if kind == ".npy":
        whole = np.load(path, mmap_mode="r")
    elif kind == ".safetensors":
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))["hidden_states"]
        start = 8 + length + header["data_offsets"][0]
        whole = np.memmap(path, {"F16": "<f2", "F32": "<f4"}[header["dtype"]], "r", start, tuple(header["shape"]))
    elif kind == ".parquet":
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(path)
        for batch in file.iter_batches(ROWS, columns=["hidden_states"]):
            yield batch.column(0).flatten().to_numpy(zero_copy_only=True).reshape(batch.num_rows, -1)
        return
    else:
        import pyarrow as pa
        import pyarrow.ipc

        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        for at in range(reader.num_record_batches):
            batch = reader.get_batch(at)
            values = batch.column("hidden_states").flatten().to_numpy(zero_copy_only=True).reshape(batch.num_rows, -1)
            for start in range(0, len(values), ROWS):
                yield values[start : start + ROWS]
        return
    for start in range(0, len(whole), ROWS):
        yield whole[start : start + ROWS]


def read(path, out):
    rows = 0
    for part in arrays(path):
        np.copyto(out[: len(part)], part)
        rows += len(part)
    return rows


def measure(path, passes):
    out = np.empty((ROWS, D_IN), np.float32)
    rows = read(path, out)
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        read(path, out)
        seconds.append(time.perf_counter() - start)
    return {"path": str(path), "bytes": path.stat().st_size, "rows": rows, "dIn": D_IN, "seconds": seconds}


if sys.argv[1] == "make":
    make(pathlib.Path(sys.argv[2]), int(sys.argv[3]))
else:
    for path in sys.argv[3:]:
        print(json.dumps(measure(pathlib.Path(path), int(sys.argv[2]))), flush=True)
