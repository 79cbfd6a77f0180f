"""The commands of docs/openedx.md: the app's own on a site, and Tutor's by a stand-in for Tutor.

tests/test_plugin.py tries what is pasted into files: the Tutor plugin, settings and YAML.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.demo.server import TIMEOUT_SECONDS, serve
from tests.test_docs import ROOT, code, find_blocks
from tests.test_plugin import Filter

PAGE = "docs/openedx.md"
INSTALLATION = "Installation with Tutor"

#: What Tutor makes of `32|random_string`.
RANDOM = "94D8Cq5K88VFGkIW4S5cXfOy79r6fNU6"

PLATFORM = ("gunicorn", "django.core.wsgi:get_wsgi_application()", "--bind", "fd://{fd}")

#: What builds and restarts containers only, of which there are none here.
CONTAINERS = {"config save", "images build openedx", "local restart caddy"}


class Tutor:
    """Does what Tutor does for the commands of the page, and refuses any other.

    Its platform is the stand-in of tests/platform, where one learner is known. Plugins are the
    files in the folder that `tutor plugins printroot` prints.
    """

    def __init__(self, directory: Path) -> None:
        self.config: dict[str, str | list[str]] = {}
        self.plugins = directory / "plugins"
        self.plugins.mkdir()
        self._environment = {
            "DJANGO_SETTINGS_MODULE": "tests.platform.settings",
            "PLATFORM_PATCHES": f"DATABASES['default']['NAME'] = '{directory}/platform.sqlite3'\n",
        }
        self._directory = directory
        self._running = ExitStack()
        self._url = ""

    def __enter__(self) -> Tutor:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def run(self, line: str) -> str:
        """Run a line of the page, and return what it prints."""
        program, *words = shlex.split(line)
        assert program == "tutor"
        match words:
            case ["plugins", "enable", name]:
                self._enable(name)
            case ["config", "save", "--append", pair]:
                name, _, value = pair.partition("=")
                self.config[name] = [*self.config.get(name, []), value]
            case ["config", "printvalue", name]:
                return str(self.config[name])
            case ["local", "launch"]:
                self._launch()
            case ["local", "exec", "lms", "./manage.py", "lms", *command]:
                return self._manage(*command)
            case _:
                assert " ".join(words) in CONTAINERS
        return ""

    def _enable(self, name: str) -> None:
        unique, patches = Filter(), Filter()
        hooks = SimpleNamespace(Filters=SimpleNamespace(CONFIG_UNIQUE=unique, ENV_PATCHES=patches))
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(sys.modules, "tutor", SimpleNamespace(hooks=hooks))
            runpy.run_path(str(self.plugins / f"{name}.py"))
        rendered = dict(patches.items)["openedx-lms-common-settings"]
        for variable, template in unique.items:
            assert template == "{{ 32|random_string }}"
            self.config[variable] = RANDOM
            rendered = rendered.replace(f"{{{{ {variable} }}}}", RANDOM)
        self._environment["PLATFORM_PATCHES"] += rendered

    def _launch(self) -> None:
        self._running.close()
        learners = {} if self._url else {7: "ada"}
        site = serve(self._directory, learners, server=PLATFORM, environ=self._environment)
        self._url = f"http://127.0.0.1:{self._running.enter_context(site)}"

    def _manage(self, *command: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "django"]
            + [word.replace("https://your.site", self._url) for word in command],
            env={**os.environ, **self._environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout


@pytest.fixture
def tutor(tmp_path: Path) -> Iterator[Tutor]:
    """Tutor, with the page's plugin where the page says that it is to be saved."""
    (name,) = re.findall(r"Save this as `(\w+\.py)` in", (ROOT / PAGE).read_text())
    (plugin,) = code(PAGE, INSTALLATION, "python")
    with Tutor(tmp_path) as tutor:
        (tutor.plugins / name).write_text(plugin)
        yield tutor


def test_tutor_installs_the_plugin(tutor: Tutor, tmp_path: Path) -> None:
    install, look, *more = [block.code for block in find_blocks(PAGE) if block.language == "sh"]
    config, _ = code(PAGE, INSTALLATION, "yaml")
    for line in install.splitlines():
        tutor.run(line)
    assert yaml.safe_load(config).items() <= tutor.config.items()
    checked, sent, secret = (tutor.run(line) for line in look.splitlines())
    assert "no issues" in checked
    assert "1 delivery, 1 event; 200: 1;" in sent
    log = (tmp_path / "server.log").read_text()
    assert re.search(r'"name": "edx.video.played".*"user_id": 7\b', log)
    assert secret == RANDOM
    assert len(more) == 2
    for line in "".join(more).splitlines():
        tutor.run(line)
    assert "1 delivery, 1 event; 200: 1;" in tutor.run(look.splitlines()[1])
