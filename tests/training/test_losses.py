"""Losses against published values, another implementation and the traps that silence them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from facecli.errors import BadInput, UsageError
from facecli.training.losses import classes, geometry, miners
from facecli.training.losses.batch import (
    Circle,
    Contrastive,
    Logistic,
    MultiSimilarity,
    NTXent,
    SupCon,
    Triplet,
)
from facecli.training.losses.memory import Memory
from facecli.training.losses.table import pair_miner, triplet_miner

torch.set_num_threads(1)

ROW, COLUMN = np.arange(12)[:, None], np.arange(6)[None]
EMBEDDINGS = torch.tensor(
    np.sin(1.7 * (ROW // 3) * (COLUMN + 1)) + 0.55 * np.cos(2.3 * ROW + 0.9 * COLUMN * COLUMN)
)
LABELS = torch.arange(12) // 3
WEIGHTS = torch.tensor(np.sin(1.7 * np.arange(4)[None] * (np.arange(6)[:, None] + 1)) + 0.1)
CENTRES = torch.tensor(
    np.sin(1.7 * (np.arange(12)[None] // 3) * (np.arange(6)[:, None] + 1))
    + 0.2 * np.cos(1.1 * np.arange(12)[None] + np.arange(6)[:, None])
)
HARD = {"miner": miners.batch_hard}


def head(kind, weights=WEIGHTS, **options):
    module = kind(6, 4, **options).double()
    module.weight.data = weights.clone()
    return module


# float64, pytorch-metric-learning 2.9.0; the two `pairs` rows from the formulas of siamese-triplet.
GOLDEN = [
    (Contrastive(), 1.1741744320),
    (Contrastive(reduction="mean"), 1.0017057952),
    (Contrastive(power=2, reduction="pairs"), 0.2147009317),
    (Contrastive(power=2, reduction="pairs", miner=miners.hard_negatives), 0.5904275621),
    (Triplet(0.05), 0.4954195474),
    (Triplet(0.05, reduction="mean"), 0.1077996237),
    (Triplet(0.2), 0.5225459133),
    (Triplet(0.2, reduction="mean"), 0.1451516426),
    (Triplet(0.5), 0.5488500944),
    (Triplet(0.5, reduction="mean"), 0.2515562933),
    (Triplet(0.2, distance="squared"), 1.3726790259),
    (Triplet(0.2, distance="cosine"), 0.6535779008),
    (Triplet(0.2, swap=True), 0.6100702596),
    (Triplet(0, soft=True, reduction="mean"), 0.5401005876),
    (Triplet(0.2, **HARD), 0.5350777707),
    (Triplet(0.2, reduction="mean", **HARD), 0.4013083280),
    (Triplet(0, soft=True, reduction="mean", **HARD), 0.8143222934),
    (MultiSimilarity(), 0.7830203245),
    (MultiSimilarity(miner=miners.multi_similarity), 0.5397798497),
    (NTXent(), 4.3484719050),
    (SupCon(), 3.6931550739),
    (Circle(), 72.9697593008),
    (head(classes.ArcFace, margin=math.radians(28.6)), 13.1404313928),
    (head(classes.ArcFace), 13.1518851389),
    (head(classes.CosFace), 11.3620972679),
    (head(classes.ArcFace, CENTRES, margin=math.radians(28.6), centres=3), 10.1173669476),
]
BATCH_LOSSES = [
    Contrastive(),
    Triplet(0.2),
    Triplet(0.2, distance="squared"),
    Triplet(0.2, distance="cosine"),
    Triplet(0.2, swap=True),
    Triplet(0, soft=True, reduction="mean"),
    Triplet(0.2, **HARD),
    Triplet(0.2, miner=miners.semi_hard),
    Triplet(0.2, miner=miners.hardest_negative),
    Triplet(0.2, miner=miners.random_hard),
    Triplet(0.2, miner=miners.distance_weighted),
    Contrastive(miner=miners.hard_negatives),
    Logistic(),
    MultiSimilarity(),
    MultiSimilarity(miner=miners.multi_similarity),
    NTXent(),
    SupCon(),
    Circle(),
]


def name(loss) -> str:
    kept = {k: getattr(v, "__name__", v) for k, v in vars(loss).items() if not k.startswith("_")}
    return type(loss).__name__ + "-" + "-".join(str(v) for k, v in kept.items() if k != "training")


@pytest.mark.parametrize(
    ("loss", "expected"), GOLDEN, ids=lambda x: name(x) if isinstance(x, nn.Module) else ""
)
def test_value_is_the_published_one(loss, expected):
    assert loss(EMBEDDINGS, LABELS).loss.item() == pytest.approx(expected, abs=1e-8)


def test_share_of_active_triplets():
    assert Triplet(0.2)(EMBEDDINGS, LABELS).active.item() == pytest.approx(60 / 216)


def test_triplets_equal_a_naive_loop():
    """Every ordered triplet, written out."""
    rows = EMBEDDINGS / EMBEDDINGS.norm(dim=1, keepdim=True)
    terms = [
        max(0.0, float((rows[a] - rows[p]).norm() - (rows[a] - rows[n]).norm()) + 0.3)
        for a in range(12)
        for p in range(12)
        for n in range(12)
        if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n]
    ]
    found = Triplet(0.3, reduction="mean")(EMBEDDINGS, LABELS).loss.item()
    assert found == pytest.approx(sum(terms) / len(terms), abs=1e-12)
    positive = [t for t in terms if t > 0]
    assert Triplet(0.3)(EMBEDDINGS, LABELS).loss.item() == pytest.approx(
        sum(positive) / len(positive), abs=1e-12
    )


def test_logistic_is_the_cross_entropy_of_its_probability():
    loss = Logistic(scale=3.0, offset=0.8).double()
    rows = EMBEDDINGS / EMBEDDINGS.norm(dim=1, keepdim=True)
    by_kind = {True: [], False: []}
    for i in range(12):
        for j in range(i):
            mated = bool(LABELS[i] == LABELS[j])
            p = 1 / (1 + math.exp(-3.0 * (0.8 - float((rows[i] - rows[j]).norm()))))
            by_kind[mated].append(-math.log(p if mated else 1 - p))
    expected = np.mean(by_kind[True]) / 2 + np.mean(by_kind[False]) / 2
    outcome = loss(EMBEDDINGS, LABELS)
    assert outcome.loss.item() == pytest.approx(expected, abs=1e-7)
    outcome.loss.backward()
    assert loss.log_scale.grad != 0
    assert loss.offset.grad != 0


SMOOTH = [
    *(loss for loss in BATCH_LOSSES if not isinstance(loss, Logistic)),
    head(classes.ArcFace, scale=8.0),
    head(classes.CosFace, scale=8.0),
    head(classes.ArcFace, CENTRES, scale=8.0, centres=3),
]


@pytest.mark.parametrize("loss", [x for x in SMOOTH if not isinstance(x, Circle)], ids=name)
def test_gradient_is_that_of_the_value(loss):
    """Circle is left out: its weights carry no gradient by definition."""

    def value(rows):
        return loss(rows, LABELS, torch.Generator().manual_seed(3)).loss

    torch.autograd.gradcheck(value, EMBEDDINGS.clone().requires_grad_(), atol=1e-6)


def peers():
    """Return (ours, theirs, their miner) for what pytorch-metric-learning has too."""
    pytest.importorskip("pytorch_metric_learning", reason="the oracle is not installed")
    from pytorch_metric_learning import distances, losses, reducers
    from pytorch_metric_learning import miners as mining

    cosine = distances.CosineSimilarity()
    mean = reducers.MeanReducer()
    arc, sub = (
        losses.ArcFaceLoss(4, 6).double(),
        losses.SubCenterArcFaceLoss(num_classes=4, embedding_size=6, sub_centers=3).double(),
    )
    cos = losses.CosFaceLoss(4, 6).double()
    arc.W.data, cos.W.data, sub.W.data = WEIGHTS.clone(), WEIGHTS.clone(), CENTRES.clone()
    angle = math.radians(28.6)
    return [
        (Contrastive(), losses.ContrastiveLoss(), None),
        (Triplet(0.2), losses.TripletMarginLoss(0.2), None),
        (Triplet(0.2, reduction="mean"), losses.TripletMarginLoss(0.2, reducer=mean), None),
        (Triplet(0.2, distance="cosine"), losses.TripletMarginLoss(0.2, distance=cosine), None),
        (Triplet(0.2, swap=True), losses.TripletMarginLoss(0.2, swap=True), None),
        (
            Triplet(0, soft=True, reduction="mean"),
            losses.TripletMarginLoss(0, smooth_loss=True, reducer=mean),
            None,
        ),
        (Triplet(0.2, **HARD), losses.TripletMarginLoss(0.2), mining.BatchHardMiner()),
        (
            Triplet(0.2, miner=miners.semi_hard),
            losses.TripletMarginLoss(0.2),
            mining.TripletMarginMiner(0.2, "semihard"),
        ),
        (MultiSimilarity(), losses.MultiSimilarityLoss(), None),
        (
            MultiSimilarity(miner=miners.multi_similarity),
            losses.MultiSimilarityLoss(),
            mining.MultiSimilarityMiner(0.1),
        ),
        (NTXent(), losses.NTXentLoss(), None),
        (SupCon(), losses.SupConLoss(), None),
        (Circle(), losses.CircleLoss(), None),
        (head(classes.ArcFace, margin=angle), arc, None),
        (head(classes.CosFace), cos, None),
        (head(classes.ArcFace, CENTRES, margin=angle, centres=3), sub, None),
    ]


def test_values_and_gradients_equal_another_implementation():
    torch.manual_seed(0)
    ragged = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 0, 2])
    for ours, theirs, miner in peers():
        for labels in (LABELS, ragged):
            gradients = []
            for loss in (ours, theirs):
                rows = EMBEDDINGS.clone().requires_grad_()
                loss.zero_grad()
                if loss is ours:
                    value = ours(rows, labels).loss
                else:
                    value = theirs(rows, labels, miner(rows, labels) if miner is not None else None)
                value.backward()
                weight = getattr(loss, "weight", getattr(loss, "W", None))
                gradients.append((value.item(), rows.grad, weight.grad if weight is not None else None))
            (a, da, wa), (b, db, wb) = gradients
            assert a == pytest.approx(b, abs=1e-9), name(ours)
            torch.testing.assert_close(da, db, atol=1e-8, rtol=1e-6, msg=name(ours))
            if wa is not None:
                torch.testing.assert_close(wa, wb, atol=1e-8, rtol=1e-6, msg=name(ours))


@pytest.mark.parametrize("loss", BATCH_LOSSES, ids=name)
def test_coinciding_points_give_finite_gradients(loss):
    """The root of a squared distance has an infinite derivative at 0, and 0 times infinity is not a number."""
    rows = torch.ones(8, 4, requires_grad=True)
    outcome = loss(rows, torch.arange(8) // 2, torch.Generator().manual_seed(0))
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("loss", BATCH_LOSSES, ids=name)
def test_zero_embeddings_give_small_gradients(loss):
    rows = torch.zeros(8, 4, requires_grad=True)
    loss(rows, torch.arange(8) // 2, torch.Generator().manual_seed(0)).loss.backward()
    assert rows.grad.abs().max() < 1e3


def test_collapse_gives_the_margin_as_loss_and_no_gradient():
    rows = torch.ones(8, 4, dtype=torch.float64, requires_grad=True)
    outcome = Triplet(0.2)(rows, torch.arange(8) // 2)
    outcome.loss.backward()
    assert outcome.loss.item() == pytest.approx(0.2, abs=1e-12)
    assert outcome.active.item() == 1
    assert rows.grad.abs().max() == 0


@pytest.mark.parametrize("loss", BATCH_LOSSES, ids=name)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0], [0]], ids=["single", "one", "alone"])
def test_batch_with_nothing_to_tell_apart(loss, labels):
    """Only images of their own, one subject alone, one image: a finite loss that back-propagates."""
    torch.manual_seed(1)
    rows = torch.randn(len(labels), 5, requires_grad=True)
    outcome = loss(rows, torch.tensor(labels, dtype=torch.int64), torch.Generator().manual_seed(0))
    if isinstance(loss, Triplet | Circle | NTXent):
        assert outcome.loss.item() == 0
    outcome.loss.backward()
    assert torch.isfinite(rows.grad).all()
    assert torch.isfinite(outcome.active)


def test_classes_of_one_image_serve_as_negatives():
    labels = torch.tensor([0, 0, 1, 2, 3])
    outcome = Triplet(0.5)(EMBEDDINGS[[0, 1, 3, 6, 9]], labels)
    rows = EMBEDDINGS[[0, 1, 3, 6, 9]]
    assert outcome.loss.item() > 0
    assert miners.all_triplets(geometry.distances(geometry.unit(rows)), scene(labels)).keep.sum() == 6


def scene(labels, margin=0.2, dim=6, seed=0):
    return miners.Scene(labels, margin, dim, torch.Generator().manual_seed(seed))


def test_arcface_falls_all_the_way_to_pi():
    """cos(theta + m) rises again past pi - m; the hardened cosine must not."""
    loss = classes.ArcFace(2, 2, margin=0.5)
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    hardened = loss.hardened(theta.cos())
    assert (hardened.diff() < 0).all()
    below = theta <= math.pi - 0.5
    torch.testing.assert_close(hardened[below], (theta + 0.5).cos()[below])
    assert loss.hardened(torch.tensor(math.cos(math.pi - 0.2))).item() == pytest.approx(-1.220, abs=1e-3)


def test_arcface_at_its_own_centre_has_a_finite_gradient():
    """The derivative of arccos is infinite at 1, where training wants every sample to be."""
    loss = head(classes.ArcFace)
    rows = WEIGHTS.T.clone().requires_grad_()
    loss(rows, torch.arange(4)).loss.backward()
    assert torch.isfinite(rows.grad).all()
    assert torch.isfinite(loss.weight.grad).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", BATCH_LOSSES, ids=name)
def test_half_precision_is_widened(loss, half):
    rows = EMBEDDINGS.to(half)
    wide = loss(rows.float(), LABELS, torch.Generator().manual_seed(0)).loss
    narrow = rows.clone().requires_grad_()
    value = loss(narrow, LABELS, torch.Generator().manual_seed(0)).loss
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == wide.item()
    assert torch.isfinite(narrow.grad).all()


def test_classifiers_stay_in_float32():
    loss = classes.ArcFace(6, 4)
    rows = (EMBEDDINGS * 1e4).half().requires_grad_()
    outcome = loss(rows, LABELS)
    outcome.loss.backward()
    assert outcome.loss.dtype == torch.float32
    assert torch.isfinite(outcome.loss)
    assert torch.isfinite(rows.grad).all()
    assert classes.Softmax(6, 4)(rows, LABELS).loss.dtype == torch.float32


def test_imprinted_classes_start_at_their_means():
    means = torch.stack([EMBEDDINGS[3 * c : 3 * c + 3].mean(0) for c in range(4)])
    loss = classes.ArcFace(6, 4, centres=2)
    loss.imprint(means)
    unit = geometry.unit(means).float()
    torch.testing.assert_close((unit @ geometry.unit(loss.weight.T[::2]).T).diagonal(), torch.ones(4))


def remembered(sources=(0, 0, 1, 1)) -> Memory:
    loss = Memory(2.0, 50.0)
    loss.remember(geometry.unit(EMBEDDINGS), LABELS, torch.tensor(sources))
    return loss


def test_memory_equals_a_naive_loop_within_each_source():
    loss = remembered()
    batch = geometry.unit(EMBEDDINGS[::2] + 0.3)
    labels, sources = LABELS[::2].tolist(), [0, 0, 1, 1]
    rows = geometry.unit(EMBEDDINGS)
    total = 0.0
    for row, label in zip(batch, labels, strict=True):
        positive = negative = 1.0
        for other, its in zip(rows, LABELS.tolist(), strict=True):
            s = float(row @ other)
            if its == label:
                positive += math.exp(-2 * (s - loss.threshold))
            elif sources[its] == sources[label]:
                negative += math.exp(50 * (s - loss.threshold))
        total += math.log(positive) / 2 + math.log(negative) / 50
    assert float(loss(batch, LABELS[::2]).loss) == pytest.approx(total / len(batch), abs=1e-12)


def test_memory_trains_for_the_base_threshold_at_its_fmr(monkeypatch):
    """The sixth of the 36 non-mated similarities of either order within the sources at one in six."""
    monkeypatch.setattr("facecli.training.losses.memory.FMR", 1 / 6)
    s = geometry.similarities(geometry.unit(EMBEDDINGS))
    ranked = sorted(
        float(s[i, j]) for i in range(12) for j in range(12) if {i // 3, j // 3} in ({0, 1}, {2, 3})
    )
    assert remembered().threshold == pytest.approx(ranked[-6])


def test_memory_does_not_tell_sources_apart():
    """Moving one source as a whole changes no comparison within it: its people get the same gradient."""
    batch = EMBEDDINGS[:3].clone().requires_grad_()
    gradients = []
    for factor in (1.0, -1.0):
        loss = Memory(2.0, 50.0)
        others = torch.cat([EMBEDDINGS[:6], factor * EMBEDDINGS[6:]])
        loss.remember(geometry.unit(others), LABELS, torch.tensor([0, 0, 1, 1]))
        loss.threshold = 0.5
        gradients.append(torch.autograd.grad(loss(batch, LABELS[:3]).loss, batch)[0])
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0
    with pytest.raises(BadInput, match="no two people"):
        remembered((0, 1, 2, 3))


def test_softmax_uses_the_length_of_the_embedding():
    loss = classes.Softmax(6, 4)
    rows = EMBEDDINGS.float()
    expected = torch.nn.functional.cross_entropy(loss.linear(rows), LABELS)
    torch.testing.assert_close(loss(rows, LABELS).loss, expected)


def test_gram_distances_of_equal_rows_are_clamped():
    torch.manual_seed(0)
    rows = geometry.unit(torch.randn(1, 128)).repeat(64, 1)
    assert (2 - 2 * rows @ rows.T).min() < 0 or geometry.squared_distances(rows).min() == 0
    assert not torch.isnan(geometry.distances(rows)).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Triplet(distance="manhattan"),
        lambda: Triplet(reduction="sum"),
        lambda: Contrastive(reduction="sum"),
        lambda: Triplet(distance="cosine", miner=miners.distance_weighted),
        lambda: classes.ArcFace(4, 2, centres=0),
        lambda: triplet_miner("easy"),
        lambda: pair_miner("semi-hard"),
    ],
)
def test_unknown_choices_are_refused(make):
    with pytest.raises(UsageError):
        make()
