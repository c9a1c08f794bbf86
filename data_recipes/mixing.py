"""Which of the candidate entries go into a mixture. Pure functions over entries: no source, no file.

Image-centric: many tasks on each image, at exact densities. Decentralised: one task, at an exact volume.
A *pair* is an image together with one task that it carries.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from data_recipes.errors import UserError
from data_recipes.records import Entry
from data_recipes.tasks import TASKS

# Image id -> every entry that its source can offer, in the source's order.
Candidates = Mapping[str, Sequence[Entry]]
Pair = tuple[str, str]  # image id, task


def image_centric(
    candidates: Candidates,
    *,
    tasks_per_image: float,
    entries_per_image: float,
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> list[Entry]:
    """Chooses round(tasks_per_image * N) pairs and round(entries_per_image * N) entries of N images.

    Every image carries at least one task and every chosen pair at least one entry. Pairs are drawn without
    replacement with probability proportional to the task's weight; the entries beyond one a pair are shared
    out among the tasks by weight as far as candidates reach, so that a task with many candidates (vqa) does
    not swallow the others, and within a task over images and kinds in turn.

    Args:
        candidates: every image needs at least one candidate of a task with weight.
        weights: task -> weight; 1 where a task is missing, 0 leaves it out.

    Raises:
        UserError: the candidates do not reach the densities; the message names what they do reach.
    """
    n = len(candidates)
    pairs = {
        (image, name): entries
        for image, offered in candidates.items()
        for name, entries in by_task(offered).items()
        if weights.get(name, 1.0) > 0
    }
    total = round(entries_per_image * n)
    chosen = _draw_pairs(list(pairs), round(tasks_per_image * n), n, weights, rng)
    chosen = _enlarge(chosen, {pair: len(entries) for pair, entries in pairs.items()}, total)
    ordered = {pair: in_turns(pairs[pair], rng) for pair in chosen}

    extra = total - len(chosen)
    capacity: dict[str, int] = defaultdict(int)
    for (_, name), entries in ordered.items():
        capacity[name] += len(entries) - 1
    if extra > sum(capacity.values()):
        reach = (len(chosen) + sum(capacity.values())) / n
        raise UserError(
            f"entries_per_image {entries_per_image:g} is out of reach: with {tasks_per_image:g} tasks an "
            f"image, these {n} images offer at most {math.floor(reach * 100) / 100:.2f}"
        )
    quota = share_out(extra, capacity, {name: weights.get(name, 1.0) for name in capacity})

    taken = dict.fromkeys(ordered, 1)
    for name in sorted(quota):
        # Second entries of all images come before third entries of any.
        leftovers = [
            (rank, float(draw), pair)
            for pair, entries in ordered.items()
            if pair[1] == name
            for rank, draw in enumerate(rng.random(len(entries) - 1), start=1)
        ]
        for _, _, pair in sorted(leftovers)[: quota[name]]:
            taken[pair] += 1
    return [entry for pair, number in taken.items() for entry in ordered[pair][:number]]


def by_quota(
    candidates: Candidates, *, pairs: int, quotas: Mapping[str, int], rng: np.random.Generator
) -> list[Entry]:
    """Chooses exactly so many entries of each task, and so many pairs in all, at least one for each image.

    Which task an image certainly carries is a maximum flow from images through tasks (Ford and Fulkerson
    1956); the other pairs are drawn at random, tasks in proportion to the images that can carry them.

    Args:
        candidates: every image needs at least one candidate.
        pairs: at least the number of images.
        quotas: task -> entries.

    Raises:
        UserError: the candidates do not reach the quotas; the message names the task.
    """
    offered: dict[str, dict[str, list[Entry]]] = {name: {} for name in quotas}
    for image, entries in candidates.items():
        for name, group in by_task(entries).items():
            if name in offered:
                offered[name][image] = group
    room = {name: min(quota, len(offered[name])) for name, quota in quotas.items()}
    if pairs > sum(room.values()):
        raise UserError(
            f"{pairs} (image, task) pairs are out of reach: the quotas leave {sum(room.values())}"
        )
    share = share_out(pairs, room, {name: len(found) for name, found in offered.items()})
    sure = _one_each(list(candidates), offered, share, rng)
    chosen = [
        entry
        for name in quotas
        for entry in of_task(offered[name], share[name], quotas[name], rng, sure=sure[name])
    ]
    got = Counter(entry.task for entry in chosen)
    if lacking := [name for name in quotas if got[name] < quotas[name]]:
        name = lacking[0]
        raise UserError(
            f"{quotas[name]} entries of {name} on {share[name]} images are out of reach: "
            f"{got[name]} are offered"
        )
    place = {image: number for number, image in enumerate(candidates)}
    return sorted(chosen, key=lambda entry: place[entry.image_id])


def of_task(
    offered: Candidates, pairs: int, total: int, rng: np.random.Generator, *, sure: Iterable[str] = ()
) -> list[Entry]:
    """`total` entries of one task on so many images: those that are `sure`, and others at random, or those
    with most candidates where random ones do not hold enough. All that there are where none hold enough."""
    first = list(sure)
    taken = set(first)
    others = [name for name in offered if name not in taken]
    names = first + [others[place] for place in rng.permutation(len(others))]
    if sum(len(offered[name]) for name in names[:pairs]) < total:
        names[len(first) :] = sorted(names[len(first) :], key=lambda name: -len(offered[name]))
    return one_task({name: offered[name] for name in names[:pairs]}, total, lambda _: 1, rng)


def _one_each(
    images: Sequence[str],
    offered: Mapping[str, Candidates],
    share: Mapping[str, int],
    rng: np.random.Generator,
) -> dict[str, list[str]]:
    """Task -> images that are to carry it, such that each image is there once and no task more often than its
    share."""
    tasks = list(share)
    order = [images[place] for place in rng.permutation(len(images))]
    source, sink = 0, 1 + len(order) + len(tasks)
    edges = [(source, 1 + row, 1) for row in range(len(order))]
    edges += [
        (1 + row, 1 + len(order) + column, 1)
        for row, image in enumerate(order)
        for column, name in enumerate(tasks)
        if image in offered[name]
    ]
    edges += [(1 + len(order) + column, sink, share[name]) for column, name in enumerate(tasks)]
    start, end, capacity = (np.array(part, dtype=np.int32) for part in zip(*edges, strict=True))
    graph = scipy.sparse.csr_array((capacity, (start, end)), shape=(sink + 1, sink + 1))
    flow = scipy.sparse.csgraph.maximum_flow(graph, source, sink)
    if flow.flow_value < len(order):
        raise UserError(
            f"the quotas leave {len(order) - flow.flow_value} of {len(order)} images without an entry: ask "
            "for fewer images or more entries"
        )
    found: dict[str, list[str]] = {name: [] for name in tasks}
    moved = flow.flow.tocoo()
    for row, column, amount in zip(moved.row, moved.col, moved.data, strict=True):
        if amount > 0 and 1 <= row <= len(order):
            found[tasks[int(column) - 1 - len(order)]].append(order[int(row) - 1])
    return found


def one_task(
    candidates: Candidates, total: int, measure: Callable[[Entry], int], rng: np.random.Generator
) -> list[Entry]:
    """Entries whose measures sum as closely as possible to `total` (exactly, where each measures 1).

    One entry of every image comes first, then second entries, then third ones, so that the entries spread
    evenly over the images. All candidates are of one task. Ends short of `total` when the candidates do.
    """
    queue = [
        (rank, float(draw), image, entry)
        for image, offered in candidates.items()
        for ordered in [in_turns(offered, rng)]
        for (rank, entry), draw in zip(enumerate(ordered), rng.random(len(ordered)), strict=True)
    ]
    queue.sort(key=lambda place: place[:3])
    chosen, reached = [], 0
    for _, _, _, entry in queue:
        size = measure(entry)
        if abs(reached + size - total) >= abs(reached - total):
            break
        reached += size
        chosen.append(entry)
    place = {image: i for i, image in enumerate(candidates)}
    return sorted(chosen, key=lambda entry: place[entry.image_id])


def share_out(total: int, capacity: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `total`, in proportion to the weights as far as capacities allow.

    Water-filling: names whose fair share exceeds their capacity get the capacity, the rest is shared again;
    what rounding leaves goes to the largest remainders.

    Raises:
        ValueError: the capacities sum to less than `total`.
    """
    if total > sum(capacity.values()):
        raise ValueError(f"{total} is more than the capacities hold: {sum(capacity.values())}")
    result: dict[str, int] = {}
    free = sorted(capacity)
    while True:
        left = total - sum(result.values())
        scale = sum(weights[name] for name in free)
        share = {name: left * weights[name] / scale if scale else 0.0 for name in free}
        full = [name for name in free if share[name] >= capacity[name]]
        if not full:
            break
        result |= {name: capacity[name] for name in full}
        free = [name for name in free if name not in full]
    result |= {name: math.floor(share[name]) for name in free}
    by_remainder = sorted(free, key=lambda name: (math.floor(share[name]) - share[name], name))
    for name in by_remainder[: total - sum(result.values())]:
        result[name] += 1
    return dict(sorted(result.items()))


def by_task(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries grouped by task, tasks in the order of TASKS."""
    groups: dict[str, list[Entry]] = {name: [] for name in TASKS}
    for entry in entries:
        groups[entry.task].append(entry)
    return {name: group for name, group in groups.items() if group}


def in_turns(entries: Sequence[Entry], rng: np.random.Generator) -> list[Entry]:
    """The entries shuffled such that kinds take turns: any first few of them are as varied as can be."""
    turn: dict[str, int] = defaultdict(int)
    places = []
    kind_order: dict[str, float] = {}
    for position in rng.permutation(len(entries)):
        kind = entries[position].kind
        places.append((turn[kind], kind_order.setdefault(kind, float(rng.random())), int(position)))
        turn[kind] += 1
    return [entries[position] for _, _, position in sorted(places)]


def _draw_pairs(
    pairs: Sequence[Pair],
    number: int,
    n: int,
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> list[Pair]:
    """`number` of the pairs, at least one for each of the n images, in the order given."""
    if not n <= number <= len(pairs):
        raise UserError(
            f"tasks_per_image {number / max(1, n):.2f} is out of reach: {n} images with {len(pairs)} "
            f"(image, task) pairs allow 1 to {math.floor(len(pairs) / max(1, n) * 100) / 100:.2f}"
        )
    # Weighted sampling without replacement (Efraimidis and Spirakis 2006): exponential keys with rate =
    # weight.
    keys = [rng.exponential() / weights.get(name, 1.0) for _, name in pairs]
    first: dict[str, int] = {}
    for i, (image, _) in enumerate(pairs):
        if image not in first or keys[i] < keys[first[image]]:
            first[image] = i
    needed = set(first.values())
    if len(needed) < n:
        raise UserError(f"{n - len(needed)} images have no entry of the tasks with weight")
    order = sorted(range(len(pairs)), key=lambda i: (i not in needed, keys[i]))
    return [pairs[i] for i in sorted(order[:number])]


def _enlarge(chosen: Sequence[Pair], sizes: Mapping[Pair, int], total: int) -> list[Pair]:
    """Swaps chosen pairs for larger ones until there are `total` candidates, or no swap helps.

    Rarely needed, where a mixture is small or dense. The sets of pairs with one for each image are the
    bases of a matroid, so that where no single swap helps, no choice of as many pairs holds more.
    """
    order = list(sizes)
    taken = set(chosen)
    held = Counter(image for image, _ in chosen)
    reached = sum(sizes[pair] for pair in chosen)
    while reached < total:
        largest = sorted((pair for pair in order if pair not in taken), key=lambda pair: -sizes[pair])
        swap = None
        for new in largest:
            free = [pair for pair in order if pair in taken and (held[pair[0]] > 1 or pair[0] == new[0])]
            old = min(free, key=lambda pair: sizes[pair], default=new)
            if sizes[new] > sizes[old]:
                swap = (old, new)
                break
        if swap is None:
            break
        old, new = swap
        taken = (taken - {old}) | {new}
        held[old[0]] -= 1
        held[new[0]] += 1
        reached += sizes[new] - sizes[old]
    return [pair for pair in order if pair in taken]
