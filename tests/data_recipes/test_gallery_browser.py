"""The gallery opened from disk in a real browser: boxes and entries point at each other, filters filter."""

import pytest

from data_recipes.gallery import write_gallery
from tests.browser import visible
from tests.eval.factories import make_mixture
from tests.eval.run_folders import HOSTILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page with hostile text wherever people's words go."""
    root = tmp_path_factory.mktemp("gallery")
    folder = make_mixture(root / "m", name=f"imax{HOSTILE}", text=HOSTILE, train=12, test=8)
    write_gallery(folder, root / "gallery.html", images=10)
    return root / "gallery.html"


def strong(card, selector):
    return card.locator(f"{selector}.strong").count()


def status(page):
    return page.locator(".tools output").inner_text()


def test_nothing_hostile_runs_or_becomes_an_element(page):
    assert page.evaluate("window.hacked === undefined")
    assert page.locator("script").count() == 1
    assert page.locator("iframe, object, embed, link, form, [onerror], [onfocus], [onmouseover]").count() == 0
    assert page.locator("img").count() == page.locator(".card").count() == 10
    assert visible(page, "h1").inner_text().startswith("Gallery of imax</script>")


def test_pointing_at_an_entry_marks_its_boxes_and_at_a_box_its_entries(page):
    card = page.locator(".card").first
    assert strong(card, "g.box") == strong(card, "li") == 0
    card.locator("li[data-task=rec]").first.hover()
    assert strong(card, "g.box") == 1
    assert strong(card, "li") == 2  # the entry that asks about the same box too
    page.locator("h1").hover()
    assert strong(card, "g.box") == 0
    card.locator("g.box rect").first.hover()
    assert strong(card, "li") == 2


def test_a_click_pins_and_keys_do_all_that_the_mouse_does(page):
    card = page.locator(".card").nth(1)
    card.locator("li[data-task=reg] p").first.click()
    page.locator("h1").hover()
    assert strong(card, "g.box") == 1
    assert card.locator("li.pinned").count() == 1
    button = card.locator("li[data-task=rec] .at").first
    button.focus()
    assert strong(card, "g.box") == 1
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert card.locator("li.pinned").count() == 2
    button.press("Escape")
    assert card.locator("li.pinned").count() == strong(card, "g.box") == 0


def test_filters_leave_what_fits_and_say_how_much(page):
    whole = page.locator(".card li").count()
    assert status(page) == f"10 of 10 images, {whole} of {whole} entries"
    page.locator("[data-all=false]").click()
    assert visible(page, ".card").count() == 0
    assert visible(page, ".empty").count() == 1
    page.locator("[name=task][value=severity]").check()
    left = page.locator("li[data-task=severity]").count()
    assert visible(page, ".card li").count() == left
    assert visible(page, "g.box").count() == 0  # no severity entry has one
    assert status(page) == f"{left} of 10 images, {left} of {whole} entries"
    page.locator("[data-all=true]").click()
    page.locator("[name=split]").select_option("test")
    assert visible(page, ".card").count() == page.locator(".card[data-split=test]").count() > 0
    page.locator("[name=split]").select_option("")
    page.locator("[name=boxed]").check()
    assert set(visible(page, ".card li").evaluate_all("items => items.map(item => item.dataset.task)")) == {
        "rec",
        "reg",
    }
    page.locator("[name=boxed]").uncheck()
    page.locator("[name=text]").fill("IS THERE EDEMA")
    assert set(visible(page, ".card li .prompt").all_inner_texts()) == {f"Is there edema?{HOSTILE}"}
    page.locator("[name=text]").fill("no entry says this")
    assert visible(page, ".card").count() == 0


def test_a_box_lies_on_the_picture_where_the_data_say(page):
    frame = page.locator(".card .frame").first
    outer = frame.locator("img").bounding_box()
    rect = frame.locator("g.box rect").first
    inner = rect.bounding_box()
    for side, start, extent in (("x", "x", "width"), ("y", "y", "height")):
        said = float(rect.get_attribute(side).removesuffix("%")) / 100
        assert (inner[start] - outer[start]) / outer[extent] == pytest.approx(said, abs=0.01)
        said = float(rect.get_attribute(extent).removesuffix("%")) / 100
        assert inner[extent] / outer[extent] == pytest.approx(said, abs=0.02)
    page.locator("[name=draw]").uncheck()
    assert visible(page, "g.box rect").count() == 0
    page.locator("li[data-task=rec]").first.hover()
    assert visible(page, "g.box rect").count() == 1  # what is pointed at is shown all the same


def test_without_javascript_everything_is_shown(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert visible(page, ".card").count() == 10
    assert visible(page, ".tools").count() == 0
    assert visible(page, "g.box").count() == page.locator("g.box").count() > 0
    context.close()


@pytest.mark.parametrize("width", [400, 1300])
@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_the_page_itself_never_scrolls_sideways(browser, path, width, size):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    page.locator("[name=size]").select_option(size)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
