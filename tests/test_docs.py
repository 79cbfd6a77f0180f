"""The README and the docs say what the code does, and each block of code in them is tried."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import segmentio_bridge
from segmentio_bridge import checks, conf, pipeline
from segmentio_bridge.outcomes import Reason

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()
DECISIONS = sorted((ROOT / "docs").rglob("*.rst"))
CI = ROOT / ".ci" / "run"

_CI = "test_docs.py::test_ci_runs_the_shell_blocks"
_SOURCE_MAP = "test_docs.py::test_the_source_map_is_that_of_the_code"
_COMMANDS = "test_docs_claims.py::test_commands_of_a_checkout_exist"
_PICTURE = "test_docs_claims.py::test_the_picture_has_the_layers_of_the_code"
_ALERTS = "test_docs_claims.py::test_the_alerts_are_rules"
_FIVE_MINUTES = "test_docs_site.py::test_a_site_is_set_up_in_five_minutes"
_PLAYED = "test_docs_site.py::test_segment_can_be_played"
_DUPLICATES = "test_docs_site.py::test_what_comes_again_is_not_recorded_again"
_PREPARED = "test_docs_site.py::test_events_are_prepared_for_what_is_downstream"
_QUARANTINE = "test_docs_site.py::test_the_quarantine_keeps_releases_and_forgets"
_REPLAYED = "test_docs_site.py::test_archives_are_replayed"
_COUNTED = "test_docs_site.py::test_workers_count_together"
_QUEUED = "test_docs_site.py::test_a_worker_records_what_was_queued_and_shows_its_metrics"
_TUTOR = "test_docs_openedx.py::test_tutor_installs_the_plugin"
_SECRET = "test_plugin.py::test_the_tutor_plugin_sets_the_secret"
_PROXY = "test_plugin.py::test_the_proxy_knows_the_endpoint_and_what_is_the_largest_body"
_OLD_PATH = "test_plugin.py::test_the_old_path_can_be_taken_over"
_LINES = "test_plugin.py::test_the_lines_for_settings_do_what_the_page_says"
_YAML = "test_plugin.py::test_the_yaml_of_the_page_is_what_it_says"
_EXAMPLES = "test_testing.py::test_the_examples_of_the_docs_pass_at_a_site"

#: Every block of code, page by page and from top to bottom: the heading above it, its language, and
#: the test in tests/ that runs it or checks what it says. Who adds a block adds a test and a line.
TESTED_BY = {
    "README.md": [
        ("segmentio_bridge", "sh", _CI),
        ("segmentio_bridge", "sh", _CI),
        ("In five minutes", "python", _FIVE_MINUTES),
        ("In five minutes", "python", _FIVE_MINUTES),
        ("Settings", "python", _SOURCE_MAP),
        ("Security and performance", "text", _COMMANDS),
        ("Architecture", "text", _PICTURE),
    ],
    "docs/downstream.md": [
        ("For all backends", "python", _PREPARED),
        # The settings of `tox -e downstream`, which has that package.
        ("For edx-event-routing-backends alone", "python", "downstream/settings.py"),
    ],
    "docs/metrics.md": [
        ("Exposing them", "python", _COUNTED),
        ("Several processes", "text", _COUNTED),
        ("Celery", "python", _QUEUED),
        ("Alerts", "yaml", _ALERTS),
    ],
    "docs/openedx.md": [
        ("Installation with Tutor", "python", _SECRET),
        ("Installation with Tutor", "sh", _TUTOR),
        ("Installation with Tutor", "yaml", _TUTOR),
        ("Installation with Tutor", "sh", _TUTOR),
        ("Installation with Tutor", "yaml", _YAML),
        ("Taking over the old path", "python", _PROXY),
        ("Taking over the old path", "sh", _TUTOR),
        ("Taking over the old path", "python", _OLD_PATH),
        ("Taking over the old path", "sh", _TUTOR),
        ("What to watch for", "python", _LINES),
        ("What to watch for", "python", _LINES),
        ("What to watch for", "yaml", _YAML),
        ("What to watch for", "python", _LINES),
    ],
    "docs/operations.md": [
        ("Why was my event not recorded?", "text", _PLAYED),
        ("The quarantine", "python", _QUARANTINE),
        ("The quarantine", "text", _QUARANTINE),
        ("Replay", "text", _REPLAYED),
    ],
    "docs/performance.md": [
        ("Performance", "text", _COMMANDS),
    ],
    "docs/reliability.md": [
        ("Duplicates", "python", _DUPLICATES),
        ("Queue mode", "python", _QUEUED),
    ],
    "docs/testing.md": [
        ("With pytest", "python", _EXAMPLES),
        ("With unittest", "python", _EXAMPLES),
    ],
}


class Block(NamedTuple):
    """A block of code of a page, and the last heading above it."""

    heading: str
    language: str
    code: str


_FENCE_OR_HEADING = re.compile(
    r"^ *(?P<fence>```+|~~~+)(?P<language>[^\n]*)\n(?P<code>.*?)^ *(?P=fence) *$"
    r"|^#+ (?P<heading>[^\n]+)$",
    re.M | re.S,
)


def find_blocks(page: str) -> list[Block]:
    """Return the blocks of a page, which is named by its path from the root."""
    heading, found = "", []
    for match in _FENCE_OR_HEADING.finditer((ROOT / page).read_text()):
        heading = match["heading"] or heading
        if match["fence"]:
            found.append(Block(heading, match["language"].strip(), match["code"]))
    return found


def code(page: str, heading: str, language: str) -> list[str]:
    """Return the blocks of a language that stand below a heading of a page."""
    return [
        block.code
        for block in find_blocks(page)
        if (block.heading, block.language) == (heading, language)
    ]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_has_its_test(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    tested = TESTED_BY.get(name, [])
    there = [(block.heading, block.language) for block in find_blocks(name)]
    assert there == [(heading, language) for heading, language, _ in tested], (
        "A block came, went or moved: write a test that runs it, and name it in TESTED_BY."
    )
    for _, _, test in tested:
        path, _, function = test.partition("::")
        source = (ROOT / "tests" / path).read_text()
        assert page.name in source, f"{path} does not read {name}"
        assert not function or f"\ndef {function}(" in source, test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_is_written_in_another_way(page: Path) -> None:
    text = page.read_text()
    fences = re.findall(r"^[ >*+\d.)-]*(?:```|~~~)", text, re.M)
    assert len(fences) == 2 * len(find_blocks(str(page.relative_to(ROOT))))
    prose = _FENCE_OR_HEADING.sub("", text)
    assert not re.search(r"\n\n(?: {4}|\t)|<pre|<code", prose)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_decisions_have_no_blocks(page: Path) -> None:
    # They give reasons. What is to be typed or pasted belongs on a page, where it is tried.
    assert not re.search(r"::$|^\.\. \S+::|^ *>>> ", page.read_text(), re.M)


def test_pages_and_decisions_are_found() -> None:
    assert set(TESTED_BY) < {str(page.relative_to(ROOT)) for page in PAGES}
    assert DECISIONS


@pytest.mark.skipif(not CI.exists(), reason="a source distribution has no .ci")
def test_ci_runs_the_shell_blocks() -> None:
    script = CI.read_text()
    (function,) = re.findall(r"^readme_block\(\) \{\n.*?^\}$", script, re.M | re.S)
    shell = [block.code for block in find_blocks("README.md") if block.language == "sh"]
    assert len(shell) == 2
    for number, block in enumerate(shell, 1):
        assert f'\nbash -euo pipefail -c "$(readme_block {number})"\n' in script
        printed = subprocess.run(
            ["bash", "-c", f"{function}\nreadme_block {number}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert printed.stdout == block
    first, second = shell
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
    (shown,) = code("README.md", "Settings", "python")
    assert ast.literal_eval(shown) == conf.SOURCE_MAP.default


def test_the_check_ids_are_those_of_the_code() -> None:
    source = Path(checks.__file__).read_text()
    in_code = set(re.findall(r'id="(segmentio_bridge\.[EW]\d+)"', source))
    assert [name.strip("`") for name, _ in table("System checks")] == sorted(in_code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
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
