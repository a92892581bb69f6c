"""The page in a real browser: Chromium from Debian, driven by playwright, where both are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.slow
DRAWN = "html[data-drawn=yes]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on PATH")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page, what its console said, and what it asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 800}
        self.tab = browser.new_page(viewport=size, color_scheme=scheme)
        self.said: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector(DRAWN, timeout=60_000)

    def texts(self, selector: str) -> list[str]:
        return [each.inner_text() for each in self.tab.query_selector_all(selector)]


@pytest.fixture(scope="module")
def page(browser, written) -> Opened:
    return Opened(browser, written)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light")])
def test_opens_in_peace(browser, written, width, scheme):
    opened = Opened(browser, written, width, scheme)
    assert opened.said == []
    assert opened.requests == [written.as_uri()]
    charts = opened.tab.query_selector_all("[data-chart]")
    assert len(charts) >= 8
    assert all(chart.query_selector("canvas, svg") for chart in charts)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == width
    background = opened.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    opened.tab.close()


def test_dark_charts_are_dark_on_paper(browser, written):
    opened = Opened(browser, written, scheme="dark")
    opened.tab.emulate_media(media="print")
    fills = opened.tab.eval_on_selector_all(
        ".chart svg text", "all => all.map(each => getComputedStyle(each).fill)"
    )
    assert set(fills) == {"rgb(0, 0, 0)"}
    (turned,) = {
        *opened.tab.eval_on_selector_all(
            ".chart canvas", "all => all.map(each => getComputedStyle(each).filter)"
        )
    }
    assert turned == "invert(1) hue-rotate(180deg)"
    opened.tab.close()


def test_search_finds_and_a_choice_filters(page):
    every = page.texts("#differ tbody tr td:nth-child(1)")
    word = page.texts("#differ tbody tr td:nth-child(2)")[3].split()[0]
    page.tab.fill("[data-table=differ] input", word)
    found = page.texts("#differ tbody tr")
    assert found
    assert all(word in text for text in found)
    page.tab.fill("[data-table=differ] input", "nothing like this")
    assert page.texts("#differ tbody tr") == []
    assert page.texts("[data-table=differ] output") == ["0 of 0 shown"]
    page.tab.fill("[data-table=differ] input", "")
    page.tab.select_option("[data-table=differ] select[name=likes]", "table")
    assert set(page.texts("#differ tbody tr td:nth-child(1)")) == {"table"}
    page.tab.select_option("[data-table=differ] select[name=likes]", "")
    assert page.texts("#differ tbody tr td:nth-child(1)") == every


def test_sorting_sorts_both_ways(page):
    def column() -> list[float]:
        return [float(text) for text in page.texts("#differ tbody tr td:nth-child(4)")]

    button = "#differ thead th:nth-child(4) button"
    page.tab.click(button)
    rising = column()
    assert rising == sorted(rising)
    assert page.tab.get_attribute("#differ thead th:nth-child(4)", "aria-sort") == "ascending"
    page.tab.focus(button)
    page.tab.keyboard.press("Enter")  # reachable without a mouse
    assert column() == sorted(column(), reverse=True)
    assert column()[0] > rising[0]


def test_more_rows_are_shown_on_demand(page):
    before = len(page.texts("#strips tbody tr"))
    page.tab.click("[data-table=strips] [data-more]")
    assert len(page.texts("#strips tbody tr")) > before


def drawn_at(page: Opened, fraction_x: float, fraction_y: float) -> tuple[float, float]:
    """A place within the plane of the scatter plot, in pixels of the window."""
    chart = page.tab.query_selector("[data-chart=scores] canvas")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    return box["x"] + fraction_x * box["width"], box["y"] + fraction_y * box["height"]


def test_a_rectangle_lists_its_entries(page):
    page.tab.mouse.move(*drawn_at(page, 0.2, 0.3))
    page.tab.mouse.down()
    page.tab.mouse.move(*drawn_at(page, 0.5, 0.6), steps=5)
    page.tab.mouse.move(*drawn_at(page, 0.85, 0.9), steps=5)
    page.tab.mouse.up()
    page.tab.wait_for_selector("#brushed:not([hidden])")
    assert "entries of the sample chosen" in page.texts("#brushed-note")[0]
    assert page.texts("#brushed tbody tr")


# Where Vega has drawn the points of the scatter plot, in pixels of its canvas.
POINTS = """place => {
  const found = [], [left, top] = place.view.origin(), pad = place.view.padding();
  const walk = (item, x, y) => {
    if (item.marktype === "symbol")
      for (const each of item.items)
        if (each.datum && each.datum.s !== undefined) found.push([x + each.x, y + each.y]);
    for (const inner of item.items || [])
      walk(inner, x + (inner.items && inner.x || 0), y + (inner.items && inner.y || 0));
  };
  walk(place.view.scenegraph().root, left + pad.left, top + pad.top);
  return found;
}"""


def test_hovering_shows_an_entry(browser, written):
    opened = Opened(browser, written)
    place = opened.tab.query_selector("[data-chart=scores]")
    points = place.evaluate(POINTS)
    assert len(points) > 100
    left, top = drawn_at(opened, 0, 0)
    opened.tab.mouse.move(left + points[0][0], top + points[0][1])
    shown = opened.tab.wait_for_selector("#vg-tooltip-element.visible", timeout=5000)
    assert "source" in shown.inner_text()
    assert "ln p of the network" in shown.inner_text()
    opened.tab.close()


def test_the_map_finds_a_word_and_its_neighbours(page):
    page.tab.fill("[data-map=words]", "house")
    (told,) = page.texts("#near-words")
    assert told.startswith("house — nearest: ")
    assert told.count(" · ") == 3  # of five words
    page.tab.fill("[data-map=words]", "zebra")
    assert page.texts("#near-words") == ["Not on this map."]
