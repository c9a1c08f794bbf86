"""What sentences, tables and figures call the things that are compared: one name each."""

from __future__ import annotations

VIEWS = {
    "both": "input and target",
    "input": "the input alone",
    "target": "the target alone",
    "shuffled": "shuffled pairs",
}
BASELINES = {
    "untrained": "untrained encoder",
    "pixels": "raw pixels",
    "resnet18": "ResNet-18 of ImageNet",
    "resnet50": "ResNet-50 of ImageNet",
    "clip": "CLIP",
}
MEASURES = {  # of what failure tasks change
    "silhouette_task": "silhouette of tasks",
    "silhouette_category": "silhouette of categories",
    "margin": "margin to the nearest other task",
    "peakedness": "peakedness of the distance matrix",
    "top1": "top-1 retrieval across datasets",
    "map": "mean average precision across datasets",
    "auroc": "AUROC of failed against right instances",
}
DISTANCES = {  # between tasks, in the transfer study
    "taco": "TaCo distance",
    "task2vec": "Task2Vec-like distance",
    "pixels": "distance of the targets' pixels",
    "category": "category alone",
}


def encoder(name: str) -> str:
    """A control by its view, or a baseline; others, such as variants, by their own name."""
    return {**VIEWS, **BASELINES}.get(name, name)


def probability(p: float | None) -> str:
    """p to two digits, or a dash."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
