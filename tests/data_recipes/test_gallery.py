"""The gallery: which images it shows, that it shows all of their entries and boxes, how large it grows."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.gallery import choose, write_gallery
from data_recipes.records import Box, Entry, Image, Mixture
from data_recipes.store import read_mixture, write_mixture
from data_recipes.tasks import TASKS
from tests.eval.factories import make_mixture
from tests.eval.run_folders import HOSTILE


class Cards(HTMLParser):
    """Entries (id, task, text) and boxes (percent) of each card, by image id."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.entries, self.boxes, self.pictures = {}, {}, {}
        self._card, self._entry, self._code = None, None, False
        self._waiting = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        match tag, said.get("class"):
            case "article", _:
                self._waiting, self._picture = [], None
            case "img", _:
                self._picture = said["src"]
            case "rect", _:
                sides = (said[key].removesuffix("%") for key in ("x", "y", "width", "height"))
                self._waiting.append(tuple(map(float, sides)))
            case "p", "head":
                self._code = True
            case "li", _ if "data-id" in said:
                self._entry = (said["data-id"], said["data-task"], [])
                self.entries[self._card].append(self._entry)

    def handle_endtag(self, tag):
        if tag == "li":
            self._entry = None
        if tag == "code":
            self._code = False

    def handle_data(self, data):
        if self._code and data.strip():
            self._card, self._code = data, False
            self.entries[data], self.boxes[data], self.pictures[data] = [], self._waiting, self._picture
        elif self._entry:
            self._entry[2].append(data)


@pytest.fixture
def folder(tmp_path):
    return make_mixture(tmp_path / "m", train=30, test=12)


def shown(folder, tmp_path, **options):
    path = tmp_path / "gallery.html"
    write_gallery(folder, path, **options)
    return Cards(path)


def test_every_entry_and_every_box_of_an_image_is_shown(folder, tmp_path):
    cards = shown(folder, tmp_path, images=9)
    mixture = read_mixture(folder)
    assert len(cards.entries) == 9
    for image, entries in cards.entries.items():
        true = [entry for entry in mixture.entries if entry.image_id == image]
        assert sorted((key, task) for key, task, _ in entries) == sorted((e.entry_id, e.task) for e in true)
        texts = {key: " ".join("".join(parts).split()) for key, _, parts in entries}
        for entry in true:
            if "{box}" not in entry.prompt + entry.target:
                assert f"{entry.prompt} {entry.target}" in texts[entry.entry_id]
        # A box that several entries share is drawn once, where it lies.
        distinct = {box.xyxy for entry in true for box in entry.boxes}
        drawn = {tuple(np.round([x, y, x + w, y + h], 2)) for x, y, w, h in cards.boxes[image]}
        assert drawn == {tuple(np.round(np.multiply(box, 100), 2)) for box in distinct}


def test_pictures_are_those_of_the_images_reduced_to_the_size_asked_for(folder, tmp_path):
    rng = np.random.default_rng(0)
    for image in read_mixture(folder).images:
        noise = rng.integers(0, 255, (image.height, image.width), dtype=np.uint8)
        PIL.Image.fromarray(noise).resize((900, 900)).save(folder / image.path)
    free = tmp_path / "free.html"
    assert write_gallery(folder, free, images=8)["longest_side"] == 768
    tight = tmp_path / "tight.html"
    found = write_gallery(folder, tight, images=8, megabytes=0.3)
    assert found["longest_side"] < 768
    assert tight.stat().st_size < 0.3e6 + 60_000 < free.stat().st_size
    for uri in Cards(tight).pictures.values():
        with PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
            assert max(picture.size) == found["longest_side"]
    with pytest.raises(UserError, match=r"do not fit into 0\.001 MB"):
        write_gallery(folder, tight, images=8, megabytes=0.001)


def test_the_same_call_writes_the_same_page_and_another_seed_another(folder, tmp_path):
    pages = []
    for seed in (0, 0, 1):
        write_gallery(folder, tmp_path / "g.html", images=5, seed=seed)
        pages.append((tmp_path / "g.html").read_text())
    assert pages[0] == pages[1]
    assert set(Cards(tmp_path / "g.html").entries) != set(re.findall(r"<code>(\S+)</code><span", pages[0]))


def test_a_task_or_split_restricts_the_images_and_not_their_entries(folder, tmp_path):
    cards = shown(folder, tmp_path, images=40, split="test")
    split = {image.image_id: image.split for image in read_mixture(folder).images}
    assert {split[image] for image in cards.entries} == {"test"}
    assert len(cards.entries) == 12
    cards = shown(folder, tmp_path, images=40, task="rec")
    for entries in cards.entries.values():
        tasks = {task for _, task, _ in entries}
        assert "rec" in tasks
        assert len(tasks) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"task": "vqaa"}, "did you mean 'vqa'"), ({"split": "tests"}, "did you mean 'test'"),
     ({"images": 0}, "1 or more"), ({"megabytes": 0}, "above 0"),
     ({"split": "validation"}, "no image in split")],
)  # fmt: skip
def test_mistakes_are_one_line_and_write_nothing(folder, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        write_gallery(folder, tmp_path / "g.html", **options)
    assert not (tmp_path / "g.html").exists()


def test_without_pixels_boxes_stand_on_an_empty_frame_of_the_images_shape(tmp_path):
    image = Image("a", "p", "train", "s", "", 300, 200, "PA")
    nobody_knows = Image("b", "p", "train", "s", "", 0, 0, "unknown")
    box = Box(0.1, 0.2, 0.5, 0.6)
    entries = tuple(
        Entry(f"{name}/rec", name, "rec", "Where?", "{box}", (box,), "s/rec/x") for name in ("a", "b")
    )
    write_mixture(Mixture((image, nobody_knows), entries, {"name": "bare"}), tmp_path / "m")
    text = (tmp_path / "g.html", write_gallery(tmp_path / "m", tmp_path / "g.html"))[0].read_text()
    assert "This mixture has no pixels" in text
    assert 'viewBox="0 0 300 200"' in text
    assert "size not known" in text
    cards = Cards(tmp_path / "g.html")
    assert cards.boxes == {"a": [(10.0, 20.0, 40.0, 40.0)], "b": [(10.0, 20.0, 40.0, 40.0)]}
    assert set(cards.pictures.values()) == {None}


def test_text_from_data_never_becomes_markup(tmp_path):
    folder = make_mixture(tmp_path / "m", name=f"x{HOSTILE}", text=HOSTILE, train=4, test=2)
    write_gallery(folder, tmp_path / "g.html")
    text = (tmp_path / "g.html").read_text()
    assert text.count("<script") == 1
    assert "<img src=x" not in text
    assert '" onmouseover' not in text
    assert HOSTILE in "".join(
        part for entries in Cards(tmp_path / "g.html").entries.values() for e in entries for part in e[2]
    )


WORLDS = st.lists(
    st.tuples(st.sampled_from(["train", "test"]), st.sets(st.sampled_from(TASKS), min_size=1)),
    min_size=1, max_size=40,
)  # fmt: skip


@given(WORLDS, st.integers(1, 45), st.integers(0, 3), st.randoms())
def test_the_choice_is_balanced_without_repeats_and_blind_to_the_order_of_rows(world, number, seed, random):
    images = [Image(f"i{n}", f"p{n}", split, "s", "", 9, 9, "PA") for n, (split, _) in enumerate(world)]
    entries = {
        f"i{n}": [Entry(f"{n}{t}", f"i{n}", t, "?", "!", (), "") for t in tasks]
        for n, (_, tasks) in enumerate(world)
    }
    chosen = choose(images, entries, number, seed)
    assert len({image.image_id for image in chosen}) == len(chosen) == min(number, len(images))
    tasks_of = {name: {entry.task for entry in said} for name, said in entries.items()}
    strata = Counter((task, image.split) for image in chosen for task in tasks_of[image.image_id])
    there = {(task, split) for split, tasks in world for task in tasks}
    if number >= len(there):
        assert set(strata) == there  # an image a stratum would do
    shuffled = list(images)
    random.shuffle(shuffled)
    assert choose(shuffled, entries, number, seed) == chosen
