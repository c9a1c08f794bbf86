"""What goes into an export, whatever its format."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.records import Mixture
from data_recipes.scene import EDEMA_GRADES
from data_recipes.store import open_image, read_mixture, write_mixture
from data_recipes.tasks import TASKS, task
from eval import export as package
from eval.export import benchmark as module
from eval.export import export
from eval.export.benchmark import FORMS, MAX_NEW_TOKENS, from_row, read_benchmark, to_row
from eval.predictions import CanonicalBoxes
from eval.scores import held_out_hash
from tests.eval.factories import LABELS


def test_a_row_carries_an_entry_through_json_and_back(pairs):
    rows = json.loads(json.dumps([to_row(image, entry) for image, entry in pairs]))
    restored = [from_row(row) for row in rows]
    assert [entry for _, entry in restored] == [entry for _, entry in pairs]
    assert [image.patient_id for image, _ in restored] == [image.patient_id for image, _ in pairs]
    assert held_out_hash(entry for _, entry in restored) == held_out_hash(entry for _, entry in pairs)


def test_questions_and_answers_hold_boxes_in_canonical_notation(pairs):
    codec = CanonicalBoxes()
    for image, entry in pairs:
        row = to_row(image, entry)
        for text, boxes in ((row["question"], entry.prompt_boxes), (row["answer"], entry.target_boxes)):
            read = codec.read(text, image.width, image.height)[1]
            assert len(read) == len(boxes)
            for found, box in zip(read, boxes, strict=True):
                assert found.xyxy == pytest.approx(box.xyxy, abs=5e-4)


@given(st.text(), st.sampled_from(["test", "validation"]))
def test_a_benchmark_name_is_an_identifier_whatever_the_mixture_is_called(mixture, split):
    name = module._name(mixture, split)
    assert name.isidentifier()
    assert name.isascii()


def test_every_task_has_a_form_and_room_for_its_answer():
    assert set(FORMS) == set(MAX_NEW_TOKENS) == set(TASKS)


def test_instructions_name_forms_that_the_tasks_read(mixture_dir):
    texts = read_benchmark(str(mixture_dir)).instructions
    for grade, name in enumerate(EDEMA_GRADES):
        form = f"grade {grade}, {name}"
        assert form in texts["severity"]
        assert task("severity").parse(form) == grade
    assert all(label in texts["findings"] for label in LABELS)
    assert "'no finding'" in texts["findings"]
    assert task("findings").parse("no finding") == frozenset()
    assert {name for name, text in texts.items() if module.BOXES in text} == {"rec", "reg"}


def test_without_instructions_prompts_stay_as_they_are(mixture_dir):
    assert set(read_benchmark(str(mixture_dir), instructions=False).instructions.values()) == {""}


def test_a_limit_takes_whole_images_and_another_split_another_name(mixture_dir):
    found = read_benchmark(str(mixture_dir), limit=3)
    assert len(found.images) == 3
    assert len(found.pairs) == 24
    assert read_benchmark(str(mixture_dir), split="train").name == "fake_bench_train"


def test_images_are_written_once_and_as_our_models_see_them(mixture_dir, tmp_path):
    found = read_benchmark(str(mixture_dir))
    module.write_images(found, tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == len(found.images) == 12
    for image in found.images:
        written = open_image(tmp_path, replace(image, path=f"images/{module.image_file(image)}"))
        assert written.tobytes() == open_image(mixture_dir, image).tobytes()


@pytest.mark.parametrize("split", ["tset", "validation"])
def test_a_split_that_is_not_there_is_refused(mixture_dir, split):
    with pytest.raises(UserError, match="split"):
        read_benchmark(str(mixture_dir), split=split)


def test_a_mixture_without_pixels_is_refused(mixture_dir, tmp_path):
    whole = read_mixture(mixture_dir)
    images = tuple(replace(image, path="") for image in whole.images)
    write_mixture(Mixture(images, whole.entries, whole.meta), tmp_path / "bare")
    with pytest.raises(UserError, match=r"12 images of the test split have no pixels.*--pixels copy"):
        read_benchmark(str(tmp_path / "bare"))


@pytest.mark.parametrize("name", sorted(package.FORMATS))
def test_an_export_says_mixture_hash_and_licence(mixture_dir, tmp_path, name):
    found, out = export(name, str(mixture_dir), tmp_path / "out")
    readme = (out / "README.md").read_text()
    assert "hash-fake" in readme
    assert found.facts["test_hash"] in readme
    assert "licence: other" in readme


def test_a_folder_with_content_is_left_alone(mixture_dir, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export("lmms-eval", str(mixture_dir), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_killed_export_leaves_nothing_under_the_name_and_the_next_one_works(
    mixture_dir, tmp_path, monkeypatch
):
    def die(benchmark, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("eval.export.lmms.write_images", die)
        with pytest.raises(KeyboardInterrupt):
            export("lmms-eval", str(mixture_dir), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export("lmms-eval", str(mixture_dir), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_unknown_format_is_told_with_a_guess(mixture_dir):
    with pytest.raises(UserError, match="did you mean 'lmms-eval'"):
        export("lmmseval", str(mixture_dir))
