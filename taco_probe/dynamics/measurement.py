"""One measurement: a model's gradients on the probe set at one step, as files that need no model to be read.

    dynamics/step-<N>.json               what was measured on what: entries, losses, affinity, provenance
    dynamics/step-<N>.grams.safetensors  Gram matrices (n, n), float32, "<fisher>/<form>/<third>/<kind>"
    dynamics/step-<N>.lora.safetensors   the LoRA weights at that step

The JSON file is written last: a measurement is there when it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from data_recipes.errors import UserError
from data_recipes.tables import write_text

SCHEMA = 1
FOLDER = "dynamics"
_NAME = re.compile(r"step-(\d+)\.json")
Array = NDArray[Any]


class Part(NamedTuple):
    """Which gradients a Gram matrix is of: at observed or drawn targets ("empirical", "true"), in which form
    ("factor", "gauge", "adam"), of which third of the layers and which kind of modules."""

    fisher: str
    form: str
    third: str
    kind: str

    @property
    def key(self) -> str:
        return "/".join(self)


@dataclass(frozen=True)
class Measurement:
    """What was found at one step.

    Attributes:
        facts: the content of the JSON file. `entries`, `tasks` and `patients` have one value an entry, in the
            order of the rows of the Gram matrices.
        grams: (n, n) each.
        lora: PEFT's state dict; empty where it was not read.
    """

    facts: Mapping[str, Any]
    grams: Mapping[Part, Array] = field(repr=False)
    lora: Mapping[str, Array] = field(repr=False, default_factory=dict)

    @property
    def step(self) -> int:
        return int(self.facts["step"])

    @property
    def tasks(self) -> list[str]:
        """The task of each entry."""
        return list(self.facts["tasks"])

    @property
    def patients(self) -> list[str]:
        """The patient of each entry."""
        return list(self.facts["patients"])

    def kinds(self) -> list[tuple[str, str]]:
        """The (fisher, form) that were measured, in a fixed order."""
        return sorted({(part.fisher, part.form) for part in self.grams}, key=_order)

    def gram(
        self, fisher: str, form: str, where: Callable[[Part], bool] = lambda part: True
    ) -> NDArray[np.float64]:
        """The Gram matrix (n, n) over all parts for which `where` holds: gradients of disjoint modules add
        up.

        Raises:
            UserError: none was measured.
        """
        chosen = [
            gram
            for part, gram in self.grams.items()
            if (part.fisher, part.form) == (fisher, form) and where(part)
        ]
        if not chosen:
            known = ", ".join(" ".join(kind) for kind in self.kinds())
            raise UserError(f"step {self.step} has no {fisher} Gram matrix in form {form}; it has: {known}")
        return np.asarray(np.stack(chosen).sum(axis=0, dtype=np.float64))


def _order(kind: tuple[str, str]) -> tuple[int, int]:
    fishers, forms = ("empirical", "true"), ("gauge", "factor", "adam")
    return fishers.index(kind[0]), forms.index(kind[1])


def write(found: Measurement, folder: Path) -> Path:
    """Writes the files into `folder` and returns the JSON one."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"step-{found.step}"
    path = folder / f"{stem}.json"
    path.unlink(missing_ok=True)  # a kill from here on leaves no measurement, rather than a mixed one
    for name, tensors in (
        ("grams", {part.key: gram.astype(np.float32) for part, gram in found.grams.items()}),
        ("lora", dict(found.lora)),
    ):
        target = folder / f"{stem}.{name}.safetensors"
        partial = target.with_name(f".{target.name}.partial")
        safetensors.numpy.save_file({key: np.ascontiguousarray(v) for key, v in tensors.items()}, partial)
        partial.chmod(0o644)  # safetensors makes it private
        partial.replace(target)
    write_text(json.dumps({"schema": SCHEMA, **found.facts}, indent=1, allow_nan=False) + "\n", path)
    return path


def steps(folder: Path) -> list[int]:
    """The steps whose measurement is there, whole, in order."""
    names = (match for path in folder.glob("step-*.json") if (match := _NAME.fullmatch(path.name)))
    return sorted(int(match.group(1)) for match in names)


def read(folder: Path, step: int) -> Measurement:
    """The measurement of a step, without the weights (`read_lora`).

    Raises:
        UserError: a file is missing or broken, or of another schema.
    """
    path = folder / f"step-{step}.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.pop("schema", None) != SCHEMA:
            raise UserError(f"{path} is of another version: measure again")
        grams = safetensors.numpy.load_file(folder / f"step-{step}.grams.safetensors")
        parts = {Part(*key.split("/")): gram for key, gram in grams.items()}
        n = len(facts["entries"])
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: this measurement is broken ({str(error)[:80]}): measure again") from None
    if any(gram.shape != (n, n) for gram in parts.values()):
        raise UserError(f"{path}: its Gram matrices are not those of {n} entries: measure again")
    return Measurement(facts, parts)


def read_lora(folder: Path, step: int) -> dict[str, Array]:
    """The LoRA weights of a step, by PEFT's names.

    Raises:
        UserError: the file is missing or broken.
    """
    path = folder / f"step-{step}.lora.safetensors"
    try:
        weights: dict[str, Array] = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: these weights are broken ({str(error)[:80]}): measure again") from None
    return weights


def series(run: Path) -> list[Measurement]:
    """All measurements of a run, in the order of steps.

    Raises:
        UserError: there is none, or one is broken.
    """
    found = [read(run / FOLDER, step) for step in steps(run / FOLDER)]
    if not found:
        raise UserError(
            f"{run} has no measured dynamics: train with --dynamics_steps 0,50%,end, or measure the finished "
            f"run: imax dynamics measure {run}"
        )
    return found


def equal_probes(found: Iterable[Measurement]) -> str:
    """The digest of the probe set that all of these were measured on.

    Raises:
        UserError: they were measured on different ones.
    """
    digests = {str(one.facts["probe"]["digest"]) for one in found}
    if len(digests) > 1:
        raise UserError(
            "these were measured on different probe entries, and entropy and rank depend on which and how "
            "many they are: measure all with the same --dynamics_entries, --dynamics_seed and "
            "--dynamics_mixture"
        )
    return digests.pop()
