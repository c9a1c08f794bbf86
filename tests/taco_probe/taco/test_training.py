"""Training an encoder: fusions, going on after a kill, what a run folder holds, embedding."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data_recipes.errors import UserError
from taco_probe.taco.embed import embed, embed_with, untrained
from taco_probe.taco.encoder import TaskEncoder
from taco_probe.taco.pool import Pool
from taco_probe.taco.settings import Settings, read_settings, settings_of, write_settings
from taco_probe.taco.training import CHECKPOINT, LOG, SETTINGS, WEIGHTS, ahead, pace, train
from taco_probe.taco.views import Pairs
from tests.taco_probe.taco.factories import made_up_pool, tiny


def images(seed: int, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def trained(settings: Settings, run: Path, **options: int) -> dict[str, torch.Tensor]:
    run.mkdir(parents=True, exist_ok=True)
    write_settings(settings, run / SETTINGS)
    train(settings, made_up_pool(settings), run, quiet=True, **options)
    return load_file(run / WEIGHTS)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("fusion", ["concat6", "two_tower", "diff"])
def test_every_fusion_sees_both_images_and_their_order(fusion: str):
    encoder = TaskEncoder(tiny(fusion=fusion)).eval()
    a, b, c = images(0), images(1), images(2)
    with torch.inference_mode():
        found = {name: encoder.embed(Pairs(*pair)) for name, pair in
                 {"ab": (a, b), "ba": (b, a), "ac": (a, c), "cb": (c, b)}.items()}  # fmt: skip
    assert found["ab"].shape == (3, encoder.width)
    for other in ("ba", "ac", "cb"):
        assert (found["ab"] - found[other]).abs().max() > 1e-3
    assert encoder.width == (1024 if fusion == "two_tower" else 512)
    assert encoder(a, b).shape == (3, 8)


def test_two_towers_are_one_network():
    encoder = TaskEncoder(tiny(fusion="two_tower")).eval()
    with torch.inference_mode():
        left, right = encoder.embed(Pairs(images(0), images(1))).chunk(2, dim=1)
        first, second = encoder.embed(Pairs(images(1), images(0))).chunk(2, dim=1)
    assert torch.allclose(left, second, atol=1e-5)
    assert torch.allclose(right, first, atol=1e-5)


def test_weights_of_imagenet_can_be_started_from(tmp_path: Path):
    source = TaskEncoder(tiny(fusion="two_tower", seed=9)).backbone
    plain = {name: value.contiguous() for name, value in source.state_dict().items()}
    save_file(plain, tmp_path / "r18.safetensors")
    torch.save(plain | {"fc.weight": torch.zeros(1000, 512)}, tmp_path / "r18.pth")
    for name in ("r18.safetensors", "r18.pth"):
        settings = tiny(weights=str(tmp_path / name))
        taken = TaskEncoder(settings).backbone
        assert torch.equal(taken.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
        # two equal images give what one gave
        half = taken.conv1.weight
        assert torch.allclose(half[:, :3] + half[:, 3:], source.conv1.weight, atol=1e-6)
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    for name in ("bad.pth", "none.pth"):
        with pytest.raises(UserError, match=name):
            TaskEncoder(tiny(weights=str(tmp_path / name)))
    with pytest.raises(UserError, match="not the weights of this encoder"):
        TaskEncoder(tiny(encoder="resnet50", weights=str(tmp_path / "r18.pth")))


def test_weights_are_by_the_seed_and_leave_other_chance_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one = TaskEncoder(tiny(seed=1)).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert same(one, TaskEncoder(tiny(seed=1)).state_dict())
    assert not same(one, TaskEncoder(tiny(seed=2)).state_dict())


def test_the_loss_falls_and_every_step_is_logged(tmp_path: Path):
    settings = tiny(steps=25, learning_rate=2e-3, failures="none")
    trained(settings, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 26))
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_run_that_goes_on_ends_with_the_same_weights(tmp_path: Path, precision: str):
    settings = tiny(steps=6, mixed_precision=precision)
    whole = trained(settings, tmp_path / "whole", save_steps=0)

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        raise KilledError

    run = tmp_path / "killed"
    run.mkdir()
    with pytest.raises(KilledError):
        train(settings, made_up_pool(settings), run, save_steps=3, quiet=True, on_save=kill)
    (run / LOG).open("a").write('{"step": 4, "loss": 9}\n{"ste')  # written after the checkpoint, and torn
    assert same(whole, trained(settings, run, save_steps=3))
    losses = [[json.loads(line)["loss"] for line in (tmp_path / name / LOG).read_text().splitlines()]
              for name in ("whole", "killed")]  # fmt: skip
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_run_that_is_killed_hard_ends_with_the_same_weights(tmp_path: Path):
    settings = tiny(steps=40)
    whole = trained(settings, tmp_path / "whole", save_steps=0)
    run = tmp_path / "killed"
    run.mkdir()
    code = (
        "import sys; from pathlib import Path; from taco_probe.taco.training import train\n"
        "from tests.taco_probe.taco.factories import made_up_pool, tiny\n"
        "import torch; torch.set_num_threads(1)\n"
        "s = tiny(steps=40); train(s, made_up_pool(s), Path(sys.argv[1]), save_steps=2, quiet=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    child = subprocess.Popen([sys.executable, "-c", code, str(run)], env=environment)
    while not (run / CHECKPOINT).exists() and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (run / WEIGHTS).exists()
    torch.set_num_threads(1)
    assert same(whole, trained(settings, run))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path):
    run = tmp_path / "run"
    trained(tiny(steps=3), run, save_steps=2)
    with pytest.raises(UserError, match=r"last\.safetensors was written with other settings"):
        train(tiny(steps=5), made_up_pool(tiny()), run, quiet=True)


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="learning_rate"):
        trained(tiny(learning_rate=1e30, warmup=0.0), tmp_path / "run")


def test_the_learning_rate_rises_and_falls_to_nothing():
    settings = tiny(steps=20, warmup=0.25)
    rates = [pace(step, settings) for step in range(1, 22)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[5] == 1
    assert rates[20] == pytest.approx(0)
    assert rates[19] > 0
    assert pace(1, tiny(warmup=0.0)) == 1


def test_reading_ahead_keeps_order_and_passes_errors_on():
    assert list(ahead(lambda number: number**2, 3, 9)) == [9, 16, 25, 36, 49, 64]
    assert list(ahead(lambda number: number, 5, 5)) == []
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 // (number - 7), 0, 20))


def test_embeddings_do_not_depend_on_the_batch_and_come_with_their_rows(tmp_path: Path):
    settings = tiny(failures="none")
    run = tmp_path / "run"
    trained(settings, run)
    pool = made_up_pool(settings, seed=4)
    one, many = embed(run, pool, batch_size=7), embed(run, pool, batch_size=100)
    assert one.vectors.shape == (len(pool), 512)
    assert np.allclose(one.vectors, many.vectors, atol=1e-4)
    assert one.rows.equals(pool.rows)
    assert not np.allclose(one.vectors, untrained(settings, pool, 1).vectors, atol=1e-2)


def test_an_untrained_encoder_is_by_its_seed():
    settings, pool = tiny(), made_up_pool(tiny(), each=3)
    one, other = (untrained(settings, pool, seed).vectors for seed in (1, 2))
    assert np.array_equal(one, untrained(settings, pool, 1).vectors)
    assert not np.allclose(one, other)
    assert np.isfinite(one).all()


def test_an_untrained_encoder_has_none_of_the_weights_that_training_began_with(tmp_path: Path):
    settings, pool = tiny(weights=str(tmp_path / "gone.pth")), made_up_pool(tiny(), each=3)
    assert np.array_equal(untrained(settings, pool, 1).vectors, untrained(tiny(), pool, 1).vectors)


@pytest.mark.parametrize("broken", ["empty", "cut", "other", "bare"])
def test_a_broken_checkpoint_is_refused_in_one_line(tmp_path: Path, broken: str):
    run = tmp_path / "run"
    settings = tiny(steps=3)
    trained(settings, run, save_steps=2)
    (run / WEIGHTS).unlink()
    file = run / CHECKPOINT
    about = {"step": "2", "settings": settings.model_dump_json()}
    if broken == "empty":
        file.write_bytes(b"")
    elif broken == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        save_file({"x": torch.zeros(2)}, file, about if broken == "other" else None)
    with pytest.raises(UserError, match=r"last\.safetensors is broken: .*delete it"):
        train(settings, made_up_pool(tiny()), run, quiet=True)


def test_the_control_that_sees_targets_alone_is_blind_to_inputs():
    pool = made_up_pool(tiny(), each=3)
    other = Pool(255 - pool.inputs, pool.targets, pool.rows)
    for view, blind in (("target", True), ("both", False)):
        settings = tiny(view=view)
        encoder = TaskEncoder(settings)
        found = [embed_with(encoder, settings, one).vectors for one in (pool, other)]
        assert np.array_equal(*found) == blind


def test_a_run_that_is_not_finished_or_broken_says_so(tmp_path: Path):
    with pytest.raises(UserError, match="no run of imax taco train"):
        embed(tmp_path, made_up_pool(tiny()))
    write_settings(tiny(), tmp_path / SETTINGS)
    with pytest.raises(UserError, match="not finished"):
        embed(tmp_path, made_up_pool(tiny()))
    (tmp_path / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(UserError, match="broken"):
        embed(tmp_path, made_up_pool(tiny()))


def test_settings_survive_their_file_and_mistakes_are_named(tmp_path: Path):
    write_settings(tiny(), tmp_path / SETTINGS)
    assert read_settings(tmp_path / SETTINGS) == tiny()
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        settings_of({"temprature": 0.1}, "file")
    with pytest.raises(UserError, match="file: steps"):
        settings_of({"steps": 0}, "file")
    with pytest.raises(UserError, match="unknown task 'rotatoin'"):
        settings_of({"tasks_used": ("rotatoin", "shear")}, "file")
    with pytest.raises(UserError, match="trained on and held out"):
        settings_of({"datasets": ("a",), "held_out": ("a",)}, "file")


_SHARE = """
import sys, torch
from taco_probe.taco.loss import supervised_contrastive
from taco_probe.taco.training import over_processes, processes
accelerator = processes()
assert accelerator.num_processes == 2
torch.manual_seed(0)
layer = torch.nn.Linear(6, 4)
x, labels = torch.randn(9, 6), torch.tensor([0, 0, 1, 1, 2, 2, -1, 0, 1])
share = slice(accelerator.process_index, None, 2)
model = accelerator.prepare(layer)
vectors, marks = over_processes(model(x[share]), labels[share], accelerator)
loss = supervised_contrastive(vectors, marks, 0.5)
accelerator.backward(loss * accelerator.num_processes)
torch.manual_seed(0)
whole = torch.nn.Linear(6, 4)
expected = supervised_contrastive(whole(x), labels, 0.5)
expected.backward()
assert torch.allclose(loss, expected, atol=1e-6), (loss, expected)
assert torch.allclose(layer.weight.grad, whole.weight.grad, atol=1e-6)
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradient_of_one(tmp_path: Path):
    (tmp_path / "share.py").write_text(_SHARE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(tmp_path / "share.py")], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
