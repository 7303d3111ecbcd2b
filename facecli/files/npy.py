"""A float32 matrix that grows, in an .npy file that `np.load(path, mmap_mode="r")` reads at any moment.

Rows are appended in place: the data first, then the count in the header. Rows past the count are left over
from a writer that died. Whoever appends says how many rows it trusts; the rest is written over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.files.own import create_own, is_own, open_own

HEADER_BYTES = 128
"""A multiple of 64, as NumPy's format asks, with room for the count to grow."""


def is_matrix(path: Path, dim: int) -> bool:
    """Say whether the file is there and starts with a header that this module wrote for rows of `dim`."""
    if not is_own(path):
        return False
    with open_own(path) as file:
        return _counted(file.read(HEADER_BYTES), dim) >= 0


def map_rows(path: Path, dim: int) -> NDArray[np.float32]:
    """Return the whole rows of `dim` numbers that the file counts, float32 [n, dim], read-only.

    They are fetched from the disk when touched. No rows for a file of another kind. Raises `FileNotFoundError`,
    and `OSError` for a link.
    """
    with open_own(path) as file:
        counted = _counted(file.read(HEADER_BYTES), dim)
        n = min(counted, (os.fstat(file.fileno()).st_size - HEADER_BYTES) // (4 * dim))
        if n <= 0:
            return np.empty((0, dim), np.float32)
        return np.asarray(np.memmap(file, "<f4", "r", offset=HEADER_BYTES, shape=(n, dim)))


def append_rows(path: Path, first: int, rows: NDArray[np.float32]) -> None:
    """Write `rows` [n, dim] behind the first `first` rows, then count them, each safe before the next."""
    dim = rows.shape[1]
    with open_own(path, write=True) as file:
        file.seek(HEADER_BYTES + first * dim * 4)
        file.write(rows.astype("<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        file.write(header(first + len(rows), dim))
        file.flush()
        os.fsync(file.fileno())


def write_rows(path: Path, blocks: Iterable[NDArray[np.float32]], n: int, dim: int) -> None:
    """Write a matrix of the `n` rows in `blocks` to a new file at `path`, safe when this returns."""
    with create_own(path) as file:
        file.write(header(n, dim))
        for block in blocks:
            file.write(block.astype("<f4", copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())


def write_empty(path: Path, dim: int) -> None:
    """Put a matrix without rows at `path`.

    It is a new file and not a shortened one: readers that have mapped the old one keep it.
    """
    aside = path.with_name(f"{path.name}.part")
    with create_own(aside) as file:
        file.write(header(0, dim))
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def header(n: int, dim: int) -> bytes:
    """Return a header in version 1.0 of NumPy's format (numpy.lib.format).

    The count's last 16 digits are bytes 64 to 79, within one cache line and one sector: a reader, or a power
    cut, sees the old count or the new one.
    """
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n:>19}, {dim}), }}"
    body = text.ljust(HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode("ascii")


def _counted(head: bytes, dim: int) -> int:
    """Return the count in a header that `_header` wrote for rows of `dim`, -1 if it did not."""
    digits = head[61:80].strip()
    n = int(digits) if digits.isdigit() else -1
    return n if n >= 0 and head == header(n, dim) else -1
