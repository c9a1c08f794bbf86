"""The `imax` command: lazy, and brief about mistakes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).resolve().parents[2]


def imax(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    streams = capsys.readouterr()
    return caught.value.code, streams.out, streams.err


def test_help_lists_every_command_without_importing_torch():
    code = "import sys; from harness import cli; cli.run(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_of_the_table_exists(name):
    module, _, text = cli.COMMANDS[name]
    assert importlib.util.find_spec(module)
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evla"], "error: unknown command 'evla': did you mean 'eval'?"),
        (["doctor", "--verbos"], "error: No such option: --verbos"),
        (["--versoin"], "error: No such option: --versoin"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, message):
    code, _, said = imax(capsys, *arguments)
    assert code == 2
    assert said.startswith(message)
    assert said.count("\n") == 1


def test_version_and_no_arguments(capsys):
    assert imax(capsys, "--version")[1].startswith("imax-harness ")
    code, said, _ = imax(capsys)
    assert code == 0
    assert "leaderboard" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        ["-c", "import sys; from harness.cli import main; main(['train', *sys.argv[1:]])"],
        ["-I", str(ROOT / "harness" / "train.py")],  # -I: nothing of the surroundings is on the path
    ],
    ids=["imax train", "script"],
)
def test_train_keeps_its_exit_code_and_shows_no_traceback(tmp_path, start):
    command = [sys.executable, *start, "--lora_rr", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown flag '--lora_rr': did you mean '--lora_r'?" in done.stderr
    assert "Traceback" not in done.stderr
