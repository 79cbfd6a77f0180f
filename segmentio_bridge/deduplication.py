"""Which events have been recorded before: claim, commit and release. The only user of the cache.

An event is claimed before it is emitted, for a short time; committed once it is, for
TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS; and released if it is not. So of two deliveries of the
same event at the same time one emits it, and a process that is killed blocks its events for no more
than `LEASE_SECONDS`. Once there are claims nothing is raised: without its cache the bridge emits
what may be a duplicate, with a warning, rather than to lose what may be none.

The only operation of Django's caches that tells one of two claimants apart is `add`, for a single
key. Redis takes the claims of a whole delivery in one round trip; other caches one for each event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Any, Self
from uuid import uuid4

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from . import conf
from .outcomes import Reason
from .redaction import withheld

logger = logging.getLogger(__name__)

#: How long an event stays claimed that is neither committed nor released: longer than a server lets
#: a request take, shorter than a sender goes on trying.
LEASE_SECONDS = 60

# Caches store integers as they are, so that what Redis is sent directly needs no serializer.
_CLAIMED = 1
_COMMITTED = 2

# Clients that neither spread keys over several servers nor wrap the values.
_CLIENTS = frozenset(
    {
        "django.core.cache.backends.redis.RedisCacheClient",
        "django_redis.client.default.DefaultClient",
        "django_redis.client.sentinel.SentinelClient",
    }
)


def identify(message_id: str | None, raw: bytes) -> str:
    """Return the identity of an event: by its `messageId`, else by the bytes it came in.

    Segment gives each event a `messageId` (https://segment.com/docs/connections/spec/common/), and
    keeps it when it delivers the event again. The identity is a key for a cache, of at most 85
    ASCII characters, whatever came. Memcached takes no more than 250:
    https://docs.djangoproject.com/en/stable/topics/cache/#cache-key-warnings.
    """
    if message_id is None:
        return f"segmentio_bridge.raw.{sha256(raw).hexdigest()}"
    # Hashed too: a message id can be longer than a cache's keys, and hold any character.
    hashed = sha256(message_id.encode("utf-8", "surrogatepass"))
    return f"segmentio_bridge.id.{hashed.hexdigest()}"


class Claims:
    """The claims of one delivery, as a context manager that settles them at the end of the block.

    `refusals` says which events are not to be emitted, by their identities, and why: `duplicate` or
    `in_progress`. Unless they are wanted there are no claims, as on a site that has deduplication
    turned off.

    Raises, when it is made, ImproperlyConfigured for a wrong setting and whatever a cache's backend
    raises that cannot be made; nothing afterwards.
    """

    def __init__(self, *, is_wanted: bool = True) -> None:
        self.refusals: dict[str, Reason] = {}
        self._seconds = conf.DEDUPLICATION_SECONDS.get() if is_wanted else 0
        self._cache: BaseCache | None = caches[conf.CACHE.get()] if self._seconds else None
        self._pending: set[str] = set()
        self._emitted: list[str] = []
        self._claimed_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._try(self._settle)

    @property
    def are_effective(self) -> bool:
        """Whether an event that has been emitted is known when it comes again."""
        return self._cache is not None

    def claim(self, identities: Collection[str]) -> None:
        """Claim events before they are emitted; `refusals` has those that are not to be had.

        To be called once, with all events of the delivery.
        """
        self._try(lambda cache: self._claim(cache, set(identities)))

    def note_emission(self, identity: str) -> None:
        """Take down that an event has been emitted: if it comes again, it is a duplicate."""
        if self._cache is None:
            return
        self.refusals[identity] = Reason.DUPLICATE
        self._emitted.append(identity)

    def prolong(self) -> None:
        """Hold on to the claims for longer, if it is time to; to be called before each emission.

        It is time after a third of `LEASE_SECONDS`. After more than all of them, what has not been
        emitted is claimed anew.
        """
        if self._cache is not None and self._age() > LEASE_SECONDS / 3:
            self._try(self._renew)

    def _age(self) -> float:
        return time.monotonic() - self._claimed_at

    def _claim(self, cache: BaseCache, identities: set[str]) -> None:
        self._claimed_at = time.monotonic()
        self._pending = _add_many(cache, identities)
        self.refusals.update(_explain(cache, identities - self._pending))

    def _renew(self, cache: BaseCache) -> None:
        self._commit(cache)
        if self._age() > LEASE_SECONDS:
            # This process has been stopped for so long that others may have taken the events over.
            self._claim(cache, self._pending)
        else:
            self._claimed_at = time.monotonic()
            cache.set_many(dict.fromkeys(self._pending, _CLAIMED), LEASE_SECONDS)

    def _settle(self, cache: BaseCache) -> None:
        self._commit(cache)
        # A claim that has run out may be another's by now.
        if self._pending and self._age() < LEASE_SECONDS:
            cache.delete_many(self._pending)

    def _commit(self, cache: BaseCache) -> None:
        if not self._emitted:
            return
        self._pending.difference_update(self._emitted)
        if cache.set_many(dict.fromkeys(self._emitted, _COMMITTED), self._seconds):
            raise _CacheRefuses
        self._emitted.clear()

    def _try(self, operation: Callable[[BaseCache], None]) -> None:
        """Do something with the cache; from the first error on do without the cache."""
        if self._cache is None:
            return
        try:
            operation(self._cache)
        except Exception as error:
            logger.warning(
                "The cache %s does not answer as it should: events that come again are emitted "
                "again.",
                conf.CACHE.name,
                exc_info=withheld(error),
            )
            self._cache = None


class _CacheRefuses(Exception):
    """A cache does not keep what it is given, without an error of its own."""


def _add_many(cache: BaseCache, keys: Collection[str]) -> set[str]:
    """Claim each key that is free; return those."""
    redis = _find_redis(cache)
    if redis is not None:  # pragma: no cover - tests/services has a Redis
        with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(cache.make_key(key), _CLAIMED, ex=LEASE_SECONDS, nx=True)
            return {key for key, added in zip(keys, pipeline.execute(), strict=True) if added}
    return {key for key in keys if cache.add(key, _CLAIMED, LEASE_SECONDS)}


def _find_redis(cache: Any) -> Any:
    """Return the client that `cache` writes with, if it is Redis by Django or django-redis."""
    client: Any = getattr(cache, "client", None) or getattr(cache, "_cache", None)
    is_known = f"{type(client).__module__}.{type(client).__qualname__}" in _CLIENTS
    return client.get_client(write=True) if is_known else None


def _explain(cache: BaseCache, refused: Collection[str]) -> dict[str, Reason]:
    """Tell what has been recorded from what is being recorded."""
    if not refused:
        return {}
    states = cache.get_many(refused)
    # What is refused but not there has just been released, or its cache accepts nothing at all.
    if len(states) < len(refused) and not cache.add(f"segmentio_bridge.probe.{uuid4()}", 1, 1):
        raise _CacheRefuses
    return {
        key: Reason.DUPLICATE if states.get(key) == _COMMITTED else Reason.IN_PROGRESS
        for key in refused
    }
