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


def test_the_search_for_the_main_face_goes_on_to_the_centre():
    assert Choice("main").central
    assert Choice("center").central
    assert not Choice("largest").central
    assert not Choice("main").needs_all
