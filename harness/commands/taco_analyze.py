"""`imax taco analyze RUN...`: what encoders' embeddings show, as analysis.json and in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import be_quiet


def analyze(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Finished runs of imax taco train, of one data set."),
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="For analysis.json.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A network to compare with: resnet18=FILE or resnet50=FILE (torchvision), clip=FOLDER "
            "(transformers); may be repeated."
        ),
    ] = None,
    permutations: Annotated[int, typer.Option(min=0, help="Of each permutation test; 0: none.")] = 199,
    threads: Annotated[int | None, typer.Option(min=1, help="That torch uses (else as it chooses).")] = None,
) -> None:
    """Say what the map of visual tasks shows: retrieval on datasets never seen, against controls and
    baselines, with intervals. Runs that differ in their seed only are replicates. See docs/taco-analysis.md.

    \b
    imax taco analyze runs/taco/* --output_dir taco
    """
    import torch

    from taco_probe.taco.analysis.analyze import FILE, analyse
    from taco_probe.taco.analysis.baselines import read_weights

    be_quiet()
    if threads:
        torch.set_num_threads(threads)
    networks = read_weights(weights or ())
    found = analyse(runs, output_dir, weights=networks, permutations=permutations, quiet=False)
    for sentence in found["summary"]:
        typer.echo(sentence)
    typer.echo(f"written: {output_dir / FILE}")
