"""What `calibrate` and `eval` are pointed at: lists of pairs and people, read, checked and embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facecli import config
from facecli.cli.options import EmbedderOptions, TrialOptions
from facecli.cli.session import Folders, read_pairs
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.cli.notes import Notes
    from facecli.templates.embedder import Embedder
    from facecli.trials.labelled import LabelledComparisons
    from facecli.trials.pairs import PairSet
    from facecli.trials.samples import Samples


@dataclass(frozen=True)
class Inputs:
    """Reads and embeds what the options name, with a bar where it takes a while."""

    options: TrialOptions
    folders: Folders
    notes: Notes

    def read_list(self, source: str, targets: Sequence[float] = ()) -> PairSet:
        """Return the pairs of `source`; raises what is wrong with them, or too few for the FMRs `targets`."""
        from facecli.trials.labelled import check_pairs

        pairs = read_pairs(source, self.options.root)
        check_pairs(pairs, targets, source, every=self.options.every)
        return pairs

    def compare(
        self, embedder: Embedder, pairs: PairSet, *, templates: Path | None = None, description: str = ""
    ) -> LabelledComparisons:
        """Return the comparisons of `pairs`: embedded, or looked up in a file of templates."""
        from facecli.trials.labelled import of_pairs

        with self.notes.progress("embedding") as tell:
            return of_pairs(
                embedder,
                pairs,
                every=self.options.every,
                templates=templates,
                description=description,
                progress=tell,
            )

    def people(self, embedder: Embedder, source: Path) -> tuple[Samples, Path | None]:
        """Return the samples of a database or of a file of templates, and the folder that the photos lie in."""
        from facecli.trials.database import samples_of_people

        with self.notes.progress("enrolling") as tell:
            return samples_of_people(
                source, embedder, cache_dir=self.folders.cache, progress=tell, notify=self.notes.say
            )


def refuse(*requests: tuple[bool, bool, str], hint: str = "") -> None:
    """Raise `UsageError` for the first of (given, allowed, message) that is given and not allowed."""
    for given, allowed, message in requests:
        if given and not allowed:
            raise UsageError(message, hint=hint)


def refuse_choice_of_faces(embedding: EmbedderOptions) -> None:
    """Raise `UsageError` where an option says which face of a photo counts: for data that are enrolled."""
    chosen = embedding.faces != config.DEFAULT_FACES or embedding.face is not None
    hint = "leave --faces and --face out"
    refuse((chosen, False, "a database enrols the main face of each photo"), hint=hint)
