"""Lists of pairs and scores in every form they come in, and all cross comparisons of templates."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecli.errors import BadInput, NoSuchFile
from facecli.stats import cross
from facecli.trials import pairs
from facecli.trials.score_table import parse_scores

HERE = Path("root")
LFW_VIEW1 = Path(__file__).parents[3] / "shared" / "data" / "lfw_view1"


def parse(text, **kwargs):
    data = text if isinstance(text, bytes) else text.encode()
    return pairs.parse_csv(data, source="p.csv", root=HERE, **kwargs)


@pytest.mark.parametrize(
    "text",
    [
        "left,right,mated\na b.jpg,c.jpg,1\nd.jpg,e.jpg,0\n",
        "left,right,mated\r\na b.jpg,c.jpg,1\r\nd.jpg,e.jpg,0\r\n",
        "left\tright\tmated\na b.jpg\tc.jpg\tyes\nd.jpg\te.jpg\tNo\n",
        "left;right;mated\na b.jpg;c.jpg;SAME\n\n\nd.jpg;e.jpg;different",
        "\ufeffLeft, Right ,Mated\na b.jpg,c.jpg,true\nd.jpg,e.jpg,FALSE\n",
        "\nmated,right,left\nmated,c.jpg,a b.jpg\nnonmated,e.jpg,d.jpg\n",
        '"left","right","mated"\n"a b.jpg","c.jpg","1"\n"d.jpg","e.jpg","non-mated"\n',
        "left\tright\tmated\na b.jpg\tc.jpg\t1\nd.jpg\te.jpg\t0\n".encode("utf-16"),
    ],
)
def test_one_list_in_many_dialects(text):
    found = parse(text)
    assert found.left == ("a b.jpg", "d.jpg")
    assert found.right == ("c.jpg", "e.jpg")
    assert found.mated.tolist() == [True, False]
    assert found.errors == ()
    assert found.paths[0] == (HERE / "a b.jpg", HERE / "c.jpg")


NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)


@given(st.lists(st.tuples(NAME, NAME, st.booleans(), NAME), min_size=1), st.sampled_from(",;\t"))
def test_any_name_survives_csv(rows, delimiter):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["left", "right", "mated", "group"])
    writer.writerows([left, right, int(mated), group] for left, right, mated, group in rows)
    found = parse(out.getvalue())
    assert list(zip(found.left, found.right, found.mated.tolist(), found.extra["group"], strict=True)) == rows


def test_a_name_that_is_not_utf8_survives():
    assert parse(b"left,right\ncaf\xe9.jpg,b\n").left == ("caf\udce9.jpg",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("left,right,mated\n", "no rows"),
        ("left,mated\na,1\n", "line 1: no column 'right' among 'left', 'mated'"),
        ("\n\na.jpg,b.jpg\n", "line 3: no column 'left'"),
        ("left,right,left\na,b,c\n", "line 1: the column 'left' is there twice"),
        ("left,right,left_subject\na,b,c\n", "line 1: no column 'right_subject'"),
        ('left,right\na,b\n"c,d\ne,f\n', "line 3: a quote begins here and never ends"),
        ("left,right\n,b\n", r"no row can be used \(line 2: the column 'left' is empty"),
        (b"left,right\na\0,b\n", "zero bytes"),
        (b"\xff\xfea", "is not text"),
    ],
)
def test_a_useless_list_is_refused_with_its_line(text, message):
    with pytest.raises(BadInput, match=message) as caught:
        parse(text)
    assert caught.value.path == "p.csv"


def test_bad_rows_are_listed_and_the_rest_goes_on():
    found = parse(
        "left,right,mated,left_subject,right_subject\n"
        "a,b,1,ann,ann\n"
        '"two\nlines",b,0,ann,bob\n'
        "a,b,maybe,ann,ann\n"
        "a,b,1,ann,bob\n"
        "a,b\n"
        "a, ,1,ann,ann\n"
        'a,"b"c,1,ann,ann\n'
        "a,b,,ann,ann\n"
        "a,b,1,ann,\n"
        "d,e,0,dan,eve\n"
    )
    assert found.lines == (2, 3, 12)
    assert found.left == ("a", "two\nlines", "d")
    assert [error.what.split(":")[0] for error in found.errors] == [
        f"line {n}" for n in (5, 6, 7, 8, 9, 10, 11)
    ]
    for error, word in zip(
        found.errors, ("maybe", "subjects say 0", "2 columns", "'right' is empty", "csv", "''", "subject is empty"),
        strict=True,
    ):  # fmt: skip
        assert word in error.what


def test_what_is_not_said_is_not_made_up():
    assert parse("left,right\na,b\n").mated is None
    named = parse("left,right,left_subject,right_subject\na,b,x,x\na,c,x,y\n")
    assert named.mated.tolist() == [True, False]


def test_duplicates_are_found_either_way_round():
    assert parse("left,right\na,b\nc,d\nb,a\na,b\n").duplicates() == [(4, 2), (5, 2)]


LFW = (
    "2\t2\nAnn\t1\t4\nBob\t2\t3\nAnn\t1\tBob\t2\nCy\t1\tDee\t10\nEve 1 2\nFay 1 2\nEve 1 Fay 1\nEve 2 Gus 1\n"
)


def test_lfw_folds(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(LFW)
    found = pairs.read_pairs(path)
    assert found.left[0] == "Ann/Ann_0001.jpg"
    assert found.right[3] == "Dee/Dee_0010.jpg"
    assert found.mated.tolist() == [True, True, False, False] * 2
    assert found.fold.tolist() == [0] * 4 + [1] * 4
    assert found.root == tmp_path
    assert found.errors == ()
    dev = pairs.parse_lfw(b"1\nAnn\t1\t4\nAnn\t1\tBob\t2\n", source="dev", root=HERE)
    assert dev.fold.tolist() == [0, 0]


def test_lfw_with_damage():
    damaged = LFW.replace("Bob\t2\t3", "Bob two 3").removesuffix("Eve 2 Gus 1\n")
    found = pairs.parse_lfw(damaged.encode(), source="pairs.txt", root=HERE)
    assert len(found) == 6
    assert [str(e) for e in found.errors] == [
        "pairs.txt: line 3: 'Bob two 3' is not of the form 'NAME 1 2'",
        "pairs.txt: line 8: has 7 pairs where line 1 announces 8",
    ]
    for useless in (b"", b"ten\n", b"1\n", b"0\nAnn 1 2\n"):
        with pytest.raises(BadInput):
            pairs.parse_lfw(useless, source="pairs.txt", root=HERE)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(NoSuchFile):
        pairs.read_pairs(tmp_path / "none.csv")
    with pytest.raises(BadInput, match="cannot be read"):
        pairs.read_pairs(tmp_path)
    (tmp_path / "p.csv").write_text("left,right\na,b\n")
    assert pairs.read_pairs(tmp_path / "p.csv", root=HERE).root == HERE


def test_images_and_their_subjects():
    found = parse("left,right\nx/1,y/1\ny/1,x/2\n")
    assert pairs.images(found) == ["x/1", "y/1", "x/2"]
    assert pairs.subjects_of(found) == {"x/1": "x", "y/1": "y", "x/2": "x"}
    named = parse("left,right,left_subject,right_subject\n1,2,ann,bob\n")
    assert pairs.subjects_of(named) == {"1": "ann", "2": "bob"}
    with pytest.raises(BadInput, match="is said to show 'ann' and 'bob'"):
        pairs.subjects_of(parse("left,right,left_subject,right_subject\n1,2,ann,bob\n2,1,bob,bob\n"))
    with pytest.raises(BadInput, match="no folder"):
        pairs.subjects_of(parse("left,right\n1,2\n"))


def test_pairs_of_people():
    people = [("ann", "ann/1"), ("ann", "ann/2"), ("bob", "bob/1"), ("cy", "cy/1"), ("cy", "cy/2")]
    every = pairs.from_people(people, root=HERE)
    assert len(every) == 10
    assert [
        (a, b) for a, b, m in zip(every.left, every.right, every.mated, strict=True) if m
    ] == [("ann/1", "ann/2"), ("cy/1", "cy/2")]  # fmt: skip
    some = pairs.from_people(people, root=HERE, nonmated=3, seed=1)
    assert (some.mated.sum(), len(some)) == (2, 5)
    assert some.left == pairs.from_people(people, root=HERE, nonmated=3, seed=1).left
    assert {*zip(some.left, some.right, strict=True)} <= {*zip(every.left, every.right, strict=True)}
    with pytest.raises(BadInput, match="no pairs"):
        pairs.from_people(people[:1], root=HERE)


@pytest.mark.parametrize("nonmated", [1, 5, 60, 119, 120, 1_000])
def test_nonmated_pairs_are_drawn_each_once_and_all_as_likely(nonmated):
    people = [(f"p{k % 6}", f"{k}") for k in range(18)]
    number = {path: k for k, (_, path) in enumerate(people)}
    every = pairs.from_people(people, root=HERE)
    assert (every.mated.sum(), len(every)) == (18, 153)
    seen = set()
    for seed in range(600 // nonmated + 20):
        some = pairs.from_people(people, root=HERE, nonmated=nonmated, seed=seed)
        listed = list(zip(some.left, some.right, strict=True))
        assert listed == sorted(set(listed), key=lambda pair: [number[path] for path in pair])
        assert (some.mated.sum(), len(some)) == (18, 18 + min(nonmated, 135))
        seen.update(listed)
    assert seen <= {*zip(every.left, every.right, strict=True)}
    assert len(seen) > 140


def test_drawing_from_many_photos_lists_no_more_than_is_drawn():
    people = [(f"p{k // 4}", f"{k}") for k in range(40_000)]
    tracemalloc.start()
    some = pairs.from_people(people, root=HERE, nonmated=10_000, seed=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (some.mated.sum(), len(some)) == (60_000, 70_000)
    # 800 million pairs would be 13 GB.
    assert peak < 100e6


def test_scores_from_any_tool():
    table = parse_scores(b"mated,similarity\n1,0.5\n0,-inf\nx,0.1\n1,nan\n0,abc\n0,1e-3\n", source="s.csv")
    assert table.comparisons.similarity.tolist() == [0.5, -np.inf, 1e-3]
    assert table.comparisons.mated.tolist() == [True, False, False]
    assert table.comparisons.people == 0
    assert table.lines == (2, 3, 7)
    assert [e.what.split(":")[0] for e in table.errors] == ["line 4", "line 5", "line 6"]
    named = parse_scores(
        b"similarity,left_subject,right_subject\n0.5,a,a\n0.1,a,b\n", source="s.csv"
    ).comparisons
    assert named.mated.tolist() == [True, False]
    assert named.people == 2
    for useless in (b"similarity\n0.1\n", b"mated\n1\n", b"similarity,mated\nx,y\n"):
        with pytest.raises(BadInput):
            parse_scores(useless, source="s.csv")


@given(
    st.integers(0, 12),
    st.integers(1, 40),
    st.lists(st.sampled_from("abc"), min_size=12, max_size=12),
    st.integers(0, 99),
)
def test_cross_scores_are_all_pairs_once_and_in_order(n, block, names, seed):
    templates = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
    if n > 2:
        templates[2] = np.nan
    blocks = list(cross.cross_scores(templates, names[:n], block=block))
    found = [
        (int(i), int(j), float(s), bool(m))
        for b in blocks
        for i, j, s, m in zip(*b.samples(), b.similarities, b.mated, strict=True)
    ]
    assert [f[:2] for f in found] == [(i, j) for i in range(n) for j in range(i + 1, n)]
    for i, j, s, m in found:
        assert m == (names[i] == names[j])
        expected = -np.inf if 2 in (i, j) else float(templates[i].astype(float) @ templates[j].astype(float))
        assert s == pytest.approx(expected, abs=1e-5)
    assert all(b.similarities.dtype == np.float32 for b in blocks)
    assert all(b.similarities.size <= block + n for b in blocks)


def test_cross_comparisons_know_their_people():
    templates = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    names = [f"p{k % 20}" for k in range(50)]
    data = cross.cross_comparisons(templates, names)
    assert len(data) == 50 * 49 // 2
    assert data.people == 20
    left, right = data.known()
    assert ((left == right) == data.mated).all()
    i, j = np.triu_indices(50, 1)
    np.testing.assert_allclose(data.similarity, (templates @ templates.T)[i, j], atol=1e-5)
    assert (data.mated == (np.array(names)[i] == np.array(names)[j])).all()
    with pytest.raises(BadInput, match="do not fit"):
        cross.cross_comparisons(templates, names[:-1])


@pytest.mark.skipif(not LFW_VIEW1.exists(), reason="the development photographs are not on this machine")
def test_the_development_view_has_the_counts_it_is_known_for():
    found = pairs.read_pairs(LFW_VIEW1 / "pairs_test.csv")
    people = pairs.subjects_of(found)
    assert (len(found), int(found.mated.sum()), len(people)) == (1000, 500, 1549)
    names = list(people.values())
    labels = np.concatenate([b.mated for b in cross.cross_scores(np.zeros((1549, 1), np.float32), names)])
    assert (int(labels.sum()), int((~labels).sum())) == (983, 1_197_943)
