"""Pages are self-contained, and nothing in data becomes markup."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import jinja2
import PIL.Image
import pytest

from data_recipes import page
from data_recipes.page import data_uri, embedded, image_uri, number, render, signed, write_page

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "<!-- --><svg/onload=alert(1)>",
    "</style></title></dd><iframe src=javascript:alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
)
SCRIPT = "const a = '<b>' && 1;\n"


class Tags(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A template of its own, beside the real base."""
    for name in ("base.html", "base.css"):
        (tmp_path / name).write_text((page.TEMPLATES / name).read_text())
    (tmp_path / "test.js").write_text(SCRIPT)
    (tmp_path / "test.html").write_text(
        '{% extends "base.html" %}{% block content %}<p title="{{ text }}">{{ text }}</p>'
        '{% if picture %}<img src="{{ picture | embedded }}">{% endif %}{% endblock %}'
    )
    monkeypatch.setattr(page, "TEMPLATES", tmp_path)
    return "test.html"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(template, text):
    tags = Tags(render(template, title=text, text=text, picture=None))
    assert [tag for tag, _ in tags.found] == [
        "html",
        "head",
        "meta",
        "meta",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "p",
    ]
    assert tags.found[-1] == ("p", {"title": text})
    assert text in "".join(tags.text)


def test_nothing_is_fetched_and_no_script_runs(template):
    text = render(template, title="t", text="t", picture=image_uri(PIL.Image.new("L", (4, 4))))
    policies = [
        attrs["content"] for tag, attrs in Tags(text).found if "Content-Security-Policy" in attrs.values()
    ]
    style = re.search("<style>(.*)</style>", text, re.DOTALL)[1]
    assert policies == [
        f"default-src 'none'; img-src data:; style-src {digest(style)}; base-uri 'none'; form-action 'none'"
    ]
    assert "<script" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text


def test_our_own_script_is_known_by_its_hash_and_stays_as_it_is(template):
    text = render(template, script="test.js", title="t", text="t", picture=None)
    assert f"<script>{SCRIPT}</script>" in text
    (policy,) = [attrs["content"] for _, attrs in Tags(text).found if "http-equiv" in attrs]
    assert f"; script-src {digest(SCRIPT)}; " in policy


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize(
    "uri",
    ["javascript:alert(1)", "https://example.org/a.png", "data:text/html;base64,AA==", "//x", "a.png", ""],
)
def test_pictures_must_be_embedded(template, uri):
    with pytest.raises(ValueError, match="embedded"):
        embedded(uri)
    if uri:
        with pytest.raises(ValueError, match="embedded"):
            render(template, title="t", text="t", picture=uri)


def test_pictures_are_png_or_jpeg_and_not_too_large():
    uri = image_uri(PIL.Image.new("L", (1000, 500)), longest=100)
    assert uri.startswith("data:image/png;base64,")
    assert PIL.Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size == (100, 50)
    jpeg = image_uri(PIL.Image.new("L", (90, 60)), quality=80)
    assert PIL.Image.open(io.BytesIO(base64.b64decode(jpeg.split(",")[1]))).size == (90, 60)
    assert jpeg.startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="text/html"):
        data_uri(b"", "text/html")


def test_a_missing_value_is_an_error_not_a_blank(template):
    with pytest.raises(jinja2.UndefinedError):
        render(template, title="t", picture=None)


def test_writes_whole_pages(template, tmp_path):
    write_page(tmp_path / "out.html", template, title="é", text="µ", picture=None)
    assert "µ" in (tmp_path / "out.html").read_text(encoding="utf-8")
    with pytest.raises(jinja2.UndefinedError):
        write_page(tmp_path / "out.html", template)
    assert "µ" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_numbers():
    assert (number(1.25, 1), number(None), signed(-1.26), signed(0.04, 2)) == ("1.2", "–", "−1.3", "+0.04")
