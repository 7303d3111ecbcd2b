"""Says in words when training goes wrong, from the figures of its epochs. Each alarm names a cause and a remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facecli.training.validation import Measure

FEW_PEOPLE = 30
"""Training subjects below which a network learns these people and not how people differ."""
FEW_TO_VALIDATE = 10
COLLAPSED = 0.01
"""Spread of the embeddings (1 - squared length of their mean) below which they are all the same."""
IDLE = 0.01
"""Share of active terms below which a batch-based loss has nothing left to teach."""
CHANCE = 0.4
"""EER from which on a network can be said to tell nobody apart; guessing has 0.5."""
PERFECT = 0.0005
"""How far a figure of verification may be from the best there is, and no epoch can do better: it is shown as that."""
PATIENCE = 3
"""Epochs over which the loss must fall and verification not improve before it counts as not following."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Alarm:
    """What is wrong: `code` for machines, `text` for people."""

    code: str
    text: str


def before(people: int, images: int, val_people: int, *, from_scratch: bool) -> list[Alarm]:
    """Return what can be said before the first epoch."""
    alarms = []
    if people < FEW_PEOPLE:
        start = (
            "a network from scratch cannot learn from them what tells other people apart"
            if from_scratch
            else "fine-tuning on them makes a network that knows these people and no others"
        )
        alarms.append(
            Alarm(
                "few_people",
                f"only {people} people to train on ({images} images): {start}; the number of people counts for"
                f" more than the number of images, so add people (at least {FEW_PEOPLE}, better hundreds)",
            )
        )
    if val_people < FEW_TO_VALIDATE:
        alarms.append(
            Alarm(
                "few_to_validate",
                f"verification rests on {val_people} people: look at the intervals before believing a figure",
            )
        )
    return alarms


def after(history: Sequence[Record], *, can_run_dry: bool, headline: str) -> list[Alarm]:
    """Return what the last record of `history` shows; `history[0]` is the base model, before training.

    `can_run_dry` says that the loss compares the images of a batch, so that its active share can run dry;
    `headline` names the figure that ranks epochs.
    """
    last = history[-1]
    alarms = []
    if last["spread"] < COLLAPSED:
        alarms.append(
            Alarm(
                "collapsed",
                "the embeddings have collapsed: all images get nearly the same one"
                f" (spread {last['spread']:.4f}, mean distance of different people"
                f" {last['mean_negative_distance']:.3f}, loss {last['loss']:.3f});"
                " lower the learning rate, or mine semi-hard instead of the hardest",
            )
        )
    elif can_run_dry and last["active_fraction"] < IDLE:
        alarms.append(
            Alarm(
                "nothing_active",
                f"only {last['active_fraction']:.2%} of the comparisons still violate the margin: they are too"
                " easy to teach anything, so a low loss means nothing; mine batch-hard or semi-hard, use more"
                " people in a batch or a larger margin",
            )
        )
    if last["eer"] > CHANCE:
        alarms.append(
            Alarm(
                "tells_nobody_apart",
                f"on people it was not trained on the network tells nobody apart: EER {last['eer']:.1%},"
                " where guessing has 50 %",
            )
        )
    behind = _not_following(history, headline)
    if behind is not None:
        alarms.append(behind)
    return alarms


def at_end(history: Sequence[Record], best: Record, gain: Measure | None, fmr: float | None) -> list[Alarm]:
    """Return what the whole run shows; `gain` is TAR of the best less that of the start at `fmr`, if known."""
    headline = history[0]["headline"]
    if best["epoch"] == 0:
        return [
            Alarm(
                "not_better",
                f"no epoch told other people apart better than the network before training ({headline}"
                f" {history[0][headline]:.4f}): the best checkpoint is that network",
            )
        ]
    if gain is not None and gain.low <= 0:
        return [
            Alarm(
                "not_surely_better",
                f"it is not sure that the network is better than before training: TAR at FMR {fmr:g} changed by"
                f" {gain.value:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f} over people",
            )
        ]
    return []


def _not_following(history: Sequence[Record], headline: str) -> Alarm | None:
    """Return the alarm of a loss that falls while verification does not improve on what it was before."""
    if len(history) < PATIENCE + 2:
        return None
    sign = -1.0 if headline == "eer" else 1.0
    earlier, recent = history[:-PATIENCE], history[-PATIENCE:]
    best = max(earlier, key=lambda r: sign * r[headline])
    improved = any(sign * r[headline] > sign * best[headline] for r in recent)
    loss_before = history[-PATIENCE - 1]["loss"]
    if improved or loss_before is None or recent[-1]["loss"] >= 0.98 * loss_before:
        return None
    if abs(recent[-1][headline] - (0.0 if headline == "eer" else 1.0)) < PERFECT:
        return None
    return Alarm(
        "validation_not_following",
        f"the loss fell from {loss_before:.3g} to {recent[-1]['loss']:.3g} in {PATIENCE} epochs while"
        f" {headline} on other people got no better (best {best[headline]:.3f} at epoch {best['epoch']}, now"
        f" {recent[-1][headline]:.3f}): the network learns the training people by heart; stop here, or use more"
        " people, stronger augmentation, a lower learning rate or a stronger pull towards the base",
    )
