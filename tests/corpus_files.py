"""Generate files that once broke a reader, in addition to the stored ones in tests/corpus."""

import io
import json
import pickle
import struct
import zipfile
import zlib

import cv2
import numpy as np


def make_files() -> dict:
    """Return the content of every file: {target: {name: bytes}}, where the target is a reader of `read_corpus.py`."""
    return {
        "images": {
            "chunk_of_4_gb.png": png_with_a_chunk_of(0xFFFFFFF0),
            "chunk_longer_than_the_file.png": png_with_a_chunk_of(1 << 20),
            "two_headers.png": png_with_two_headers(),
            "two_widths.tif": tiff_with_two_widths(),
            "cut.jpg": encode(".jpg")[:-200],
            "cut.webp": encode(".webp")[:-60],
            "height_of_minus_2_to_the_31.bmp": bmp_of_height(-(2**31)),
            "empty.jpg": b"",
            "text.jpg": b"not an image\n",
        },
        "symbol": {
            "deep.json": b'{"nodes":' + b"[" * 100_000,
            "not_utf8.json": b'{"nodes": [{"op": "null", "name": "\xff", "inputs": []}], "heads": [[0, 0, 0]]}',
            "input_of_2_to_the_31.json": graph("relu", inputs=[[2**31, 0, 0]]),
            "input_after_its_node.json": graph("relu", inputs=[[1, 0, 0]]),
            "custom.json": graph("Custom", attrs={"op_type": "anything"}),
            "ndarray.json": graph("_NDArray", attrs={"info": "0x414141414141"}),
            "load.json": graph("_load", attrs={"fname": "/etc/passwd"}),
            "many_filters.json": graph("Convolution", attrs={"num_filter": "2147483647", "kernel": "(1, 1)"}),
        },
        "params": {
            "empty.params": b"",
            "count_of_2_to_the_62.params": struct.pack("<QQQ", 0x112, 0, 1 << 62),
            "shape_of_2_to_the_40.params": struct.pack("<QQQIiiq", 0x112, 0, 1, 0xF993FAC9, 0, 1, 1 << 40),
        },
        "card": {
            "deep.json": b"[" * 100_000,
            "not_utf8.json": b'{"format": 1, "name": "\xff"}',
            "a_list.json": b"[]",
            "huge_number.json": b'{"format": ' + b"9" * 5000 + b"}",
        },
        "npz": {"labels_of_4_gb.npz": npz_bomb()},
        "recipe": {
            "deep.yaml": b"a: " + b"[" * 3000,
            "number_as_key.yaml": b"1: 2\n",
            "not_utf8.yaml": b"\xff\xfe\x00",
            "aliases.yaml": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
            "python.yaml": b"a: !!python/object/apply:os.system ['touch pwned']\n",
            "empty.yaml": b"",
        },
        "ckpt": {
            "pickle.ckpt": checkpoint(pickle.dumps(SystemCall())),
            "not_a_zip.ckpt": b"not a zip",
            "deep_state.ckpt": checkpoint(b"", state=b"[" * 100_000),
        },
        "tables": {
            "deep_quotes.csv": b'file,age\n"' + b'"' * 10_000,
            "zero_bytes.csv": b"file,age\n\0\0\0,1\n",
            "out_of_the_folder.csv": b"file,age,gender\n../../etc/passwd,20,m\n",
        },
    }


class SystemCall:
    """An object that is pickled as a call of `os.system`."""

    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def encode(suffix: str) -> bytes:
    rows, columns = np.mgrid[:40, :50]
    image = np.stack([rows * 5, columns * 4, rows + columns], axis=2).astype(np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with_a_chunk_of(length: int) -> bytes:
    """Return a PNG whose tEXt chunk declares this length."""
    png = encode(".png")
    return png[:33] + struct.pack(">I", length) + b"tEXtkey\0value" + png[33:]


def png_with_two_headers() -> bytes:
    png = encode(".png")
    return png[:33] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)) + png[33:]


def tiff_with_two_widths() -> bytes:
    """Return a TIFF with two entries ImageWidth, 15,000 and 10: readers differ in which one they use."""
    entries = [(256, 15_000), (256, 10), (257, 15_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 10)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0) + bytes(200)


def bmp_of_height(height: int) -> bytes:
    bmp = bytearray(encode(".bmp"))
    bmp[22:26] = struct.pack("<i", height)
    return bytes(bmp)


def graph(op: str, attrs: dict = {}, inputs: list = [[0, 0, 0]]) -> bytes:  # noqa: B006
    """Return a symbol.json with an input and one operator."""
    nodes = [{"op": "null", "name": "data", "inputs": []}, {"op": op, "name": "age", "attrs": attrs, "inputs": inputs}]
    return json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[1, 0, 0]]}).encode()


def npz_bomb() -> bytes:
    """Return an archive of 0.6 MB whose ages decompress to 600 MB."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape, size in (("age", (75_000_000,), 600_000_000), ("image", (1, 16, 16, 3), 768 * 8)):
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
            with archive.open(f"{name}.npy", "w") as member:
                member.write(head.getvalue())
                for start in range(0, size, 1 << 20):
                    member.write(bytes(min(1 << 20, size - start)))
    return content.getvalue()


def checkpoint(trainer: bytes, state: bytes = b'{"version": 2, "epoch": 1, "step": 1}') -> bytes:
    """Return a checkpoint of version 2 with this pickle of the trainer."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in (("network.params", b""), ("trainer.states", trainer), ("state.json", state)):
            file.writestr(name, data)
    return content.getvalue()
