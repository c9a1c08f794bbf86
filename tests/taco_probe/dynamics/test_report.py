"""Runs compared: what is said is true of what was planted, and nothing in a name becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from data_recipes.errors import UserError
from data_recipes.tasks import TASKS
from taco_probe.dynamics import measurement, report, runs
from taco_probe.dynamics.analysis import analyse
from taco_probe.dynamics.measurement import Measurement
from taco_probe.dynamics.summary import sentences
from tests.eval.run_folders import HOSTILE, HOSTILE_NAME
from tests.taco_probe.dynamics import fakes


def compared(tmp_path, *, imax=1.0, dmax=1.0, seeds=(1, 2, 3), same=False, steps=(0, 10, 20), **facts):
    """Groups imax and dmax; the larger number decays faster, so its entropy is lower."""
    folders = [
        fakes.run(
            tmp_path / f"{recipe}-{seed}",
            recipe=recipe,
            seed=seed + (0 if same else 10 * (recipe == "dmax")),
            decay=decay,
            steps=steps,
            **facts,
        )
        for recipe, decay in (("imax", imax), ("dmax", dmax))
        for seed in seeds
    ]
    return analyse(runs.read(folders))


def test_a_planted_difference_is_said_with_its_numbers(tmp_path):
    found = compared(tmp_path, imax=1.8, dmax=0.8)
    lines = sentences(found)
    last = next(d for d in found["differences"] if (d["quantity"], d["at"]) == ("entropy", 20))
    assert last["value"] < last["high"] < 0
    number = f"{last['value']:+.2f} [{last['low']:+.2f}, {last['high']:+.2f}]".replace("-", "−")
    assert lines[0].startswith("SE is lower under imax than under dmax at 2 of 2 steps (2 with an interval")
    assert number in lines[0]
    assert lines[1].startswith("ρ is lower under imax than under dmax at 0 of 2 steps")
    assert "At that moment gradients are more concentrated under imax" in lines[2]
    assert lines[3].startswith("SE of directions is lower under imax than under dmax at 2 of 2 steps (2 with")
    assert "At that moment directions are more concentrated under imax" in lines[5]
    assert any("other seeds (3 and 3 runs)" in line for line in lines)
    turned = sentences(compared(tmp_path / "turned", imax=0.8, dmax=1.8))
    assert "At that moment gradients are more concentrated under dmax" in turned[2]


def test_equal_groups_are_not_told_apart(tmp_path):
    lines = sentences(compared(tmp_path))
    assert "no difference in concentration is shown" in lines[2]
    identical = compared(tmp_path / "identical", same=True)
    assert {d["value"] for d in identical["differences"]} == {0}
    lines = sentences(identical)
    assert "at 0 of 2 steps (0 with an interval that excludes 0), higher at 0 (0)" in lines[0]


def test_entries_that_hold_most_of_the_gradient_are_told_from_directions_that_are_concentrated(tmp_path):
    """One entry's gradient is 30 times as long in one group: SE is lower there, that of directions is not."""
    folders = []
    for recipe in ("imax", "dmax"):
        for seed in (1, 2, 3):
            folders.append(fakes.run(tmp_path / f"{recipe}-{seed}", recipe=recipe, seed=seed, steps=()))
            made = fakes.measured(10, seed=seed)
            scale = np.ones(len(made.tasks), np.float32)
            scale[0] = 30 if recipe == "imax" else 1
            grams = {part: gram * np.outer(scale, scale) for part, gram in made.grams.items()}
            measurement.write(Measurement(made.facts, grams, made.lora), folders[-1] / measurement.FOLDER)
    found = analyse(runs.read(folders))
    lines, last = sentences(found), {row["quantity"]: row["value"] for row in found["differences"]}
    assert last["entropy"] < -0.5
    assert abs(last["entropy_directions"]) < 1e-6
    (line,) = [line for line in lines if "spread as over" in line]
    said = re.search(r"imax ([\d., ]+); dmax ([\d., ]+)\. SE", line)
    imax, dmax = ([float(one) for one in group.split(", ")] for group in said.groups())
    assert max(imax) < 2
    assert min(dmax) > 10


def test_tasks_are_compared_where_they_stand_out_of_the_noise_and_at_the_end(tmp_path):
    """At step 10 each task has a direction of its own; at step 20 there is nothing but noise."""
    folder = fakes.run(tmp_path / "imax", steps=(0,))
    rng = np.random.default_rng(0)
    for step, length in ((10, 20.0), (20, 0.0)):
        made = fakes.measured(step)
        own = np.eye(7)[[list(TASKS).index(task) for task in made.tasks]] * length
        own[:, 1] += own[:, 0]  # the first task goes half along with the second
        g = np.hstack([own, rng.normal(size=(len(own), 40))])
        grams = {part: (g @ g.T).astype(np.float32) for part in made.grams}
        measurement.write(Measurement(made.facts, grams, made.lora), folder / measurement.FOLDER)
    found = analyse(runs.read([folder]))
    assert found["moments"]["shown"] == [10, 20]
    first, last = found["runs"][0]["between"]
    assert first["cosines"]["debiased"][0][1] == pytest.approx(2**-0.5, abs=0.02)
    assert last["cosines"]["debiased"][0][1] is None
    steps = found["runs"][0]["steps"]
    assert [one["numbers"]["tasks_standing"] for one in steps][1] == 7
    assert steps[1]["numbers"]["task_cosine"] == pytest.approx(2**-0.5 / 21, abs=0.02)
    said = [line for line in sentences(found) if "stand out of the noise" in line]
    for line, step, count in zip(said, (10, 20), (7, 0), strict=True):
        assert line.startswith(f"imax, step {step}: the mean gradients of {count} of 7 tasks stand out")
    assert [one["at"] for one in found["affinity"]["imax"]] == [10, 20]


def test_what_was_sketched_is_said_to_be_approximate_with_its_error(tmp_path):
    assert not [line for line in sentences(compared(tmp_path)) if "pproximate" in line]
    rough = {"exact": False, "cosine_error": {"empirical": {"gauge": 0.0123}}}
    lines = sentences(compared(tmp_path / "rough", seeds=(1,), **rough))
    (line,) = [line for line in lines if "pproximate" in line]
    assert line.startswith("Approximate, by random sketches: imax-1, dmax-1.")
    assert "0.012 at most" in line


def test_step_0_is_never_counted_since_the_model_is_still_the_base(tmp_path):
    found = compared(tmp_path, imax=1.8, dmax=0.8)
    assert found["moments"]["at"] == [0, 10, 20]
    assert found["moments"]["untrained"] == [0]
    assert "of 2 steps" in sentences(found)[0]
    only = sentences(compared(tmp_path / "only", steps=(0,)))
    assert only[0] == "imax and dmax have nothing measured in common but what was before training."


def test_with_one_seed_it_is_said_that_seeds_were_not_varied(tmp_path):
    found = compared(tmp_path, imax=1.8, dmax=0.8, seeds=(1,))
    assert all(d["seeds_error"] is None for d in found["differences"])
    (line,) = [line for line in sentences(found) if "seeds were not varied" in line]
    assert "imax, dmax" in line
    assert "nothing here says whether another seed would agree" in line


def test_updates_of_one_seed_are_told_apart_from_those_of_two(tmp_path):
    (line,) = [
        line
        for line in sentences(compared(tmp_path, same=True, seeds=(1, 2)))
        if "cosine of the runs" in line
    ]
    assert "1.00 between recipes from one seed, which is one random A to start from (1.00 to 1.00" in line
    assert "between recipes from different seeds" in line
    assert "between seeds of one recipe" in line


def test_runs_of_different_length_meet_after_equal_shares_and_it_is_said(tmp_path):
    folders = [
        fakes.run(tmp_path / "imax", recipe="imax", steps=(0, 375, 750), max_steps=750),
        fakes.run(tmp_path / "dmax", recipe="dmax", steps=(0, 351, 701), max_steps=701),
    ]
    found = report.build(folders, tmp_path / "out")
    assert "of 2 moments" in found.summary[0]
    assert "at the last, 100 % of training" in found.summary[0]
    assert "The runs have 701 to 750 steps: they are compared after equal shares" in " ".join(found.summary)
    page = found.page.read_text()
    assert "Spectra, 100 % of training" in page
    assert "% of training</text>" in page
    numbers = json.loads((tmp_path / "out" / "dynamics.json").read_text())
    assert numbers["moments"]["steps"] == {"imax": [0, 375, 750], "dmax": [0, 351, 701]}


def test_numbers_of_the_last_moment_are_those_of_the_last_that_all_have(tmp_path):
    """One run was measured further than the other."""
    folders = [
        fakes.run(tmp_path / "imax", recipe="imax", steps=(0, 10, 20)),
        fakes.run(tmp_path / "dmax", recipe="dmax", steps=(0, 10)),
    ]
    both, short = (analyse(runs.read(some)) for some in (folders, [folders[1]]))
    (alone,) = analyse(runs.read([fakes.run(tmp_path / "x" / "imax", steps=(0, 10))]))["runs"]
    assert both["moments"]["at"] == [0, 10]
    assert both["runs"][0]["spectrum"] == alone["spectrum"]
    assert both["runs"][1]["spectrum"] == short["runs"][0]["spectrum"]
    assert [one["step"] for one in both["runs"][0]["steps"]] == [0, 10, 20]


def test_runs_measured_on_different_entries_are_refused(tmp_path):
    probe = {"digest": "e" * 64, "split": "validation", "seed": 1, "per_task": {}}
    folders = [fakes.run(tmp_path / "a"), fakes.run(tmp_path / "b", probe=probe)]
    with pytest.raises(UserError, match="measured on different probe entries") as caught:
        report.build(folders, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_runs_that_differ_in_the_seed_alone_are_one_group(tmp_path):
    named = [("a/r", 1, "imax"), ("b/r", 2, "imax"), ("c", 2, "imax"), ("d", 1, "dmax")]
    folders = [fakes.run(tmp_path / name, seed=seed, recipe=recipe) for name, seed, recipe in named]
    found = runs.read(folders)
    assert [run.name for run in found] == ["a/r", "b/r", "c", "d"]
    groups = runs.groups(found)
    assert [(group.name, group.seeds) for group in groups] == [("imax", [1, 2]), ("dmax", [1])]
    numbers = analyse(found)
    assert numbers["left_out"] == ["c"]
    assert [run["name"] for run in numbers["runs"]] == ["a/r", "b/r", "d"]
    assert any("Left out, since they repeat a seed: c." in line for line in sentences(numbers))


def test_groups_of_one_recipe_and_runs_of_one_name_can_be_told_apart(tmp_path):
    folders = [fakes.run(tmp_path / name / "x" / "r", seed=1) for name in ("a", "b")]
    for folder, rate in zip(folders, (1, 2), strict=True):
        with (folder / "run.yaml").open("a") as stream:
            stream.write(f"learning_rate: {rate}\n")
    found = runs.read(folders)
    assert len({run.name for run in found}) == 2
    assert len({group.name for group in runs.groups(found)}) == 2
    with pytest.raises(UserError, match="is named twice"):
        runs.read([folders[0], folders[0]])


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs


@pytest.mark.parametrize("count", [1, 6])
def test_the_page_shows_hostile_names_as_text_and_asks_for_nothing(tmp_path, count):
    folders = [
        fakes.run(
            tmp_path / f"{number}{HOSTILE_NAME}",
            recipe=HOSTILE if number % 2 else "imax",
            seed=number,
            steps=(0, 10),
            mixture_hash=HOSTILE,
        )
        for number in range(count)
    ]
    found = report.build(folders, tmp_path / "out")
    text = found.page.read_text()
    page = Page(text)
    assert not page.tags & {"script", "img", "iframe", "link", "object", "form"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "autofocus")]
    assert {value for name, value in page.attributes if name == "href"} <= {
        f"#{part}" for part in re.findall(r'id="(\w+)"', text)
    }
    assert "default-src 'none'" in text
    assert "&lt;img src=x onerror" in text
    assert "{{ 7 * 7 }}" in text  # no template either
    assert len(text) < 200_000 + 40_000 * count
    json.loads((tmp_path / "out" / "dynamics.json").read_text(), parse_constant=pytest.fail)
    assert (tmp_path / "out" / "summary.md").read_text() == "".join(f"- {line}\n" for line in found.summary)
