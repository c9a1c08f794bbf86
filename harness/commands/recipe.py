"""`imax recipe`: build mixtures from recipes, look at them, check them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from data_recipes.errors import UserError
from data_recipes.recipe import build as build_recipe
from data_recipes.recipe import load_recipe, mixture_folder, recipe_names, source_names
from data_recipes.records import SPLITS
from data_recipes.roots import file_changes
from data_recipes.sources import licence_of
from data_recipes.staged import is_staged, load_staged
from harness.commands.recipe_tables import print_overlap, print_statistics

app = typer.Typer(
    no_args_is_help=True,
    help="Build mixtures of training and test entries from recipes, look at them, check them.",
)

Spec = Annotated[str, typer.Argument(help="Recipe name, recipe file, or folder of a mixture.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as images.train=64. Repeatable."
    ),
]


@app.command("list")
def list_recipes() -> None:
    """List the recipes that come with the project, and the licences of their sources."""
    for name in recipe_names():
        if is_staged(name):
            staged = load_staged(name)
            stages = " -> ".join(
                f"{s.name} ({'annotates ' * bool(s.annotate)}{' + '.join([s.source, *s.mix])})"
                for s in staged.stages
            )
            typer.echo(f"{name}\n    {' '.join(staged.description.split())}\n    stages: {stages}")
            continue
        recipe = load_recipe(name)
        typer.echo(f"{name}\n    {' '.join(recipe.description.split())}")
        for source in source_names(recipe):
            typer.echo(f"    licence of {source}: {licence_of(source)}")


@app.command()
def build(
    spec: Annotated[str, typer.Argument(help="Recipe name, recipe file, or a folder of your own.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to put it; by default in the cache ($IMAX_HOME).")
    ] = None,
    changes: Changes = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the files that the sources read.")] = None,
    pixels: Annotated[
        str | None, typer.Option(help="Image files of the source: copy, link (hard links) or skip.")
    ] = None,
) -> None:
    """Build the mixture of a recipe, or find it in the cache, and print its folder.

    \b
    imax recipe build imax
    imax recipe build imax --set images.train=64 --set images.test=16 --out small
    imax recipe build dmax --set match.by=images
    imax recipe build my_rows/          (images, and entries.jsonl, a CSV, COCO or messages)
    """
    overrides = parse_changes(changes)
    recipe = load_recipe(spec, overrides)
    if given := file_changes(recipe, root, pixels):
        recipe = load_recipe(spec, {**overrides, **given})
    folder = build_recipe(recipe, out)
    from data_recipes.store import read_meta

    meta = read_meta(folder)
    held = ", ".join(f"{meta['counts'][split]['images']} {split}" for split in SPLITS)
    typer.echo(
        f"{recipe.name}: {held} images; {meta['rejected']} rows rejected; hash {meta['mixture_hash'][:12]}",
        err=True,
    )
    for note in meta["notes"]:
        typer.echo(f"note: {note}", err=True)
    if meta["rejected"]:
        typer.echo(f"see {folder / 'rejected.jsonl'}", err=True)
    typer.echo(folder)


@app.command()
def stats(
    spec: Spec,
    changes: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what a mixture holds: counts, densities, and which tasks share images.

    \b
    imax recipe stats imax
    imax recipe stats dmax --json
    """
    from data_recipes.stats import statistics
    from data_recipes.store import read_mixture

    found = statistics(read_mixture(mixture_folder(spec, parse_changes(changes))))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    print_statistics(found)


@app.command()
def check(spec: Spec, changes: Changes = None) -> None:
    """Check a mixture: every row, every image file, patients across splits, densities, content hash.

    Exits with 1 and lists what is wrong; rows that cannot be used go to rejected.jsonl in the mixture's
    folder.

    \b
    imax recipe check imax
    imax recipe check path/to/mixture
    """
    from data_recipes.check import check as check_folder

    folder = mixture_folder(spec, parse_changes(changes))
    report = check_folder(folder)
    for line in [*report.problems, *map(str, report.rejected), *(f"note: {note}" for note in report.notes)]:
        typer.echo(line)
    survive = f"{len(report.mixture.images)} images and {len(report.mixture.entries)} entries"
    if report.sound:
        typer.echo(f"{folder}: sound; {survive}")
        return
    typer.echo(
        f"{folder}: {len(report.problems)} problems, {len(report.rejected)} rows rejected; {survive} are good"
    )
    raise typer.Exit(1)


@app.command()
def gallery(
    spec: Annotated[
        str, typer.Argument(help="Recipe name, recipe file, folder of a mixture or with entries.jsonl.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("gallery.html"),
    images: Annotated[int, typer.Option(help="How many images, at most.")] = 48,
    task: Annotated[str | None, typer.Option(help="Only images with entries of this task.")] = None,
    split: Annotated[str | None, typer.Option(help="Only images of this split.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed shows other images.")] = 0,
    megabytes: Annotated[
        float, typer.Option(help="Size that the pictures keep to; they are made smaller to fit.")
    ] = 8.0,
    changes: Changes = None,
) -> None:
    """Write a page of images with all their entries and boxes, to look through before training.

    One file that needs no network. Filter by task, split, source and text; point at an entry to see its
    boxes.

    \b
    imax recipe gallery imax --out gallery.html
    imax recipe gallery my_rows/ --task rec --images 24
    """
    from data_recipes.gallery import write_gallery

    folder = mixture_folder(spec, parse_changes(changes))
    shown = write_gallery(folder, out, images=images, task=task, split=split, seed=seed, megabytes=megabytes)
    side = f"pictures of up to {shown['longest_side']} pixels" if shown["longest_side"] else "no pixels"
    typer.echo(f"{shown['images']} images, {shown['entries']} entries, {side}", err=True)
    typer.echo(str(out))


@app.command()
def export(
    spec: Spec,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="hf, trl, llamafactory, ms-swift or llava.")
    ],
    out: Annotated[Path, typer.Option(help="Where it goes; must be new or empty.")],
    turns: Annotated[
        str, typer.Option(help="A conversation each entry, or each image: its entries as turns.")
    ] = "entry",
    notation: Annotated[
        str,
        typer.Option(
            help="How boxes are written: canonical (fractions), thousandths, pixels, a family such as "
            "qwen2_5_vl, a model, or native (ms-swift: its own objects)."
        ),
    ] = "canonical",
    images: Annotated[str, typer.Option(help="Image files: copy, or link (hard links).")] = "copy",
    changes: Changes = None,
) -> None:
    """Write a mixture for another training tool, to be loaded there unchanged.

    \b
    imax recipe export imax --to trl --out exports/imax-trl
    imax recipe export my_mixture/ --to llamafactory --notation qwen2_5_vl --out exports/mine
    """
    from data_recipes.export import export as export_mixture

    writer = None
    if notation not in ("canonical", "native"):
        from harness import be_quiet
        from model_adapters.notations import notation as find

        be_quiet()
        writer = find(notation).write
    done = export_mixture(
        to,
        spec,
        out,
        turns=turns,
        notation=notation,
        writer=writer,
        images=images,
        overrides=parse_changes(changes),
    )
    for split, counts in done.facts["splits"].items():
        typer.echo(
            f"{split}: {counts['conversations']} conversations, {counts['entries']} entries, "
            f"{counts['images']} images",
            err=True,
        )
    typer.echo(out)


@app.command()
def overlap(
    a: Annotated[str, typer.Argument(help="Recipe name, recipe file, or folder of a mixture.")],
    b: Annotated[str, typer.Argument(help="The mixture to compare it with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what two mixtures have in common: patients, and images by id, pixels and near-duplicates.

    \b
    imax recipe overlap imax dmax
    imax recipe overlap path/to/mixture path/to/other --json
    """
    from data_recipes.overlap import overlap as compare

    found = compare(mixture_folder(a), mixture_folder(b), progress=True)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    print_overlap(found)


def parse_changes(changes: Iterable[str] | None) -> dict[str, Any]:
    """KEY=VALUE texts as a mapping; values are read as YAML, so that 64 is a number.

    Raises:
        UserError: no equals sign, or a value that is no YAML.
    """
    parsed: dict[str, Any] = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {change}: write KEY=VALUE, such as images.train=64")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {change}: {value!r} is no YAML value") from None
    return parsed
