"""Silhouettes of heart and lungs: their extents and areas, and the two ratios measured on them.

The cardiothoracic ratio (CTR) is the widest transverse extent of the heart over that of both lungs together;
the cardiopulmonary area ratio (CPAR) is the area of the heart over that of both lungs (Duvieusart et al.
2022, "Multimodal cardiomegaly classification with image-derived digital biomarkers", and their code). Neither
depends on the scale of the image.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

# In pixels; right and bottom are exclusive, so that right - left is a width.
SILHOUETTE = pl.Struct(dict.fromkeys(("left", "top", "right", "bottom", "area"), pl.Int64))
ORGANS = ("heart", "left lung", "right lung")


def silhouette(mask: NDArray[np.bool_]) -> dict[str, int] | None:
    """The silhouette of a mask (H, W), None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return {
        "left": int(columns[0]),
        "top": int(rows[0]),
        "right": int(columns[-1]) + 1,
        "bottom": int(rows[-1]) + 1,
        "area": int(np.count_nonzero(mask)),
    }


def silhouettes(codes: pl.Series, widths: pl.Series, heights: pl.Series) -> pl.Series:
    """Silhouettes (SILHOUETTE) of masks in run-length codes, without making the masks; null for what is no
    code of a mask of that size.

    A code is pairs "start length" in which pixels count from 1 along the rows, the rows from top to bottom,
    and runs stand in order; a run may go on in the next row.

    Args:
        codes: text, a mask a row.
        widths: of each mask, in pixels; heights likewise.
    """
    words = codes.str.strip_chars().str.split(" ")
    counts = words.list.len().fill_null(0)
    usable = (counts > 0) & (counts % 2 == 0) & (widths > 0) & (heights > 0)
    found = np.flatnonzero(usable.fill_null(False).to_numpy())
    result: list[dict[str, int] | None] = [None] * len(codes)
    if not len(found):
        return pl.Series(result, dtype=SILHOUETTE)
    numbers = words.gather(found).explode().cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    runs = counts.gather(found).to_numpy().astype(np.int64) // 2
    first = np.cumsum(runs) - runs  # place of each code's first run
    width, height = widths.gather(found).to_numpy(), heights.gather(found).to_numpy()
    wide, size = np.repeat(width, runs), np.repeat(width * height, runs)
    last = starts + lengths - 1
    wrong = (starts < 0) | (lengths < 1) | (starts >= size) | (lengths > size) | (last >= size)
    follows = np.arange(len(starts)) != np.repeat(first, runs)
    wrong[1:] |= follows[1:] & (starts[1:] <= last[:-1])
    wraps = starts // wide != last // wide
    parts = {
        "left": np.minimum.reduceat(np.where(wraps, 0, starts % wide), first),
        "top": np.minimum.reduceat(starts // wide, first),
        "right": np.maximum.reduceat(np.where(wraps, wide, last % wide + 1), first),
        "bottom": np.maximum.reduceat(last // wide + 1, first),
        "area": np.add.reduceat(lengths, first),
    }
    broken = np.logical_or.reduceat(wrong, first)
    for place, bad, row in zip(found, broken, pl.DataFrame(parts).iter_rows(named=True), strict=True):
        result[place] = None if bad else row
    return pl.Series(result, dtype=SILHOUETTE)


def with_ratios(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with ctr, cpar (null where they cannot be measured) and why, the reason for that.

    Args:
        frame: columns ORGANS, a silhouette each.
    """
    heart, *lungs = (pl.col(organ).struct for organ in ORGANS)
    chest = pl.max_horizontal(lung.field("right") for lung in lungs) - pl.min_horizontal(
        lung.field("left") for lung in lungs
    )
    ctr = (heart.field("right") - heart.field("left")) / chest
    cpar = heart.field("area") / (lungs[0].field("area") + lungs[1].field("area"))
    why = pl.lit(None, pl.String)
    for organ in reversed(ORGANS):
        reason = pl.lit(f"mask of the {organ} is missing, empty or not of the size said")
        why = pl.when(pl.col(organ).is_null()).then(reason).otherwise(why)
    why = pl.when(why.is_null() & (ctr > 1)).then(pl.lit("heart is wider than the chest")).otherwise(why)
    return frame.with_columns(
        pl.when(why.is_null()).then(ctr).alias("ctr"),
        pl.when(why.is_null()).then(cpar).alias("cpar"),
        why=why,
    )
