"""What comes in the place of weights: what a clone without Git LFS leaves, a download site's web page."""

from __future__ import annotations

HEAD_BYTES = 512
"""Of a file, that say what it is."""

_LFS = b"version https://git-lfs.github.com/spec/"
_WEB = (b"<!doctype html", b"<html", b"<?xml", b"<head")


def impostor(head: bytes) -> str:
    """Return what a file is that begins with `head` and is no weights, "" if nothing speaks against them.

    >>> impostor(b"version https://git-lfs.github.com/spec/v1")
    'a Git LFS pointer'
    """
    if head.startswith(_LFS):
        return "a Git LFS pointer"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "a web page" if text.lower().startswith(_WEB) else ""
