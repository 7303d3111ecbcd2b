"""Miners against written-out definitions and published counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facecli.training.losses import geometry, miners
from facecli.training.losses.miners import Scene
from facecli.training.losses.table import TRIPLET_MINERS, triplet_miner

torch.set_num_threads(1)

ROW, COLUMN = np.arange(12)[:, None], np.arange(6)[None]
EMBEDDINGS = torch.tensor(
    np.sin(1.7 * (ROW // 3) * (COLUMN + 1)) + 0.55 * np.cos(2.3 * ROW + 0.9 * COLUMN * COLUMN)
)
LABELS = torch.arange(12) // 3
ROWS = geometry.unit(EMBEDDINGS)
D = geometry.distances(ROWS)
S = geometry.similarities(ROWS)


def scene(labels=LABELS, margin=0.2, seed=0):
    return Scene(labels, margin, 6, torch.Generator().manual_seed(seed))


def chosen(triplets) -> set[tuple[int, int, int]]:
    row, negative = triplets.keep.nonzero(as_tuple=True)
    return set(
        zip(triplets.anchor[row].tolist(), triplets.positive[row].tolist(), negative.tolist(), strict=True)
    )


def every(labels=LABELS):
    n = len(labels)
    return {
        (a, p, q)
        for a in range(n)
        for p in range(n)
        for q in range(n)
        if a != p and labels[a] == labels[p] and labels[a] != labels[q]
    }


def gap(t):
    return float(D[t[0], t[2]] - D[t[0], t[1]])


def test_all_triplets_are_ordered():
    found = miners.all_triplets(D, scene())
    assert chosen(found) == every()
    assert found.candidates == 216
    assert len(chosen(miners.all_triplets(torch.rand(8, 8), scene(torch.arange(8) // 2)))) == 48


def test_counts_by_hardness():
    gaps = [gap(t) for t in every()]
    assert (
        sum(g < 0.2 for g in gaps),
        sum(g <= 0 for g in gaps),
        sum(0 < g <= 0.2 for g in gaps),
        sum(g > 0.2 for g in gaps),
    ) == (60, 44, 16, 156)
    assert len(chosen(miners.semi_hard(D, scene()))) == 16


def test_batch_hard():
    found = miners.batch_hard(D, scene())
    assert found.anchor.tolist() == list(range(12))
    assert found.positive.tolist() == [1, 0, 1, 4, 3, 4, 8, 8, 7, 11, 9, 9]
    assert found.keep.nonzero()[:, 1].tolist() == [3, 9, 5, 0, 2, 2, 1, 1, 0, 1, 2, 2]


def test_batch_hard_leaves_out_anchors_without_a_mate():
    found = miners.batch_hard(D[:5, :5], scene(torch.tensor([0, 0, 1, 2, 2])))
    assert found.anchor.tolist() == [0, 1, 3, 4]


def test_semi_hard_is_closed_at_the_margin():
    d = torch.tensor([[0, 1, 1.0, 1.5], [1, 0, 3, 3], [1, 3, 0, 3], [1.5, 3, 3, 0]])
    labels = torch.tensor([0, 0, 1, 2])
    found = chosen(miners.semi_hard(d, scene(labels, margin=0.5)))
    # The gap 0 is not semi-hard, the gap 0.5 is.
    assert (0, 1, 3) in found
    assert (0, 1, 2) not in found


def test_hardest_negative_is_the_nearest_that_violates_the_margin():
    expected = set()
    for a, p in {(t[0], t[1]) for t in every()}:
        worst = min((t for t in every() if t[:2] == (a, p)), key=gap)
        if gap(worst) < 0.2:
            expected.add(worst)
    assert chosen(miners.hardest_negative(D, scene())) == expected


def test_random_hard_draws_evenly_among_the_violations():
    hard = {t for t in every() if gap(t) < 0.2}
    counts: dict[tuple[int, int, int], int] = dict.fromkeys(hard, 0)
    for seed in range(400):
        found = chosen(miners.random_hard(D, scene(seed=seed)))
        assert len({t[:2] for t in found}) == len(found) == len({t[:2] for t in hard})
        for t in found:
            counts[t] += 1
    for pair in {t[:2] for t in hard}:
        shares = [counts[t] / 400 for t in hard if t[:2] == pair]
        assert max(abs(s - 1 / len(shares)) for s in shares) < 0.13


def test_distance_weighted_follows_the_inverse_density():
    """Anchor 0 with positive 1 and three negatives at known distances on a sphere in 5 dimensions."""
    at = torch.tensor([0.3, 0.8, 1.2, 1.45])
    d = torch.full((6, 6), 1.0)
    d[0, 2:] = at
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    clipped = np.array([0.5, 0.8, 1.2])
    weight = 1 / (clipped**3 * (1 - clipped**2 / 4))
    expected = weight / weight.sum()
    drawn = np.zeros(6)
    for seed in range(3000):
        found = miners.distance_weighted(d, Scene(labels, 0.2, 5, torch.Generator().manual_seed(seed)))
        drawn += found.keep[(found.anchor == 0).nonzero()[0, 0]].numpy()
    assert drawn[5] == 0
    np.testing.assert_allclose(drawn[2:5] / 3000, expected, atol=0.03)


def test_distance_weighted_passes_over_anchors_whose_negatives_are_all_far():
    d = torch.full((4, 4), 1.41)
    found = miners.distance_weighted(d, scene(torch.tensor([0, 0, 1, 2])))
    assert found.keep.sum() == 0


def test_multi_similarity_counts():
    found = miners.multi_similarity(S, scene())
    assert (int(found.positive.sum()), int(found.negative.sum())) == (10, 30)


def test_hard_negatives_are_as_many_as_positives_and_the_most_similar():
    found = miners.hard_negatives(S, scene())
    assert found.positive.sum() == found.negative.sum() == 24
    assert torch.equal(found.negative, found.negative.T)
    different = LABELS[:, None] != LABELS[None]
    assert S[found.negative].min() >= S[different & ~found.negative].max()


def test_hard_negatives_when_there_are_fewer_than_positives():
    found = miners.hard_negatives(S[:4, :4], scene(torch.tensor([0, 0, 0, 1])))
    assert (int(found.positive.sum()), int(found.negative.sum())) == (6, 6)


def test_listed_batches_are_taken_as_they_are():
    labels = torch.tensor([0, 1, 2, 0, 1, 3])
    pairs = miners.listed_pairs(S[:6, :6], scene(labels))
    assert pairs.positive.nonzero().tolist() == [[0, 3], [1, 4], [3, 0], [4, 1]]
    assert pairs.negative.nonzero().tolist() == [[2, 5], [5, 2]]
    triplets = miners.listed_triplets(D[:6, :6], scene(torch.tensor([0, 1, 0, 1, 2, 0])))
    assert chosen(triplets) == {(0, 2, 4), (1, 3, 5)}


@pytest.mark.parametrize("name", sorted(TRIPLET_MINERS))
def test_same_seed_same_triplets_and_nothing_invalid(name):
    miner = triplet_miner(name)
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3])
    first, second = (chosen(miner(D, scene(labels, seed=4))) for _ in range(2))
    assert first == second
    assert first <= every(labels)


@pytest.mark.parametrize("name", sorted(TRIPLET_MINERS))
def test_memory_stays_below_the_cube(name):
    """256 rows of 64 subjects: 64 MiB would be the cube of booleans; the mask has 768 x 256."""
    torch.manual_seed(0)
    rows = geometry.unit(torch.randn(256, 8))
    found = triplet_miner(name)(geometry.distances(rows), scene(torch.arange(256) // 4))
    assert found.keep.numel() <= 768 * 256
