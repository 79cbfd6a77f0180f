"""The settings: name, type, default and check of each, in one table.

Values are read from Django's settings at every use and checked each time, so that an override is
seen at once and a wrong value can never be half obeyed. Nothing is read at import. They are the
operator's, and trusted if they pass their check; raises ImproperlyConfigured if they do not.

Secrets come as their UTF-8 bytes, types and disallowed names in lower case, and the way of delivery
as the dotted path of the function that takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import empty

T_co = TypeVar("T_co", covariant=True)

_ABSENT = object()

#: What the names of all settings begin with.
PREFIX = "TRACKING_SEGMENTIO_"

# A century: so long ago there is always a date.
_MAX_DAYS = 36_500

#: Segment's mobile libraries, by the name they send in `context.library.name`:
#: https://segment.com/docs/connections/spec/common/#context.
MOBILE_LIBRARIES = (
    "analytics-android",
    "analytics-ios",
    "analytics-kotlin",
    "analytics-swift",
    "@segment/analytics-react-native",
    "analytics-react-native",
    "analytics-flutter",
)


#: The functions that a delivery's payload is handed to, by the value of the setting. They are
#: named, not imported: the core does without what only some sites use.
DELIVERIES = {
    "inline": "segmentio_bridge.pipeline.process",
    "celery": "segmentio_bridge.tasks.enqueue",
}


@dataclass(frozen=True)
class Setting(Generic[T_co]):
    """One setting; `parse` turns a site's value into the form the code works with.

    `default` is what a site would write, too. `expects` ends the sentence that begins with the name
    and "must be". `parse` raises TypeError or ValueError for a value that is not what it says.
    """

    name: str
    default: object
    expects: str
    parse: Callable[[object], T_co]

    @cached_property
    def parsed_default(self) -> T_co:
        """The default, in the form the code works with."""
        return self.parse(self.default)

    def get(self) -> T_co:
        """Return the parsed value of the setting as it is now.

        Raises ImproperlyConfigured, which names the setting and never shows its value.
        """
        # By way of `settings` itself it takes microseconds to find that a setting is absent, which
        # most are in most sites: an error is raised and caught for each.
        wrapped = settings._wrapped  # type: ignore[misc]  # unknown to the plugin
        value = getattr(wrapped, self.name, _ABSENT)
        if value is _ABSENT and wrapped is empty:
            # Nobody has asked for a setting yet, which is when they are loaded.
            value = getattr(settings, self.name, _ABSENT)
        if value is _ABSENT:
            return self.parsed_default
        try:
            return self.parse(value)
        except (TypeError, ValueError):
            # The original error may quote the value, and the value may be a secret.
            raise ImproperlyConfigured(f"{self.name} must be {self.expects}.") from None


def _string_list(value: object) -> tuple[str, ...]:
    # A tuple, set or frozenset is what many sites write where a list is meant.
    if not isinstance(value, list | tuple | set | frozenset):
        raise TypeError
    if not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)


def _secrets(value: object) -> tuple[bytes, ...]:
    if value is None:
        return ()
    secrets = (value,) if isinstance(value, str) else _string_list(value)
    return tuple(secret.encode() for secret in secrets if secret)


def _lower_cased(value: object) -> tuple[str, ...]:
    items = tuple(item.lower() for item in _string_list(value))
    if "" in items:
        # Every name contains the empty string: all events would be ignored.
        raise ValueError
    return items


def _source_map(value: object) -> Mapping[str, str | None]:
    if not isinstance(value, Mapping):
        raise TypeError
    for library, source in value.items():
        if not isinstance(library, str) or not (source is None or isinstance(source, str)):
            raise TypeError
    return value


def _whole_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if value < 0:
        raise ValueError
    return value


def _positive_integer(value: object) -> int:
    number = _whole_number(value)
    if number == 0:
        raise ValueError
    return number


def _days(value: object) -> int:
    number = _positive_integer(value)
    if number > _MAX_DAYS:
        raise ValueError
    return number


def _cache_alias(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if value not in list(caches):
        raise ValueError
    return value


def _delivery(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if value not in DELIVERIES:
        raise ValueError
    return DELIVERIES[value]


# .. setting_name: TRACKING_SEGMENTIO_WEBHOOK_SECRET
# .. setting_default: None
# .. setting_description: The key that a delivery must carry: a string, or a list of strings
#    while secrets rotate.
# .. setting_warning: Without this and TRACKING_SEGMENTIO_SIGNATURE_SECRET, every delivery is
#    refused.
WEBHOOK_SECRET = Setting(
    f"{PREFIX}WEBHOOK_SECRET",
    None,
    "None, a string, or a list of strings",
    _secrets,
)
# .. setting_name: TRACKING_SEGMENTIO_SIGNATURE_SECRET
# .. setting_default: None
# .. setting_description: The shared secret that Segment signs deliveries with: a string, or a
#    list of strings while secrets rotate. Where TRACKING_SEGMENTIO_WEBHOOK_SECRET is set too, a
#    delivery needs both.
# .. setting_warning: Segment signs only the first event of a batch. Only with a key as well are
#    the others known to be Segment's.
SIGNATURE_SECRET = Setting(
    f"{PREFIX}SIGNATURE_SECRET",
    None,
    "None, a string, or a list of strings",
    _secrets,
)
# .. setting_name: TRACKING_SEGMENTIO_ALLOWED_TYPES
# .. setting_default: ["track"]
# .. setting_description: The types of events to record, in any case; others are ignored.
ALLOWED_TYPES = Setting(
    f"{PREFIX}ALLOWED_TYPES",
    ["track"],
    "a list of non-empty strings",
    lambda value: frozenset(_lower_cased(value)),
)
# .. setting_name: TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES
# .. setting_default: []
# .. setting_description: Events whose name contains one of these, in any case, are ignored.
DISALLOWED_SUBSTRING_NAMES = Setting(
    f"{PREFIX}DISALLOWED_SUBSTRING_NAMES",
    [],
    "a list of non-empty strings",
    _lower_cased,
)
# .. setting_name: TRACKING_SEGMENTIO_SOURCE_MAP
# .. setting_default: {"analytics-android": "mobile", "analytics-ios": "mobile",
#    "analytics-kotlin": "mobile", "analytics-swift": "mobile",
#    "@segment/analytics-react-native": "mobile", "analytics-react-native": "mobile",
#    "analytics-flutter": "mobile"}
# .. setting_description: From the library's name, in context.library.name, to the event's
#    source; events of libraries that are not in it are ignored.
# .. setting_warning: A site's value takes the place of the default, and does not add to it.
SOURCE_MAP = Setting(
    f"{PREFIX}SOURCE_MAP",
    dict.fromkeys(MOBILE_LIBRARIES, "mobile"),
    "a dictionary from library names to event sources, all strings",
    _source_map,
)
# .. setting_name: TRACKING_SEGMENTIO_PROTECTED_CONTEXT_KEYS
# .. setting_default: []
# .. setting_description: Keys of the tracking context that properties.context cannot set.
PROTECTED_CONTEXT_KEYS = Setting(
    f"{PREFIX}PROTECTED_CONTEXT_KEYS",
    [],
    "a list of strings",
    lambda value: frozenset(_string_list(value)),
)
# .. setting_name: TRACKING_SEGMENTIO_MAX_BODY_BYTES
# .. setting_default: 16777216
# .. setting_description: The largest body to take, in bytes; a larger one is answered 413.
#    Django's DATA_UPLOAD_MAX_MEMORY_SIZE does not apply.
MAX_BODY_BYTES = Setting(
    f"{PREFIX}MAX_BODY_BYTES",
    16 * 1024 * 1024,
    "a positive number of bytes",
    _positive_integer,
)
# .. setting_name: TRACKING_SEGMENTIO_DELIVERY
# .. setting_default: "inline"
# .. setting_description: "inline" records events within the request, "celery" leaves them to
#    Celery's workers.
# .. setting_warning: With "celery", events are lost if the broker loses messages, and wait for as
#    long as no worker runs.
DELIVERY = Setting(
    f"{PREFIX}DELIVERY",
    "inline",
    " or ".join(f'"{delivery}"' for delivery in DELIVERIES),
    _delivery,
)
# .. setting_name: TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS
# .. setting_default: 0
# .. setting_description: For how long an event that comes again is known, and not recorded
#    again; 0 turns this off.
# .. setting_warning: Needs a cache that all processes share: see TRACKING_SEGMENTIO_CACHE.
DEDUPLICATION_SECONDS = Setting(
    f"{PREFIX}DEDUPLICATION_SECONDS",
    0,
    "a number of whole seconds, 0 for none",
    _whole_number,
)
# .. setting_name: TRACKING_SEGMENTIO_CACHE
# .. setting_default: "default"
# .. setting_description: The one of Django's CACHES that knows which events have been recorded.
# .. setting_warning: A cache that forgets an entry before its time lets a duplicate through.
CACHE = Setting(
    f"{PREFIX}CACHE",
    "default",
    "the name of one of the CACHES",
    _cache_alias,
)
# .. setting_name: TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS
# .. setting_default: 30
# .. setting_description: How many days the quarantine keeps an event, where it is installed.
# .. setting_warning: The events hold personal data: keep them no longer than the site's policy
#    allows.
QUARANTINE_RETENTION_DAYS = Setting(
    f"{PREFIX}QUARANTINE_RETENTION_DAYS",
    30,
    f"a positive number of whole days, at most {_MAX_DAYS}",
    _days,
)
# .. setting_name: TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS
# .. setting_default: 100000
# .. setting_description: How many events the quarantine keeps, give or take a hundredth; the
#    oldest go first.
QUARANTINE_MAX_ROWS = Setting(
    f"{PREFIX}QUARANTINE_MAX_ROWS",
    100_000,
    "a positive number of rows",
    _positive_integer,
)

#: All of them, in the order of the README's table.
SETTINGS: tuple[Setting[object], ...] = (
    WEBHOOK_SECRET,
    SIGNATURE_SECRET,
    ALLOWED_TYPES,
    DISALLOWED_SUBSTRING_NAMES,
    SOURCE_MAP,
    PROTECTED_CONTEXT_KEYS,
    MAX_BODY_BYTES,
    DELIVERY,
    DEDUPLICATION_SECONDS,
    CACHE,
    QUARANTINE_RETENTION_DAYS,
    QUARANTINE_MAX_ROWS,
)
