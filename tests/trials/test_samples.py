"""Samples from photos, databases and templates; their comparisons against loops."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from standin import DIM, StandIn, template

from facecli.errors import BadInput, EmbedderMismatch, NoFace, NoSuchFile, UnreadableImage
from facecli.faces.face import Face
from facecli.photos.find import digest
from facecli.templates.records import embed_record, failed_record, write_rows
from facecli.templates.template import Embedded, FaceTemplate
from facecli.trials.database import samples_of_database
from facecli.trials.labelled import of_pairs, of_samples, of_scores, overlap
from facecli.trials.pairs import PairSet, parse_csv
from facecli.trials.samples import Samples, embed_pairs, samples_of_templates, subjects_where_known
from facecli.trials.score_table import parse_scores
from facecli.trials.scored import cross_of, listed_scores

CSV = b"left,right,mated\nada/1.jpg,ada/2.jpg,1\nada/1.jpg,bob/1.jpg,0\nbob/1.jpg,eve/1.jpg,0\n"


class Drawn:
    """Embeds any file as the template drawn from its contents; `noface` and missing files fail."""

    dim = DIM

    def embed(self, photos):
        for path, data in photos:
            if data is None:
                yield UnreadableImage("cannot be read", path=path)
            elif data.startswith(b"noface"):
                yield NoFace("no face found", path=path, hint="look again")
            else:
                yield drawn(path, data)


def drawn(path, data, indices=(0,)):
    faces = [
        FaceTemplate(Face((0.0, 0.0, 9.0, 9.0), ((1.0, 2.0),) * 5, 0.9), k, template(data + bytes([k])))
        for k in indices
    ]
    return Embedded(Path(path), 10, 10, len(faces), tuple(faces))


@pytest.fixture
def people(tmp_path):
    contents = {"ada/1": b"a1", "ada/2": b"a2", "bob/1": b"b1", "eve/1": b"noface"}
    for name, content in contents.items():
        path = tmp_path / "people" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "people"


def parse(text, root):
    return parse_csv(text, source="x.csv", root=root)


def test_images_are_embedded_once_and_failures_keep_their_place(people):
    pairs = parse(CSV + b"gone/1.jpg,ada/1.jpg,0\n", people)
    told = []
    samples = embed_pairs(Drawn(), pairs, progress=lambda done, total: told.append((done, total)))
    assert samples.paths == ("ada/1.jpg", "ada/2.jpg", "bob/1.jpg", "eve/1.jpg", "gone/1.jpg")
    assert samples.subjects == ("ada", "ada", "bob", "eve", "gone")
    assert samples.digests == (digest(b"a1"), digest(b"a2"), digest(b"b1"), digest(b"noface"), "")
    assert np.isnan(samples.templates).all(axis=1).tolist() == [False, False, False, True, True]
    assert [(f.path, f.code) for f in samples.failures] == [
        ("eve/1.jpg", "no_face"),
        ("gone/1.jpg", "unreadable"),
    ]
    assert samples.failures[0].message == "no face found; look again"
    assert samples.people == 4
    assert told == [(k, 5) for k in range(1, 6)]


def test_listed_pairs_agree_with_a_loop_and_failures_are_minus_infinity(people):
    pairs = parse(CSV, people)
    samples = embed_pairs(Drawn(), pairs)
    found = listed_scores(samples, pairs).comparisons
    rows = dict(zip(samples.paths, samples.templates, strict=True))
    expected = [
        float(rows[a].astype(float) @ rows[b].astype(float))
        for a, b in zip(pairs.left, pairs.right, strict=True)
    ]
    assert found.similarity[:2] == pytest.approx(expected[:2], abs=1e-15)
    assert found.similarity[2] == -np.inf
    assert found.mated.tolist() == [True, False, False]
    assert found.people == 3


def test_cross_compares_everybody_with_everybody(people):
    samples = embed_pairs(Drawn(), parse(CSV, people))
    found = cross_of(samples).comparisons
    couples = list(itertools.combinations(range(4), 2))
    for k, (i, j) in enumerate(couples):
        if 3 in (i, j):
            assert found.similarity[k] == -np.inf
        else:
            assert found.similarity[k] == pytest.approx(samples.templates[i] @ samples.templates[j], abs=1e-6)
        assert found.mated[k] == (samples.subjects[i] == samples.subjects[j])


@pytest.mark.parametrize(
    ("text", "subjects"),
    [
        (CSV, ["ada", "ada", "bob", "eve"]),
        (b"left,right,mated\na/1.jpg,a/2.jpg,0\na/1.jpg,b/1.jpg,0\n", ["", "", ""]),
        (b"left,right,mated\na/1.jpg,b/2.jpg,1\n", ["", ""]),
        (b"left,right,mated\n1.jpg,2.jpg,1\n", ["", ""]),
        (b"left,right,left_subject,right_subject\n1.jpg,2.jpg,x,y\n", ["x", "y"]),
        (b"left,right\na/1.jpg,b/2.jpg\n", ["a", "b"]),
    ],
    ids=["folders", "one folder, two people", "one person, two folders", "no folder", "columns", "no labels"],
)
def test_folders_name_subjects_only_where_they_explain_the_labels(text, subjects, tmp_path):
    assert list(subjects_where_known(parse(text, tmp_path)).values()) == subjects


def test_unknown_people_can_be_listed_but_not_crossed(people):
    pairs = parse(b"left,right,mated\nada/1.jpg,bob/1.jpg,1\nada/1.jpg,ada/2.jpg,0\n", people)
    samples = embed_pairs(Drawn(), pairs)
    assert samples.people == 0
    found = listed_scores(samples, pairs).comparisons
    assert found.people == 0
    assert found.mated.tolist() == [True, False]
    with pytest.raises(BadInput, match="ada/1.jpg: nobody knows who is shown.*folder for each person"):
        cross_of(samples)


def test_pairs_without_labels_or_with_other_images_are_refused(people):
    pairs = parse(b"left,right,mated\nada/1.jpg,bob/1.jpg,1\n", people)
    samples = embed_pairs(Drawn(), pairs)
    with pytest.raises(BadInput, match="do not say which of them are mated"):
        listed_scores(samples, PairSet(pairs.left, pairs.right, people))
    with pytest.raises(BadInput, match="eve/1.jpg: is in the list of pairs and not among the samples"):
        listed_scores(samples, parse(b"left,right,mated\nada/1.jpg,eve/1.jpg,1\n", people))
    known = embed_pairs(Drawn(), parse(CSV, people))
    with pytest.raises(BadInput, match="pair 2 is labelled against its subjects"):
        listed_scores(
            known, parse(b"left,right,mated\nada/1.jpg,ada/2.jpg,1\nada/1.jpg,bob/1.jpg,1\n", people)
        )


def test_a_database_gives_every_photo_from_its_cache(people, tmp_path):
    enroller = StandIn()
    samples = samples_of_database(people, enroller, cache_dir=tmp_path / "cache")
    assert samples.paths == ("ada/1.jpg", "ada/2.jpg", "bob/1.jpg", "eve/1.jpg")
    assert samples.subjects == ("ada", "ada", "bob", "eve")
    assert samples.digests[0] == digest(b"a1")
    assert np.array_equal(samples.templates[:3], np.stack([template(c) for c in (b"a1", b"a2", b"b1")]))
    assert np.isnan(samples.templates[3]).all()
    assert [(f.path, f.code) for f in samples.failures] == [("eve/1.jpg", "no_face")]
    again = StandIn()
    repeated = samples_of_database(people, again, cache_dir=tmp_path / "cache")
    assert again.asked == []
    assert np.array_equal(repeated.templates, samples.templates, equal_nan=True)
    assert listed_scores(samples, parse(CSV, people)).comparisons.similarity[2] == -np.inf


@pytest.fixture
def records(tmp_path):
    group = drawn("x/ada/2.jpg", b"a2", indices=(0, 1))
    made = [embed_record(drawn("x/ada/1.jpg", b"a1"), drawn("", b"a1").faces[0], "toy")]
    made += [embed_record(group, face, "toy") for face in reversed(group.faces)]
    return made


def test_json_lines_of_embed_are_samples(records, tmp_path):
    path = tmp_path / "t.jsonl"
    failed = failed_record("x/eve/1.jpg", NoFace("no face found"))
    path.write_text("".join(json.dumps(record) + "\n" for record in [*records, failed]))
    samples = samples_of_templates(path, embedder_id="toy", dim=DIM)
    assert samples.paths == ("x/ada/1.jpg", "x/ada/2.jpg", "x/eve/1.jpg")
    assert samples.subjects == ("ada", "ada", "eve")
    assert samples.digests == ("", "", "")
    # Of two faces in a photo the largest one, whatever their order.
    assert np.array_equal(samples.templates[1], template(b"a2\0"))
    assert [(f.path, f.code) for f in samples.failures] == [("x/eve/1.jpg", "no_face")]
    with pytest.raises(EmbedderMismatch, match="made by 'toy', this is 'other'"):
        samples_of_templates(path, embedder_id="other", dim=DIM)


def test_an_array_with_its_table_is_samples(records, tmp_path):
    np.save(tmp_path / "t.npy", np.array([r["embedding"] for r in records], np.float32))
    with open(tmp_path / "t.csv", "w") as table:
        write_rows(table, records)
    samples = samples_of_templates(tmp_path / "t.npy", embedder_id="toy", dim=DIM)
    assert samples.subjects == ("ada", "ada")
    assert np.array_equal(samples.templates[1], template(b"a2\0"))


def test_missing_and_empty_templates_are_said(tmp_path):
    with pytest.raises(NoSuchFile, match="t.jsonl: no such file of templates"):
        samples_of_templates(tmp_path / "t.jsonl", embedder_id="toy", dim=DIM)
    (tmp_path / "t.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="holds no templates"):
        samples_of_templates(tmp_path / "t.jsonl", embedder_id="toy", dim=DIM)


def test_provenance_marks_what_was_read_and_finds_it_again(people):
    samples = embed_pairs(Drawn(), parse(CSV + b"gone/1.jpg,ada/1.jpg,0\n", people))
    one = of_samples(samples, description="all").provenance
    assert (one.description, one.n_images, one.n_people, one.n_failed) == ("all", 5, 4, 7)
    assert len(one.image_marks) == 4
    part = embed_pairs(Drawn(), parse(b"left,right,mated\nada/1.jpg,bob/1.jpg,0\n", people))
    assert overlap(one, of_samples(part).provenance).startswith("2 images and 2 people are both in")
    flat = parse(b"left,right,mated\n../people/ada/1.jpg,bob/1.jpg,1\n", people)
    unknown = of_pairs(Drawn(), flat).provenance
    assert overlap(one, unknown).startswith("2 images and 0 people")
    assert overlap(unknown, unknown).startswith("2 images and 0 people")
    scores = parse_scores(b"similarity,mated\n0.9,1\n0.1,0\n", source="s.csv")
    assert overlap(one, of_scores(scores).provenance) == ""


def test_identical_bytes_are_found_and_unread_files_are_not_identical():
    samples = Samples(
        ("a", "b", "c", "d", "e"), ("",) * 5, ("1", "2", "1", "", ""), np.zeros((5, 2), np.float32)
    )
    assert samples.identical() == [("c", "a")]
