"""The whole analysis, on runs with planted embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_recipes.errors import UserError
from taco_probe.taco.analysis import elsewhere, runs, summary
from taco_probe.taco.analysis.analyze import FILE, analyse
from taco_probe.taco.atlas import scores
from taco_probe.taco.embeddings import Embeddings, open_embeddings
from taco_probe.taco.settings import read_settings
from tests.taco_probe.taco.analysis.planted import planted
from tests.taco_probe.taco.analysis.run_folders import planted_rows, planted_run, pools

SHARP, BLUNT = {"task": 0.6, "category": 0.5}, {"task": 0.4, "category": 0.5}
DATASET = {"dataset": 2.0}
KEYS = {
    "runs", "retrieval", "controls", "baselines", "shortcut", "silhouette", "failures", "nearest",
    "natural", "distances", "clusters", "summary",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """TaCo with and without failures over two seeds, and a control that sees the dataset alone."""
    home = tmp_path_factory.mktemp("runs")
    places = pools(home / "pools", planted_rows())
    made = []
    for seed in (1, 2):
        made.append(planted_run(home / f"main-s{seed}", places, SHARP, seed=seed))
        made.append(planted_run(home / f"no-s{seed}", places, BLUNT, seed=seed, failures="none"))
        made.append(planted_run(home / f"input-s{seed}", places, DATASET, seed=seed, view="input"))
    return made


@pytest.fixture(scope="module")
def analysed(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    found = analyse(folders, out, permutations=19)
    assert json.loads((out / FILE).read_text()) == found
    return found


def test_every_key_is_there_and_runs_are_grouped_by_variant(analysed: dict[str, Any]) -> None:
    assert set(analysed) == KEYS
    assert analysed["runs"]["main"] == "both+negatives"
    shown = {name: one["seeds"] for name, one in analysed["runs"]["variants"].items()}
    assert shown == {"both+negatives": [1, 2], "both+none": [1, 2], "input+negatives": [1, 2]}


def test_planted_tasks_beat_the_control_the_baselines_and_chance(analysed: dict[str, Any]) -> None:
    main = analysed["retrieval"]["variants"]["both+negatives"]["training"]
    assert main["top1"]["value"] > 0.9
    assert main["above_chance"]["low"] > 0.5
    assert (main["top1"]["seeds"], main["top1"]["n"], main["queries"]) == (2, 4, 6 * 4 * 4)
    (control,) = analysed["controls"]["rows"]
    assert (control["view"], control["against"]) == ("input", "both+negatives")
    assert control["top1"]["value"] == pytest.approx(control["top1"]["chance"], abs=0.15)
    assert control["difference"]["top1"]["low"] > 0.3
    assert [row["baseline"] for row in analysed["baselines"]["rows"]] == ["untrained", "pixels"]
    for row in analysed["baselines"]["rows"]:
        assert row["difference"]["top1"]["low"] > 0.3


def test_failures_are_paired_by_seed_and_photographs_stand_apart(analysed: dict[str, Any]) -> None:
    (pair,) = analysed["failures"]["pairs"]
    assert (pair["with"], pair["without"], pair["seeds"]) == ("both+negatives", "both+none", [1, 2])
    assert pair["measures"]["margin"]["difference"]["value"] > 0
    assert set(analysed["failures"]["told_apart"]) == {"both+negatives", "both+none"}
    natural = analysed["natural"]
    assert (natural["datasets"], natural["trained_on"]) == (["d6", "d7"], [])
    assert natural["natural_to_medical"]["top1"]["over"] == "images"
    assert natural["medical_to_natural"]["queries"] == 6 * 2 * 4


def test_planted_tasks_of_held_out_datasets_are_named(analysed: dict[str, Any]) -> None:
    named = analysed["nearest"]
    assert (named["tasks"], named["folders"]) == (6, 6 * 4)
    assert named["top1"]["value"] > 0.9
    assert (named["chance1"], named["chance5"]) == (1 / 6, 5 / 6)
    assert "Of 24 pairs of a task and a held-out dataset" in " ".join(analysed["summary"])


def test_only_the_main_variant_is_tested_by_permutation(analysed: dict[str, Any]) -> None:
    variants = analysed["shortcut"]["variants"]
    assert variants["both+negatives"]["variance"]["task"]["p"] == pytest.approx(1 / 20)
    assert variants["pixels"]["variance"]["task"]["p"] is None
    assert variants["input+negatives"]["dataset_read"]["value"] > 0.9
    shown = analysed["silhouette"]["variants"]["both+negatives"]["held_out"]["task"]["instances"]
    assert shown["value"] > shown["null_high"]


def test_sentences_say_what_was_varied(analysed: dict[str, Any], folders: list[Path], tmp_path: Path) -> None:
    text = " ".join(analysed["summary"])
    assert "other seeds (here 2)" in text
    assert "Seeds were not varied" not in text
    one = analyse(folders[:2], tmp_path, permutations=0)
    text = " ".join(one["summary"])
    assert "Seeds were not varied" in text
    assert "at one seed, so that seeds may explain it" in text
    assert one["failures"]["pairs"][0]["measures"]["margin"]["seeds_only"] is None
    alone = analyse(folders[:1], tmp_path, permutations=0)
    assert "The effect of failure tasks is not known" in " ".join(alone["summary"])
    assert alone["controls"]["rows"] == []


def test_embeddings_are_kept_until_the_encoder_changes(folders: list[Path]) -> None:
    run = runs.Run(folders[0], read_settings(folders[0] / "settings.yaml"))
    first = run.embedded("test")
    made = []

    def make() -> Embeddings:
        made.append(1)
        return first

    for made_of in ({"a": "1"}, {"a": "1"}, {"a": "2"}):
        run.kept("other", made_of, make)
    assert len(made) == 2


def test_variants_of_one_name_are_told_apart_by_what_they_differ_in(tmp_path: Path) -> None:
    places = pools(tmp_path / "pools", planted_rows())
    made = [
        planted_run(
            tmp_path / f"{fusion}-{temperature}", places, SHARP, fusion=fusion, temperature=temperature
        )
        for fusion, temperature in (("concat6", 0.1), ("diff", 0.1), ("concat6", 0.5))
    ]
    assert list(runs.variants(runs.read_runs(made))) == [
        "both+negatives fusion=concat6 temperature=0.1",
        "both+negatives fusion=diff temperature=0.1",
        "both+negatives fusion=concat6 temperature=0.5",
    ]


def test_runs_that_cannot_be_compared_are_refused(folders: list[Path], tmp_path: Path) -> None:
    places = pools(tmp_path / "pools", planted_rows())
    apart = planted_run(tmp_path / "apart", places, SHARP, seed=7)
    other = planted_run(tmp_path / "other", places, SHARP, held_out=("d4", "d5", "d6"))
    nothing = planted_run(tmp_path / "nothing", places, SHARP, held_out=())
    again = planted_run(tmp_path / "again", places, SHARP, seed=7)
    for wrong, message in (
        ([folders[0], apart], "measured on other instances"),
        ([folders[0], other], "differ in held_out"),
        ([folders[0], folders[0]], "named twice"),
        ([nothing], "held no dataset out"),
        ([apart, again], "one setting with one seed"),
        ([folders[2]], "only controls"),
        ([tmp_path], "no run of imax taco train"),
        ([], "no run to analyse"),
    ):
        with pytest.raises(UserError, match=message):
            analyse(wrong, tmp_path / "out")


def test_a_held_out_dataset_without_an_instance_is_left_out(tmp_path: Path) -> None:
    whole = planted_rows()
    for lacking, folders in ((["d7"], 18), (["d4", "d5", "d6", "d7"], None)):
        kept = pl.Series(~whole["dataset"].is_in(lacking))
        at = tmp_path / lacking[0]
        places = pools(at / "pools", whole.filter(kept))
        run = planted_run(at / "run", places, SHARP, kept=kept.to_numpy())
        if folders is None:
            with pytest.raises(UserError, match="no instance of a held-out dataset"):
                analyse([run], at / "out", permutations=0)
        else:
            found = analyse([run], at / "out", permutations=0)
            assert found["nearest"]["folders"] == folders


def test_where_no_left_out_task_is_known_elsewhere_nothing_is_said_of_new_datasets() -> None:
    tasks = [(f"t{k % 6}", f"d{k // 6}") for k in range(48)]
    lacking = [(int(t[1]), int(d[1])) for t, d in tasks if (t in ("t0", "t1")) != (d in ("d4", "d5"))]
    alone = planted(task=1, lacking=lacking).where(pl.col("dataset") != "d5")
    assert elsewhere.nearest([(1, alone)], ["d4", "d5"]) is None


def test_cut_embeddings_beside_a_fresh_note_are_made_again(folders: list[Path]) -> None:
    run = runs.Run(folders[0], read_settings(folders[0] / "settings.yaml"))
    first = run.embedded("test")
    for name, what in (("other.npy", b"cut"), ("other.parquet", b"")):
        run.kept("other", {"a": "3"}, lambda: first)
        (run.folder / "embeddings" / name).write_bytes(what)
        assert run.kept("other", {"a": "3"}, lambda: first).rows.equals(first.rows)
        assert open_embeddings(run.folder / "embeddings", "other").rows.equals(first.rows)


def test_a_control_that_differs_in_more_than_the_view_is_compared_with_nothing(
    folders: list[Path], tmp_path: Path
) -> None:
    places = pools(tmp_path / "pools", planted_rows())
    runs_ = [
        planted_run(tmp_path / "main", places, SHARP, seed=1),
        planted_run(tmp_path / "input", places, DATASET, seed=1, view="input", fusion="diff"),
    ]
    found = analyse(runs_, tmp_path / "out", permutations=0)
    (row,) = found["controls"]["rows"]
    assert row["against"] is None
    assert row["difference"] == {"top1": None, "map": None}
    assert row["top1"]["value"] < 1
    (told,) = [text for text in found["summary"] if text.startswith("Encoders of the input")]
    assert told.endswith("no run differs from them in the view alone, so that nothing is compared.")
    assert scores.retrieval(found)["differences"]


def test_sentences_do_not_pass_over_what_is_worse_or_what_was_not_varied(analysed: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(analysed))
    changed["retrieval"]["variants"]["both+negatives"]["training"]["above_chance"] |= {
        "low": -0.3,
        "high": -0.1,
    }
    assert "That is clearly below chance." in summary.sentences(changed)
    parts = changed["shortcut"]["variants"]["both+negatives"]["variance"]
    parts["category"] |= {"value": 0.123, "alone": 0.456}
    (told,) = [text for text in summary.sentences(changed) if text.startswith("Of the variance")]
    assert "12.3 % beyond the dataset if categories stand in place of tasks" in told
    assert "45.6" not in told
    (control,) = changed["controls"]["rows"]
    control["difference"]["top1"]["seeds"] = 1
    (told,) = [text for text in summary.sentences(changed) if text.startswith("Encoders of the input")]
    assert told.endswith("At one seed, so that seeds may explain it.")
    (told,) = [text for text in summary.sentences(analysed) if text.startswith("Encoders of the input")]
    assert "seeds may explain" not in told


def test_sentences_call_nothing_higher_whose_interval_holds_0(analysed: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(analysed))
    (control,) = changed["controls"]["rows"]
    for low, words in (
        (-0.1, "both+negatives is not clearly higher or lower (-10.0 to"),
        (None, "both+negatives is higher by"),
    ):
        control["difference"]["top1"]["low"] = low
        (told,) = [text for text in summary.sentences(changed) if text.startswith("Encoders of the input")]
        assert words in told
    assert "without an interval" in told
    changed["retrieval"]["variants"]["both+negatives"]["training"]["above_chance"]["low"] = -0.01
    assert "That is not clearly above chance." in summary.sentences(changed)
