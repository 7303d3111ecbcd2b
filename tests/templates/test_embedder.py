"""From photographs to templates: order, choice, the id, and threads that end when nobody listens."""

from __future__ import annotations

import io
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import GROUP, iou
from PIL import Image

from facecli.errors import (
    BadInput,
    FaceError,
    NoFace,
    NoSuchFile,
    SeveralFaces,
    UnreadableImage,
    UsageError,
    WeightsMissing,
)
from facecli.faces import align
from facecli.faces.detector import DETECTORS
from facecli.faces.mtcnn import Mtcnn
from facecli.models.built_in import BUILT_IN
from facecli.photos import source
from facecli.templates import embedder as module
from facecli.templates.embedder import Embedder, embedder_id, prepare
from facecli.templates.template import Embedded, Enrolled

SPEC = BUILT_IN["dlib"]
KEY = "0" * 64


@pytest.fixture(scope="module")
def mixed(people, tmp_path_factory):
    """Twenty files, every third of them broken in its own way, and the kind of result that each must give."""
    folder = tmp_path_factory.mktemp("mixed")
    good = sorted(people.glob("*/[12].jpg"))
    found = []
    for number in range(20):
        path = folder / f"{number:02}.jpg"
        if number % 3 != 1:
            shutil.copy(good[number % len(good)], path)
            found.append((path, Embedded))
        elif number % 9 == 1:
            path.write_text("not an image")
            found.append((path, UnreadableImage))
        elif number % 9 == 4:
            found.append((path, NoSuchFile))
        else:
            Image.new("RGB", (80, 60), (9, 9, 9)).save(path)
            found.append((path, NoFace))
    return found


def other(embedder, **changes):
    """Return an embedder over the same networks with other attributes."""
    from copy import copy

    changed = copy(embedder)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def photos(paths):
    return ((path, None) for path in paths)


def embeddings(results):
    return [None if isinstance(r, FaceError) else [f.embedding.tobytes() for f in r.faces] for r in results]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_photos(workers, embedder, mixed):
    results = list(other(embedder, workers=workers).embed(photos(path for path, _ in mixed)))
    assert [type(result) for result in results] == [kind for _, kind in mixed]
    for (path, _), result in zip(mixed, results, strict=True):
        assert str(result.path) == str(path)


def test_workers_and_batches_change_no_bit(embedder, mixed):
    paths = [path for path, _ in mixed]
    one, four = (embeddings(other(embedder, workers=n).embed(photos(paths))) for n in (1, 4))
    assert one == four
    alone = [embeddings(embedder.embed([(path, None)]))[0] for path in paths[:7]]
    assert alone == one[:7]


def test_bytes_at_hand_are_used_in_place_of_the_file(embedder, people):
    path = people / "Ada" / "nowhere.jpg"
    real = people / "Clara" / "1.jpg"
    (given,) = embedder.embed([(path, real.read_bytes())])
    (read,) = embedder.embed([(real, None)])
    assert given.path == path
    np.testing.assert_array_equal(given.faces[0].embedding, read.faces[0].embedding)


def test_templates_are_unit_rows_that_tell_people_apart(embedder, people):
    paths = [people / name / f"{n}.jpg" for name in ("Arthur", "Clara", "Imani") for n in (1, 2)]
    found = np.stack([r.faces[0].embedding for r in embedder.embed(photos(paths))])
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    similarities = found @ found.T
    for i in (0, 2, 4):
        same = similarities[i, i + 1]
        assert same == max(similarities[i, j] for j in range(6) if j != i)


@pytest.mark.parametrize("output", [np.nan, np.inf, -np.inf, 0.0])
def test_a_template_without_a_direction_is_an_error_of_its_photo(output, embedder, people):
    """Never a record, never enrolled; the photos beside it are not touched."""
    paths = [people / name / "1.jpg" for name in ("Clara", "Hugo", "Imani")]
    calls = []

    def spoilt(batch):
        calls.append(len(batch))
        (rows,) = embedder._network(batch)
        # The first of the second batch, and its mirror image.
        rows[0] = output if (len(calls) - 1) // (1 + embedder.spec.mirror) == 1 else rows[0]
        return [rows]

    for way in ("embed", "enrol"):
        results = list(getattr(other(embedder, _network=spoilt), way)(photos(paths)))
        assert [isinstance(result, BadInput) for result in results] == [False, True, False]
        assert str(results[1]) == (
            f"{paths[1]}: the network's output for a face is zero or not finite; check the model and its contract"
        )
        calls.clear()


@pytest.mark.slow
def test_reduced_scale_decoding_gives_the_same_template(embedder, people):
    for name in ("Arthur", "Clara"):
        path = people / name / "1.jpg"
        stream = io.BytesIO()
        picture = Image.open(path).convert("RGB").resize((2500, 2500), Image.Resampling.LANCZOS)
        picture.save(stream, "JPEG", quality=92)
        data = stream.getvalue()
        (reduced,) = embedder.embed([(path, data)])
        (whole,) = embedder.choosing("all").embed([(path, data)])
        assert (reduced.width, reduced.height) == (2500, 2500)
        assert iou(reduced.faces[0].face.box, whole.faces[0].face.box) >= 0.9
        assert float(reduced.faces[0].embedding @ whole.faces[0].embedding) >= 0.99


def test_a_chip_is_never_enlarged_from_a_reduced_decoding(embedder, people, monkeypatch):
    """The face is small in a large photo: found at a reduced scale, it is cut from a finer one."""
    canvas = Image.new("RGB", (2400, 2400), (128, 128, 128))
    canvas.paste(Image.open(people / "Clara" / "1.jpg").resize((420, 420)), (900, 900))
    stream = io.BytesIO()
    canvas.save(stream, "JPEG", quality=95)
    scales = []
    decode = source.decode

    def watched(data, **how):
        image = decode(data, **how)
        scales.append(image.scale)
        return image

    monkeypatch.setattr(source, "decode", watched)
    (found,) = embedder.embed([(Path("large"), stream.getvalue())])
    assert scales == [0.25, 1.0] or scales == [0.25, 0.5]
    (plain,) = embedder.embed([(people / "Clara" / "1.jpg", None)])
    assert float(found.faces[0].embedding @ plain.faces[0].embedding) > 0.97


def test_a_photo_of_more_pixels_than_the_budget_is_unreadable_and_the_others_go_on(cache_dir, people):
    small = Embedder(cache_dir=cache_dir, max_pixels=100_000, workers=2)
    stream = io.BytesIO()
    Image.new("RGB", (400, 300)).save(stream, "PNG")
    photos = [(people / "Clara" / "1.jpg", None), (Path("large"), stream.getvalue())] * 8
    found = list(small.embed(photos))
    assert all(isinstance(result, Embedded) for result in found[::2])
    assert {str(result) for result in found[1::2]} == {
        "large: is 400 x 300 px, more than the 0.1 megapixels that are decoded; raise max_pixels, or reduce it first"
    }
    assert small._budget.free == 100_000


def test_largest_center_all_one_and_an_index(embedder, group):
    every = next(embedder.choosing("all").embed([(group, None)]))
    assert [face.index for face in every.faces] == list(range(len(GROUP)))
    assert every.n_faces == len(GROUP)
    (largest,) = embedder.embed([(group, None)])
    assert [face.index for face in largest.faces] == [0]
    assert iou(largest.faces[0].face.box, every.faces[0].face.box) > 0.9
    (third,) = embedder.choosing("largest", 2).embed([(group, None)])
    assert third.faces[0].index == 2
    np.testing.assert_array_equal(third.faces[0].embedding, every.faces[2].embedding)
    (central,) = embedder.choosing("center").embed([(group, None)])
    middle = (350, 210)

    def off(face):
        left, top, right, bottom = face.box
        return np.hypot((left + right) / 2 - middle[0], (top + bottom) / 2 - middle[1])

    assert off(central.faces[0].face) <= min(off(face.face) for face in every.faces) + 3
    (refused,) = embedder.choosing("one").embed([(group, None)])
    assert isinstance(refused, SeveralFaces)
    assert "6 faces found where one was asked for (0: " in str(refused)
    assert "by its index as face" in str(refused)
    (absent,) = embedder.choosing("largest", 9).embed([(group, None)])
    assert isinstance(absent, SeveralFaces)
    assert "there is no face 9: 6 found" in str(absent)


def test_one_takes_the_only_face(embedder, people):
    (found,) = embedder.choosing("one").embed([(people / "Hugo" / "1.jpg", None)])
    assert len(found.faces) == 1


def test_no_face_says_what_was_searched(embedder, tmp_path):
    path = tmp_path / "blank.png"
    Image.new("RGB", (300, 200), (90, 90, 90)).save(path)
    (found,) = embedder.embed([(path, None)])
    assert isinstance(found, NoFace)
    assert str(found).startswith(
        f"{path}: no face of 40 px or more found in 300 x 200 px; try a smaller min_face_px"
    )


def test_aligned_searches_nothing(cache_dir, tmp_path):
    path = tmp_path / "blank.png"
    Image.new("RGB", (300, 200), (90, 90, 90)).save(path)
    aligned = Embedder("dlib", cache_dir=cache_dir, aligned=True, workers=1)
    (found,) = aligned.embed([(path, None)])
    assert found.faces[0].face.box == (0, 0, 300, 200)
    assert found.faces[0].face.landmarks == ()
    assert "aligned" in aligned.id


def test_enrol_gives_the_template_and_its_place_or_the_error(embedder, mixed):
    paths = [path for path, _ in mixed]
    for enrolled, embedded in zip(embedder.enrol(photos(paths)), embedder.embed(photos(paths)), strict=True):
        if isinstance(embedded, FaceError):
            assert str(enrolled) == str(embedded)
            continue
        assert isinstance(enrolled, Enrolled)
        np.testing.assert_array_equal(enrolled.embedding, embedded.faces[0].embedding)
        assert enrolled.box == embedded.faces[0].face.box
        assert (enrolled.face, enrolled.n_faces) == (0, embedded.n_faces)


def facecli_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("facecli")]


@pytest.mark.parametrize("workers", [1, 3])
def test_only_so_many_photos_are_read_ahead(workers, embedder, people):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield people / "Clara" / "1.jpg", None

    results = other(embedder, workers=workers).embed(endless())
    assert not taken
    for _ in range(5):
        next(results)
    assert len(taken) <= 5 + 2 * workers * module._PHOTOS_A_TASK
    results.close()
    assert not facecli_threads()


def test_an_error_of_the_source_ends_the_threads_too(embedder, people):
    def broken():
        for _ in range(6):
            yield people / "Clara" / "1.jpg", None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(other(embedder, workers=3).embed(broken()))
    assert not facecli_threads()


def test_a_bug_in_a_worker_is_not_swallowed(embedder, people, monkeypatch):
    monkeypatch.setattr(align, "chip", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(other(embedder, workers=2).embed(photos(sorted(people.glob("*/1.jpg")))))
    assert not facecli_threads()


def test_no_photos_give_nothing(embedder):
    assert list(embedder.embed([])) == []
    assert list(other(embedder, workers=3).embed([])) == []


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": 112},
        {"channel_order": "BGR"},
        {"mean": (0.0, 0.0, 0.0)},
        {"std": (255.0, 255.0, 255.0)},
        {"mirror": False},
        {"crop_margin": 0.2},
        {"template": None},
        {"upright_length": 10.0},
        {"template": ((1.0, 1.0),) * 5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_id_changes_with_the_input_contract(change):
    assert embedder_id(replace(SPEC, **change), KEY, False) != embedder_id(SPEC, KEY, False)


@pytest.mark.parametrize("name", Mtcnn.identity.search)
def test_the_id_changes_with_the_search(name, monkeypatch):
    before, aligned = (embedder_id(SPEC, KEY, crops) for crops in (False, True))
    search = {**Mtcnn.identity.search, name: 0.5}
    monkeypatch.setattr(Mtcnn, "identity", Mtcnn.identity._replace(search=search))
    assert embedder_id(SPEC, KEY, False) != before
    assert embedder_id(SPEC, KEY, True) == aligned


def test_the_id_changes_with_the_network_the_detector_and_the_pipeline(monkeypatch):
    before = embedder_id(SPEC, KEY, False)
    assert embedder_id(SPEC, "1" * 64, False) != before
    assert embedder_id(SPEC, KEY, True) != before
    monkeypatch.setattr(Mtcnn, "identity", Mtcnn.identity._replace(weights=["x"]))
    assert embedder_id(SPEC, KEY, False) != before
    monkeypatch.undo()
    monkeypatch.setattr(module, "PIPELINE", 99)
    assert embedder_id(SPEC, KEY, False) != before


def test_each_detector_has_its_ids_but_where_nothing_is_searched(embedder, cache_dir, people):
    assert len({embedder_id(SPEC, KEY, False, name) for name in DETECTORS}) == len(DETECTORS)
    assert len({embedder_id(SPEC, KEY, True, name) for name in DETECTORS}) == 1
    yunet = Embedder(cache_dir=cache_dir, detector="yunet", workers=1)
    assert yunet.id != embedder.id
    paths = [people / name / "1.jpg" for name in ("Arthur", "Clara")]
    for a, b in zip(yunet.embed(photos(paths)), embedder.embed(photos(paths)), strict=True):
        assert iou(a.faces[0].face.box, b.faces[0].face.box) > 0.6
        assert 0.8 < float(a.faces[0].embedding @ b.faces[0].embedding) < 0.9999


def test_the_id_is_the_same_for_everything_that_moves_no_template(embedder, cache_dir):
    assert replace(SPEC, licence="x", warning="y") != SPEC
    assert embedder_id(replace(SPEC, licence="x", warning="y"), KEY, False) == embedder_id(SPEC, KEY, False)
    for options in ({"min_face_px": 20}, {"faces": "one"}, {"face": 3}, {"workers": 7}):
        assert Embedder(cache_dir=cache_dir, **options).id == embedder.id


@pytest.mark.slow
def test_engines_share_an_id_because_their_templates_agree(embedder, cache_dir, people):
    torch = Embedder(cache_dir=cache_dir, device="torch", workers=1)
    assert torch.id == embedder.id
    paths = [people / name / "1.jpg" for name in ("Arthur", "Clara")]
    for a, b in zip(torch.embed(photos(paths)), embedder.embed(photos(paths)), strict=True):
        np.testing.assert_allclose(a.faces[0].face.box, b.faces[0].face.box, atol=0.1)
        np.testing.assert_allclose(a.faces[0].embedding, b.faces[0].embedding, atol=1e-4)


def test_limits_say_what_decides_whether_there_is_a_face(embedder, cache_dir):
    smaller = Embedder("dlib", cache_dir=cache_dir, min_face_px=20)
    aligned = Embedder("dlib", cache_dir=cache_dir, aligned=True)
    assert len({embedder.limits, smaller.limits, aligned.limits}) == 3


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"faces": "biggest"}, UsageError, "choose from largest, center, main, all, one"),
        ({"face": -1}, UsageError, "counts from 0, not -1"),
        ({"detector": "mtcn"}, UsageError, "unknown detector 'mtcn'; did you mean 'mtcnn'"),
        ({"min_face_px": 11}, UsageError, "12 px or more"),
        ({"model": "dlibb"}, UsageError, "did you mean 'dlib'"),
        ({"weights": Path("/no/such.dat")}, WeightsMissing, "/no/such.dat: no such weights file"),
        ({"device": "abacus"}, UsageError, "unknown device 'abacus'"),
    ],
)
def test_wrong_options_are_refused(options, error, said, cache_dir):
    with pytest.raises(error, match=said):
        Embedder(**{"model": "dlib", **options}, cache_dir=cache_dir)


def test_prepare_orders_channels_and_scales_them():
    chips = np.zeros((1, 2, 2, 3), np.uint8)
    chips[..., 0], chips[..., 1], chips[..., 2] = 10, 20, 30
    spec = replace(SPEC, channel_order="BGR", mean=(1.0, 2.0, 3.0), std=(2.0, 2.0, 4.0))
    planes = prepare(chips, spec)
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes[0, :, 0, 0], [(30 - 1) / 2, (20 - 2) / 2, (10 - 3) / 4])
