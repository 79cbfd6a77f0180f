"""What README.md and docs/*.md say of the checkout, of the package and of its metrics."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from configparser import ConfigParser
from importlib.util import find_spec

import hypothesis
import pytest
import yaml
from django.core.management import get_commands

from tests import test_fuzz
from tests.test_docs import PAGES, ROOT, code
from tests.test_metrics import Query, alerts

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROSE = "".join(page.read_text() for page in PAGES)


# Commands -----------------------------------------------------------------------------------------


def find_commands() -> list[str]:
    """Return what is to be typed in a checkout: the lines of the blocks, and some of the prose."""
    blocks = [
        *code("README.md", "Security and performance", "text"),
        *code("docs/performance.md", "Performance", "text"),
    ]
    # What a command does stands behind it, at a distance.
    commands = [line.split("  ")[0] for block in blocks for line in block.splitlines()]
    return sorted({*commands, *re.findall(r"`((?:tox|python -m tests|pytest )[^`\n]*)`", PROSE)})


def run_module(*arguments: str) -> str:
    """Run a module of the checkout, and return what it prints."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def check_tox(*arguments: str) -> None:
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert set(arguments) <= {"-e", *tox["tox"]["env_list"].split()}


def check_pytest(*arguments: str) -> None:
    assert "::" in run_module("pytest", "--collect-only", "-q", *arguments)


def check_python(_: str, module: str, *options: str) -> None:
    if module == "tests.fuzz":
        # Its import needs the extra `fuzz`; its options are libFuzzer's.
        assert find_spec(f"{module}.__main__")
        assert not options
    else:
        # Options are looked at before the help is shown, but names that nobody knows after it.
        known = re.findall(r"--[\w-]+", run_module(module, *options, "--help"))
        assert {option for option in options if option.startswith("-")} <= set(known)


CHECKS: dict[str, Callable[..., None]] = {
    "tox": check_tox,
    "pytest": check_pytest,
    "python": check_python,
}


@pytest.mark.parametrize("command", find_commands())
def test_commands_of_a_checkout_exist(command: str) -> None:
    program, *arguments = shlex.split(command)
    CHECKS[program](*arguments)


def test_management_commands_exist() -> None:
    named = re.findall(r"manage\.py (?:lms )?(\w+)", PROSE)
    assert len(named) > 12
    assert set(named) <= get_commands().keys()


def test_extras_exist() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    (more,) = re.findall(
        r"^More can be run in a checkout with the extras (.*), and tox:$", PROSE, re.M
    )
    installed = re.findall(r"--editable '\.\[(\w+)\]'", PROSE)
    assert set(re.findall(r"`(\w+)`", more)) | set(installed) <= extras.keys()


def test_there_are_as_many_examples_as_is_said() -> None:
    properties = [
        name for name, test in vars(test_fuzz).items() if hypothesis.is_hypothesis_test(test)
    ]
    each = hypothesis.settings.get_profile("ci").max_examples
    (total,) = re.findall(r"the properties, with ([\d,]+) examples", PROSE)
    (per_property,) = re.findall(r"tries ([\d,]+) examples of each of eight properties", PROSE)
    assert len(properties) == 8
    assert f"{each:,}" == per_property
    assert f"{each * len(properties):,}" == total


# The picture --------------------------------------------------------------------------------------


def layers() -> dict[str, int]:
    """Return the modules of the package, with the numbers of their layers from the top.

    That these are all modules, and import downwards only, is what lint-imports checks.
    """
    (contract,) = [
        contract
        for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    assert contract["exhaustive"]
    return {
        module: number
        for number, layer in enumerate(contract["layers"])
        for module in layer.split(" | ")
    }


def test_the_picture_has_the_layers_of_the_code() -> None:
    (picture,) = code("README.md", "Architecture", "text")
    layer = layers()
    below: dict[str, set[str]] = {}
    above: list[tuple[str, str]] = []
    for indentation, module in re.findall(r"^( +)([a-z_]+) +\S", picture, re.M):
        above = [(shorter, other) for shorter, other in above if len(shorter) < len(indentation)]
        for _, other in above:
            assert layer[other] < layer[module], f"{module} may import {other}"
            below[other].add(module)
        above.append((indentation, module))
        below[module] = set()
    assert below["views"] == below.keys() - {"views"}
    # The steps: what the pipeline knows, and what knows nothing of its like.
    assert below["pipeline"] == {name for name in layer if layer[name] == layer["validation"]}


def test_every_module_has_its_place() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Architecture\n")[1]
    assert layers().keys() <= set(re.findall(r"(?:`|^ +)(\w+)", section, re.M))


# The alerts ---------------------------------------------------------------------------------------


def test_the_alerts_are_rules() -> None:
    (block,) = code("docs/metrics.md", "Alerts", "yaml")
    (group,) = yaml.safe_load(block)["groups"]
    assert group.keys() == {"name", "rules"}
    # tests/test_metrics.py looks at the metrics, labels and values in these.
    assert [rule["expr"] for rule in group["rules"]] == alerts()
    for rule in group["rules"]:
        assert rule.keys() - {"for"} == {"alert", "expr", "annotations"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "0m"))
        shown = re.findall(r"{{ \$labels\.(\w+) }}", rule["annotations"]["summary"])
        assert set(shown) <= Query(rule["expr"]).groups
