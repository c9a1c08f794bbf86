"""The one builder of HTML pages: a single self-contained file, everything in it escaped.

Templates lie in `templates/`, extend `base.html` and are rendered with autoescape always on: text from data
cannot become markup. Pictures go in as data URIs. The page's content policy forbids every request, and every
style and script but our own, which it knows by their hashes: the page opens from disk, offline, nothing in it
can call out, and nothing that slipped in could run.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_recipes.tables import write_text

TEMPLATES = Path(__file__).parent / "templates"
_MIME = ("image/png", "image/jpeg", "image/svg+xml")


def data_uri(content: bytes, mime: str) -> str:
    """A picture as a data URI.

    Raises:
        ValueError: `mime` is no type of picture that pages show.
    """
    if mime not in _MIME:
        raise ValueError(f"{mime!r} is not one of {', '.join(_MIME)}")
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def image_uri(image: PIL.Image.Image, *, longest: int = 448, quality: int | None = None) -> str:
    """An image as a data URI, made smaller where a side is longer than `longest` pixels: PNG, or JPEG where a
    quality (1..95) is given."""
    if max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "PNG", optimize=True)
        return data_uri(buffer.getvalue(), "image/png")
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def render(
    template: str, *, style: str | Sequence[str] = (), script: str | None = None, **context: Any
) -> str:
    """A page as text. Every value of the context is escaped where the template shows it.

    Args:
        style: a style sheet of `templates/` to add to `base.css`, or several.
        script: a script of `templates/`; a page without one runs none.

    Raises:
        jinja2.UndefinedError: the template needs a value that the context lacks.
        ValueError: a picture is no data URI.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"embedded": embedded, "number": number, "signed": signed}
    sheet = "".join(map(_own, ("base.css", *([style] if isinstance(style, str) else style))))
    code = _own(script) if script else ""
    policy = ["default-src 'none'", "img-src data:", f"style-src {_hash(sheet)}"]
    policy += [f"script-src {_hash(code)}"] if code else []
    policy += ["base-uri 'none'", "form-action 'none'"]
    own = {"style": Markup(sheet), "script": Markup(code), "policy": Markup("; ".join(policy))}
    return environment.get_template(template).render(context | own)


def _own(name: str) -> str:
    """A style sheet or script of ours."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a content policy names an inline style or script (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write_page(path: Path, template: str, **context: Any) -> None:
    """Renders a page into a file, whole or not at all. Raises as `render`."""
    write_text(render(template, **context), path)


def embedded(uri: str) -> str:
    """Template filter: lets pictures pass that lie in the page itself.

    Raises:
        ValueError: it is anything else, such as an address.
    """
    if not uri.startswith(tuple(f"data:{mime};base64," for mime in _MIME)):
        raise ValueError(f"a page shows embedded pictures only, not {uri[:60]!r}")
    return uri


def number(value: float | None, digits: int = 1) -> str:
    """Template filter: a number with so many decimals, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """Template filter: a number with its sign, a proper minus among them."""
    return f"{value:+.{digits}f}".replace("-", "−")
