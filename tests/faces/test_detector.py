"""The table of detectors: one is found by its name, offers what the protocol asks, and says what it is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facecli.errors import UsageError
from facecli.faces.choice import Choice
from facecli.faces.detector import DEFAULT_DETECTOR, DETECTORS, detector_class
from facecli.faces.face import Face
from facecli.models import mtcnn_networks
from facecli.photos.decode import Image


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_can_be_named_in_an_id(name):
    kind = detector_class(name)
    assert json.loads(json.dumps(kind.identity))
    assert all(len(digest) == 64 for digest in kind.identity.weights)
    assert kind.smallest_px > 0
    assert "min_face_px" not in kind.identity.search


def test_the_identities_differ():
    identities = [json.dumps(detector_class(name).identity) for name in DETECTORS]
    assert len(set(identities)) == len(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_keeps_the_protocol(name, cache_dir, people, opened):
    from facecli.models import runtime

    detector = detector_class(name).load(lambda network: runtime.load(network, cache_dir=cache_dir), 30)
    assert detector.min_face_px == 30
    image = opened(people / "Clara" / "1.jpg")
    (face,) = detector.all_faces(image)
    assert isinstance(face, Face)
    assert len(face.landmarks) == 5
    assert 0.5 < face.probability <= 1
    first, decoded = detector.first_faces(lambda at_least_px: image, Choice("center"))
    assert decoded is image
    np.testing.assert_allclose(first[0].box, face.box, atol=8)
    blank = Image(np.full((90, 70, 3), 120, np.uint8), 70, 90)
    assert detector.all_faces(blank) == []
    assert detector.first_faces(lambda at_least_px: blank, Choice()) == ([], blank)


def test_mtcnn_is_its_weights_and_its_search():
    identity = detector_class(DEFAULT_DETECTOR).identity
    assert identity.weights == [stage.sha256 for stage in mtcnn_networks.STAGES]
    assert set(identity.search) == {"factor", "thresholds", "search_px", "sure"}


@pytest.mark.parametrize(("name", "said"), [("mtcn", "did you mean 'mtcnn'"), ("?", "known are mtcnn")])
def test_an_unknown_name_is_answered_with_the_known_ones(name, said):
    with pytest.raises(UsageError, match=f"unknown detector.*{said}"):
        detector_class(name)
