"""Results of recognition: frozen, hashable, and their records complete."""

from __future__ import annotations

import dataclasses

import pytest

from facecli.calibration.decision import Rule
from facecli.errors import NoFace
from facecli.recognition.identify import Identified, Ranked, Unidentified
from facecli.recognition.verify import ListedVerdict, SubjectVerdict, Uncompared, Verdict
from facecli.templates.template import FacePlace

PLACE = FacePlace(0, 2, (1.0, 2.0, 30.5, 40.0), 0.9987, 98.5, 90)
DECISION = vars(Rule(0.5, None, None, "").judge(0.75))
PAIR = {**DECISION, "left": "a.jpg", "right": "b.jpg", "left_face": PLACE, "embedder_id": "e"}

DECIDED = {
    **{"similarity": 0.75, "threshold": 0.5, "match": True, "fmr": None, "fnmr": None, "probability": None},
    "left_face": {
        "face": 0,
        "n_faces": 2,
        "box": [1.0, 2.0, 30.5, 40.0],
        "face_probability": 0.9987,
        "quality": 98.5,
        "turned": 90,
    },
    "right_face": None,
    "embedder_id": "e",
}


@pytest.mark.parametrize(
    ("result", "record"),
    [
        (Verdict(**PAIR, right_face=None), {"left": "a.jpg", "right": "b.jpg", **DECIDED}),
        (
            SubjectVerdict(**PAIR, right_face=None, subject="Ada", samples=3),
            {"left": "a.jpg", "right": "b.jpg", "subject": "Ada", "samples": 3, **DECIDED},
        ),
        (
            ListedVerdict(**PAIR, right_face=None, mated=False),
            {"left": "a.jpg", "right": "b.jpg", **DECIDED, "mated": False},
        ),
        (
            Uncompared("a.jpg", "b.jpg", True, NoFace("no face was found", path="a.jpg")),
            {
                **{"left": "a.jpg", "right": "b.jpg", "mated": True},
                "error": {"code": "no_face", "message": "a.jpg: no face was found"},
            },
        ),
        (Unidentified("a.jpg", {"code": "x"}), {"probe": "a.jpg", "error": {"code": "x"}}),
    ],
)
def test_a_record_says_all_of_a_result_in_one_order(result, record):
    assert list(result.record().items()) == list(record.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.left = "other"


def test_who_a_face_is_can_be_hashed_and_recorded():
    best = Ranked(1, "Ada", "Ada/1.jpg", 0.75, True, 0.9)
    face = Identified("p.jpg", PLACE, "Ada", 0.75, 0.5, 1e-3, 1e-2, 0.02, None, (best,), 0.1, 5, 20, "e")
    assert {face, dataclasses.replace(face)} == {face}
    assert hash(Verdict(**PAIR, right_face=PLACE)) == hash(Verdict(**PAIR, right_face=PLACE))
    assert face.match
    assert not dataclasses.replace(face, subject=None).match
    assert face.record() == {
        **{
            "probe": "p.jpg",
            "face": 0,
            "n_faces": 2,
            "box": [1.0, 2.0, 30.5, 40.0],
            "face_probability": 0.9987,
            "quality": 98.5,
            "turned": 90,
        },
        **{"subject": "Ada", "match": True, "similarity": 0.75, "threshold": 0.5, "fmr": 1e-3, "fnmr": 1e-2},
        **{"expected_false_alarms": 0.02, "fpir": None, "candidates": [vars(best)], "nobody": 0.1},
        **{"gallery": {"subjects": 5, "samples": 20}, "embedder_id": "e"},
    }
