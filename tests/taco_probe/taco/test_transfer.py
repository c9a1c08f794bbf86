"""The transfer study on made pools: what is chosen, what is measured, what is kept, what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from data_recipes.errors import UserError
from taco_probe.taco.pool import Pool
from taco_probe.taco.transfer import Budget, fisher, grid, study
from taco_probe.taco.transfer.distances import embedded, same_category, target_pixels
from taco_probe.taco.transfer.fisher import diagonal, distance
from taco_probe.taco.transfer.grid import Grid, run
from taco_probe.taco.transfer.material import choose
from taco_probe.taco.transfer.measure import cell, drawn, error, new, stream
from taco_probe.taco.transfer.results import results, sentences
from tests.taco_probe.taco import planted

FOUR = ("foreground_mask", "boundary", "deblur", "inversion")
TINY = Budget(pretrain_steps=2, pretrain_batch=2, fine_tune_steps=1, fine_tune_batch=2, examples=4)


@pytest.fixture(autouse=True)
def _a_quick_baseline(monkeypatch):
    monkeypatch.setattr(fisher, "INSTANCES", 4)
    monkeypatch.setattr(fisher, "DRAWS", 2)


@pytest.fixture(scope="module")
def pools():
    """Two datasets to train on, one held out; a third, held out too, lacks a task."""
    train = planted.pool(planted.rows(FOUR, ("a", "b"), 4))
    test = planted.pool(
        pl.concat([planted.rows(FOUR, ("a", "b", "c"), 12), planted.rows(FOUR[1:], ("d",), 12)])
    )
    return train, test


@pytest.fixture(scope="module")
def material(pools):
    return choose(*pools, FOUR)


def test_sources_share_their_datasets_and_targets_are_on_a_held_out_one_that_has_all_tasks(material):
    assert material.pretrain == ("a", "b")
    assert material.fine_tune == ("c",)
    assert material.held_out


def test_no_image_gives_examples_and_is_measured_on(pools, material):
    few, measured = material.few["deblur"], material.measured["deblur"]
    assert len(few) == len(measured) == 6
    seen = {image.numpy().tobytes() for image in few.inputs}
    assert not seen & {image.numpy().tobytes() for image in measured.inputs}


def test_neighbouring_slices_stay_in_one_half_though_ten_sorts_before_two(pools, material):
    _, test = pools
    rows = test.rows.with_row_index("row").filter((pl.col("task") == "deblur") & (pl.col("dataset") == "c"))
    numbers = [int(image[2:-1]) for image in rows["image"]]
    by_pixels = {test.inputs[row].tobytes(): number for row, number in zip(rows["row"], numbers, strict=True)}
    few = {by_pixels[image.permute(1, 2, 0).numpy().tobytes()] for image in material.few["deblur"].inputs}
    assert few == set(range(6))


def test_failed_and_altered_instances_are_left_out(pools):
    train, test = pools
    about = planted.rows(FOUR, ("a", "b"), 4, failure="blank")
    both = planted.pool(pl.concat([train.rows, about, planted.rows(FOUR, ("a",), 4, alteration="noise")]))
    assert choose(both, test, FOUR).identity == choose(train, test, FOUR).identity


def test_without_a_held_out_dataset_that_is_whole_the_known_ones_are_used_and_it_is_said(pools):
    train, test = pools
    known = np.flatnonzero((test.rows["dataset"] != "c").to_numpy())
    kept = Pool(test.inputs[known], test.targets[known], test.rows[known])
    found = choose(train, kept, FOUR)
    assert found.fine_tune == ("a", "b")
    assert not found.held_out


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((*FOUR, "colorization"), "no dataset of the training pool has instances of all"),
        (("deblr",), "unknown task 'deblr': did you mean 'deblur'"),
        ((*FOUR, "deblur"), "named twice"),
        (FOUR[:3], "3 tasks are too few"),
    ],
)
def test_tasks_that_the_pools_cannot_give_are_refused(pools, tasks, message):
    with pytest.raises(UserError, match=message):
        choose(*pools, tasks)


def test_larger_instances_are_shrunk_to_the_side_of_the_network(pools):
    train, test = (planted.pool(one.rows, size=128) for one in pools)
    small, large = choose(*pools, FOUR), choose(train, test, FOUR)
    assert torch.equal(small.source["deblur"].inputs, large.source["deblur"].inputs)  # blobs of 16 pixels


def test_few_examples_are_drawn_evenly_over_datasets(material):
    found = drawn(material.source["deblur"], 4, stream(0, "any"))
    assert sorted(found.dataset.tolist()) == [0, 0, 1, 1]
    assert len(drawn(material.source["deblur"], 100, stream(0, "any"))) == len(material.source["deblur"])


def test_the_error_is_the_mean_squared_difference_of_each_dataset(material):
    net, examples = new(0), material.source["inversion"]
    with torch.no_grad():
        made = net(examples.inputs.float() / 255).clamp(0, 1)
    squared = ((made - examples.targets.float() / 255) ** 2).numpy()
    expected = [squared[examples.dataset.numpy() == number].mean() for number in (0, 1)]
    assert error(net, examples, batch=3) == pytest.approx(expected, rel=1e-4)


def test_a_cell_is_the_same_again_and_differs_by_seed_and_source(material):
    first = cell(material, "deblur", 1, TINY)
    assert first == cell(material, "deblur", 1, TINY)
    assert first != cell(material, "deblur", 2, TINY)
    assert first != cell(material, "inversion", 1, TINY)
    assert first != cell(material, "", 1, TINY)


def test_training_learns_and_pretraining_on_the_target_itself_helps(material):
    budget = Budget(pretrain_steps=60, pretrain_batch=4, fine_tune_steps=10, fine_tune_batch=4, examples=6)
    one = replace(material, tasks=("inversion",))
    scratch, pretrained = cell(one, "", 0, budget), cell(one, "inversion", 0, budget)
    untrained = error(new(0), one.measured["inversion"])
    assert scratch[0][0] < untrained[0]
    assert pretrained[0][0] < 0.5 * scratch[0][0]


def test_a_killed_study_goes_on_where_it_was_and_broken_cells_are_measured_again(
    material, tmp_path, monkeypatch
):
    measured = []

    def counted(*given):
        measured.append(given[1:3])
        if len(measured) == 4:
            raise KeyboardInterrupt
        return cell(*given)

    monkeypatch.setattr(grid, "cell", counted)
    with pytest.raises(KeyboardInterrupt):
        run(material, tmp_path, seeds=[0], budget=TINY, say=lambda _: None)
    assert measured == [("foreground_mask", 0), ("boundary", 0), ("deblur", 0), ("inversion", 0)]
    broken = next(tmp_path.glob("cells/*/boundary-0.json"))
    broken.write_text(broken.read_text()[:40])
    measured.clear()
    measured += [("", -1)] * 4  # no more interruptions
    whole = run(material, tmp_path, seeds=[0], budget=TINY, say=lambda _: None)
    assert measured[4:] == [("boundary", 0), ("inversion", 0), ("", 0)]
    at_once = run(material, tmp_path / "other", seeds=[0], budget=TINY, say=lambda _: None)
    assert np.array_equal(whole.errors, at_once.errors)
    assert np.array_equal(whole.task2vec, at_once.task2vec)


def test_another_budget_or_other_pixels_are_other_cells(material, pools, tmp_path):
    run(material, tmp_path, seeds=[0], budget=TINY, say=lambda _: None)
    run(material, tmp_path, seeds=[0], budget=TINY.model_copy(update={"examples": 3}), say=lambda _: None)
    other = choose(planted.pool(pools[0].rows, seed=5), pools[1], FOUR)
    run(other, tmp_path, seeds=[0], budget=TINY, say=lambda _: None)
    assert len(list(tmp_path.glob("cells/*"))) == 3


def test_several_processes_measure_the_same_and_say_how_far_they_are(material, tmp_path):
    said: list[str] = []
    two = run(material, tmp_path / "two", seeds=[0], budget=TINY, workers=2, say=said.append)
    one = run(material, tmp_path / "one", seeds=[0], budget=TINY, say=lambda _: None)
    assert two.errors == pytest.approx(one.errors, rel=1e-4)
    assert said[-1].startswith("transfer 6/6: ")
    assert said[-1].endswith("0.0 min left")


def test_gain_is_the_drop_of_error_from_scratch_averaged_over_seeds_and_datasets():
    errors = np.ones((2, 3, 2, 2))  # seeds, two sources and none, targets, datasets
    errors[:, 0, 1] = [[0.5, 0.5], [0.125, 0.5]]  # of source 0 on target 1: a quarter or a half a seed
    gain = Grid(errors, np.zeros((2, 2)), 0.0).gain
    assert gain == pytest.approx(np.array([[0, 1 - (0.5 * 0.5 * 0.125 * 0.5) ** 0.25], [0, 0]]))


def test_the_fisher_diagonal_is_the_mean_square_of_the_jacobian(material):
    """Against gradients of outputs drawn one by one; both are estimates, and filters differ by far more."""
    net = new(0)
    examples = drawn(material.source["deblur"], 2, stream(0, "x"))
    found = diagonal(net, examples, seed=0, draws=100)
    outputs, weight = net(examples.inputs.float() / 255), net.stem.weight
    picked = torch.randperm(outputs.numel(), generator=torch.Generator().manual_seed(0))[:100]
    expected = torch.zeros(len(weight))
    for place in picked:
        (gradient,) = torch.autograd.grad(outputs.flatten()[place], weight, retain_graph=True)
        expected += (gradient**2).mean(dim=(1, 2, 3)) * outputs.numel() / len(picked) / 2
    first = found[: len(weight)]
    assert np.corrcoef(np.log(first), np.log(expected.numpy()))[0, 1] > 0.9
    assert first.sum() == pytest.approx(float(expected.sum()), rel=0.3)


def test_the_task2vec_distance_is_symmetric_zero_on_the_diagonal_and_free_of_filters_scale():
    vectors = np.random.default_rng(0).random((4, 30)) + 0.01
    found = distance(vectors)
    assert found == pytest.approx(found.T)
    assert np.diag(found) == pytest.approx(0)
    assert distance(vectors * np.random.default_rng(1).random(30)) == pytest.approx(found)
    a, b = vectors[0] / (vectors[0] + vectors[1]), vectors[1] / (vectors[0] + vectors[1])
    assert found[0, 1] == pytest.approx(1 - a @ b / np.sqrt((a @ a) * (b @ b)))


def test_tasks_are_compared_on_the_same_datasets(pools):
    """A dataset that one task lacks would move that task's centroid: it is left out for all."""
    _, test = pools
    vectors = planted.embeddings(test.rows, dataset=5.0, noise=0.0)
    whole = vectors.where(pl.col("dataset") != "d")
    assert embedded(vectors, FOUR) == pytest.approx(embedded(whole, FOUR))
    assert embedded(vectors, FOUR[::-1]) == pytest.approx(embedded(vectors, FOUR)[::-1, ::-1])


def test_targets_of_equal_pixels_are_at_no_distance_and_others_are(pools):
    _, test = pools
    targets = test.targets.copy()
    task = test.rows["task"].to_numpy()
    targets[(task == "boundary") | (task == "deblur")] = 9
    found = embedded(target_pixels(Pool(test.inputs, targets, test.rows), FOUR), FOUR)
    assert found[1, 2] == pytest.approx(0, abs=1e-5)
    assert found[0, 1] > 0.1


def grid_of(distance, *, seeds=3, noise=0.0, tasks):
    """Errors that fall the more the nearer the source is."""
    rng = np.random.default_rng(0)
    logs = distance[None, :, :, None] + noise * rng.standard_normal((seeds, tasks, tasks, 2))
    errors = np.concatenate([np.exp(logs - 3), np.ones((seeds, 1, tasks, 2))], axis=1)
    return Grid(errors, rng.random((tasks, tasks)), 1.0)


EIGHT = (
    "foreground_mask", "boundary", "distance", "denoise_gaussian", "deblur", "inpainting", "inversion",
    "flip_vertical",
)  # fmt: skip


@pytest.fixture(scope="module")
def eight():
    train = planted.pool(planted.rows(EIGHT, ("a",), 2))
    return choose(train, planted.pool(planted.rows(EIGHT, ("c", "d"), 2)), EIGHT)


def random_distance(seed, tasks=8):
    drawn_ = np.random.default_rng(seed).random((tasks, tasks))
    return (drawn_ + drawn_.T) * (1 - np.eye(tasks))


def test_distances_that_determine_gains_are_reported_as_predicting_and_random_ones_are_not(eight):
    truth, other = random_distance(1), random_distance(2)
    found = results(eight, grid_of(truth, tasks=8), {"s1": truth, "s2": truth}, other, TINY)
    taco = found["agreement"]["taco"]
    assert taco["value"] == pytest.approx(1)
    assert taco["low"] > 0.9
    assert found["by_run"] == pytest.approx({"s1": 1, "s2": 1})
    assert found["difference"]["pixels"]["low"] > 0
    assert "tasks that lie nearer helped more" in found["summary"][1]
    swapped = results(eight, grid_of(truth, tasks=8), {"s1": other}, truth, TINY)
    assert swapped["agreement"]["taco"]["low"] < 0 < swapped["agreement"]["taco"]["high"]
    assert "is not shown here" in swapped["summary"][1]
    assert swapped["agreement"]["pixels"]["value"] == pytest.approx(1)


def test_gains_of_the_task_itself_of_its_category_and_of_others_are_means_of_their_cells(eight):
    truth = random_distance(1)
    found = results(eight, grid_of(truth, tasks=8), {"s": truth}, truth, TINY)
    gain, same = np.asarray(found["gain"]), same_category(EIGHT)
    itself = np.eye(8, dtype=bool)
    assert found["same_task"]["value"] == pytest.approx(gain[itself].mean())
    assert found["same_category"]["value"] == pytest.approx(gain[(same == 1) & ~itself].mean())
    assert found["other_category"]["value"] == pytest.approx(gain[same == 0].mean())


def test_a_study_ends_in_files_that_hold_what_it_returns(pools, tmp_path):
    train, test = pools
    runs = {"run": planted.embeddings(test.rows)}
    found = study(runs, train, test, tmp_path, tasks=FOUR, seeds=[0, 1], budget=TINY, say=lambda _: None)
    assert json.loads((tmp_path / "transfer.json").read_text()) == found
    assert found["summary"] == sentences(found)
    assert (tmp_path / "transfer.png").stat().st_size > 10_000
    svg = (tmp_path / "transfer.svg").read_bytes()
    study(runs, train, test, tmp_path, tasks=FOUR, seeds=[0, 1], budget=TINY, say=lambda _: None)
    assert (tmp_path / "transfer.svg").read_bytes() == svg
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]
    for key in ("gain", "gain_low", "gain_high"):
        assert np.asarray(found[key]).shape == (4, 4)
    assert (np.asarray(found["gain_low"]) <= np.asarray(found["gain"])).all()


_KILLED = """
import sys
from pathlib import Path
from tests.taco_probe.taco import planted
from taco_probe.taco.transfer.grid import run
from taco_probe.taco.transfer.material import choose
from taco_probe.taco.transfer.measure import Budget
tasks = ("foreground_mask", "boundary", "deblur", "inversion")
train = planted.pool(planted.rows(tasks, ("a",), 4))
test = planted.pool(planted.rows(tasks, ("c",), 8))
budget = Budget(pretrain_steps=20, pretrain_batch=4, fine_tune_steps=10, fine_tune_batch=4, examples=4)
print(repr(run(choose(train, test, tasks), Path(sys.argv[1]), seeds=[0, 1], budget=budget, workers=2,
               say=lambda line: print(line, flush=True)).errors.tolist()))
"""


@pytest.mark.slow
def test_a_study_that_is_killed_leaves_no_process_and_ends_as_if_it_had_not_been(tmp_path):
    def start(folder):
        return subprocess.Popen([sys.executable, "-c", _KILLED, folder], stdout=subprocess.PIPE, text=True)

    killed = start(tmp_path / "killed")
    for _ in range(3):
        assert killed.stdout.readline().startswith("transfer")
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    assert len(children) == 2
    killed.kill()
    killed.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}/cmdline").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    again, whole = (start(tmp_path / name).communicate()[0].splitlines() for name in ("killed", "whole"))
    assert " of 12 cells are there already" in again[0]
    assert again[-1] == whole[-1]
