"""Readers' boxes fused, against cases worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.fusion import Drawn, fuse, overlap
from data_recipes.records import Box

A = Drawn((0, 0, 10, 10), "R1")
B = Drawn((2, 0, 12, 10), "R2")  # with A: 80 / 120
FAR = Drawn((50, 50, 60, 60), "R3")


def boxes(found):
    return [cluster.xyxy for cluster in found]


def test_two_readers_who_mean_the_same_give_the_mean_box():
    assert boxes(fuse([A, B, FAR], "wbf", iou=0.5, readers=3)) == [(1, 0, 11, 10), FAR.xyxy]


def test_a_third_box_is_compared_with_the_mean_not_with_its_members():
    # C overlaps A by 60/140 and the mean of A and B by 70/130 = 0.538: above 0.5 only with the mean
    c = Drawn((4, 0, 14, 10), "R3")
    assert overlap(c.xyxy, A.xyxy) == pytest.approx(60 / 140)
    assert boxes(fuse([A, B, c], "wbf", iou=0.5, readers=3)) == [(2, 0, 12, 10)]
    assert len(fuse([A, B, c], "wbf", iou=0.55, readers=3)) == 2


def test_majority_wants_more_than_half_of_the_readers():
    assert boxes(fuse([A, B, FAR], "majority", iou=0.5, readers=3)) == [(1, 0, 11, 10)]
    assert fuse([A, Drawn(B.xyxy, "R1")], "majority", iou=0.5, readers=3) == []  # one reader twice
    assert boxes(fuse([A], "majority", iou=0.5, readers=1)) == [A.xyxy]  # a consensus is one reader
    assert fuse([A, FAR], "majority", iou=0.5, readers=2) == []


def test_any_fuses_nothing():
    assert boxes(fuse([B, A, FAR], "any", iou=0.5, readers=3)) == [A.xyxy, B.xyxy, FAR.xyxy]


SIDE = st.integers(0, 20)
DRAWN = st.builds(
    lambda x, y, w, h, reader: Drawn((x, y, x + w + 1, y + h + 1), f"R{reader}"),
    SIDE, SIDE, SIDE, SIDE, st.integers(1, 3),
)  # fmt: skip


@given(st.lists(DRAWN, max_size=8), st.randoms(use_true_random=False))
def test_every_box_is_in_one_cluster_whose_box_is_their_mean_whatever_the_order(drawn, random):
    clusters = fuse(drawn, "wbf", iou=0.5, readers=3)
    assert sorted(m for c in clusters for m in c.members) == sorted(drawn)
    for cluster in clusters:
        for side in range(4):
            mean = sum(member.xyxy[side] for member in cluster.members) / len(cluster.members)
            assert cluster.xyxy[side] == pytest.approx(mean)
    shuffled = list(drawn)
    random.shuffle(shuffled)
    assert boxes(fuse(shuffled, "wbf", iou=0.5, readers=3)) == boxes(clusters)


@given(DRAWN, DRAWN)
def test_overlap_is_that_of_boxes(one, other):
    a, b = (Box(*(v / 50 for v in box.xyxy)) for box in (one, other))
    assert overlap(one.xyxy, other.xyxy) == pytest.approx(a.iou(b))
