"""Asks a server for a file, and reads what its answer says of it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from http.client import HTTPResponse
from typing import Any

_NUMBER = "[0-9]{1,18}"
"""Of bytes; a server may say anything."""


def opened(url: str, headers: dict[str, str], timeout_seconds: float) -> HTTPResponse:
    """Return the answer to a request for `url`, wherever it leads on to.

    Redirects are followed to http and https, and never from https to http. Raises `OSError` (`HTTPError` for an answer
    that is an error), `HTTPException`, and `ValueError` for what is no address.
    """
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.build_opener(_Redirects).open(request, timeout=timeout_seconds)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://" if req.type == "https" else ("https://", "http://")):
            raise urllib.error.URLError(f"it leads on to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def version_of(answer: HTTPResponse) -> str:
    """Return the strongest name the server has for this version of the file; a weak ETag names no bytes."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def total_of(answer: HTTPResponse, start: int) -> int | None:
    """Return the length of the whole file if the answer continues at byte `start`, else None."""
    said = answer.headers.get("Content-Range", "")
    found = re.fullmatch(f"bytes ({_NUMBER})-{_NUMBER}/({_NUMBER})", said)
    return int(found[2]) if found is not None and int(found[1]) == start else None


def length_of(answer: HTTPResponse) -> int | None:
    """Return the length that an answer says it has."""
    said = answer.headers.get("Content-Length", "")
    return int(said) if re.fullmatch(_NUMBER, said) else None
