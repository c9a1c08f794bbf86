"""One name for one finding: the labels of different datasets in the words that the entries use."""

from __future__ import annotations

import polars as pl

NO_FINDING = "no finding"

# Folded label -> name. What is not here keeps its own folded name.
_NAMES = {
    "effusion": "pleural effusion",
    "infiltrate": "infiltration",
    "infiltrates": "infiltration",
    "support devices": "support device",
    "fibrosis": "pulmonary fibrosis",
    "pulmonary edema": "edema",
    "pulmonary atelectasis": "atelectasis",
    "pulmonary emphysema": "emphysema",
    "ild": "interstitial lung disease",
    "normal": NO_FINDING,
    "nodule/mass": "nodule or mass",
    "airspace opacity": "lung opacity",
}


def folded(label: pl.Expr) -> pl.Expr:
    """Lower case, blanks for underscores, no blanks around, and one name for what several datasets name."""
    text = label.str.to_lowercase().str.replace_all("_", " ").str.replace_all(r"\s+", " ").str.strip_chars()
    return text.replace(_NAMES)
