"""Templates on their way between commands: what embed writes is what find reads, and nothing else is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from facecli.errors import BadInput, EmbedderMismatch, NoFace, NoSuchFile, UsageError
from facecli.faces.face import Face
from facecli.templates.npy_output import NpyOutput
from facecli.templates.reading import parse_record, read_npy
from facecli.templates.records import (
    QUALITY_COLUMNS,
    ROW_COLUMNS,
    SCHEMA,
    embed_record,
    failed_record,
    rows_path,
)
from facecli.templates.template import Embedded, FaceTemplate, FailedProbe, Probe, probes_of

DIM, ID = 6, "net-1"


def template(seed):
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def embedded(path, *seeds, n_faces=None):
    points = ((10.04, 20.06), (30, 20), (20, 30), (12, 40), (28, 40))
    faces = tuple(
        FaceTemplate(Face((1.26 + index, 2, 50.99, 60), points, 0.99996), index, template(seed))
        for index, seed in enumerate(seeds)
    )
    return Embedded(Path(path), 640, 480, n_faces if n_faces is not None else len(seeds), faces)


def records(found):
    return [embed_record(found, chosen, ID) for chosen in found.faces]


def parsed(line, number=3):
    return parse_record(line, source="stdin", number=number, embedder_id=ID, dim=DIM)


def test_a_record_has_the_schema_of_the_readme():
    (record,) = records(embedded("a.jpg", 1, n_faces=4))
    assert list(record) == [
        "schema",
        "path",
        "face",
        "n_faces",
        "box",
        "landmarks",
        "probability",
        "turned",
        "quality",
        "quality_parts",
        "strictness",
        "embedder_id",
        "embedding",
    ]
    assert record["schema"] == SCHEMA == "facecli.embed/1"
    assert record["box"] == [1.3, 2, 51.0, 60]
    assert record["landmarks"][0] == [10.0, 20.1]
    assert record["probability"] == 1.0
    assert record["n_faces"] == 4


def test_what_embed_writes_is_read_back_to_the_bit():
    for seed in range(50):
        found = embedded("a.jpg", seed)
        (record,) = records(found)
        probe = parsed(json.dumps(record))
        assert isinstance(probe, Probe)
        assert probe.embedding.tobytes() == found.faces[0].embedding.tobytes()
        (direct,) = probes_of(found)
        assert (probe.path, probe.place) == (direct.path, direct.place)


def test_quality_and_strictness_are_read_back_and_may_be_missing():
    (record,) = records(embedded("a.jpg", 1))
    told = parsed(json.dumps({**record, "quality": 41.5, "strictness": 0.0625}))
    assert (told.place.quality, told.strictness) == (41.5, 0.0625)
    older = parsed(
        json.dumps({key: value for key, value in record.items() if key not in ("quality", "strictness")})
    )
    assert (older.place.quality, older.strictness) == (None, 0.0)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"quality": 101},
        {"quality": "good"},
        {"strictness": -1},
        {"face": 0.5},
        {"face": True},
        {"n_faces": -1},
        {"probability": 1.5},
        {"box": [1, 2, 3]},
        {"box": [1e300, 2, 3, 4]},
        {"box": "left"},
    ],
)
def test_a_face_that_cannot_be_is_refused(nonsense):
    (record,) = records(embedded("a.jpg", 1))
    with pytest.raises(BadInput, match=f"'{next(iter(nonsense))}' is no"):
        parsed(json.dumps({**record, **nonsense}))


def test_a_path_that_no_file_can_have_is_refused():
    (record,) = records(embedded("a.jpg", 1))
    with pytest.raises(BadInput, match="has a 'path' that no file can have"):
        parsed(json.dumps({**record, "path": "\ud800"}))


def test_failures_pass_through_as_they_came():
    record = failed_record("x.jpg", NoFace("no face found", path="x.jpg", hint="look again"))
    assert record == {
        "schema": SCHEMA,
        "path": "x.jpg",
        "error": {"code": "no_face", "message": "no face found; look again"},
    }
    assert parsed(json.dumps(record)) == FailedProbe("x.jpg", record["error"])
    assert parsed('{"error": {"code": "odd"}}') == FailedProbe("stdin:3", {"code": "odd", "message": ""})


def changed(**changes):
    (record,) = records(embedded("a.jpg", 1))
    return json.dumps({**record, **changes})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3: is not JSON .column 2: "),
        ("[" * 100_000, "line 3: is not JSON .nested too deep"),
        ("[1]", "is not a record"),
        ("3", "is not a record"),
        ('{"path": "a"}', "has the schema None"),
        (
            changed(schema="facecli.embed/2"),
            "has the schema 'facecli.embed/2', this version reads 'facecli.embed/1'",
        ),
        (changed(embedding=[1.0]), "has no 'embedding' of 6 numbers and length 1"),
        (changed(embedding=[0.1] * 6), "has no 'embedding' of 6 numbers and length 1"),
        (changed(embedding=None), "has no 'embedding'"),
        (changed(embedding="abcdef"), "has no 'embedding'"),
        (changed(embedding=[True] * 6), "has no 'embedding'"),
        (changed(embedding=["1"] * 6), "has no 'embedding'"),
        (changed(embedding=[float("nan")] * 6), "line 3: is not JSON .NaN is not a number"),
        (changed(embedding=[10**400] * 6), "has no 'embedding'"),
        (changed(embedding=[1e39] * 6), "has no 'embedding'"),
        (changed(error="bad"), "has an 'error' without a code"),
        (changed(error={"code": 3}), "has an 'error' without a code"),
    ],
)
def test_anything_else_is_refused_with_its_line(line, said):
    with pytest.raises(BadInput, match=said) as raised:
        parsed(line)
    assert str(raised.value).startswith("stdin: line 3: ")
    assert "templates that facecli wrote" in str(raised.value)


def test_another_embedders_record_is_refused():
    with pytest.raises(
        EmbedderMismatch, match=r"stdin, line 3: the template was made by 'other', this is 'net-1'"
    ):
        parsed(changed(embedder_id="other"))


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "faces.npy"
    with NpyOutput(path, DIM) as sink:
        for record in records(embedded('a, "b"\n.jpg', 1, 2)) + records(embedded("c.jpg", 3)):
            sink.emit(record)
        sink.emit(failed_record("bad.jpg", NoFace("no face found")))
    assert sink.count == 3
    return path


def read(path):
    return list(read_npy(path, embedder_id=ID, dim=DIM))


def test_a_npy_file_and_its_table_say_what_the_records_said(npy):
    found = read(npy)
    expected = [*probes_of(embedded('a, "b"\n.jpg', 1, 2)), *probes_of(embedded("c.jpg", 3))]
    assert [(probe.path, probe.place) for probe in found] == [(probe.path, probe.place) for probe in expected]
    for probe, other in zip(found, expected, strict=True):
        assert probe.embedding.tobytes() == other.embedding.tobytes()
    array = np.load(npy, mmap_mode="r")
    assert (array.dtype, array.shape) == (np.float32, (3, DIM))
    rows = list(csv.reader(rows_path(npy).open(encoding="utf-8", newline="")))
    assert rows[0] == ROW_COLUMNS + QUALITY_COLUMNS
    assert [row[0] for row in rows[1:]] == ["0", "1", "2"]
    assert sorted(p.name for p in npy.parent.iterdir()) == ["faces.csv", "faces.npy"]


def test_no_templates_are_a_file_too(tmp_path):
    path = tmp_path / "none.npy"
    with NpyOutput(path, DIM):
        pass
    assert np.load(path).shape == (0, DIM)
    assert read(path) == []


def test_an_interruption_leaves_what_was_there(npy):
    before = npy.read_bytes(), rows_path(npy).read_bytes()
    sink = NpyOutput(npy, DIM)
    sink.__enter__()
    sink.emit(records(embedded("d.jpg", 9))[0])
    sink.__exit__(KeyboardInterrupt, None, None)
    assert (npy.read_bytes(), rows_path(npy).read_bytes()) == before


@pytest.mark.parametrize("place", ["folder", "missing/x"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, tmp_path):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        NpyOutput(tmp_path / f"{place}.npy", DIM).__enter__()


def test_a_missing_half_is_named(npy, tmp_path):
    with pytest.raises(NoSuchFile, match=r"none\.npy: no such file; x.npy lies beside x.csv"):
        read(tmp_path / "none.npy")
    rows_path(npy).unlink()
    with pytest.raises(NoSuchFile, match=r"faces\.csv"):
        read(npy)


def lines_of(npy):
    return rows_path(npy).read_text(encoding="utf-8").splitlines(keepends=True)


def test_halves_that_do_not_fit_are_refused(npy):
    rows_path(npy).write_text("".join(lines_of(npy)[:-1]), encoding="utf-8")
    with pytest.raises(BadInput, match=r"holds 3 x 6 numbers, its table faces.csv has 2 rows"):
        read(npy)


@pytest.mark.parametrize("data", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array_is_refused(data, npy):
    npy.write_bytes(data)
    with pytest.raises(BadInput, match=r"faces.npy: is not an array of templates"):
        read(npy)


def test_a_pickle_is_never_opened(npy):
    np.save(npy, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="is not an array of templates"):
        read(npy)


def test_templates_that_are_not_templates_are_refused(npy):
    np.save(npy, np.full((3, DIM), np.nan, np.float32))
    with pytest.raises(BadInput, match="row 0 is not a template of 6 numbers and length 1"):
        read(npy)
    np.save(npy, np.zeros((3, DIM + 1), np.float32))
    with pytest.raises(BadInput, match="row 0 is not a template"):
        read(npy)
    np.save(npy, np.full((3, DIM), "a"))
    with pytest.raises(BadInput, match="row 0 is not a template"):
        read(npy)
    np.save(npy, np.full((3, DIM), 0.5, np.float32))
    with pytest.raises(BadInput, match="length 1"):
        read(npy)


def test_another_embedders_file_is_refused(npy):
    with pytest.raises(
        EmbedderMismatch, match=r"faces.csv, row 0: the template was made by 'net-1', this is 'x'"
    ):
        list(read_npy(npy, embedder_id="x", dim=DIM))


def test_a_bad_row_of_the_table_is_named(npy):
    lines = lines_of(npy)
    rows_path(npy).write_text(
        "".join([*lines[:-1], lines[-1].replace("c.jpg,0", "c.jpg,zero")]), encoding="utf-8"
    )
    with pytest.raises(BadInput, match=r"faces.csv: row 2 cannot be read"):
        read(npy)


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n3,4\n5,6\n", b"\xff\xfe\x00"])
def test_a_foreign_table_is_refused(data, npy):
    rows_path(npy).write_bytes(data)
    with pytest.raises(BadInput):
        read(npy)


def test_templates_never_overwrite_a_table_that_is_not_theirs(tmp_path):
    (tmp_path / "faces.csv").write_text("name,age\nAda,36\n")
    with pytest.raises(UsageError, match="would be overwritten"), NpyOutput(tmp_path / "faces.npy", 4):
        pass
    assert (tmp_path / "faces.csv").read_text() == "name,age\nAda,36\n"
    for _ in range(2):  # the second time over its own
        with NpyOutput(tmp_path / "mine.npy", 4):
            pass
    assert not (tmp_path / "faces.npy").exists()
