"""The comparison of dynamics opened from disk in a real browser: it can be read, jumped through and unfolded,
and asks for nothing."""

import pytest

from taco_probe.dynamics import report
from tests.browser import visible
from tests.eval.run_folders import HOSTILE, HOSTILE_NAME
from tests.taco_probe.dynamics import fakes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page of four runs in two groups, one of them with hostile names."""
    root = tmp_path_factory.mktemp("browser")
    folders = [
        fakes.run(
            root / f"{number}{HOSTILE_NAME if number % 2 else ''}",
            recipe=HOSTILE if number % 2 else "imax",
            seed=number // 2,
            decay=1.8 if number % 2 else 0.8,
        )
        for number in range(4)
    ]
    return report.build(folders, root / "out").page


def test_nothing_hostile_runs_or_becomes_an_element(page):
    assert page.evaluate("window.hacked === undefined")
    assert page.locator("script, img, iframe, object, embed, link, form, [onerror], [onfocus]").count() == 0
    assert HOSTILE_NAME[:10] in page.locator("main").inner_text()


def test_every_part_in_the_bar_is_there_and_every_plot_has_its_lines(page):
    for link in page.locator("nav a").all():
        target = page.locator(link.get_attribute("href"))
        link.click()
        assert target.count() == 1
        assert target.evaluate("part => Math.abs(part.getBoundingClientRect().top) < innerHeight")
    plots = visible(page, "figure.plot svg")
    assert plots.count() > 5
    for plot in plots.all():
        box = plot.bounding_box()
        assert box["width"] > 150
        assert box["height"] > 80
        assert plot.locator("polyline, circle").count() > 0


def test_what_is_folded_unfolds(page):
    for fold in page.locator("details").all():
        assert visible(fold, "figure, table").count() == 0
        fold.locator("summary").click()
        assert visible(fold, "figure, table").count() > 0


@pytest.mark.parametrize("width", [400, 1300])
def test_the_page_itself_never_scrolls_sideways(browser, path, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
