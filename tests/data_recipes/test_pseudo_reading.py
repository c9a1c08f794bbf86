"""Phrases, reports and questions, read back into what they were written from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.phrases import phrase, plural
from data_recipes.pseudo.queries import Query, answer, as_thing, read_query
from data_recipes.pseudo.things import Thing, read_phrase, read_report
from data_recipes.report_text import report
from data_recipes.scene import FINDINGS
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
    random_scene,
    scene_of,
)

SEEDS = st.integers(0, 2**31)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_phrase_is_read_back_into_what_it_names(seed):
    for abnormality in random_scene(np.random.default_rng(seed), rate=0.7).abnormalities:
        thing = read_phrase(phrase(abnormality))
        assert thing is not None
        assert (thing.name, thing.side) == (abnormality.name, abnormality.side)
        assert thing.zone in ("", abnormality.zone)
        assert thing.size in ("", abnormality.size)


def test_a_phrase_of_other_words_names_nothing():
    assert read_phrase("cavity in the left lung") is None
    assert read_phrase("nodule of some sort") is None


def test_a_kind_covers_what_is_more_precise():
    nodule = read_phrase("nodule in the right upper zone")
    assert Thing("nodule").covers(nodule)
    assert Thing("nodule", "right").covers(nodule)
    assert not Thing("nodule", "left").covers(nodule)
    assert not nodule.covers(Thing("nodule"))
    assert Thing("support device").covers(Thing("pacemaker"))
    assert not Thing("pacemaker").covers(Thing("central line"))


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_a_report_says_what_the_scene_holds(seed):
    """Every name that a true report calls present is in the scene, and none that it denies."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, rate=0.5)
    said = read_report(report(scene, rng))
    names = {thing.name for thing in said.present} | ({"cardiomegaly"} if said.large_heart else set())
    assert names == scene.findings - {"edema"}
    assert not said.absent & scene.findings
    assert said.grade == scene.edema
    assert said.large_heart == ("cardiomegaly" in scene.findings)
    assert sum(thing.number for thing in said.present) == sum(
        a.name != "cardiomegaly" for a in scene.abnormalities
    ) or any(plural(phrase(a)) == phrase(a) for a in scene.abnormalities)  # uncountable: said once
    assert {(t.name, t.side) for t in said.present} == {
        (a.name, a.side) for a in scene.abnormalities if a.name != "cardiomegaly"
    }


@pytest.mark.parametrize(
    ("text", "present", "absent", "grade", "heart"),
    [
        ("The heart is not enlarged.", set(), set(), None, False),
        ("No cardiomegaly. Mild interstitial edema.", set(), set(), 2, False),
        ("Small left pleural effusion, no pneumothorax.", {"pleural effusion"}, {"pneumothorax"}, None, None),
        ("Nodule is not seen.", set(), {"nodule"}, None, None),
        ("Good inspiration.", set(), set(), None, None),
        ("", set(), set(), None, None),
    ],
)
def test_sentences_of_others_are_read_as_far_as_they_go(text, present, absent, grade, heart):
    said = read_report(text)
    assert {thing.name for thing in said.present} == present
    assert (said.absent, said.grade, said.large_heart) == (absent, grade, heart)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_question_is_read_and_answered_as_its_entry_says(seed):
    """The entries' own answers come from other code, `questions`, which never parses anything."""
    scene = random_scene(np.random.default_rng(seed), rate=0.5)
    for number in range(5):
        for entry in of_task(entries_of(scene, number), "vqa"):
            query = read_query(entry.prompt)
            assert query is not None, entry.prompt
            assert answer(query, scene) == entry.target, (entry.prompt, scene)


def test_a_question_without_an_answer_has_none():
    both = scene_of(LEFT, RIGHT)
    assert answer(read_query("On which side is the pleural effusion?"), both) is None
    assert answer(read_query("How large is the left mass?"), both) is None
    assert answer(read_query("In which lung zone is the nodule?"), scene_of(NODULE, TWIN)) == "upper"
    assert answer(read_query("Which support device is seen?"), NORMAL) is None
    assert answer(read_query("Which support device is seen?"), scene_of(TUBE)) == "endotracheal tube"


def test_questions_suppose_what_they_speak_of():
    assert read_query("Is there a nodule?").supposes == ()
    assert read_query("How many nodules are there?").supposes == ()
    assert read_query("Which mass is larger, left or right?").supposes == (
        Thing("mass", "left"),
        Thing("mass", "right"),
    )
    assert read_query("How large is the left pneumothorax?").supposes == (Thing("pneumothorax", "left"),)
    assert read_query("What do you think?") is None
    assert read_query("Is there edema?") == Query("edema")


def test_an_abnormality_is_a_thing_of_its_name():
    for abnormality in (HEART, TUBE, LEFT, NODULE):
        assert as_thing(abnormality).name == abnormality.name
        assert abnormality.name in FINDINGS
