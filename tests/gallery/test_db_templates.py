"""Templates in and out of a database, and what two embedders make of the same photos."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from standin import DIM, StandIn, template

from facecli.errors import BadInput, DatabaseError, EmbedderMismatch, NoSuchFile
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store.folder import store_folders
from facecli.gallery.store.index import INDEX
from facecli.gallery.store.writer import Store
from facecli.gallery.upkeep import take_in
from facecli.gallery.upkeep.agreement import compare_embedders, spearman
from facecli.gallery.upkeep.check import check
from facecli.gallery.upkeep.export import exported
from facecli.gallery.upkeep.forget import forget
from facecli.gallery.upkeep.inventory import take_inventory
from facecli.gallery.upkeep.repair import repair
from facecli.gallery.upkeep.take_in import import_templates
from facecli.templates.blocks import read_blocks
from facecli.templates.npy_output import NpyOutput
from facecli.templates.reading import read_npy
from facecli.templates.records import QUALITY_COLUMNS, ROW_COLUMNS, SCHEMA, numbers

ID = f"standin-{DIM}"


def write_file(npy, rows):
    """Write (subject, path, template) as `db export` does; face 1 of 2 where the path says so."""
    with NpyOutput(npy, DIM, subjects=True) as sink:
        for subject, path, row in rows:
            sink.emit(record(subject, path, row))
    return npy


def record(subject, path, row):
    return {
        "schema": SCHEMA,
        "path": path,
        "subject": subject,
        "face": 1 if path.endswith("#1") else 0,
        "n_faces": 2,
        "box": [1.0, 2.0, 3.0, 4.0],
        "landmarks": [[1.0, 2.0]] * 5,
        "probability": 0.9,
        "embedder_id": ID,
        "embedding": row,
    }


def lines(rows):
    return [json.dumps({**record(*row), "embedding": numbers(row[2])}) for row in rows]


ROWS = [
    ("Ada", "Ada/1.jpg", template(b"1")),
    ("Ada", "Ada/2.jpg", template(b"2")),
    ("Bo", "Bo/deep/3.jpg", template(b"3")),
    ("Cé", "/elsewhere/../photos/4.jpg", template(b"4")),
]
NAMES = ["Ada/1.jpg", "Ada/2.jpg", "Bo/deep/3.jpg", "Cé/elsewhere/photos/4.jpg"]


def take(root, source, subject=None, dim=DIM, embedder_id=ID):
    blocks = read_blocks(source, embedder_id=embedder_id, dim=dim, subject=subject)
    return import_templates(root, blocks, embedder_id=embedder_id, dim=dim, cache_dir=root.parent / "cache")


def counts(done):
    return done.n_new, done.n_known, done.n_replaced, done.n_photos


def kept(root):
    gallery = Gallery.open(root, ID, DIM, cache_dir=root.parent / "cache")
    return {sample.path: gallery.templates[sample.row].tobytes() for sample in gallery.samples}


def wanted(rows=ROWS, names=NAMES):
    return {name: row.tobytes() for name, (_, _, row) in zip(names, rows, strict=True)}


def photo(root, name, data):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
    os.utime(root / name, ns=(10**18, 10**18))


def enrol(root):
    enroller = StandIn()
    _, report = refresh(root, enroller, cache_dir=root.parent / "cache")
    return enroller.asked, report


@pytest.fixture
def root(tmp_path):
    return tmp_path / "people"


# In


def test_templates_are_imported_once_and_found_without_any_photo(root, tmp_path):
    npy = write_file(tmp_path / "x.npy", ROWS)
    done = take(root, npy)
    assert counts(done) == (4, 0, 0, 0)
    assert (done.n_subjects, done.made) == (3, True)
    assert kept(root) == wanted()
    gallery = Gallery.open(root, ID, DIM, cache_dir=tmp_path / "cache")
    assert gallery.complete
    [[best]] = gallery.search(template(b"3")[None], 1)
    assert (best.subject, best.path) == ("Bo", "Bo/deep/3.jpg")

    done = take(root, npy)
    assert counts(done) == (0, 4, 0, 0)
    assert not done.made
    assert counts(take(root, lines(ROWS))) == (0, 4, 0, 0)
    assert len(np.load(done.folder / "templates.npy")) == 4
    assert kept(root) == wanted()
    [store] = store_folders(root, tmp_path / "cache")
    assert not check(root, store).problems
    inventory = take_inventory(store)
    assert (inventory.n_subjects, inventory.n_samples, inventory.n_imported) == (3, 4, 4)


def test_an_export_says_that_a_row_of_the_index_is_damaged(root, tmp_path):
    photo(root, "Ada/1.jpg", b"ada one")
    enrol(root)
    [store] = store_folders(root, tmp_path / "cache")
    with closing(sqlite3.connect(store.folder / INDEX)) as connection, connection:
        connection.execute("UPDATE contents SET geometry = '{'")
    with (
        exported(root, embedder_id=ID, dim=DIM, cache_dir=tmp_path / "cache") as (_, records),
        pytest.raises(DatabaseError, match=f"{INDEX} is damaged .it holds what is no place of a face"),
    ):
        list(records)


def test_what_an_export_wrote_makes_the_same_database(root, tmp_path):
    photo(root, "Ada/1.jpg", b"ada one")
    photo(root, "Ada/sub/2.jpg", b"group ada")
    photo(root, "Bo/1.jpg", b"bo")
    photo(root, "Bo/2.jpg", b"noface")
    enrol(root)
    npy = tmp_path / "x.npy"
    with exported(root, embedder_id=ID, dim=DIM, cache_dir=tmp_path / "cache") as (n, records):
        found = list(records)
        assert n == len(found) == 3
        with NpyOutput(npy, DIM, subjects=True) as sink:
            for each in found:
                sink.emit(each)
    assert [(each["subject"], each["path"]) for each in found] == [
        ("Ada", "Ada/1.jpg"),
        ("Ada", "Ada/sub/2.jpg"),
        ("Bo", "Bo/1.jpg"),
    ]
    # It is a file of templates like any other.
    probes = list(read_npy(npy, embedder_id=ID, dim=DIM))
    assert [probe.place.n_faces for probe in probes] == [1, 3, 1]
    assert [row["subject"] for row in csv.DictReader(npy.with_suffix(".csv").open())] == ["Ada", "Ada", "Bo"]
    other = tmp_path / "other"
    take(other, npy)
    assert kept(other) == kept(root)
    text = [json.dumps({**each, "embedding": numbers(each["embedding"])}) for each in found]
    third = tmp_path / "third"
    take(third, text)
    assert kept(third) == kept(root)
    # Back where it came from nothing is added: there are photos.
    assert counts(take(root, npy)) == (0, 0, 0, 3)
    assert kept(other) == kept(root)


def test_a_refresh_leaves_imported_templates_alone_until_there_is_a_photo(root, tmp_path):
    photo(root, "Eve/1.jpg", b"eve")
    enrol(root)
    take(root, write_file(tmp_path / "x.npy", ROWS))
    asked, report = enrol(root)
    assert (asked, report.removed) == ([], 0)
    everything = wanted() | {"Eve/1.jpg": template(b"eve").tobytes()}
    assert kept(root) == everything
    photo(root, "Ada/1.jpg", b"a photo of Ada")
    asked, _ = enrol(root)
    assert asked == [b"a photo of Ada"]
    everything["Ada/1.jpg"] = template(b"a photo of Ada").tobytes()
    assert kept(root) == everything
    assert counts(take(root, tmp_path / "x.npy")) == (0, 3, 0, 1)
    assert kept(root) == everything


def test_another_template_of_the_same_name_takes_its_place(root):
    take(root, lines(ROWS))
    other = [("Ada", "Ada/1.jpg", template(b"other"))]
    assert counts(take(root, lines(other))) == (1, 0, 1, 0)
    assert kept(root) == wanted() | {"Ada/1.jpg": template(b"other").tobytes()}
    # And back: its row is still there.
    assert counts(take(root, lines(ROWS))) == (1, 3, 1, 0)
    assert kept(root) == wanted()
    [store] = store_folders(root, root.parent / "cache")
    assert len(np.load(store.folder / "templates.npy")) == 5
    assert not check(root, store).problems


def test_one_subject_for_all_and_several_faces_of_a_photo(root):
    rows = [("x", "party.jpg", template(b"0")), ("y", "party.jpg#1", template(b"1"))]
    text = [json.loads(line) for line in lines(rows)]
    text[1]["path"] = "party.jpg"
    for each in text:
        del each["subject"]
    with pytest.raises(BadInput, match=r"stdin, line 1: does not say whom .*give one subject"):
        take(root, [json.dumps(each) for each in text])
    take(root, [json.dumps(each) for each in text], subject="Ada")
    assert kept(root) == {"Ada/party.jpg": rows[0][2].tobytes(), "Ada/party.jpg#1": rows[1][2].tobytes()}


def test_records_of_failures_are_counted_and_the_rest_is_imported(root):
    failed = {"schema": SCHEMA, "path": "b.jpg", "error": {"code": "no_face", "message": "none"}}
    done = take(root, [lines(ROWS[:1])[0], "", json.dumps(failed)])
    assert counts(done) == (1, 0, 0, 0)
    assert [probe.path for probe in done.failed] == ["b.jpg"]


def test_lengths_are_made_exactly_one_and_only_if_they_nearly_are(root, tmp_path):
    npy = write_file(tmp_path / "x.npy", ROWS)
    np.save(npy, np.load(npy).astype(np.float16))
    take(root, npy)
    half = np.stack([np.frombuffer(row, "<f4") for row in kept(root).values()])
    assert np.abs(np.linalg.norm(half.astype(float), axis=1) - 1).max() < 1e-6
    assert np.abs(half - np.load(npy)).max() < 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a * 1.01, r"row 0 is not a template of length 1 \(it is 1.01 long\)"),
        (lambda a: np.where(np.arange(4)[:, None] == 2, np.nan, a), "row 2 is not a template of length 1"),
        (lambda a: np.where(np.arange(4)[:, None] == 1, np.inf, a), "row 1 is not a template of length 1"),
        (lambda a: a[:, :-1], "holds rows of 15 numbers of type float32, a template has 16 floats"),
        (lambda a: (a * 100).astype(int), "of type int64"),
        (lambda a: a[:-1], "holds 3 x 16 numbers, its table x.csv has 4 rows"),
        (lambda a: a[0], "holds 16 numbers, its table"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_template_is_refused_and_no_database_made(root, tmp_path, change, said):
    npy = write_file(tmp_path / "x.npy", ROWS)
    np.save(npy, change(np.load(npy)))
    with pytest.raises(BadInput, match=said):
        take(root, npy)
    assert not root.exists()


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        (ID, "dlib-1", EmbedderMismatch, "made by 'dlib-1', this is 'standin-16'"),
        ("subject", "person", BadInput, "does not say whom the templates show"),
        ("n_faces", "many", BadInput, "is not a table of templates .no column 'n_faces'"),
        (",Bo\n", ",.facecli\n", BadInput, r"row 2: '.facecli' cannot name a subject"),
        (",Bo\n", ",a/b\n", BadInput, "row 2: 'a/b' cannot name a subject"),
        (",Bo\n", ",\n", BadInput, "row 2: '' cannot name a subject"),
        (",Bo\n", "\n", BadInput, "row 2: cannot be read"),
        (
            "2,1.0,2.0,3.0,4.0,0.9,standin-16,,,,Bo",
            "2,1,2,3,x,1,standin-16,,,,Bo",
            BadInput,
            "row 2: cannot be read",
        ),
    ],
)
def test_what_the_table_gets_wrong_is_named(root, tmp_path, old, new, error, said):
    npy = write_file(tmp_path / "x.npy", ROWS)
    table = npy.with_suffix(".csv")
    table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(error, match=said):
        take(root, npy)
    assert not root.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject": ".."}, r"stdin, line 1: '..' cannot name"),
        ({"subject": "a\ud800b"}, "cannot name a subject"),
        ({"box": None}, "line 1: cannot be read"),
        ({"face": "first"}, "line 1: cannot be read"),
        ({"embedding": [1.0] * DIM}, "line 1: has no 'embedding' of 16 numbers and length 1"),
    ],
)
def test_what_a_line_gets_wrong_is_named(root, change, said):
    text = json.loads(lines(ROWS[:1])[0])
    with pytest.raises(BadInput, match=said):
        take(root, [json.dumps(text | change)])


def test_what_was_committed_before_an_error_stays_and_is_not_repeated(root, monkeypatch):
    monkeypatch.setattr(take_in, "BATCH_ROWS", 2)
    monkeypatch.setattr("facecli.templates.blocks.BLOCK_LINES", 2)
    text = lines(ROWS)
    with pytest.raises(BadInput, match="line 4"):
        take(root, [*text[:3], "{"])
    assert kept(root) == wanted(ROWS[:2], NAMES[:2])
    assert counts(take(root, text)) == (2, 2, 0, 0)
    assert kept(root) == wanted()


def test_files_and_folders_that_are_not_what_they_should_be(root, tmp_path):
    for name in ("x.npy", "x.jsonl"):
        with pytest.raises(NoSuchFile, match=f"{name}: no such file"):
            take(root, tmp_path / name)
    root.write_text("")
    with pytest.raises(DatabaseError, match="not a folder"):
        take(root, lines(ROWS))
    with (
        pytest.raises(NoSuchFile),
        exported(tmp_path / "none", embedder_id=ID, dim=DIM, cache_dir=tmp_path),
    ):
        pass
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(DatabaseError, match=f"no templates of embedder {ID} are kept here"),
        exported(tmp_path / "empty", embedder_id=ID, dim=DIM, cache_dir=tmp_path),
    ):
        pass


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_any_imports_in_any_order_hold_the_last_of_each_name(tmp_path_factory, picks):
    """Names come twice within a file and across files, with the same template and with others."""
    root = tmp_path_factory.mktemp("db") / "people"
    rows = [(who, f"{who}/{at}.jpg", template(b"%d %d" % (at, kind))) for who, at, kind in picks]
    holding = {}
    for part in (rows[:5], rows[5:], rows):
        if not part:
            continue
        done = take(root, lines(part))
        assert done.n_new + done.n_known == len(part)
        holding |= {path: row.tobytes() for _, path, row in part}
        assert kept(root) == holding
    if rows:
        [store] = store_folders(root, root.parent / "cache")
        assert not check(root, store).problems
    shutil.rmtree(root.parent)


# The compact copy


def test_the_compact_copy_follows_imports_and_compactions_and_is_verified(root, monkeypatch):
    monkeypatch.setattr("facecli.gallery.store.int8_copy.WORTH_BYTES", 0)
    monkeypatch.setattr("facecli.gallery.store.int8_copy.CHUNK_BYTES", 64 * DIM)
    rows = [(f"p{at % 20}", f"p{at % 20}/{at}.jpg", template(b"%d" % at)) for at in range(300)]
    done = take(root, lines(rows))
    [store] = store_folders(root, root.parent / "cache")

    def covered():
        with Store.reading(done.folder, DIM) as kept, kept.still():
            assert kept.compact().agrees(kept.matrix())
            return kept.compact().n_rows

    assert covered() == 256
    forget(root, "p3", cache_dir=root.parent / "cache")
    assert len(np.load(done.folder / "templates.npy")) == 285
    assert covered() == 256
    assert len(kept(root)) == 285
    assert not check(root, store).problems
    with open(done.folder / "compact.npy", "r+b") as file:
        file.seek(-10 * DIM, os.SEEK_END)
        file.write(bytes(DIM))
    found = check(root, store)
    assert [problem.code for problem in found.problems] == ["compact_differs"]
    repair(store, found, None)
    assert covered() == 256
    assert not check(root, store).problems


# Agreement


class Other(StandIn):
    """Half of what this makes of a photo is what the other makes."""

    def __init__(self):
        super().__init__()
        self.id = "other"

    def result(self, path, data):
        found = super().result(path, data)
        if isinstance(found, Exception):
            return found
        if path.name == "7.jpg":
            return super().result(path, b"noface")
        mixed = found.embedding + template(b"other" + data)
        return found.__class__(**{**vars(found), "embedding": mixed / np.linalg.norm(mixed)})


class Near(Other):
    """Templates that lie near the person's; the other embedder only sees noise."""

    def __init__(self):
        super().__init__()
        self.id = "near"

    def result(self, path, data):
        found = StandIn.result(self, path, data)
        if isinstance(found, Exception):
            return found
        mixed = found.embedding + 2 * template(path.parent.name.encode())
        return found.__class__(**{**vars(found), "embedding": mixed / np.linalg.norm(mixed)})


@pytest.fixture
def two(root, tmp_path):
    """The same photos under two embedders; two files show the same photo, one person has a single photo."""
    for person in range(6):
        for at in range(1 if person == 5 else 5):
            photo(root, f"p{person}/{at}.jpg", f"{person} {at}".encode())
    photo(root, "p0/copy.jpg", b"0 0")
    photo(root, "p0/7.jpg", b"0 seven")
    return [refresh(root, enroller, cache_dir=tmp_path / "cache")[0] for enroller in (Near(), Other())]


def naive_rank1(gallery, paths):
    """Say by plain loops whose best other photo shows the same person."""
    rows = {sample.path: sample.row for sample in gallery.samples}
    right = {}
    for path in paths:
        others = [other for other in paths if rows[other] != rows[path]]
        if any(other.split("/")[0] == path.split("/")[0] for other in others):
            best = max(
                others, key=lambda other: gallery.templates[rows[path]] @ gallery.templates[rows[other]]
            )
            right[path] = best.split("/")[0] == path.split("/")[0]
    return right


def test_agreement_is_what_plain_loops_find(two):
    near, other = two
    found = compare_embedders(near, other)
    paths = [sample.path for sample in other.samples]
    left, right = naive_rank1(near, paths), naive_rank1(other, paths)
    assert (found.n_samples, found.n_probes) == (len(paths), len(left)) == (27, 26)
    assert found.both_right == sum(left[path] and right[path] for path in left)
    assert found.only_old_right == sum(left[path] and not right[path] for path in left) > 0
    assert found.only_new_right == sum(not left[path] and right[path] for path in left)
    counted = found.both_right + found.only_old_right + found.only_new_right + found.neither_right
    assert counted == found.n_probes
    assert (found.only_old, found.only_new) == (("p0/7.jpg",), ())
    again = compare_embedders(near, near)
    assert (again.mated_correlation, again.nonmated_correlation) == pytest.approx((1, 1))
    assert again.only_old_right == again.only_new_right == 0
    # All pairs of so few photos are drawn, each once: 4 x 10 and what p0 adds, less the copy's with its original.
    assert found.n_mated_pairs == 4 * 10 + 10 + 4
    assert compare_embedders(other, near).mated_correlation == pytest.approx(found.mated_correlation)


def test_imported_templates_and_strangers_to_one_side_do_not_count(two, tmp_path):
    near, other = two
    imported = frozenset({"p0/0.jpg", "p0/7.jpg"})
    found = compare_embedders(near, other, imported=imported)
    assert found.n_samples == 26
    assert found.only_old == ()
    photo(tmp_path / "else", "x/1.jpg", b"nobody knows")
    strange, _ = refresh(tmp_path / "else", Other(), cache_dir=tmp_path / "cache")
    with pytest.raises(DatabaseError, match="no photo has a template under both"):
        compare_embedders(near, strange)


def test_probes_are_drawn_and_stated_where_there_are_many(two):
    near, other = two
    found = compare_embedders(near, other, n_probes=7, n_pairs=10, seed=3)
    assert found.n_probes == 7
    assert found.n_mated_pairs <= 10
    assert found == compare_embedders(near, other, n_probes=7, n_pairs=10, seed=3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=30))
@pytest.mark.filterwarnings("ignore")
def test_rank_correlation_is_scipys(pairs):
    a, b = np.array(pairs, float).T
    ours, theirs = spearman(a, b), spearmanr(a, b).statistic
    assert (np.isnan(ours) and np.isnan(theirs)) or ours == pytest.approx(theirs)


def test_columns_of_an_export_begin_like_those_of_embed(tmp_path):
    npy = write_file(tmp_path / "x.npy", ROWS)
    assert npy.with_suffix(".csv").read_text().splitlines()[0] == ",".join(
        [*ROW_COLUMNS, *QUALITY_COLUMNS, "subject"]
    )
    write_file(npy, ROWS[:1])
    assert np.load(npy).shape == (1, DIM)
