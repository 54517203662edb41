"""Writes TensorFlow V2 bundles, to test the reader with whatever a damaged or foreign one may hold."""

import struct

import numpy as np

from waveunet_cli.importers.crc32c import masked_crc32c

DTYPES = {"float32": 1, "float64": 2, "int64": 9, "float16": 19}


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(entries, compression=0):
    contents, before = bytearray(), b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        contents += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    contents += struct.pack("<II", 0, 1) + bytes([compression])
    return bytes(contents) + struct.pack("<I", masked_crc32c(bytes(contents)))


def write_bundle(prefix, tensors, compression=0, same_bytes=False, further=()):
    """Write `tensors`, arrays by name, as the bundle `prefix`; all in the same place, and with further entries."""
    data, entries = bytearray(), [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        raw = array.tobytes()
        shape = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in array.shape))
        entry = b"\x08" + varint(DTYPES[array.dtype.name]) + b"\x12" + varint(len(shape)) + shape
        entry += (
            b"\x20"
            + varint(0 if same_bytes else len(data))
            + b"\x28"
            + varint(len(raw))
            + b"\x35"
            + struct.pack("<I", masked_crc32c(raw))
        )
        entries.append((name.encode(), entry))
        data += b"" if same_bytes and data else raw
    entries += further
    first, index = block(entries, compression), bytearray()
    handle = varint(0) + varint(len(first) - 5)
    empty = block([])
    where_empty = varint(len(first)) + varint(len(empty) - 5)
    last = block([(entries[-1][0], handle)])
    where_last = varint(len(first) + len(empty)) + varint(len(last) - 5)
    index += first + empty + last
    index += (where_empty + where_last).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(prefix.name + ".index").write_bytes(bytes(index))
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(bytes(data))
    return prefix


def tensors_of(config, seed=0):
    """Random variables of the paper's program for a WaveUNetConfig, with optimizer slots beside them."""
    rng = np.random.default_rng(seed)
    widths = [config.filters * (i + 1) for i in range(config.levels + 1)]
    shapes = [(config.down_taps, i, o) for i, o in zip([config.channels, *widths], widths, strict=False)]
    shapes += [(config.up_taps, i + o, o) for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True)]
    shapes += [(1, config.channels + widths[0], config.channels)] * (len(config.sources) - config.additive)
    tensors = {"global_step": np.array(7, np.int64), "separator_solver/beta1_power": np.float32(0.5)}
    for i, shape in enumerate(shapes):
        layer = f"separator/conv1d{f'_{i}' if i else ''}"
        tensors[f"{layer}/kernel"] = rng.normal(0, 0.1, shape).astype(np.float32)
        tensors[f"{layer}/bias"] = rng.normal(0, 0.1, shape[2]).astype(np.float32)
    if config.upsampling == "learned":
        for i, width in enumerate(widths[:0:-1]):
            tensors[f"separator/interp_{i}"] = rng.normal(0, 1, width).astype(np.float32)
    for name in [name for name in tensors if name.startswith("separator/")]:
        for slot in ("Adam", "Adam_1"):
            tensors[f"separator_solver/{name}/{slot}"] = np.zeros_like(tensors[name])
    return tensors
