"""Entries against the scene they come from: the test derives each answer again, from the scene alone."""

import re
from collections import Counter

import numpy as np
import pytest

from data_recipes.annotate import phrase
from data_recipes.records import BOX_SLOT, Box
from data_recipes.scene import EDEMA_GRADES, Abnormality
from data_recipes.tasks import TASKS, task
from tests.data_recipes.factories import (
    HEART,
    LEFT,
    NODULE,
    NORMAL,
    RIGHT,
    TUBE,
    TWIN,
    entries_of,
    of_task,
    scene_of,
)

# All tasks


def test_records_are_consistent(population):
    for scene, entries in population:
        assert list(dict.fromkeys(e.task for e in entries)) == [
            name for name in TASKS if scene.abnormalities or name not in ("rec", "reg")
        ]
        assert len({e.entry_id for e in entries}) == len(entries)
        assert len({(e.prompt, e.target, e.boxes) for e in entries}) == len(entries)
        for entry in entries:
            assert entry.boxes == entry.prompt_boxes + entry.target_boxes
            assert (entry.prompt + entry.target).count(BOX_SLOT) == len(entry.boxes)
            assert "{" not in (entry.prompt + entry.target).replace(BOX_SLOT, "")
            assert set(entry.boxes) <= {a.box for a in scene.abnormalities}
            assert entry.provenance.startswith(f"phantom/{entry.task}/")
            module = task(entry.task)
            answer = module.parse(entry.target, entry.target_boxes)
            assert module.render(answer) == (entry.target, entry.target_boxes)


def test_numbering_and_provenance():
    entries = entries_of(scene_of(NODULE, LEFT), number=7, source="ct")
    assert [e.entry_id for e in of_task(entries, "rec")] == ["p7-0/rec/0", "p7-0/rec/1"]
    assert {e.provenance for e in of_task(entries, "calculation")} == {
        "ct/calculation/ctr",
        "ct/calculation/cpar",
    }
    assert {e.image_id for e in entries} == {"p7-0"}


def test_the_same_state_gives_the_same_entries(population):
    for seed, (scene, entries) in enumerate(population[:50]):
        assert entries_of(scene, seed) == entries
    assert any(entries_of(scene, 1000) != entries for scene, entries in population[:5])


def test_number_of_entries(population):
    counts = [len(entries) for _, entries in population]
    assert min(counts) >= 8
    assert 10 <= np.mean(counts) <= 20
    for name, number in (("calculation", 2), ("report", 1), ("severity", 1), ("findings", 1)):
        assert all(len(of_task(entries, name)) == number for _, entries in population)
    assert all(len(of_task(entries, "vqa")) >= 3 for _, entries in population)


def test_values_are_the_scenes(population):
    for scene, entries in population:
        ratios = [task("calculation").parse(e.target) for e in of_task(entries, "calculation")]
        assert [r.name for r in ratios] == ["CTR", "CPAR"]
        assert [r.value for r in ratios] == pytest.approx([scene.ctr, scene.cpar], abs=0.005001)
        assert task("severity").parse(of_task(entries, "severity")[0].target) == scene.edema
        labels = {a.name for a in scene.abnormalities} | ({"edema"} if scene.edema else set())
        assert task("findings").parse(of_task(entries, "findings")[0].target) == labels


def test_a_name_with_braces_stays_as_it_is():
    odd = Abnormality("support device", "", "", "", TUBE.box, 0.01, {"kind": "tube {0} %s"})
    prompts = [e.prompt for e in of_task(entries_of(scene_of(odd)), "rec")]
    assert prompts
    assert all("tube {0} %s" in prompt for prompt in prompts)


# Phrases, rec and reg


@pytest.mark.parametrize(
    ("abnormality", "text"),
    [
        (HEART, "enlarged heart"),
        (TUBE, "endotracheal tube"),
        (LEFT, "large left pleural effusion"),
        (NODULE, "nodule in the right upper zone"),
        (
            Abnormality("support device", "left", "", "", TUBE.box, 0.1, {"kind": "pacemaker"}),
            "left pacemaker",
        ),
        (Abnormality("support device", "", "", "", TUBE.box, 0.1), "support device"),
        (Abnormality("pneumothorax", "right", "", "", TUBE.box, 0.1), "right pneumothorax"),
        (Abnormality("mass", "right", "", "large", TUBE.box, 0.1), "mass in the right lung"),
        (Abnormality("mass", "", "", "", TUBE.box, 0.1), "mass"),
    ],
)
def test_phrases(abnormality, text):
    assert phrase(abnormality) == text


def test_phrases_tell_kinds_sides_and_zones_apart(population):
    meaning = {}
    for scene, _ in population:
        for a in scene.abnormalities:
            size = a.size if a.name in ("pleural effusion", "pneumothorax") else ""
            zone = a.zone if a.name not in ("pleural effusion", "pneumothorax") else ""
            key = (a.name, a.attributes.get("kind"), a.side, zone, size)
            assert meaning.setdefault(phrase(a), key) == key
    assert len(meaning) > 30


def test_rec_gives_every_box_a_phrase_means_from_left_to_right(population):
    several = 0
    for scene, entries in population:
        expected = {}
        for a in sorted(scene.abnormalities, key=lambda a: a.box.x1):
            expected.setdefault(phrase(a), []).append(a.box)
        found = {}
        for entry in of_task(entries, "rec"):
            named = [text for text in expected if re.search(rf"\bthe {text}[.?]$", entry.prompt)]
            found[max(named, key=len)] = list(entry.boxes)
            assert entry.target == " ".join([BOX_SLOT] * len(entry.boxes))
            several += len(entry.boxes) > 1
        assert found == expected
    assert several > 5


def test_reg_names_what_is_in_the_box(population):
    for scene, entries in population:
        by_box = {a.box: phrase(a) for a in scene.abnormalities}
        for entry in of_task(entries, "reg"):
            assert entry.target == by_box[entry.prompt_boxes[0]]
            assert not entry.target_boxes


def test_two_nodules_in_one_zone_are_one_phrase_and_two_regions():
    entries = entries_of(scene_of(NODULE, TWIN))
    (rec,) = of_task(entries, "rec")
    assert rec.boxes == (TWIN.box, NODULE.box)
    assert [e.target for e in of_task(entries, "reg")] == ["nodule in the right upper zone"] * 2


def test_reg_leaves_out_boxes_that_could_mean_either():
    covered = Abnormality("consolidation", "left", "lower", "large", Box(0.6, 0.61, 0.9, 0.9), 0.05)
    inside = Abnormality("nodule", "left", "lower", "small", Box(0.7, 0.7, 0.75, 0.75), 0.01)
    regs = of_task(entries_of(scene_of(LEFT, covered, inside, RIGHT)), "reg")
    assert [e.target for e in regs] == ["nodule in the left lower zone", "small right pleural effusion"]


# Report: an independent reader of its sentences

MENTIONS = {
    "cardiomegaly": r"cardiomegaly|heart (size )?is enlarged",
    "edema": r"edema|vascular congestion",
    "nodule": r"nodules?\b",
    "mass": r"mass(es)?\b",
    "pneumothorax": r"pneumothora",
    "pleural effusion": r"pleural effusion",
    "consolidation": r"consolidation",
    "atelectasis": r"atelectasis",
    "support device": r"endotracheal tube|central line|pacemaker|support device",
}


def affirmed(report):
    """Findings of the sentences without a negation, and those of the sentences with one."""
    present, absent = set(), set()
    for sentence in report.lower().split("."):
        negated = re.search(r"\b(no|not|without)\b", sentence)
        named = {name for name, pattern in MENTIONS.items() if re.search(pattern, sentence)}
        (absent if negated else present).update(named)
    return present, absent


def test_reports_say_what_is_there_and_nothing_else(population):
    for scene, entries in population:
        present, absent = affirmed(of_task(entries, "report")[0].target)
        assert present == scene.findings
        assert not absent & scene.findings


def test_reports_are_true_in_side_size_zone_and_number(population):
    numbers = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
    for scene, entries in population:
        report = of_task(entries, "report")[0].target.lower()
        said = Counter()
        # "two nodules in the right upper zone", "a large left pleural effusion", "consolidation in the ..."
        kinds = "consolidation|atelectasis|nodule|mass"
        pattern = rf"(?:\b(an?|two|three|four) )?({kinds})(?:e?s)? in the (\w+ \w+) zone"
        for number, kind, where in re.findall(pattern, report):
            said[kind, where] += numbers.get(number, 1)
        for size, side, kind in re.findall(r"(\w+) (left|right) (pleural effusion|pneumothorax)", report):
            said[kind, f"{size} {side}"] += 1
        true = Counter()
        for a in scene.abnormalities:
            if a.name in ("consolidation", "atelectasis"):
                true[a.name, f"{a.side} {a.zone}"] = 1
            elif a.name in ("nodule", "mass"):
                true[a.name, f"{a.side} {a.zone}"] += 1
            elif a.name in ("pleural effusion", "pneumothorax"):
                true[a.name, f"{a.size} {a.side}"] += 1
        assert said == true
        grades = [grade for grade in range(1, 4) if EDEMA_GRADES[grade] in report]
        assert grades == ([scene.edema] if scene.edema else [])


def test_reports_are_sentences_of_a_usual_length(population):
    reports = [of_task(entries, "report")[0].target for _, entries in population]
    assert len(set(reports)) > 300
    for text in reports:
        assert 3 <= text.count(".") <= 7
        assert 18 <= len(text.split()) <= 90
        assert all(s[0].isupper() for s in text.rstrip(".").split(". "))
        assert not re.search(r"\ban? (nodules|masses)|\ba [aeiou]|\ban [^aeiou]|  ", text)
    assert 25 <= np.mean([len(text.split()) for text in reports]) <= 60


def test_a_normal_report_denies_everything():
    for seed in range(20):
        present, absent = affirmed(of_task(entries_of(NORMAL, seed), "report")[0].target)
        assert not present
        assert {"edema", "pleural effusion", "pneumothorax", "support device"} <= absent
