"""The annotations in comments, as code-annotations finds them, say what the code does."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import code_annotations
import pytest
from code_annotations.base import AnnotationConfig
from code_annotations.find_django import DjangoSearch
from code_annotations.find_static import StaticSearch
from django.apps import apps
from pytest_django import Settings

import segmentio_bridge
from segmentio_bridge import conf, reporting
from segmentio_bridge.tasks import record_events
from tests.test_reporting import RecordingTelemetry, recorded

PACKAGE = Path(segmentio_bridge.__file__).parent
SETTINGS = Path(code_annotations.__file__).parent / "contrib/config/setting_annotations.yaml"
OPENEDX = Path(__file__).parent / "annotations" / "openedx.yaml"

Annotation = dict[str, str]


def find(kind: str, config: Path, source: Path = PACKAGE) -> dict[str, Annotation]:
    """Return the annotations of a kind by name, checked one by one as code-annotations does it."""
    search = StaticSearch(AnnotationConfig(str(config), verbosity=0, source_path_override=source))
    groups: list[list[Annotation]] = []
    for in_file in search.search().values():
        for annotation in in_file:
            token = annotation["annotation_token"]
            if not token.startswith(f".. {kind}_"):
                continue
            # Left to itself, the linter takes all annotations of one comment for one.
            if token == f".. {kind}_name:" or not groups:
                groups.append([])
            groups[-1].append(annotation)
    for group in groups:
        search.check_group(group)
    assert search.errors == []
    found = [
        {
            annotation["annotation_token"].removeprefix(f".. {kind}_").rstrip(":"): " ".join(
                annotation["annotation_data"].split()
            )
            for annotation in group
        }
        for group in groups
    ]
    for annotation in found:
        # A sentence that is not indented enough on its second line ends with its first.
        for part in annotation.keys() & {"description", "warning"}:
            assert annotation[part].endswith("."), annotation
    by_name = {annotation["name"]: annotation for annotation in found}
    assert len(by_name) == len(found)
    return by_name


def test_the_settings_are_those_of_the_table() -> None:
    annotated = find("setting", SETTINGS)
    assert list(annotated) == [setting.name for setting in conf.SETTINGS]
    for setting in conf.SETTINGS:
        assert ast.literal_eval(annotated[setting.name]["default"]) == setting.default


def test_the_monitoring_attributes_are_those_that_are_set() -> None:
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    in_code = set(re.findall(r"\bset_custom_attribute\(\s*(.+?),\s", source))
    in_code.remove("_COUNT_ATTRIBUTES[status]")
    names = {ast.literal_eval(name) for name in in_code}
    names.update(reporting._COUNT_ATTRIBUTES.values())
    assert find("custom_attribute", OPENEDX).keys() == names


def test_every_model_says_what_it_knows_of_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The search puts the working directory there.
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = AnnotationConfig(str(OPENEDX), verbosity=0)
    config.safelist_path = str(tmp_path / "safelist.yml")
    Path(config.safelist_path).write_text("{}")
    searched = set()
    for app in apps.get_app_configs():
        if app.name.split(".")[0] == PACKAGE.name:
            search = DjangoSearch(config, app.name)
            assert search.check_results(search.search()), search.errors
            assert search.uncovered_model_ids == set()
            searched |= {model.__name__ for model in search.local_models | search.non_local_models}
    assert "QuarantinedEvent" in searched


@pytest.mark.parametrize(
    "comment",
    [
        "# .. setting_name: A\n# .. setting_description: About it.\n",
        "# .. setting_nam: A\n# .. setting_default: 1\n# .. setting_description: About it.\n",
        "# .. setting_name: A\n# .. setting_default: 1\n# .. setting_description: About\n# it.\n",
        "# .. setting_name: A\n# .. setting_default: 1\n# .. setting_description:\n",
    ],
)
def test_a_malformed_annotation_is_found(comment: str, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(f"{comment}A = 1\n")
    with pytest.raises(AssertionError):
        find("setting", SETTINGS, tmp_path)


def test_the_task_tells_monitoring_whose_it_is(settings: Settings) -> None:
    settings.OPENEDX_TELEMETRY = [
        f"{RecordingTelemetry.__module__}.{RecordingTelemetry.__qualname__}"
    ]
    recorded.clear()
    record_events("[]", {})
    assert recorded["code_owner_module"] == "segmentio_bridge.tasks"
