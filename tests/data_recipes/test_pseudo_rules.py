"""Rules between tasks: each sees its contradiction, and none sees one in the truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.pseudo.rules import RULES, Context, contradictions
from data_recipes.records import Box, Entry
from data_recipes.scene import FINDINGS
from data_recipes.tasks import task
from data_recipes.tasks.calculation import Ratio
from tests.data_recipes.factories import entries_of, random_scene

CONTEXT = Context(frozenset(FINDINGS), "PA")
LEFT, RIGHT = Box(0.6, 0.3, 0.9, 0.6), Box(0.1, 0.3, 0.4, 0.6)


def entry(name, answer, prompt="", kind="", boxes=(), number=0):
    text, target_boxes = task(name).render(answer)
    return Entry(f"i/{name}/{number}", "i", name, prompt, text, (*boxes, *target_boxes), f"x/{name}/{kind}")


def report(text):
    return entry("report", text)


def vqa(question, answer, number=0):
    return entry("vqa", answer, question, "presence", number=number)


def rec(phrase, *boxes):
    return entry("rec", boxes, f"Where is the {phrase}?", "phrase")


def reg(box, phrase):
    return entry("reg", phrase, "What does {box} show?", "phrase", (box,))


def ctr(value):
    return entry("calculation", Ratio("CTR", value), "Measure the CTR.", "ctr")


# rule -> pairs of entries that contradict each other under it
PLANTED = {
    "heart_size": [
        (ctr(0.58), report("The heart is normal in size.")),
        (ctr(0.42), report("There is cardiomegaly.")),
        (ctr(0.58), entry("findings", frozenset({"nodule"}))),
        (ctr(0.42), vqa("Is the heart enlarged?", "yes")),
        (entry("findings", frozenset({"cardiomegaly"})), vqa("Is the heart normal in size?", "yes")),
    ],
    "edema_grade": [
        (entry("severity", 2), report("There is no pulmonary edema.")),
        (entry("severity", 1), report("Alveolar edema is seen.")),
        (entry("severity", 0), entry("findings", frozenset({"edema"}))),
        (entry("severity", 3), vqa("Is there edema or vascular congestion?", "no")),
    ],
    "presence": [
        (entry("findings", frozenset({"mass"})), report("There is no consolidation, nodule or mass.")),
        (entry("findings", frozenset()), vqa("Is there a mass in the left lung?", "yes")),
        (entry("findings", frozenset({"mass"})), vqa("Does the image show a mass?", "no")),
        (report("There is a nodule in the left mid zone."), vqa("How many nodules are there?", "0")),
        (rec("mass in the left mid zone", LEFT), entry("findings", frozenset({"nodule"}))),
        (reg(LEFT, "mass in the left mid zone"), report("Both lungs are clear.")),
    ],
    "side": [
        (report("There is a mass in the left mid zone."), vqa("On which side is the mass?", "right")),
        (report("There is a large left pneumothorax."), vqa("Is there a right pneumothorax?", "yes")),
        (vqa("Is there a left pneumothorax?", "no"), rec("small left pneumothorax", LEFT)),
    ],
    "number": [
        (
            report("There are two nodules in the left mid zone."),
            vqa("How many nodules are there?", "3"),
        ),
        (
            report("There are two nodules in the left mid zone."),
            rec("nodule in the left mid zone", LEFT),
        ),
    ],
    "normal": [
        (entry("findings", frozenset({"mass"})), vqa("Is this radiograph normal?", "yes")),
        (report("There is a mass in the left mid zone."), vqa("Is this radiograph normal?", "yes")),
    ],
    "box_side": [(rec("mass in the left mid zone", RIGHT),), (reg(RIGHT, "mass in the left mid zone"),)],
    "round_trip": [(rec("mass in the left mid zone", LEFT), reg(LEFT, "nodule in the left mid zone"))],
    "view": [(vqa("Is this a PA or an AP view?", "ap"),)],
}


def test_every_rule_is_tested():
    assert PLANTED.keys() == RULES.keys()
    assert all(rule.__doc__ for rule in RULES.values())


@pytest.mark.parametrize(
    ("rule", "planted"), [(rule, planted) for rule, many in PLANTED.items() for planted in many]
)
def test_a_rule_sees_its_contradiction(rule, planted):
    judged = {e.entry_id for e in planted}
    if any(e.task in ("rec", "reg") for e in planted) and rule != "round_trip":
        judged = {e.entry_id for e in planted if e.task in ("rec", "reg")}  # they follow, so they give way
    assert set(contradictions(planted, (), CONTEXT, [rule])) == judged
    assert not contradictions(planted, (), CONTEXT, [name for name in RULES if name != rule]) or rule in (
        "number",
        "side",
        "presence",
        "normal",
    )


@given(st.integers(0, 2**31), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_the_truth_contradicts_itself_nowhere(seed, wording):
    scene = random_scene(np.random.default_rng(seed), rate=0.5)
    if abs(scene.ctr - 0.5) < 0.005:
        return  # 0.50 as written may stand for more or less
    entries = entries_of(scene, wording)
    found = contradictions(entries, (), Context(frozenset(FINDINGS), scene.view))
    # Boxes of random scenes lie anywhere; on which side they are drawn is tested on the phantom.
    assert not {key: names for key, names in found.items() if set(names) - {"box_side", "round_trip"}}


def test_true_boxes_of_the_phantom_lie_on_their_side():
    from data_recipes.sources import phantom

    for unit in phantom.units({"size": 96}, seed=5, images=24):
        for sample in phantom.read(unit):
            context = Context(frozenset(FINDINGS), sample.image.view)
            assert not contradictions(sample.entries, (), context)


def test_an_own_entry_decides_and_is_never_contradicted():
    own = entry("findings", frozenset())
    answers = [vqa("Is there a mass?", "yes", n) for n in range(3)]
    assert set(contradictions([own, *answers], {own.entry_id}, CONTEXT)) == {e.entry_id for e in answers}


def test_a_wrong_answer_against_several_goes_alone():
    wrong = entry("findings", frozenset({"mass"}))
    right = [
        report("There is no consolidation, nodule or mass."),
        vqa("Is there a mass?", "no"),
    ]
    assert contradictions([wrong, *right], (), CONTEXT) == {wrong.entry_id: ("presence",)}


def test_without_a_majority_both_sides_go():
    one, other = entry("findings", frozenset({"mass"})), report("There is no consolidation, nodule or mass.")
    assert len(contradictions([one, other], (), CONTEXT)) == 2


def test_a_ratio_near_the_limit_says_nothing():
    assert not contradictions([ctr(0.51), report("The heart is normal in size.")], (), CONTEXT)


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_the_order_of_entries_and_more_rules_do_not_free_anything(seed):
    rng = np.random.default_rng(seed)
    mixed = entries_of(random_scene(rng, 0.5), 0) + tuple(
        replace(e, entry_id=f"other/{e.entry_id}") for e in entries_of(random_scene(rng, 0.5), 1)
    )
    found = contradictions(mixed, (), CONTEXT)
    shuffled = [mixed[n] for n in rng.permutation(len(mixed))]
    assert contradictions(shuffled, (), CONTEXT) == found
    one = contradictions(mixed, (), CONTEXT, ["presence"])
    assert set(one) <= set(found)
    assert found, "two scenes mixed do not contradict each other"
