"""Exact search: the same owners as a scan in double precision, whatever is scanned; and the compact copy's file."""

from __future__ import annotations

import math
import sys
import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecli.files.npy import HEADER_BYTES
from facecli.gallery.store import int8_copy, search
from facecli.gallery.store.int8_copy import Compact, chunk_rows, extend, quantise
from facecli.gallery.store.search import Best, best_rows

KINDS = ("random", "near", "equal", "one-hot", "zero", "denormal", "last bit", "outlier", "same sign")


def rows_of(rng, n, dim, kind):
    """Rows no longer than 1, float32 [n, dim], of a kind that is hard on rough similarities."""
    rows = rng.standard_normal((n, dim))
    if kind == "near":
        rows = rows[:1] + 1e-4 * rows
    elif kind == "equal":
        rows = np.repeat(rows[:1], n, axis=0)
    elif kind == "one-hot":
        rows = np.eye(dim)[rng.integers(0, dim, n)] * rng.choice([-1, 1], (n, 1))
    elif kind == "outlier":
        rows[:, 0] = 100
    elif kind == "same sign":
        rows = 1 + 0.01 * rows
    unit = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)).astype(np.float32)
    if kind == "zero":
        unit[:] = 0
    elif kind == "denormal":
        unit *= np.float32(10) ** rng.integers(-45, -37, (n, 1)).astype(np.float32)
    elif kind == "last bit":
        unit = np.repeat(unit[:1], n, axis=0)
        at = rng.integers(0, dim, n)
        unit[np.arange(n), at] = np.nextafter(unit[np.arange(n), at], np.float32(0))
    return unit


def mixed(rng, n, dim, kinds):
    of = rng.integers(0, len(kinds), n)
    return np.stack([rows_of(rng, n, dim, kind) for kind in kinds])[of, np.arange(n)]


def copy_of(templates, n_chunk):
    """A compact copy in chunks of `n_chunk` rows, for matrices that fill no real one."""
    n = len(templates) // n_chunk * n_chunk
    codes, scales, errors = quantise(templates[:n])
    shape = n // n_chunk, n_chunk
    return Compact(codes.reshape(*shape, templates.shape[1]), scales.reshape(shape), errors.reshape(shape))


def scan(templates, probe, top, owners, shared, excluded):
    """The definition: everything in double precision, sorted."""
    rows = np.arange(len(templates))
    owners = owners if owners is not None else rows
    rows, owners = rows[owners >= 0], owners[owners >= 0]
    if shared is not None:
        rows, owners = np.concatenate([rows, shared[0]]), np.concatenate([owners, shared[1]])
    rows, owners = rows[rows != excluded], owners[rows != excluded]
    similarities = (templates[rows] * probe.astype(np.float64)).sum(axis=1)
    order = np.lexsort((rows, owners, -similarities))
    _, first = np.unique(owners[order], return_index=True)
    order = order[np.sort(first)][:top]
    return Best(owners[order], rows[order], similarities[order])


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, dim, m = draw(st.integers(1, 300)), draw(st.integers(1, 40)), draw(st.integers(1, 9))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
    templates = mixed(rng, n, dim, kinds)
    probes = mixed(rng, m, dim, [*kinds, "random"])
    probes[: m // 2] = templates[rng.integers(0, n, m // 2)]
    owners = rng.integers(-2, draw(st.integers(1, n)), n).astype(np.int32) if draw(st.booleans()) else None
    shared = None
    if owners is not None and (owners == -2).any():
        twice = np.repeat(np.flatnonzero(owners == -2), 2)
        shared = twice, rng.integers(0, n, len(twice)).astype(np.int32)
    exclude = rng.integers(-1, n, m) if draw(st.booleans()) else None
    return templates, probes, draw(st.sampled_from([1, 2, 10, n + 1])), owners, shared, exclude


@settings(deadline=None, max_examples=100)
@given(cases(), st.sampled_from([None, 16, 70]), st.sampled_from([1, 2]), st.booleans())
def test_finds_what_a_scan_in_double_precision_finds(case, n_chunk, threads, small):
    templates, probes, top, owners, shared, exclude = case
    limits = (
        {"_FEW": 1, "_SCORES": 1, "_BLAS_SCORES": 1, "_WAITING": 0, "_GROUP": 4, "_NUMBERS": 64}
        if small
        else {"_FEW": 64}
    )
    with patch.multiple(search, **limits):
        found = best_rows(
            templates,
            probes,
            top,
            owners=owners,
            shared=shared,
            exclude=exclude,
            compact=copy_of(templates, n_chunk) if n_chunk else None,
            threads=threads,
        )
    for m, best in enumerate(found):
        excluded = exclude[m] if exclude is not None else -1
        assert same(best, scan(templates, probes[m], top, owners, shared, excluded))


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32), st.sampled_from(KINDS), st.sampled_from(KINDS), st.sampled_from([1, 7, 128, 700])
)
def test_rough_similarities_are_within_their_bounds(seed, kind, probe_kind, dim):
    rng = np.random.default_rng(seed)
    templates = rows_of(rng, 70, dim, kind)
    for m in (1, 3):
        probes = rows_of(rng, m, dim, probe_kind)
        exact = [[math.fsum(t.astype(float) * p.astype(float)) for p in probes] for t in templates]
        blocks = list(search._float_blocks(templates, probes, 0))
        blocks += search._code_blocks(probes, copy_of(templates, 35), range(2))
        for block in blocks:
            rough = block.scores.astype(np.float64) * block.units
            wrong = np.abs(rough - exact[block.first : block.first + len(rough)])
            assert (wrong <= block.bounds).all()


def test_the_bound_of_the_copy_is_not_idle():
    """A copy that is wrong by more than it says makes the search miss; so the errors are what holds it."""
    rng = np.random.default_rng(0)
    templates = rows_of(rng, 640, 64, "random")
    probe = templates[100:101]
    honest = copy_of(templates, 64)
    codes = honest.codes.copy()
    codes[1, 36] = 0  # row 100
    wrong = Compact(codes, honest.scales, honest.errors)
    errors = honest.errors.copy()
    errors[1, 36] = 1
    owning_up = Compact(codes, honest.scales, errors)
    with patch.object(search, "_FEW", 1):
        found = [
            best_rows(templates, probe, 1, compact=copy)[0].rows[0] for copy in (honest, wrong, owning_up)
        ]
    assert (found[0] == 100, found[1] == 100, found[2] == 100) == (True, False, True)
    assert honest.agrees(templates)
    assert not wrong.agrees(templates)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.integers(1, 200))
def test_what_codes_leave_out_is_never_understated(seed, kind, dim):
    rows = rows_of(np.random.default_rng(seed), 5, dim, kind)
    codes, scales, errors = quantise(rows)
    assert codes.min() >= -127
    for row, code, scale, error in zip(rows, codes, scales, errors, strict=True):
        rest = [float(x) - float(scale) * int(c) for x, c in zip(row, code, strict=True)]
        assert math.hypot(*rest) <= float(error)
        assert error <= 0.51 * float(scale) * math.sqrt(dim) + 1e-42 * dim


def test_without_the_kernel_the_answer_is_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    templates, probes = rows_of(rng, 500, 32, "random"), rows_of(rng, 5, 32, "random")
    copy = copy_of(templates, 100)
    with_it = best_rows(templates, probes, 7, compact=copy)
    monkeypatch.setitem(sys.modules, "numkong", None)
    monkeypatch.setattr(search, "_scan_codes", None)
    assert all(map(same, best_rows(templates, probes, 7, compact=copy), with_it))


def test_the_copy_is_scanned_in_place_of_the_rows_it_covers():
    """Not only when a row looks good: what it hides is not found."""
    rng = np.random.default_rng(2)
    templates, probes = rows_of(rng, 300, 32, "random"), rows_of(rng, 2, 32, "random")
    copy = copy_of(templates, 128)
    hidden = Compact(np.zeros_like(copy.codes), copy.scales, np.zeros_like(copy.errors))
    with patch.object(search, "LENGTH", 0.0):
        for best in best_rows(templates, probes, 5, compact=hidden):
            assert set(best.rows[:5]) - set(range(256))


@pytest.mark.slow
def test_a_similarity_does_not_depend_on_the_company():
    rng = np.random.default_rng(3)
    templates, probes = rows_of(rng, 3000, 100, "random"), rows_of(rng, 200, 100, "random")
    together = best_rows(templates, probes, 5)
    alone = [best_rows(templates, probe[None], 5, compact=copy_of(templates, 64))[0] for probe in probes]
    assert all(map(same, together, alone))


@pytest.mark.parametrize("with_copy", [False, True])
def test_memory_stays_small(with_copy):
    """20,000 x 500 similarities alone would be 40 MB."""
    rng = np.random.default_rng(4)
    templates, probes = rows_of(rng, 20_000, 64, "random"), rows_of(rng, 500, 64, "random")
    copy = copy_of(templates, 5000) if with_copy else None
    tracemalloc.start()
    best_rows(templates, probes, 10, compact=copy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_nobody():
    probe = np.ones((2, 4), np.float32) / 2
    nothing = np.empty((0, 4), np.float32)
    assert [len(best.rows) for best in best_rows(nothing, probe, 3)] == [0, 0]
    assert best_rows(probe, nothing, 3) == []
    assert len(best_rows(probe, probe[:1], 3, owners=np.array([-1, -1], np.int32))[0].rows) == 0


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 64 rows of 8 numbers, two of which are written at a time."""
    monkeypatch.setattr(int8_copy, "CHUNK_BYTES", 512)
    monkeypatch.setattr(int8_copy, "_APPEND_BYTES", 2100)
    assert chunk_rows(8) == 64


@pytest.fixture
def templates():
    return rows_of(np.random.default_rng(5), 64 * 5 + 3, 8, "random")


@pytest.mark.usefixtures("small_chunks")
class TestFile:
    def test_covers_whole_chunks_and_grows(self, tmp_path, templates):
        path = tmp_path / "compact.npy"
        assert Compact.open(path, 8, b"a").n_rows == 0
        extend(path, templates[:63], b"a")
        assert Compact.open(path, 8, b"a").n_rows == 0
        extend(path, templates[:130], b"a")
        before = Compact.open(path, 8, b"a")
        first = path.read_bytes()[HEADER_BYTES:]
        extend(path, templates, b"a")
        after = Compact.open(path, 8, b"a")
        assert (before.n_rows, after.n_rows) == (128, 320)
        assert path.read_bytes()[HEADER_BYTES:].startswith(first)
        assert after.agrees(templates)
        assert before.agrees(templates)
        assert not after.agrees(templates[:319])
        assert not after.agrees(np.roll(templates, 1, axis=0))
        whole = Compact.of(templates)
        for a, b in ((whole.codes, after.codes), (whole.scales, after.scales), (whole.errors, after.errors)):
            np.testing.assert_array_equal(a, b)
        assert np.load(path, mmap_mode="r").shape == (5, (64 + 64 * (8 + 8)) // 4)
        assert same(
            best_rows(templates, templates[7:8], 9, compact=after)[0],
            best_rows(templates, templates[7:8], 9)[0],
        )

    def test_one_of_another_matrix_is_passed_over_and_replaced(self, tmp_path, templates):
        path = tmp_path / "compact.npy"
        extend(path, templates, b"a")
        old = Compact.open(path, 8, b"a")
        assert Compact.open(path, 8, b"b").n_rows == 0
        assert Compact.open(path, 4, b"a").n_rows == 0
        other = np.ascontiguousarray(templates[::-1])
        extend(path, other[:200], b"b")
        assert Compact.open(path, 8, b"a").n_rows == 0
        assert Compact.open(path, 8, b"b").agrees(other)
        assert Compact.open(path, 8, b"b").n_rows == 192
        assert old.agrees(templates)  # who has mapped it keeps it

    def test_chunks_of_two_matrices_are_none(self, tmp_path, templates):
        path = tmp_path / "compact.npy"
        extend(path, templates, b"a")
        data = bytearray(path.read_bytes())
        data[HEADER_BYTES + 2 * (64 + 64 * 16)] ^= 1
        path.write_bytes(data)
        assert Compact.open(path, 8, b"a").n_rows == 0

    @pytest.mark.parametrize("cut", [0, 1, 127, 128, 129, 128 + 1088, 128 + 1088 + 700])
    def test_a_torn_file_counts_whole_chunks_and_is_mended(self, tmp_path, templates, cut):
        path = tmp_path / "compact.npy"
        extend(path, templates, b"a")
        path.write_bytes(path.read_bytes()[:cut])
        assert Compact.open(path, 8, b"a").n_rows == max(0, (cut - 128) // 1088) * 64
        extend(path, templates, b"a")
        assert Compact.open(path, 8, b"a").n_rows == 320
        assert Compact.open(path, 8, b"a").agrees(templates)

    def test_a_writer_that_dies_has_counted_nothing(self, tmp_path, templates):
        path = tmp_path / "compact.npy"
        extend(path, templates[:64], b"a")
        counted = path.read_bytes()[:HEADER_BYTES]
        extend(path, templates[::-1][:192], b"a")
        path.write_bytes(counted + path.read_bytes()[HEADER_BYTES:-100])
        extend(path, templates, b"a")
        assert Compact.open(path, 8, b"a").agrees(templates)

    def test_rows_that_change_are_forgotten_first(self, tmp_path, templates):
        path = tmp_path / "compact.npy"
        int8_copy.forget_from(path, 0, 8)
        extend(path, templates, b"a")
        int8_copy.forget_from(path, 320, 8)
        assert Compact.open(path, 8, b"a").n_rows == 320
        int8_copy.forget_from(path, 319, 8)
        assert not path.exists()

    def test_a_copy_of_more_rows_than_there_are_is_cut(self, tmp_path, templates):
        path = tmp_path / "compact.npy"
        extend(path, templates, b"a")
        copy = Compact.open(path, 8, b"a")
        for n in (0, 63, 100, 320):
            found = best_rows(templates[:n], templates[300:301], 5, compact=copy)
            assert same(found[0], best_rows(templates[:n], templates[300:301], 5)[0])

    def test_a_long_name_is_refused(self, tmp_path, templates):
        with pytest.raises(ValueError, match="64 bytes"):
            extend(tmp_path / "compact.npy", templates, b"x" * 65)


def test_more_may_be_asked_for_than_there_is():
    templates = mixed(np.random.default_rng(0), 50, 8, ["random"])
    owners = np.full(50, -2, np.int32)
    shared = np.repeat(np.arange(50), 2), np.arange(100)
    for those in ((None, None), (owners, shared)):
        found = best_rows(templates, templates[:3], 10**15, owners=those[0], shared=those[1])
        for probe, best in zip(templates, found, strict=False):
            assert same(best, scan(templates, probe, 100, *those, -1))
