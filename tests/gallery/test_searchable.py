"""Recognition works over whatever is `Searchable`: people in memory give the answers of a gallery on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standin import gallery_of

from facecli.calibration.decision import Rule
from facecli.errors import BadInput
from facecli.gallery.searchable import Candidate, Owned, Searchable
from facecli.recognition.false_alarms import false_alarms
from facecli.recognition.identify import Identified, identify
from facecli.templates.template import FacePlace, FailedProbe, Probe

DIM = 8
RULE = Rule(0.6, None, None, "")


class InMemory:
    """A sample for each of `templates` [N, D], of `subjects` [N]."""

    def __init__(self, root: Path, templates: np.ndarray, subjects: list[str], paths: list[str]) -> None:
        self.root = root
        self.embedder_id = "e"
        self._templates = templates
        self._subjects = np.array(subjects)
        self._paths = paths

    @property
    def n_samples(self) -> int:
        return len(self._paths)

    @property
    def n_subjects(self) -> int:
        return len(set(self._subjects))

    def search(self, probes: np.ndarray, top: int) -> list[list[Candidate]]:
        return [self._search(probe.astype(np.float64), top) for probe in probes]

    def _search(self, probe: np.ndarray, top: int) -> list[Candidate]:
        similarities = self._templates @ probe
        best: dict[str, int] = {}
        for row in np.argsort(-similarities):
            best.setdefault(str(self._subjects[row]), int(row))
        return [
            Candidate(rank, subject, f"{subject}/{self._paths[row]}", float(similarities[row]))
            for rank, (subject, row) in enumerate(list(best.items())[:top], start=1)
        ]

    def owned(self) -> Owned:
        _, numbers = np.unique(self._subjects, return_inverse=True)
        return Owned(self._templates, np.arange(self.n_samples), numbers, self._path_of)

    def _path_of(self, row: int) -> str:
        return f"{self._subjects[row]}/{self._paths[row]}"


@pytest.fixture
def both(tmp_path):
    """The same people in memory and on disk."""
    templates = np.random.default_rng(7).standard_normal((40, DIM)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    subjects = [f"s{row // 4:02}" for row in range(40)]
    paths = [f"{row}.jpg" for row in range(40)]
    on_disk = gallery_of(tmp_path / "people", templates, list(zip(subjects, paths, range(40), strict=True)))
    in_memory: Searchable = InMemory(on_disk.root, templates, subjects, paths)
    return in_memory, on_disk


def test_identify_gives_the_same_answers_in_memory_and_on_disk(both):
    rng = np.random.default_rng(8)
    probes = [
        Probe(f"{k}.jpg", vector / np.linalg.norm(vector), FacePlace(0, 1, (0.0, 0.0, 9.0, 9.0), 1.0))
        for k, vector in enumerate(rng.standard_normal((9, DIM)).astype(np.float32))
    ]
    probes.insert(4, FailedProbe("bad.jpg", {"code": "no_face", "message": "no face was found"}))
    answers = [list(identify(gallery, RULE, probes, top=3)) for gallery in both]
    assert answers[0] == answers[1]
    faces = [answer for answer in answers[0] if isinstance(answer, Identified)]
    assert {face.match for face in faces} == {True, False}
    assert faces[0].record()["gallery"] == {"subjects": 10, "samples": 40}
    assert answers[0][4].record() == {"probe": "bad.jpg", "error": probes[4].error}


def test_false_alarms_are_the_same_in_memory_and_on_disk(both):
    in_memory, on_disk = (false_alarms(gallery, 0.8, 0.01) for gallery in both)
    assert in_memory.errors > 0
    # The last bit of a similarity depends on where the templates lie in memory, and so which of two comes first.
    pairs = [sorted(found.closest[:2]) for found in (in_memory, on_disk)]
    assert pairs[0] == pairs[1]
    assert in_memory.closest[2] == pytest.approx(on_disk.closest[2], abs=1e-6)
    assert replace(in_memory, closest=on_disk.closest) == on_disk


def test_false_alarms_need_two_people(both):
    in_memory, _ = both
    alone = InMemory(in_memory.root, in_memory.owned().templates[:2], ["s00"] * 2, ["0.jpg", "1.jpg"])
    with pytest.raises(BadInput, match="people: leaving each person out needs two people"):
        false_alarms(alone, 0.8, 0.01)


def test_a_poor_probe_is_judged_more_strictly_against_poor_samples_and_ranked_by_what_is_left():
    class Two:
        root, embedder_id, n_samples, n_subjects = Path("people"), "e", 2, 2

        def search(self, probes, top):
            poor = Candidate(1, "Poor", "Poor/1.jpg", 0.60, strictness=0.3)
            return [[poor, Candidate(2, "Good", "Good/1.jpg", 0.55)][:top] for _ in probes]

    rule = Rule(0.5, None, None, "")
    place = FacePlace(0, 1, (0.0, 0.0, 9.0, 9.0), 1.0, 40.0)
    vector = np.eye(DIM, dtype=np.float32)[0]
    (sharp,) = identify(Two(), rule, [Probe("a.jpg", vector, place)], top=2)
    assert (sharp.subject, sharp.threshold) == ("Poor", 0.5)
    (blurred,) = identify(Two(), rule, [Probe("a.jpg", vector, place, strictness=0.2)], top=1)
    assert (blurred.subject, blurred.similarity, len(blurred.candidates)) == ("Good", 0.55, 1)
    (refused,) = identify(Two(), rule, [Probe("a.jpg", vector, place)], top=1, min_quality=50)
    assert refused.record()["error"]["code"] == "low_quality"
