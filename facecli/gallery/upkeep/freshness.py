"""Says how far the photos of a database have moved on since they were enrolled, without reading them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from facecli.gallery.store.writer import Store
from facecli.gallery.survey import survey
from facecli.gallery.upkeep.inventory import Inventory


@dataclass(frozen=True)
class Freshness:
    """Photos by what the next refresh will find."""

    n_new: int
    n_changed: int
    """With another size, time or inode; their content decides."""
    n_young: int
    """So young when they were enrolled, or failed under other limits, that they are looked at once more."""
    n_gone: int

    @property
    def up_to_date(self) -> bool:
        """Say whether the next refresh has nothing to find out."""
        return not (self.n_new or self.n_changed or self.n_gone)


def freshness(root: Path, inventory: Inventory) -> Freshness:
    """Compare the photos in `root` with what the store of `inventory` knows, under its own limits."""
    with Store.reading(inventory.folder, inventory.dim) as kept:
        seen = survey(root, kept, inventory.limits)
        n_new = n_changed = n_young = 0
        for subject, photos in groupby(seen.changed, key=lambda photo: photo[0]):
            known = kept.known(subject, inventory.limits)
            for _, path in photos:
                stat = known.get(path)
                n_new += stat is None
                n_young += stat == ""
                n_changed += stat is not None and stat != ""
    return Freshness(n_new, n_changed, n_young, len(seen.removed))
