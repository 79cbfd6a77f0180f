"""Use the installed package as a new site would: two lines, one delivery, one event logged.

Run by tox outside of the checkout, with an interpreter that has the built wheel and what it
requires, and nothing else. Ends with an error if anything is not as it should be.
"""

from __future__ import annotations

import json
import os
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
    """Make a site, deliver to it, and look at its tracking log."""
    import segmentio_bridge

    package = Path(segmentio_bridge.__file__).parent
    assert "site-packages" in package.parts, f"not installed, but imported from {package}"
    assert (package / "py.typed").exists(), "the package does not ship its types"
    assert list(package.glob("quarantine/templates/**/*.html")), "nor its templates"

    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        run("-m", "django", "startproject", "site_of_a_newcomer", str(site))
        append(site / "site_of_a_newcomer" / "settings.py", SETTINGS)
        append(site / "site_of_a_newcomer" / "urls.py", URLS)
        manage = str(site / "manage.py")
        run(manage, "check", "--fail-level", "WARNING")
        run(manage, "migrate", "--verbosity", "0")
        environ = {**os.environ, "DJANGO_SUPERUSER_PASSWORD": "x"}
        run(
            manage, "createsuperuser", "--noinput", "--username=ada", "--email=a@b.org", env=environ
        )

        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server = subprocess.Popen([sys.executable, manage, "runserver", "--noreload", str(port)])
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
    print("1 passed, 0 failed")


def run(*arguments: str, env: dict[str, str] | None = None) -> None:
    """Run the interpreter that this script runs in."""
    subprocess.run([sys.executable, *arguments], env=env, check=True)


def append(path: Path, text: str) -> None:
    """Add to the end of a file."""
    path.write_text(path.read_text() + text)


def deliver(url: str) -> int:
    """Post the event as soon as the server listens, and return the status of the answer."""
    request = urllib.request.Request(  # noqa: S310 - the URL is made above
        url,
        json.dumps(EVENT).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"},
    )
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
