"""What is on the disk: the matrix, the index, and what a crash at any step leaves."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from standin import DIM, half_commit, template

from facecli.errors import DatabaseError, NoFace
from facecli.files import npy
from facecli.files.npy import append_rows, map_rows, write_empty
from facecli.gallery.store import derived, int8_copy, row_owners, writer
from facecli.gallery.store.files import COMPACT, INDEX, MATRIX, SWAP, Damaged
from facecli.gallery.store.fingerprint import NO_PHOTOS, fingerprint, stat_text, state
from facecli.gallery.store.index import locked
from facecli.gallery.store.location import places
from facecli.gallery.store.names import Photo
from facecli.gallery.store.vacuum import compact as compact_store
from facecli.gallery.store.writer import Store
from facecli.templates.template import Enrolled


def enrolled(data, dim=DIM):
    return Enrolled(template(data, dim), (0, 0, 1, 1), ((0, 0),) * 5, 0.9, 0, 1)


def photo(name, stat="1 2 3 4"):
    subject, path = name.split("/", 1)
    return Photo(subject.encode(), path.encode(), stat, 1)


def digest(at):
    return bytes([at % 256, at // 256]) * 16


def commit(store, ats, subject="Ada", complete=True):
    store.commit(
        {digest(at): enrolled(b"%d" % at) for at in ats},
        [(photo(f"{subject}/{at:03}.jpg"), digest(at)) for at in ats],
        [],
        limits="",
        complete=complete,
    )


def assert_holds(folder, n):
    """Check that exactly the first `n` contents are kept, each with its own template."""
    with Store.reading(folder, DIM) as store:
        snapshot, samples = store.snapshot(), store.samples()
    assert [path for _, path, _ in samples] == [b"%03d.jpg" % at for at in range(n)]
    assert len(snapshot.templates) == n
    for at, (_, _, row) in enumerate(samples):
        assert snapshot.templates[row].tobytes() == template(b"%d" % at).tobytes()


# The matrix


@pytest.mark.parametrize("dim", [1, 128, 2048])
def test_numpy_reads_the_matrix_after_every_append(tmp_path, dim):
    path = tmp_path / "m.npy"
    write_empty(path, dim)
    rows = np.random.default_rng(0).standard_normal((1005, dim)).astype(np.float32)
    done = 0
    for n in (0, 1, 9, 90, 905):
        append_rows(path, done, rows[done : done + n])
        done += n
        for mode in ("r", None):
            np.testing.assert_array_equal(np.load(path, mmap_mode=mode), rows[:done])
        np.testing.assert_array_equal(map_rows(path, dim), rows[:done])
    assert np.load(path).dtype == np.float32
    assert path.stat().st_size == 128 + rows.nbytes


def test_the_changing_digits_of_the_header_share_a_cache_line():
    small, large = npy.header(9, DIM), npy.header(10**15, DIM)
    differ = [at for at in range(128) if small[at] != large[at]]
    assert len(small) == len(large) == 128
    assert (min(differ), max(differ)) >= (64, 79)
    assert max(differ) < 128


@pytest.mark.parametrize(
    "data",
    [b"", b"\x93NUMPY", b"x" * 500, npy.header(3, DIM + 1), npy.header(3, DIM).replace(b"3", b"-")],
)
def test_what_is_no_matrix_of_ours_has_no_rows(tmp_path, data):
    path = tmp_path / "m.npy"
    path.write_bytes(data + bytes(1000))
    assert map_rows(path, DIM).shape == (0, DIM)
    with pytest.raises(FileNotFoundError):
        map_rows(tmp_path / "missing.npy", DIM)


def test_a_count_beyond_the_end_of_the_file_is_not_believed(tmp_path):
    path = tmp_path / "m.npy"
    path.write_bytes(npy.header(10, DIM) + bytes(4 * DIM * 3 + 5))
    assert len(map_rows(path, DIM)) == 3


def test_a_mapped_matrix_outlives_a_new_one(tmp_path):
    path = tmp_path / "m.npy"
    write_empty(path, DIM)
    append_rows(path, 0, np.ones((4, DIM), np.float32))
    mapped = map_rows(path, DIM)
    write_empty(path, DIM)
    append_rows(path, 0, np.zeros((4, DIM), np.float32))
    assert mapped.sum() == 4 * DIM
    assert not mapped.flags.writeable


# The store


def test_what_is_committed_comes_back(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(3))
        store.commit(
            {digest(9): NoFace("no face was found", path="x\udce9.jpg", hint="h\udce9")},
            [(photo("Zed/9.jpg", "9 9 9 9"), digest(9))],
            [(b"Ada", b"001.jpg")],
            limits="fine",
            complete=False,
        )
    with Store.reading(tmp_path, DIM) as store:
        snapshot = store.snapshot()
        assert store.samples() == [(b"Ada", b"000.jpg", 0), (b"Ada", b"002.jpg", 2)]
        assert store.failures() == [(b"Zed", b"9.jpg", "no_face", "no face was found; h\\udce9")]
        assert not snapshot.complete
        assert sorted(store.fingerprints("fine")) == [b"Ada", b"Zed"]
        assert store.known(b"Zed", "fine") == {b"9.jpg": "9 9 9 9"}
        assert store.known(b"Zed", "coarse") == {b"9.jpg": ""}
        assert store.has(digest(9), "fine")
        assert not store.has(digest(9), "coarse")
        assert store.has(digest(1), "coarse")
        assert not store.has(digest(8), "fine")


def test_a_subject_without_samples_is_forgotten(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, [0, 1])
        commit(store, [2], subject="Bob")
        store.commit({}, [], [(b"Bob", b"002.jpg"), (b"Ada", b"000.jpg")], limits="", complete=True)
        assert list(store.fingerprints("")) == [b"Ada"]


def test_a_store_that_lost_rows_is_incomplete_until_they_are_back(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(5))
    os.truncate(tmp_path / MATRIX, 128 + 3 * DIM * 4)
    with Store.reading(tmp_path, DIM) as store:
        assert store.complete()
        assert sorted(path for path, stat in store.known(b"Ada", "").items() if not stat) == [
            b"003.jpg",
            b"004.jpg",
        ]
    with Store.writing(tmp_path, DIM, None) as store:
        assert not store.complete()
        assert not store.has(digest(3), "")
    assert_holds(tmp_path, 3)


def test_templates_of_another_length_are_a_bug_and_change_nothing(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, [0])
        with pytest.raises(ValueError, match="8 numbers"):
            store.commit({digest(1): enrolled(b"1", 8)}, [], [], limits="", complete=True)
    assert_holds(tmp_path, 1)


def test_photos_may_be_looked_up_in_another_thread(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, [0])
        answers = []
        thread = threading.Thread(target=lambda: answers.append(store.has(digest(0), "")))
        thread.start()
        thread.join()
    assert answers == [True]


class PowerCut(BaseException):
    """From here on nothing reaches the disk any more."""


@pytest.mark.parametrize("survives", range(4))
def test_a_crash_at_any_step_of_a_commit_leaves_the_old_state_or_the_new(tmp_path, monkeypatch, survives):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(5))
    steps = iter(range(10))
    really = os.fsync

    def fsync(number):
        if next(steps) >= survives:
            raise PowerCut
        really(number)

    def die(*_):
        raise PowerCut

    with Store.writing(tmp_path, DIM, None) as store:
        monkeypatch.setattr(npy.os, "fsync", fsync)
        if survives < 2:
            with pytest.raises(PowerCut):
                commit(store, range(5, 12))
        elif survives == 2:
            # The matrix is whole; the process dies before the index says so.
            monkeypatch.setattr(writer, "_put_content", die)
            with pytest.raises(PowerCut):
                commit(store, range(5, 12))
        else:
            commit(store, range(5, 12))
    monkeypatch.undo()
    assert_holds(tmp_path, 12 if survives == 3 else 5)
    assert np.load(tmp_path / MATRIX, mmap_mode="r").shape[0] >= 5
    with Store.writing(tmp_path, DIM, None) as store:
        if survives < 3:
            commit(store, range(5, 12))
        commit(store, range(12, 20))
    assert_holds(tmp_path, 20)
    assert np.load(tmp_path / MATRIX, mmap_mode="r").shape == (20, DIM)


def test_a_reader_takes_back_what_a_dead_writer_half_committed(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(50))
    half_commit(tmp_path)
    assert_holds(tmp_path, 50)
    assert not (tmp_path / f"{INDEX}-journal").exists()


def test_the_journal_of_an_index_that_was_deleted_does_not_spoil_the_next(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(50))
    half_commit(tmp_path)
    (tmp_path / INDEX).unlink()
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(7))
    assert_holds(tmp_path, 7)


def test_what_is_left_of_an_earlier_store_does_not_spoil_a_copy(tmp_path, small_copy):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    with Store.writing(source, DIM, None) as store:
        commit(store, range(30))
    shutil.copytree(source, target)
    with Store.writing(target, DIM, None) as store:
        commit(store, range(200, 270), "Bea")
    half_commit(target)
    (target / INDEX).unlink()
    with Store.writing(source, DIM, None) as store:
        commit(store, range(30, 100))
        store.copy_to(target)
    assert not (target / f"{INDEX}-journal").exists()
    assert_holds(target, 100)
    with Store.reading(target, DIM) as store:
        snapshot = store.snapshot()
    assert snapshot.compact.agrees(snapshot.templates)


def test_a_copy_made_beside_a_compaction_is_of_one_moment(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with Store.writing(source, DIM, None) as store:
        commit(store, range(100, 130), "Bea")
        commit(store, range(100))
    compaction = threading.Thread(target=compact_store, args=(source, DIM), kwargs={"forget": b"Bea"})
    asked = Store.fact

    def fact(store, key):
        found = asked(store, key)
        if key == "swap" and threading.current_thread() is threading.main_thread() and not compaction.ident:
            compaction.start()
            compaction.join(0.3)
        return found

    with Store.reading(source, DIM) as store:
        monkeypatch.setattr(Store, "fact", fact)
        store.copy_to(target)
    compaction.join()
    monkeypatch.undo()
    assert_holds(source, 100)
    with Store.reading(target, DIM) as store:
        templates = store.snapshot().templates
        for _, path, row in store.samples():
            assert templates[row].tobytes() == template(b"%d" % int(path.split(b".")[0])).tobytes()


def test_a_reader_beside_a_commit_sees_the_state_before_it(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(3))
        other = sqlite3.connect(tmp_path / INDEX, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM samples")
        assert_holds(tmp_path, 3)
        other.execute("ROLLBACK")
        other.close()


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_the_store_intact(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=200k none "$1" && shift && exec "$@"'
    body = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:];"
        "import test_store; test_store.fill(Path(sys.argv[1]))"
    )
    here = os.path.dirname(__file__)
    try:
        command = ["unshare", "-m", "sh", "-c", script, "sh", small]
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot make a small file system here: {error}")
    done = subprocess.run(
        [*command, sys.executable, "-c", body, small, here, os.path.dirname(here)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot" in done.stdout
    assert int(done.stdout.split()[-1]) > 100


def fill(folder):
    """Commit until `folder` is full, check what is there, and print the message and the count."""
    n = 0
    try:
        with Store.writing(folder, DIM, None) as store:
            for n in range(0, 100_000, 25):
                commit(store, range(n, n + 25))
    except DatabaseError as error:
        assert_holds(folder, n)
        print(error, n)


def test_a_second_writer_waits_and_says_so(tmp_path):
    notices = []
    waiting = threading.Event()

    def second():
        def notify(text):
            notices.append(text)
            waiting.set()

        with Store.writing(tmp_path, DIM, notify) as store:
            commit(store, range(3, 5))

    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(3))
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert_holds(tmp_path, 3)
    thread.join()
    assert_holds(tmp_path, 5)
    assert notices == ["another process is enrolling into this database; waiting for it to finish"]


def test_a_foreign_database_is_damage(tmp_path):
    connection = sqlite3.connect(tmp_path / INDEX)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    with pytest.raises(Damaged, match="not an index of templates"), Store.reading(tmp_path, DIM):
        pass


def test_an_older_format_is_named_and_made_again(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(3))
    with closing(sqlite3.connect(tmp_path / INDEX)) as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(Damaged, match=r"is of an older facecli \(format 1\)"), Store.reading(tmp_path, DIM):
        pass


def test_a_lock_that_cannot_be_taken_is_an_error_with_a_place(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(DatabaseError, match="file: templates cannot be kept"),
        locked(tmp_path / "file", None),
    ):
        pass


# Places


def test_the_place_outside_depends_on_the_folder_and_the_embedder(tmp_path):
    first = places(tmp_path / "a", "e/1", tmp_path / "cache")
    assert first.inner == tmp_path / "a/.facecli/e%2F1"
    assert first.outer.is_relative_to(tmp_path / "cache/databases")
    assert places(tmp_path / "a/../a", "e/1", tmp_path / "cache").outer == first.outer
    assert places(tmp_path / "b", "e/1", tmp_path / "cache").outer != first.outer
    assert places(tmp_path / "a", "e/2", tmp_path / "cache").outer != first.outer


def test_a_medium_with_a_half_commit_that_nobody_can_take_back_is_passed_over(tmp_path, monkeypatch):
    place = places(tmp_path / "people", "e", tmp_path / "cache")
    place.inner.mkdir(parents=True)
    with Store.writing(place.inner, DIM, None) as store:
        commit(store, range(50))
    half_commit(place.inner)
    # As on a read-only medium: SQLite may not play the journal back.
    really = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda name, **options: really(name.replace("mode=rw", "mode=ro"), **options)
    )
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert place.current() == place.outer
    assert place.to_write(DIM, None) == place.outer


# What is derived


def derived_of(folder):
    """Return the derived parts of an index, and the same counted naively from its samples."""
    with Store.reading(folder, DIM) as store:
        snapshot = store.snapshot()
    connection = sqlite3.connect(folder / INDEX)
    kept = {
        name: counts
        for name, *counts in connection.execute("SELECT name, n_samples, n_failed, n_several FROM subjects")
    }
    ids = dict(connection.execute("SELECT id, name FROM subjects"))
    shown = connection.execute(
        "SELECT subject, row, n_faces FROM samples JOIN contents ON contents.id = content"
    ).fetchall()
    connection.close()
    counted, who = {}, {}
    for subject, row, n_faces in shown:
        counts = counted.setdefault(ids[subject], [0, 0, 0])
        counts[row is None] += 1
        if row is not None:
            counts[2] += n_faces > 1
            who.setdefault(row, set()).add(subject)
    owned = [row_owners.NOBODY] * len(snapshot.templates)
    for row, subjects in who.items():
        owned[row] = subjects.pop() if len(subjects) == 1 else row_owners.SEVERAL
    assert snapshot.n_samples == sum(counts[0] for counts in counted.values())
    assert snapshot.n_subjects == sum(counts[0] > 0 for counts in counted.values())
    assert snapshot.n_several == sum(counts[2] for counts in counted.values())
    return (kept, snapshot.owners.tolist()), (counted, owned)


def test_counts_and_owners_follow_every_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(row_owners, "CHUNK", 7)
    rng = np.random.default_rng(1)
    for _ in range(60):
        with Store.writing(tmp_path, DIM, None) as store:
            drawn = rng.integers(40, size=5).tolist()
            results = {}
            for at in drawn:
                if at % 5 == 4 and rng.random() < 0.5:
                    results[digest(at)] = NoFace("no face was found")
                elif not store.has(digest(at), ""):
                    results[digest(at)] = replace(enrolled(b"%d" % at), n_faces=1 + at % 3)
            samples = [(photo(f"s{rng.integers(6)}/{rng.integers(4)}.jpg"), digest(at)) for at in drawn]
            removed = [(b"s%d" % rng.integers(6), b"%d.jpg" % rng.integers(4)) for _ in range(3)]
            store.commit(results, samples, removed, limits="", complete=bool(rng.integers(2)))
        kept, counted = derived_of(tmp_path)
        assert kept == counted
    os.truncate(tmp_path / MATRIX, 128 + 11 * DIM * 4)
    with Store.writing(tmp_path, DIM, None):
        kept, counted = derived_of(tmp_path)
    assert kept == counted


def test_a_fingerprint_stands_for_what_all_photos_of_a_subject_look_like(tmp_path):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, [0, 1], complete=False)
        assert store.fingerprints("") == {b"Ada": None}
        commit(store, [2], subject="Bob")
        assert store.fingerprints("") == {
            b"Ada": fingerprint([(b"000.jpg", 1, 2, 3, 4), (b"001.jpg", 1, 2, 3, 4)]),
            b"Bob": fingerprint([(b"002.jpg", 1, 2, 3, 4)]),
        }
        # A photo that was too young, one that failed under other limits, one that was only imported.
        store.commit({}, [(photo("Bob/003.jpg", ""), digest(0))], [], limits="", complete=True)
        failed = {digest(9): NoFace("no face was found")}
        store.commit(failed, [(photo("Cyd/1.jpg"), digest(9))], [], limits="fine", complete=True)
        store.commit({}, [(photo("Dan/1.jpg", None), digest(1))], [], limits="fine", complete=True)
        assert store.fingerprints("fine") == {
            b"Ada": fingerprint([(b"000.jpg", 1, 2, 3, 4), (b"001.jpg", 1, 2, 3, 4)]),
            b"Bob": None,
            b"Cyd": fingerprint([(b"1.jpg", 1, 2, 3, 4)]),
            b"Dan": NO_PHOTOS,
        }
        assert store.fingerprints("coarse")[b"Cyd"] is None
        assert store.known(b"Dan", "fine") == {}
    os.truncate(tmp_path / MATRIX, 128 + 1 * DIM * 4)
    with Store.reading(tmp_path, DIM) as store:
        assert {name for name, print_ in store.fingerprints("fine").items() if print_} == {b"Cyd"}


def test_inodes_do_not_count_where_listing_a_folder_does_not_tell_them(monkeypatch):
    assert state(b"1.jpg", stat_text(1, 2, 3, 4)) == (b"1.jpg", 1, 2, 3, 4)
    monkeypatch.setattr("facecli.gallery.store.fingerprint._INODES", False)
    assert state(b"1.jpg", stat_text(1, 2, 3, 4)) == (b"1.jpg", 1, 2, 3, 0)


def test_a_fingerprint_depends_on_the_values_alone():
    name = b"1.jpg"
    photos = [(name, 1, 2, 3, 4), (name, 2**63, -1, 10**18, 2**64 - 1)]
    again = [tuple(bytes(bytearray(x)) if isinstance(x, bytes) else int(str(x)) for x in p) for p in photos]
    assert fingerprint(photos) == fingerprint(again)
    assert fingerprint(photos).hex() == "fb04b701fc5452bc9677bf81def90f44"
    assert len({fingerprint([(name, *(int(k == at) for k in range(4)))]) for at in range(5)}) == 5


@pytest.mark.parametrize("renamed", [False, True])
def test_a_compaction_that_was_cut_off_is_finished(tmp_path, renamed):
    with Store.writing(tmp_path, DIM, None) as store:
        commit(store, range(4))
        before = store.snapshot()
    write_empty(tmp_path / SWAP, DIM)
    append_rows(tmp_path / SWAP, 0, np.stack([template(b"%d" % at) for at in (3, 1)]))
    connection = sqlite3.connect(tmp_path / INDEX)
    derived.prepare(connection)
    connection.execute("DELETE FROM samples WHERE path IN (?, ?)", (b"000.jpg", b"002.jpg"))
    connection.execute("DELETE FROM contents WHERE row IN (0, 2)")
    connection.execute("UPDATE contents SET row = 0 WHERE row = 3")
    derived.recount(connection)
    connection.execute("INSERT INTO facts VALUES ('swap', 'templates.npy.swap')")
    connection.commit()
    connection.close()
    if renamed:
        os.replace(tmp_path / SWAP, tmp_path / MATRIX)
    for open_ in (lambda: Store.reading(tmp_path, DIM), lambda: Store.writing(tmp_path, DIM, None)):
        with open_() as store:
            now = store.snapshot()
            assert store.samples() == [(b"Ada", b"001.jpg", 1), (b"Ada", b"003.jpg", 0)]
        np.testing.assert_array_equal(now.templates, [template(b"3"), template(b"1")])
    assert not (tmp_path / SWAP).exists()
    assert before.templates[3].tobytes() == template(b"3").tobytes()
    np.testing.assert_array_equal(np.load(tmp_path / MATRIX), now.templates)


# The compact copy


@pytest.fixture
def small_copy(monkeypatch):
    """Any matrix is worth a copy, in chunks of 64 rows."""
    monkeypatch.setattr(int8_copy, "WORTH_BYTES", 0)
    monkeypatch.setattr(int8_copy, "CHUNK_BYTES", 64 * DIM)


def assert_copied(folder, n):
    with Store.reading(folder, DIM) as store:
        snapshot = store.snapshot()
    assert snapshot.compact.n_rows == n
    assert snapshot.compact.agrees(snapshot.templates)


@pytest.mark.usefixtures("small_copy")
class TestCompact:
    def test_it_follows_the_matrix(self, tmp_path):
        with Store.writing(tmp_path, DIM, None) as store:
            for first, n in ((0, 63), (63, 64), (64, 200)):
                commit(store, range(first, n))
                assert_copied(tmp_path, n // 64 * 64)
        (tmp_path / COMPACT).unlink()
        assert_copied(tmp_path, 0)
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, [])
        assert_copied(tmp_path, 192)

    def test_it_never_covers_rows_that_are_written_over(self, tmp_path, monkeypatch):
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, range(200))
        with open(tmp_path / MATRIX, "r+b") as file:
            file.truncate(npy.HEADER_BYTES + 100 * DIM * 4)
        with Store.writing(tmp_path, DIM, None) as store:
            monkeypatch.setattr(
                int8_copy, "WORTH_BYTES", 1 << 30
            )  # as if it died before the copy is made again
            commit(store, range(300, 400), subject="Bea")
            assert_copied(tmp_path, 0)
            monkeypatch.setattr(int8_copy, "WORTH_BYTES", 0)
            commit(store, range(400, 410), subject="Cyd")
        assert_copied(tmp_path, 192)

    def test_it_is_forgotten_where_an_older_index_has_its_rows_written_over(self, tmp_path):
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, range(50))
            older = (tmp_path / INDEX).read_bytes()
            commit(store, range(50, 200))
        (tmp_path / INDEX).write_bytes(older)
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, range(300, 400), subject="Bea")
        assert_copied(tmp_path, 128)

    def test_that_of_an_index_that_is_gone_is_not_used(self, tmp_path, monkeypatch):
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, range(200))
        (tmp_path / INDEX).unlink()
        kept = (tmp_path / COMPACT).read_bytes()
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, range(500, 700))
        assert_copied(tmp_path, 192)
        (tmp_path / COMPACT).write_bytes(kept)
        assert_copied(tmp_path, 0)

    def test_a_folder_in_its_place_makes_way(self, tmp_path):
        (tmp_path / COMPACT).mkdir()
        (tmp_path / COMPACT / "theirs").touch()
        with Store.writing(tmp_path, DIM, None) as store:
            commit(store, range(100))
        assert (tmp_path / f"{COMPACT}.damaged" / "theirs").exists()
        assert_copied(tmp_path, 64)
        assert_holds(tmp_path, 100)
