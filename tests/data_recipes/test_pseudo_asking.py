"""Questions in rounds: each asks what it may, from what was said before, in the mixture's own words."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data_recipes.priors import phrase
from data_recipes.pseudo.asking import ROUNDS, Pool, ask, things_said
from data_recipes.pseudo.queries import answer, read_query
from data_recipes.pseudo.things import Thing
from data_recipes.pseudo.truth import true_answer
from data_recipes.records import Mixture
from data_recipes.tasks import TASKS
from tests.data_recipes.factories import NODULE, NORMAL, RIGHT, image, of_task, random_scene, scene_of

from tests.data_recipes.factories import entries_of  # isort: skip

ABNORMAL = scene_of(RIGHT, NODULE, edema=2)


@pytest.fixture(scope="module")
def mixture():
    """300 training images of a task each, and two for testing."""
    rng = np.random.default_rng(0)
    images, entries = [], []
    for number in range(302):
        one = replace(image(number), split="train" if number < 300 else "test")
        images.append(one)
        task = TASKS[number % 7]
        entries += of_task(entries_of(random_scene(rng, 0.5), number, number=number), task)
    return Mixture(tuple(images), tuple(entries))


@pytest.fixture(scope="module")
def pool(mixture):
    return Pool.of(mixture)


def rounds(scene, pool, *, known=(), tasks=TASKS, seed=0):
    """Questions of each round, answered truly before the next is asked."""
    one, found, known = image(999), [], list(known)
    for number in ROUNDS:
        questions = ask(number, one, known, pool, tasks, np.random.default_rng([seed, number]))
        found.append(questions)
        for question in questions:
            if truth := true_answer(question, scene, np.random.default_rng(0)):
                text, boxes = truth
                known.append(replace(question, target=text, boxes=(*question.boxes, *boxes)))
    return found


def test_the_pool_holds_training_entries_only(mixture, pool):
    train = {entry.prompt for _, entry in mixture.of_split("train")}
    assert {p for kinds in pool.prompts.values() for prompts in kinds.values() for p in prompts} == train
    assert sum(pool.queries.values()) == len([e for _, e in mixture.of_split("train") if e.task == "vqa"])


def test_round_one_asks_what_can_be_asked_of_any_image(pool):
    first, _, _ = rounds(ABNORMAL, pool)
    assert Counter((q.task, q.kind) for q in first) == {
        ("calculation", "ctr"): 1,
        ("calculation", "cpar"): 1,
        ("report", "findings"): 1,
        ("severity", "edema"): 1,
        ("findings", "multi-label"): 1,
        ("vqa", "view"): 1,
    }
    assert all(not q.target and not q.boxes for q in first)


def test_round_two_asks_where_what_was_said_is_and_about_it(pool):
    _, second, _ = rounds(ABNORMAL, pool)
    asked = {phrase(q) for q in second if q.task == "rec"}
    assert asked <= {"small right pleural effusion", "nodule in the right upper zone"}
    assert asked
    for q in second:
        if q.task == "vqa":
            assert answer(read_query(q.prompt), ABNORMAL) is not None, q.prompt
            assert q.prompt in {prompt for prompt, _, _ in pool.queries}


def test_presence_is_asked_as_often_with_yes_as_with_no(pool):
    counts = Counter()
    for seed in range(40):
        scene = random_scene(np.random.default_rng(seed), 0.4)
        _, second, _ = rounds(scene, pool, seed=seed)
        counts.update(
            answer(read_query(q.prompt), scene) for q in second if q.task == "vqa" and q.kind == "presence"
        )
    assert counts["yes"] == counts["no"] > 40


def test_round_three_asks_about_the_boxes_of_round_two(pool):
    _, second, third = rounds(ABNORMAL, pool)
    boxes = {RIGHT.box, NODULE.box}
    assert {q.boxes[0] for q in third} <= boxes
    assert len(third) == sum(q.task == "rec" for q in second)
    assert all(q.prompt.count("{box}") == 1 and not q.target for q in third)


def test_a_normal_image_is_asked_for_no_box(pool):
    _, second, third = rounds(NORMAL, pool)
    assert not [q for q in second if q.task == "rec"]
    assert not third


def test_own_entries_are_asked_about_too(pool):
    own = [e for e in entries_of(ABNORMAL) if e.task == "rec"]
    *_, third = rounds(ABNORMAL, pool, known=own, tasks=["reg"])
    assert {q.boxes[0] for q in third} == {RIGHT.box, NODULE.box}


def test_tasks_that_are_not_wanted_are_not_asked(pool):
    for questions in rounds(ABNORMAL, pool, tasks=["report", "rec"]):
        assert {q.task for q in questions} <= {"report", "rec"}


def test_the_same_seed_asks_the_same_and_ids_are_unique(pool):
    one, again = (rounds(ABNORMAL, pool, seed=3) for _ in range(2))
    assert one == again
    ids = [q.entry_id for questions in one for q in questions]
    assert len(set(ids)) == len(ids)
    assert one != rounds(ABNORMAL, pool, seed=4)


def test_what_is_said_comes_from_every_task():
    entries = entries_of(ABNORMAL)
    for task in ("report", "findings"):
        names = {thing.name for thing in things_said(of_task(entries, task))}
        assert names == {"pleural effusion", "nodule", "edema"}
    assert Thing("edema") in things_said(of_task(entries, "severity"))
    assert not things_said(entries_of(NORMAL))


def test_the_truth_answers_as_the_entries_of_the_scene_do():
    for seed in range(20):
        scene = random_scene(np.random.default_rng(seed), 0.4)
        for entry in entries_of(scene):
            question = replace(entry, target="", boxes=entry.prompt_boxes)
            found = true_answer(question, scene, np.random.default_rng(0))
            assert found is not None
            if entry.task not in ("report", "reg"):
                assert (found.text, found.boxes) == (entry.target, entry.target_boxes)


def test_what_is_not_there_has_no_true_answer():
    questions = [replace(e, target="", boxes=e.prompt_boxes) for e in entries_of(ABNORMAL)]
    for question in questions:
        if question.task in ("rec", "reg"):
            assert true_answer(question, NORMAL, np.random.default_rng(0)) is None
