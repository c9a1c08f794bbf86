"""The settings of a pseudo-annotation: defaults, and one clear line for each mistake."""

import pytest
import yaml

from data_recipes.errors import UserError
from data_recipes.pseudo.spec import Annotation, Filters, read_annotation


def test_the_density_is_the_papers_by_default():
    found = Annotation(mixture="dmax")
    assert (found.density.tasks_per_image, found.density.entries_per_image) == (4.10, 7.46)
    assert found.filters.on == ("parse", "likelihood", "agreement", "consistency")
    assert found.labels == "model"
    assert found.keep_own


def test_yaml_switches_a_filter_off_with_any_word_that_yaml_reads_as_false():
    text = "{mixture: dmax, filters: {likelihood: off, agreement: no, consistency: false}}"
    found = read_annotation(yaml.safe_load(text))
    assert found.filters.on == ("parse",)
    assert found.drawn == 0  # nothing would look at the draws


def test_what_is_written_down_is_read_again():
    found = read_annotation({"mixture": "dmax", "images": 5, "filters": {"agreement": 0.7}})
    assert read_annotation(yaml.safe_load(yaml.safe_dump(found.model_dump()))) == found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "key mixture is missing"),
        ({"mixtur": "dmax"}, "did you mean 'mixture'"),
        ({"mixture": "dmax", "filters": {"agrement": 0.5}}, "did you mean 'filters.agreement'"),
        ({"mixture": "dmax", "filters": {"agreement": 1.5}}, "is 1.5: it should be from 0 to 1"),
        ({"mixture": "dmax", "filters": {"agreement": "0.5"}}, "filters.agreement is '0.5'"),
        ({"mixture": "dmax", "filters": {"likelihood": True}}, "filters.likelihood is True"),
        ({"mixture": "dmax", "filters": {"rules": ["sides"]}}, "did you mean 'side'"),
        ({"mixture": "dmax", "tasks": ["vqaa"]}, "did you mean 'vqa'"),
        ({"mixture": "dmax", "images": 0}, "images is 0"),
        ({"mixture": "dmax", "images": 1.5}, "images is 1.5: it should be a whole number of images"),
        ({"mixture": "dmax", "images": "many"}, "images is 'many'"),
        ({"mixture": "dmax", "samples": 0}, "samples"),
        ({"mixture": "dmax", "labels": "oracle"}, "unknown labels 'oracle': Known: model, truth"),
        ({"mixture": "dmax", "temperature": 0.0}, "temperature is 0.0"),
        ({"mixture": "dmax", "density": {"tasks_per_image": 4.0}}, "density.entries_per_image is missing"),
        ({"mixture": "dmax", "density": {"tasks_per_image": 4.0, "entries_per_image": 2.0}}, "at least"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(settings, message):
    with pytest.raises(UserError) as caught:
        read_annotation(settings, "stages.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("stages.yaml: ")
    assert "\n" not in str(caught.value)


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Filters().agreement = 0.1
