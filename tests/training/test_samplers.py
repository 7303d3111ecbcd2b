"""Samplers: composition of batches, coverage, reproducibility, sharding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecli.errors import BadInput, UsageError
from facecli.training.samplers import PeopleTimesImages, RandomPairs, RandomTriplets, Shuffled, shard

SIZES = st.lists(st.integers(1, 9), min_size=4, max_size=12)


def labels_of(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


@given(SIZES, st.integers(2, 4), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_batches_hold_p_people_with_k_images(sizes, people, images, number):
    labels = labels_of(sizes)
    batches = PeopleTimesImages(labels, people, images, seed=1).epoch(number)
    for batch in batches:
        assert len(batch) == people * images
        groups = labels[batch].reshape(people, images)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0])) == people
        for group in batch.reshape(people, images):
            size = sizes[labels[group[0]]]
            # Images repeat only for people who have fewer than K, and then as evenly as can be.
            counts = np.bincount(group)
            assert counts.max() <= -(-images // size)
            assert len(set(group)) == min(images, size)
    assert set(np.concatenate(batches)) == set(range(len(labels)))


def test_epoch_is_not_much_longer_than_the_data():
    labels = labels_of([10] * 30)
    assert len(PeopleTimesImages(labels, 10, 5, seed=0).epoch(0)) <= 8


def test_uneven_people_do_not_leave_a_tail_of_repeats():
    labels = labels_of([40, 4, 4, 4, 4, 4, 4, 4, 4, 4])
    shown = np.concatenate(PeopleTimesImages(labels, 4, 4, seed=0).epoch(0))
    assert len(shown) <= 4 * len(labels)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: PeopleTimesImages(labels_of([5, 3, 1, 8]), 3, 2, seed=seed),
        lambda seed: Shuffled(17, 5, seed=seed),
        lambda seed: RandomPairs(labels_of([5, 3, 1, 8]), 8, seed=seed),
        lambda seed: RandomTriplets(labels_of([5, 3, 1, 8]), 9, seed=seed),
    ],
)
def test_epochs_depend_on_seed_and_number_alone(make):
    first = make(7)
    first.epoch(0)
    again, other = make(7).epoch(3), make(8).epoch(3)
    assert [b.tolist() for b in first.epoch(3)] == [b.tolist() for b in again]
    assert [b.tolist() for b in again] != [b.tolist() for b in other]
    assert [b.tolist() for b in again] != [b.tolist() for b in first.epoch(4)]


def test_shuffled_shows_every_image_once_before_it_repeats():
    batches = Shuffled(17, 5, seed=0).epoch(2)
    assert [len(b) for b in batches] == [5, 5, 5, 5]
    assert sorted(np.concatenate(batches)[:17]) == list(range(17))


def test_random_pairs_are_half_mated():
    labels = labels_of([5, 3, 1, 8])
    for batch in RandomPairs(labels, 16, seed=0).epoch(0):
        left, right = batch[:8], batch[8:]
        assert (labels[left] == labels[right]).tolist() == [True, False] * 4
        assert (left != right).all()


def test_random_triplets_are_triplets():
    labels = labels_of([5, 3, 1, 8])
    drawn = []
    for batch in RandomTriplets(labels, 15, seed=0).epoch(0):
        anchor, positive, negative = batch.reshape(3, 5)
        assert (labels[anchor] == labels[positive]).all()
        assert (anchor != positive).all()
        assert (labels[anchor] != labels[negative]).all()
        drawn.extend(negative)
    assert set(labels[drawn]) == {0, 1, 2, 3}


def test_shards_make_up_the_batch():
    batch = np.arange(12)
    assert np.concatenate([shard(batch, rank, 3) for rank in range(3)]).tolist() == batch.tolist()
    with pytest.raises(UsageError, match="3 processes"):
        shard(np.arange(10), 0, 3)


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(UsageError, match="of 4"):
        PeopleTimesImages(labels_of([2, 2, 2, 2]), 5, 2)
    with pytest.raises(UsageError):
        PeopleTimesImages([0, 1], 1, 2)
    with pytest.raises(BadInput, match="two images"):
        RandomPairs([0, 1, 2], 4)
    with pytest.raises(BadInput, match="one subject"):
        RandomTriplets([0, 0, 0], 4)
    with pytest.raises(UsageError):
        Shuffled(0, 4)
