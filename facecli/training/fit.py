"""Training: one network with shared weights, any loss, verified on other people after every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facecli.calibration.calibration import marks
from facecli.calibration.files import save as save_calibration
from facecli.calibration.fit import calibrate, describe
from facecli.errors import BadInput, UsageError
from facecli.hooks import Notify, Progress
from facecli.models import checkpoint
from facecli.models.runtime import torch_device
from facecli.models.spec import ModelSpec
from facecli.stats.cross import cross_comparisons
from facecli.templates.embedder import embedder_id
from facecli.training import alarms, distributed, freeze, recipe
from facecli.training.alarms import Alarm
from facecli.training.config import TrainConfig
from facecli.training.data import TrainingSet, load, split, together
from facecli.training.events import Began, EpochDone, Report, Step, Trained
from facecli.training.learner import Learner
from facecli.training.run_folder import RunFolder
from facecli.training.start import Start, start
from facecli.training.validation import ranking_fmr, tar_gain, verification

Weights = dict[str, Tensor]

CURVE = ("epoch", "loss", "eer", "tar_at_fmr_1e-2", "tar_at_fmr_1e-3", "rank1", "map_at_r")
"""What a checkpoint keeps of the epochs before it."""


def fit(
    config: TrainConfig,
    *,
    cache_dir: Path,
    resume: bool = False,
    report: Report = lambda event: None,
    notify: Notify | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train by `config`, into the folder `config.out`; return how good the best epoch is.

    `report` hears of everything as it happens; `progress` of the images being cut. With `resume` a run that was
    broken off goes on after its last whole epoch, on a CPU to the same bits. A KeyboardInterrupt goes through:
    what is on the disk by then can be resumed. With several processes all call this; the first one writes and
    reports.

    Raises `UsageError`, `BadInput`, `WeightsMissing` and what reading the data raises.
    """
    torch_device(config.device)
    begun = start(config, cache_dir=cache_dir, notify=notify)
    config = recipe.decided(config, begun)
    data, val = read_data(config, begun.spec, cache_dir, progress)
    return _Run(config, begun, data, val, report).run(resume)


def read_data(
    config: TrainConfig,
    spec: ModelSpec,
    cache_dir: Path,
    progress: Progress | None = None,
) -> tuple[TrainingSet, TrainingSet]:
    """Return what to train on and what to validate on: no subject and no image is in both."""

    def read(folder: Path) -> TrainingSet:
        return load(
            folder,
            spec,
            cache_dir=cache_dir,
            aligned=config.aligned,
            faces=config.faces,
            min_face_px=config.min_face_px,
            workers=config.workers,
            progress=progress,
        )

    if config.also and config.val is None:
        raise UsageError(
            "people of several folders would be told apart by the look of their folder's photos",
            path=config.also[0],
            hint="validate on people of one kind of photos",
            advice="one_kind",
        )
    data = read(config.data)
    if config.also:
        data = together([data, *map(read, config.also)])
    if config.subjects:
        missing = sorted(set(config.subjects) - set(data.subjects))
        if missing:
            raise UsageError(f"no subject '{missing[0]}' in the training data", path=config.data)
        data = replace(data.of(config.subjects), failures=data.failures)
    if config.val is None:
        train, val = split(data, config.val_share, config.seed)
        return replace(train, failures=data.failures), val
    val = read(config.val)
    images = set(data.digests) & set(val.digests)
    names = set(data.subjects) & set(val.subjects)
    if images or names:
        shared = f"{len(images)} images" if images else f"the subject '{min(names)}'"
        raise BadInput(
            f"{shared} of the validation data are in the training data too: the figures would flatter the network",
            path=config.val,
            hint="validate on other people",
        )
    return data, val


class _Run:
    """One run on one process."""

    def __init__(
        self, config: TrainConfig, begun: Start, data: TrainingSet, val: TrainingSet, report: Report
    ) -> None:
        self.config, self.begun, self.data, self.val = config, begun, data, val
        self.first = distributed.rank() == 0
        self.report: Report = report if self.first else lambda event: None
        self.learner = Learner(config, begun, data)
        self.shares = (*recipe.shares(config, begun), 1.0)
        self.start: Weights = self._weights()
        self.folder = RunFolder(config.out)
        self.alarms: list[Alarm] = []
        self.best_templates: NDArray[np.float32] | None = None

    def run(self, resume: bool) -> Trained:
        digest = f"{self.data.digest} {self.val.digest}"
        state = self.folder.begin(self.config, digest, resume=resume) if self.first else None
        state = distributed.gather_objects(state)[0]
        self._began(state["epoch"] + 1 if state is not None else 1)
        start_templates = self.learner.templates(self.val.chips)
        self.learner.begin()
        if state is None:
            best = self._judged(0, 1.0, start_templates)
            self.best_templates = start_templates
            history: list[dict[str, Any]] = [{"loss": None, **best}]
            self._save(self.folder.best, best, [])
            self._keep(0, history, best)
            self._done(history[0])
        else:
            history, best = state["history"], state["best"]
            self.learner.load_state(state)
        for epoch in range(len(history), self.config.epochs + 1):
            figures = self.learner.epoch(epoch, lambda *step, epoch=epoch: self.report(Step(epoch, *step)))
            candidates = self._candidates(epoch)
            for judged, templates in candidates:
                if judged["rank"] > best["rank"]:
                    best, self.best_templates = judged, templates
                    self._save(self.folder.best, best, history)
            record = candidates[-1][0] | figures | {"best_epoch": best["epoch"], "best_share": best["share"]}
            record["shares"] = [[judged["share"], *judged["rank"]] for judged, _ in candidates]
            raised = alarms.after(
                [*history, record], can_run_dry=recipe.runs_dry(self.config), headline=record["headline"]
            )
            record["alarms"] = [alarm.code for alarm in raised]
            new = [alarm for alarm in raised if alarm.code not in history[-1].get("alarms", ())]
            history.append(record)
            self._keep(epoch, history, best)
            self._done(record)
            self._alarm(new)
        return self._finished(history, best, start_templates)

    def _began(self, first_epoch: int) -> None:
        parts, module = self.learner.parts, self.learner.module
        freeze.apply(module, parts, self.learner.learning_blocks(first_epoch))
        self.report(
            Began(
                people=len(self.data.subjects),
                images=len(self.data),
                val_people=len(self.val.subjects),
                val_images=len(self.val),
                failures=(*self.data.failures, *self.val.failures),
                parameters=sum(p.numel() for p in module.parameters()),
                trainable=freeze.trainable(module),
                epochs=self.config.epochs,
                first_epoch=first_epoch,
            )
        )
        self._alarm(
            alarms.before(
                len(self.data.subjects),
                len(self.data),
                len(self.val.subjects),
                from_scratch=self.begun.from_scratch,
            )
        )

    def _candidates(self, epoch: int) -> list[tuple[dict[str, Any], NDArray[np.float32]]]:
        """Return how good the epoch's weights are, blended with the base's by each share, and the templates they make.

        The last is unblended.
        """
        learned = self._weights()
        candidates = []
        for share in self.shares:
            self._load(learned, share)
            templates = self.learner.templates(self.val.chips)
            candidates.append((self._judged(epoch, share, templates), templates))
        self._load(learned, 1.0)
        return candidates

    def _judged(self, epoch: int, share: float, templates: NDArray[np.float32]) -> dict[str, Any]:
        figures = verification(templates, self.val.names, seed=self.config.seed)
        judged = {"epoch": epoch, "share": share, "headline": figures.headline, "rank": list(figures.rank())}
        return judged | figures.record()

    def _weights(self) -> Weights:
        return {name: value.detach().clone() for name, value in self.learner.module.state_dict().items()}

    def _load(self, learned: Weights, share: float) -> None:
        """Load weights `share` of the way from the base to `learned` (WiSE-FT, Wortsman et al., CVPR 2022)."""
        blended = {
            name: value
            if share == 1.0 or not value.is_floating_point()
            else self.start[name].lerp(value, share)
            for name, value in learned.items()
        }
        self.learner.module.load_state_dict(blended)

    def _save(self, folder: Path, judged: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Write the network as blended for `judged` as a checkpoint; `history` is what led there."""
        if not self.first:
            return
        learned = self._weights()
        self._load(learned, judged["share"])
        checkpoint.save(
            folder,
            self.learner.module,
            architecture=self.begun.architecture,
            spec=self.begun.spec,
            training={
                "config": self.config.record(),
                "data_digest": self.data.digest,
                "people": len(self.data.subjects),
                "images": len(self.data),
                "image_marks": " ".join(marks((*self.data.digests, *self.val.digests))),
                "subject_marks": " ".join(marks((*self.data.subjects, *self.val.subjects))),
                "verification": judged,
                "curve": [{key: r.get(key) for key in CURVE} for r in history],
            },
        )
        self._load(learned, 1.0)

    def _keep(self, epoch: int, history: list[dict[str, Any]], best: dict[str, Any]) -> None:
        if self.first:
            self._save(self.folder.last, history[-1] | {"share": 1.0}, history[:-1])
            self.folder.write_state(
                {"epoch": epoch, "history": history, "best": best, **self.learner.state()}
            )
            self.folder.write_log(history)
        distributed.wait()

    def _done(self, record: dict[str, Any]) -> None:
        self.report(EpochDone(record))

    def _alarm(self, raised: list[Alarm]) -> None:
        for alarm in raised:
            self.alarms.append(alarm)
            self.report(alarm)

    def _finished(
        self, history: list[dict[str, Any]], best: dict[str, Any], start_templates: NDArray[np.float32]
    ) -> Trained:
        spec = checkpoint.read_spec(self.folder.best)
        templates = self.best_templates
        if templates is None:
            # The best epoch was before the run was broken off.
            self.learner.module.load_state_dict(checkpoint.load(spec).state_dict())
            templates = self.learner.templates(self.val.chips)
        comparisons = cross_comparisons(templates, self.val.names)
        if self.first:
            network = checkpoint.FAMILY.network(spec, self.folder.root, None, None)
            save_calibration(
                self.folder.calibration,
                calibrate(
                    comparisons,
                    describe(
                        comparisons,
                        f"the people that the training of '{spec.name}' was validated on",
                        image_digests=self.val.digests,
                        subjects=self.val.names,
                    ),
                    embedder_id=embedder_id(spec, network.key, self.config.aligned),
                    seed=self.config.seed,
                    notice="these people also chose the epoch: calibrate on others before relying on low rates",
                ),
            )
        fmr = ranking_fmr(int(np.count_nonzero(~comparisons.mated)))
        gain = None
        if fmr is not None and best["epoch"] > 0:
            gain = tar_gain(start_templates, templates, self.val.names, fmr, seed=self.config.seed)
        self._alarm(alarms.at_end(history, best, gain, fmr))
        return Trained(
            best=self.folder.best,
            best_epoch=best["epoch"],
            best_share=best["share"],
            best_record=best,
            history=tuple(history),
            templates=templates,
            subjects=tuple(self.val.names),
            gain=gain,
            gain_fmr=fmr,
            alarms=tuple(self.alarms),
        )
