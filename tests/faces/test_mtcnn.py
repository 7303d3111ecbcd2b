"""The detector: what facenet-pytorch's finds, wherever the search stops and whatever it is asked for."""

from __future__ import annotations

import io
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from conftest import GROUP, iou, landmarks_apart
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facecli.faces import overlap
from facecli.faces.choice import Choice
from facecli.faces.face import Face
from facecli.faces.mtcnn import Mtcnn
from facecli.faces.overlap import suppress
from facecli.photos.decode import Image as Decoded
from facecli.photos.decode import decode


@pytest.fixture(scope="module")
def peer():
    """facenet-pytorch's detector: path -> [(box, landmarks)]."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True)

    def found(path):
        boxes, _, points = detector.detect(Image.open(path).convert("RGB"), landmarks=True)
        return [] if boxes is None else list(zip(boxes.tolist(), points.tolist(), strict=True))

    return found


def by(stages, min_face_px):
    return Mtcnn(stages, min_face_px)


def decoder(data):
    return lambda at_least_px: decode(data, path="photo", at_least_px=at_least_px)


def jpeg(picture, **options):
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG", quality=92, **options)
    return stream.getvalue()


def enlarged(path, longer_px):
    picture = Image.open(path).convert("RGB")
    scale = longer_px / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


@pytest.mark.slow
def test_finds_what_facenet_pytorch_finds_on_sample_photos(detector, peer, people, opened):
    apart = []
    for path in sorted(people.glob("*/[12].jpg")):
        (face,) = detector.all_faces(opened(path))
        ((box, points),) = peer(path)
        assert iou(face.box, box) >= 0.9, path
        apart.append(landmarks_apart(points, face.landmarks))
    assert np.median(apart) < 0.02
    assert max(apart) < 0.1


def test_finds_what_facenet_pytorch_finds_in_a_group(stages, peer, group, opened):
    expected = peer(group)
    assert len(expected) == len(GROUP)
    ours = by(stages, min_face_px=20).all_faces(opened(group))
    for box, points in expected:
        face = max(ours, key=lambda face: iou(face.box, box))
        assert iou(face.box, box) >= 0.9
        assert landmarks_apart(points, face.landmarks) < 0.05
    assert len(ours) == len(expected)


def test_all_keeps_the_small_faces_beside_a_large_one(detector, group, opened):
    faces = detector.all_faces(opened(group))
    assert len(faces) == len(GROUP)
    widths = [face.box[2] - face.box[0] for face in faces]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 3.5 * widths[-1]
    assert min(face.probability for face in faces) > 0.95


def test_the_largest_is_the_largest_of_all(detector, group, people, opened):
    for path in [group, *sorted(people.glob("*/3.jpg"))]:
        first, image = detector.first_faces(decoder(path.read_bytes()))
        largest = detector.all_faces(opened(path))[0]
        assert image.scale == 1
        assert iou(first[0].box, largest.box) > 0.95
        assert landmarks_apart(largest.landmarks, first[0].landmarks) < 0.03


def test_the_search_for_the_largest_ends_early(stages, group):
    levels = []

    def propose(batch):
        levels.append(batch.shape[2:])
        return stages[0](batch)

    counting = Mtcnn([propose, *stages[1:]])
    counting.all_faces(decode(group.read_bytes(), path=group))
    everything = sum(height * width for height, width in levels)
    levels.clear()
    counting.first_faces(decoder(group.read_bytes()))
    assert sum(height * width for height, width in levels) < everything / 5


def test_the_most_central_face_is_found_beside_a_larger_one(detector, people):
    canvas = Image.new("RGB", (900, 600), (128, 128, 128))
    canvas.paste(enlarged(people / "Arthur" / "1.jpg", 330), (0, 0))
    canvas.paste(enlarged(people / "Clara" / "1.jpg", 70), (415, 265))
    data = jpeg(canvas)
    largest, _ = detector.first_faces(decoder(data))
    central, _ = detector.first_faces(decoder(data), Choice("center"))
    assert not any(face.covers(450, 300) for face in largest)
    assert any(face.covers(450, 300) for face in central)


def test_a_large_face_aside_is_not_lost_in_the_search_for_a_central_one(detector, people):
    canvas = Image.new("RGB", (2500, 1600), (128, 128, 128))
    canvas.paste(enlarged(people / "Arthur" / "1.jpg", 800), (50, 50))
    data = jpeg(canvas)
    (aside,), image = detector.first_faces(decoder(data), Choice("center"))
    assert image.scale == 1
    (expected,) = detector.all_faces(decode(data, path="photo"))
    assert aside == expected


def test_a_smaller_min_face_adds_faces_and_moves_none(stages, people, opened, tmp_path):
    canvas = Image.open(people / "Hugo" / "1.jpg").resize((300, 300)).convert("RGB")
    wide = Image.new("RGB", (460, 300), (110, 120, 130))
    wide.paste(canvas, (0, 0))
    wide.paste(enlarged(people / "Clara" / "1.jpg", 110), (330, 20))
    wide.paste(enlarged(people / "Felix" / "1.jpg", 24), (350, 200))
    path = tmp_path / "three.png"
    wide.save(path)
    image = opened(path)
    found = {px: by(stages, min_face_px=px).all_faces(image) for px in (12, 20, 29, 40, 80, 150)}
    counts = [len(faces) for faces in found.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 3
    assert counts[-1] == 2
    for px, faces in found.items():
        for face in faces:
            if face.box[2] - face.box[0] >= px:
                assert face in found[12]


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_turned_photo_with_its_turn_recorded_equals_the_upright_one(
    orientation, detector, people, tmp_path
):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.open(people / "Clara" / "2.jpg").convert("RGB").crop((0, 10, 224, 210))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    upright.transpose(undo[orientation]).save(stream, "PNG", exif=exif)
    plain = io.BytesIO()
    upright.save(plain, "PNG")
    turned, _ = detector.first_faces(decoder(stream.getvalue()))
    expected, _ = detector.first_faces(decoder(plain.getvalue()))
    assert turned == expected


@pytest.mark.slow
def test_reduced_scale_decoding_gives_the_same_face(detector, people, probes):
    for path in (people / "Arthur" / "1.jpg", people / "Clara" / "2.jpg", probes / "hugo.jpg"):
        data = jpeg(enlarged(path, 2500))
        reduced, image = detector.first_faces(decoder(data))
        assert image.scale == 0.25
        whole = decode(data, path=path)
        full = detector.all_faces(whole)
        assert (image.width, image.height) == (whole.width, whole.height)
        assert iou(reduced[0].box, full[0].box) >= 0.9
        assert landmarks_apart(full[0].landmarks, reduced[0].landmarks) < 0.06


def test_a_small_face_in_a_large_photo_is_looked_for_at_full_scale(detector, people):
    canvas = Image.new("RGB", (3000, 2000), (128, 128, 128))
    canvas.paste(enlarged(people / "Clara" / "1.jpg", 90), (2000, 1200))
    faces, image = detector.first_faces(decoder(jpeg(canvas)))
    assert image.scale == 1
    assert len(faces) == 1
    assert faces[0].covers(2045, 1245)


@pytest.mark.parametrize("size", [(1, 1), (11, 300), (300, 11), (12, 12), (640, 480)])
def test_a_blank_image_shows_no_face(size, detector):
    image = Decoded(np.full((size[1], size[0], 3), 120, np.uint8), *size)
    assert detector.all_faces(image) == []
    assert detector.first_faces(lambda at_least_px: image)[0] == []


def test_a_panorama_is_searched(detector, people):
    canvas = Image.new("RGB", (20_000, 300), (128, 128, 128))
    canvas.paste(enlarged(people / "Clara" / "1.jpg", 280), (15_000, 10))
    faces, _ = detector.first_faces(decoder(jpeg(canvas)))
    assert faces[0].covers(15_140, 150)


def test_a_face_cut_off_by_the_border_does_not_hide_a_larger_whole_one(detector, people):
    canvas = Image.new("RGB", (800, 500), (128, 128, 128))
    canvas.paste(enlarged(people / "Arthur" / "1.jpg", 520), (-270, -20))  # less than half of it is shown
    canvas.paste(enlarged(people / "Clara" / "1.jpg", 330), (420, 80))
    data = jpeg(canvas)
    every = detector.all_faces(decode(data, path="photo"))
    first, _ = detector.first_faces(decoder(data))
    assert iou(first[0].box, every[0].box) > 0.9


def test_area_within_counts_only_what_is_shown():
    face = Face((-10.0, 20.0, 30.0, 120.0), (), 1.0)
    assert face.area_within(100, 100) == 30 * 80
    assert face.area_within(100, 10) == 0


boxes = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40)), max_size=25
)


@settings(deadline=None)
@given(boxes, st.integers(0, 5), st.booleans(), st.sampled_from([3, 64]))
def test_suppression_is_the_greedy_loop(places, seed, of_smaller, heads):
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in places], np.float32).reshape(-1, 4)
    scores = np.random.default_rng(seed).permutation(len(places)).astype(np.float32)
    kept = []
    for i in np.argsort(-scores):

        def covered(j, i=i):
            a, b = corners[i], corners[j]
            shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
            return shared > 0.5 * (min(areas) if of_smaller else sum(areas) - shared)

        if not any(covered(j) for j in kept):
            kept.append(int(i))
    with patch.object(overlap, "_HEADS", heads):
        assert suppress(corners, scores, 0.5, of_smaller=of_smaller).tolist() == kept


@pytest.mark.slow
def test_faces_of_forty_px_in_wild_photographs(detector, peer, wild, opened):
    """A small part of what benchmarks/detection.py measures on all of them, with room for its chance."""
    missed, apart, total = [], [], 0
    for path in wild[::17]:
        ours = detector.all_faces(opened(path))
        for box, points in peer(path):
            if min(box[2] - box[0], box[3] - box[1]) < 40:
                continue
            total += 1
            face = max(ours, key=lambda face: iou(face.box, box), default=None)
            if face is None or iou(face.box, box) < 0.7:
                missed.append((Path(path).name, [round(side) for side in box]))
            else:
                apart.append(landmarks_apart(points, face.landmarks))
    assert total >= 14
    assert len(missed) <= 1, missed
    assert np.median(apart) <= 0.03
