"""Databases from strangers: whatever is in a store and whatever is linked there, nothing outside of it is touched,
damage is an error with a way out, and a template that is none gives no answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from standin import DIM, StandIn, half_commit, template

from facecli.errors import BadInput, DatabaseError
from facecli.files.npy import HEADER_BYTES, header
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store import row_owners, values, view
from facecli.gallery.store.files import COMPACT, INDEX, JOURNAL, LOCK, MATRIX, SWAP, Damaged
from facecli.gallery.store.folder import store_folders
from facecli.gallery.upkeep.export import exported
from facecli.gallery.upkeep.forget import forget
from facecli.gallery.upkeep.gc import clear
from facecli.gallery.upkeep.report import check_records, status_records
from facecli.gallery.upkeep.take_in import import_templates
from facecli.recognition.false_alarms import false_alarms
from facecli.templates.blocks import read_blocks
from facecli.templates.records import SCHEMA

PHOTOS = {"Ada/1.jpg", "Ada/2.jpg", "Bo/1.jpg", "Cy/1.jpg"}
ID = f"standin-{DIM}"


@pytest.fixture
def root(tmp_path):
    """An enrolled database of three people, beside a folder that is nobody's business."""
    root = tmp_path / "people"
    for name in sorted({*PHOTOS, "Bo/noface.jpg"}):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"noface" if "noface" in name else name.encode())
        os.utime(path, ns=(10**18, 10**18))
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("letter", "x.part", f"{INDEX}.damaged", "compact.npy"):
        (outside / name).write_bytes(b"dear diary")
    enrol(root)
    return root


def enrol(root):
    return refresh(root, StandIn(), cache_dir=root.parent / "cache")


def opened(root):
    return Gallery.open(root, ID, DIM, cache_dir=root.parent / "cache")


def store(root):
    return root / ".facecli" / ID


def outside(root):
    """Return name -> kind, mode and bytes of all that is not the database's own."""
    top = root.parent / "outside"
    return {
        path.name: (path.lstat().st_mode, path.read_bytes() if path.is_file() else os.listdir(path))
        for path in sorted([top, *top.rglob("*")])
    }


def checked(root, *, repairing):
    return list(
        check_records(
            root,
            root.parent / "cache",
            enroller=None,
            n_embed=0,
            seed=0,
            repairing=repairing,
            progress=lambda done, total: None,
            notify=lambda text: None,
        )
    )


def records(root):
    with exported(root, embedder_id=ID, dim=DIM, cache_dir=root.parent / "cache") as (_, found):
        return list(found)


def imports(root):
    line = {
        "schema": SCHEMA,
        "path": "new.jpg",
        "subject": "Dee",
        "face": 0,
        "n_faces": 1,
        "box": [1, 2, 3, 4],
        "landmarks": [[1, 2]] * 5,
        "probability": 0.9,
        "embedder_id": ID,
        "embedding": template(b"dee").tolist(),
    }
    blocks = read_blocks([json.dumps(line)], embedder_id=ID, dim=DIM)
    return import_templates(root, blocks, embedder_id=ID, dim=DIM, cache_dir=root.parent / "cache")


COMMANDS = {
    "find": lambda root: opened(root).search(template(b"Ada/1.jpg"), 3),
    "verify": lambda root: opened(root).templates_of("Ada"),
    "alarms": lambda root: false_alarms(opened(root), 0.9, 0.1),
    "embed": enrol,
    "status": lambda root: list(status_records(root, root.parent / "cache", look=True)),
    "check": lambda root: checked(root, repairing=False),
    "export": records,
    "import": imports,
    "forget": lambda root: forget(root, "Bo", cache_dir=root.parent / "cache"),
    "gc": lambda root: clear(root, cache_dir=root.parent / "cache", keep_only="another"),
    "repair": lambda root: checked(root, repairing=True),
}


def assert_harmless(root, *names):
    """Run commands one after the other, each on what the last left; none fails in another way than it should."""
    before = outside(root)
    for name in names or COMMANDS:
        # Whatever the command says, it is an error of ours.
        with contextlib.suppress(DatabaseError):
            COMMANDS[name](root)
        assert outside(root) == before, name
    # Whatever it was: a repair, unless it was set aside already, and it works again.
    with contextlib.suppress(DatabaseError):
        checked(root, repairing=True)
    enrol(root)
    assert outside(root) == before
    assert [record["sound"] for record in checked(root, repairing=False)] == [True]
    assert opened(root).search(template(b"Ada/1.jpg"), 1)[0][0].subject == "Ada"


def said(root, *statements):
    """Change the index, whatever it says of itself."""
    with closing(sqlite3.connect(store(root) / INDEX, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("swap", ["outside/letter", "../../../outside/letter", 7])
def test_only_one_name_is_renamed_over_the_matrix(root, command, swap):
    value = str(root.parent / swap) if swap == "outside/letter" else swap
    with closing(sqlite3.connect(store(root) / INDEX)) as connection, connection:
        connection.execute("INSERT INTO facts VALUES ('swap', ?)", (value,))
    assert_harmless(root, command)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("linked", "target"),
    [
        (".facecli", "outside"),
        (".facecli", "moved"),
        (f".facecli/{ID}", "outside"),
        (f".facecli/{ID}", "nowhere"),
    ],
)
def test_a_linked_store_is_not_taken_for_one(root, command, linked, target):
    """Not even a sound one: nobody can tell whose it is."""
    os.replace(root / linked, root.parent / "moved")
    (root / linked).symlink_to(root.parent / target)
    with pytest.raises(DatabaseError, match="is a link to"):
        enrol(root)
    if target == "moved":
        os.replace(root.parent / "moved", root.parent / "outside" / "moved")
        (root / linked).unlink()
        (root / linked).symlink_to(root.parent / "outside" / "moved")
    assert_harmless(root, command)
    assert not (root / linked).is_symlink()
    assert (root / f"{linked}.damaged").is_symlink()


def test_a_database_in_a_linked_folder_is_one(root):
    (root.parent / "link").symlink_to(root)
    assert enrol(root.parent / "link")[1].embedded == 0


NAMES = (INDEX, JOURNAL, MATRIX, SWAP, COMPACT, LOCK)
TEMPORARY = (f"{INDEX}.part", f"{INDEX}.part-journal", f"{MATRIX}.part", f"{INDEX}.damaged", f"{INDEX}-wal")


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "pipe", "folder"])
@pytest.mark.parametrize("name", [*NAMES, *TEMPORARY, "../.gitignore"])
def test_what_stands_under_a_name_of_ours_is_not_written_to(root, name, kind):
    path, letter = store(root) / name, root.parent / "outside" / "letter"
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(letter)
    elif kind == "dangling":
        path.symlink_to(root.parent / "outside" / "new")
    elif kind == "hard link":
        os.link(letter, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        (path / "theirs").touch()
    # A photo that is new, so that something is written.
    (root / "Ada" / "3.jpg").write_bytes(b"new")
    assert_harmless(root, "find", "embed", "import", "gc")
    assert stat.S_IMODE(letter.stat().st_mode) == 0o644


def test_a_store_that_shares_its_files_with_a_copy_gets_its_own(root):
    """As `cp -al` and programs that join equal files leave it."""
    copy = root.parent / "copy"
    copy.mkdir()
    for name in (INDEX, MATRIX):
        os.link(store(root) / name, copy / name)
    before = {name: (copy / name).read_bytes() for name in (INDEX, MATRIX)}
    assert len(opened(root).samples) == 4
    (root / "Ada" / "3.jpg").write_bytes(b"new")
    _, report = enrol(root)
    assert report.embedded == 1
    assert {name: (copy / name).read_bytes() for name in (INDEX, MATRIX)} == before


def test_a_journal_that_names_another_is_not_played_back(root):
    """SQLite deletes the file that a journal says it is a part of."""
    half_commit(store(root))
    letter = root.parent / "outside" / "letter"
    name = os.fsencode(letter)
    with open(store(root) / JOURNAL, "ab") as journal:
        journal.write((0).to_bytes(4, "big") + name + len(name).to_bytes(4, "big"))
        journal.write(sum(name).to_bytes(4, "big") + bytes.fromhex("d9d505f920a163d7"))
    assert_harmless(root)


def test_a_journal_of_a_larger_index_is_not_played_back(root):
    half_commit(store(root))
    with open(store(root) / JOURNAL, "r+b") as journal:
        journal.seek(16)
        journal.write(b"\x7f\xff\xff\xff")
    assert_harmless(root)
    assert sum(path.stat().st_size for path in store(root).iterdir()) < 10**6


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE facts SET value = 'abc' WHERE key = 'dim'",
        "UPDATE facts SET value = -1 WHERE key = 'dim'",
        "UPDATE facts SET value = 1e300 WHERE key = 'dim'",
        "UPDATE facts SET value = 'x' WHERE key = 'generation'",
        "UPDATE facts SET value = 9223372036854775807 WHERE key = 'generation'",
        "UPDATE facts SET value = zeroblob(1000) WHERE key = 'matrix'",
        "UPDATE facts SET value = NULL WHERE key = 'complete'",
        "DELETE FROM facts",
        "UPDATE owners SET chunk = 1099511627776",
        "UPDATE owners SET subjects = x'01'",
        "UPDATE owners SET subjects = 'text'",
        "UPDATE owners SET subjects = zeroblob(16384)",
        "UPDATE samples SET path = CAST(path AS TEXT)",
        "UPDATE samples SET path = CAST(x'2e2e2f2e2e2f6f7574736964652f' || path AS BLOB)",
        "UPDATE samples SET path = CAST(x'2f' || path AS BLOB)",
        "UPDATE samples SET path = CAST(path || x'00' AS BLOB)",
        "UPDATE samples SET stat = 'soon'",
        "UPDATE samples SET stat = 7",
        "UPDATE samples SET subject = 999 WHERE content = 1",
        "UPDATE samples SET subject = 'me' WHERE content = 1",
        "UPDATE samples SET content = 999",
        "UPDATE subjects SET name = x'2e2e' WHERE id = 1",
        "UPDATE subjects SET name = 'Ada' WHERE id = 1",
        "UPDATE subjects SET name = x'' WHERE id = 1",
        "UPDATE subjects SET id = 4611686018427387904 WHERE id = 1",
        "UPDATE subjects SET n_samples = 'many'",
        "UPDATE subjects SET n_samples = 1e308",
        "UPDATE subjects SET n_samples = 5",
        "UPDATE subjects SET fingerprint = 'x'",
        "UPDATE contents SET row = -5 WHERE row = 1",
        "UPDATE contents SET row = 1.5 WHERE row = 1",
        "UPDATE contents SET row = 'one' WHERE row = 1",
        "UPDATE contents SET row = 9223372036854775807 WHERE row = 1",
        "UPDATE contents SET row = 77 WHERE row = 1",
        "UPDATE contents SET digest = 'x' WHERE row = 1",
        "UPDATE contents SET geometry = '{'",
        'UPDATE contents SET geometry = \'{"box": [1, 2], "landmarks": []}\'',
        "UPDATE contents SET geometry = replace(hex(zeroblob(200000)), '00', '[')",
        "UPDATE contents SET geometry = x'ff'",
        "UPDATE contents SET probability = NULL WHERE row = 1",
        "UPDATE contents SET probability = 9e999 WHERE row = 1",
        "UPDATE contents SET n_faces = 'x'",
        "UPDATE contents SET code = NULL, message = x'ff' WHERE row IS NULL",
        "UPDATE contents SET message = CAST(x'fffe41' AS TEXT) WHERE row IS NULL",
        "UPDATE contents SET limits = x'00'",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        "DROP TABLE owners",
        "CREATE TRIGGER t AFTER UPDATE ON facts BEGIN DELETE FROM samples; END",
        "CREATE TABLE more (x)",
        "UPDATE sqlite_master SET sql = replace(sql, 'TABLE subjects', 'TABLE subjectz')",
        "UPDATE sqlite_master SET sql = 'x' WHERE name = 'facts'",
        "PRAGMA user_version = 1",
        "PRAGMA journal_mode = WAL",
    ],
)
def test_what_an_index_cannot_say_is_damage(root, statement):
    said(root, statement)
    assert_harmless(root)
    assert {sample.path for sample in opened(root).samples} >= PHOTOS


ENDLESS = (
    "CREATE VIEW subjects AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT i AS id, x'41' AS name, NULL AS fingerprint, 1 AS n_samples, 0 AS n_failed, 0 AS n_several FROM n"
)


def test_a_view_that_never_ends_is_not_a_table(root):
    said(root, "DROP TABLE subjects", ENDLESS)
    assert_harmless(root)


def test_pages_that_lead_back_to_each_other_do_not_hold_a_reader_for_ever(root):
    """Each page of a tree points to the next one again and again: a few pages stand for more records than atoms."""
    data = bytearray((store(root) / INDEX).read_bytes())
    page = int.from_bytes(data[16:18], "big")
    with closing(sqlite3.connect(store(root) / INDEX)) as connection:
        [(first,)] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'subjects'"
        ).fetchall()
    n_pages = len(data) // page
    leaf = data[(first - 1) * page : first * page]
    deep = [first, *range(n_pages + 1, n_pages + 13)]
    for here, below in zip(deep, deep[1:], strict=False):
        cells = [page - 6 * (at + 1) for at in range(400)]
        node = bytearray(page)
        node[:12] = struct.pack(">BHHHBI", 5, 0, 400, cells[-1], 0, below)
        for at, cell in enumerate(cells):
            node[12 + 2 * at : 14 + 2 * at] = cell.to_bytes(2, "big")
            node[cell : cell + 5] = below.to_bytes(4, "big") + b"\x01"
        data[(here - 1) * page : here * page] = node
    data += bytes(0) + leaf
    data[28:32] = (len(data) // page).to_bytes(4, "big")
    (store(root) / INDEX).write_bytes(data)
    with pytest.raises(DatabaseError, match="index.sqlite"):
        records(root)
    assert_harmless(root)


def spoilt(root, change):
    path = store(root) / MATRIX
    rows = np.memmap(path, "<f4", "r+", offset=HEADER_BYTES).reshape(-1, DIM)
    change(rows)
    rows.flush()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.__setitem__(0, rows[0] * 1e6),
        lambda rows: rows.__setitem__(0, rows[0] * -1e30),
        lambda rows: rows.__setitem__(0, np.nan),
        lambda rows: rows.__setitem__((0, 3), np.inf),
        lambda rows: rows.__setitem__((0, 3), -np.inf),
        lambda rows: rows.__setitem__(slice(None), np.nan),
    ],
)
@pytest.mark.parametrize("command", ["find", "verify", "alarms", "export"])
def test_a_template_that_is_none_gives_no_answer(root, command, change, many, monkeypatch):
    """Neither where all rows are looked at, nor where there are so many that only those compared are."""
    if many:
        monkeypatch.setattr(view, "WORTH_BYTES", 0)
    spoilt(root, change)
    with pytest.raises(DatabaseError) as error:
        COMMANDS[command](root)
    assert error.value.advice == "repair_templates"
    checked(root, repairing=True)
    enrol(root)
    assert opened(root).search(template(b"Ada/1.jpg"), 1)[0][0].similarity == pytest.approx(1)


def test_a_header_that_counts_more_than_there_is_costs_the_rows_alone(root):
    data = (store(root) / MATRIX).read_bytes()
    (store(root) / MATRIX).write_bytes(header(10**18, DIM) + data[HEADER_BYTES:])
    assert_harmless(root)


NOT_A_FACE = [
    {"probability": float("nan")},
    {"probability": float("inf")},
    {"probability": -0.1},
    {"probability": 1.1},
    {"box": [1, 2, 3]},
    {"box": [1, 2, 3, float("inf")]},
    {"box": [1, 2, 3, 1e300]},
    {"landmarks": [[1, float("nan")]]},
    {"landmarks": [[1, 2, 3]]},
    {"face": -1},
    {"face": float("inf")},
    {"n_faces": 10**30},
    {"subject": "../x"},
    {"subject": ".."},
]


@pytest.mark.parametrize("wrong", NOT_A_FACE, ids=str)
def test_what_is_no_face_is_refused_at_the_door(root, wrong):
    record = {**records(root)[0], "embedding": template(b"x").tolist(), **wrong}
    with pytest.raises(BadInput):
        list(read_blocks([json.dumps(record)], embedder_id=ID, dim=DIM))


def test_a_table_of_templates_is_looked_at_as_well(tmp_path):
    np.save(tmp_path / "x.npy", template(b"x")[None])
    head = "row,path,face,n_faces,left,top,right,bottom,probability,embedder_id,subject\n"
    for row in (
        "0,a,0,1,1,2,3,4,nan",
        "0,a,0,1,1,2,inf,4,1",
        "0,a,-1,1,1,2,3,4,1",
        f"0,a,{10**30},1,1,2,3,4,1",
    ):
        (tmp_path / "x.csv").write_text(f"{head}{row},{ID},Ada\n")
        with pytest.raises(BadInput, match=r"x\.csv, row 0"):
            list(read_blocks(tmp_path / "x.npy", embedder_id=ID, dim=DIM))


def test_a_number_that_was_taken_in_before_it_was_refused_is_found_and_forgotten(root):
    """SQLite keeps a NaN as nothing."""
    said(root, "UPDATE contents SET probability = NULL WHERE row = 0")
    with pytest.raises(DatabaseError, match="it holds what is no number"):
        records(root)
    [found] = checked(root, repairing=True)
    assert [problem["code"] for problem in found["problems"]] == ["template_broken"]
    enrol(root)
    assert len(records(root)) == 4


@pytest.mark.parametrize("command", ["gc", "forget"])
def test_files_of_others_in_the_folder_of_a_store_stay(root, command):
    """Among them those that are named like leftovers, but of nothing that we make."""
    theirs = [
        store(root) / name for name in ("notes.txt", "thesis.part", "x.damaged", "faces.npy", "a.index")
    ]
    for path in theirs:
        path.write_bytes(b"theirs")
    (store(root) / f"{INDEX}.damaged").write_bytes(b"ours")
    COMMANDS[command](root)
    assert all(path.read_bytes() == b"theirs" for path in theirs)
    assert not (store(root) / f"{INDEX}.damaged").exists()


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_templates_are_for_their_owner_alone(root, tmp_path):
    def modes(*folders: Path) -> set[int]:
        paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
        return {stat.S_IMODE(path.stat().st_mode) | 0o100 * path.is_file() for path in paths}

    assert modes(root / ".facecli") == {0o700}
    # What an earlier version made is closed when it is next written to.
    for path in (root / ".facecli").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (root / ".facecli").chmod(0o755)
    (root / ".facecli" / ".gitignore").chmod(0o600)
    (store(root) / LOCK).unlink()
    (root / "Ada" / "3.jpg").write_bytes(b"new")
    enrol(root)
    assert modes(root / ".facecli") == {0o700}


def test_kinds_hold_for_what_is_kept(root):
    """What an enrolment writes is of the kinds that a reader asks for."""
    with closing(sqlite3.connect(store(root) / INDEX)) as connection:
        for statement, kinds in values.TABLES.items():
            assert list(values.stream(connection.execute(statement), *kinds))
        assert len(row_owners.load(connection)) == 4
    [found] = store_folders(root, root.parent / "cache")
    assert found.folder == store(root)
    with pytest.raises(Damaged):
        values.checked([(1.5,)], values.ROW)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_enrols_into_a_folder_of_their_own(root):
    """The templates of the owner are neither read nor in the way."""
    theirs = Path(tempfile.mkdtemp())
    os.chmod(theirs, 0o777)
    shutil.copytree(root, theirs / "people")
    code = (
        # The other user may not read what is imported, so all of it is before.
        "import os, shutil, sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path; from standin import StandIn\n"
        "from facecli.gallery.refresh import refresh; base = Path(sys.argv[1])\n"
        "shutil.copytree(base / 'people' / 'Ada', base / 'warm' / 'Ada')\n"
        "refresh(base / 'warm', StandIn(), cache_dir=base / 'cold'); os.setgid(65534); os.setuid(65534)\n"
        "gallery, report = refresh(base / 'people', StandIn(), cache_dir=base / 'cache')\n"
        "print(report.embedded, gallery.n_samples)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, theirs, *sys.path], capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == ["4", "4"], done.stderr
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (theirs / "cache" / "databases").glob("*/*")}
        assert modes == {0o700}
    finally:
        shutil.rmtree(theirs)


def test_a_store_made_before_copies_were_named_is_one(root):
    said(root, "DELETE FROM facts WHERE key = 'matrix'")
    assert enrol(root)[1].embedded == 0
    assert {sample.path for sample in opened(root).samples} == PHOTOS
    (root / "Ada" / "3.jpg").write_bytes(b"new")
    assert enrol(root)[1].embedded == 1


def test_a_photo_that_became_a_pipe_is_not_waited_for(root):
    """Of a person in the index that a stranger made."""
    (root / "Ada" / "1.jpg").unlink()
    os.mkfifo(root / "Ada" / "1.jpg")
    [found] = checked(root, repairing=False)
    assert (found["photos"], found["changed"]) == (4, 1)


def test_what_is_asked_is_longer_than_a_template(root):
    """That is the asker's business, and says nothing of what is kept."""
    [candidates] = opened(root).search(3 * template(b"Ada/1.jpg"), 1)
    assert candidates[0].similarity == pytest.approx(3)
