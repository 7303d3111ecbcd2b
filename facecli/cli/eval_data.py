"""What `eval` is pointed at: pairs, LFW's layout, a database, a gallery with probes, or scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facecli.cli.options import RuleOptions
from facecli.cli.session import Folders, open_rule, read_pairs, read_scores
from facecli.errors import NoCalibration, UsageError

if TYPE_CHECKING:
    from facecli.cli.notes import Notes
    from facecli.evaluation.compare import System
    from facecli.evaluation.data import EvalData
    from facecli.templates.embedder import Embedder
    from facecli.trials.samples import Samples

Maker = Callable[["Embedder"], "EvalData"]
"""Makes the data with the templates of an embedder."""


@dataclass(frozen=True)
class Named:
    """The options that name the data, as they were given."""

    pairs: str | None
    lfw: Path | None
    db: Path | None
    gallery: Path | None
    probes: Path | None
    scores: str | None
    templates: Path | None
    every: bool
    root: Path | None

    def check(self, faces: str, face: int | None) -> None:
        """Raise `UsageError` unless the options name exactly one set of data."""
        listed = self.pairs is not None or self.lfw is not None
        searched = self.gallery is not None or self.probes is not None
        options = {"--pairs": self.pairs, "--lfw": self.lfw, "--db": self.db, "--scores": self.scores}
        given = [name for name, value in options.items() if value is not None]
        given += ["--gallery"] if searched else []
        if len(given) != 1:
            what = "nothing to evaluate" if not given else f"{' and '.join(given)} each name the data"
            hint = "give one of --pairs, --lfw, --db, --gallery with --probes, --scores"
            raise UsageError(what, hint=hint)
        if searched and (self.gallery is None or self.probes is None):
            raise UsageError("--gallery and --probes go together")
        for name, value in (("--cross", self.every), ("--root", self.root), ("--templates", self.templates)):
            if value and not listed:
                hint = "elsewhere name the file itself: --db x.npy" if name == "--templates" else ""
                raise UsageError(f"{name} goes with --pairs", hint=hint)
        if (self.db is not None or searched) and (faces != "largest" or face is not None):
            raise UsageError(
                "a database enrols the largest face of each photo", hint="leave --faces and --face out"
            )

    def from_scores(self) -> EvalData | None:
        """Return the data where they are scores that need no embedder, else None."""
        from facecli.evaluation.data import from_scores

        return None if self.scores is None else from_scores(read_scores(self.scores))

    def maker(self, folders: Folders, notes: Notes, group_by: str, subjects: Path | None) -> Maker:
        """Return what makes the data; lists are read, and what is wrong with them raised, at once."""
        from facecli.evaluation import data
        from facecli.evaluation.groups import read_groups
        from facecli.trials.evidence import check_targets, rehearsal

        listed = None
        source = self.pairs if self.lfw is None else str(data.lfw_pairs(self.lfw))
        if source is not None:
            listed = read_pairs(source, self.root)
            check_targets(rehearsal(listed, every=self.every), [], source)
        if group_by and subjects is not None:
            read_groups(subjects, group_by)
        elif group_by:
            there = {} if listed is None or self.every else listed.extra
            data.check_column(group_by, there)

        def make(embedder: Embedder) -> EvalData:
            with notes.progress("embedding") as tell:
                if listed is not None:
                    return data.from_pairs(
                        embedder, listed, every=self.every, templates=self.templates, progress=tell
                    )

                def people(source: Path) -> tuple[Samples, Path | None]:
                    return data.people_from(
                        source, embedder, cache_dir=folders.cache, progress=tell, notify=notes.say
                    )

                if self.db is not None:
                    return data.from_database(*people(self.db))
                if self.gallery is None or self.probes is None:
                    raise UsageError("--gallery and --probes go together")
                return data.from_gallery(people(self.gallery)[0], people(self.probes)[0])

        return make


def other_system(make: Maker | None, embedder: Embedder, folders: Folders, seed: int, notes: Notes) -> System:
    """Return another embedder tried on the same data, at its own threshold in force."""
    from facecli.evaluation.evaluation import run

    if make is None:
        raise UsageError("--scores are compared with a saved result", hint="save one with -o other.jsonl")
    threshold = None
    try:
        threshold = open_rule(folders, embedder, RuleOptions()).threshold
    except NoCalibration as error:
        notes.say(f"{error.what}: compared at fixed rates only")
    # Its own intervals are not wanted, only its errors.
    return run(make(embedder), embedder_id=embedder.id, threshold=threshold, seed=seed, replicates=2).system
