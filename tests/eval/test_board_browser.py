"""The leaderboard opened from disk in a real browser: it sorts, filters, compares, and asks for nothing."""

import json

import pytest

from eval import leaderboard
from tests.browser import visible
from tests.eval.factories import make_mixture
from tests.eval.run_folders import HOSTILE, HOSTILE_NAME, change_scores, change_task, make_run, score_run

pytestmark = pytest.mark.slow
NAMES = (HOSTILE_NAME, "plain", "third")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page of three runs, with hostile text in every place that text can come from."""
    root = tmp_path_factory.mktemp("browser")
    mixture = make_mixture(root / "m", name=f"imax{HOSTILE}", text=HOSTILE, test=20)
    runs = []
    for i, (name, share) in enumerate(zip(NAMES, (0.8, 0.3, 0.55), strict=True)):
        recipe = HOSTILE if i == 0 else "dmax"
        runs.append(make_run(root / name, mixture, recipe=recipe, share=share, luck=i, wrong=HOSTILE))
        score_run(runs[-1])
    change_scores(runs[0], model=HOSTILE)
    grid = {
        "row_title": HOSTILE,
        "column_title": "",
        "rows": [HOSTILE],
        "columns": [HOSTILE],
        "values": [[1]],
    }
    change_task(runs[0], "severity", tables={HOSTILE: grid}, not_computed={HOSTILE: HOSTILE})
    scores = json.loads((runs[1] / "scores.json").read_text())
    outside = {"value": 12.5, "ci_low": None, "ci_high": None, "n": 9, "source": HOSTILE}
    change_task(runs[1], "report", metrics=scores["tasks"]["report"]["metrics"] | {"radgraph": outside})
    leaderboard.build(runs, root / "board")
    return root / "board" / "index.html"


def column(page, number):
    """The sort values of the ranking's rows in a column, top to bottom."""
    return page.eval_on_selector_all(
        ".ranking tbody tr", f"rows => rows.map(row => row.cells[{number}].dataset.value)"
    )


def test_nothing_hostile_runs_or_becomes_an_element(page):
    assert page.evaluate("window.hacked === undefined")
    assert page.locator("script").count() == 1
    assert page.locator("img, iframe, object, embed, link, form, [onerror], [onfocus]").count() == 0
    assert visible(page, ".ranking tbody tr").first.inner_text().startswith(HOSTILE_NAME[:20])
    page.locator(".answer").first.hover()
    page.locator(".pager button").first.click()
    assert page.evaluate("window.hacked === undefined")


def test_a_script_that_slipped_in_would_not_run(browser, path, tmp_path):
    text = path.read_text().replace("<main>", "<main><script>window.hacked = 1</script>")
    text = text.replace("<main>", '<main><img src="data:," onerror="window.hacked = 1">')
    (tmp_path / "index.html").write_text(text)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_load_state()
    assert page.locator("main > script").count() == 1
    assert page.evaluate("window.hacked === undefined")
    assert page.locator(".ranking th button").count() > 0  # while our own did
    page.close()


def test_columns_sort_by_number_both_ways_and_by_keyboard(page):
    heads = page.locator(".ranking thead th")
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    for number in (2, 4):
        heads.nth(number).locator("button").click()
        assert heads.nth(number).get_attribute("aria-sort") == "descending"
        values = [float(value) for value in column(page, number)]
        assert values == sorted(values, reverse=True)
    heads.nth(4).locator("button").press("Enter")
    assert heads.nth(4).get_attribute("aria-sort") == "ascending"
    values = [float(value) for value in column(page, 4)]
    assert values == sorted(values)
    assert len(set(values)) == 3
    assert page.locator(".ranking [aria-sort]").count() == 1
    heads.nth(0).locator("button").press("Space")
    assert column(page, 0) == sorted(NAMES, key=str.lower)


def test_empty_cells_stay_last_and_numbers_are_no_text(page):
    table = page.locator("table.dense").first
    head = table.locator("thead th").nth(4).locator("button")  # of a run without radgraph
    orders = []
    for _ in range(2):
        head.click()
        values = table.locator("tbody tr").evaluate_all("rows => rows.map(row => row.cells[4].dataset.value)")
        filled = [float(value) for value in values if value]
        assert 0 < len(filled) < len(values)
        assert all(values[: len(filled)])  # the empty ones come after
        orders.append(filled)
    assert orders[0] == sorted(orders[0], reverse=True)
    assert orders[1] == sorted(orders[0])
    assert sorted(map(str, orders[0])) != list(map(str, orders[1]))  # as text the order would differ


def test_filters_show_what_fits_everywhere(page):
    page.locator("[name=name]").fill("PLAIN")
    assert visible(page, ".ranking tbody tr").count() == 1
    assert "1 of 3 runs" in page.locator(".tools output").inner_text()
    assert set(visible(page, ".panel .line[data-run] .name").all_inner_texts()) == {"plain"}
    page.locator("[name=name]").fill("")
    page.locator("[name=recipe]").select_option("dmax")
    assert visible(page, ".ranking tbody tr").count() == 2
    page.locator("[name=recipe]").select_option("")
    page.locator("[name=task][value=vqa]").uncheck()
    assert visible(page, ".ranking thead th").count() == 2 + 6
    assert visible(page, ".sheet").count() == 6
    assert visible(page, "tr[data-task=vqa]").count() == 0
    assert visible(page, "tr[data-task=rec]").count() > 0


def test_another_reference_changes_every_delta(page):
    def deltas():
        return visible(page, ".ranking .delta").all_inner_texts()

    before = deltas()
    plain = page.locator("tr[data-name=plain]").get_attribute("data-run")
    assert page.locator(".reference-name").inner_text() == " ".join(HOSTILE_NAME.split())
    page.locator("[name=reference]").select_option(plain)
    after = deltas()
    assert len(before) == len(after) == 2 * 8 + 1
    assert set(before) & set(after) <= {"reference"}
    assert page.locator(".reference-name").inner_text() == "plain"
    assert visible(page, "tr[data-name=plain] .delta").all_inner_texts() == ["reference"]
    assert visible(page, "[data-reference]").count() == 1
    assert "Against plain" in visible(page, "[data-reference] h4").inner_text()
    page.locator("[name=deltas]").uncheck()
    assert not deltas()


def test_examples_are_sifted_by_mark_run_and_text(page):
    def marks():
        cards = page.locator(".card:not([hidden])")
        return cards.evaluate_all("cards => cards.map(card => card.dataset.marks)")

    everything = marks()
    page.locator("[name=marks]").select_option("r")
    assert set(marks()) == {"rrr"}
    page.locator("[name=marks]").select_option("d")
    assert marks() == [mark for mark in everything if "r" in mark and set(mark) != {"r"}]
    page.locator("[name=marks]").select_option("u")
    assert marks() == [mark for mark in everything if "u" in mark]
    page.locator("[name=of]").select_option("1")
    assert marks() == [mark for mark in everything if mark[1] == "u"]
    page.locator("[name=marks]").select_option("")
    page.locator("[name=text]").fill("test7<")
    assert 0 < len(marks()) < len(everything)
    page.locator("[name=text]").fill("no entry says this")
    assert marks() == []
    assert "0 of" in page.locator(".sheet .count").first.inner_text()


IN_SIGHT = "card => card.getBoundingClientRect().right > 0"


def until(page, true, tries=100):
    """Waits for what an animation brings about; Playwright's own waiting needs `eval`, which pages forbid."""
    while not true():
        tries -= 1
        assert tries
        page.wait_for_timeout(50)


def test_next_and_previous_move_through_the_examples(page):
    sheet = page.locator(".sheet").first
    cards = sheet.locator(".card")
    assert cards.first.evaluate(IN_SIGHT)
    sheet.locator("[data-step='1']").click()
    until(page, lambda: not cards.first.evaluate(IN_SIGHT))
    sheet.locator("[data-step='-1']").click()
    until(page, lambda: cards.first.evaluate(IN_SIGHT))


def test_without_javascript_everything_is_shown(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert visible(page, ".ranking tbody tr").count() == 3
    assert visible(page, "[data-reference]").count() == 3
    assert visible(page, ".card").count() == page.locator(".card").count() > 0
    assert visible(page, ".tools").count() == 0
    context.close()


@pytest.mark.parametrize("width", [400, 1300])
def test_the_page_itself_never_scrolls_sideways(browser, path, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
