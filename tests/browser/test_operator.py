"""An event is refused because its user does not exist; an operator sees it, and releases it.

Headless Chromium does what a person would do. With SCREENSHOTS naming a folder, pictures of the way
are left there; those in docs/images are from such a run.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from django.contrib.auth.hashers import make_password
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tests.demo.server import SECRET, TIMEOUT_SECONDS, serve
from tests.factories import make_event, make_properties, without
from tests.servers import find_program

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"
LIST = "/admin/segmentio_bridge_quarantine/quarantinedevent/"


class Site:
    """The site as those outside see it, and the files that it writes."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port

    def deliver(self, payload: object) -> int:
        """Deliver as Segment does, and return the status of the answer."""
        http = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        http.request("POST", "/segmentio/event", body, headers)
        status = http.getresponse().status
        http.close()
        return status

    @property
    def tracking_log(self) -> list[dict[str, object]]:
        """The events that have been emitted."""
        log = self.directory / "tracking.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def spread_over_days(self) -> None:
        """Make the events of the quarantine as old as if they had come in over a month."""
        with sqlite3.connect(self.directory / "demo.sqlite3") as database:
            database.execute(
                "UPDATE segmentio_bridge_quarantine_quarantinedevent SET created_at = "
                "datetime(created_at, '-' || ((id * id) % 29) || ' days') WHERE id % 9 != 0"
            )


class Operator:
    """A person at a browser."""

    def __init__(self, browser: Chrome, port: int) -> None:
        self.browser = browser
        self._base = f"http://127.0.0.1:{port}"
        self._screenshots = os.environ.get("SCREENSHOTS")

    def visit(self, path: str) -> None:
        """Open a page of the site."""
        self.browser.get(self._base + path)

    @property
    def text(self) -> str:
        """What stands on the page."""
        return str(self.browser.find_element(By.TAG_NAME, "body").text)

    def fill(self, name: str, value: str) -> None:
        """Type into a field."""
        self.browser.find_element(By.NAME, name).send_keys(value)

    def choose(self, name: str, label: str) -> None:
        """Choose from a list."""
        Select(self.browser.find_element(By.NAME, name)).select_by_visible_text(label)

    def click(self, selector: str) -> None:
        """Click on what leads to another page, and wait for that."""
        page = self.browser.find_element(By.TAG_NAME, "html")
        self.browser.find_element(By.CSS_SELECTOR, selector).click()
        WebDriverWait(self.browser, TIMEOUT_SECONDS).until(staleness_of(page))

    def follow(self, text: str) -> None:
        """Click on the first link with this text."""
        page = self.browser.find_element(By.TAG_NAME, "html")
        self.browser.find_element(By.LINK_TEXT, text).click()
        WebDriverWait(self.browser, TIMEOUT_SECONDS).until(staleness_of(page))

    def picture(self, name: str) -> None:
        """Take a picture of the window, if pictures are wanted."""
        if self._screenshots:
            self.browser.save_screenshot(str(Path(self._screenshots, f"{name}.png")))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The site with the quarantine, behind gunicorn, with an operator's account."""
    environ = {"DJANGO_SETTINGS_MODULE": "tests.browser.settings"}
    with serve(tmp_path, {1: "ada"}, environ=environ) as port:
        with sqlite3.connect(tmp_path / "demo.sqlite3") as database:
            database.execute(
                "INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, "
                "first_name, last_name, email, date_joined) "
                "VALUES (50, 'operator', ?, 1, 1, 1, '', '', '', '2026-01-01')",
                [make_password(PASSWORD)],
            )
        yield Site(tmp_path, port)


@pytest.fixture(params=["light", "dark"])
def operator(request: pytest.FixtureRequest, site: Site) -> Iterator[Operator]:
    """An operator who prefers a light or a dark screen, and has logged in."""
    options = ChromeOptions()
    options.binary_location = str(find_program("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,1000"):
        options.add_argument(argument)
    if request.param == "dark":
        options.add_argument("--blink-settings=preferredColorScheme=0")
    service = Service(str(find_program("chromedriver")))
    browser = Chrome(options, service)
    try:
        yield Operator(browser, site.port)
    finally:
        browser.quit()


def log_in(operator: Operator) -> None:
    operator.visit(LIST)
    operator.fill("username", "operator")
    operator.fill("password", PASSWORD)
    operator.click("[type=submit]")


def test_an_event_of_an_unknown_user_is_found_and_released(
    site: Site, operator: Operator, request: pytest.FixtureRequest
) -> None:
    theme = "dark" if "dark" in request.node.name else "light"
    others = [
        *[make_event(userId="404", messageId=f"other-{number}") for number in range(60)],
        *[make_event(userId=None) for _ in range(25)],
        *[make_event(timestamp="last Tuesday") for _ in range(12)],
        *[make_event(properties=without(make_properties(), "data")) for _ in range(8)],
    ]
    assert site.deliver(others) == 200
    assert site.deliver(b'[{"type": "track"') == 400
    site.spread_over_days()
    event = make_event(userId="7", messageId="m-of-grace")
    assert site.deliver([make_event(), event]) == 200
    assert len(site.tracking_log) == 1

    # It shows up, with the reason.
    log_in(operator)
    assert "by reason" in operator.text
    assert re.search(r"user_not_found .*edx.video.loaded 7 .*m-of-grace", operator.text)
    operator.picture(f"quarantine-{theme}")
    operator.fill("q", "m-of-grace")
    operator.click("#changelist-search [type=submit]")
    operator.follow("user_not_found")
    assert "No user has the primary key in userId." in operator.text
    assert "m-of-grace" in operator.text

    # Released too early, it stays, and says why.
    operator.click("button[value=release]")
    assert "user_not_found" in operator.text

    # The cause is mended: the user is created, and is given the primary key that the app knows.
    operator.visit("/admin/auth/user/add/")
    operator.fill("username", "grace")
    operator.fill("password1", PASSWORD)
    operator.fill("password2", PASSWORD)
    operator.click("[name=_save]")
    with sqlite3.connect(site.directory / "demo.sqlite3") as database:
        database.execute("UPDATE auth_user SET id = 7 WHERE username = 'grace'")

    # The page says what would be emitted now; the event is released.
    operator.visit(f"{LIST}?q=m-of-grace")
    operator.follow("user_not_found")
    assert "edx.video.loaded" in operator.text
    assert '"username": "grace"' in operator.text
    operator.picture(f"event-{theme}")
    operator.click("button[value=release]")
    operator.picture(f"released-{theme}")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(site.tracking_log) < 2:
        assert time.monotonic() < deadline
    assert site.tracking_log[-1]["context"]["username"] == "grace"  # type: ignore[index]  # object, to mypy

    # It is no longer pending, and is not emitted twice.
    operator.visit(f"{LIST}?q=m-of-grace")
    assert "released" in operator.text

    # The others of nobody are discarded at once.
    operator.visit(f"{LIST}?q=404")
    operator.browser.find_element(By.ID, "action-toggle").click()
    operator.choose("action", "Discard the selected events")
    operator.click("[name=index]")
    assert "60" in operator.text
    assert len(site.tracking_log) == 2


def test_the_page_reads_well_without_scripts_and_for_screen_readers(
    site: Site, operator: Operator
) -> None:
    assert site.deliver([make_event(userId="404"), make_event(userId=None)]) == 200
    log_in(operator)
    chart = operator.browser.find_element(By.CSS_SELECTOR, "svg[role=img]")
    assert chart.accessible_name
    assert chart.aria_role in {"img", "image"}
    complaints = operator.browser.get_log("browser")
    assert not [each for each in complaints if "favicon.ico" not in each["message"]]
    scripts = operator.browser.find_elements(By.CSS_SELECTOR, "section script")
    assert not scripts
