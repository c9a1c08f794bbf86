"""Samples, batches and their order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from harness.dataset import Collator, Images, Samples, UpdateSampler, training_split
from model_adapters.registry import load_adapter


@pytest.fixture(scope="module")
def adapter():
    return load_adapter("tiny")


def load(folder, adapter, megabytes=64, **options):
    mixture = read_mixture(folder)
    return Samples(mixture, "train", Images(folder, adapter, megabytes=megabytes), adapter, **options)


def test_a_split_and_its_tasks(mixture_folder, adapter):
    everything, some = load(mixture_folder, adapter), load(mixture_folder, adapter, tasks=["vqa", "rec"])
    assert len(everything) == 40  # 10 training images of 12, 4 entries each
    assert some.tasks() == ["rec", "vqa"]
    (sample,) = some[0]
    assert TASKS[int(sample["task_id"])] in ("rec", "vqa")
    assert sample["input_ids"].shape == sample["labels"].shape
    images = Images(mixture_folder, adapter, megabytes=1)
    with pytest.raises(UserError, match="longer than 3 tokens"):
        training_split(read_mixture(mixture_folder), images, adapter, tasks=None, max_length=3)


def test_too_long_is_dropped_and_counted_never_cut(mixture_folder, adapter):
    whole = load(mixture_folder, adapter)
    lengths = [len(whole[i][0]["input_ids"]) for i in range(len(whole))]
    limit = sorted(lengths)[len(lengths) // 2]
    short = load(mixture_folder, adapter, max_length=limit)
    assert [len(short[i][0]["input_ids"]) for i in range(len(short))] == [n for n in lengths if n <= limit]
    assert short.dropped == len(lengths) - len(short) > 0


def test_images_are_kept_within_bounds_and_come_out_the_same(mixture_folder, adapter):
    mixture = read_mixture(mixture_folder)
    ample, none = (Images(mixture_folder, adapter, megabytes=m) for m in (64, 0))
    for image in [*mixture.images, *mixture.images]:
        (_, kept), (_, anew) = ample.get(image), none.get(image)
        assert torch.equal(kept["pixel_values"], anew["pixel_values"])
    assert len(ample._kept) == len(mixture.images)
    assert len(none._kept) == 1
    assert ample.get(mixture.images[0])[1] is ample.get(mixture.images[0])[1]


def test_a_missing_image_is_named(tmp_path, mixture_folder, adapter):
    mixture = read_mixture(mixture_folder)
    with pytest.raises(UserError, match=r"image-000\.png"):
        Images(tmp_path, adapter, megabytes=1).get(mixture.images[0])


def test_a_batch_carries_its_tasks(mixture_folder, adapter):
    dataset = load(mixture_folder, adapter)
    samples = [dataset[i] for i in range(5)]
    batch = Collator(adapter)(samples)
    assert batch["task_id"].tolist() == [int(s["task_id"]) for (s,) in samples]
    assert len(batch["input_ids"]) == len(batch["pixel_values"]) == 5


def test_an_image_with_all_its_entries_is_a_sample(uneven_folder, adapter):
    entries = load(uneven_folder, adapter)
    by_image = load(uneven_folder, adapter, batching="image")
    assert len(entries) == entries.entries == by_image.entries == 36
    assert [len(by_image[i]) for i in range(len(by_image))] == [1, 6, 3, 8, 5, 2, 7, 4]
    flat = [entry for i in range(len(by_image)) for entry in by_image[i]]
    assert all(
        torch.equal(one["input_ids"], entries[i][0]["input_ids"]) for i, one in enumerate(flat)
    )  # the mixture's own order
    for i in range(len(by_image)):
        assert {int(entry["siblings"]) for entry in by_image[i]} == {len(by_image[i])}
        assert len({int(entry["image_number"]) for entry in by_image[i]}) == 1


def test_an_image_with_too_many_tokens_is_several_samples(uneven_folder, adapter):
    whole = load(uneven_folder, adapter, batching="image")
    parts = load(uneven_folder, adapter, batching="image", max_shared_length=120)
    assert len(parts) > len(whole)
    assert parts.entries == whole.entries == sum(len(parts[i]) for i in range(len(parts)))
    collator = Collator(adapter, sharing="image")
    assert max(collator([parts[i]])["input_ids"].shape[1] for i in range(len(parts))) <= 120
    # drawn together by chance, parts of one image stay apart where a sequence would be too long
    every = [parts[i] for i in range(len(parts))]
    together = Collator(adapter, sharing="image", max_shared_length=120)(every)
    assert together["input_ids"].shape[1] <= 120
    assert len(together["task_id"]) == parts.entries


def test_a_batch_is_the_same_entries_shared_or_not(uneven_folder, adapter):
    samples = load(uneven_folder, adapter, batching="image")
    chosen = [samples[3], samples[1], samples[0]]
    apart, shared = (Collator(adapter, sharing=sharing)(chosen) for sharing in ("none", "image"))
    packed = Collator(adapter, sharing="image", row_tokens=600)(chosen)
    assert len(apart["input_ids"]) == 15
    assert len(shared["input_ids"]) == 3
    assert len(packed["input_ids"]) < 3
    for batch in (shared, packed):
        for key in ("task_id", "siblings"):
            assert torch.equal(batch[key], apart[key])
        assert batch["tokens"][1] == apart["tokens"][0] == apart["tokens"][1] > batch["tokens"][0]
        for entry in range(15):
            answers = [
                one["labels"][(one["entry"] == entry) & (one["labels"] != -100)] for one in (apart, batch)
            ]
            assert torch.equal(*answers)


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
    st.integers(1, 16),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_each_update_holds_the_samples_a_plain_shuffle_would_give_it(weights, per_update, seed, epoch):
    sampler = UpdateSampler(weights, per_update, seed=seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(weights)))
    shuffled = UpdateSampler([0] * len(weights), per_update, seed=seed)
    shuffled.set_epoch(epoch)
    plain = list(shuffled)
    for first in range(0, len(order), per_update):
        update = order[first : first + per_update]
        assert set(update) == set(plain[first : first + per_update])
        assert [weights[i] for i in update] == sorted(weights[i] for i in update)


def test_epochs_differ_and_repeat():
    sampler = UpdateSampler([1] * 50, 5, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert first != second
    assert first == list(sampler)
