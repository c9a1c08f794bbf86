"""Measurements on disk: whole or not there, and compared only on equal probe sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_recipes.errors import UserError
from taco_probe.dynamics import measurement
from taco_probe.dynamics.measurement import FOLDER, Part, read, read_lora, series, steps, write
from tests.taco_probe.dynamics import fakes


def test_a_measurement_reads_back_as_it_was_written(tmp_path):
    found = fakes.measured(10)
    write(found, tmp_path)
    again, lora = read(tmp_path, 10), read_lora(tmp_path, 10)
    assert again.facts == found.facts
    assert again.grams.keys() == found.grams.keys()
    assert all(np.array_equal(again.grams[part], found.grams[part]) for part in found.grams)
    assert all(np.array_equal(lora[name], found.lora[name]) for name in found.lora)
    (tmp_path / "step-10.lora.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="these weights are broken"):
        read_lora(tmp_path, 10)


def test_gram_matrices_of_parts_add_up():
    found = fakes.measured(10)
    both = [found.grams[Part("true", "gauge", "early", kind)] for kind in ("attention", "mlp")]
    added = both[0].astype(float) + both[1]
    assert np.allclose(found.gram("true", "gauge", lambda part: part.third == "early"), added, rtol=1e-12)
    with pytest.raises(UserError, match="step 10 has no true Gram matrix in form adam; it has: empirical ga"):
        found.gram("true", "adam")


def test_a_measurement_counts_only_when_its_json_is_there(tmp_path):
    for step in (20, 3):
        write(fakes.measured(step), tmp_path)
    (tmp_path / "step-20.json").unlink()
    (tmp_path / "step-9.json.partial").write_text("{")
    assert steps(tmp_path) == [3]
    assert steps(tmp_path / "none") == []


def test_a_kill_while_measuring_again_leaves_no_measurement_rather_than_a_mixed_one(tmp_path, monkeypatch):
    write(fakes.measured(5), tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement.safetensors.numpy, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write(fakes.measured(5, seed=1), tmp_path)
    assert steps(tmp_path) == []


def tear(path):
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: tear(f / "step-0.json"), "step-0.json: this measurement is broken"),
        (lambda f: tear(f / "step-0.grams.safetensors"), "step-0.json: this measurement is broken"),
        (lambda f: (f / "step-0.grams.safetensors").unlink(), "step-0.json: this measurement is broken"),
        (lambda f: (f / "step-0.json").write_text("[1]"), "step-0.json: this measurement is broken"),
        (lambda f: change(f, schema=99), "is of another version: measure again"),
        (lambda f: change(f, entries=["e0"]), "its Gram matrices are not those of 1 entries"),
    ],
)
def test_torn_missing_and_foreign_files_are_one_line(tmp_path, harm, message):
    run = fakes.run(tmp_path / "run", steps=(0,))
    harm(run / FOLDER)
    with pytest.raises(UserError, match=message) as caught:
        series(run)
    assert "\n" not in str(caught.value)
    assert "measure again" in str(caught.value)


def change(folder, **facts):
    path = folder / "step-0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_run_without_measurements_says_how_to_get_some(tmp_path):
    with pytest.raises(UserError, match="imax dynamics measure"):
        series(fakes.run(tmp_path / "run", steps=()))


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write(fakes.measured(0, seconds={"grams": float("nan")}), tmp_path)
    assert steps(tmp_path) == []
