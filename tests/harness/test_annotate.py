"""Pseudo-annotation of a small decentralised phantom mixture, by a model that answers by rote."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model

from data_recipes.errors import UserError
from data_recipes.pseudo import truth
from data_recipes.pseudo.spec import read_annotation
from data_recipes.recipe import build, load_recipe
from data_recipes.records import fill_slots
from data_recipes.store import read_mixture, write_mixture
from data_recipes.tasks import TASKS
from eval.backends import Output
from harness import annotate as work
from harness.annotate import annotate
from harness.cli import main
from model_adapters.registry import load_adapter

ROOT = Path(__file__).resolve().parents[2]
FAST = {"likelihood": False, "agreement": False, "consistency": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A decentralised mixture of about 40 small training images."""
    home = tmp_path_factory.mktemp("home")
    changes = {
        "match.changes": {"images": {"train": 14, "validation": 2, "test": 4}, "options": {"size": 64}}
    }
    changes |= {f"sources.{task}.options.size": 64 for task in TASKS}
    before = os.environ.get("IMAX_HOME")
    os.environ["IMAX_HOME"] = str(home)
    try:
        return build(load_recipe("dmax", changes), home / "dmax", progress=False)
    finally:
        os.environ.pop("IMAX_HOME") if before is None else os.environ.update(IMAX_HOME=before)


@pytest.fixture
def run(tmp_path, folder):
    """A run folder with the files that say who answered; nobody loads them."""
    return make_run(tmp_path / "run", folder)


def make_run(path, mixture):
    (path / "adapter").mkdir(parents=True)
    (path / "adapter" / "adapter_config.json").write_text("{}")
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    settings = {"recipe": "dmax", "model": "tiny", "mixture": str(mixture), "mixture_hash": "h"}
    (path / "run.yaml").write_text(yaml.safe_dump(settings))
    return path


class Rote:
    """Answers truly but for every fifth question, of which it is less sure. Dies after so many outputs."""

    dies_after: int | None = None
    given = 0

    def __init__(self, folder):
        mixture = read_mixture(folder)
        self.scenes = truth.scenes(mixture, mixture.images)
        self.codec = load_adapter("tiny").codec

    def outputs(self, asked, limits, *, seeds, temperature):
        questions = [(one.picture, entry) for one in asked for entry in one.entries]
        for number, (picture, entry) in enumerate(questions):
            if Rote.given == Rote.dies_after:
                raise KeyboardInterrupt
            Rote.given += 1
            wrong = sum(entry.entry_id.encode()) % 5 == 0
            found = truth.true_answer(entry, self.scenes[entry.image_id], np.random.default_rng(1))
            text = "42 ?"
            if found and not wrong:
                boxes = [self.codec.write(box, picture.width, picture.height) for box in found.boxes]
                text = fill_slots(found.text, boxes)
            elif seeds[number] is not None:
                text = "no"
            yield number, Output(text, -0.9 if wrong else -0.1)


@pytest.fixture
def rote(monkeypatch, folder):
    Rote.dies_after, Rote.given = None, 0
    one = Rote(folder)
    monkeypatch.setattr(work, "load_model", lambda *_: None)
    monkeypatch.setattr(work, "Transformers", lambda *_: one)
    return one


def settings(folder, **changes):
    filters = changes.pop("filters", {})
    return read_annotation({"mixture": str(folder), "samples": 1, "filters": filters} | changes)


def make(folder, run, out, **changes):
    return annotate(
        settings(folder, **changes),
        model="tiny",
        adapter_folder=run / "adapter",
        out=out,
        seed=0,
        progress=False,
    )


def content(out):
    mixture = read_mixture(out)
    return mixture.images, mixture.entries


def test_a_pseudo_mixture_is_dense_and_holds_out_what_was_held_out(folder, run, rote, tmp_path):
    out = make(folder, run, tmp_path / "out", filters={"likelihood": False})
    before, made = read_mixture(folder), read_mixture(out)
    names = {path.name for path in out.iterdir()}
    assert {"images.parquet", "entries.parquet", "mixture.json", "README.md", "pseudo.json"} <= names
    train = made.meta["counts"]["train"]
    (note,) = [line for line in made.meta["notes"] if line.startswith("SHORT")]
    assert f"on {train['images']} images" in note
    short = [(int(got), int(wanted)) for got, wanted in re.findall(r"(\d+) of (\d+)", note)]
    assert train["entries"] == round(7.46 * 14) - sum(wanted - got for got, wanted in short)
    assert made.meta["density"]["tasks_per_image"] == pytest.approx(4.10, abs=0.5)
    for split in ("validation", "test"):
        assert list(made.of_split(split)) == list(before.of_split(split))
    own = {e.entry_id: e for e in before.entries}
    train = [e for _, e in made.of_split("train")]
    pseudo = [e for e in train if e.entry_id not in own]
    annotated = {i.image_id for i in made.images if i.split == "train"}
    assert [e for e in train if e.entry_id in own] == [own[e.entry_id] for e in train if e.entry_id in own]
    assert {e.entry_id for _, e in before.of_split("train") if e.image_id in annotated} <= {
        e.entry_id for e in train
    }
    assert all(e.provenance.startswith("pseudo/model=") for e in pseudo)
    for image in made.images:
        assert (out / image.path).samefile(folder / image.path)  # linked, not copied
    assert not list(tmp_path.glob(".out*"))


def test_every_pseudo_entry_says_where_it_comes_from(folder, run, rote, tmp_path):
    out = make(folder, run, tmp_path / "out", images=14)
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    used = {line["entry_id"]: line for line in lines if line["used"]}
    pseudo = {e.entry_id: e for e in read_mixture(out).entries if e.provenance.startswith("pseudo/")}
    assert used.keys() == pseudo.keys()
    weights = json.loads((out / "pseudo.json").read_text())["weights"]
    for name, entry in pseudo.items():
        said, source, task, kind = entry.provenance.removeprefix("pseudo/").split("/")
        facts = dict(part.split("=") for part in said.split(";"))
        assert facts == {
            "model": weights[:12],
            "run": "run",
            "log_probability": f"{used[name]['log_probability']:.4f}",
            "agreement": f"{used[name]['agreement']:.4f}",
            "passed": "parse+likelihood+agreement+consistency",
        }
        assert (source, task, kind) == ("phantom", entry.task, entry.kind)
        assert len(weights) == 64


def test_the_report_counts_and_judges(folder, run, rote, tmp_path):
    out = make(folder, run, tmp_path / "out", images=20, filters={"likelihood": 0.75})
    report = json.loads((out / "pseudo.json").read_text())
    assert (report["images"], report["truth_known"]) == (20, 20)
    for task, found in report["tasks"].items():
        left = [row["left"] for row in found["funnel"]]
        assert left == sorted(left, reverse=True)
        assert found["asked"] == left[0] >= found["kept"] == left[-1] >= found["used"]
        assert found["judged"] == found["asked"]
        if task != "report":  # whose wording is drawn
            assert found["funnel"][-1]["value"] == 100 > found["funnel"][0]["value"]
    card = (out / "README.md").read_text()
    assert "## Pseudo-labels" in card
    assert f"| severity | {report['tasks']['severity']['asked']} |" in card


def test_without_filters_and_own_entries_all_that_can_be_read_is_offered(folder, run, rote, tmp_path):
    out = make(folder, run, tmp_path / "out", images=7, filters=FAST, keep_own=False)
    own = {e.entry_id for e in read_mixture(folder).entries}
    assert not [e for _, e in read_mixture(out).of_split("train") if e.entry_id in own]
    tasks = json.loads((out / "pseudo.json").read_text())["tasks"]
    assert tasks["report"]["asked"] == 7  # own tasks are asked too
    assert [row["filter"] for row in tasks["report"]["funnel"]] == ["asked", "parse"]


@pytest.mark.parametrize(("share", "number"), [(0.02, 1), (0.6, 2), (0.97, 3)])
def test_a_killed_annotation_goes_on_with_the_rest(folder, run, rote, tmp_path, share, number):
    whole = make(folder, run, tmp_path / "whole", images=20)
    everything, Rote.given = Rote.given, 0
    after = Rote.dies_after = int(share * everything)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        make(folder, run, out, images=20)
    assert not out.exists()
    assert len(list((tmp_path / ".out.answers").glob("round-*.meta.json"))) == number
    Rote.dies_after = None
    make(folder, run, out, images=20)
    assert after <= Rote.given <= everything + 1  # half a question (its draw) may be asked again
    assert content(out) == content(whole)
    assert (out / "pseudo.json").read_bytes() == (whole / "pseudo.json").read_bytes()
    assert not list(tmp_path.glob(".out*"))


def test_what_is_built_is_found_and_something_else_is_not_overwritten(folder, run, rote, tmp_path):
    out = make(folder, run, tmp_path / "out", images=7)
    given = Rote.given
    make(folder, run, out, images=7)
    assert Rote.given == given
    with pytest.raises(UserError, match="holds another mixture"):
        make(folder, run, out, images=8)


def test_a_wrong_truth_changes_the_report_and_not_the_mixture(folder, run, rote, tmp_path, monkeypatch):
    honest = make(folder, run, tmp_path / "honest", images=14)
    scenes = truth.scenes

    def wrong(mixture, images, **kwargs):
        return {
            name: replace(scene, ctr=1.0, cpar=1.9, edema=3 - scene.edema, abnormalities=())
            for name, scene in scenes(mixture, images).items()
        }

    monkeypatch.setattr(work.truths, "scenes", wrong)
    planted = make(folder, run, tmp_path / "planted", images=14)
    assert content(planted) == content(honest)
    assert (planted / "answers.jsonl").read_bytes() == (honest / "answers.jsonl").read_bytes()
    reports = [json.loads((out / "pseudo.json").read_text())["tasks"] for out in (honest, planted)]
    assert reports[0]["calculation"]["used_value"] == 100
    assert reports[1]["calculation"]["used_value"] == 0


def test_oracle_labels_are_true_and_about_the_same_images(folder, run, rote, tmp_path):
    model = make(folder, run, tmp_path / "model", images=14)
    given = Rote.given
    out = make(folder, run, tmp_path / "oracle", images=14, labels="truth")
    assert Rote.given == given  # no model answered
    images = [[i for i in read_mixture(one).images if i.split == "train"] for one in (model, out)]
    assert images[0] == images[1]
    asked = [
        {line["entry_id"]: line["prompt"] for line in map(json.loads, (one / "answers.jsonl").open())}
        for one in (model, out)
    ]
    first = {name for name in asked[0] if "/1-" in name}
    assert {name: asked[1][name] for name in first} == {name: asked[0][name] for name in first}
    for found in json.loads((out / "pseudo.json").read_text())["tasks"].values():
        assert found["funnel"][0]["value"] == pytest.approx(100)
        assert found["without_truth"] == 0
        assert not found["contradicted"]


def test_oracle_labels_need_a_source_that_knows_the_truth(folder, run, rote, tmp_path, monkeypatch):
    monkeypatch.setattr(work.truths, "scenes", lambda *_, **__: {})
    with pytest.raises(UserError, match=r"source phantom of image .* does not"):
        make(folder, run, tmp_path / "out", images=7, labels="truth")
    out = make(folder, run, tmp_path / "model", images=7)
    report = json.loads((out / "pseudo.json").read_text())
    assert report["truth_known"] == 0
    assert "headline" not in report["tasks"]["vqa"]
    assert "| - | - | - | - |" in (out / "README.md").read_text()


def planted(folder, where, change):
    """A copy of the mixture with one of its images changed."""
    mixture = read_mixture(folder)
    held = next(i for i in mixture.images if i.split == "test")
    victim = next(i for i in mixture.images if i.split == "train")
    images = tuple(change(i, held) if i == victim else i for i in mixture.images)
    (where / "images").mkdir(parents=True)
    for image in mixture.images:
        PIL.Image.open(folder / image.path).save(where / image.path)
    write_mixture(replace(mixture, images=images), where)
    return where, victim, held


def test_an_image_of_a_test_patient_is_caught(folder, run, rote, tmp_path):
    where, victim, held = planted(
        folder, tmp_path / "bad", lambda image, held: replace(image, patient_id=held.patient_id)
    )
    with pytest.raises(UserError, match=f"leakage: patient {held.patient_id} of image {victim.image_id}"):
        make(where, run, tmp_path / "out", images=1000)
    assert not (tmp_path / "out").exists()
    assert Rote.given == 0


def test_a_copy_of_a_test_image_is_caught_by_its_pixels(folder, run, rote, tmp_path):
    where, victim, held = planted(folder, tmp_path / "bad", lambda image, held: image)
    PIL.Image.open(where / held.path).save(where / victim.path, compress_level=0)
    with pytest.raises(UserError, match=f"leakage: image {victim.image_id}, pixel by pixel, is in the test"):
        make(where, run, tmp_path / "out", images=1000)


def test_what_the_models_own_mixture_holds_out_is_caught(folder, run, rote, tmp_path):
    """The mixture is sound in itself; the run was trained on one that holds one of its patients out."""
    where, victim, _ = planted(folder, tmp_path / "theirs", lambda image, held: replace(image, split="test"))
    other = make_run(tmp_path / "other", where)
    with pytest.raises(UserError, match=rf"leakage: 1 patients .* of run other .* {victim.patient_id}"):
        make(folder, other, tmp_path / "out", images=1000)
    assert Rote.given == 0


def test_a_copy_of_what_the_models_own_mixture_holds_out_is_caught_by_its_pixels(folder, run, rote, tmp_path):
    def unknown(image, held):
        return replace(image, split="test", image_id=f"{image.image_id}x", patient_id="somebody")

    where, victim, _ = planted(folder, tmp_path / "theirs", unknown)
    other = make_run(tmp_path / "other", where)
    with pytest.raises(UserError, match=f"{victim.image_id}, pixel by pixel, .* the model has learnt from"):
        make(folder, other, tmp_path / "out", images=1000)


@pytest.fixture
def taught(folder, tmp_path):
    """A mixture whose training split has a patient that `folder` holds out."""
    return planted(
        folder, tmp_path / "taught", lambda image, held: replace(image, patient_id=held.patient_id)
    )


@pytest.mark.parametrize("how", ["itself", "mixed in", "a stage", "started from"])
def test_a_model_that_was_trained_on_a_test_patient_may_not_annotate(folder, taught, rote, tmp_path, how):
    where, _, held = taught
    other = make_run(tmp_path / "other", where if how == "itself" else folder)
    more: dict[str, object] = {}
    if how == "mixed in":
        more = {"mix": [str(where)], "mix_hashes": [read_mixture(where).meta["mixture_hash"]]}
    if how == "a stage":
        make_run(other / "stages" / "1-first", where)
    if how == "started from":
        more = {"start": str(make_run(tmp_path / "before", where))}
    said = yaml.safe_load((other / "run.yaml").read_text())
    (other / "run.yaml").write_text(yaml.safe_dump(said | more))
    with pytest.raises(UserError, match=f"leakage: 1 patients .* mixture {folder} .* {held.patient_id}"):
        make(folder, other, tmp_path / "out", images=1000)
    assert not (tmp_path / "out").exists()
    assert Rote.given == 0


def test_a_run_without_weights_is_refused(folder, run, rote, tmp_path):
    (run / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no trained adapter"):
        make(folder, run, tmp_path / "out")


def test_where_no_answer_is_kept_it_says_so(folder, run, rote, tmp_path):
    rote.scenes = dict.fromkeys(rote.scenes, next(iter(rote.scenes.values())))
    rote.outputs = lambda asked, limits, **_: ((number, Output("?", -1.0)) for number in range(len(limits)))
    with pytest.raises(UserError, match=r"none of .* answers was kept"):
        make(folder, run, tmp_path / "out", images=7, tasks=["severity", "calculation"])


def real_run(path, mixture):
    """A run with an untrained adapter of the tiny model."""
    adapter = load_adapter("tiny")
    model = adapter.load_model(dtype=torch.float32)
    get_peft_model(model, LoraConfig(r=2, target_modules=adapter.lora_targets)).save_pretrained(
        path / "adapter"
    )
    settings = {"recipe": "dmax", "model": "tiny", "mixture": str(mixture), "mixture_hash": "h"}
    (path / "run.yaml").write_text(yaml.safe_dump(settings))
    return path


COMMAND = """
import sys, torch
torch.set_num_threads(1)
from harness.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_killed_with_the_model_at_work_goes_on(folder, tmp_path):
    run, env = (
        real_run(tmp_path / "run", folder),
        os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    arguments = ["annotate", str(run), "--mixture", str(folder), "--images", "7", "--likelihood", "off",
                 "--agreement", "off", "--no-consistency", "--threads", "1",
                 "--tasks", "severity,vqa"]  # fmt: skip

    def start(out):
        return subprocess.Popen([sys.executable, "-c", COMMAND, *arguments, "--out", str(out)], env=env)

    assert start(tmp_path / "whole").wait() == 0
    killed = start(tmp_path / "killed")
    part = tmp_path / ".killed.answers" / "round-1.part-0.jsonl"
    while not (part.exists() and part.stat().st_size) and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed").exists()
    assert start(tmp_path / "killed").wait() == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_the_command_lets_the_model_answer_and_prints_the_table(folder, tmp_path, capsys):
    run = real_run(tmp_path / "run", folder)
    file = tmp_path / "annotate.yaml"
    file.write_text(f"mixture: {folder}\nimages: 7\nsamples: 1\nfilters: {{likelihood: off}}\n")
    out = tmp_path / "out"
    arguments = ["annotate", str(run), "--settings", str(file), "--out", str(out), "--agreement", "off"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--images", "2", "--no-consistency", "--tasks", "report,vqa", "--threads", "1"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0, shown
    assert "2 images, 2 with known truth" in shown
    report = json.loads((out / "pseudo.json").read_text())
    assert report["annotation"]["filters"]["likelihood"] is False
    assert report["annotation"]["tasks"] == ["report", "vqa"]
    assert math.isfinite(report["tasks"]["report"]["calibration"]["expected_error"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--out", "x"], "say whose images are annotated"),
        (["RUN", "--mixture", "dmax"], "--out FOLDER"),
        (
            ["RUN", "--mixture", "dmax", "--out", "x", "--agreement", "high"],
            "give a number from 0 to 1, or off",
        ),
        (
            ["RUN", "--mixture", "dmax", "--out", "x", "--labels", "oracle"],
            "unknown labels 'oracle': Known: model, truth",
        ),
        (["RUN", "--mixture", "dmax", "--out", "x", "--settings", "none.yaml"], "none.yaml: can't read"),
        (["nowhere", "--mixture", "dmax", "--out", "x"], "nowhere is not a run folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_one_line(run, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["annotate", *(str(run) if word == "RUN" else word for word in arguments)])
    told = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert message in told
    assert len(told.splitlines()) == 1


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["annotate", "--help"])
    shown = capsys.readouterr().out
    for word in ("--mixture", "--out", "--likelihood", "pseudo.json", "imax annotate runs/dmax"):
        assert word in shown
