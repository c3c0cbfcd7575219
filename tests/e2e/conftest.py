"""A headless browser, where there is one."""

import pathlib
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver

FLAGS = (
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[webdriver.Chrome]:
  """Headless Chromium with a fresh profile."""
  programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
  if None in programs:
    pytest.skip("no chromium and chromedriver on PATH (third_party/apt.txt)")
  chromium, driver = map(str, programs)
  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  profile: pathlib.Path = tmp_path_factory.mktemp("profile")
  for flag in (*FLAGS, f"--user-data-dir={profile}"):
    options.add_argument(flag)
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  session = webdriver.Chrome(options, webdriver.ChromeService(driver))
  yield session
  session.quit()
