"""What a library function is handed so that it can say how far it is; it never prints.

A caller passes what it likes: a bar, a log, nothing.
"""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], None]
"""Told in one sentence about slow preparations; a command line prints it on stderr."""

Progress = Callable[[int, "int | None"], None]
"""Told how much is done and how much there is in all, None while that is unknown."""
