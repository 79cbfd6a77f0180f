"""The README says what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import segmentio_bridge
from segmentio_bridge import checks, conf, pipeline
from segmentio_bridge.outcomes import Reason

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def table(heading: str, text: str = README) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return rows(section)


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table in a text, without its head."""
    lines = re.search(r"^\|.*\|\n(\|[ -|]+\|\n)((?:\|.*\|\n)+)", text, re.M)
    assert lines
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2].splitlines()
    ]


def test_there_are_two_shell_blocks() -> None:
    first, second = blocks("sh")
    assert "tests.demo" in first
    assert second.rstrip().endswith("pytest --cov")


def test_the_settings_are_those_of_the_code() -> None:
    settings = table("Settings")
    assert [name for name, *_ in settings] == [f"`{setting.name}`" for setting in conf.SETTINGS]
    for (_, default, _), setting in zip(settings, conf.SETTINGS, strict=True):
        if setting is not conf.SOURCE_MAP:
            assert ast.literal_eval(default.strip("`")) == setting.default


def test_the_figures_are_those_that_were_measured() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    measured = {figure: ratio for figure, ratio, *_ in rows(page)}
    quoted = table("Security and performance")
    assert len(quoted) == 3
    assert {figure: measured[figure] for figure, _ in quoted} == dict(quoted)


def test_the_failure_policy_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    policy = [[cell.strip() for cell in row] for row in rows(pipeline.__doc__ or "")]
    for in_code, in_docs in zip(policy, table("What a failure means", page), strict=True):
        # The page says more of what fails than there is room for in the code.
        assert in_docs[0].startswith(in_code[0])
        assert in_docs[1:] == in_code[1:]


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


def test_every_reason_has_its_cause_and_cure() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    documented = rows(page)
    assert [(code.strip("`"), status) for code, status, _, _ in documented] == [
        (reason.value, reason.status.value) for reason in Reason
    ]
    assert all(cause and cure for _, _, cause, cure in documented)


def test_the_newest_release_is_the_version() -> None:
    unreleased, newest, *_ = re.findall(r"^## (.*)$", PAGES[1].read_text(), re.M)
    assert unreleased == "Unreleased"
    assert newest == segmentio_bridge.__version__
