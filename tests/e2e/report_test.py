"""Looks at the report the way a reader does: in a browser."""

import html.parser
import importlib.util
import io
import pathlib
import re
import sys
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

WIDTHS = (360, 1280)
THEMES = ("light", "dark")

# The lowest contrast of any text with what lies behind it, by WCAG 2.
_CONTRAST = """
const parse = text => {
  const [r, g, b, a = 1] = text.match(/[0-9.]+/g).map(Number);
  return [r, g, b, a];
};
const lum = c => c.slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = node => {
  for (let n = node; n; n = n.parentElement) {
    const c = parse(getComputedStyle(n).backgroundColor);
    if (c[3] === 1) return c;
  }
  return [255, 255, 255, 1];
};
const found = [];
for (const node of document.querySelectorAll("body *")) {
  if (node.closest("svg")) continue;
  const text = [...node.childNodes].filter(n => n.nodeType === 3)
    .map(n => n.data.trim()).join("");
  if (!text || !node.getClientRects().length) continue;
  const [a, b] = [lum(parse(getComputedStyle(node).color)), lum(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  found.push([ratio, node.tagName, text.slice(0, 40)]);
}
return found;
"""


def _pages() -> ModuleType:
  path = pathlib.Path(__file__).with_name("report_pages.py")
  spec = importlib.util.spec_from_file_location("report_pages", path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  sys.modules["report_pages"] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return _pages().make(tmp_path_factory.mktemp("report"))


def _open(
  browser: webdriver.Chrome, page: pathlib.Path, width: int, theme: str
) -> None:
  scheme = {"name": "prefers-color-scheme", "value": theme}
  browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride",
    {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
  )
  browser.get(page.as_uri())
  assert browser.execute_script("return innerWidth") == width


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_the_console_is_silent(
  browser: webdriver.Chrome, page: pathlib.Path, width: int, theme: str
):
  _open(browser, page, width, theme)
  widest: int = browser.execute_script(
    "return document.documentElement.scrollWidth"
  )
  assert widest <= width
  # Nothing may stick out unseen either, but inside a box that scrolls.
  out: list[str] = browser.execute_script(
    """return [...document.querySelectorAll("main *")]
      .filter(n => !n.closest(".scroll, .command, svg, thead"))
      .filter(n => n.getBoundingClientRect().right > innerWidth + 0.5)
      .map(n => n.outerHTML.slice(0, 80))"""
  )
  assert out == []
  assert browser.get_log("browser") == []  # pyrefly: ignore[missing-attribute]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_all_text_can_be_read(
  browser: webdriver.Chrome, page: pathlib.Path, width: int, theme: str
):
  _open(browser, page, width, theme)
  found: list[tuple[float, str, str]] = browser.execute_script(_CONTRAST)
  assert len(found) > 100
  assert {"TD", "TH", "P", "H1", "H2", "SMALL", "A"} <= {t for _, t, _ in found}
  assert [entry for entry in found if entry[0] < 4.5] == []


def test_the_theme_follows_the_reader(
  browser: webdriver.Chrome, page: pathlib.Path
):
  grounds = []
  for theme in THEMES:
    _open(browser, page, 1280, theme)
    script = "return getComputedStyle(document.body).backgroundColor"
    grounds.append(browser.execute_script(script))
  assert grounds == ["rgb(251, 250, 247)", "rgb(20, 22, 25)"]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_drawn(
  browser: webdriver.Chrome, page: pathlib.Path, width: int, theme: str
):
  _open(browser, page, width, theme)
  figures = browser.find_elements(By.CSS_SELECTOR, "figure svg")
  assert len(figures) == 4
  for figure in figures:
    box = figure.rect
    assert box["width"] > 250
    assert box["height"] > 130
    image = Image.open(io.BytesIO(figure.screenshot_as_png)).convert("RGB")
    colours = image.getcolors(maxcolors=1 << 20)
    assert colours is not None
    ground = max(colours)[1]
    drawn = sum(n for n, colour in colours if colour != ground)
    assert drawn / (image.width * image.height) > 0.01
    assert len(colours) > 20
  captions = browser.find_elements(By.CSS_SELECTOR, "figcaption")
  assert all(caption.text for caption in captions)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_claim_and_paper_has_its_row(
  browser: webdriver.Chrome, page: pathlib.Path, width: int
):
  _open(browser, page, width, "light")
  rows = browser.find_elements(By.CSS_SELECTOR, "tr[data-claim]")
  assert [row.get_attribute("data-claim") for row in rows] == [
    "sift_attention/power-law-mean",
    "sift_attention/power-law-head",
    "sift_attention/bytes",
    "sift_attention/decode",
    "sift_attention/texts",
    "plexus/same-loss",
    "plexus/best-grid",
  ]
  assert all(row.is_displayed() for row in rows)
  texts = [" ".join(row.text.split()) for row in rows]
  assert "fails The same law holds for each head" in texts[1]
  assert "0.7134 0.34 to 0.95" in texts[1]
  assert "not judged" in texts[1]  # the recorded run decided otherwise
  assert "not judged Decoding at batch 1" in texts[3]
  assert "recorded at 3f2a9c1d40 on 2026-11-22" in texts[4]
  assert "3.1 × 10⁻⁶" in texts[5]
  papers = browser.find_elements(By.CSS_SELECTOR, "tr[data-paper]")
  assert [paper.get_attribute("data-paper") for paper in papers] == [
    "sift_attention",
    "plexus",
    "epicast",
    "pareval_repo",
    "pccl",
  ]
  assert "failed" in papers[2].text
  assert "needs the program gfortran" in papers[3].text


def test_a_link_in_the_overview_leads_to_its_paper(
  browser: webdriver.Chrome, page: pathlib.Path
):
  _open(browser, page, 1280, "light")
  links = browser.find_elements(By.CSS_SELECTOR, ".summary a")
  for link in links:
    target = (link.get_attribute("href") or "").split("#")[1]
    assert browser.find_element(By.ID, target).is_displayed()
  assert len(links) == 4


class _References(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.found: list[tuple[str, str]] = []
    self.tags: set[str] = set()

  def handle_starttag(
    self, tag: str, attrs: list[tuple[str, str | None]]
  ) -> None:
    self.tags.add(tag)
    names = ("src", "srcset", "href", "xlink:href", "data", "action", "poster")
    self.found += [(tag, v or "") for k, v in attrs if k in names]


def test_the_file_needs_nothing_from_outside(page: pathlib.Path):
  text = page.read_text()
  references = _References()
  references.feed(text)
  outside = {
    (tag, value)
    for tag, value in references.found
    if not value.startswith(("#", "data:"))
  }
  assert outside == {
    ("a", f"https://arxiv.org/abs/{arxiv}")
    for arxiv in ("2506.05300", "2505.04083", "2506.07842", "2506.20938")
  }
  assert not references.tags & {"script", "iframe", "object", "img"}
  assert "@import" not in text
  assert re.findall(r"url\((?!#)", text) == []
  others: Any = set(re.findall(r"https?://[^\"'\s<)]+", text))
  assert {url.split("/abs/")[0] for url in others} == {"https://arxiv.org"}
