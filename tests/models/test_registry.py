"""Names, contracts and the status of models."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facecli.errors import NoSuchFile, UsageError, WeightsMissing
from facecli.models import architectures, facenet, registry
from facecli.models.built_in import BUILT_IN, DETECTOR_FILES, EVERYDAY
from facecli.models.families import FAMILIES, family
from facecli.models.spec import Family, contract_text

DLIB = BUILT_IN["dlib"]


def test_built_in_models():
    assert list(BUILT_IN)[:4] == ["sface", "dlib", "vggface2", "casia-webface"]
    for name, spec in BUILT_IN.items():
        assert spec.name == name
        assert registry.resolve(name) is spec
        points = np.array(spec.template)
        assert points.shape == (5, 2)
        assert (points > 0).all()
        assert (points < spec.input_size).all()
        # Viewer's left and right eye, nose, left and right mouth corner.
        left_eye, right_eye, nose, left_mouth, right_mouth = points
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < nose[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_dlib_template_is_the_published_one_with_our_padding():
    """Where dlib puts the five points, with pad .18 for its .25, counted from the chip's edge, not a pixel's centre."""
    p = np.array(
        [
            (0.22733, 0.2214),
            (0.75281, 0.22123),
            (0.490127, 0.515625),
            (0.254149, 0.780233),
            (0.726104, 0.780233),
        ]
    )
    np.testing.assert_allclose(DLIB.template, (p + 0.18) / (1 + 2 * 0.18) * 150 + 0.5, atol=1e-4)


def test_resolving_and_listing_import_no_numbers_and_no_families():
    code = (
        "import sys; from facecli.models import registry\n"
        "for name in registry.BUILT_IN: registry.contract_text(registry.resolve(name))\n"
        "heavy = ('torch', 'numpy', 'onnx', 'onnxruntime', 'facenet_pytorch')\n"
        "print([m for m in sys.modules if m in heavy or m.startswith('facecli.models.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == "['facecli.models.spec', 'facecli.models.built_in', 'facecli.models.families', 'facecli.models.registry']\n"
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dlb", "did you mean 'dlib'?"),
        ("VGGFace", "did you mean 'vggface2'?"),
        ("casia", "did you mean 'casia-webface'?"),
        ("zzz", "known are sface, dlib, vggface2, casia-webface, "),
        ("ArcFace", "here it is 'buffalo_l' or 'auraface';"),
        ("insightface", "here it is 'buffalo_l';"),
        ("facenet512", "here it is 'vggface2';"),
        ("face-recognition", "here it is 'dlib';"),
    ],
)
def test_unknown_names(name, says):
    with pytest.raises(UsageError) as caught:
        registry.resolve(name)
    assert f"unknown model '{name}'" in str(caught.value)
    assert says in str(caught.value)


def test_everyday_names_lead_to_models_that_are_there():
    assert {name for names in EVERYDAY.values() for name in names} <= set(BUILT_IN)
    assert not set(EVERYDAY) & set(BUILT_IN)
    assert all(name == name.lower().replace("-", "_") for name in EVERYDAY)


def test_what_is_published_is_held_by_its_digest_and_says_its_terms():
    files = [spec for spec in BUILT_IN.values() if spec.family == "published"] + list(DETECTOR_FILES.values())
    for file in files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.places
        assert file.licence
        assert file.accuracy
        assert registry.terms_of(file.sha256) is file, "a digest has one licence"
        for place in file.places:
            assert place.url.startswith("https://")
            assert "/main/" not in place.url
            assert "/master/" not in place.url
            assert bool(place.member) == (place.sha256 is not None) == place.url.endswith(".zip")
            if "opencv_zoo" in place.url:
                assert "/raw/" in place.url, "the zoo's other addresses give pointers"
    assert {file.name for file in files if file.non_commercial} == {
        *(
            "buffalo_l",
            "buffalo_sc",
            "antelopev2",
            "edgeface-s",
            "edgeface-xxs",
            "adaface-ir18",
            "adaface-ir101",
        ),
        *("scrfd-10g", "scrfd-500m"),
    }
    assert [name for name, spec in BUILT_IN.items() if spec.channel_order == "BGR"] == [
        "adaface-ir18",
        "adaface-ir101",
    ]


def test_paths_that_are_not_models(tmp_path):
    with pytest.raises(NoSuchFile, match="no such model"):
        registry.resolve(str(tmp_path / "nothing"))
    with pytest.raises(NoSuchFile, match="no such ONNX file"):
        registry.resolve("nothing.onnx")
    (tmp_path / "photo.jpg").write_bytes(b"")
    for path in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(UsageError, match="neither an .onnx file nor a checkpoint"):
            registry.resolve(str(path))


def test_a_file_never_hides_a_built_in_name(tmp_path, monkeypatch):
    (tmp_path / "dlib").mkdir()
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("dlib") is DLIB


def test_contract_in_one_line():
    assert contract_text(DLIB) == (
        "150 px RGB, (x - [122.782 117.001 104.298]) / 256, five-point template, mirror image added"
    )
    plain = replace(DLIB, template=None, crop_margin=0.2, mirror=False)
    assert contract_text(plain).endswith("/ 256, face box + 20% margin")


def test_weights_given_by_hand_must_exist(tmp_path):
    with pytest.raises(WeightsMissing, match="no such weights file"):
        registry.load_network(DLIB, cache_dir=tmp_path, weights=tmp_path / "none.dat")


def test_status_follows_what_is_on_disk(tmp_path):
    from facecli.models.runtime import onnx_path

    spec = BUILT_IN["casia-webface"]
    absent = registry.describe(spec, tmp_path)
    assert (absent.here, absent.exported, absent.weights) == (False, False, spec.weights)
    assert not list(tmp_path.iterdir()), "looking writes nothing"

    path = tmp_path / "weights" / Path(spec.weights).name
    path.parent.mkdir()
    path.write_bytes(b"weights")
    here = registry.describe(spec, tmp_path)
    assert (here.here, here.exported, here.weights) == (True, False, str(path))

    exported = onnx_path(facenet.FAMILY.network(spec, tmp_path, None, None), tmp_path)
    exported.parent.mkdir()
    exported.write_bytes(b"graph")
    assert registry.describe(spec, tmp_path).exported


def test_a_missing_download_is_fetched_once_and_then_found(tmp_path):
    """From a real server on this machine, through the same door as the published weights."""
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            Handler.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"weights")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/faces.pt"
        spec = replace(BUILT_IN["casia-webface"], weights=url)
        seen: list[tuple[int, int | None]] = []
        first = registry.load_network(spec, cache_dir=tmp_path, progress=lambda *x: seen.append(x))
        again = registry.load_network(spec, cache_dir=tmp_path)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert Handler.asked == 1
    assert seen[-1] == (7, 7)
    assert first.key == again.key
    assert (tmp_path / "weights" / "faces.pt").read_bytes() == b"weights"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_line_of_the_table_is_a_family(name):
    own = family(replace(DLIB, family=name))
    assert isinstance(own, Family)
    assert type(own).__module__ == FAMILIES[name]


def test_every_built_in_model_is_of_a_family():
    assert {spec.family for spec in BUILT_IN.values()} <= set(FAMILIES)


def test_what_families_differ_in(tmp_path):
    def those(attribute):
        return {name for name in FAMILIES if getattr(family(replace(DLIB, family=name)), attribute)}

    assert those("resizable") == {"torchvision", "checkpoint"}
    assert set(FAMILIES) - those("trainable") == {"published", "onnx_file"}
    assert those("needs_head") == {"torchvision"}
    for spec in BUILT_IN.values():
        assert family(spec).known_answer(spec) is None
        assert family(spec).calibration_beside(spec) is None
    trained = replace(DLIB, family="checkpoint", weights=str(tmp_path / "weights-0.pt"))
    assert family(trained).calibration_beside(trained) == tmp_path / "calibration.json"


def test_a_family_that_cannot_be_trained_says_so(monkeypatch):
    """And is not taken for another."""
    monkeypatch.setitem(BUILT_IN, "fixed", replace(DLIB, name="fixed", family="onnx_file"))
    with pytest.raises(UsageError, match="'fixed' cannot be built"):
        architectures.build({"base": "fixed"})
