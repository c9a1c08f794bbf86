"""Where training moved the weights: Delta W = s B A of two adapters compared, never A or B by themselves.

(R A, B R^-1) is the same update for any R, so cosines of factors say nothing. Delta W itself (p x d) is never
formed: all that is needed are r x r products and QR of the factors, O(r^2 (d + p)).

Legend: d inputs, p outputs, r rank, k directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from data_recipes.errors import UserError


@dataclass(frozen=True)
class Update:
    """s B A of one module, with A (r, d) and B (p, r).

    `minus` gives the difference of two, of rank r + r: from one checkpoint to the next.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1]:
            raise UserError(f"A {tuple(self.a.shape)} and B {tuple(self.b.shape)} make no update B A")

    def minus(self, other: Update) -> Update:
        """This update less an earlier one."""
        a = torch.cat([self.a.double(), other.a.double()])
        return Update(a, torch.cat([self.scale * self.b.double(), -other.scale * other.b.double()], dim=1))


Updates = Mapping[str, Update]


class Angles(NamedTuple):
    """Principal angles in radians between two subspaces, smallest first, and their overlap, the mean of
    squared cosines (0 to 1), beside its expectation for random subspaces of the same dimensions."""

    angles: torch.Tensor
    overlap: float
    overlap_random: float


def inner(first: Update, second: Update) -> float:
    """<s1 B1 A1, s2 B2 A2> = s1 s2 tr((B2^T B1)(A1 A2^T)).

    Raises:
        UserError: the updates are of modules of different shape.
    """
    _same_shape(first, second)
    left = second.b.double().T @ first.b.double()
    right = first.a.double() @ second.a.double().T
    return first.scale * second.scale * float((left * right.T).sum())


def norm(update: Update) -> float:
    """Frobenius norm of s B A."""
    return math.sqrt(max(0.0, inner(update, update)))


def cosine(first: Updates, second: Updates) -> float:
    """Cosine of two updates over all their modules as one vector; NaN if one of them is zero. See
    `random_cosine` for what independent ones give.

    Raises:
        UserError: they are not of the same modules.
    """
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise UserError(f"updates of different modules cannot be compared: {odd[0]} is in one only")
    products = sum(inner(first[name], second[name]) for name in first)
    lengths = [math.sqrt(sum(norm(one) ** 2 for one in side.values())) for side in (first, second)]
    return products / (lengths[0] * lengths[1]) if all(lengths) else math.nan


def random_cosine(first: Updates, second: Updates) -> float:
    """Standard deviation of the cosine, whose mean is 0, were each module's update turned at random on both
    sides: <W1, Q W2 R> has the variance |W1|^2 |W2|^2 / (p d) for random rotations Q and R. NaN if one of
    them is zero."""
    squares = [{name: norm(one) ** 2 for name, one in side.items()} for side in (first, second)]
    variance = sum(
        squares[0][name] * squares[1][name] / (one.b.shape[0] * one.a.shape[1]) for name, one in first.items()
    )
    total = sum(squares[0].values()) * sum(squares[1].values())
    return math.sqrt(variance / total) if total else math.nan


def cosine_by_module(first: Updates, second: Updates) -> dict[str, float]:
    """Cosine of each module's update, NaN where one is zero."""
    return {name: cosine({name: first[name]}, {name: second[name]}) for name in first}


def singular(update: Update) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Thin SVD of s B A by QR of B and A^T and an r x r SVD: U (p, k), values (k,), V (d, k), all in float64;
    k is the rank, so directions that are only rounding are left out."""
    q_b, r_b = torch.linalg.qr(update.b.double())
    q_a, r_a = torch.linalg.qr(update.a.double().T)
    u, values, v = torch.linalg.svd(update.scale * r_b @ r_a.T)
    precision = torch.finfo(update.a.dtype).eps
    terms = abs(update.scale) * torch.linalg.matrix_norm(r_b) * torch.linalg.matrix_norm(r_a)
    kept = values > precision * terms  # a difference of equal updates has nothing but rounding
    return q_b @ u[:, : len(values)][:, kept], values[kept], q_a @ v.T[:, : len(values)][:, kept]


def angles(first: Update, second: Update, *, side: str = "column", top: int | None = None) -> Angles:
    """Principal angles between the column spaces (outputs) or row spaces (inputs) of two updates.

    Args:
        side: "column" or "row".
        top: only the span of so many leading directions of each.

    Raises:
        UserError: different shapes, an unknown side, or an update of zero.
    """
    _same_shape(first, second)
    if side not in ("column", "row"):
        raise UserError(f"side {side!r} is neither 'column' nor 'row'")
    bases = [singular(one)[0 if side == "column" else 2][:, :top] for one in (first, second)]
    if not all(base.shape[1] for base in bases):
        raise UserError("an update of zero has no directions")
    cosines = torch.linalg.svdvals(bases[0].T @ bases[1]).clamp(max=1)
    # Near 0 an angle is lost in the rounding of its cosine, so small ones come from their sine (Bjorck and
    # Golub 1973).
    small, large = sorted(bases, key=lambda base: base.shape[1])
    sines = torch.linalg.svdvals(small - large @ (large.T @ small)).clamp(max=1).flip(0)
    found = torch.where(cosines.square() > 0.5, sines.asin(), cosines.acos())
    return Angles(found, float(cosines.square().mean()), random_overlap(large.shape[1], large.shape[0]))


def random_overlap(k: int, dimension: int) -> float:
    """Expected mean squared cosine of a random subspace with one of k dimensions: k / dimension."""
    return k / dimension


def energy(update: Update, basis: Update, top: int) -> tuple[float, float]:
    """Share of the update's squared norm inside the span of the `top` leading directions of another update,
    on both
    sides: |U^T W V|^2 / |W|^2; and what it is for random directions, k^2 / (p d).

    Raises:
        UserError: different shapes, or an update of zero.
    """
    _same_shape(update, basis)
    length = norm(update) ** 2
    u, _, v = singular(basis)
    if not length or not u.shape[1]:
        raise UserError("an update of zero has no directions")
    u, v = u[:, :top], v[:, :top]
    inside = update.scale * (u.T @ update.b.double()) @ (update.a.double() @ v)
    return float(inside.square().sum()) / length, u.shape[1] * v.shape[1] / (u.shape[0] * v.shape[0])


def own_energy(update: Update, top: int) -> float:
    """Share of the squared norm in the update's own `top` leading singular directions; NaN for zero."""
    values = singular(update)[1].square()
    return float(values[:top].sum() / values.sum()) if len(values) else math.nan


def _same_shape(first: Update, second: Update) -> None:
    shapes = [(one.b.shape[0], one.a.shape[1]) for one in (first, second)]
    if shapes[0] != shapes[1]:
        raise UserError(f"updates of weights of shape {shapes[0]} and {shapes[1]} cannot be compared")
