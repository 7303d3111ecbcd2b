"""A compact copy of a matrix of templates: a byte a number, to be scanned in a fourth of the time.

It is derived from the matrix and lies beside it, in a file of its own. It may be deleted at any time, and it may
cover fewer rows than the matrix. The file is a matrix itself and grows as one (see `npy`), by chunks: each of
its rows is `chunk_rows(D)` templates, as 64 bytes that name their matrix, their scales and errors (float32) and
their codes (int8). NumPy reads it as float32 [C, W]; `.view("i1")` shows the codes.

A template t is kept as t ~ scale * codes, with codes = rint(t / scale), |codes| <= 127 and scale = max |t| / 127;
its error is the measured length of the difference, rounded up, so that |p.t - p.(scale * codes)| <= |p| * error
for every p (Cauchy and Schwarz).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.files.npy import append_rows, is_matrix, map_rows, write_empty
from facecli.gallery.store.unit import LONGEST, are_unit

WORTH_BYTES = 64 << 20
"""A smaller matrix is read about as fast as it is."""
CHUNK_BYTES = 8 << 20
"""Codes in a chunk: large against what a call costs, small against the matrix, whose last rows have no chunk yet."""

_NAME_BYTES = 64
"""A multiple of 64, so that all parts of a chunk are aligned to lines of the cache."""
_APPEND_BYTES = 16 << 20
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Compact:
    """The copy of the first `n_rows` rows of a matrix, in C chunks of R rows."""

    codes: NDArray[np.int8]
    """[C, R, D], from -127 to 127."""
    scales: NDArray[np.float32]
    """[C, R]"""
    errors: NDArray[np.float32]
    """[C, R], the lengths of what the codes leave out, never too small."""

    @property
    def n_rows(self) -> int:
        """The number of rows that are covered."""
        return self.codes.shape[0] * self.codes.shape[1]

    @classmethod
    def open(cls, path: Path, dim: int, identity: bytes) -> Compact:
        """Return the copy at `path`, mapped from the file; one of no rows if none is there that fits and can be read.

        `identity` names the matrix by up to 64 bytes that change whenever a row of it does. A copy of a matrix of
        another name or `dim` does not fit.
        """
        try:
            raw = map_rows(path, _width(dim)).view(np.int8)
        except OSError:
            raw = np.empty((0, 4 * _width(dim)), np.int8)
        if (raw[:, :_NAME_BYTES] != _named(identity)).any():
            raw = raw[:0]
        return cls._of_chunks(raw, dim)

    @classmethod
    def of(cls, templates: NDArray[np.float32]) -> Compact:
        """Return the copy of `templates`, float32 [N, D], in memory. Rows that fill no chunk are not covered."""
        dim = templates.shape[1]
        return cls._of_chunks(_chunks(templates, 0, len(templates) // chunk_rows(dim), b""), dim)

    def below(self, n: int) -> Compact:
        """Return those of the chunks that lie within the first `n` rows."""
        whole = n // self.codes.shape[1]
        return Compact(self.codes[:whole], self.scales[:whole], self.errors[:whole])

    @classmethod
    def _of_chunks(cls, raw: NDArray[np.int8], dim: int) -> Compact:
        rows = chunk_rows(dim)
        scales, errors, codes = np.split(raw[:, _NAME_BYTES:], [4 * rows, 8 * rows], axis=1)
        return cls(codes.reshape(len(raw), rows, dim), scales.view("<f4"), errors.view("<f4"))

    def is_of_templates(self, chunk: int) -> bool:
        """Say whether templates can have the scales and errors of a chunk."""
        # Not a number compares as false.
        scales, errors = self.scales[chunk], self.errors[chunk]
        return bool((np.abs(scales) <= LONGEST).all() and (np.abs(errors) <= LONGEST).all())

    def agrees(self, templates: NDArray[np.float32]) -> bool:
        """Say whether the codes are those of the first rows of `templates`, float32 [N, D], within the errors.

        Reads all of both.
        """
        if self.n_rows > len(templates) or not all(map(self.is_of_templates, range(len(self.codes)))):
            return False
        rows = self.codes.shape[1]
        for chunk, (codes, scales, errors) in enumerate(
            zip(self.codes, self.scales, self.errors, strict=True)
        ):
            for at in range(0, rows, _BLOCK_ROWS):
                part = slice(at, at + _BLOCK_ROWS)
                block = templates[chunk * rows + at :][: len(codes[part])]
                if not (_left_out(block, codes[part], scales[part]) <= errors[part]).all():
                    return False
        return True


def chunk_rows(dim: int) -> int:
    """Return how many templates of `dim` numbers a chunk holds: a multiple of 64."""
    return max(1, CHUNK_BYTES // dim // 64) * 64


def worth_it(n: int, dim: int) -> bool:
    """Say whether `n` templates of `dim` numbers are so many that a compact copy pays."""
    return n * dim * 4 >= WORTH_BYTES


def extend(path: Path, templates: NDArray[np.float32], identity: bytes) -> None:
    """Make the copy at `path` cover all chunks that `templates`, float32 [N, D], fill; make it if need be.

    `identity` is as for `Compact.open`: a copy that does not fit is replaced. The rows must be there to stay, see
    `forget_from`. One process at a time; readers may go on. Raises `OSError`; what was done before stays whole.
    """
    n, dim = templates.shape
    width = _width(dim)
    there = len(Compact.open(path, dim, identity).codes)
    whole = n // chunk_rows(dim)
    if there < whole and there == 0:
        write_empty(path, width)
    step = max(1, _APPEND_BYTES // (4 * width))
    for first in range(there, whole, step):
        last = min(first + step, whole)
        if not are_unit(templates[first * chunk_rows(dim) : last * chunk_rows(dim)]).all():
            # Of a broken row, which may be nobody's, there is no copy: it is left to a search of the matrix.
            return
        append_rows(path, first, _chunks(templates, first, last, identity).view("<f4"))


def forget_from(path: Path, first: int, dim: int) -> None:
    """Delete the copy at `path` if it covers rows from `first` on, before these are written over. Raises `OSError`."""
    if is_matrix(path, _width(dim)) and len(map_rows(path, _width(dim))) * chunk_rows(dim) > first:
        path.unlink()


def quantise(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Return codes int8 [n, D], scales float32 [n] and errors float32 [n] of `rows`, float32 [n, D], finite."""
    scales = np.abs(rows).max(axis=1, initial=0) / np.float32(127)
    # The scale of a row of the tiniest numbers is zero, and so are its codes: its error is its length.
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    # A tiny scale is rounded so coarsely that the quotient can leave the range.
    codes = np.clip(np.rint(rows / divisors[:, None]), -127, 127).astype(np.int8)
    lengths = _left_out(rows, codes, scales)
    # Rounding to nearest may shorten by half a step, the sums above by far less.
    return codes, scales, np.nextafter(lengths.astype(np.float32), np.float32(np.inf))


def _left_out(
    rows: NDArray[np.float32], codes: NDArray[np.int8], scales: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return |t - scale * codes| of each row, float64 [n], to 1e-12 of itself: the product is exact."""
    # What is damaged is not a number, and less than no error.
    with np.errstate(over="ignore", invalid="ignore"):
        rest = rows - scales[:, None].astype(np.float64) * codes
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", rest, rest)), np.float64)


def _chunks(templates: NDArray[np.float32], first: int, last: int, identity: bytes) -> NDArray[np.int8]:
    """Return the chunks `first` to `last` (without) as rows of the file."""
    dim = templates.shape[1]
    rows = chunk_rows(dim)
    raw = np.empty((last - first, 4 * _width(dim)), np.int8)
    raw[:, :_NAME_BYTES] = _named(identity)
    made = Compact._of_chunks(raw, dim)
    for chunk in range(first, last):
        for at in range(0, rows, _BLOCK_ROWS):
            part = slice(at, at + _BLOCK_ROWS)
            codes = made.codes[chunk - first, part]
            start = chunk * rows + at
            made_now = quantise(templates[start : start + len(codes)])
            codes[:], made.scales[chunk - first, part], made.errors[chunk - first, part] = made_now
    return raw


def _width(dim: int) -> int:
    """Return how many words of 4 bytes a chunk takes."""
    return (_NAME_BYTES + chunk_rows(dim) * (8 + dim)) // 4


def _named(identity: bytes) -> NDArray[np.int8]:
    if len(identity) > _NAME_BYTES:
        raise ValueError(f"a matrix is named by {_NAME_BYTES} bytes or fewer, not {len(identity)}")
    return np.frombuffer(identity.ljust(_NAME_BYTES, b"\0"), np.int8)
