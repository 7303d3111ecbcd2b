"""Networks by name, fetched by their digest: small graphs behind a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from test_onnx_file import DIM, SIZE, WEIGHTS, contract, write

from facecli.errors import UsageError, WeightsMissing
from facecli.files.mirrors import Place
from facecli.models import registry, runtime
from facecli.models.built_in import BUILT_IN, DETECTOR_FILES
from facecli.models.families import family


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The entry of a small network of non-commercial terms, its first address dead, its second serving it."""
    body = write(tmp_path / "theirs.onnx", batch=1).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    spec = replace(
        BUILT_IN["buffalo_l"],
        name="small",
        dim=DIM,
        input_size=SIZE,
        template=((2, 3), (6, 3), (4, 5), (3, 6), (5, 6)),
        weights="http://127.0.0.1:9/glintr100.onnx",
        mirrors=(Place(f"http://127.0.0.1:{server.server_address[1]}/other_name.onnx"),),
        sha256=hashlib.sha256(body).hexdigest(),
        size=len(body),
    )
    monkeypatch.setitem(BUILT_IN, "small", spec)
    yield spec
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_network_by_name_is_fetched_and_runs(small, tmp_path):
    said = []
    network = registry.load_network(small, cache_dir=tmp_path, notify=said.append)
    assert said[0].startswith("the weights of 'small' are not for commercial use")
    path = tmp_path / "weights" / f"small-{small.sha256[:8]}.onnx"
    assert family(small).locate(small, tmp_path) == path
    chips = np.random.default_rng(0).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)
    (output,) = runtime.load(network, cache_dir=tmp_path)(chips)
    np.testing.assert_allclose(output, chips.reshape(5, -1) @ WEIGHTS, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="no torch form"):
        network.torch()


def test_status_before_and_after(small, tmp_path):
    before = registry.describe(small, tmp_path)
    assert (before.here, before.weights, before.non_commercial) == (False, small.weights, True)
    what, path = registry.fetch_weights("small", cache_dir=tmp_path)
    assert what is small
    after = registry.describe(small, tmp_path)
    assert (after.here, after.weights, after.exported) == (True, str(path), False)
    assert registry.fetch_weights("small", cache_dir=tmp_path) == (small, path)
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        registry.fetch_weights("small", cache_dir=tmp_path)


def test_weights_given_by_hand_are_held_to_the_digest(small, tmp_path):
    own = tmp_path / "theirs.onnx"
    registry.load_network(small, cache_dir=tmp_path / "c", weights=own)
    own.write_bytes(own.read_bytes() + b"\0")
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        registry.load_network(small, cache_dir=tmp_path / "c", weights=own)


def test_terms_follow_the_bytes_not_the_name(small, tmp_path):
    own = tmp_path / "theirs.onnx"
    contract(
        own, {"preset": "plain", "input_size": SIZE, "mean": 0, "std": 1, "licence": "MIT, says the mirror"}
    )
    status = registry.describe(registry.resolve(str(own)), tmp_path)
    assert (status.licence, status.non_commercial) == (small.licence, True)


def test_a_detector_is_fetched_too(small, tmp_path, monkeypatch):
    file = replace(
        DETECTOR_FILES["scrfd-10g"], places=small.mirrors, sha256=small.sha256, size=small.size, name="d"
    )
    monkeypatch.setitem(DETECTOR_FILES, "d", file)
    what, path = registry.fetch_weights("d", cache_dir=tmp_path)
    assert what is file
    assert path == registry.detector_path(file, tmp_path)
    assert registry.fetch_weights("d", cache_dir=tmp_path)[1] == path


def test_weights_of_a_package_are_no_download(tmp_path, monkeypatch):
    from facecli.models import dlib

    monkeypatch.setattr(dlib, "packaged", lambda path: None)
    with pytest.raises(WeightsMissing, match=r"facecli\[dlib\]"):
        registry.fetch_weights("dlib", cache_dir=tmp_path)
