"""Chest ImaGenome, a scene graph an image, made by rules. Anatomical regions with boxes, and what the report
says of each; read only for the images that are kept, from the archive or an unpacked folder.

Quirks: a region has two boxes, in pixels of the original image (`original_x1`) and of a 224 x 224 copy
(`x1`); boxes may leave the image; graphs of some images are missing; an attribute reads
`anatomicalfinding|yes|lung opacity`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from data_recipes.draws import draws
from data_recipes.errors import UserError
from data_recipes.sources.mimic.cohort import Cohort
from data_recipes.sources.mimic.options import Options
from data_recipes.sources.mimic.tree import near
from data_recipes.tables import mended
from data_recipes.vocabulary import folded

_SUFFIX = "_SceneGraph.json"
_LARGEST = 2**24  # bytes of a graph; they have some 100,000
_BOX = ("x1", "y1", "x2", "y2")
_ABOUT = ("anatomicalfinding", "disease")  # kinds of attribute that name a finding


class Graphs(NamedTuple):
    """Regions: image_id, phrase, x1, y1, x2, y2, file, row. Attributes: image_id, region, label, answer (yes
    or no), file, row; a region that is normal has the label "normal"."""

    regions: pl.DataFrame
    attributes: pl.DataFrame


def read_graphs(cohort: Cohort) -> Graphs | None:
    """The graphs of the images that are kept; None where no graph is there at all."""
    data = cohort.data
    regions: list[tuple[Any, ...]] = []
    attributes: list[tuple[Any, ...]] = []
    read: list[tuple[str, str, str | None]] = []
    for image, name, content in _texts(cohort):
        if isinstance(content, str):
            read.append((image, name, content))
            continue
        try:
            graph = mended(json.loads(content))
            found = [_region(item) for item in graph["objects"]]
            said = [fact for item in graph.get("attributes", []) for fact in _attributes(item)]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            read.append((image, name, f"is no scene graph: {error!r}"))
            continue
        read.append((image, name, None))
        regions += ((image, *region, name, row) for row, region in enumerate(found, start=1))
        attributes += ((image, *fact, name, row) for row, fact in enumerate(dict.fromkeys(said), start=1))
    if not read:
        return None
    texts = dict.fromkeys(("image_id", "file", "why"), pl.String)
    graphs = pl.DataFrame(read, schema=texts, orient="row").with_columns(row=pl.lit(1, pl.Int64))
    data.funnel.keep_unless("scene graphs", "graphs", graphs, pl.col("why"), reject=True)
    there = {"has no scene graph": ~pl.col("image_id").is_in(graphs["image_id"].implode())}
    data.funnel.keep("images with a scene graph", "images", cohort.images, there)
    place = {"file": pl.String, "row": pl.Int64}
    boxes = {"image_id": pl.String, "phrase": pl.String, **dict.fromkeys(_BOX, pl.Float64), **place}
    facts = dict.fromkeys(("image_id", "region", "label", "answer"), pl.String)
    return Graphs(
        pl.DataFrame(regions, schema=boxes, orient="row"),
        pl.DataFrame(attributes, schema={**facts, **place}, orient="row"),
    )


def write_regions(cohort: Cohort, graphs: Graphs, options: Options) -> None:
    """Anatomical regions as phrases to locate, some of each graph."""
    size = cohort.images.select("image_id", box_width="columns", box_height="rows")
    boxes = graphs.regions.join(size, on="image_id", how="left", maintain_order="left")
    boxes = cohort.data.on_image(boxes)
    cohort.data.writer.boxes(_sampled(cohort, boxes, "regions", options.graph_sample))


def write_attribute_questions(cohort: Cohort, graphs: Graphs, options: Options) -> None:
    """Yes-or-no questions on what a region shows, of which the report says the one or the other; of each
    finding, in each split, as many with yes as with no."""
    facts = graphs.attributes.filter(pl.col("label") != "normal")
    splits = cohort.images.select("image_id", "split")
    facts = facts.join(splits, on="image_id", maintain_order="left")
    facts = facts.with_columns(drawn=_draws(cohort, facts, "balance"))
    place = pl.col("drawn").rank("ordinal").over("split", "label", "answer")
    yes = (pl.col("answer") == "yes").sum().over("split", "label")
    facts = facts.with_columns(
        place=place, most=pl.min_horizontal(yes, pl.len().over("split", "label") - yes)
    )
    more = {"more yes than no, or no than yes, on its finding": pl.col("place") > pl.col("most")}
    facts = cohort.data.funnel.keep("balanced attributes", "attributes", facts, more)
    facts = _sampled(cohort, facts, "attributes", options.graph_sample)
    question = pl.concat_str(pl.lit("Is there "), "label", pl.lit(" in the "), "region", pl.lit("?"))
    cohort.data.writer.answers(facts.with_columns(question=question, kind=pl.lit("region")))


def write_graph_findings(cohort: Cohort, graphs: Graphs) -> None:
    """Lists of findings: all that some region shows; empty where regions are normal and none shows any."""
    data, said = cohort.data, graphs.attributes.filter(pl.col("answer") == "yes")
    stated = {
        "no region shows a finding, or is normal": ~pl.col("image_id").is_in(said["image_id"].implode())
    }
    images = data.funnel.keep("lists of findings", "images", cohort.images, stated)
    label = pl.col("label")
    found = said.filter(label != "normal").group_by("image_id").agg(labels=label.unique())
    listed = images.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(listed.with_columns(pl.col("labels").fill_null([]), kind=pl.lit("imagenome")))


def _draws(cohort: Cohort, facts: pl.DataFrame, purpose: str) -> pl.Series:
    keys = facts.select(pl.concat_str("image_id", "file", "row", separator="/")).to_series()
    return pl.Series("drawn", draws(keys, cohort.data.seed, purpose))


def _sampled(cohort: Cohort, facts: pl.DataFrame, rows: str, most: int) -> pl.DataFrame:
    drawn = facts.with_columns(drawn=_draws(cohort, facts, rows))
    place = drawn.with_columns(place=pl.col("drawn").rank("ordinal").over("image_id"))
    more = {f"more than {most} of its graph": pl.col("place") > most}
    return cohort.data.funnel.keep(f"{rows} taken", rows, place, more).drop("drawn", "place")


def _region(item: dict[str, Any]) -> tuple[Any, ...]:
    corners = (item.get(f"original_{name}") for name in _BOX)
    return (str(item["bbox_name"]), *(None if value is None else float(value) for value in corners))


def _attributes(item: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(region, label, yes or no) of one region's attributes."""
    region = str(item.get("bbox_name") or item.get("name"))
    for group in item.get("attributes", []):
        for attribute in group:
            about, answer, label = (*str(attribute).split("|", 2), "", "")[:3]
            if about in _ABOUT and answer in ("yes", "no"):
                yield region, _name(label), answer
            elif (about, answer, label) == ("nlp", "yes", "normal"):
                yield region, "normal", "yes"


@cache
def _name(label: str) -> str:
    return str(pl.select(folded(pl.lit(label))).item())


def _texts(cohort: Cohort) -> Iterator[tuple[str, str, bytes | str]]:
    """Image, name, and content or what is wrong with it, of each graph that is wanted and there."""
    ids = cohort.images["image_id"].to_list()
    if not cohort.data.has("graphs"):
        yield from _unpacked(cohort.data.files.root, ids)
        return
    path, wanted = cohort.data.path("graphs"), set(ids)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                image = member.filename.rpartition("/")[2].removesuffix(_SUFFIX)
                if image in wanted:
                    wanted.remove(image)
                    yield image, member.filename, _unzipped(archive, member)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is truncated or no archive ({error}): get it again") from None


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | str:
    if member.file_size > _LARGEST:
        return "is no scene graph: too large"
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        return f"is broken in the archive: {error}"


def unpacked_folder(root: Path) -> Path | None:
    """The folder near the root that holds unpacked graphs."""
    for folder, _ in near(root):
        if folder.name == "scene_graph" and next(folder.glob(f"*{_SUFFIX}"), None):
            return folder
    return None


def _unpacked(root: Path, ids: list[str]) -> Iterator[tuple[str, str, bytes | str]]:
    folder = unpacked_folder(root)
    if folder is None:
        return
    for image in ids:
        file = folder / f"{image}{_SUFFIX}"
        if file.is_file() and file.resolve().is_relative_to(root):
            large = file.stat().st_size > _LARGEST
            yield image, file.name, "is no scene graph: too large" if large else file.read_bytes()
