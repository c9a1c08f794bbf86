"""What a TaCo encoder is trained with. The paper leaves every one of these open: the defaults are ours."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from taco_probe.taco.tasks import TASKS

Encoder = Literal["resnet18", "resnet50"]
Fusion = Literal["concat6", "two_tower", "diff"]
View = Literal["both", "input", "target", "shuffled"]
Failures = Literal["none", "negatives", "classes"]


class Settings(BaseModel):
    """All that the weights of an encoder depend on, apart from the images.

    Attributes:
        encoder: the convolutional network.
        fusion: `concat6`, input and target as six channels; `two_tower`, both through one network, vectors
            side by side; `diff`, target minus input beside the input, six channels.
        view: what the encoder sees. `both` is TaCo; the others are controls: the input alone, the target
            alone, or inputs with targets of other instances of the same dataset.
        size: side of the square that instances are shrunk or grown to, pixels.
        projection: width of the layer that the loss sees; embeddings are taken from before it.
        temperature: of the supervised contrastive loss.
        failures: `negatives`, failed instances are nobody's positives and everybody's negatives; `classes`,
            the failures of a task are one more class; `none`, there are none.
        failure_share: of a batch.
        tasks, per_task: tasks in a batch, and instances of each, from as many datasets as possible.
        steps, learning_rate, weight_decay, warmup: AdamW, with a cosine to 0; warmup as a share of steps.
        datasets: trained on.
        held_out: never trained on; what is measured across datasets is measured here.
        pool: instances made of each task and dataset, once, for all epochs.
        tasks_used: names of the tasks.
        seed: of weights, batches and everything else but the pool.
        pool_seed: of the instances.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    encoder: Encoder = "resnet18"
    fusion: Fusion = "concat6"
    view: View = "both"
    size: int = Field(default=64, ge=32, le=512)
    projection: int = Field(default=128, ge=2)
    temperature: float = Field(default=0.1, gt=0)
    failures: Failures = "negatives"
    failure_share: float = Field(default=0.25, ge=0, lt=1)
    tasks: int = Field(default=12, ge=2)
    per_task: int = Field(default=8, ge=2)
    steps: int = Field(default=600, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    datasets: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    pool: int = Field(default=64, ge=2)
    tasks_used: tuple[str, ...] = tuple(TASKS)
    seed: int = Field(default=0, ge=0)
    pool_seed: int = Field(default=0, ge=0)
