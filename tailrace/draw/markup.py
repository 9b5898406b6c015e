"""SVG as text: everything from outside is escaped here, and nowhere else."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

from alerts import words

_NAMESPACE = "http://www.w3.org/2000/svg"


def svg(
    width: float, height: float, *, css: str, title: str, desc: str, role: str = "img"
) -> Tree.Element:
    """Return the root of a picture; `title` and `desc` are read to those who cannot see it.

    Args:
        width: in pixels at its natural size; it shrinks with what is around it.
        height: likewise.
        css: its class.
        title: what it is, in a few words.
        desc: what it shows, in sentences.
        role: "img", or "group" when parts of it can be followed or acted on.
    """
    # A plain attribute instead of a namespace of ElementTree's: no prefix on any element
    root = Tree.Element(
        "svg",
        {
            "xmlns": _NAMESPACE,
            "class": css,
            "role": role,
            "viewBox": f"0 0 {number(width)} {number(height)}",
            "width": number(width),
            "height": number(height),
            "aria-label": f"{words.clean(title)}. {_clean(desc)}",
        },
    )
    add(root, "title", title)
    add(root, "desc", desc)
    return root


def add(
    parent: Tree.Element, tag: str, text: str = "", /, **attributes: str | float
) -> Tree.Element:
    """Add an element and return it; `class_` is `class`, and `_` in a name is `-`."""
    named = {
        name.rstrip("_").replace("_", "-"): number(value)
        if isinstance(value, int | float)
        else _clean(value)
        for name, value in attributes.items()
        if value != ""
    }
    element = Tree.SubElement(parent, tag, named)
    if text:
        element.text = _clean(text)
    return element


def render(root: Tree.Element) -> str:
    """Return a picture as text, that of a file as well as of a part of a page."""
    return Tree.tostring(root, encoding="unicode", short_empty_elements=True)


def number(value: float) -> str:
    """Return a number without digits that no screen shows."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _clean(text: str) -> str:
    """Return a text without what XML has no way to write (control characters)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for c in text)  # fmt: skip
