"""The leaderboard's page and files: what they hold, and that nothing hostile becomes markup or a formula."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.tasks import TASKS
from eval import leaderboard
from eval.board import sections
from eval.board_page import shaded
from eval.board_text import CSV_COLUMNS, markdown, table
from eval.examples import PER_TASK, chosen
from eval.plots import Axis
from tests.eval.factories import make_mixture
from tests.eval.run_folders import HOSTILE, HOSTILE_NAME, change_scores, change_task, make_run, score_run

# Tags of our templates: whatever else is found came in with a text.
OURS = {
    "html", "head", "meta", "title", "style", "body", "main", "script", "section", "nav", "a", "div", "span",
    "p", "b", "i", "br", "h1", "h2", "h3", "h4", "small", "strong", "code", "details", "summary", "figure",
    "figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "article", "svg",
    "defs", "image", "use", "rect", "line", "circle", "text", "polyline", "fieldset", "legend", "label",
    "input", "select", "option", "output", "button",
}  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Two runs full of hostile text, compared: (folder of the board, run folders)."""
    root = tmp_path_factory.mktemp("hostile")
    mixture = make_mixture(root / "m", name=f"imax{HOSTILE}", text=HOSTILE, test=30)
    runs = []
    for name, share, recipe in ((f"={HOSTILE_NAME}", 0.8, HOSTILE), ("plain", 0.3, "dmax")):
        runs.append(make_run(root / name, mixture, recipe=recipe, share=share, wrong=HOSTILE))
        score_run(runs[-1])
        change_scores(runs[-1], model=f"@{HOSTILE}")
    grid = {
        "row_title": HOSTILE,
        "column_title": HOSTILE,
        "rows": [HOSTILE, "b"],
        "columns": [HOSTILE, "F1"],
        "values": [[1, None], [0.25, 7]],
    }
    change_task(
        runs[0],
        "severity",
        tables={HOSTILE: grid, "broken": {"rows": 3}},
        not_computed={"qwk": HOSTILE},
    )
    scores = json.loads((runs[0] / "scores.json").read_text())
    outside = {"value": 12.5, "ci_low": None, "ci_high": None, "n": 9, "source": f"RadEval {HOSTILE}"}
    change_task(runs[0], "report", metrics=scores["tasks"]["report"]["metrics"] | {"radgraph": outside})
    leaderboard.build(runs, root / "board")
    return root / "board", runs


class Page(HTMLParser):
    """Tags with attributes, and the text between them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag, **wanted):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(attrs.get(key.replace("_", "-")) == value for key, value in wanted.items())
        ]


@pytest.fixture(scope="module")
def page(hostile):
    return Page((hostile[0] / "index.html").read_text())


def test_nothing_hostile_becomes_markup(page):
    assert {tag for tag, _ in page.tags} <= OURS
    assert len(page.of("script")) == 1
    for _, attrs in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs)
    text = "".join(page.text)
    assert HOSTILE in text  # shown as text
    assert "{{ 7 * 7 }}" in text


def test_page_asks_for_nothing_and_only_its_own_script_may_run(page):
    for tag, attrs in page.tags:
        assert "src" not in attrs
        if tag in ("a", "use"):
            assert attrs["href"].startswith("#")
        elif "href" in attrs:
            assert attrs["href"].startswith("data:image/jpeg;base64,")
    (policy,) = [attrs["content"] for attrs in page.of("meta") if "http-equiv" in attrs]
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )


def test_every_link_and_picture_inside_the_page_is_there_once(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag in ("a", "use")} <= set(ids)
    assert len(page.of("image")) == 30  # one an image, though each is in many examples
    assert len(page.of("use")) == len(page.of("article")) == 8 * PER_TASK - PER_TASK


def test_examples_show_boxes_and_marks_of_every_run(page):
    assert {attrs["class"] for attrs in page.of("rect")} >= {"box asked", "box true", "box c0", "box c1"}
    marks = {attrs["data-marks"] for attrs in page.of("article")}
    assert {"rr", "rw"} <= marks
    assert any("u" in mark for mark in marks)


def test_every_metric_is_shown_and_what_is_not_computed_says_why(page, hostile):
    text = " ".join(" ".join(page.text).split())
    for run in hostile[1]:
        for task in json.loads((run / "scores.json").read_text())["tasks"].values():
            for name in task["metrics"]:
                assert name in text or HOSTILE in name
    assert f"not computed {HOSTILE}" in text
    assert "not computed not among this run's scores" in text  # radgraph, of the other run
    assert f"from RadEval {HOSTILE}" in text
    assert "12.5 no interval" in text


def test_tables_are_drawn_as_heat_and_broken_ones_left_out(page):
    heat = page.of("table", **{"class": "heat"})
    own = page.of("td", **{"class": "h8"})
    assert heat
    assert own
    assert "broken" not in "".join(page.text)


def test_shades_are_shares_of_the_row_in_a_confusion_matrix_and_of_the_columns_largest_elsewhere():
    table = {"rows": ["a", "b"], "columns": ["a", "b"], "values": [[3, 1], [0, 0]]}
    assert shaded(table) == [[("3", 6), ("1", 2)], [("0", 0), ("0", 0)]]
    table = {"rows": ["x", "y"], "columns": ["F1", "n"], "values": [[50.0, 10], [None, 5]]}
    assert shaded(table) == [[("50", 8), ("10", 8)], [("–", 0), ("5", 4)]]
    table = {"rows": ["x", "y"], "columns": ["F1"], "values": [[50.0], [12.25]]}
    assert shaded(table) == [[("50.0", 8)], [("12.2", 2)]]


def test_deltas_gains_and_reference_are_shown(page):
    options = [attrs["value"] for attrs in page.of("option")]
    assert {"0", "1"} <= set(options)
    text = " ".join(page.text)
    assert "Gain of averages" in text
    assert "Average of gains" in text
    against = [attrs["data-against"] for _, attrs in page.tags if "data-against" in attrs]
    assert {"0", "1"} == set(against)


def test_a_gain_over_a_score_of_zero_is_a_dash_with_the_reason(tmp_path):
    mixture = make_mixture(tmp_path / "m")
    runs = [
        make_run(tmp_path / name, mixture, recipe="imax", share=share)
        for name, share in (("no", 0), ("yes", 1))
    ]
    for run in runs:
        score_run(run)
    leaderboard.build(runs, tmp_path / "board")
    text = " ".join(" ".join(Page((tmp_path / "board" / "index.html").read_text()).text).split())
    assert "Average of gains – (a score of no is 0)" in text
    written = (tmp_path / "board" / "leaderboard.json").read_text()
    gains = [pair["gains"] for pair in json.loads(written)["sections"][0]["comparisons"]]
    assert ["average_of_gains", None, None, None] in [list(gain) for found in gains for gain in found]
    assert "nan" not in (tmp_path / "board" / "leaderboard.md").read_text()


def test_csv_has_a_line_a_run_task_and_metric_and_no_formula(hostile):
    found = sections(hostile[1])
    rows = list(csv.DictReader(io.StringIO(table(found))))
    assert tuple(rows[0]) == CSV_COLUMNS
    expected = sum(
        len(task["metrics"]) + len(task["not_computed"])
        for run in hostile[1]
        for task in json.loads((run / "scores.json").read_text())["tasks"].values()
    )
    assert len(rows) == expected
    for row in rows:
        for key in ("run", "model", "recipe", "section", "metric", "not_computed", "source"):
            assert not row[key].startswith(("=", "+", "-", "@"))
    assert {row["run"] for row in rows} == {f"'={HOSTILE_NAME}", "plain"}
    headlines = [row for row in rows if row["headline"] == "True"]
    assert len(headlines) == 2 * len(TASKS)
    assert all(float(row["baseline"]) >= 0 for row in headlines)
    (missing,) = [row for row in rows if row["metric"] == "qwk"]
    assert (missing["value"], missing["not_computed"]) == ("", HOSTILE)
    (outside,) = [row for row in rows if row["metric"] == "radgraph"]
    assert (outside["value"], outside["ci_low"], outside["n"]) == ("12.5", "", "9")


def test_markdown_and_json_say_the_same(hostile):
    written = json.loads((hostile[0] / "leaderboard.json").read_text())
    (section,) = written["sections"]
    assert [run["name"] for run in section["runs"]] == [f"={HOSTILE_NAME}", "plain"]
    assert len(section["comparisons"]) == 2
    text = (hostile[0] / "leaderboard.md").read_text()
    assert text == markdown(sections(hostile[1]))
    assert "<script" not in text
    assert "<img" not in text
    assert "### Against" in text
    assert "### Not computed" in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) == 2  # ranking and comparison


@given(st.dictionaries(st.text(max_size=8), st.floats(0, 100), max_size=90))
def test_examples_span_the_range_of_scores(values):
    ids = chosen(values)
    assert len(ids) == len(set(ids)) == min(PER_TASK, len(values))
    assert [values[key] for key in ids] == sorted((values[key] for key in ids), reverse=True)
    if values:
        assert {values[ids[0]], values[ids[-1]]} == {max(values.values()), min(values.values())}


def test_examples_are_even_over_scores_not_over_entries():
    values = {f"right{i}": 100.0 for i in range(1000)} | {f"wrong{i}": 0.0 for i in range(100)}
    found = [values[key] for key in chosen(values)]
    assert found.count(100.0) == found.count(0.0) == PER_TASK // 2


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=9))
def test_an_axis_holds_its_values_between_round_ends(values):
    axis = Axis.around(values)
    slack = 1e-6 * (1 + abs(axis.low) + abs(axis.high))
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert 2 <= len(axis.ticks) <= 6
    assert axis.ticks[0][0] == 0
    assert axis.ticks[-1][0] == 100


@given(st.one_of(st.just(0.0), st.floats(0.01, 1000), st.floats(-1000, -0.01)))
def test_a_value_alone_lies_inside_an_axis_with_labels_that_differ(value):
    axis = Axis.around([value, value])
    assert 10 <= axis.place(value) <= 90
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)
