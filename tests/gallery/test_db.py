"""What is done with a database as a whole: clearing, forgetting, verifying; killed at every step, and grepped."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from standin import DIM, StandIn, template

from facecli.errors import BadInput, DatabaseError, NoSuchFile
from facecli.files import npy
from facecli.files.npy import HEADER_BYTES
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store import derived, vacuum
from facecli.gallery.store.files import INDEX, MATRIX
from facecli.gallery.store.fingerprint import stat_text
from facecli.gallery.store.folder import store_folders
from facecli.gallery.store.location import places
from facecli.gallery.store.vacuum import compact
from facecli.gallery.upkeep.check import check
from facecli.gallery.upkeep.forget import forget
from facecli.gallery.upkeep.freshness import freshness
from facecli.gallery.upkeep.gc import clear
from facecli.gallery.upkeep.inventory import take_inventory
from facecli.gallery.upkeep.repair import repair

PHOTOS = {
    "Ada/1.jpg": b"ada one",
    "Ada/2.jpg": b"ada two",
    "Ada/sub/3.jpg": b"ada three",
    "Bo/1.jpg": b"bo one",
    "Bo/2.jpg": b"noface bo",
    "Cy/1.jpg": b"group cy",
    "Cy/2.jpg": b"ada two",
    "Di/1.jpg": b"noface di",
}


@pytest.fixture
def root(tmp_path):
    """A database in which Ada and Cy share a photo, and Di has no template."""
    root = tmp_path / "people"
    for name, data in PHOTOS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        # Old enough to be trusted by size and times.
        os.utime(path, ns=(10**18, 10**18))
    return root


def enrol(root, enroller=None):
    return refresh(root, enroller if enroller is not None else StandIn(), cache_dir=root.parent / "cache")


def trusted(root):
    """Enrol, then trust the state of every photo as it is now."""
    enrol(root)
    trust(root)


def trust(root):
    """Let the index take the present size, times and inode of every photo for those of its enrolment."""
    with closing(sqlite3.connect(the_store(root).folder / INDEX)) as db, db:
        for subject, name, path in db.execute(
            "SELECT subject, name, path FROM samples JOIN subjects ON id = subject"
        ).fetchall():
            status = os.stat(os.path.join(os.fsencode(root), name, path))
            stat = stat_text(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            db.execute("UPDATE samples SET stat = ? WHERE subject = ? AND path = ?", (stat, subject, path))
        db.execute("UPDATE subjects SET fingerprint = NULL")
        derived.seal(db)


def the_store(root):
    [store] = store_folders(root, root.parent / "cache")
    return store


def kept(root, enroller=None):
    """Return path -> template of all that is kept, as a reader sees it."""
    enroller = enroller if enroller is not None else StandIn()
    gallery = Gallery.open(root, enroller.id, enroller.dim, cache_dir=root.parent / "cache")
    return {sample.path: bytes(gallery.templates[sample.row].tobytes()) for sample in gallery.samples}


def expected(*without):
    return {
        name: template(data).tobytes()
        for name, data in PHOTOS.items()
        if not data.startswith(b"noface") and name.split("/")[0] not in without
    }


def rows(root):
    return len(np.load(the_store(root).folder / MATRIX))


def bytes_below(*folders):
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def holds(folders, *needles):
    """Return which of `needles` stand where in the files of `folders`."""
    return {
        (path.name, needle)
        for path, data in bytes_below(*folders).items()
        for needle in needles
        if needle in data
    }


# Clearing


def test_rows_of_photos_that_are_gone_are_dropped_and_the_rest_is_as_it_was(root):
    before = enrol(root)[0]
    mapped = before.templates
    copy = mapped.copy()
    (root / "Ada" / "1.jpg").unlink()
    (root / "Bo" / "2.jpg").unlink()
    enrol(root)
    assert rows(root) == 5
    folder = the_store(root).folder
    (folder / "compact.npy").write_bytes(b"goes by the old rows")
    (folder / "index.sqlite.part").write_bytes(b"of one that died")

    planned, _ = clear(root, cache_dir=root.parent / "cache", dry_run=True)
    assert rows(root) == 5
    assert (folder / "index.sqlite.part").exists()
    cleared, spared = clear(root, cache_dir=root.parent / "cache")

    assert [(each.what, each.n_rows) for each in cleared] == [
        ("left over", 0),
        ("templates that no sample shows", 1),
    ]
    assert [(each.what, each.n_rows) for each in planned] == [(e.what, e.n_rows) for e in cleared]
    assert not spared
    assert rows(root) == 4
    wanted = expected()
    del wanted["Ada/1.jpg"]
    assert kept(root) == wanted
    assert sorted(path.name for path in folder.iterdir()) == [INDEX, "lock", MATRIX]
    # Whoever had mapped the old matrix keeps it.
    assert mapped.tobytes() == copy.tobytes()
    assert clear(root, cache_dir=root.parent / "cache") == ([], [])
    # The cleared database goes on as usual; a photo that comes back is embedded again.
    (root / "Ada" / "1.jpg").write_bytes(PHOTOS["Ada/1.jpg"])
    enroller = StandIn()
    enrol(root, enroller)
    assert enroller.asked == [PHOTOS["Ada/1.jpg"]]
    assert kept(root) == expected()
    assert not check(root, the_store(root)).problems


def test_the_stores_of_other_models_are_removed_but_not_imported_templates(root):
    enrol(root)
    enrol(root, StandIn(dim=8))
    other = next(
        store for store in store_folders(root, root.parent / "cache") if store.embedder_id == "standin-8"
    )
    with closing(sqlite3.connect(other.folder / INDEX)) as db, db:
        db.execute("UPDATE samples SET stat = NULL WHERE path = CAST('1.jpg' AS BLOB)")
    cleared, spared = clear(root, cache_dir=root.parent / "cache", keep_only="standin-16")
    assert not cleared
    assert [(each.embedder_id, each.n_imported) for each in spared] == [("standin-8", 4)]
    with closing(sqlite3.connect(other.folder / INDEX)) as db, db:
        db.execute("UPDATE samples SET stat = '' WHERE stat IS NULL")
    cleared, spared = clear(root, cache_dir=root.parent / "cache", keep_only="standin-16")
    assert [(each.what, each.n_rows) for each in cleared] == [("store of another embedder", 5)]
    assert [store.embedder_id for store in store_folders(root, root.parent / "cache")] == ["standin-16"]
    assert kept(root) == expected()


def killed_at(line, run):
    """Run in a child that dies, like one killed by the system, before the n-th new line of what works on the files."""
    files = {vacuum.__file__, npy.__file__}
    child = os.fork()
    if child == 0:
        seen = set()

        def step(frame, event, argument):
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == line:
                os._exit(9)
            return step

        sys.settrace(lambda frame, event, argument: step if frame.f_code.co_filename in files else None)
        try:
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_killed_at_any_line_forgetting_leaves_the_old_or_the_new(root):
    enrol(root)
    (root / "Bo" / "1.jpg").unlink()
    enrol(root)
    store = the_store(root).folder
    shutil.copytree(store, root.parent / "before")
    old = {path: row for path, row in expected().items() if path != "Bo/1.jpg"}
    new = {path: row for path, row in old.items() if not path.startswith("Ada/")}
    seen = []
    for line in range(1, 500):
        ended = killed_at(line, lambda: compact(store, DIM, forget=b"Ada"))
        found = kept(root)
        assert found in (old, new), line
        seen.append(found == new)
        # Whoever comes next finishes it, or does it from the start.
        compact(store, DIM, forget=b"Ada")
        assert kept(root) == new, line
        assert len(np.load(store / MATRIX)) == len(set(new.values()))
        assert sorted(path.name for path in store.iterdir()) == [INDEX, "lock", MATRIX]
        assert not holds([store], template(b"bo one").tobytes())
        if ended == 0:
            break
        shutil.rmtree(store)
        shutil.copytree(root.parent / "before", store)
    assert ended == 0
    # From some step on it is the new one, and that is before the last.
    assert seen == sorted(seen)
    assert 30 < seen.index(True) < line - 5


@pytest.mark.slow
def test_a_writer_finishes_what_a_killed_compaction_began(root):
    enrol(root)
    (root / "Ada" / "1.jpg").unlink()
    enrol(root)
    store = the_store(root).folder
    wanted = kept(root)
    shutil.copytree(store, root.parent / "before")
    finished = 0
    # Not from the first: those before the transaction are the other test's.
    for line in range(45, 500):
        if killed_at(line, lambda: compact(store, DIM)) == 0:
            break
        with closing(sqlite3.connect(store / INDEX)) as db:
            noted = db.execute("SELECT 1 FROM facts WHERE key = 'swap'").fetchone()
        if noted:
            finished += 1
            assert take_inventory(the_store(root)).unfinished
            assert kept(root) == wanted
            (root / "Bo" / "9.jpg").write_bytes(b"bo nine")
            enrol(root)
            assert kept(root) == wanted | {"Bo/9.jpg": template(b"bo nine").tobytes()}
            (root / "Bo" / "9.jpg").unlink()
            assert not (store / "templates.npy.swap").exists()
        shutil.rmtree(store)
        shutil.copytree(root.parent / "before", store)
    assert finished > 1


@pytest.mark.parametrize("failing", ["write_rows", "_renumber", "derived.seal"])
def test_what_fails_on_the_way_changes_nothing_and_fills_no_disk(root, monkeypatch, failing):
    enrol(root)
    (root / "Ada" / "1.jpg").unlink()
    enrol(root)
    store = the_store(root).folder
    before, held = kept(root), rows(root)

    def full(path, *arguments):
        if failing == "write_rows":
            path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"facecli.gallery.store.vacuum.{failing}", full)
    with pytest.raises(DatabaseError, match=r"no space left on device.*free some space"):
        compact(store, DIM, forget=b"Bo")
    monkeypatch.undo()
    assert (kept(root), rows(root)) == (before, held)
    assert sorted(path.name for path in store.iterdir()) == [INDEX, "lock", MATRIX]
    assert not check(root, the_store(root)).problems


def test_searches_go_on_while_others_clear_and_forget(root):
    """Rows get other numbers again and again; no search may mix them up with the names of another moment."""
    enrol(root)
    stop = threading.Event()
    wrong, n_searches = [], 0

    def search():
        nonlocal n_searches
        gallery = Gallery.open(root, "standin-16", DIM, cache_dir=root.parent / "cache")
        while not stop.is_set():
            if n_searches % 7 == 6:
                gallery = Gallery.open(root, "standin-16", DIM, cache_dir=root.parent / "cache")
            [found] = gallery.search(template(b"bo one")[None], 3)
            for each in found:
                is_it = float(template(PHOTOS[each.path]).astype(float) @ template(b"bo one").astype(float))
                if abs(each.similarity - is_it) > 1e-6 or each.path.split("/")[0] != each.subject:
                    wrong.append(each)
            n_searches += 1

    reader = threading.Thread(target=search)
    reader.start()
    try:
        for at in range(12):
            away = root / ("Ada/1.jpg", "Cy/1.jpg", "Ada/sub/3.jpg")[at % 3]
            data = away.read_bytes()
            away.unlink()
            enrol(root)
            compact(the_store(root).folder, DIM, forget=b"Cy" if at % 2 else None)
            away.write_bytes(data)
            enrol(root)
    finally:
        stop.set()
        reader.join()
    assert not wrong
    assert n_searches > 10


# Forgetting


def test_nothing_of_a_forgotten_person_is_left_in_any_file(root):
    cache = root.parent / "cache"
    enrol(root)
    enrol(root, StandIn(dim=8))
    # A photo of theirs that was enrolled earlier and is gone: nobody knows any more whose it was.
    (root / "Ada" / "old.jpg").write_bytes(b"ada old")
    enrol(root)
    (root / "Ada" / "old.jpg").unlink()
    enrol(root)
    # A store in the cache folder, of a time when the disk was read-only.
    outer = store_folders(root, cache)[0].folder
    elsewhere = places(root, "standin-16", cache).outer
    shutil.copytree(outer, elsewhere)
    for folder in (outer, elsewhere):
        shutil.copy(folder / INDEX, folder / f"{INDEX}.damaged")
        shutil.copy(folder / MATRIX, folder / f"{MATRIX}.part")
        shutil.copy(folder / MATRIX, folder / "compact.npy")
    places_of_it = [root / ".facecli", cache]
    secrets = [
        template(data, dim).tobytes() for data in (b"ada one", b"ada three", b"ada old") for dim in (16, 8)
    ]
    shared = template(b"ada two").tobytes()
    needles = [b"Ada", b"sub/3.jpg", b"old.jpg", *secrets]
    # All but the template that the other model never made, and a path that SQLite may have written over.
    assert len({needle for _, needle in holds(places_of_it, *needles)}) >= len(needles) - 2

    done = forget(root, "Ada", cache_dir=cache)

    assert holds(places_of_it, *needles) == set()
    assert {path.name for path in bytes_below(*places_of_it)} == {MATRIX, INDEX, "lock", ".gitignore"}
    # Cy shows the same photo and keeps it.
    assert holds(places_of_it, shared) == {(MATRIX, shared)}
    assert kept(root) == expected("Ada")
    counted = sorted(
        (each.embedder_id, each.n_samples, each.n_templates) for each in done.removed if each.n_samples
    )
    assert counted == [("standin-16", 3, 3), ("standin-16", 3, 3), ("standin-8", 3, 2)]
    assert {Path(each.path).name for each in done.removed if each.what == "file left over"} == {
        f"{INDEX}.damaged",
        f"{MATRIX}.part",
    }
    # The photos are the user's.
    assert (done.photos, done.n_photos, done.photos_deleted) == (str(root / "Ada"), 3, False)
    assert (root / "Ada" / "1.jpg").exists()
    enrol(root)
    assert kept(root) == expected()
    assert not check(root, store_folders(root, cache)[0]).problems


def test_photos_are_deleted_when_asked_and_nobody_is_enrolled_again(root):
    enrol(root)
    done = forget(root, "Ada", cache_dir=root.parent / "cache", photos=True)
    assert (done.n_photos, done.photos_deleted) == (3, True)
    assert not (root / "Ada").exists()
    enrol(root)
    assert kept(root) == expected("Ada")
    with pytest.raises(DatabaseError, match="no subject 'Ada' among the 3 enrolled"):
        forget(root, "Ada", cache_dir=root.parent / "cache", photos=True)


def test_a_person_without_any_template_is_forgotten_as_well(root):
    enrol(root)
    forget(root, "Di", cache_dir=root.parent / "cache")
    assert not holds([root / ".facecli"], b"Di", b"noface")
    assert [f.path for f in take_inventory(the_store(root)).failures] == ["Bo/2.jpg"]


def test_forgetting_names_what_was_meant_and_never_leaves_the_database(root):
    enrol(root)
    with pytest.raises(DatabaseError, match="no subject 'Adda' among the 4 enrolled; did you mean 'Ada'"):
        forget(root, "Adda", cache_dir=root.parent / "cache")
    (root.parent / "out").mkdir()
    for name in ("../out", "..", ".", "", ".facecli", "Ada/sub"):
        with pytest.raises(BadInput, match="cannot name a subject"):
            forget(root, name, cache_dir=root.parent / "cache", photos=True)
    (root / "Eve").symlink_to(root.parent / "out")
    enrol(root)
    with pytest.raises(DatabaseError, match="is a link to .*; nothing was removed"):
        forget(root, "Eve", cache_dir=root.parent / "cache", photos=True)
    assert (root.parent / "out").is_dir()
    assert kept(root) == expected()
    with pytest.raises(NoSuchFile):
        forget(root.parent / "nowhere", "Ada", cache_dir=root.parent / "cache")


def test_a_damaged_store_goes_whole_because_nobody_can_tell_who_is_in_it(root):
    enrol(root)
    enrol(root, StandIn(dim=8))
    good, bad = sorted(store_folders(root, root.parent / "cache"), key=lambda store: store.embedder_id)
    (bad.folder / INDEX).write_bytes(b"spoilt, with Ada in it" * 500)
    done = forget(root, "Ada", cache_dir=root.parent / "cache")
    assert [(each.embedder_id, each.what) for each in done.removed] == [
        ("standin-16", "samples and templates"),
        ("standin-8", "all of a damaged store"),
        ("standin-8", "file left over"),
    ]
    assert [path.name for path in bad.folder.iterdir()] == ["lock"]
    assert not holds([root / ".facecli"], b"Ada")
    assert kept(root) == expected("Ada")


def test_what_one_store_refuses_does_not_keep_the_others(root, monkeypatch):
    enrol(root)
    enrol(root, StandIn(dim=8))
    first = store_folders(root, root.parent / "cache")[0].folder

    def refuse(folder, *arguments, **options):
        if folder == first:
            raise DatabaseError("cannot be written", path=folder)
        return compact(folder, *arguments, **options)

    monkeypatch.setattr("facecli.gallery.upkeep.forget.compact", refuse)
    done = forget(root, "Ada", cache_dir=root.parent / "cache")
    assert [error.what for error in done.errors] == ["cannot be written"]
    assert [each.embedder_id for each in done.removed] == ["standin-8"]


def test_a_name_that_is_no_utf8_can_be_typed_as_it_is_printed(root):
    name = os.fsdecode(b"caf\xe9")
    try:
        (root / name).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (root / name / "1.jpg").write_bytes(b"somebody")
    enrol(root)
    done = forget(root, "caf\\xe9", cache_dir=root.parent / "cache")
    assert [(each.n_samples, each.n_templates) for each in done.removed] == [(1, 1)]
    assert kept(root) == expected()


# Verifying


def test_a_sound_database_is_sound(root):
    trusted(root)
    enroller = StandIn()
    found = check(root, the_store(root), enroller=enroller, n_embed=3)
    assert not found.problems
    counts = (found.n_samples, found.n_templates, found.n_photos, found.n_changed, found.n_embedded)
    assert counts == (8, 5, 8, 0, 3)
    assert len(enroller.asked) == 3


def test_a_photo_replaced_behind_unchanged_times_is_found_and_enrolled_again(root):
    trusted(root)
    before = kept(root)
    with open(root / "Ada" / "1.jpg", "r+b") as file:
        file.write(b"eve")
    assert check(root, the_store(root)).n_changed == 1
    # As if somebody had put the times back, which no test can do to all of them.
    trust(root)
    assert enrol(root)[1].embedded == 0
    assert kept(root) == before

    found = check(root, the_store(root))
    assert [(problem.code, problem.path) for problem in found.problems] == [("photo_replaced", "Ada/1.jpg")]
    repair(the_store(root), found, None)
    assert enrol(root)[1].embedded == 1
    assert kept(root)["Ada/1.jpg"] == template(b"eve one").tobytes()
    assert not check(root, the_store(root)).problems


@pytest.mark.parametrize("number", [np.nan, np.inf, 0.9, 1e38])
def test_broken_numbers_are_found_and_made_again(root, number):
    trusted(root)
    with open(the_store(root).folder / MATRIX, "r+b") as file:
        file.seek(HEADER_BYTES + 4 * DIM)
        file.write(np.full(DIM, number, "<f4").tobytes())
    found = check(root, the_store(root))
    # The photo in the second row is shown twice.
    assert [(problem.code, problem.path) for problem in found.problems] == [
        ("template_broken", "Ada/2.jpg"),
        ("template_broken", "Cy/2.jpg"),
    ]
    repair(the_store(root), found, None)
    assert enrol(root)[1].embedded == 1
    assert kept(root) == expected()
    assert not check(root, the_store(root)).problems


def test_another_template_than_the_photo_gives_is_found_by_making_it_anew(root):
    trusted(root)
    with open(the_store(root).folder / MATRIX, "r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(template(b"somebody else").tobytes())
    assert not check(root, the_store(root)).problems
    found = check(root, the_store(root), enroller=StandIn(), n_embed=100)
    assert [(problem.code, problem.path) for problem in found.problems] == [("template_differs", "Ada/1.jpg")]
    assert found.n_embedded == 5
    repair(the_store(root), found, None)
    enrol(root)
    assert kept(root) == expected()


def test_templates_of_another_search_for_faces_are_not_compared(root):
    trusted(root)
    with pytest.raises(DatabaseError, match="none is of a photo that .* was enrolled with these options"):
        check(root, the_store(root), enroller=StandIn(min_face=20), n_embed=3)


def test_a_matrix_that_lost_rows_is_found(root):
    trusted(root)
    os.truncate(the_store(root).folder / MATRIX, HEADER_BYTES + 2 * 4 * DIM)
    found = check(root, the_store(root))
    assert [problem.code for problem in found.problems] == ["templates_missing"]
    assert "3 of 5 templates are missing" in found.problems[0].message
    repair(the_store(root), found, None)
    assert enrol(root)[1].embedded == 3
    assert kept(root) == expected()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE subjects SET n_samples = n_samples + 1 WHERE id = 2",
        "DELETE FROM owners",
        "UPDATE owners SET subjects = zeroblob(length(subjects))",
        "DELETE FROM subjects WHERE id = 3",
        "DELETE FROM contents WHERE row = 0",
    ],
)
def test_an_index_that_contradicts_itself_is_found_and_mended(root, damage):
    trusted(root)
    with closing(sqlite3.connect(the_store(root).folder / INDEX)) as db, db:
        db.execute(damage)
    found = check(root, the_store(root))
    assert "index_inconsistent" in [problem.code for problem in found.problems]
    repair(the_store(root), found, None)
    enrol(root)
    assert kept(root) == expected()
    assert not check(root, the_store(root)).problems


def test_a_damaged_index_is_set_aside(root):
    trusted(root)
    path = the_store(root).folder / INDEX
    data = bytearray(path.read_bytes())
    data[4096:9000] = b"\xff" * (9000 - 4096)
    path.write_bytes(data)
    found = check(root, the_store(root))
    assert [problem.code for problem in found.problems] == ["index_damaged"]
    repair(the_store(root), found, None)
    enrol(root)
    assert kept(root) == expected()
    clear(root, cache_dir=root.parent / "cache")
    assert sorted(file.name for file in path.parent.iterdir()) == [INDEX, "lock", MATRIX]


# Taking stock


def test_the_inventory_counts_what_is_there(root):
    trusted(root)
    (root / "Ada" / "1.jpg").unlink()
    enrol(root)
    found = take_inventory(the_store(root))
    counts = (found.n_subjects, found.n_samples, found.n_failed, found.n_several, found.n_imported)
    assert counts == (4, 5, 2, 1, 0)
    assert (found.n_templates, found.n_unused) == (4, 1)
    assert found.without_template == ("Di",)
    assert found.complete
    assert not found.unfinished
    [kind] = found.failure_kinds
    assert (kind.code, kind.n, kind.examples) == ("no_face", 2, ("Bo/2.jpg", "Di/1.jpg"))
    assert found.bytes_by_file[MATRIX] == HEADER_BYTES + 5 * DIM * 4


def test_what_the_next_refresh_will_find_is_told_without_reading_a_photo(root):
    trusted(root)
    inventory = take_inventory(the_store(root))
    assert freshness(root, inventory).up_to_date
    (root / "Ada" / "1.jpg").unlink()
    (root / "Bo" / "1.jpg").write_bytes(b"bo other")
    (root / "Bo" / "7.jpg").write_bytes(b"bo seven")
    (root / "Bo" / "8.jpg").write_bytes(b"bo eight")
    found = freshness(root, inventory)
    assert (found.n_new, found.n_changed, found.n_young, found.n_gone) == (2, 1, 0, 1)
    assert not found.up_to_date
