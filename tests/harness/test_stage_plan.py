"""What stages will be, before the first begins: lengths, learning rates, starts, what flags mean for them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.staged import load_staged
from data_recipes.store import read_mixture
from harness.config import parse
from harness.lengths import steps_of_epoch
from harness.stage_plan import _Length, _steps, plan
from tests.harness.staged import make_two, write_recipe

# `first` has 8 training images with 7 entries each, `second` 6 with 3; steps are of 2 samples.
STAGES = [
    {"name": "a", "mixture": "first", "epochs": 1, "batching": "entry"},
    {"name": "b", "annotate": {"mixture": "first", "images": 6}, "epochs": 2, "learning_rate_times": 0.5},
    {"name": "c", "mixture": "second", "steps": 10, "start": "base", "learning_rate": 1.0e-3},
    {"name": "d", "mixture": "first", "mix": ["second"], "start": "b", "batching": "image", "epochs": 1},
]
STEPS = [8 * 7 // 2, 2 * 6 // 2, 10, (8 + 6) // 2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    make_two(folder)
    return folder


@pytest.fixture
def planned(place, tmp_path):
    def of(*flags: str, stages=STAGES, **keys):
        recipe = write_recipe(place, stages, **keys)
        given = ["--recipe", str(recipe), "--per_device_train_batch_size", "2"]
        given += ["--gradient_accumulation_steps", "1", *flags]
        staged = load_staged(str(recipe))
        mixtures = {name: (place / name, read_mixture(place / name)) for name in ("first", "second")}
        mixtures = {name: mixtures[name.rsplit("/", 1)[-1]] for name in staged.mixtures}
        return plan(staged, parse(given), tmp_path, mixtures)

    return of


def test_steps_are_known_ahead_also_where_the_mixture_is_yet_to_be_made(planned):
    found = planned()
    assert [one.steps for one in found] == STEPS
    assert [one.before for one in found] == [0, 28, 34, 44]


def test_a_stage_starts_from_the_one_before_the_base_or_one_that_is_named(planned, tmp_path):
    starts = [one.start for one in planned()]
    assert starts == [None, str(tmp_path / "stages/1-a"), None, str(tmp_path / "stages/2-b")]
    assert [one.start for one in planned("--start", "x")][::2] == ["x", "x"]


def test_flags_for_length_and_rate_are_the_first_stages_and_the_others_keep_their_proportion(planned):
    preset = parse([]).training.learning_rate
    assert [one.learning_rate for one in planned()] == pytest.approx([preset, preset / 2, 1e-3, preset])
    faster = [one.learning_rate for one in planned("--learning_rate", str(preset * 2))]
    assert faster == pytest.approx([preset * 2, preset, 2e-3, preset * 2])
    assert [one.steps for one in planned("--num_train_epochs", "0.5")] == [14, 6 // 2, 5, math.ceil(7 / 2)]


SHARED = [
    {"name": "a", "mixture": "first", "share": 0.5, "batching": "entry"},
    {"name": "b", "annotate": {"mixture": "first", "images": 6}, "share": 0.25},
    {"name": "c", "mixture": "second", "share": 0.25, "learning_rate_times": 0.5},
]


def test_stages_with_shares_are_together_as_long_as_a_plain_run_on_the_first_mixture(planned):
    plain = math.ceil(parse([]).training.num_train_epochs * 8 * 7 / 2)
    for flags, total in (((), plain), (("--num_train_epochs", "3"), 3 * 28), (("--max_steps", "40"), 40)):
        found = [one.steps for one in planned(*flags, stages=SHARED)]
        assert sum(found) == total
        assert found == pytest.approx([0.5 * total, 0.25 * total, 0.25 * total], abs=1)
    assert [one.steps for one in planned("--num_train_epochs", "0.01", stages=SHARED)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.5}, "the shares of the stages sum to 1.25: make it 1"),
        ({"share": None}, "stage c has no share and others have"),
        ({"epochs": 1}, "give it either epochs or share, not both"),
        ({"share": 1.5}, "share is 1.5"),
    ],
)
def test_mistakes_in_shares_are_told(planned, changes, message):
    with pytest.raises(UserError, match=message):
        planned(stages=[*SHARED[:2], SHARED[2] | changes])


def test_one_schedule_may_go_through_all_stages(planned):
    assert [one.schedule for one in planned(stages=SHARED)] == [0, 0, 0]
    found = planned("--max_steps", "40", stages=SHARED, schedule="whole")
    assert [one.schedule for one in found] == [40, 40, 40]
    whole = parse(["--max_steps", "40", "--data_seed", "1"])
    made = [one.settings(whole, 40, "first") for one in found]
    assert [one.data.schedule_before or 0 for one in made] == [one.before for one in found]
    assert [one.data.schedule_steps for one in made] == [40, 40, 40]
    assert [one.training.max_steps for one in made] == [one.steps for one in found]


def test_the_users_batching_wins(planned):
    assert [one.steps for one in planned("--batching", "image")] == [8 // 2, 6, 10, 7]
    # Of the annotated mixture nobody knows yet how many entries it will have: as many as its density says.
    by_entry = [one.steps for one in planned("--batching", "entry")]
    assert by_entry == [28, 2 * math.ceil(round(6 * 7.46) / 2), 10, (8 * 7 + 6 * 3) // 2]


def test_max_steps_is_the_whole_run(planned):
    found = [one.steps for one in planned("--max_steps", "102")]
    assert sum(found) == 102
    assert found == pytest.approx([2 * steps for steps in STEPS], abs=2)
    with pytest.raises(UserError, match="--max_steps 3 is for the whole run, and it has 4 stages"):
        planned("--max_steps", "3")


def test_measured_steps_are_shares_of_the_whole_run(planned):
    found = planned()
    total = sum(STEPS)
    assert [one.watched("0,50%,34,35,end", total) for one in found] == [[0, 26], [6], [1], [7]]


def test_an_entry_of_an_annotated_image_that_is_mixed_in_too_counts_once(planned):
    both = [STAGES[0], {**STAGES[1], "mix": ["first"], "batching": "entry", "epochs": 1}]
    # Six images at a density of 7.46, and the seven entries of each of the two images that were not chosen.
    assert planned(stages=both)[1].steps == math.ceil((round(6 * 7.46) + 2 * 7) / 2)


@given(st.integers(1, 500), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_an_epoch_has_the_steps_of_batches_dealt_out_to_processes(samples, batch, parts, processes):
    """The oracle deals batches round, the last ones filled up, and cuts each process's into steps."""
    training = type("Training", (), {
        "train_batch_size": batch, "gradient_accumulation_steps": parts, "world_size": processes
    })()  # fmt: skip
    batches = len(range(0, samples, batch))
    dealt = [len(range(rank, batches, processes)) for rank in range(processes)]
    steps = len(range(0, max(dealt), parts))
    assert steps_of_epoch(samples, training) == steps


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(0, 5000))
def test_shared_out_steps_add_up_and_leave_no_stage_without(weights, spare):
    lengths = [_Length(1, 1.0, weight) for weight in weights]
    total = len(weights) + spare
    found = _steps(lengths, {"max_steps": total}, ())
    assert sum(found) == total
    assert min(found) >= 1
    ideal = [1 + spare * weight / sum(weights) for weight in weights]
    assert all(abs(one - other) <= 1 for one, other in zip(found, ideal, strict=True))
