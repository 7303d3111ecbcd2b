"""The page and the pictures: whole in themselves, safe with any name, the same every time."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from facecli.errors import BadInput, UsageError
from facecli.evaluation.data import from_database
from facecli.evaluation.evaluation import run
from facecli.evaluation.plots import KINDS, available, drawn, save
from facecli.evaluation.report import html, write
from facecli.evaluation.text_plot import BARS, det, deviate, histogram
from facecli.stats.curve import ScoreCurve
from facecli.templates.template import Failure
from facecli.trials.labelled import of_samples
from facecli.trials.samples import Samples

EVIL = '<img src=x onerror="alert(1)">'


def evaluation(root=None, people=8, names=None, noise=0.9, failures=()):
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((people, 16)), 3, axis=0)
    rows = rows + noise * rng.standard_normal(rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    names = names if names is not None else [f"p{k}" for k in range(people)]
    subjects = tuple(name for name in names for _ in range(3))
    paths = tuple(f"{s}/{k % 3}.png" for k, s in enumerate(subjects))
    samples = Samples(paths, subjects, ("",) * len(paths), rows, tuple(failures))
    return run(
        from_database(of_samples(samples, root=root)), embedder_id="toy-1", threshold=0.4, replicates=100
    )


@pytest.fixture
def photos(tmp_path):
    for k in range(8):
        (tmp_path / f"p{k}").mkdir()
        for j in range(3):
            if (k, j) != (2, 1):
                Image.new("RGB", (90, 60), (30 * k, 80 * j, 120)).save(tmp_path / f"p{k}" / f"{j}.png")
    return tmp_path


def test_the_page_needs_nothing_but_itself(photos, tmp_path):
    target = write(evaluation(photos), tmp_path / "new" / "report")
    page = target.read_text()
    assert target.name == "index.html"
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(s.startswith(("data:image/svg+xml;base64,", "data:image/jpeg;base64,")) for s in sources)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    # The photo that is gone is said to be; everybody with errors is shown.
    assert ("picture not there" in page) is ("p2/1.png" in page)
    assert page.count('<div class="faces one"><img') == len(evaluation(photos).people) > 4
    for data in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page):
        ElementTree.fromstring(base64.b64decode(data))
    # Tags close in order: the page is XML but for its void elements.
    body = re.sub(r"<(meta|img|br)([^>]*)>", r"<\1\2/>", page.replace("<!DOCTYPE html>\n", ""))
    ElementTree.fromstring(body)


def test_names_cannot_become_markup():
    found = evaluation(
        names=[EVIL, "a&b", *[f"p{k}" for k in range(6)]], failures=[Failure(EVIL, "no_face", EVIL)]
    )
    page = html(found)
    assert EVIL not in page
    assert "&lt;img src=x" in page
    assert "a&amp;b" in page


def test_the_page_shows_figures_failures_warnings_and_the_signature():
    found = evaluation(failures=[Failure("p0/9.png", "no_face", "no face found")])
    page = html(found)
    for figure in found.figures:
        if figure.errors is not None:
            assert f">{figure.errors:,}<" in page
    for text in (found.signature.data_digest, "no_face: no face found", "only 8 people", "Rank 1"):
        assert text in page


@pytest.mark.slow
def test_the_same_evaluation_gives_the_same_page_and_pictures(photos):
    assert html(evaluation(photos)) == html(evaluation(photos))
    found = evaluation()
    for kind, ending in zip(KINDS, ("png", "svg", "pdf", "png", "svg"), strict=True):
        assert drawn(found, kind, ending) == drawn(found, kind, ending), (kind, ending)


def test_a_picture_of_what_is_not_there_says_what_is(tmp_path):
    samples = evaluation().data.labelled.samples
    from facecli.evaluation.data import from_gallery

    half = Samples(samples.paths[:12], samples.subjects[:12], ("",) * 12, samples.templates[:12])
    found = run(from_gallery(half, samples), embedder_id="toy-1", replicates=100)
    assert available(found) == ["cmc", "search"]
    with pytest.raises(BadInput, match="no det in this evaluation"):
        save(found, "det", tmp_path / "det.png")
    save(found, "cmc", tmp_path / "cmc.png")
    with Image.open(tmp_path / "cmc.png") as picture:
        assert min(picture.size) > 500


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write(evaluation(), tmp_path / "file" / "report")


def test_perfect_scores_still_make_a_page_and_no_plot_of_characters():
    found = evaluation(noise=0.01)
    assert (
        "no threshold has both kinds of errors"
        in base64.b64decode(re.search(r"svg\+xml;base64,([^\"]*)", html(found)).group(1)).decode()
    )
    assert det(found.verification.curve) == ""


def test_the_det_of_characters_is_where_the_rates_are():
    rng = np.random.default_rng(1)
    mated, nonmated = rng.normal(2, 1, 4000), rng.normal(0, 1, 4000)
    text = det(ScoreCurve.from_scores(mated, nonmated), width=60, height=14)
    rows = text.splitlines()[1:15]
    marks = [(r, c - 13) for r, line in enumerate(rows) for c, mark in enumerate(line) if mark == "•"]
    # Two normal distributions make a straight line: deviates of both rates add up to -2.
    left, right = deviate(1 / 4000), deviate(0.6)
    for r, c in marks:
        x = left + c * (right - left) / 59
        y = right - r * (right - left) / 13
        assert abs(x + y + 2) < 0.65
    assert len({c for _, c in marks}) > 20


def test_the_histogram_marks_the_threshold_between_the_two():
    rng = np.random.default_rng(1)
    curve = ScoreCurve.from_scores(rng.normal(0.8, 0.05, 500), rng.normal(0.2, 0.05, 500))
    lines = histogram(curve, 0.5, width=50).splitlines()
    mated, nonmated = (lines[k][12:].ljust(50) for k in (0, 1))
    at = lines[2].index("^") - 12
    assert not mated[:at].strip()
    assert not nonmated[at + 1 :].strip()
    assert set(mated + nonmated) <= set(BARS)
