"""Several mixtures in one training: whose entries, whose files, and no patient on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.joining import join, refuse_leaks
from data_recipes.records import Entry, Image, Mixture


def image(number: int, split: str = "train", prefix: str = "") -> Image:
    return Image(f"{prefix}i{number}", f"{prefix}p{number}", split, "s", f"images/{number}.png", 8, 8, "PA")


def entry(of: Image, name: str = "e", target: str = "yes", origin: str = "true") -> Entry:
    return Entry(
        f"{of.image_id}/{name}", of.image_id, "vqa", "?", target, provenance=f"{origin}/vqa/presence"
    )


def mixture(name: str, images: list[Image], entries: list[Entry]) -> Mixture:
    return Mixture(tuple(images), tuple(entries), {"name": name, "mixture_hash": f"hash of {name}"})


def test_training_entries_are_added_with_their_provenance_and_files_stay_where_they_are():
    mine, theirs, held = image(1), image(2, prefix="b"), image(3, "test", prefix="b")
    first = mixture("a", [mine, image(9, "test")], [entry(mine), entry(image(9))])
    other = mixture("b", [theirs, held], [entry(theirs, origin="pseudo"), entry(held)])
    joined = join(first, [(Path("there"), other)])
    assert joined.mixture.entries == (*first.entries, entry(theirs, origin="pseudo"))
    assert joined.elsewhere == {theirs.image_id: Path("there")}
    assert held not in joined.mixture.images
    assert joined.mixture.meta is first.meta
    assert joined.added == [
        {"name": "b", "mixture_hash": "hash of b", "images": 1, "entries": 1, "known_entries": 0}
    ]


def test_an_image_of_both_is_one_and_an_equal_entry_counts_once():
    shared = image(1)
    own, pseudo, other = entry(shared), entry(shared, "new"), entry(shared, "new", "no")
    first = mixture("a", [shared], [own, pseudo])
    second = mixture("b", [shared], [own, other])
    joined = join(first, [(Path("there"), second), (Path("there"), second)])
    assert joined.mixture.images == (shared,)
    assert not joined.elsewhere
    assert joined.mixture.entries == (own, pseudo, replace(other, entry_id=f"{other.entry_id}@b"))
    assert [added["known_entries"] for added in joined.added] == [1, 2]


def test_images_of_one_id_that_differ_are_refused():
    one = image(1)
    first = mixture("a", [one], [entry(one)])
    for wrong in (replace(one, width=9), replace(one, patient_id="x")):
        with pytest.raises(UserError, match="image i1 is another image"):
            join(first, [(Path("x"), mixture("b", [wrong], [entry(wrong)]))])


@given(
    st.lists(st.sampled_from(["", "train", "validation", "test"]), min_size=1, max_size=8),
    st.lists(st.sampled_from(["", "train", "validation", "test"]), min_size=1, max_size=8),
)
def test_a_patient_held_out_by_one_and_trained_on_by_another_is_always_found(left, right):
    """The oracle looks at each patient's pair of splits."""
    sides = [[image(n, split) for n, split in enumerate(side) if split] for side in (left, right)]
    first, second = (mixture(name, images, []) for name, images in zip("ab", sides, strict=True))
    pairs = [{one, other} for one, other in zip(left, right, strict=False) if one and other]
    leaks = [pair for pair in pairs if "train" in pair and len(pair) > 1]
    if not leaks:
        refuse_leaks([("a", first), ("b", second)])
        return
    with pytest.raises(UserError, match=r"leakage: \d+ patients of the validation or test split of [ab]"):
        refuse_leaks([("a", first), ("b", second)])


def test_the_number_of_leaking_patients_and_both_mixtures_are_named():
    first = mixture("a", [image(n, "test") for n in range(5)], [])
    second = mixture("b", [image(n) for n in range(3, 9)], [])
    with pytest.raises(UserError, match=r"2 patients .* split of a are in the training split of b"):
        join(second, [(Path("x"), first)])
