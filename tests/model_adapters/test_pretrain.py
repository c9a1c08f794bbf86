"""Pretraining of every family's flavour: the same images on the same grid, listings as the adapter writes
them, losses that fall, and killed stages that end as if they had not been killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from data_recipes.errors import UserError
from data_recipes.records import Box
from data_recipes.sources import phantom
from model_adapters.base import IGNORE
from model_adapters.packing import PREFIX
from model_adapters.registry import load_adapter
from model_adapters.tiny import families, material, numerals, pretrain
from model_adapters.tiny.build import SIDE, WIDTH
from model_adapters.tiny.describe import describe
from model_adapters.tiny.read import shared_listings
from model_adapters.tiny.sight import image_tokens
from model_adapters.tiny.steps import Steps

IMAGES = 6
SHORT = ["--images", str(IMAGES), "--workers", "0", "--threads", "1", "--save_steps", "3"]
STEPS = ["--sight_steps", "8", "--sight_batch", "2", "--read_steps", "8", "--batch", "2"]


@pytest.fixture(autouse=True)
def few_words(monkeypatch):
    texts = ["listing: state; nodule = absent", "[0.00, 0.01]"]
    monkeypatch.setattr(families, "corpus", lambda seed: texts)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    material.prepare(folder, images=IMAGES, seed=0, workers=0)
    return folder


@pytest.fixture(scope="module", params=families.FAMILIES)
def adapter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "corpus", lambda seed: ["listing: state; nodule = absent", "[0.00, 0.01]"])
        families.make(request.param, folder, seed=0)
    return load_adapter(str(folder))


@pytest.fixture(scope="module")
def model(adapter):
    return adapter.load_model(dtype=torch.float32).eval()


def test_an_image_has_sixty_four_tokens_and_the_same_pixels_in_every_pass(adapter, rendered):
    pixels, _ = phantom.render(material.RESERVED_SEED, 0, 0)
    seen = adapter.see(PIL.Image.fromarray(pixels))
    assert adapter.prompt_ids("listing: labels", seen).count(adapter.image_id) == material.GRID**2
    kept = material.Material(rendered, adapter).vision(np.array([0, 1]))
    first = kept["pixel_values"].chunk(2)[0]
    assert torch.allclose(first, seen["pixel_values"], atol=2.1 / 255)  # a grey level is 4 / 255


def test_image_tokens_lie_on_the_grid_row_by_row(adapter, model):
    """A spot changes the token of its own square most: the heads ask each token about its square."""
    pixels = np.full((SIDE, SIDE), 90, np.uint8)
    square = SIDE // material.GRID
    with torch.inference_mode():
        plain = image_tokens(model, adapter.see(PIL.Image.fromarray(pixels)))[0]
        assert plain.shape == (material.GRID**2, WIDTH)
        for row, column in ((0, 5), (3, 1), (6, 7)):
            spot = pixels.copy()
            spot[row * square : (row + 1) * square, column * square : (column + 1) * square] = 250
            changed = image_tokens(model, adapter.see(PIL.Image.fromarray(spot)))[0]
            assert (changed - plain).norm(dim=1).argmax() == row * material.GRID + column


def test_branches_and_positions_are_those_of_the_adapters_conversations(adapter, scene):
    rng = np.random.default_rng(4)
    listings = describe(scene, rng, 12)
    image = PIL.Image.new("L", (224, 224))
    vision = adapter.see(image)
    shared = shared_listings(adapter, listings, image.size, rng)
    for number, listing in enumerate(listings):
        where = (shared.owner == PREFIX) | (shared.owner == number)
        boxes = [adapter.codec.write(box, *image.size) for box in listing.boxes]
        header, text = listing.header, listing.text
        for box in boxes:
            if "{box}" in header:
                header = header.replace("{box}", box, 1)
            else:
                text = text.replace("{box}", box, 1)
        alone = adapter.conversation_ids(header, text, vision)
        length = len(alone) - alone[::-1].index(adapter.end_id)
        assert shared.input_ids[where].tolist() == alone[:length]
        positions = adapter.positions({**vision, "input_ids": torch.tensor(alone)})
        assert torch.equal(shared.position_ids[..., where], positions[..., :length])
        labels = shared.labels[(shared.owner == number) & (shared.labels != IGNORE)]
        assert labels[-1] == adapter.end_id
    words = shared.input_ids[shared.owner == len(listings)]
    assert adapter.image_id not in words


def test_a_number_of_a_box_is_one_token_and_spreads_over_its_neighbours(adapter):
    tokenizer = adapter.processor.tokenizer
    text = adapter.codec.write(Box(0.25, 0.5, 0.75, 1.0), SIDE, SIDE)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    top = numerals.highest(adapter.codec)
    numbers = [f"{round(top * share)}" if top else f"{share:.2f}" for share in (0.25, 0.5, 0.75, 1.0)]
    found = tokenizer.convert_tokens_to_ids(numbers)
    assert None not in found
    assert set(found) <= set(ids)
    assert len(ids) <= (15 if adapter.family == "qwen3_vl" else 11)  # its <box> is no special token
    soft = numerals.soft_labels(adapter)
    assert torch.allclose(soft.sum(1), torch.ones(len(soft)), atol=1e-5)
    half = tokenizer.convert_tokens_to_ids(str(top // 2) if top else "0.50")
    near = tokenizer.convert_tokens_to_ids(str(top // 2 + 1) if top else "0.51")
    far = tokenizer.convert_tokens_to_ids(str(top) if top else "1.00")
    assert soft[half, half] > soft[half, near] > 5 * soft[half, far]


def test_losses_fall_and_a_killed_stage_ends_as_if_it_had_not_been(tmp_path, rendered, adapter, monkeypatch):
    monkeypatch.setattr(pretrain, "probe", lambda *_: {})
    descend, losses = Steps.descend, []

    def record(run, loss, parts, images):
        losses.append(loss.item())
        descend(run, loss, parts, images)

    def pretrained(name):
        work, out = tmp_path / name, tmp_path / name / "out"
        work.mkdir(exist_ok=True)
        images = work / f"images-0-{IMAGES}"
        if not images.exists():
            images.symlink_to(rendered)
        flags = ["--family", adapter.family, "--out", str(out), "--work", str(work), *SHORT, *STEPS]
        assert pretrain.main(flags) == 0
        return load_file(out / "model.safetensors")

    monkeypatch.setattr(Steps, "descend", record)
    whole = pretrained("whole")
    assert len(losses) == 16
    for stage in (losses[:8], losses[8:]):
        assert np.mean(stage[-2:]) < np.mean(stage[:2])

    def broken(at):
        """Stops after `at` steps of both stages."""

        def stopped(run, loss, parts, images):
            if len(losses) == at:
                raise KeyboardInterrupt
            record(run, loss, parts, images)

        return stopped

    for at in (5, 5 + 5):  # in sight after its step 5; then, gone on from step 3, in reading after its step 5
        losses.clear()
        monkeypatch.setattr(Steps, "descend", broken(at))
        with pytest.raises(KeyboardInterrupt):
            pretrained("killed")
    losses.clear()
    monkeypatch.setattr(Steps, "descend", record)
    again = pretrained("killed")
    assert len(losses) == 5  # reading from step 3
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_rendering_goes_on_and_a_part_is_never_believed_half(tmp_path, monkeypatch):
    monkeypatch.setattr(material, "_CHUNK", 2)
    render, count = phantom.render_with_masks, [0]

    def dies(*args):
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(phantom, "render_with_masks", dies)
    with pytest.raises(KeyboardInterrupt):
        material.prepare(tmp_path / "killed", images=IMAGES, seed=0, workers=0)
    assert not (tmp_path / "killed" / "done.json").exists()
    material.prepare(tmp_path / "killed", images=IMAGES, seed=0, workers=0)
    assert count[0] == 4 + IMAGES - 2  # the first part was kept
    material.prepare(tmp_path / "whole", images=IMAGES, seed=0, workers=0)
    for name in ("grey.npy", "cover.npy", "scenes.jsonl", "done.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_family_that_cannot_be_pretrained_is_named(capsys, tmp_path):
    assert pretrain.main(["--family", "qwen2_5", "--out", str(tmp_path), "--work", str(tmp_path)]) == 2
    assert "did you mean 'qwen2_5_vl'?" in capsys.readouterr().out
    with pytest.raises(UserError, match="no one grid"):
        families.make("llava_onevision", tmp_path, seed=0)


def test_budgets_fill_in_what_is_left_open():
    small = pretrain.parse(["--out", "x", "--budget", "small", "--read_steps", "7"])
    full = pretrain.parse(["--out", "x"])
    assert small.read_steps == 7
    assert full.family == "llava"
    for key in ("images", "sight_steps"):
        assert getattr(small, key) < getattr(full, key)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_kill_minus_nine_and_the_same_command_again(tmp_path, family):
    command = [sys.executable, "-m", "model_adapters.tiny.pretrain", "--family", family, *SHORT]
    command += ["--sight_steps", "60", "--sight_batch", "2", "--read_steps", "60", "--batch", "2"]
    command += ["--probe_images", "2"]
    root = Path(pretrain.__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}

    def flags(name):
        return [*command, "--work", str(tmp_path / name), "--out", str(tmp_path / name / "out")]

    subprocess.run(flags("whole"), check=True, env=env, capture_output=True)
    for sign in ("sight 50/60", "read 50/60"):
        with subprocess.Popen(flags("killed"), env=env, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                if line.startswith(sign):
                    os.kill(run.pid, signal.SIGKILL)
    done = subprocess.run(flags("killed"), check=True, env=env, capture_output=True, text=True)
    assert "read: goes on after step" in done.stdout
    whole, again = (load_file(tmp_path / name / "out" / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    summaries = [
        json.loads((tmp_path / n / "out" / "pretraining.json").read_text()) for n in ("whole", "killed")
    ]
    assert summaries[0]["held_out"] == summaries[1]["held_out"]
