"""Which sentences of a report become the target."""

from __future__ import annotations

import polars as pl
import pytest

from data_recipes.sections import ReportOptions, chosen, cleaned, split_sections

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 COMPARISON:  Chest radiograph ___.

 FINDINGS:

 Heart size is normal: no edema.  A 2.5 cm nodule
 is seen.

 IMPRESSION:  No acute process.
"""


def clean(text: str, **options) -> str:
    return pl.select(cleaned(pl.lit(text), ReportOptions(**options))).item()


def test_sections_by_header():
    found = split_sections(REPORT)
    assert found["findings"].startswith("Heart size is normal: no edema.")
    assert found["findings"].endswith("is seen.")
    assert found["impression"] == "No acute process."
    assert found["last paragraph"] == "No acute process."


def test_without_headers_the_last_paragraph_is_left():
    assert split_sections("WET READ.\n\nClear lungs.\nNormal heart.") == {
        "last paragraph": "Clear lungs.\nNormal heart."
    }
    assert split_sections("") == {}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("F.", "I.", "L."), "F."),
        (("  ", "I.", "L."), "I."),
        ((None, None, "L."), "L."),
        ((None, "", None), None),
    ],
)
def test_the_first_section_that_says_something_is_the_target(row, expected):
    names = ("findings", "impression", "last paragraph")
    frame = pl.DataFrame([row], schema=dict.fromkeys(names, pl.String), orient="row")
    assert frame.select(chosen(names)).item() == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Compared to the prior study, the effusion is larger.",
        "The effusion is unchanged.",
        "Interval removal of the tube.",
        "Opacities are again seen at the base.",
        "The heart is stable in size.",
        "No significant change since the previous exam.",
        "The edema has increased.",
        "Improved aeration of the lung.",
        "Persistent left effusion.",
    ],
)
def test_a_sentence_that_compares_with_an_earlier_image_is_dropped(sentence):
    text = f"Clear lungs. {sentence} Normal heart."
    assert clean(text) == "Clear lungs. Normal heart."
    assert clean(text, priors="keep") == text


@pytest.mark.parametrize(
    "sentence",
    [
        "Increased interstitial markings.",
        "There is a new line.",
        "Comparable heart borders.",
        "Prioritise this.",
    ],
)
def test_a_sentence_that_describes_this_image_stays(sentence):
    assert clean(f"Clear lungs. {sentence}") == f"Clear lungs. {sentence}"


def test_a_sentence_with_removed_text_is_dropped_and_decimals_stay_whole():
    assert clean("A 2.5 cm nodule.  There are no XXXX of effusion.\nNormal heart") == (
        "A 2.5 cm nodule. Normal heart"
    )
    assert clean("Tube in place ___. Clear.") == "Clear."
    assert clean("No XXXX.", removed="keep") == "No XXXX."
    assert clean("XXXX. Unchanged.") == ""
