"""The metrics: what is counted, under which labels, and how it reaches Prometheus and Grafana."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, current_app
from django.conf import settings as django_settings
from django.test import Client, override_settings
from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from segmentio_bridge.metrics import EVENT_BUCKETS, SECOND_BUCKETS, STATUS_CODES, Metrics
from segmentio_bridge.outcomes import Outcome, Reason, Status
from segmentio_bridge.signals import delivery_answered, events_processed
from tests.conftest import registered
from tests.demo.server import SECRET, TIMEOUT_SECONDS, serve
from tests.factories import make_event, make_event_of_website
from tests.hostile import (
    AUTHORIZATIONS,
    CONTENT_ENCODINGS,
    CONTENT_TYPES,
    MALFORMED,
    PATH,
    QUERIES,
    QUERY,
    SIGNATURES,
    STATUSES,
    VALUES,
    as_batch,
    render,
)

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/metrics.md").read_text()
DASHBOARD = json.loads((ROOT / "docs/grafana/segmentio_bridge.json").read_text())

#: Whatever is delivered, a label has one of these values.
LABEL_VALUES = {
    "outcome": {str(status) for status in Status},
    "reason": {"", *(str(reason) for reason in Reason)},
    "source": {"", "mobile"},
    "status_code": {str(status_code) for status_code in STATUS_CODES},
}

Numbers = dict[str, float]


# What is counted ---------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    """A registry with metrics that count during the test, beside the site's own."""
    metrics = Metrics()
    registry = CollectorRegistry()
    registry.register(metrics)
    events_processed.connect(metrics.count_events)
    delivery_answered.connect(metrics.count_delivery)
    yield registry
    events_processed.disconnect(metrics.count_events)
    delivery_answered.disconnect(metrics.count_delivery)


def read(families: Iterable[Metric], *, buckets: bool = False) -> Numbers:
    """Return what is not zero, as `name{label values}` in the order of the labels' names.

    Names come without their prefix; sums of seconds, which are never the same, are left out.
    """
    numbers = {}
    for family in families:
        for sample in family.samples:
            name = sample.name.removeprefix("segmentio_bridge_")
            is_wanted = buckets or not name.endswith("_bucket")
            if is_wanted and sample.value and not name.endswith(("_created", "_seconds_sum")):
                labels = ",".join(value for _, value in sorted(sample.labels.items()))
                numbers[f"{name}{{{labels}}}"] = sample.value
    return numbers


def deliver(payload: object, **environ: Any) -> int:
    """Deliver what JSON can be made of, or bytes, and return the answer's status code."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    environ = {"QUERY_STRING": QUERY, "CONTENT_TYPE": "application/json", **environ}
    return Client().generic("POST", PATH, body, **environ).status_code


def answered(status_code: int, events: int | None = None) -> Numbers:
    """Return what one delivery counts, beside its events."""
    numbers: Numbers = {
        f"deliveries_total{{{status_code}}}": 1,
        f"delivery_duration_seconds_count{{{status_code}}}": 1,
    }
    if events is not None:
        numbers[f"delivery_events_count{{{status_code}}}"] = 1
    if events:
        numbers[f"delivery_events_sum{{{status_code}}}"] = events
    return numbers


MIXED = [
    make_event(),
    make_event(),
    make_event_of_website(),
    make_event(type="identify"),
    make_event(userId=None),
    make_event(userId="404"),
    "no object",
]


@pytest.mark.parametrize(
    ("payload", "events"),
    [
        pytest.param(make_event(), {"emitted,,mobile": 1}, id="emitted"),
        pytest.param(make_event_of_website(), {"ignored,unknown_source,": 1}, id="ignored"),
        pytest.param(
            MIXED,
            {
                "emitted,,mobile": 2,
                "ignored,unknown_source,": 1,
                "ignored,unsupported_type,mobile": 1,
                "rejected,missing_user_id,mobile": 1,
                "rejected,not_an_object,": 1,
                "rejected,user_not_found,mobile": 1,
            },
            id="mixed batch",
        ),
        pytest.param([], {}, id="empty batch"),
    ],
)
@pytest.mark.usefixtures("learner")
def test_deliveries_that_are_taken(
    registry: CollectorRegistry, payload: object, events: dict[str, int]
) -> None:
    assert deliver(payload) == 200
    assert read(registry.collect()) == {
        **answered(200, sum(events.values())),
        **{f"events_total{{{labels}}}": number for labels, number in events.items()},
    }


@pytest.mark.parametrize(
    ("body", "environ", "status_code"),
    [
        (b"[", {}, 400),
        (b"[]", {"QUERY_STRING": "key=wrong"}, 401),
        (b"[" + b" " * 100, {}, 413),
        (b"[]", {"CONTENT_TYPE": "text/plain"}, 415),
        (b"[]", {"CONTENT_LENGTH": "3"}, 503),
    ],
)
def test_deliveries_that_are_refused(
    registry: CollectorRegistry,
    settings: Settings,
    body: bytes,
    environ: dict[str, str],
    status_code: int,
) -> None:
    settings.TRACKING_SEGMENTIO_MAX_BODY_BYTES = 99
    assert deliver(body, **environ) == status_code
    assert read(registry.collect()) == answered(status_code)


@pytest.mark.usefixtures("learner")
def test_a_delivery_that_has_to_come_again_counts_its_events(registry: CollectorRegistry) -> None:
    with registered(None):
        assert deliver([make_event(), make_event()]) == 503
    assert read(registry.collect()) == {
        **answered(503, 2),
        "events_total{failed,tracker_disabled,mobile}": 2,
    }


@pytest.mark.usefixtures("learner")
def test_duplicates(registry: CollectorRegistry, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 60
    event = make_event()
    assert deliver([event]) == deliver([event]) == 200
    numbers = read(registry.collect())
    assert numbers["events_total{emitted,,mobile}"] == 1
    assert numbers["events_total{duplicate,duplicate,mobile}"] == 1


@pytest.mark.usefixtures("learner")
def test_sources_are_those_of_the_site(registry: CollectorRegistry, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_SOURCE_MAP = {"analytics-kotlin": "phone", "analytics.js": ""}
    assert deliver([make_event(), make_event_of_website()]) == 200
    assert read(registry.collect()) == {
        **answered(200, 2),
        "events_total{emitted,,phone}": 1,
        "events_total{ignored,unknown_source,}": 1,
    }


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    """Queue mode, with a worker that takes chunks at once, and in this process."""
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    before = current_app._get_current_object()
    app = Celery("tests", broker="memory://", set_as_current=True)
    app.conf.task_always_eager = True
    yield
    app.close()
    before.set_current()


@pytest.mark.usefixtures("learner", "worker")
def test_in_queue_mode_each_event_is_counted_once(registry: CollectorRegistry) -> None:
    assert deliver([make_event() for _ in range(250)] + [make_event_of_website()]) == 200
    assert read(registry.collect()) == {
        **answered(200, 251),
        "events_total{emitted,,mobile}": 250,
        "events_total{ignored,unknown_source,}": 1,
    }


def test_buckets(registry: CollectorRegistry) -> None:
    for seconds, events in ((0.0001, 0), (0.002, 1), (4.9, 4_000), (60, 9_000)):
        delivery_answered.send(None, status_code=200, seconds=seconds, events=events)
    numbers = read(registry.collect(), buckets=True)

    def in_bucket(name: str, bound: float | str) -> float:
        return numbers[f"delivery_{name}_bucket{{{bound},200}}"]

    assert [in_bucket("duration_seconds", bound) for bound in (0.001, 0.0025, 2.5, 5.0, 10.0)] == [
        *(1, 2, 2, 3, 3)
    ]
    assert [in_bucket("events", bound) for bound in (1.0, 2.0, 2000.0, 4000.0)] == [2, 2, 2, 3]
    assert in_bucket("duration_seconds", "+Inf") == in_bucket("events", "+Inf") == 4
    assert (EVENT_BUCKETS[0], EVENT_BUCKETS[-1]) == (1, 4_000)
    assert (SECOND_BUCKETS[0], SECOND_BUCKETS[-1]) == (0.001, 10)


def test_what_may_come_is_there_at_zero(registry: CollectorRegistry) -> None:
    events_processed.send(None, outcomes=[Outcome(None, None, "mobile")])
    delivery_answered.send(None, status_code=200, seconds=0.1, events=1)
    for reason in Reason:
        labels = {"outcome": reason.status, "reason": reason, "source": "mobile"}
        assert registry.get_sample_value("segmentio_bridge_events_total", labels) == 0
    for status_code in STATUS_CODES[1:]:
        codes = {"status_code": str(status_code)}
        assert registry.get_sample_value("segmentio_bridge_deliveries_total", codes) == 0
    assert set(STATUS_CODES) == STATUSES - {405}


def test_a_large_batch_costs_microseconds_per_event() -> None:
    metrics = Metrics()
    reasons = [None, *Reason]
    outcomes = [Outcome(reasons[n % len(reasons)], f"m-{n}", "mobile") for n in range(4_000)]

    def measure() -> float:
        start = time.process_time()
        metrics.count_events(outcomes)
        return time.process_time() - start

    assert min(measure() for _ in range(5)) / len(outcomes) < 5e-6


# Labels ------------------------------------------------------------------------------------------


def label_values(families: Iterable[Metric]) -> dict[str, set[str]]:
    """Return the values that each label has, except the bounds of buckets."""
    values: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            for label in sample.labels.keys() - {"le"}:
                values.setdefault(label, set()).add(sample.labels[label])
    return values


def assert_labels_are_from_closed_sets(registry: CollectorRegistry) -> None:
    for label, values in label_values(registry.collect()).items():
        assert values <= LABEL_VALUES[label]


@pytest.mark.parametrize(
    "field",
    ["context.library.name", "context.library", "type", "messageId", "userId", "properties.name"],
)
@pytest.mark.usefixtures("learner")
def test_no_event_makes_a_label_value(registry: CollectorRegistry, field: str) -> None:
    texts = [render(tuple(field.split(".")), value) for value in VALUES.values()]
    assert deliver(as_batch([*texts, *VALUES.values()])) == 200
    assert_labels_are_from_closed_sets(registry)
    numbers = read(registry.collect())
    assert numbers["delivery_events_sum{200}"] == len(texts) + len(VALUES)


def test_no_request_makes_a_label_value(registry: CollectorRegistry) -> None:
    # Django reads query strings by the content type's charset, if it can.
    bearer = {"QUERY_STRING": "", "HTTP_AUTHORIZATION": f"Bearer {SECRET}"}
    environments: list[dict[str, str]] = [
        *({"QUERY_STRING": query} for query in QUERIES.values()),
        *({"QUERY_STRING": "", "HTTP_AUTHORIZATION": text} for text in AUTHORIZATIONS.values()),
        *({"HTTP_X_SIGNATURE": text} for text in SIGNATURES.values()),
        *({**bearer, "CONTENT_TYPE": text} for text, _ in CONTENT_TYPES.values()),
        *({"HTTP_CONTENT_ENCODING": text} for text in CONTENT_ENCODINGS.values()),
    ]
    codes = [deliver(b"[]", **environ) for environ in environments]
    codes += [deliver(body) for body in MALFORMED.values()]
    assert_labels_are_from_closed_sets(registry)
    numbers = read(registry.collect())
    assert {code: numbers[f"deliveries_total{{{code}}}"] for code in set(codes)} == {
        code: codes.count(code) for code in set(codes)
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "BREW", "x" * 9_000])
def test_other_methods_are_not_counted(registry: CollectorRegistry, method: str) -> None:
    assert Client().generic(method, f"{PATH}?{QUERY}").status_code == 405
    assert read(registry.collect()) == {}


# Registration ------------------------------------------------------------------------------------


def site_numbers() -> Numbers:
    return read(family for family in REGISTRY.collect() if "segmentio_bridge" in family.name)


def test_the_site_counts_once_however_often_the_app_is_loaded() -> None:
    with override_settings(INSTALLED_APPS=list(django_settings.INSTALLED_APPS)):
        assert deliver([]) == 200
        before = site_numbers()
        assert deliver([]) == 200
    after = site_numbers()
    assert {name for name in after if after[name] != before[name]} == {
        *("deliveries_total{200}", "delivery_duration_seconds_count{200}"),
        "delivery_events_count{200}",
    }
    assert after["deliveries_total{200}"] == before["deliveries_total{200}"] + 1


def test_the_page_of_a_site_of_one_process() -> None:
    assert deliver([]) == 200
    response = Client().get("/metrics")
    assert response["Content-Type"].startswith("text/plain; version=")
    page = read(text_string_to_metric_families(response.content.decode()))
    assert page["deliveries_total{200}"] == site_numbers()["deliveries_total{200}"]


SITE = """
import logging, os, sys
logging.basicConfig(level="WARNING", stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")

def deliver():
    from django.test import Client
    from tests.hostile import PATH, QUERY
    answer = Client().generic("POST", f"{PATH}?{QUERY}", b"{}", "application/json")
    print("answer", answer.status_code)

def show(**labels):
    from prometheus_client import REGISTRY
    print("counted", REGISTRY.get_sample_value("segmentio_bridge_deliveries_total", labels))
"""


def run_site(code: str, **environ: str) -> list[str]:
    """Run the code in a process whose site is not set up yet, and return the lines it prints."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **environ}
    environment.pop("DEMO_DIRECTORY", None)
    result = subprocess.run(
        [sys.executable, "-c", SITE + code],
        capture_output=True,
        cwd=ROOT,
        env=environment,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_a_site_without_prometheus_client() -> None:
    lines = run_site(
        """
sys.modules["prometheus_client"] = None
import django
django.setup()
deliver()
from django.test import Client
print("page", Client().get("/metrics").status_code)
print("imported", "segmentio_bridge.metrics" in sys.modules)
"""
    )
    assert lines == [
        "answer 200",
        "WARNING django.request Not Found: /metrics",
        "page 404",
        "imported False",
    ]


def test_a_second_import_harms_nothing() -> None:
    lines = run_site(
        """
import django
django.setup()
from django.apps import apps
from segmentio_bridge import metrics
del sys.modules["segmentio_bridge.metrics"], sys.modules["segmentio_bridge"].metrics
apps.get_app_config("segmentio_bridge").ready()
assert sys.modules["segmentio_bridge.metrics"] is not metrics
deliver()
show(status_code="200")
"""
    )
    assert lines == [
        (
            "WARNING segmentio_bridge.metrics The metrics are not counted: Prometheus' registry "
            "has metrics of these names already."
        ),
        "answer 200",
        "counted 1.0",
    ]


def test_a_registry_that_has_the_names_harms_nothing() -> None:
    (warning, *lines) = run_site(
        """
from prometheus_client import Gauge
Gauge("segmentio_bridge_delivery_events", "Somebody else's.")
import django
django.setup()
deliver()
show(status_code="200")
"""
    )
    assert warning.startswith("WARNING segmentio_bridge.metrics The metrics are not counted")
    assert lines == ["answer 200", "counted None"]


def test_a_directory_that_is_missing_harms_nothing(tmp_path: Path) -> None:
    lines = run_site(
        "import django; django.setup(); deliver()",
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "missing"),
    )
    assert lines[-1] == "answer 200"
    assert any("No such file or directory" in line for line in lines)


def test_commands_write_no_files(tmp_path: Path) -> None:
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    assert run_site("import django; django.setup()", **environ) == []
    assert list(tmp_path.iterdir()) == []
    assert run_site("import django; django.setup(); deliver()", **environ) == ["answer 200"]
    assert {path.name.partition("_")[0] for path in tmp_path.iterdir()} == {"counter", "histogram"}


# A real site: gunicorn with two workers ----------------------------------------------------------

USERS = {1: "ada"}
BATCH = [*MIXED, *(make_event() for _ in range(43))]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Metric], int]:
    """What a site of two workers, both of which had deliveries, gives Prometheus after n rounds."""
    directory = tmp_path_factory.mktemp("site")
    rounds = 0

    def request(method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    with serve(directory, USERS) as port, ThreadPoolExecutor(4) as threads:
        while len(list((directory / "metrics").glob("counter_*.db"))) < 2:
            rounds += 1
            deliveries = [
                (f"{PATH}?{QUERY}", json.dumps(BATCH).encode()),
                (f"{PATH}?{QUERY}", json.dumps(make_event()).encode()),
                (f"{PATH}?{QUERY}", b"{"),
                (f"{PATH}?key=guess", b"{}"),
            ]
            sent = [threads.submit(request, "POST", *delivery) for delivery in deliveries]
            assert [one.result()[0] for one in sent] == [200, 200, 400, 401]
        answers = [request("GET", "/metrics") for _ in range(8)]
    assert {status for status, _ in answers} == {200}
    # Whichever worker answers, it answers for both.
    assert len({tuple(sorted(page.splitlines())) for _, page in answers}) == 1
    return list(text_string_to_metric_families(answers[0][1])), rounds


def test_a_scrape_finds_the_sums_of_all_workers(scraped: tuple[list[Metric], int]) -> None:
    families, rounds = scraped
    numbers = read(families, buckets=True)
    buckets = {name: numbers.pop(name) for name in list(numbers) if "_bucket{" in name}
    per_round = {
        "deliveries_total{200}": 2,
        "deliveries_total{400}": 1,
        "deliveries_total{401}": 1,
        "delivery_duration_seconds_count{200}": 2,
        "delivery_duration_seconds_count{400}": 1,
        "delivery_duration_seconds_count{401}": 1,
        "delivery_events_count{200}": 2,
        "delivery_events_sum{200}": 51,
        "events_total{emitted,,mobile}": 46,
        "events_total{ignored,unknown_source,}": 1,
        "events_total{ignored,unsupported_type,mobile}": 1,
        "events_total{rejected,missing_user_id,mobile}": 1,
        "events_total{rejected,not_an_object,}": 1,
        "events_total{rejected,user_not_found,mobile}": 1,
    }
    assert numbers == {name: number * rounds for name, number in per_round.items()}
    assert buckets["delivery_events_bucket{1.0,200}"] == rounds
    assert buckets["delivery_events_bucket{50.0,200}"] == 2 * rounds
    assert buckets["delivery_duration_seconds_bucket{+Inf,200}"] == 2 * rounds


# What is written about them ----------------------------------------------------------------------


def described(families: Iterable[Metric]) -> dict[str, tuple[str, set[str], str]]:
    """Return type, labels and documentation of each metric of the app, by its name."""
    found = {}
    for family in families:
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = family.type, labels, family.documentation
    return found


def test_the_table_has_the_metrics_that_exist(scraped: tuple[list[Metric], int]) -> None:
    rows = [row.split(" | ") for row in re.findall(r"^\| (`.*) \|$", PAGE, re.M)]
    assert {
        name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    } == described(scraped[0])


def test_the_page_has_the_values_of_the_labels() -> None:
    (outcomes,) = re.findall(r"^- `outcome` is (.+?);", PAGE, re.M)
    assert set(re.findall(r"`(\w+)`", outcomes)) == LABEL_VALUES["outcome"]
    (status_codes,) = re.findall(r"^- `status_code` is (.+?)\.", PAGE, re.M)
    assert set(re.findall(r"\d+", status_codes)) == LABEL_VALUES["status_code"]


def test_the_view_is_that_of_the_demo() -> None:
    view = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)[0]
    demo = (ROOT / "tests/demo/metrics.py").read_text()
    assert demo.endswith(view.partition("import os\n")[2])


KEYWORDS = {"and", "bool", "offset", "or", "unless"}
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


class Query:
    """A PromQL expression: the names of its series, its matchers, and the labels it groups by."""

    def __init__(self, expression: str) -> None:
        self.matchers: list[tuple[str, str, str]] = MATCHER.findall(expression)
        text = MATCHER.sub("", expression)
        self.groups = {
            label.strip() for group in GROUPING.findall(text) for label in group.split(",")
        }
        text = re.sub(r"\[[^]]*\]|\{[^}]*\}", " ", GROUPING.sub("", text))
        words = re.findall(r"(?<![\w.$])[A-Za-z_:][\w:]*\b(?!\s*\()", text)
        self.series = set(words) - KEYWORDS

    @property
    def labels(self) -> set[str]:
        """All labels that the expression names."""
        return self.groups | {label for label, _, _ in self.matchers}


@pytest.mark.parametrize(
    ("expression", "series", "labels"),
    [
        ("up", {"up"}, set()),
        ('a_total{b="c", d!~"e|{f}"}[5m] offset 1h', {"a_total"}, {"b", "d"}),
        ("sum by (b, c) (rate(a[$__rate_interval])) / 1.5e3 > bool 2", {"a"}, {"b", "c"}),
        ("a and on (b) c unless ignoring(d) e:f", {"a", "c", "e:f"}, {"b", "d"}),
        ("(sum(a) or vector(0)) == 0", {"a"}, set()),
        ("histogram_quantile(0.5, sum without (b) (a_bucket))", {"a_bucket"}, {"b"}),
    ],
)
def test_expressions_are_read(expression: str, series: set[str], labels: set[str]) -> None:
    query = Query(expression)
    assert (query.series, query.labels) == (series, labels)


def targets() -> list[dict[str, Any]]:
    """Return all queries of the dashboard's panels."""
    return [target for panel in DASHBOARD["panels"] for target in panel["targets"]]


def alerts() -> list[str]:
    """Return the expressions of the example alerts."""
    return re.findall(r"^ +expr: (.+)$", PAGE, re.M)


def metrics_of(query: Query, families: Sequence[Metric]) -> set[str]:
    """Return the metrics whose series the expression reads, all of which have its labels.

    The labels of a scrape are Prometheus' own addition.
    """
    metrics = set()
    for series in query.series:
        (family,) = [
            family for family in families if any(sample.name == series for sample in family.samples)
        ]
        labels = {label for s in family.samples if s.name == series for label in s.labels}
        assert query.labels <= {*labels, "job"}, series
        metrics.add(family.name)
    return metrics


def assert_values_exist(query: Query) -> None:
    for label, operator, value in query.matchers:
        if value != "$job":
            pattern = value if "~" in operator else re.escape(value)
            for part in pattern.split("|"):
                assert any(re.fullmatch(part, known) for known in LABEL_VALUES[label]), part


def test_the_dashboard_shows_every_metric_and_no_other(
    scraped: tuple[list[Metric], int],
) -> None:
    families = scraped[0]
    used: set[str] = set()
    for target in targets():
        query = Query(target["expr"])
        assert query.series
        used |= metrics_of(query, families)
        assert_values_exist(query)
        assert ("job", "=~", "$job") in query.matchers
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == query.groups - {"le"}
    assert used == {family.name for family in families}


def test_the_alerts_are_about_metrics_that_exist(scraped: tuple[list[Metric], int]) -> None:
    assert len(alerts()) == PAGE.count("- alert: ") > 0
    for expression in alerts():
        query = Query(expression)
        assert metrics_of(query, scraped[0])
        assert_values_exist(query)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    datasource, job = DASHBOARD["templating"]["list"]
    assert (datasource["name"], datasource["type"]) == ("datasource", "datasource")
    sources = [*DASHBOARD["panels"], *targets(), job]
    assert {json.dumps(one["datasource"], sort_keys=True) for one in sources} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }
    (names,) = re.findall(r'^label_values\({__name__=~"(.+)"}, job\)$', job["query"]["query"])
    assert re.fullmatch(names, "segmentio_bridge_events_total")
    assert re.fullmatch(names, "segmentio_bridge_deliveries_total")


def test_no_panels_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
