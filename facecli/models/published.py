"""ONNX recognisers as others publish them, each an entry of `BUILT_IN` that is fetched by its digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facecli.files.download import check, not_here
from facecli.models.onnx_file import network_of
from facecli.models.spec import Family, ModelSpec

if TYPE_CHECKING:
    from facecli.hooks import Notify
    from facecli.models.network import Network


class Published(Family):
    """Graphs that are run as they are; the contract is the table's, not a file's beside them."""

    trainable = False

    def download_path(self, spec: ModelSpec, cache_dir: Path) -> Path:
        """Return the file's place, named by model and digest: publishers give many files the same name."""
        return cache_dir / "weights" / f"{spec.name}-{str(spec.sha256)[:8]}.onnx"

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the downloaded file, or None."""
        path = self.download_path(spec, cache_dir)
        return path if path.is_file() else None

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the network in `weights`, which must have the digest of the table, or in the downloaded file.

        It has no torch form. Raises `WeightsMissing`.
        """
        path = weights if weights is not None else self.locate(spec, cache_dir)
        if path is None:
            raise not_here(spec.name, spec.places[0].url, self.download_path(spec, cache_dir))
        if weights is not None:
            check(weights, spec.sha256)
        return network_of(path, str(spec.sha256), spec)


FAMILY = Published()
