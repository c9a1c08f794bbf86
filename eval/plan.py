"""What `imax eval` is asked to score: which weights, on which test set, and where results go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_recipes.errors import UserError
from data_recipes.recipe import mixture_folder
from data_recipes.records import SPLITS, Mixture
from data_recipes.staged import is_staged, load_staged
from data_recipes.store import read_mixture
from eval.generate import Pair
from eval.runs import Run, read_json, read_run
from eval.scores import spread
from model_adapters.registry import load_adapter

NOTATIONS = ("model", "canonical")


@dataclass(frozen=True)
class Evaluation:
    """What is scored (a run, an adapter on its base, or a model as it came) on which split of which mixture,
    and where results go."""

    model: str
    run: Run | None
    adapter_folder: Path | None
    folder: Path
    mixture: Mixture
    train: Mixture
    split: str
    limit: int | None
    notation: str
    pairs: Sequence[Pair]
    out: Path


class _Weights(NamedTuple):
    model: str
    adapter_folder: Path | None = None
    run: Run | None = None


def prepare(
    run: str,
    *,
    mixture: str | None = None,
    split: str = "test",
    output_dir: Path | None = None,
    predictions: Path | None = None,
    notation: str = "model",
    base: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Finds out what is to be scored. `run` is a run folder; or, with `mixture`, the folder of a PEFT adapter
    or a model. For predictions in canonical notation any name of a model will do.

    Args:
        base: without the adapter.
        limit: score this many images of the split only, evenly spaced.

    Raises:
        UserError: no such run, model, mixture, split or notation.
    """
    if notation not in NOTATIONS:
        raise UserError(f"unknown notation {notation!r}: it is one of {', '.join(NOTATIONS)}")
    if notation != "model" and predictions is None:
        raise UserError("--notation is about a file: give it with --predictions")
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: it is one of {', '.join(SPLITS)}")
    weights = _weights(run, mixture)
    found = weights.run
    if found is None and (predictions is None or notation == "model"):
        load_adapter(weights.model)  # an unknown model is told before a mixture is built
    own = trained_on(found, progress=progress) if found else None
    folder = mixture_folder(mixture, progress=progress) if mixture else own
    assert folder is not None
    content = read_mixture(folder)
    pairs = spread(list(content.of_split(split)), limit)
    if not pairs:
        raise UserError(f"{folder}: the {split} split has no entries")
    parts = _other_than_own(found, folder, content, own, predictions)
    parts += ["base"] * base + [split] * (split != "test") + [f"limit-{limit}"] * (limit is not None)
    name = f"{Path(run).resolve().name}-{content.meta.get('name', folder.name)}"
    default = found.folder if found else Path("runs") / name
    if found and parts:
        default /= "-".join(["eval", *parts])
    return Evaluation(
        model=weights.model,
        run=found,
        adapter_folder=None if base else weights.adapter_folder,
        folder=folder,
        mixture=content,
        train=read_mixture(own) if own and own.resolve() != folder.resolve() else content,
        split=split,
        limit=limit,
        notation=notation,
        pairs=pairs,
        out=output_dir or default,
    )


def _weights(run: str, mixture: str | None) -> _Weights:
    """The run, adapter or model that goes by this name.

    Raises:
        UserError: it is none of them, or no mixture says what to score it on.
    """
    path = Path(run)
    settings = path / "adapter_config.json"
    if (path / "run.yaml").is_file() or (mixture is None and path.exists() and not settings.is_file()):
        found = read_run(path)
        return _Weights(found.model, found.adapter, found)
    if mixture is None:
        raise UserError(
            f"no run folder {run!r}. To score a model without training, or an adapter, say on what: "
            "--mixture NAME"
        )
    if not settings.is_file():
        return _Weights(run)
    return _Weights(adapter_model(path), path)


def adapter_model(folder: Path) -> str:
    """The model that a saved PEFT adapter adapts.

    Raises:
        UserError: its configuration is missing, broken or does not say.
    """
    settings = folder / "adapter_config.json"
    model = read_json(settings).get("base_model_name_or_path")
    if not isinstance(model, str) or not model:
        raise UserError(f"{settings} does not say which model it adapts (base_model_name_or_path)")
    return model


def trained_on(run: Run, *, progress: bool = True) -> Path:
    """The folder of the mixture that a run was trained on, built again if it is gone.

    Raises:
        UserError: it is gone and its recipe now gives another one.
    """
    if run.mixture.is_dir():
        return run.mixture
    recipe = load_staged(run.recipe).clean.source if is_staged(run.recipe) else run.recipe
    folder = mixture_folder(recipe, progress=progress)
    if read_mixture(folder).meta.get("mixture_hash") != run.mixture_hash:
        raise UserError(
            f"{run.folder}: its mixture {run.mixture} is gone, and recipe {run.recipe} now gives another"
        )
    return folder


def _other_than_own(
    run: Run | None, folder: Path, content: Mixture, own: Path | None, predictions: Path | None
) -> list[str]:
    """What sets this evaluation apart from the run's own, as parts of a folder's name: results of another one
    never overwrite the run's own."""
    parts = []
    if own is None or own.resolve() != folder.resolve():
        parts.append(str(content.meta.get("name") or folder.name))
    if (
        run
        and predictions
        and run.predictions.exists()
        and predictions.resolve() != run.predictions.resolve()
    ):
        parts.append(predictions.stem)
    return parts
