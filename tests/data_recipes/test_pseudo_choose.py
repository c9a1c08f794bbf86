"""Which images are annotated and which answers are taken; and that nothing held out is touched."""

from collections import Counter
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.pseudo.choose import choose_entries, choose_images, volumes
from data_recipes.pseudo.leaks import check_entries, check_images
from data_recipes.pseudo.spec import Annotation
from data_recipes.records import Entry, Image, Mixture
from data_recipes.tasks import TASKS
from data_recipes.thumbnails import read_marks


def image(name, split="train", patient=None):
    return Image(name, patient or f"p-{name}", split, "fake", f"images/{name}.png", 20, 20, "PA")


def entry(name, task, number=0):
    return Entry(f"{name}/{task}/{number}", name, task, "?", "no", (), f"fake/{task}/{number}")


def decentralised(per_task=10, matched=None):
    """`per_task` training images of each task, with one or two entries."""
    images, entries = [], []
    for task in TASKS:
        for n in range(per_task):
            images.append(image(f"{task}{n}"))
            entries += [entry(f"{task}{n}", task, k) for k in range(1 + n % 2)]
    images.append(image("held", "test"))
    entries.append(entry("held", "vqa"))
    meta = {"match": {"matched": {"per_task": matched}}} if matched else {}
    return Mixture(tuple(images), tuple(entries), meta)


def annotation(**changes):
    return Annotation(mixture="dmax", **changes)


def test_images_are_as_many_as_hold_the_matched_volume_and_even_over_tasks():
    mixture = decentralised(matched={"vqa": 200, "report": 61})
    assert volumes(mixture) == {"vqa": 200, "report": 61}
    chosen = choose_images(mixture, annotation())
    assert len(chosen) == round(261 / 7.46) == 35
    half = choose_images(mixture, annotation(images=0.5))
    assert len(half) == round(0.5 * 261 / 7.46)
    assert {one.image_id for one in half} <= {one.image_id for one in chosen}
    assert [len(choose_images(mixture, annotation(images=n))) for n in (1, 1.0)] == [1, 1]
    assert Counter(one.image_id.rstrip("0123456789") for one in chosen) == dict.fromkeys(TASKS, 5)
    assert volumes(decentralised()) == dict.fromkeys(TASKS, 15)


def test_more_images_are_the_same_and_others_and_another_seed_chooses_others():
    mixture = decentralised()
    few, many = ({one.image_id for one in choose_images(mixture, annotation(images=n))} for n in (14, 42))
    assert few < many
    assert few != {one.image_id for one in choose_images(mixture, annotation(images=14, seed=1))}
    assert len(choose_images(mixture, annotation(images=1000))) == 70  # all that there are
    assert all(one.split == "train" for one in choose_images(mixture, annotation(images=1000)))


def test_a_mixture_without_training_images_is_refused():
    mixture = decentralised()
    empty = Mixture(mixture.images[-1:], mixture.entries[-1:])
    with pytest.raises(UserError, match="nothing to annotate"):
        choose_images(empty, annotation())


def taken(images, own, answered, asked, weights=None, seed=0, **settings):
    return choose_entries(
        images,
        own,
        answered,
        annotation(**settings),
        weights=weights or dict.fromkeys(TASKS, 1),
        asked=dict.fromkeys(TASKS, asked),
        rng=np.random.default_rng(seed),
    )


@given(st.integers(0, 2**31), st.floats(1.0, 7.0), st.floats(0, 8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_own_entries_stay_and_no_task_gets_more_than_its_share(seed, tasks, more, keep_own):
    rng = np.random.default_rng(seed)
    images = [image(f"i{n}") for n in range(12)]
    own = {one.image_id: [entry(one.image_id, TASKS[n % 7])] for n, one in enumerate(images)}
    answered = {
        one.image_id: [
            entry(one.image_id, task, 10 + k)
            for task in TASKS
            if task != TASKS[n % 7] or not keep_own
            for k in range(int(rng.integers(0, 4)))
        ]
        for n, one in enumerate(images)
    }
    weights = {task: int(rng.integers(1, 5)) for task in TASKS}
    density = {"tasks_per_image": tasks, "entries_per_image": tasks + more}
    chosen = taken(images, own, answered, 12, weights, seed, density=density, keep_own=keep_own)
    assert chosen.own == ([e for found in own.values() for e in found] if keep_own else [])
    offered = {e.entry_id for found in answered.values() for e in found}
    ids = [e.entry_id for e in chosen.answered]
    assert set(ids) <= offered
    assert len(set(ids)) == len(ids)
    assert sum(share.entries for share in chosen.wanted.values()) == round((tasks + more) * 12)
    assert sum(share.pairs for share in chosen.wanted.values()) <= round(tasks * 12)
    for task, got in chosen.got.items():
        here = [e for e in (*chosen.own, *chosen.answered) if e.task == task]
        assert got == (len({e.image_id for e in here}), len(here))
        mine = [e for e in chosen.own if e.task == task]
        wanted = chosen.wanted[task]
        assert got.entries <= max(wanted.entries, len(mine))
        assert got.pairs <= max(wanted.pairs, len(mine))
        # Short only where nothing more is offered on as many images as the task may have.
        sizes = sorted((sum(e.task == task for e in found) for found in answered.values()), reverse=True)
        lacks = max(0, wanted.pairs - len(mine))
        assert got.entries == len(mine) + min(max(0, wanted.entries - len(mine)), sum(sizes[:lacks]))


def test_the_tasks_of_a_pseudo_mixture_are_mixed_as_in_the_matched_one():
    images = [image(f"i{n}") for n in range(100)]
    answered = {one.image_id: [entry(one.image_id, t, k) for t in TASKS for k in range(8)] for one in images}
    weights = {task: 100 * (place + 1) for place, task in enumerate(TASKS)}
    chosen = taken(images, {}, answered, 100, weights)
    total = round(7.46 * 100)
    assert sum(got.entries for got in chosen.got.values()) == total
    assert sum(got.pairs for got in chosen.got.values()) == round(4.10 * 100)
    for task, got in chosen.got.items():
        assert got.entries == pytest.approx(total * weights[task] / sum(weights.values()), abs=1)


def test_what_a_filter_took_from_one_task_is_not_made_up_by_another():
    images = [image(f"i{n}") for n in range(100)]
    answered = {one.image_id: [entry(one.image_id, t, k) for t in TASKS for k in range(8)] for one in images}
    whole = taken(images, {}, answered, 100)
    few = {name: [e for e in found if e.task != "report"] for name, found in answered.items()}
    short = taken(images, {}, few, 100)
    assert short.got["report"] == (0, 0)
    assert short.wanted == whole.wanted
    assert {t: got for t, got in short.got.items() if t != "report"} == {
        t: got for t, got in whole.got.items() if t != "report"
    }


def test_where_answers_do_not_reach_all_are_taken():
    images = [image("a"), image("b")]
    answered = {"a": [entry("a", "vqa", 1), entry("a", "reg", 1)], "b": []}
    chosen = taken(images, {}, answered, 2)
    assert len(chosen.answered) == 2
    assert sum(share.entries for share in chosen.wanted.values()) == 15


@pytest.fixture
def on_disk(tmp_path):
    """A mixture of four training images and one for testing, each of its own pixels."""
    images = [image(f"i{n}") for n in range(4)] + [image("held", "test")]
    (tmp_path / "images").mkdir()
    for n, one in enumerate(images):
        pixels = np.random.default_rng(n).integers(0, 255, (20, 20), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / one.path)
    return Mixture(tuple(images), ()), tmp_path


def check(chosen, mixture, folder, where=None):
    marks = read_marks(where or folder, chosen)
    check_images(chosen, marks, mixture, folder, "mixture dmax")


def test_a_sound_choice_passes(on_disk):
    mixture, folder = on_disk
    check(mixture.images[:4], mixture, folder)


@pytest.mark.parametrize("by", ["patient", "id", "pixels"])
def test_a_planted_image_that_is_held_out_is_caught(on_disk, by):
    mixture, folder = on_disk
    held = mixture.images[-1]
    planted = {
        "patient": replace(mixture.images[0], patient_id=held.patient_id),
        "id": replace(mixture.images[0], image_id="held"),
        "pixels": mixture.images[0],
    }[by]
    if by == "pixels":  # the same picture, encoded anew under another name
        PIL.Image.open(folder / held.path).save(folder / planted.path, compress_level=1)
    with pytest.raises(UserError) as caught:
        check([*mixture.images[1:4], planted], mixture, folder)
    words = {"patient": "patient p-held", "id": "image held is", "pixels": "pixel by pixel"}
    assert words[by] in str(caught.value)
    assert "test split of mixture dmax" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_about_another_image_is_caught(on_disk):
    mixture, _ = on_disk
    chosen = {one.image_id: one for one in mixture.images[:4]}
    check_entries([entry("i0", "vqa")], chosen)
    for name, annotated in (("held", chosen), ("held", {"held": mixture.images[-1]})):
        with pytest.raises(UserError, match="leakage: pseudo-entry held/vqa/0"):
            check_entries([entry(name, "vqa")], annotated)
