"""Questions against the scene they come from: the test derives each answer again, from the scene alone."""

import re
from collections import Counter

import numpy as np

from data_recipes.phrases import phrase
from data_recipes.records import Box
from data_recipes.scene import Abnormality, Scene
from tests.data_recipes.factories import (
    LEFT,
    NODULE,
    NORMAL,
    RIGHT,
    TUBE,
    TWIN,
    entries_of,
    of_task,
    random_scene,
    scene_of,
)


def question(entry):
    return entry.prompt.removesuffix(" Answer briefly.")


def answers(scene, seeds=300):
    """Question -> the answers given over many seeds."""
    found: dict[str, set[str]] = {}
    for seed in range(seeds):
        for entry in of_task(entries_of(scene, seed), "vqa"):
            found.setdefault(question(entry), set()).add(entry.target)
    return found


def test_presence_is_answered_from_the_scene(population):
    asked = Counter()
    for scene, entries in population:
        for entry in of_task(entries, "vqa"):
            if entry.kind == "presence":
                truth = present_by_hand(scene, question(entry))
                assert entry.target == ("yes" if truth else "no"), (question(entry), scene)
                asked[truth] += 1
    assert asked[True] > 500


def present_by_hand(scene, text):
    if "radiograph normal" in text:
        return not scene.abnormalities and scene.edema == 0
    if "heart" in text:
        return (scene.ctr > 0.5) == ("enlarged" in text)
    if "edema or vascular congestion" in text:
        return scene.edema > 0
    side = re.search(r"\b(left|right)\b", text)
    for a in scene.abnormalities:
        named = a.name in text or a.attributes.get("kind", "-") in text
        if named and (side is None or a.side == side.group()):
            return True
    return False


def test_yes_and_no_are_balanced(population):
    closed = [
        e.target for _, entries in population for e in of_task(entries, "vqa") if e.target in ("yes", "no")
    ]
    assert len(closed) > 1000
    assert 0.45 <= closed.count("yes") / len(closed) <= 0.55


def test_the_question_alone_hardly_tells_the_answer(population):
    """Who knows how often each question is answered yes, and sees no image, is right two times in three."""
    seen: dict[str, Counter] = {}
    for _, entries in population:
        for entry in of_task(entries, "vqa"):
            if entry.kind == "presence":
                text = question(entry).replace("Does the image show", "Is there")
                seen.setdefault(text, Counter())[entry.target] += 1
    right = sum(max(counts.values()) for counts in seen.values())
    assert right / sum(sum(counts.values()) for counts in seen.values()) < 0.68


def test_a_question_has_one_answer():
    rng = np.random.default_rng(5)
    for _ in range(10):
        assert all(len(given) == 1 for given in answers(random_scene(rng, 0.5), 40).values())


def test_wrong_sides_are_asked_about():
    found = answers(scene_of(LEFT))
    assert found["Is there a right pleural effusion?"] == {"no"}
    assert found["Is there a left pleural effusion?"] == {"yes"}
    assert found["Does the image show a pleural effusion?"] == {"yes"}


def test_other_devices_are_asked_about():
    found = answers(scene_of(TUBE))
    assert found["Is there a pacemaker?"] == {"no"}
    assert found["Is there an endotracheal tube?"] == {"yes"}
    assert found["What kind of support device is there?"] == {"endotracheal tube"}


def test_open_questions_by_hand():
    found = answers(scene_of(NODULE, TWIN, LEFT, RIGHT))
    assert found["How many nodules are there?"] == {"2"}
    assert found["Which side shows a nodule?"] == {"right"}
    assert found["How large is the left pleural effusion?"] == {"large"}
    assert found["What is the size of the right pleural effusion?"] == {"small"}
    assert found["Which pleural effusion is larger, left or right?"] == {"left"}
    assert found["Is the left pleural effusion larger than the right one?"] == {"yes"}
    assert found["Is the right pleural effusion larger than the left one?"] == {"no"}
    assert found["Is this a PA or an AP view?"] == {"pa"}
    # Not answerable with one word, or not unique.
    assert not [q for q in found if "side" in q and "pleural effusion" in q]
    assert not [q for q in found if "zone is the nodule" in q or "size of the nodule" in q]
    assert not [q for q in found if "support device is" in q or "kind of" in q]


def test_location_of_a_single_finding():
    assert answers(scene_of(NODULE))["In which lung zone is the nodule?"] == {"upper"}


def test_nearly_equal_findings_are_not_compared():
    twin = Abnormality(
        "pleural effusion", "right", "lower", "large", Box(0.1, 0.6, 0.4, 0.9), LEFT.area * 1.2
    )
    assert not [q for q in answers(scene_of(LEFT, twin)) if "larger" in q]


def test_comparison_follows_the_areas(population):
    compared = 0
    for scene, entries in population:
        areas = {}
        for a in scene.abnormalities:
            pleural = a.name in ("pleural effusion", "pneumothorax")
            areas.setdefault(f"{a.side} {a.name}" if pleural else phrase(a), []).append(a.area)
        for entry in of_task(entries, "vqa"):
            pair = re.fullmatch(r"Is the (.+) larger than the (.+)\?", question(entry))
            if pair and not pair[2].endswith(" one"):
                (first,), (second,) = areas[pair[1]], areas[pair[2]]
                assert entry.target == ("yes" if first > second else "no")
                compared += 1
    assert compared > 50


def test_an_unknown_view_is_not_asked_about():
    unknown = Scene("", 0.44, 0.3, 0, {}, ())
    assert "view" not in {e.kind for e in entries_of(unknown)}


def test_zero_is_asked_for_now_and_then():
    asked = [e for s in range(300) for e in of_task(entries_of(NORMAL, s), "vqa") if e.kind == "count"]
    assert {e.target for e in asked} == {"0"}
    assert 30 < len(asked) < 120


def test_answers_come_from_small_closed_sets(population):
    allowed = {
        "presence": {"yes", "no"},
        "side": {"left", "right"},
        "count": {"0", "1", "2", "3", "4"},
        "comparison": {"yes", "no", "left", "right"},
        "size": {"small", "moderate", "large"},
        "location": {"upper", "mid", "lower"},
        "attribute": {"endotracheal tube", "central line", "pacemaker"},
        "view": {"pa", "ap"},
    }
    seen: dict[str, set[str]] = {}
    for _, entries in population:
        for entry in of_task(entries, "vqa"):
            seen.setdefault(entry.kind, set()).add(entry.target)
    assert seen == allowed
