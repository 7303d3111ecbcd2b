"""Downloads against a real HTTP server that can be told to misbehave."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import multiprocessing
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facecli.errors import WeightsMissing
from facecli.files import download
from facecli.files.http_answer import _Redirects

BODY = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()
QUICK = (0.01, 0.01, 0.01)


class Server:
    """Serves `body` under any path; `ranges` holds the Range header of each request, or None."""

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body
        self.etag = '"one"'
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.break_after: list[int] = []
        """Bytes after which the next answers break off."""
        self.status = 200
        self.says_length = True
        self.pause_seconds = 0.0
        self.instead: list[Callable[[BaseHTTPRequestHandler], None]] = []
        """What the next requests get in place of an answer."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/weights.pt"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        time.sleep(self.pause_seconds)
        if self.instead:
            with contextlib.suppress(ConnectionError):
                self.instead.pop(0)(request)
            return
        if self.status != 200:
            request.send_error(self.status)
            return
        start = 0
        if asked is not None and self.knows_ranges and request.headers.get("If-Range") == self.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(self.body):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        else:
            request.send_response(200)
        if self.says_length:
            request.send_header("Content-Length", str(len(self.body) - start))
        request.send_header("ETag", self.etag)
        request.end_headers()
        rest = self.body[start:]
        request.wfile.write(rest[: self.break_after.pop(0)] if self.break_after else rest)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if not path.name.endswith(".lock"))


def test_happy_path_reports_progress_and_leaves_only_the_file(server, tmp_path):
    target = tmp_path / "deep" / "er" / "weights.pt"
    seen, said = [], []
    assert (
        download.fetch(
            server.url,
            target,
            sha256=DIGEST,
            size=len(BODY),
            progress=lambda *x: seen.append(x),
            notify=said.append,
        )
        == target
    )
    assert target.read_bytes() == BODY
    assert leftovers(target) == ["weights.pt"]
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert said == [f"fetching weights.pt from {server.url}"]
    download.fetch(server.url, target, sha256=DIGEST)
    assert server.ranges == [None], "a file that is there is not fetched again"


def test_abbreviated_digest(server, tmp_path):
    download.fetch(server.url, tmp_path / "a", sha256=DIGEST[:8])
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        download.fetch(server.url, tmp_path / "b", sha256="00000000")


def test_broken_off_twice_is_resumed_where_it_stopped(server, tmp_path):
    server.break_after = [300_000, 200_000]
    target = tmp_path / "weights.pt"
    download.fetch(server.url, target, sha256=DIGEST, backoff_seconds=QUICK)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]
    assert leftovers(target) == ["weights.pt"]


def test_part_survives_the_last_retry_and_the_next_call_goes_on(server, tmp_path):
    server.break_after = [1000] * 4
    target = tmp_path / "weights.pt"
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, target, sha256=DIGEST, backoff_seconds=QUICK)
    assert f"4000 of {len(BODY)} bytes came" in str(caught.value)
    assert "run again" in str(caught.value)
    assert not target.exists()
    download.fetch(server.url, target, sha256=DIGEST)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=4000-"]


def test_a_file_that_changed_is_not_glued_to_its_old_half(server, tmp_path):
    server.break_after = [300_000]
    target = tmp_path / "weights.pt"
    with pytest.raises(WeightsMissing):
        download.fetch(server.url, target, sha256=None, backoff_seconds=())
    server.body, server.etag = BODY[::-1], '"two"'
    download.fetch(server.url, target, sha256=None)
    assert server.ranges == [None, "bytes=300000-"]
    assert target.read_bytes() == BODY[::-1]


def test_a_server_that_ignores_range_sends_it_all_again(server, tmp_path):
    server.knows_ranges = False
    server.break_after = [300_000]
    target = tmp_path / "weights.pt"
    download.fetch(server.url, target, sha256=DIGEST, backoff_seconds=QUICK)
    assert server.ranges == [None, "bytes=300000-"]
    assert target.read_bytes() == BODY


def test_a_part_as_long_as_the_file_starts_over(server, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(BODY)
    (tmp_path / "weights.pt.part.version").write_text(server.etag)
    target = download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=QUICK)
    assert server.ranges == [f"bytes={len(BODY)}-", None]
    assert target.read_bytes() == BODY


def test_wrong_checksum_removes_the_part_and_names_both(server, tmp_path):
    target = tmp_path / "weights.pt"
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, target, sha256="ab" * 32, backoff_seconds=QUICK)
    assert "ab" * 32 in str(caught.value)
    assert DIGEST in str(caught.value)
    assert leftovers(target) == []
    assert len(server.ranges) == 1, "a wrong file is not fetched again and again"


def test_wrong_length_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(WeightsMissing, match=f"offers {len(BODY)} bytes where 5 are expected"):
        download.fetch(server.url, tmp_path / "weights.pt", sha256=None, size=5)


def test_short_file_without_a_length_is_caught_by_its_size(server, tmp_path):
    server.says_length = False
    server.break_after = [1000] * 4
    with pytest.raises(WeightsMissing, match=f"of {len(BODY)} bytes came"):
        download.fetch(
            server.url, tmp_path / "weights.pt", sha256=DIGEST, size=len(BODY), backoff_seconds=QUICK
        )


def test_length_and_digest_both_unknown_is_refused(server, tmp_path):
    server.says_length = False
    with pytest.raises(WeightsMissing, match="does not say how long"):
        download.fetch(server.url, tmp_path / "weights.pt", sha256=None)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 4)])
def test_error_answers(server, tmp_path, status, requests):
    server.status = status
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=QUICK)
    for part in (str(status), server.url, str(tmp_path / "weights.pt"), "give its path as weights"):
        assert part in str(caught.value)
    assert len(server.ranges) == requests


def test_no_server_says_at_once_what_to_do(server, tmp_path):
    server.close()
    started = time.monotonic()
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=(60.0,))
    assert time.monotonic() - started < 30
    for part in (
        "cannot reach the server",
        server.url,
        str(tmp_path / "weights.pt"),
        "give its path as weights",
    ):
        assert part in str(caught.value)


def test_silent_server_times_out(server, tmp_path):
    server.pause_seconds = 0.5
    with pytest.raises(WeightsMissing, match="timed out"):
        download.fetch(
            server.url, tmp_path / "weights.pt", sha256=DIGEST, timeout_seconds=0.1, backoff_seconds=()
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_full_disk(server, tmp_path):
    (tmp_path / "weights.pt.part").symlink_to("/dev/full")
    with pytest.raises(WeightsMissing, match=r"no space left.*make room"):
        download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=QUICK)


def test_cache_folder_that_is_a_file(server, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(WeightsMissing, match="cannot write"):
        download.fetch(server.url, tmp_path / "cache" / "weights.pt", sha256=DIGEST)


def test_first_download_is_trusted_and_remembered(server, tmp_path):
    target = download.fetch(server.url, tmp_path / "weights.pt", sha256=None)
    assert (tmp_path / "weights.pt.sha256").read_text() == f"{DIGEST}  weights.pt\n"
    assert download.recorded_digest(target) == DIGEST
    assert download.check(target, None) == DIGEST
    target.write_bytes(b"tampered")
    with pytest.raises(WeightsMissing, match=r"wrong checksum.*weights\.pt\.sha256"):
        download.check(target, None)
    # The record outlives the file: another file under the same address is not taken for it.
    target.unlink()
    server.body, server.etag = BODY[::-1], '"two"'
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        download.fetch(server.url, target, sha256=None)


def test_a_file_put_there_by_hand_is_remembered_too(tmp_path):
    (tmp_path / "w.pt").write_bytes(BODY)
    assert download.check(tmp_path / "w.pt", None) == DIGEST
    assert download.recorded_digest(tmp_path / "w.pt") == DIGEST
    with pytest.raises(WeightsMissing, match="cannot read"):
        download.check(tmp_path / "nothing", None)


def test_damaged_record(tmp_path):
    (tmp_path / "w.pt").write_bytes(BODY)
    (tmp_path / "w.pt.sha256").write_text("hello\n")
    with pytest.raises(WeightsMissing, match="not a SHA-256 record"):
        download.check(tmp_path / "w.pt", None)


def _fetch_in_child(url: str, target: Path, said: multiprocessing.Queue) -> None:
    download.fetch(url, target, sha256=DIGEST, notify=said.put)


@pytest.mark.slow
def test_two_processes_fetch_once(server, tmp_path):
    server.pause_seconds = 0.5
    context = multiprocessing.get_context("spawn")
    said: multiprocessing.Queue = context.Queue()
    target = tmp_path / "weights.pt"
    children = [context.Process(target=_fetch_in_child, args=(server.url, target, said)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert server.ranges == [None]
    assert target.read_bytes() == BODY


def test_the_one_who_waits_is_told(server, tmp_path):
    server.pause_seconds = 0.3
    target = tmp_path / "weights.pt"
    said: list[str] = []
    first = threading.Thread(target=download.fetch, args=(server.url, target), kwargs={"sha256": DIGEST})
    first.start()
    while not server.ranges:
        time.sleep(0.005)
    download.fetch(server.url, target, sha256=DIGEST, notify=said.append)
    first.join()
    assert said == ["another process is fetching weights.pt; waiting for it"]
    assert server.ranges == [None]


def answer(status: int = 200, body: bytes | Callable = BODY, **headers: str) -> Callable:
    """Return an answer with these headers and no others; `body` writes itself if it is a function."""

    def give(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        if callable(body):
            body(request.wfile)
        else:
            request.wfile.write(body)

    return give


def refused(server, target, said, *, sha256=DIGEST, size=None, requests=1, **options):
    """Fetch, expect an error that says `said` and leaves nothing; return the text of it."""
    options = {"backoff_seconds": QUICK, **options}
    with pytest.raises(WeightsMissing, match=said) as caught:
        download.fetch(server.url, target, sha256=sha256, size=size, **options)
    assert "give its path as weights" in str(caught.value)
    assert not target.exists()
    assert leftovers(target) == []
    assert len(server.ranges) == requests
    return str(caught.value)


def test_nothing_is_read_past_the_known_size(server, tmp_path):
    written = []

    def endless(file):
        while True:
            file.write(BODY)
            written.append(len(BODY))

    server.instead = [answer(body=endless)]
    refused(server, tmp_path / "w", "more than the 1000 bytes that are expected", size=1000)
    # What lies between the two in buffers of the system, and no more.
    assert sum(written) < 32 << 20


def test_nothing_is_read_without_end_where_no_size_is_known(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 1000)
    server.instead = [answer()]
    refused(server, tmp_path / "w", "more than the 1000 bytes")


def test_chunks_past_the_known_size(server, tmp_path):
    def chunks(file):
        for _ in range(100):
            file.write(b"3e8\r\n" + bytes(1000) + b"\r\n")
        file.write(b"0\r\n\r\n")

    server.instead = [answer(body=chunks, Transfer_Encoding="chunked")]
    refused(server, tmp_path / "w", "more than the 1500 bytes", size=1500)


def test_a_resumed_file_that_goes_on_too_long(server, tmp_path):
    server.break_after = [1000]
    said = {"Content_Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY)}", "ETag": '"one"'}
    server.instead = []
    with pytest.raises(WeightsMissing):
        download.fetch(server.url, tmp_path / "w", sha256=DIGEST, backoff_seconds=())
    server.instead = [answer(206, BODY, **said)]
    refused(server, tmp_path / "w", f"more than the {len(BODY)} bytes", requests=2)


@pytest.mark.parametrize("status", [206, 203, 202, 204])
def test_only_200_is_a_whole_file(status, server, tmp_path):
    said = {"Content_Range": f"bytes 0-9/{len(BODY)}", "Content_Length": "10"}
    server.instead = [answer(status, BODY[:10], **said)]
    refused(server, tmp_path / "w", f"answered HTTP {status}, which is no whole file", sha256=None)


@pytest.mark.parametrize(
    "where",
    [
        f"bytes 0-{len(BODY) - 1}/{len(BODY)}",
        f"bytes 999-{len(BODY) - 1}/{len(BODY)}",
        f"bytes 1000-{len(BODY) - 1}/*",
        "bytes " + "1" * 5000 + "-2/3",
        "pages 3-4/5",
        "",
    ],
)
def test_a_part_from_elsewhere_is_not_glued_on(where, server, tmp_path):
    server.break_after = [1000]
    rest = BODY[1000:]
    server.instead = []
    with pytest.raises(WeightsMissing):
        download.fetch(server.url, tmp_path / "w", sha256=None, backoff_seconds=())
    server.instead = [answer(206, rest, Content_Range=where, Content_Length=str(len(rest)), ETag='"one"')]
    target = download.fetch(server.url, tmp_path / "w", sha256=DIGEST, backoff_seconds=QUICK)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-", None]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 1048576\n"
PAGES = [b"<!DOCTYPE html><title>Sign in</title>", b"\xef\xbb\xbf \n<html>", b"<?xml version='1.0'?><Error/>"]


@pytest.mark.parametrize(
    ("body", "said"), [(POINTER, "a Git LFS pointer"), *((page, "a web page") for page in PAGES)]
)
@pytest.mark.parametrize(("sha256", "size"), [(None, None), (DIGEST, None), (DIGEST, len(BODY))])
def test_what_is_no_weights_is_named(body, said, sha256, size, server, tmp_path):
    server.body = body
    refused(server, tmp_path / "w", said, sha256=sha256, size=size)


def test_a_pointer_that_was_put_there_by_hand(tmp_path):
    (tmp_path / "w.pt").write_bytes(POINTER)
    for digest in (None, DIGEST):
        with pytest.raises(
            WeightsMissing, match=r"w\.pt: is a Git LFS pointer and no weights; 'git lfs pull'"
        ):
            download.check(tmp_path / "w.pt", digest)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


@pytest.mark.parametrize("sha256", [None, DIGEST])
def test_a_packed_file_that_nobody_asked_for(sha256, server, tmp_path):
    packed = gzip.compress(BODY)
    server.instead = [answer(body=packed, Content_Encoding="gzip", Content_Length=str(len(packed)))]
    refused(server, tmp_path / "w", r"packed \(gzip\)", sha256=sha256)


@pytest.mark.parametrize(
    "place",
    ["file:///etc/hostname", "ftp://127.0.0.1/w", "gopher://x/", "data:,x", "http://[", "http://:x/"],
)
def test_a_redirect_to_elsewhere_than_the_web_is_not_followed(place, server, tmp_path):
    server.instead = [answer(302, b"", Location=place)]
    with pytest.raises(WeightsMissing, match="cannot fetch the weights"):
        download.fetch(server.url, tmp_path / "w", sha256=None, backoff_seconds=())
    assert leftovers(tmp_path / "w") == []


def test_a_redirect_is_followed_but_not_for_ever(server, tmp_path):
    server.instead = [answer(302, b"", Location=f"{server.url}/elsewhere", Content_Length="0")]
    assert download.fetch(server.url, tmp_path / "w", sha256=DIGEST).read_bytes() == BODY
    server.instead = [answer(302, b"", Location=server.url, Content_Length="0")] * 20
    with pytest.raises(WeightsMissing, match="HTTP 302"):
        download.fetch(server.url, tmp_path / "x", sha256=DIGEST, backoff_seconds=())


def test_a_redirect_from_https_to_http_is_not_followed():
    request = urllib.request.Request("https://a.b/w")
    with pytest.raises(urllib.error.URLError, match="leads on to http"):
        _Redirects().redirect_request(request, None, 302, "Found", {}, "http://a.b/w")
    assert _Redirects().redirect_request(request, None, 302, "Found", {}, "https://c.d/w") is not None


def test_a_server_that_drips_is_given_up(server, tmp_path):
    def drips(file):
        for byte in BODY[:100]:
            file.write(bytes([byte]))
            file.flush()
            time.sleep(0.05)

    server.instead = [answer(body=drips, Content_Length=str(len(BODY)))]
    began = time.monotonic()
    with pytest.raises(WeightsMissing, match="too slowly"):
        download.fetch(server.url, tmp_path / "w", sha256=DIGEST, timeout_seconds=0.3, backoff_seconds=())
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "first",
    [
        answer(body=b"xx", Content_Length="9" * 5000),
        answer(body=b"5\r\nab", Transfer_Encoding="chunked"),
        answer(body=b"zz\r\n", Transfer_Encoding="chunked"),
        answer(body=BODY[:10], Content_Length="-5"),
        lambda request: request.wfile.write(b"no HTTP at all\r\n\r\n"),
        lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
    ],
)
def test_answers_that_make_no_sense(first, server, tmp_path):
    server.instead = [first]
    with pytest.raises(WeightsMissing, match="cannot fetch the weights"):
        download.fetch(server.url, tmp_path / "w", sha256=DIGEST, backoff_seconds=())
