"""Conversations as Parquet files with the images inside, as `datasets` reads them: columns `images` and
`messages`, and any others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.export.conversation import Conversation, Export
from data_recipes.export.files import image_bytes
from data_recipes.records import Image

FOLDER = "data"
_SHARD = 400 * 2**20  # bytes of images a file
_GROUP = 256  # rows a row group; the rows of an image share its bytes within one


class Column(NamedTuple):
    """A further column: its type for Arrow, its feature for `datasets`, and its value."""

    type: pa.DataType
    feature: Any
    value: Callable[[Conversation], Any]


_TYPES = {
    "images": pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
}
# How `datasets` writes these types into the schema; the lists of one are read by all its versions.
_FEATURES: dict[str, Any] = {
    "images": [{"_type": "Image"}],
    "messages": [{key: {"dtype": "string", "_type": "Value"} for key in ("role", "content")}],
}


def write_splits(export: Export, folder: Path, more: Mapping[str, Column]) -> None:
    """Writes `data/SPLIT-00000-of-00001.parquet`, ... into `folder`, with these further columns.

    Raises:
        UserError: an image cannot be opened.
    """
    features = {**_FEATURES, **{name: column.feature for name, column in more.items()}}
    schema = pa.schema(
        {**_TYPES, **{name: column.type for name, column in more.items()}},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    (folder / FOLDER).mkdir()
    for split, talks in export.splits.items():
        parts = [
            _write_part(export, part, schema, more, folder / FOLDER / f".{split}-{number}")
            for number, part in enumerate(_parts(export, talks))
        ]
        for number, part in enumerate(parts):
            part.rename(folder / FOLDER / f"{split}-{number:05d}-of-{len(parts):05d}.parquet")


def splits_of(export: Export) -> list[dict[str, str]]:
    """Where each split lies, for the head of the README."""
    return [{"split": split, "path": f"{FOLDER}/{split}-*.parquet"} for split in export.splits]


def _parts(export: Export, talks: Sequence[Conversation]) -> Iterable[list[Conversation]]:
    """The conversations cut where a file gets full; those of an image stay together."""
    part: list[Conversation] = []
    held, last = 0, ""
    for talk in talks:
        if talk.image.image_id != last:
            last = talk.image.image_id
            size = (export.folder / talk.image.path).stat().st_size
            if part and held + size > _SHARD:
                yield part
                part, held = [], 0
            held += size
        part.append(talk)
    yield part


def _write_part(
    export: Export, talks: Sequence[Conversation], schema: pa.Schema, more: Mapping[str, Column], path: Path
) -> Path:
    # The rows of an image repeat its bytes: a dictionary stores them once a row group.
    with pq.ParquetWriter(path, schema, compression="zstd", dictionary_pagesize_limit=2**30) as writer:
        for start in range(0, len(talks), _GROUP):
            group = talks[start : start + _GROUP]
            shown: dict[str, dict[str, Any]] = {}
            for talk in group:
                if talk.image.image_id not in shown:
                    shown[talk.image.image_id] = _shown(export.folder, talk.image)
            columns: dict[str, list[Any]] = {
                "images": [[shown[talk.image.image_id]] for talk in group],
                "messages": [talk.messages() for talk in group],
                **{name: [column.value(talk) for talk in group] for name, column in more.items()},
            }
            writer.write_table(pa.Table.from_pydict(columns, schema))
    return path


def _shown(folder: Path, image: Image) -> dict[str, Any]:
    name, content = image_bytes(folder, image)
    return {"bytes": content, "path": name}
