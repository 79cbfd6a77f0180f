"""The README says what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from segmentio_bridge import checks, conf

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.M)
    return [row.split(" | ") for row in rows[1:]]


def test_there_are_two_shell_blocks() -> None:
    first, second = blocks("sh")
    assert "tests.demo" in first
    assert second.rstrip().endswith("pytest --cov")


def test_the_settings_are_those_of_the_code() -> None:
    rows = table("Settings")
    assert [name for name, *_ in rows] == [f"`{setting.name}`" for setting in conf.SETTINGS]
    for (_, default, _), setting in zip(rows, conf.SETTINGS, strict=True):
        if setting is not conf.SOURCE_MAP:
            assert ast.literal_eval(default.strip("`")) == setting.default


def test_the_source_map_is_that_of_the_code() -> None:
    (shown,) = [block for block in blocks("python") if "analytics-android" in block]
    assert ast.literal_eval(shown) == conf.SOURCE_MAP.default


def test_the_check_ids_are_those_of_the_code() -> None:
    source = Path(checks.__file__).read_text()
    in_code = set(re.findall(r'id="(segmentio_bridge\.[EW]\d+)"', source))
    assert [name.strip("`") for name, _ in table("System checks")] == sorted(in_code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_compile_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for block in blocks("python", text):
        compile(block, str(page), "exec")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            anchors = [
                re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings
            ]
            assert anchor in anchors, target


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    declared = re.findall(
        r'^    "([\w-]+)>=([\d.]+)",$', (ROOT / "pyproject.toml").read_text(), re.M
    )
    section = (ROOT / "tox.ini").read_text().split("[testenv:lowest]")[1].split("[testenv")[0]
    tested = re.findall(r"^    ([\w-]+)==([\d.]+)$", section, re.M)
    assert len(tested) == 5
    assert set(tested) <= set(declared)
