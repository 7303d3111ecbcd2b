"""What `calibrate` is pointed at: lists of pairs, databases and scores, read, embedded and looked over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facecli.cli.advice import in_shell_words
from facecli.cli.session import Folders, read_pairs, read_scores
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.cli.notes import Notes
    from facecli.templates.embedder import Embedder
    from facecli.trials.evidence import Evidence
    from facecli.trials.pairs import PairSet


@dataclass(frozen=True)
class Sources:
    """Photos to compare, and what it takes to embed them."""

    embedder: Embedder
    folders: Folders
    notes: Notes
    every: bool
    root: Path | None

    def gather(
        self,
        pairs: str | None,
        db: Path | None,
        test: str | None,
        targets: list[float],
        nonmated: int | None,
        seed: int,
        description: str | None,
    ) -> tuple[Evidence, Evidence | None]:
        """Return what thresholds are chosen on and what rates are reported on.

        Both lists are read, and refused, before the first image is embedded.
        """
        listed = None if pairs is None else self._read(pairs, targets)
        tested = None if test is None else self._read(test, [])
        if db is not None:
            chosen = self._database(db, targets, nonmated, seed, description)
        elif listed is not None:
            chosen = self._compared(listed, description if description is not None else self._name(pairs))
        else:
            raise UsageError("nothing to calibrate on")
        return chosen, None if tested is None else self._compared(tested, self._name(test))

    def _read(self, source: str, targets: list[float]) -> PairSet:
        from facecli.trials import evidence

        found = read_pairs(source, self.root)
        evidence.check_targets(evidence.rehearsal(found, every=self.every), targets, source)
        return found

    def _compared(self, pairs: PairSet, description: str) -> Evidence:
        from facecli.trials import evidence

        with self.notes.progress("embedding") as tell:
            return evidence.from_pairs(
                self.embedder, pairs, every=self.every, description=description, progress=tell
            )

    def _database(
        self, db: Path, targets: list[float], nonmated: int | None, seed: int, description: str | None
    ) -> Evidence:
        from facecli.trials import evidence
        from facecli.trials.database import samples_of_database

        with self.notes.progress("enrolling") as tell:
            samples = samples_of_database(
                db, self.embedder, cache_dir=self.folders.cache, progress=tell, notify=self.notes.say
            )
        part = "all comparisons" if nonmated is None else f"{nonmated:,} non-mated and all mated comparisons"
        text = description if description is not None else f"{part} of the database {db.resolve().name}"
        found = evidence.from_database(samples, db, nonmated=nonmated, seed=seed, description=text)
        evidence.check_targets(found.comparisons, targets, str(db))
        return found

    def _name(self, source: str | None) -> str:
        manner = "all comparisons of the images of" if self.every else "the pairs of"
        return f"{manner} {_file_name(source)}"


def scored(
    scores: str, test: str | None, targets: list[float], description: str | None
) -> tuple[Evidence, Evidence | None]:
    """Return the evidence in files of scores; refuse what cannot work."""
    from facecli.trials import evidence

    text = description if description is not None else f"the scores of {_file_name(scores)}"
    chosen = evidence.from_scores(read_scores(scores), text)
    evidence.check_targets(chosen.comparisons, targets, scores)
    if test is None:
        return chosen, None
    reported = evidence.from_scores(read_scores(test), f"the scores of {_file_name(test)}")
    evidence.check_targets(reported.comparisons, [], test)
    return chosen, reported


def _file_name(source: str | None) -> str:
    return "stdin" if source == "-" else Path(str(source)).name


def remark(chosen: Evidence, reported: Evidence | None, notes: Notes) -> str:
    """Say what is doubtful about the data; return what of it belongs into the calibration's notice."""
    from facecli.trials.evidence import SHOWN
    from facecli.trials.samples import shared

    for data in (chosen, reported):
        if data is None:
            continue
        for error in data.errors:
            notes.warn(f"{in_shell_words(error)}; the row is left out")
        for failure in data.failures[:SHOWN]:
            notes.warn(f"{failure.path}: {failure.message}")
        if data.failures:
            notes.warn(
                f"images that could not be embedded: {len(data.failures):,}; their comparisons count as failures"
            )
        for remark in data.remarks:
            notes.warn(remark)
    if reported is None:
        return ""
    images, people = shared(chosen.provenance, reported.provenance)
    if not images and not people:
        return ""
    overlap = (
        f"{images:,} images and {people:,} people are both in the data that thresholds were chosen on and in"
        " those that rates are reported on, which flatters the rates."
    )
    notes.warn(overlap)
    return overlap
