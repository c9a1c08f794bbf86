"""What a TaCo encoder is trained with. The paper leaves every one of these open: the defaults are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from data_recipes.errors import UserError, unknown
from data_recipes.schema import STRICT, explained, read_keys
from data_recipes.tables import write_text
from taco_probe.taco.tasks import TASKS

Encoder = Literal["resnet18", "resnet50"]
Fusion = Literal["concat6", "two_tower", "diff"]
View = Literal["both", "input", "target", "shuffled"]
Failures = Literal["none", "negatives", "classes"]
Precision = Literal["no", "bf16"]


class Settings(BaseModel):
    """All that the weights of an encoder depend on, apart from the images. Every field is a flag of
    `imax taco train`, with the text under it as its help."""

    model_config = STRICT | {"use_attribute_docstrings": True}

    encoder: Encoder = "resnet18"
    """The convolutional network: resnet18 or resnet50."""
    fusion: Fusion = "concat6"
    """concat6: input and target as six channels; two_tower: both through one network, vectors side by side;
    diff: target minus input beside the input, six channels."""
    view: View = "both"
    """What the encoder sees. both is TaCo; the others are controls: the input alone, the target alone, or
    shuffled: inputs with targets of other instances of the same dataset."""
    weights: str = ""
    """A local file of ImageNet weights (torchvision's resnet, .pth or .safetensors) to start from."""
    size: int = Field(default=64, ge=32, le=512)
    """Side of the square that instances are made at, pixels."""
    projection: int = Field(default=128, ge=2)
    """Width of the layer that the loss sees; embeddings are taken from before it."""
    temperature: float = Field(default=0.1, gt=0)
    """Of the supervised contrastive loss."""
    failures: Failures = "negatives"
    """negatives: failed instances are nobody's positives and everybody's negatives; classes: the failures of
    a task are one more class; none: there are none."""
    failure_share: float = Field(default=0.25, ge=0, lt=1)
    """Of a batch, as failed instances."""
    tasks: int = Field(default=12, ge=2)
    """Tasks in a batch."""
    per_task: int = Field(default=8, ge=2)
    """Instances of each, from as many datasets as possible."""
    steps: int = Field(default=200, ge=1)
    """Optimizer steps."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Of AdamW, at its peak; then a cosine to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Of AdamW."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    mixed_precision: Precision = "bf16"
    """bf16 or no: in what the encoder computes; the loss is always in float32."""
    datasets: tuple[str, ...] = ()
    """Trained on."""
    held_out: tuple[str, ...] = ()
    """Never trained on; what is measured across datasets is measured here."""
    tasks_used: tuple[str, ...] = tuple(TASKS)
    """Tasks trained on and measured."""
    pool: int = Field(default=64, ge=2)
    """Instances made of each task and dataset for training, once, for all epochs."""
    test_pool: int = Field(default=12, ge=1)
    """The same for measuring."""
    anchors: int = Field(default=4, ge=0)
    """Instances of each task whose alterations are followed."""
    crop: float = Field(default=0.6, gt=0, le=1)
    """Smallest share of an image's sides that an instance for training shows; 1 shows whole images."""
    seed: int = Field(default=0, ge=0)
    """Of weights, batches and everything else but the pools."""
    pool_seed: int = Field(default=0, ge=0)
    """Of the instances."""

    @field_validator("datasets", "held_out", "tasks_used", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in self.tasks_used:
            if name not in TASKS:
                raise unknown("task", name, TASKS)
        if len(self.tasks_used) < 2:
            raise UserError("tasks_used: at least two tasks are needed")
        if both := sorted(set(self.datasets) & set(self.held_out)):
            raise UserError(f"dataset {both[0]} is trained on and held out: name it once")
        return self

    @property
    def batch(self) -> int:
        """Instances in a batch, without failed ones."""
        return self.tasks * self.per_task

    @property
    def failed(self) -> int:
        """Failed instances in a batch."""
        if self.failures == "none":
            return 0
        return round(self.batch * self.failure_share / (1 - self.failure_share))


def settings_of(values: dict[str, Any], where: str) -> Settings:
    """Settings from plain values.

    Args:
        where: the values' origin, for messages.

    Raises:
        UserError: an unknown name, or a value that does not fit.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise explained(error, Settings, where) from None


def read_settings(file: Path) -> Settings:
    """What `write_settings` wrote.

    Raises:
        UserError: no such file, or not settings.
    """
    if not file.exists():
        raise UserError(f"{file.parent} is no run of imax taco train: it has no {file.name}")
    return settings_of(read_keys(file, "a file of settings"), str(file))


def write_settings(settings: Settings, file: Path) -> None:
    """As YAML."""
    write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True), file)
