"""Files from several places, some of them archives, from real servers that misbehave."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from facecli.errors import WeightsMissing
from facecli.files.mirrors import Place, fetch_any

BODY = bytes(range(256)) * 400
DIGEST = hashlib.sha256(BODY).hexdigest()


def archive(members, method=zipfile.ZIP_DEFLATED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as file:
        for name, body in members:
            file.writestr(name, body)
    return data.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def serve():
    """Return a function: serve these bodies by name, those of `broken` only by half; gives the address."""
    servers = []

    def start(bodies, broken=()):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path[1:]
                asked.append(name)
                if name not in bodies:
                    self.send_error(404)
                    return
                body = bodies[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in broken else body)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/"

    asked = start.asked = []
    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def left(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def get(places, target, **options):
    options = {"sha256": DIGEST, "size": len(BODY), "backoff_seconds": (0.01,)} | options
    return fetch_any(tuple(places), target, **options)


def test_the_next_place_is_tried_and_said(serve, tmp_path):
    here = serve({"half": BODY, "other": BODY[::-1], "good": BODY}, broken=("half",))
    said = []
    target = get(
        [Place(here + name) for name in ("nothing", "half", "other", "good", "never")],
        tmp_path / "w.onnx",
        notify=said.append,
    )
    assert target.read_bytes() == BODY
    assert "never" not in serve.asked
    tried = [text.rsplit("/", 1)[1] for text in said if "; trying " in text]
    assert tried == ["half", "other", "good"]
    assert left(tmp_path) == ["w.onnx"]


def test_when_no_place_has_it_the_first_says_why(serve, tmp_path):
    here = serve({"other": BODY[::-1]})
    with pytest.raises(WeightsMissing, match="HTTP 404"):
        get([Place(here + "nothing"), Place(here + "other")], tmp_path / "w.onnx")
    assert left(tmp_path) == []


@pytest.mark.parametrize("inside", ["w600k_r50.onnx", "buffalo_l/w600k_r50.onnx", "../../w600k_r50.onnx"])
def test_a_member_is_taken_out_of_an_archive_whatever_its_folder(serve, tmp_path, inside):
    pack = archive([("det.onnx", b"other"), (inside, BODY)])
    here = serve({"pack.zip": pack})
    target = get([Place(here + "pack.zip", "w600k_r50.onnx", digest(pack))], tmp_path / "deep" / "a.onnx")
    assert target.read_bytes() == BODY
    assert left(target.parent) == ["a.onnx"]
    assert left(tmp_path) == ["deep"], "a member's own path is never written to"
    get([Place("http://127.0.0.1:9/", "w600k_r50.onnx", digest(pack))], target)
    assert serve.asked == ["pack.zip"]


GOOD = archive([("a.onnx", BODY)], zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    ("pack", "says"),
    [
        (b"no archive", "cannot be read"),
        (archive([("b.onnx", BODY)]), "is there 0 times"),
        (archive([("a.onnx", BODY), ("x/a.onnx", BODY)]), "is there 2 times"),
        (archive([("a.onnx", BODY + b"x")]), f"has {len(BODY) + 1} bytes where {len(BODY)} are expected"),
        (archive([("a.onnx", BODY[::-1])]), "has SHA-256"),
        (GOOD[:1000] + b"\0" * 50 + GOOD[1050:], "cannot be read"),
        (archive([("a.onnx", BODY)])[:-30], "cannot be read"),
    ],
)
def test_archives_that_are_not_what_they_should_be(serve, tmp_path, pack, says):
    here = serve({"pack.zip": pack})
    place = Place(here + "pack.zip", "a.onnx", digest(pack))
    with pytest.raises(WeightsMissing) as caught:
        get([place], tmp_path / "w.onnx")
    assert says in str(caught.value)
    assert "pack.zip" in str(caught.value)
    assert left(tmp_path) == []


def test_an_archive_of_another_digest_is_not_opened(serve, tmp_path):
    here = serve({"pack.zip": GOOD})
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        get([Place(here + "pack.zip", "a.onnx", "0" * 64)], tmp_path / "w.onnx")
    assert left(tmp_path) == []


def test_an_archive_that_breaks_off_is_followed_by_the_next_place(serve, tmp_path):
    here = serve({"pack.zip": GOOD, "a.onnx": BODY}, broken=("pack.zip",))
    places = [Place(here + "pack.zip", "a.onnx", digest(GOOD)), Place(here + "a.onnx")]
    assert get(places, tmp_path / "w.onnx").read_bytes() == BODY


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsMissing, match="cannot write the weights"):
        get([Place("http://127.0.0.1:9/p.zip", "a.onnx", "0" * 64)], tmp_path / "file" / "w.onnx")
