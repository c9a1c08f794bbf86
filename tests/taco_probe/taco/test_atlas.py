"""The atlas: what the page and figures show, what is said of what is missing, and that text stays text."""

import json
import re
import shutil

import numpy as np
import pytest

from data_recipes.errors import UserError
from eval.drawing import svg
from harness.cli import run
from taco_probe.taco.atlas import figures, heat, marks, plane, report, ways
from taco_probe.taco.embeddings import open_embeddings
from taco_probe.taco.pool import open_pool
from tests.eval.run_folders import HOSTILE
from tests.taco_probe.taco import fake_atlas
from tests.taco_probe.taco.fake_atlas import RUN


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of an analysis."""
    folder = tmp_path_factory.mktemp("analysis")
    fake_atlas.write(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "analysis")
    fake_atlas.settle(folder / RUN)
    return folder


def found_in(folder):
    return json.loads((folder / "analysis.json").read_text())


def page_of(folder):
    return report.page(report.read(folder), method="pca")


def test_the_page_shows_every_section_and_needs_nothing_from_elsewhere(folder, tmp_path):
    made = report.build(folder, tmp_path / "out", method="pca")
    page = made.page.read_text()
    assert "not in this analysis" not in page
    for line in found_in(folder)["summary"]:
        assert line in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count('data-task="semantic_a"') == 16
    assert {path.name for path in made.figures if path.is_file()} == {
        f"{n}.{e}" for n in ("distances", "retrieval", "trajectories") for e in ("png", "svg")
    }


SECTIONS = {
    "retrieval": "Retrieval is", "silhouette": "The silhouette is", "distances": "The distance matrix is",
    "clusters": "The tree is", "paths": "Trajectories are", "sensitivity": "Sensitivity is",
    "failures": "The effect of failure tasks is", "shortcut": "The shortcut test is",
    "transfer": "The transfer study is", "natural": "Retrieval with photographs is",
}  # fmt: skip


@pytest.mark.parametrize("key", SECTIONS)
def test_a_section_without_data_says_so_in_one_line_and_the_rest_is_there(folder, key):
    found = found_in(folder)
    del found[key]
    (folder / "analysis.json").write_text(json.dumps(found))
    page = page_of(folder)
    assert page.count("not in this analysis") == 1
    assert f"{SECTIONS[key]} not in this analysis" in page


def test_the_transfer_study_may_lie_beside_the_analysis(folder):
    found = found_in(folder)
    (folder / "transfer.json").write_text(json.dumps(found.pop("transfer")))
    (folder / "analysis.json").write_text(json.dumps(found))
    assert "Nearness in TaCo goes with gain" in page_of(folder)


def test_an_empty_analysis_is_a_page_of_what_is_missing(tmp_path):
    (tmp_path / "analysis.json").write_text("{}")
    said = []
    made = report.build(tmp_path, tmp_path / "out", say=said.append)
    assert made.page.read_text().count("not in this analysis") >= 10
    assert made.figures == []
    assert said == ["the runs that were analysed are not there any more"]


def test_without_its_runs_an_analysis_has_neither_view_nor_examples(folder):
    shutil.rmtree(folder / RUN)
    page = page_of(folder)
    assert 'id="plane"' not in page
    assert page.count("the runs that were analysed are not there any more") == 2


def test_without_its_pool_a_run_says_so(folder):
    shutil.rmtree(folder / RUN / "pool-test")
    assert "is gone; the run" in page_of(folder)


def test_a_run_alone_is_measured_alone(folder):
    page = page_of(folder / RUN)
    for there in ('class="map"', 'id="plane"', 'class="way ', 'class="examples"'):
        assert there in page
    assert "Retrieval is not in this analysis" in page


def test_the_command_says_what_it_wrote_and_knows_its_views(folder, capsys):
    assert run(["taco", "report", str(folder), "--view", "pca"]) == 0
    assert f"written: {folder / 'atlas' / 'index.html'}" in capsys.readouterr().out
    with pytest.raises(UserError, match="'tsne'"):
        run(["taco", "report", str(folder), "--view", "tsnee"])


def test_an_analysis_that_is_not_there_or_broken_or_of_another_form_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="imax taco analyze"):
        report.build(tmp_path, tmp_path / "out")
    for text, said in (("{", "cannot be read"), ("[]", "holds no keys")):
        (tmp_path / "analysis.json").write_text(text)
        with pytest.raises(UserError, match=said):
            report.build(tmp_path, tmp_path / "out")
    found = found_in(folder)
    del found["paths"]["curves"]
    (folder / "analysis.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"paths is not as .* \(KeyError: 'curves'\)"):
        page_of(folder)


def test_text_from_files_stays_text(folder):
    """Names of tasks, categories, datasets, variants, and sentences."""
    swap = {"semantic_a": HOSTILE, "mni_brain": f"d{HOSTILE}", "generative": f"c{HOSTILE}"}
    fake_atlas.with_names(folder, swap)
    found = found_in(folder)
    found["summary"] = [HOSTILE]
    (folder / "analysis.json").write_text(json.dumps(found))
    page = page_of(folder)
    assert HOSTILE not in page
    assert page.count("<script>") == 1
    assert "onerror=" not in re.sub(r"&[a-z#0-9]+;[^<]*", "", page)
    for name, figure in figures.draw(found).items():
        assert b"<script" not in svg(figure), name


@pytest.mark.slow
def test_the_same_analysis_is_the_same_page_and_the_same_figures(folder, tmp_path):
    for out in ("a", "b"):
        report.build(folder, tmp_path / out, method="tsne")
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_near_is_dark_and_each_order_holds_every_pair_once(made):
    found = found_in(made)
    tree, category = heat.heats(found["distances"], found["clusters"])
    for one in (tree, category):
        assert len({(cell.x, cell.y) for cell in one.cells}) == 81
        assert sum(cell.same for cell in one.cells) == 9
    assert {cell.title for cell in tree.cells} == {cell.title for cell in category.cells}
    assert sum(int(heat.ramp(0.0)[i : i + 2], 16) for i in (1, 3, 5)) < 200
    light = [sum(int(heat.ramp(share)[i : i + 2], 16) for i in (1, 3, 5)) for share in np.linspace(0, 1, 20)]
    assert light == sorted(light)
    assert len(tree.branches) == 8
    assert not category.branches
    assert len(category.breaks) == 2


def test_branches_join_at_their_distance_and_span_their_tasks(made):
    found = found_in(made)
    tree = heat.heats(found["distances"], found["clusters"])[0]
    root = tree.branches[-1]
    assert root.x == max(branch.x for branch in tree.branches)
    heights = [row[2] for row in found["clusters"]["linkage"]]
    places = [branch.x for branch in tree.branches]
    np.testing.assert_allclose(places, np.array(heights) / max(heights) * places[-1], atol=0.1)
    assert sum(branch.x < tree.cut for branch in tree.branches) == 8 - 2  # three clusters: two merges beyond


def test_the_view_takes_tasks_and_datasets_alike_and_finds_their_thumbnails(made):
    test, pool = open_embeddings(made / RUN / "embeddings", "test"), open_pool(made / RUN / "pool-test")
    view = plane.plane(test, pool, method="pca", number=72)
    assert view.of == 144
    assert len(view.points) == 72
    counts = {}
    for point in view.points:
        counts[point.task, point.dataset] = counts.get((point.task, point.dataset), 0) + 1
        assert 0 <= point.x <= plane.WIDTH
        assert 0 <= point.y <= plane.HEIGHT
    assert set(counts.values()) == {2}
    assert [point.tile for point in view.points] == list(range(72))
    assert view.sheet.startswith("data:image/jpeg")


def test_a_picture_by_t_sne_says_so(made):
    view = plane.plane(open_embeddings(made / RUN / "embeddings", "test"), None)
    assert view.method.startswith("t-SNE")
    assert {point.tile for point in view.points} == {-1}


def test_every_task_has_its_pairs_from_several_datasets(made):
    pairs = plane.pairs(open_pool(made / RUN / "pool-test"), list(fake_atlas.TASKS))
    assert [one["task"] for one in pairs] == list(fake_atlas.TASKS)
    assert all(len(set(one["datasets"])) == 3 for one in pairs)
    assert {dataset for one in pairs for dataset in one["datasets"]} == set(fake_atlas.DATASETS)


def test_bars_lie_where_their_numbers_say():
    rows = [
        marks.Row("a", {"value": 0.5, "low": 0.25, "high": 1.0, "n": 3, "chance": 0.0}),
        marks.Row("b", None),
    ]
    panel = marks.panel("title", rows)
    first, second = panel.bars
    assert (first.value, first.low, first.high, first.chance) == (50, 25, 100, 0)
    assert (second.value, second.text) == (None, "–")
    assert panel.zero is None
    below = marks.panel("title", [marks.Row("a", {"value": -0.5, "low": None, "high": None})], scale=1)
    assert below.zero == 100


def test_a_straight_path_is_drawn_straight_and_inside_its_box(made):
    one = found_in(made)["paths"]["drawn"][0] | {"points": [[k / 10, 2 * k / 10] for k in range(11)]}
    drawn = ways._way(one, marks.marks(["semantic", "generative", "transformation"]))
    places = np.array([(x, y) for x, y, _ in drawn.marks])
    slopes = np.diff(places[:, 1]) / np.diff(places[:, 0])
    np.testing.assert_allclose(slopes, -2, atol=0.1)  # y grows downwards
    assert (places >= 0).all()
    assert (places <= ways.SIDES).all()


def test_categories_differ_in_colour_and_in_shape():
    found = marks.marks(["transformation", "semantic", "other", "generative"])
    assert list(found) == ["semantic", "generative", "transformation", "other"]
    assert len({one.shape for one in found.values()}) == len({one.number for one in found.values()}) == 4
