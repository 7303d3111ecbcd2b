"""The main face: the largest, unless another is nearly as large and better placed, or more surely a face."""

from __future__ import annotations

import pytest

from facecli.faces.choice import Choice
from facecli.faces.face import Face


def face(x, y, side, probability=0.999):
    """Return a face with its centre at x, y."""
    return Face((x - side / 2, y - side / 2, x + side / 2, y + side / 2), (), probability)


@pytest.mark.parametrize(
    ("faces", "main"),
    [
        ([face(90, 300, 110), face(300, 300, 100)], 1),  # nearly as large, in the middle
        ([face(90, 300, 300), face(300, 300, 100)], 0),  # a passer-by in the middle, far behind
        ([face(220, 220, 150), face(300, 300, 100)], 0),  # somewhat off the centre
        ([face(300, 300, 110, 0.7), face(200, 300, 100)], 1),  # a blurred one before the camera
        ([face(300, 300, 300, 0.7), face(100, 300, 60)], 0),  # what is by far the largest stays so
        ([face(20, 20, 30), face(590, 20, 20)], 0),
    ],
)
def test_the_main_face(faces, main):
    assert Choice("main").of(faces, 600, 600, path="photo") == [main]
    assert Choice("largest").of(faces, 600, 600, path="photo") == [0]


def test_a_face_outside_of_the_image_is_not_the_main_one():
    faces = [face(300, 300, 10), face(-50, 300, 60)]
    assert Choice("main").of(faces, 600, 600, path="photo") == [0]


@pytest.mark.parametrize(
    ("policy", "faces", "unseen_px", "enough"),
    [
        ("largest", [], 10, False),
        ("largest", [face(300, 300, 100)], 100, True),
        ("largest", [face(0, 300, 100)], 100, False),  # half of it shown
        ("center", [face(90, 300, 100)], 10, False),
        ("center", [face(90, 300, 100), face(310, 300, 60)], 50, True),
        ("main", [face(300, 300, 100)], 90, True),
        ("main", [face(90, 300, 100)], 70, False),
        ("main", [face(90, 300, 100)], 40, True),  # in the centre, one of 40 px would count less
        ("main", [face(300, 300, 100, 0.7)], 70, False),
    ],
)
def test_a_search_ends_when_nothing_smaller_can_count(policy, faces, unseen_px, enough):
    assert Choice(policy).enough(faces, 600, 600, unseen_px) is enough
