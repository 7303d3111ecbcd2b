"""The embedder of the commands: what is wrong with a photo is said in the words of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from facecli.cli.advice import in_shell_words
from facecli.errors import FaceError
from facecli.photos.source import NamedPhoto
from facecli.templates.embedder import Embedder
from facecli.templates.template import Embedded


class ShellEmbedder(Embedder):
    """An embedder whose errors are in shell words before they go into records, warnings and databases."""

    def embed(self, photos: Iterable[NamedPhoto]) -> Iterator[Embedded | FaceError]:
        """Yield one result per photo, in order: its chosen faces, or what was wrong with it."""
        for found in super().embed(photos):
            yield in_shell_words(found) if isinstance(found, FaceError) else found
