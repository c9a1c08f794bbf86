"""The atlas opened from disk in a real browser: it can be read, filtered and pointed at, with script off too,
and asks for nothing."""

import json

import numpy as np
import polars as pl
import pytest

from taco_probe.taco.atlas import report
from tests.browser import visible
from tests.eval.run_folders import HOSTILE
from tests.taco_probe.taco import fake_atlas

pytestmark = pytest.mark.slow

HOSTILE_TASK = f"task {HOSTILE}"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page with a hostile task, dataset, category and sentence."""
    root = tmp_path_factory.mktemp("browser")
    fake_atlas.write(root)
    swap = {"semantic_a": HOSTILE_TASK, "mni_brain": f"set {HOSTILE}", "generative": f"kind {HOSTILE}"}
    fake_atlas.with_names(root, swap)
    found = json.loads((root / "analysis.json").read_text())
    (root / "analysis.json").write_text(json.dumps(found | {"summary": [HOSTILE]}))
    return report.build(root, root / "out").page


def test_nothing_hostile_runs_or_becomes_an_element(page):
    page.locator("[name=colour][value=dataset]").check()
    page.locator("#plane path").first.hover(force=True)
    assert page.evaluate("window.hacked === undefined")
    assert page.locator("iframe, object, embed, link, form, [onerror], [onfocus], main script").count() == 0
    assert HOSTILE[:10] in page.locator(".verdict").first.inner_text()


def test_every_part_in_the_bar_is_there(page):
    for link in page.locator("nav a").all():
        target = page.locator(link.get_attribute("href"))
        link.click()
        assert target.count() == 1
        assert target.evaluate("part => Math.abs(part.getBoundingClientRect().top) < innerHeight")


def test_one_order_of_the_heat_map_at_a_time_and_squares_say_what_they_are(page):
    assert visible(page, ".map").count() == 1
    assert visible(page, ".map .tree polyline").count() == 8
    page.locator("[name=order][value=category]").check()
    assert visible(page, ".map").count() == 1
    assert visible(page, ".map .tree").count() == 0
    square = visible(page, ".map rect:not(.same)").first
    square.hover()
    assert page.locator(".told").inner_text() == square.locator("title").text_content()


def test_filters_keep_what_they_name_and_say_how_many(page):
    points = page.locator("#plane path")
    every = points.count()
    tools = page.locator("[data-tool=picture]")
    assert tools.locator("output").inner_text() == f"{every} of {every} points"
    tools.locator("[name=category][value=transformation]").uncheck()
    assert visible(page, "#plane path").count() == every * 2 // 3
    tools.locator("[name=task]").select_option(HOSTILE_TASK)
    assert visible(page, "#plane path").count() == every // 9
    tools.locator("[name=dataset]").select_option("phantom")
    left = visible(page, "#plane path")
    assert left.count() == every // 36
    assert tools.locator("output").inner_text() == f"{every // 36} of {every} points"
    for point in left.all():
        assert point.get_attribute("data-dataset") == "phantom"
        assert point.get_attribute("data-task") == HOSTILE_TASK


@pytest.mark.parametrize(("kind", "number"), [("category", 3), ("task", 9), ("dataset", 4)])
def test_colours_have_a_key_that_names_them(page, kind, number):
    page.locator(f"[name=colour][value={kind}]").check()
    assert visible(page, ".keys span").count() == number
    fill = "point => getComputedStyle(point).fill"
    seen = {
        (point.get_attribute(f"data-{kind}"), point.evaluate(fill))
        for point in page.locator("#plane path").all()
    }
    assert len(seen) == len({colour for _, colour in seen}) == number


def test_pointing_at_an_instance_shows_its_pair_and_its_name(page):
    assert not page.locator(".card").is_visible()
    point = page.locator("#plane path[data-dataset=phantom]").first
    point.dispatch_event("pointerover")
    card = page.locator(".card")
    assert card.is_visible()
    assert "phantom" in card.inner_text()
    drawn = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    assert card.locator("canvas").evaluate(drawn) > 20
    frame, at = page.locator(".stage").bounding_box(), card.bounding_box()
    assert frame["x"] <= at["x"]
    assert at["x"] + at["width"] <= frame["x"] + frame["width"] + 1
    page.locator(".stage").dispatch_event("pointerleave")
    assert not card.is_visible()


MEAN = """c => {
    const data = c.getContext("2d").getImageData(0, 0, c.height, c.height).data;
    return data.reduce((a, b) => a + b, 0) / data.length;
}"""


@pytest.mark.parametrize("at", [0, 37])
def test_thumbnails_are_those_of_the_point(page, path, at):
    """The left half of the card has the brightness of that instance's input in the pool."""
    root = path.parent.parent
    row = pl.read_parquet(root / "main-s1" / "embeddings" / "test.parquet").row(at, named=True)
    inputs = np.load(root / "main-s1" / "pool-test" / "inputs.npy")
    point = page.locator(f"#plane path[data-tile='{at}']")
    assert (point.get_attribute("data-task"), point.get_attribute("data-image")) == (
        row["task"],
        row["image"],
    )
    point.dispatch_event("pointerover")
    shown = page.locator(".card canvas").evaluate(MEAN)
    assert shown == pytest.approx((3 * inputs[at].mean() + 255) / 4, abs=2)  # opaque: a fourth channel of 255


@pytest.mark.parametrize("width", [400, 1300])
def test_the_page_itself_never_scrolls_sideways(browser, path, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("[name=colour][value=task]").check()
    for fold in page.locator("details summary").all():
        fold.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_with_script_off_all_figures_are_there(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert visible(page, ".map").count() == 2
    assert visible(page, "#plane path").count() == page.locator("#plane path").count() > 100
    assert visible(page, ".tools").count() == 0
    assert visible(page, ".examples img").count() == 9
    assert visible(page, ".way").count() == 27
    assert visible(page, ".panel").count() > 5
    context.close()
