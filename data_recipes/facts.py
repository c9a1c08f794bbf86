"""Facts in columns into entries of the seven tasks, with the project's own prompts.

Which prompt an entry gets depends on the seed, the image's id and the entry's place alone, so that a mixture
is the same whatever else was read. Every frame of facts has the columns image_id, file and row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_recipes.annotate import PROMPTS, SAME_REGION
from data_recipes.draws import draws, mixed
from data_recipes.funnel import Funnel
from data_recipes.harvest import ENTRY_COLUMNS
from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import calculation, findings, rec, reg, report, severity, vqa
from data_recipes.vocabulary import NO_FINDING

BOX = ("x1", "y1", "x2", "y2")
_PRESENCE = ("Is there evidence of {label}?", "Does the image show evidence of {label}?")
_AMONG = ("Which of these are present: {among}?", "Of these, name what is present: {among}.")
_NORMAL = "Is this radiograph free of findings?"
_ANY = Box(0, 0, 1, 1)


class Writer:
    """Collects the entries of one source. Facts that a task cannot express are rejected, each by its row."""

    def __init__(self, source: str, seed: int, funnel: Funnel) -> None:
        self.source, self.seed, self.funnel = source, seed, funnel
        self._parts: list[pl.DataFrame] = []

    def entries(self) -> pl.DataFrame:
        """All entries written so far, numbered within image and task; ENTRY_COLUMNS."""
        if not self._parts:
            return pl.DataFrame(schema=ENTRY_COLUMNS)
        number = pl.int_range(pl.len()).over("image_id", "task")
        entry_id = pl.concat_str("image_id", pl.lit("/"), "task", pl.lit("/"), number)
        parts = [part.select(sorted(part.columns)) for part in self._parts]
        return pl.concat(parts).with_columns(entry_id=entry_id).select(*ENTRY_COLUMNS)

    def ready(self, entries: pl.DataFrame) -> None:
        """Entries in the words of their source; ENTRY_COLUMNS without entry_id."""
        self._parts.append(entries.select(name for name in ENTRY_COLUMNS if name != "entry_id"))

    def labels(self, facts: pl.DataFrame, among: Sequence[str] = ()) -> None:
        """A findings entry a row. `labels`: the list of all that is present; empty for no finding.

        Args:
            among: the only findings that anybody looked for; the prompt names them.
        """
        named = [text.format(among=", ".join(among)) for text in _AMONG] if among else None
        key = pl.col("labels").list.unique().list.sort().list.join("|")
        self._add(
            facts.with_columns(answer=key),
            "findings",
            "among" if named else "multi-label",
            lambda key: findings.render(set(filter(None, key.split("|")))).text,
            templates=named,
        )

    def presence(
        self, images: pl.DataFrame, present: pl.DataFrame, unsure: pl.DataFrame | None = None
    ) -> None:
        """Yes-or-no questions on findings, as many with yes as with no on each finding and in each split, so
        that the question alone does not tell its answer. Which images are asked about what is absent is
        drawn.

        Args:
            images: image_id, split, file, row: the images whose labels are known.
            present: image_id, label; "no finding" is asked as whether the radiograph is free of findings.
            unsure: image_id, label: pairs of which neither yes nor no is known.
        """
        groups = images.sort("split", maintain_order=True).partition_by("split", maintain_order=True)
        asked = [part for group in groups for part in _balanced(group, present, unsure, self.seed)]
        if not asked:
            return
        facts = pl.concat(asked).with_columns(kind=pl.lit("presence"))
        wording = _picked(facts, self.seed, "wording", len(_PRESENCE))
        text = _slotted(_PRESENCE, "label").gather(wording)
        label = pl.col("label")
        question = pl.concat_str(text.struct.field("before"), label, text.struct.field("after"))
        self._asked(
            facts.with_columns(
                question=pl.when(label == NO_FINDING).then(pl.lit(_NORMAL)).otherwise(question),
            )
        )

    def answers(self, facts: pl.DataFrame) -> None:
        """A vqa entry a row, with columns question, answer, and kind (the type of the question); the same
        question with the same answer about an image counts once."""
        again = ~pl.struct("image_id", "question", "answer").is_first_distinct()
        drops = {"asked before": pl.col("question").is_not_null() & again}
        self._asked(self.funnel.keep("questions asked once", "facts", facts, drops))

    def _asked(self, facts: pl.DataFrame) -> None:
        self._add(facts, "vqa", "question", lambda text: vqa.render(text).text, slot="question")

    def reports(self, facts: pl.DataFrame, kind: str = "findings") -> None:
        """A report entry a row; `text` is the report."""
        self._add(
            facts.with_columns(answer=pl.col("text")), "report", kind, lambda text: report.render(text).text
        )

    def grades(self, facts: pl.DataFrame) -> None:
        """A severity entry a row; `grade` is 0 to 3."""
        graded = facts.with_columns(answer=pl.col("grade"))
        self._add(graded, "severity", "edema", lambda grade: severity.render(grade).text)

    def ratios(self, facts: pl.DataFrame, name: str) -> None:
        """A calculation entry a row; `value` is the ratio, `name` is CTR or CPAR."""
        self._add(
            facts.with_columns(answer=pl.col("value").round(4)),
            "calculation",
            name.lower(),
            lambda value: calculation.render(calculation.Ratio(name, value)).text,
        )

    def boxes(self, facts: pl.DataFrame) -> None:
        """Boxes with a `phrase` each, in fractions x1, y1, x2, y2: for every phrase of an image a rec entry
        with all its boxes, and for every box that is clear (as in `annotate.regions`) a reg entry."""
        unique = facts.unique(["image_id", "phrase", *BOX], keep="first", maintain_order=True)
        self.funnel.count("boxes said once", "boxes", facts.height, unique.height, "said before")
        grouped = (
            unique.sort(*BOX, maintain_order=True)
            .group_by("image_id", "phrase", maintain_order=True)
            .agg(boxes=pl.concat_list(*BOX), file=pl.col("file").first(), row=pl.col("row").min())
            .sort("row", maintain_order=True)
        )
        self.funnel.count("boxes by phrase", "boxes", unique.height, grouped.height, "a phrase's further box")
        self._add(
            grouped.with_columns(answer=pl.col("boxes").list.len()),
            "rec",
            "phrase",
            lambda number: rec.render([_ANY] * number).text,
            slot="phrase",
        )
        clear = self.funnel.keep(
            "boxes that tell what is meant",
            "boxes",
            unique.with_row_index("number"),
            {"another phrase has nearly the same box": pl.col("number").is_in(_unclear(unique))},
        )
        box = pl.concat_list(*BOX).reshape((-1, 1, 4)).cast(ENTRY_COLUMNS["boxes"])
        self._add(
            clear.with_columns(answer=pl.col("phrase"), boxes=box),
            "reg",
            "phrase",
            lambda text: reg.render(text).text,
        )

    def _add(
        self,
        facts: pl.DataFrame,
        task: str,
        kind: str,
        render: Callable[[Any], str],
        slot: str = "",
        templates: Sequence[str] | None = None,
    ) -> None:
        """Adds an entry a row. `answer` is rendered once for each value that occurs; column `slot` fills the
        slot of that name in the prompt; a column `kind` of the facts says the kind more finely. Prompts are
        the task's own unless `templates` are given."""
        answer = pl.col("answer")
        rendered, faults = _rendered(facts["answer"].unique().to_list(), render)
        why = answer.replace_strict(faults, default=None, return_dtype=pl.String)
        if slot:
            trap = pl.col(slot).str.contains(BOX_SLOT, literal=True).fill_null(True)
            why = pl.when(trap).then(pl.lit(f"{slot} is missing or holds a box slot")).otherwise(why)
        kept = self.funnel.keep_unless(f"written as {task}", "facts", facts, why, reject=True)
        templates = templates or PROMPTS[task][kind]
        pick = _picked(kept, self.seed, f"{task}/{kind}", len(templates))
        prompt = _slotted(templates, slot).gather(pick)
        before, after = prompt.struct.field("before"), prompt.struct.field("after")
        fine = pl.col("kind") if "kind" in kept.columns else pl.lit(kind)
        self._parts.append(
            kept.select(
                "image_id",
                "file",
                "row",
                task=pl.lit(task),
                prompt=pl.concat_str(before, slot, after) if slot else before,
                target=answer.replace_strict(rendered, default=None, return_dtype=pl.String),
                boxes="boxes" if "boxes" in kept.columns else pl.lit([], ENTRY_COLUMNS["boxes"]),
                provenance=pl.concat_str(pl.lit(f"{self.source}/{task}/"), fine),
            )
        )


def _rendered(values: list[Any], render: Callable[[Any], str]) -> tuple[dict[Any, str], dict[Any, str]]:
    """The target text of each answer, and the reason why an answer has none."""
    texts: dict[Any, str] = {}
    faults: dict[Any, str] = {}
    for value in values:
        try:
            texts[value] = render(value)
        except (ValueError, TypeError, AttributeError) as error:
            faults[value] = str(error) if isinstance(error, ValueError) else f"answer is {value!r}"
    return texts, faults


def _slotted(templates: Sequence[str], slot: str) -> pl.Series:
    """Templates as what stands before and after their slot (all of it before, where there is none)."""
    parts = [text.partition("{" + slot + "}") if slot else (text, "", "") for text in templates]
    return pl.Series([{"before": before, "after": after} for before, _, after in parts])


def _picked(facts: pl.DataFrame, seed: int, purpose: str, number: int) -> pl.Series:
    """One of `number` wordings for each row, drawn by the image and the row's place among those of the
    image."""
    place = facts.select(pl.int_range(pl.len()).over("image_id")).to_series().to_numpy()
    drawn = mixed(draws(facts["image_id"], seed, purpose), place)
    return pl.Series((drawn % np.uint64(number)).astype(np.uint32))


def _balanced(
    images: pl.DataFrame, present: pl.DataFrame, unsure: pl.DataFrame | None, seed: int
) -> Iterator[pl.DataFrame]:
    """For each label as many images that have it as ones that lack it, with the answer."""
    base = draws(images["image_id"], seed, "presence")
    places = images.select("image_id", place=pl.int_range(pl.len()))

    def by_label(pairs: pl.DataFrame) -> dict[str, NDArray[np.int64]]:
        found = pairs.unique(["image_id", "label"]).join(places, on="image_id")
        return {str(label[0]): part["place"].sort().to_numpy() for label, part in found.group_by("label")}

    doubtful = by_label(unsure) if unsure is not None else {}
    for label, there in sorted(by_label(present).items()):
        absent = np.ones(images.height, bool)
        absent[there] = False
        if label in doubtful:
            absent[doubtful[label]] = False
        drawn = mixed(base, draws([label], seed, "label")[0])
        both = (there, np.flatnonzero(absent))
        number = min(map(len, both))
        for answer, places_ in zip(("yes", "no"), both, strict=True):
            chosen = np.sort(places_[np.argsort(drawn[places_], kind="stable")[:number]])
            yield images[chosen].select("image_id", "file", "row", label=pl.lit(label), answer=pl.lit(answer))


def _unclear(boxes: pl.DataFrame) -> list[int]:
    """Places of the boxes that nearly coincide with one of another phrase."""
    numbered = boxes.select("image_id", "phrase", *BOX, number=pl.int_range(pl.len()))
    pairs = numbered.join(numbered, on="image_id", suffix="_").filter(pl.col("phrase") != pl.col("phrase_"))
    width = pl.min_horizontal("x2", "x2_") - pl.max_horizontal("x1", "x1_")
    height = pl.min_horizontal("y2", "y2_") - pl.max_horizontal("y1", "y1_")
    overlap = width.clip(0) * height.clip(0)
    areas = [
        (pl.col(f"x2{end}") - pl.col(f"x1{end}")) * (pl.col(f"y2{end}") - pl.col(f"y1{end}"))
        for end in ("", "_")
    ]
    same = pairs.filter(overlap / (areas[0] + areas[1] - overlap) > SAME_REGION)
    return same["number"].unique().to_list()
