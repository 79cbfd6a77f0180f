"""Use the built wheel as a new site would: types, two lines, one delivery, one event logged.

Run by tox outside of the checkout, with the folder that the wheel is in. Makes an environment that
has the wheel and what it requires, and nothing else. Ends with an error if anything is not as it
should be.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

SECRET = "a secret that only Segment knows"
TIMEOUT_SECONDS = 30

SETTINGS = f"""
INSTALLED_APPS += ["eventtracking.django.apps.EventTrackingConfig", "segmentio_bridge"]
TRACKING_SEGMENTIO_WEBHOOK_SECRET = {SECRET!r}
EVENT_TRACKING_ENABLED = True
EVENT_TRACKING_BACKENDS = {{
    "logger": {{
        "ENGINE": "eventtracking.backends.logger.LoggerBackend",
        "OPTIONS": {{"name": "tracking", "max_event_size": 50_000}},
    }}
}}
LOGGING = {{
    "version": 1,
    "handlers": {{
        "file": {{"class": "logging.FileHandler", "filename": BASE_DIR / "tracking.log"}}
    }},
    "loggers": {{"tracking": {{"handlers": ["file"], "level": "INFO"}}}},
}}
OPENEDX_TELEMETRY = []
"""

INSTALLED = """
from pathlib import Path
import segmentio_bridge
package = Path(segmentio_bridge.__file__).parent
assert "site-packages" in package.parts, f"not installed, but imported from {package}"
assert (package / "py.typed").exists(), "the package does not ship its types"
assert list(package.glob("quarantine/templates/**/*.html")), "nor its templates"
"""

URLS = """
from django.urls import include
urlpatterns += [path("segmentio/", include("segmentio_bridge.urls"))]
"""

EVENT = {
    "type": "track",
    "userId": "1",
    "messageId": "m-1",
    "context": {"library": {"name": "analytics-swift"}, "app": {"version": "1.0"}},
    "properties": {"name": "edx.video.played", "data": {"currentTime": 1.5}},
    "timestamp": "2026-03-02T09:15:27.352Z",
    "receivedAt": "2026-03-02T09:15:29.004Z",
}


def main() -> None:
    """Install the wheel, check its types, make a site, deliver to it, and look at its log."""
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    with tempfile.TemporaryDirectory() as name:
        python = install(wheel, Path(name) / "environment")
        run(python, "-c", INSTALLED)
        check_types(python, Path(name))
        exercise(python, Path(name) / "site")
    print("1 passed, 0 failed")


def install(wheel: Path, environment: Path) -> str:
    """Make an empty environment, install the wheel there, and return its interpreter."""
    run(sys.executable, "-m", "venv", str(environment))
    python = str(environment / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", str(wheel))
    return python


def check_types(python: str, directory: Path) -> None:
    """Check a site's code against the types that the installed package ships."""
    # A copy, away from the checkout's package and from mypy's settings there.
    consumer = directory / "consumer.py"
    shutil.copy(Path(__file__).parent / "typing" / "consumer.py", consumer)
    cache = str(directory / "mypy_cache")
    run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache),
        *("--python-executable", python, str(consumer)),
    )


def exercise(python: str, site: Path) -> None:
    """Make a site, deliver to it, and look at its tracking log."""
    site.mkdir()
    run(python, "-m", "django", "startproject", "site_of_a_newcomer", str(site))
    append(site / "site_of_a_newcomer" / "settings.py", SETTINGS)
    append(site / "site_of_a_newcomer" / "urls.py", URLS)
    manage = str(site / "manage.py")
    run(python, manage, "check", "--fail-level", "WARNING")
    run(python, manage, "migrate", "--verbosity", "0")
    environ = {**os.environ, "DJANGO_SUPERUSER_PASSWORD": "x"}
    run(
        *(python, manage, "createsuperuser", "--noinput", "--username=ada", "--email=a@b.org"),
        env=environ,
    )

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = subprocess.Popen([python, manage, "runserver", "--noreload", str(port)])
    try:
        status = deliver(f"http://127.0.0.1:{port}/segmentio/event")
    finally:
        server.terminate()
        server.wait(TIMEOUT_SECONDS)
    assert status == 200, status
    (line,) = (site / "tracking.log").read_text().splitlines()
    event = json.loads(line)
    assert event["name"] == "edx.video.played", event
    assert event["context"]["username"] == "ada", event


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Run a command, which has to succeed."""
    subprocess.run(command, env=env, check=True)


def append(path: Path, text: str) -> None:
    """Add to the end of a file."""
    path.write_text(path.read_text() + text)


def deliver(url: str) -> int:
    """Post the event as soon as the server listens, and return the status of the answer."""
    request = urllib.request.Request(
        url,
        json.dumps(EVENT).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"},
    )
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
