"""Recipes with stages: what may stand in them, and one clear line for what may not."""

from __future__ import annotations

import pytest
import yaml

from data_recipes.errors import UserError
from data_recipes.recipe import is_image_centric, mixture_folder
from data_recipes.recipe_file import FOLDER, load_recipe
from data_recipes.staged import is_staged, load_staged

SHIPPED = (
    "dmax_3stage", "dmax_3stage_unfiltered", "dmax_2stage", "dmax_3stage_mixed", "dmax_3stage_oracle",
    "dmax_3stage_clean",
)  # fmt: skip
FIRST = "- {name: a, mixture: dmax, epochs: 1}\n"


def write(folder, stages, head="style: staged\n"):
    path = folder / "mine.yaml"
    path.write_text(f"{head}stages:\n{stages}")
    return str(path)


def test_all_shipped_recipes_with_stages_load_and_no_other_has_stages():
    found = {path.stem for path in FOLDER.glob("*.yaml") if is_staged(path.stem)}
    assert found == set(SHIPPED)
    for name in found:
        staged = load_staged(name)
        assert staged.name == name
        assert staged.clean.mixture == "dmax"
        assert staged.mixtures == ["dmax"]


def test_the_ablations_differ_from_the_three_stages_in_what_they_are_named_for():
    recipes = [load_staged(name) for name in SHIPPED]
    three, unfiltered, two, mixed, oracle, clean = (one.stages for one in recipes)
    assert all(one.stages[0] == three[0] and one.schedule == "whole" for one in recipes)
    assert [stage.name for stage in three] == ["decentralised", "pseudo", "clean"]
    assert three[1].annotate.filters.on == ("parse", "likelihood", "agreement", "consistency")
    assert unfiltered[1].annotate.filters.on == ("parse",)
    assert unfiltered[::2] == three[::2]
    assert two[1].annotate == three[1].annotate
    assert len(two) == 2
    assert [stage.share for stage in clean] == [stage.share for stage in three]
    assert {stage.mixture for stage in clean} == {"dmax"}
    assert len(mixed) == 2
    assert (mixed[1].mix, mixed[1].annotate) == (["dmax"], three[1].annotate)
    assert oracle[1].annotate.labels == "truth"
    assert oracle[::2] == three[::2]


def test_a_recipe_with_stages_is_no_mixture_but_has_the_batching_of_its_first(tmp_path):
    for call in (load_recipe, mixture_folder):
        with pytest.raises(UserError, match=r"dmax_3stage\.yaml lists stages and is no mixture itself"):
            call("dmax_3stage")
    assert not is_image_centric("dmax_3stage")
    assert is_image_centric(write(tmp_path, "- {name: a, mixture: imax}"))


def test_paths_are_relative_to_the_file_and_leave_no_trace_in_the_digest(tmp_path):
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "own.yaml").write_text("source: phantom\nimages: {train: 2}")
        stages = "- {name: a, mixture: own.yaml, mix: [imax]}\n- {name: b, annotate: {mixture: own.yaml}}"
        staged = load_staged(write(folder, stages))
        assert staged.mixtures == [str(folder / "own.yaml"), "imax"]
        assert staged.stages[1].annotate.mixture == str(folder / "own.yaml")
        digests.append(staged.digest)
    assert digests[0] == digests[1]
    assert load_staged(write(tmp_path, "- {name: a, mixture: imax}")).digest != digests[0]


MISTAKES = {
    "stages is []: list them": " []",
    "stage 1 is 'a': give it keys and values": "- a",
    "stage a: unknown key 'epocs': did you mean 'epochs'": "- {name: a, mixture: dmax, epocs: 1}",
    "stage 1: key name is missing": "- {mixture: dmax}",
    "stage a: give it either mixture or annotate": "- {name: a, epochs: 1}",
    "mixture or annotate, not both": FIRST + "- {name: b, mixture: dmax, annotate: {mixture: dmax}}",
    "the first stage cannot annotate": "- {name: a, annotate: {mixture: dmax}}",
    "epochs or steps, not both": "- {name: a, mixture: dmax, epochs: 1, steps: 2}",
    "learning_rate or learning_rate_times, not both": (
        "- {name: a, mixture: dmax, learning_rate: 1.0e-3, learning_rate_times: 2}"
    ),
    "write 1.0e-4": "- {name: a, mixture: dmax, learning_rate: 1e-4}",
    "epochs is 0": "- {name: a, mixture: dmax, epochs: 0}",
    "epochs is inf": "- {name: a, mixture: dmax, epochs: .inf}",
    "steps is 1.5": "- {name: a, mixture: dmax, steps: 1.5}",
    "two stages have this name": FIRST + "- {name: A, mixture: dmax}",
    "base means something in `start`": "- {name: base, mixture: dmax}",
    "name is 'a/b'": "- {name: a/b, mixture: dmax}",
    "unknown start 'bse': did you mean 'base'": "- {name: a, mixture: dmax, start: bse}",
    "unknown start 'previous'": "- {name: a, mixture: dmax, start: previous}",
    "unknown start 'b'": FIRST + "- {name: b, mixture: dmax, start: b}",
    "unknown batching 'images': did you mean 'image'": "- {name: a, mixture: dmax, batching: images}",
    "stage a: unknown recipe 'dmaxx': did you mean 'dmax'": "- {name: a, mixture: dmaxx}",
    "stage b: unknown recipe 'imx'": FIRST + "- {name: b, mixture: dmax, mix: [imx]}",
    "mine.yaml is this very recipe": "- {name: a, mixture: mine.yaml}",
    "dmax_3stage has stages itself": FIRST + "- {name: b, mixture: dmax_3stage}",
    "stage b: annotate is 'dmax'": FIRST + "- {name: b, annotate: dmax}",
    "stage b: annotate: unknown key 'image': did you mean 'images'": (
        FIRST + "- {name: b, annotate: {mixture: dmax, image: 3}}"
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_and_stage(tmp_path, message):
    with pytest.raises(UserError) as caught:
        load_staged(write(tmp_path, MISTAKES[message]))
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistakes_around_the_stages(tmp_path):
    with pytest.raises(UserError, match="unknown key 'sead': did you mean 'seed'"):
        load_staged(write(tmp_path, FIRST, "style: staged\nsead: 1\n"))
    with pytest.raises(UserError, match="needs the line `style: staged`"):
        load_recipe(write(tmp_path, FIRST, ""))
    (tmp_path / "mine.yaml").write_text("style: stagd\nsource: phantom")
    with pytest.raises(UserError, match="unknown style 'stagd': did you mean 'staged'"):
        load_recipe(str(tmp_path / "mine.yaml"))
    assert not is_staged(str(tmp_path))
    assert not is_staged("no_such_recipe")
    assert yaml.safe_load((FOLDER / "dmax_3stage.yaml").read_text())["style"] == "staged"
