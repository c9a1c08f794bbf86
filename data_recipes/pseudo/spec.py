"""What is asked about which images, and which answers are kept: `annotate:` of a staged recipe, the options
of `imax annotate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from data_recipes.errors import unknown
from data_recipes.pseudo.rules import RULES
from data_recipes.recipe_file import Density
from data_recipes.schema import STRICT, explained
from data_recipes.tasks import TASKS

FILTERS = ("parse", "likelihood", "agreement", "consistency")  # in the order of the report
Labels = Literal["model", "truth"]


class Part(BaseModel):
    model_config = STRICT


class Filters(Part):
    """Which answers are kept. `false` switches a filter off. An answer that cannot be read is never kept.

    Attributes:
        likelihood: the share of each task's answers that is kept, the likeliest by the mean log-probability
            of their tokens. A share, because tasks differ: digits of a box are never as sure as a yes.
        agreement: the least mean agreement (0..1) of an answer with those drawn beside it.
        consistency: whether answers that contradict others about the same image are left out.
        rules: the rules that `consistency` uses, by name; by default all.
    """

    likelihood: float | Literal[False] = 0.8
    agreement: float | Literal[False] = 0.5
    consistency: bool = True
    rules: list[str] | None = None

    @field_validator("likelihood", "agreement", mode="before")
    @classmethod
    def _zero(cls, value: Any) -> Any:
        """0 would pass for False, which equals it."""
        return float(value) if type(value) is int else value

    @field_validator("likelihood", "agreement")
    @classmethod
    def _share(cls, value: float | Literal[False]) -> float | Literal[False]:
        if value is not False and not 0 <= value <= 1:
            raise ValueError("it should be from 0 to 1, such as 0.5 (or false for no such filter)")
        return value

    @field_validator("rules")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        for name in value or ():
            if name not in RULES:
                raise unknown("rule", name, RULES)
        return value

    @property
    def on(self) -> tuple[str, ...]:
        """Names of the filters that are on, in the order of FILTERS."""
        return tuple(name for name in FILTERS if name == "parse" or getattr(self, name) is not False)


class Annotation(Part):
    """A pseudo-annotation.

    Attributes:
        mixture: whose training images are annotated: recipe name, recipe file or built folder.
        images: how many of them, spread evenly over the tasks that they carry. None takes as many as hold
            the volume of the matched mixture at `density` (all, where there are not so many); a number below
            1 takes that share of them.
        density: means over the annotated images, own entries counted.
        tasks: what is asked for; None is every task that the mixture trains on.
        filters: which answers are kept.
        samples: answers drawn beside the likeliest one, for the filter `agreement`.
        temperature: of these draws.
        keep_own: the entries that the mixture has for an image stay, and their task is not asked.
        seed: of images, questions and draws.
        labels: who answers: the model, or the truth where the source knows it (the upper bound).
    """

    mixture: str
    images: int | float | None = Field(default=None, gt=0)
    density: Density = Density(tasks_per_image=4.10, entries_per_image=7.46)
    tasks: list[str] | None = Field(default=None, min_length=1)
    filters: Filters = Filters()
    samples: int = Field(default=3, ge=0, le=64)
    temperature: float = Field(default=0.7, gt=0)
    keep_own: bool = True
    seed: int = Field(default=0, ge=0)
    labels: Labels = "model"

    @field_validator("tasks")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        for name in value or ():
            if name not in TASKS:
                raise unknown("task", name, TASKS)
        return value

    @field_validator("images")
    @classmethod
    def _number_or_share(cls, value: float | None) -> float | None:
        if value is not None and value >= 1 and value != int(value):
            raise ValueError("it should be a whole number of images, or below 1 for a share of them")
        return int(value) if value is not None and value >= 1 else value

    @model_validator(mode="after")
    def _samples(self) -> Annotation:
        if self.filters.agreement is not False and not self.samples:
            raise ValueError(
                "filters.agreement compares with samples: set samples to 1 or more, or it to false"
            )
        return self

    @property
    def drawn(self) -> int:
        """Answers that are drawn beside each likeliest one: none where nothing looks at them."""
        return self.samples if self.filters.agreement is not False else 0


def read_annotation(settings: Mapping[str, Any], where: str = "annotate") -> Annotation:
    """The annotation that settings describe.

    Raises:
        UserError: an unknown key, or a value that does not fit.
    """
    try:
        return Annotation.model_validate(dict(settings))
    except ValidationError as error:
        raise explained(error, Annotation, where) from None
