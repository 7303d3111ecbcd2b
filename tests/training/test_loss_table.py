"""The table of losses: every line builds, and naming the losses costs no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import torch

from facecli.errors import UsageError
from facecli.training import recipe
from facecli.training.config import Optimizer, Precision
from facecli.training.losses.batch import DISTANCES
from facecli.training.losses.table import (
    LOSSES,
    PAIR_MINERS,
    TRIPLET_MINERS,
    Distance,
    LossKind,
    LossSettings,
    loss_kind,
)
from facecli.training.recipe import SAMPLERS_OF_MINERS


def built(name: str, **settings):
    kind = LOSSES[name]
    given = {"margin": kind.margin, "scale": kind.scale, "miner": kind.miner_of(None, soft=False)}
    return kind.build(LossSettings(dim=6, classes=4, **given | settings))


def test_the_names_cost_no_torch():
    code = (
        "import sys; from facecli.training.losses.table import LOSSES\n"
        "print(*LOSSES); print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "triplet contrastive logistic multi-similarity nt-xent supcon circle"
        " softmax arcface cosface sub-center memory",
        "set()",
    ]


@pytest.mark.parametrize("name", [name for name, kind in LOSSES.items() if not kind.needs_base])
def test_every_line_builds_a_loss_that_teaches(name):
    torch.manual_seed(0)
    loss = built(name)
    rows = torch.randn(8, 6, requires_grad=True)
    outcome = loss(rows, torch.arange(8) // 2, torch.Generator().manual_seed(0))
    outcome.loss.backward()
    assert outcome.loss > 0
    assert rows.grad is not None
    assert rows.grad.abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_line_promises_its_class_keeps(name):
    kind, loss = LOSSES[name], built(name)
    assert hasattr(loss, "miner") == (kind.miner is not None)
    assert hasattr(loss, "imprint") == kind.imprints
    assert hasattr(loss, "remember") == kind.needs_base


def test_settings_reach_the_loss():
    assert built("triplet", margin=0.5).margin == 0.5
    assert built("triplet", soft=True).reduction == "mean"
    assert built("supcon", scale=4.0).temperature == 0.25
    assert built("circle", scale=7.0).gamma == 7.0
    assert built("sub-center").centres == 3
    assert (built("contrastive").power, built("contrastive", miner="random-pairs").power) == (1, 2)
    for miner in SAMPLERS_OF_MINERS:
        built("triplet" if "triplets" in miner else "contrastive", miner=miner)


def test_the_miner_is_the_one_named_or_fits_the_loss():
    kind = LOSSES["triplet"]
    assert [kind.miner_of(None, soft=soft) for soft in (False, True)] == ["semi-hard", "all"]
    assert kind.miner_of("batch-hard", soft=True) == "batch-hard"
    assert LOSSES["softmax"].miner_of(None, soft=False) == ""


@pytest.mark.parametrize(("loss", "known"), [("triplet", TRIPLET_MINERS), ("contrastive", PAIR_MINERS)])
def test_every_line_of_miners_names_a_function(loss, known):
    for name, function in known.items():
        assert built(loss, miner=name).miner.__name__ == function
    assert set(SAMPLERS_OF_MINERS) <= {*TRIPLET_MINERS, *PAIR_MINERS}


def test_what_can_be_chosen_is_what_there_is():
    assert get_args(Distance) == tuple(DISTANCES)
    assert get_args(Optimizer) == tuple(recipe.SCRATCH_LR) == tuple(recipe.FINE_TUNE_LR)
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in get_args(Precision))


def test_a_loss_more_is_one_line(monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", LossKind("batch", lambda m, s: m.SupCon(s.margin), margin=0.5))
    assert built("mine").temperature == 0.5
    with pytest.raises(UsageError, match="known are triplet, .*, memory, mine"):
        loss_kind("magnet")
