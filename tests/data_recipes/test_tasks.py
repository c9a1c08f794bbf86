"""Each task: parse undoes render, and reads what real models write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.records import BOX_SLOT, Box
from data_recipes.scene import EDEMA_GRADES, FINDINGS
from data_recipes.tasks import TASKS, short, task
from data_recipes.tasks.calculation import Ratio
from tests.data_recipes.hostile import hostile

UNIT = st.integers(0, 1000)
LABEL = st.from_regex(r"[a-z][a-z0-9 /'-]{0,20}[a-z0-9]", fullmatch=True).filter(
    lambda t: (
        "  " not in t
        and "and" not in t.replace("/", " ").replace("-", " ").replace("'", " ").split()
        and not t.startswith(("no", "without", "normal", "unremarkable"))
    )
)


def as_box(corners: tuple[int, int, int, int]) -> Box:
    x1, y1, w, h = corners
    return Box(x1 / 1001, y1 / 1001, min(1, (x1 + w + 1) / 1001), min(1, (y1 + h + 1) / 1001))


BOXES = st.lists(st.tuples(UNIT, UNIT, UNIT, UNIT).map(as_box), min_size=1, max_size=5)


def round_trip(name, answer):
    module = task(name)
    text, boxes = module.render(answer)
    assert text.count(BOX_SLOT) == len(boxes)
    return module.parse(text, boxes)


@given(st.sampled_from(["CTR", "CPAR"]), st.integers(0, 200))
def test_calculation_round_trip(name, hundredths):
    ratio = Ratio(name, hundredths / 100)
    assert round_trip("calculation", ratio) == ratio


@given(st.text().map(lambda t: " ".join(t.split())).filter(lambda t: t and BOX_SLOT not in t))
def test_report_round_trip(text):
    assert round_trip("report", text) == text


@pytest.mark.parametrize("grade", range(4))
def test_severity_round_trip(grade):
    assert round_trip("severity", grade) == grade
    assert task("severity").parse(EDEMA_GRADES[grade]) == grade


@given(st.sets(st.sampled_from(FINDINGS) | LABEL))
def test_findings_round_trip(labels):
    assert round_trip("findings", labels) == labels


@given(BOXES)
def test_rec_round_trip(boxes):
    assert round_trip("rec", boxes) == tuple(boxes)


@given(st.text().map(short).filter(bool))
def test_reg_round_trip(text):
    assert round_trip("reg", text) == text


@given(st.text().map(lambda t: task("vqa").parse(t)).filter(bool))
def test_vqa_round_trip(answer):
    assert round_trip("vqa", answer) == answer


@given(st.text() | st.text(alphabet='{box} the.answer is*"`İa\n'))
def test_short_is_idempotent(text):
    assert short(short(text)) == short(text)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("calculation", Ratio("CTR", -0.1)),
        ("calculation", Ratio("CTR", 2.01)),
        ("calculation", Ratio("CTR", float("nan"))),
        ("calculation", Ratio("", 0.5)),
        ("report", " \n"),
        ("report", "a {box}"),
        ("severity", 4),
        ("severity", -1),
        ("severity", 1.5),
        ("findings", {"Edema"}),
        ("findings", {"edema, mass"}),
        ("findings", {"edema and mass"}),
        ("findings", {"no finding"}),
        ("findings", {"no edema"}),
        ("findings", {""}),
        ("rec", ()),
        ("reg", " . "),
        ("reg", "a {BOX}"),
        ("vqa", ""),
        ("vqa", "at {box}"),
    ],
)
def test_render_refuses_what_is_not_legal(name, answer):
    with pytest.raises(ValueError, match=r"."):
        task(name).render(answer)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The CTR is approximately 0.48.", 0.48),
        ("48%", 0.48),
        ("about 48 percent", 0.48),
        ("CTR = .48", 0.48),
        ("CTR: 0,48", 0.48),
        ("12.1 cm / 25.2 cm = 0.48", 0.48),
        ("0.48 (12.1 cm / 25.2 cm)", 0.48),
        ("0.48 (normal < 0.5)", 0.48),
        ("0.48, which is less than 0.50.", 0.48),
        ("Grade 1 cardiomegaly: 0.48 on image 2", 0.48),
        ("CTR 0.47999999999999998", 0.48),
        ("1", 1.0),
    ],
)
def test_calculation_reads_real_outputs(text, value):
    assert task("calculation").parse(text).value == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "normal", "48", "-", "²", "٣", "9" * 11, "CTR", "1e400", "1.2.3"])
def test_calculation_without_a_ratio_is_unparsed(text):
    assert task("calculation").parse(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [("The CTR is 0.4", "CTR"), ("cardiopulmonary ratio 0.4", "CPAR"), ("0.4", ""), ("CTR, CPAR 0.4", "")],
)
def test_calculation_names_the_ratio_when_the_text_does(text, name):
    assert task("calculation").parse(text).name == name


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Grade 2 (interstitial edema)", 2),
        ("2", 2),
        ("**3**", 3),
        ("Scale 0-3: 2", 2),
        ("On a scale from 0 to 3, the grade is 2.", 2),
        ("Interstitial oedema.", 2),
        ("There is no evidence of pulmonary edema.", 0),
        ("Vascular congestion", 1),
        ("interstitial edema or alveolar edema", None),
        ("4", None),
        ("0.5", None),
        ("12", None),
        ("severe", None),
        ("", None),
    ],
)
def test_severity_reads_real_outputs(text, grade):
    assert task("severity").parse(text) == grade


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Edema, nodule", {"edema", "nodule"}),
        ("- Edema\n- Nodule", {"edema", "nodule"}),
        ("• edema • mass", {"edema", "mass"}),
        ("1. Edema\n2. Pleural effusion.", {"edema", "pleural effusion"}),
        ("The findings are: edema, nodule, and mass.", {"edema", "nodule", "mass"}),
        ("['edema', 'nodule']", {"edema", "nodule"}),
        ("No findings.", set()),
        ("None", set()),
        ("Normal chest radiograph.", set()),
        ("Edema. No pleural effusion, nodule or mass.", {"edema"}),
        ("edema, edema {box}", {"edema"}),
    ],
)
def test_findings_reads_real_outputs(text, labels):
    assert task("findings").parse(text) == labels


@pytest.mark.parametrize("text", ["", " \n", "...", "- * 1.", "{box}"])
def test_findings_that_say_nothing_are_unparsed(text):
    assert task("findings").parse(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes, there is a small left effusion.", "yes"),
        ("Yes. The heart is large.", "yes"),
        ("**No**, it is not.", "no"),
        ("No there is not", "no"),
        ("YES!", "yes"),
        ("The answer is: the left.", "left"),
        ("no finding", "no finding"),
        ("Left", "left"),
        ("A", "a"),
        (" . ", None),
        ("", None),
    ],
)
def test_vqa_reads_real_outputs(text, answer):
    assert task("vqa").parse(text) == answer


def test_reg_and_report_drop_what_does_not_belong():
    assert task("reg").parse("A large left pleural  effusion {box}.\n") == "large left pleural effusion"
    assert task("report").parse("The heart {box}\n is large. ") == "The heart is large."
    assert task("reg").parse("{box}") is None
    assert task("rec").parse("no idea", ()) is None


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_name_and_usable_prompts(name):
    module = task(name)
    assert name == module.NAME
    for templates in module.PROMPTS.values():
        assert len(set(templates)) == len(templates) >= 2
        for template in templates:
            assert len(template.split()) <= 10
            slots = {"rec": "{phrase}", "reg": BOX_SLOT, "vqa": "{question}"}
            assert template.count("{") == (name in slots)
            assert slots.get(name, "") in template


@given(st.text() | st.text(alphabet="0123456789.,%{}box gradeyno\n-–•*:<"))
def test_parse_survives_anything(text):
    for name in TASKS:
        task(name).parse(text)


@pytest.mark.parametrize("name", TASKS)
def test_parse_survives_huge_texts(name):
    """That it takes linear time is what `benchmarks/texts.py` measures; quadratic work would hang here."""
    for text in hostile(100_000):
        task(name).parse(text)
