"""Answers come as soon as they are known, and what is answered is forgotten."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from facecli.calibration.decision import Rule
from facecli.cli.find import _emit
from facecli.errors import NoFace
from facecli.faces.face import Face
from facecli.recognition.identify import Identified, Unidentified
from facecli.recognition.verify import Uncompared, verify_pairs
from facecli.templates.template import Embedded, FacePlace, FaceTemplate
from facecli.trials.pairs import PairSet

FACE = Face((0.0, 0.0, 40.0, 40.0), (), 1.0)
RULE = Rule(0.5, None, None, "")


class Counting:
    """An embedder of photos that need not be: it keeps the names asked for, and sees what of its results lives."""

    id = "counting"

    def __init__(self):
        self.asked = []
        self.alive = weakref.WeakValueDictionary()

    def embed(self, photos):
        for path, _ in photos:
            self.asked.append(path.name)
            if path.name == "nobody":
                yield NoFace("no face was found", path=path)
                continue
            template = np.zeros(8, np.float32)
            template[hash(path.name) % 8] = 1
            result = Embedded(path, 40, 40, 1, (FaceTemplate(FACE, 0, template),))
            self.alive[path.name] = result
            yield result


def listed(*names):
    left, right = zip(*names, strict=True)
    return PairSet(left, right, Path("photos"))


def test_a_pair_is_answered_as_soon_as_its_two_photos_are_embedded():
    embedder = Counting()
    verdicts = verify_pairs(embedder, RULE, listed(("a", "b"), ("c", "d"), ("a", "nobody"), ("d", "b")))
    next(verdicts)
    assert embedder.asked == ["a", "b"]
    rest = list(verdicts)
    assert embedder.asked == ["a", "b", "c", "d", "nobody"]
    assert [(verdict.left, verdict.right) for verdict in rest] == [("c", "d"), ("a", "nobody"), ("d", "b")]
    assert isinstance(rest[1], Uncompared)


def test_photos_are_forgotten_after_their_last_pair():
    embedder = Counting()
    pairs = listed(("a", "b"), *((f"l{k}", f"r{k}") for k in range(500)), ("a", "a"))
    most = 0
    for _ in verify_pairs(embedder, RULE, pairs):
        gc.collect(0)
        most = max(most, len(embedder.alive))
    assert len(embedder.asked) == 1002
    assert most <= 5


def test_the_progress_of_pairs_counts_photos():
    told = []
    list(verify_pairs(Counting(), RULE, listed(("a", "b"), ("a", "c")), progress=lambda *at: told.append(at)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("draws", [False, True])
def test_find_keeps_faces_only_to_draw_them(draws):
    class Sink:
        form, path = "jsonl", None

        def emit(self, record):
            pass

    class Notes:
        def warn(self, text):
            pass

    alive = weakref.WeakValueDictionary()
    most = 0

    def answers():
        nonlocal most
        for k in range(300):
            place = FacePlace(0, 1, None, None, None, None)
            face = Identified(
                f"{k}", place, "Ada" if k == 7 else None, 0.1, 0.5, None, *[None] * 3, (), None, 1, 1, "e"
            )
            alive[k] = face
            yield face
            del face
            most = max(most, len(alive))
        yield Unidentified("x", {"code": "x", "message": "x"})

    shown = [] if draws else None
    tally = _emit(answers(), Sink(), Notes(), shown)
    assert (tally.anybody, tally.failed, tally.unrated) == (True, True, 300)
    assert most == 300 if draws else most <= 2
