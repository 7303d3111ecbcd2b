"""Exact search: the subjects most similar to a probe, among millions of templates, near the speed of memory.

Templates are scanned block by block, at first roughly: by their compact copy where there is one (int8, a fourth
of the bytes), else in float32. A rough similarity comes with a bound on its error. A row that may be among the
best by that bound is compared anew in double precision, and only this decides; the others are proved not to be.
So the answer is that of a scan in double precision, whatever was scanned, in whatever order, by how many threads,
and whichever probes are searched together.

The bounds, for a probe p and a row t of D numbers, both no longer than `LENGTH`:

- float32: |fl(p.t) - p.t| <= g |p| |t|, g = D u / (1 - D u), u = 2^-24, in any order of summation, with or without
  fused operations (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 2002, section 3.1).
- compact: with p' and t' for what the codes stand for, |p.t - p'.t'| = |p.(t - t') + (p - p').t'|
  <= |p| |t - t'| + |p - p'| |t'|, where |t - t'| comes with the copy and |p - p'| is measured. The products of
  the codes are summed in integers, exactly; scaling them rounds a few times, each by u of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facecli.gallery.store.files import COMPACT, MATRIX
from facecli.gallery.store.int8_copy import Compact, quantise
from facecli.gallery.store.unit import LONGEST, NoTemplate

LENGTH = LONGEST
"""No template is longer: unit rows are not, however they were rounded."""

_GROUP = 128
"""Probes that are scanned for together."""
_SCORES = 1 << 17
"""Rough similarities that a thread works on at once: they stay in the cache."""
_BLAS_SCORES, _BLAS_BYTES = 1 << 19, 16 << 20
"""The same in float32, and the bytes of the rows: the threads of BLAS wait for each other in every block."""
_NUMBERS = 1 << 16
"""Numbers of each side that are compared in double precision at once: larger ones leave the cache."""
_LEADERS = 1 << 19
"""Best owners that are kept at once, of all probes."""
_LONG_ROW = 384
"""Numbers from which a row is streamed: the two ways of the kernel take the same time at about 350."""
_FEW = 64
"""Rows a probe that are compared in double precision without looking for better ones in the block first."""
_WAITING = 4
"""Rows a probe that wait to be compared: merging costs about the same for one and for hundreds."""
_ROUNDING = 2.0**-21
"""Eight times u: roundings of single results, of the limit they are held against and in double precision."""
_UNDERFLOW = 2.0**-124
"""What underflow adds to rounding: less than 2^-125 for each of D products."""
_LOWEST = np.finfo(np.float32).min


class Best(NamedTuple):
    """The owners most similar to a probe, by their best rows: best first, ties by owner, then row."""

    owners: NDArray[np.int64]
    """[k], all different."""
    rows: NDArray[np.int64]
    """[k]"""
    similarities: NDArray[np.float64]
    """[k]"""


class _Block(NamedTuple):
    """Rough similarities of the rows from `first` on: those of probe m are `units[m] * scores[:, m]`."""

    first: int
    scores: NDArray[Any]
    """[n, M], to be written on."""
    units: NDArray[np.float64]
    """[M]"""
    bounds: NDArray[np.float64]
    """[M], of the errors of the similarities."""


def best_rows(
    templates: NDArray[np.float32],
    probes: NDArray[np.float32],
    top: int,
    *,
    owners: NDArray[np.integer[Any]] | None = None,
    shared: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]] | None = None,
    exclude: NDArray[np.integer[Any]] | None = None,
    compact: Compact | None = None,
    threads: int = 1,
) -> list[Best]:
    """Return, for each probe, the `top` owners with the most similar rows; fewer where there are fewer.

    `templates` float32 [N, D] and `probes` float32 [M, D] are finite and no longer than `LENGTH`; `top` >= 1. Raises
    `DatabaseError` where the similarity of one that may be among the best shows that it is not.
    `owners` [N] says whose a row is: a row of a negative owner is nobody's and is passed over; without `owners`,
    each row owns itself. `shared` are rows and their owners, [S] each, that count too: a row of several owners
    appears there once for each, and has a negative one in `owners`. `exclude` [M] names a row for each probe
    that is passed over, -1 for none. `compact` is a copy of the first rows.

    Holds some 20 MB, and 10 MB more for each of the `threads` that scan the copy, whatever N and M. What
    the copy does not cover is scanned by as many threads as NumPy takes.
    """
    probes = np.ascontiguousarray(probes, np.float32)
    templates = np.asarray(templates)  # a view without the costs of `memmap`
    usable = compact.below(len(templates)) if compact is not None else None
    if usable is not None and (not usable.n_rows or not _has_kernel()):
        usable = None
    n_covered = usable.n_rows if usable is not None else 0
    found: list[Best] = []
    # There are no more owners than that: memory is for those, and not for all that could be asked for.
    top = max(1, min(top, len(templates) + (len(shared[0]) if shared is not None else 0)))
    group = max(1, min(_GROUP, _LEADERS // top))
    for at in (slice(start, start + group) for start in range(0, len(probes), group)):
        excluded = exclude[at] if exclude is not None else np.full(len(probes[at]), -1)
        leaders = _Leaders(templates, probes[at], top, owners, excluded)
        if shared is not None:
            leaders.offer(*shared)
        if usable is not None:
            _scan_codes(leaders, probes[at], usable, threads)
        for block in _float_blocks(templates, probes[at], n_covered):
            leaders.take(block)
        found += leaders.best()
    return found


def _has_kernel() -> bool:
    try:
        import numkong  # noqa: F401
    except ImportError:
        return False
    return True


def _float_blocks(
    templates: NDArray[np.float32], probes: NDArray[np.float32], first: int
) -> Iterator[_Block]:
    """Scan the rows from `first` on in float32."""
    n, dim = templates.shape
    lost = dim * 2.0**-24
    bounds = _lengths(probes) * LENGTH * (lost / (1 - lost) + _ROUNDING) + dim * _UNDERFLOW
    units = np.ones(len(probes))
    step = max(64, min(_BLAS_SCORES // len(probes), _BLAS_BYTES // (4 * dim)))
    for start in range(first, n, step):
        rows = templates[start : start + step]
        # For one probe NumPy's own sum runs at the speed of memory: on one thread twice as fast as BLAS, and ten
        # times where the cores are busy.
        one = len(probes) == 1
        with np.errstate(over="ignore", invalid="ignore"):
            scores = np.einsum("nd,d->n", rows, probes[0])[:, None] if one else rows @ probes.T
        yield _Block(start, scores, units, bounds)


def _scan_codes(leaders: _Leaders, probes: NDArray[np.float32], compact: Compact, threads: int) -> None:
    """Scan the rows that have codes, each thread its share of the chunks."""
    n_chunks = len(compact.codes)
    threads = min(threads, n_chunks)
    if threads == 1:
        for block in _code_blocks(probes, compact, range(n_chunks)):
            leaders.take(block)
        return

    from concurrent.futures import ThreadPoolExecutor

    def scan(worker: int) -> None:
        for block in _code_blocks(probes, compact, range(worker, n_chunks, threads)):
            leaders.take(block)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(scan, range(threads)))


def _code_blocks(probes: NDArray[np.float32], compact: Compact, chunks: range) -> Iterator[_Block]:
    import numkong

    n_rows, dim = compact.codes.shape[1:]
    codes, scales, left_out = quantise(probes)
    units = np.where(scales > 0, scales, 1).astype(np.float64)
    lengths = _lengths(probes)
    # One probe streams through long rows; the product of matrices is better at short ones, and at several probes.
    packed = numkong.dots_pack(codes) if len(probes) > 1 or dim < _LONG_ROW else None
    step = max(64, _SCORES // len(probes))
    for chunk in chunks:
        if not compact.is_of_templates(chunk):
            raise NoTemplate(f"{COMPACT} holds what no template leaves out")
        error = float(compact.errors[chunk].max())
        bounds = lengths * error + left_out * (LENGTH + error) + dim * _UNDERFLOW
        bounds += (lengths + left_out) * (LENGTH + error) * _ROUNDING
        for start in range(0, n_rows, step):
            rows = compact.codes[chunk, start : start + step]
            if packed is None:
                products = np.asarray(numkong.cdist(codes, rows, "dot")).reshape(-1, 1)
            else:
                products = np.asarray(numkong.dots_packed(rows, packed))
            row_scales = compact.scales[chunk, start : start + step, None]
            scores = np.multiply(products, row_scales, dtype=np.float32, casting="unsafe")
            yield _Block(chunk * n_rows + start, scores, units, bounds)


def _lengths(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows.astype(np.float64), axis=1))


def similarities(
    templates: NDArray[np.float32], rows: NDArray[np.integer[Any]], probe: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Compare `rows` [n] of the templates with a probe [D] in double precision, as `best_rows` does: [n]."""
    return _compared(templates, rows, probe[None].astype(np.float64), np.zeros(len(rows), np.int64))


def _compared(
    templates: NDArray[np.float32],
    rows: NDArray[np.integer[Any]],
    probes: NDArray[np.float64],
    at: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Compare row `rows[k]` with probe `at[k]`, each pair summed alone so the others do not change its rounding."""
    found = np.empty(len(rows))
    step = max(1, _NUMBERS // templates.shape[1])
    for part in (slice(start, start + step) for start in range(0, len(rows), step)):
        with np.errstate(over="ignore", invalid="ignore"):
            found[part] = (templates[rows[part]] * probes[at[part]]).sum(axis=1)
    # Not a number compares as false.
    wrong = np.flatnonzero(~(np.abs(found) <= LONGEST))
    if len(wrong):
        # Probes may be longer, and it is the rows that are asked about.
        reach = LONGEST * _lengths(probes[at[wrong]]) * (1 + _ROUNDING)
        wrong = wrong[~(np.abs(found[wrong]) <= reach)]
    if len(wrong):
        raise NoTemplate(f"row {rows[wrong[0]]} of {MATRIX} has a similarity of {found[wrong[0]]:.6g}")
    return found


class _Leaders:
    """The best owners so far of some probes. Threads may take blocks at once."""

    def __init__(
        self,
        templates: NDArray[np.float32],
        probes: NDArray[np.float32],
        top: int,
        owners: NDArray[np.integer[Any]] | None,
        excluded: NDArray[np.integer[Any]],
    ) -> None:
        self._templates = templates
        self._probes = probes.astype(np.float64)
        self._owner_of = owners
        self._excluded = excluded
        self._similarities = np.full((len(probes), top), -np.inf)
        self._owners = np.zeros((len(probes), top), np.int64)
        self._rows = np.zeros((len(probes), top), np.int64)
        self._floor = np.full(len(probes), -np.inf)
        """[M]: a row of a lower similarity is not among the best. Only replaced, so a thread reads it whole."""
        self._noted: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        """Probes and rows that are still to be compared."""
        self._n_noted = 0
        self._lock = Lock()

    def best(self) -> list[Best]:
        self._settle()
        counts = (self._similarities > -np.inf).sum(axis=1)
        return [
            Best(self._owners[m, :k].copy(), self._rows[m, :k].copy(), self._similarities[m, :k].copy())
            for m, k in enumerate(counts)
        ]

    def offer(self, rows: NDArray[np.integer[Any]], owners: NDArray[np.integer[Any]]) -> None:
        """Compare all of `rows` [S] with all probes."""
        for m in range(len(self._probes)):
            self._compare(np.full(len(rows), m), rows, owners)

    def take(self, block: _Block) -> None:
        """Note the rows of `block` that may be among the best, and compare them when there are enough."""
        top = self._rows.shape[1]
        few = max(_FEW, 2 * top)
        while True:
            limits = np.maximum((self._floor - block.bounds) / block.units, _LOWEST).astype(np.float32)
            # What is not a number is marked as well, and found out where it is compared.
            marked = block.scores < limits
            np.logical_not(marked, out=marked)
            count = np.count_nonzero(marked)
            if count <= few * len(limits):
                break
            # So many only while the floor is low: the best of the block raise it for the others.
            n = len(block.scores)
            likely = np.zeros_like(marked)
            np.put_along_axis(likely, np.argpartition(block.scores, n - few, axis=0)[n - few :], True, axis=0)
            likely &= marked
            self._note(block.first, likely)
            self._settle()
            block.scores[likely] = -np.inf
            few *= 4
        if count:
            self._note(block.first, marked)
            if self._n_noted > max(max(_WAITING, top) * len(limits), _FEW):
                self._settle()

    def _note(self, first: int, marked: NDArray[np.bool_]) -> None:
        # Ten times as fast as `nonzero` of two dimensions.
        rows, at = np.divmod(np.flatnonzero(marked), marked.shape[1])
        with self._lock:
            self._noted.append((at, rows + first))
            self._n_noted += len(at)

    def _settle(self) -> None:
        """Compare what was noted."""
        with self._lock:
            noted, self._noted, self._n_noted = self._noted, [], 0
        if noted:
            at, rows = map(np.concatenate, zip(*noted, strict=True))
            owners = self._owner_of[rows] if self._owner_of is not None else rows
            self._compare(at[owners >= 0], rows[owners >= 0], owners[owners >= 0])

    def _compare(
        self, at: NDArray[np.int64], rows: NDArray[np.integer[Any]], owners: NDArray[np.integer[Any]]
    ) -> None:
        """Compare probes and rows in double precision, pair by pair; keep the best and raise the floor."""
        similarities = _compared(self._templates, rows, self._probes, at)
        with self._lock:
            kept = (similarities >= self._floor[at]) & (rows != self._excluded[at])
            if kept.any():
                self._merge(at[kept], rows[kept], owners[kept], similarities[kept])

    def _merge(
        self,
        at: NDArray[np.int64],
        rows: NDArray[np.integer[Any]],
        owners: NDArray[np.integer[Any]],
        similarities: NDArray[np.float64],
    ) -> None:
        touched = np.unique(at)
        known = self._similarities[touched] > -np.inf  # [touched, top]
        at = np.concatenate([np.nonzero(known)[0], np.searchsorted(touched, at)])
        rows = np.concatenate([self._rows[touched][known], rows])
        owners = np.concatenate([self._owners[touched][known], owners])
        similarities = np.concatenate([self._similarities[touched][known], similarities])
        order = np.lexsort((rows, owners, -similarities, at))
        # The first of each owner stays; lexsort keeps the order of equals.
        by_owner = order[np.lexsort((owners[order], at[order]))]
        is_first = np.ones(len(order), bool)
        is_first[1:] = (np.diff(at[by_owner]) != 0) | (np.diff(owners[by_owner]) != 0)
        stays = np.zeros(len(order), bool)
        stays[by_owner[is_first]] = True
        order = order[stays[order]]
        rank = np.arange(len(order)) - np.searchsorted(at[order], at[order])
        order, rank = order[rank < known.shape[1]], rank[rank < known.shape[1]]
        places = touched[at[order]], rank
        self._similarities[touched] = -np.inf
        self._similarities[places] = similarities[order]
        self._owners[places] = owners[order]
        self._rows[places] = rows[order]
        self._floor = self._similarities[:, -1].copy()
