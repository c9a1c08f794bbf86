"""House rules that no single file shows: who may import whom, and that the five packages are ours."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data_recipes", "model_adapters", "eval", "taco_probe", "harness")  # each imports those before it


def imported_packages(path: Path) -> set[str]:
    """Top-level names that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_packages_to_its_left(package: str):
    allowed = set(PACKAGES[: PACKAGES.index(package) + 1])
    for path in (ROOT / package).rglob("*.py"):
        wrong = (imported_packages(path) & set(PACKAGES)) - allowed
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_the_lowest_floor_does_without_torch_at_import():
    code = (
        "import sys, data_recipes.recipe, data_recipes.annotate, data_recipes.sources.phantom;"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_packages_are_this_projects_from_another_directory_too(tmp_path: Path):
    """`eval` and `harness` are names that other distributions use as well."""
    code = (
        "import importlib, pathlib\n"
        f"for name in {PACKAGES!r}:\n"
        "    print(pathlib.Path(importlib.import_module(name).__file__).resolve().parent.parent)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert set(done.stdout.split()) == {str(ROOT)}


def test_entry_scripts_define_functions_only():
    """A class in a script would exist twice: as `__main__.X` and as `harness.train.X`."""
    tree = ast.parse((ROOT / "harness" / "train.py").read_text(encoding="utf-8"))
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_nothing_hides_the_standard_library():
    for package in PACKAGES:
        names = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
        assert not names & set(sys.stdlib_module_names), f"{package}: {names & set(sys.stdlib_module_names)}"


def test_no_pickle_and_no_remote_code():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "pickle" not in imported_packages(path), path
            assert "trust_remote_code=True" not in text, path


def test_the_readme_tree_is_up_to_date():
    subprocess.run([sys.executable, "docs/make_tree.py", "--check"], check=True, cwd=ROOT)
