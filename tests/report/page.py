"""Read a page as a browser would, and fail where it would have to guess."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """The elements of a page, with the text of it all; a tag that is not closed, or not open, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        """Each text with the innermost element that it is in."""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a kind; `wanted` are attributes that they must have."""
        return [
            found for name, found in self.elements if name == tag and all(found.get(k) == v for k, v in wanted.items())
        ]

    @property
    def text(self) -> str:
        """What a reader sees, with its white space folded."""
        return " ".join(" ".join(data for tag, data in self.texts if tag not in ("style", "title", "desc")).split())


def assert_page_needs_nothing(text: str) -> Page:
    """Check that a page is whole and loads nothing from elsewhere, and return it."""
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert page.all("html", lang="en")
    assert page.all("meta", name="viewport")
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")
    assert "//" not in re.sub(r"/\*.*?\*/", "", text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    targets = {value for _, found in page.elements for name, value in found.items() if name.endswith(("src", "href"))}
    assert all(target.startswith("#") for target in targets)
    assert not re.search(r"url\((?!#)", text)
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(ids)) == len(ids)
    assert {target[1:] for target in targets} <= set(ids)
    return page
