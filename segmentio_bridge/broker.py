"""The hand-over to Celery's broker, in queue mode: what it has taken, it is to keep.

RabbitMQ is made to confirm what it takes. Redis is given a copy of each message: a worker's client
takes a message off its queue, and notes a moment later that it has it, so that a worker or a Redis
that is killed between the two would take the message along
(https://github.com/celery/kombu/issues/305). The copy stands where the client notes what it has
taken, under a name of its own and with a date in the future; if it is still there on that date, the
client puts it on the queue like any other message of a worker that has died.

The broker is the site's own, and trusted.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from celery import Celery
from kombu import Connection, Producer
from kombu.pools import producers
from kombu.utils.json import dumps

from .redaction import withheld

logger = logging.getLogger(__name__)

#: How many of Redis's visibility timeouts a copy waits for before it takes its message's place. By
#: default that is three hours: longer than a queue should ever be, and within the four hours for
#: which Segment comes again, and for which duplicates should be known.
COPY_VISIBILITY_TIMEOUTS = 3

# RabbitMQ stops reading from publishers while it is short of memory or disk. What waits longer than
# this has been given up by the sender.
_TIMEOUT_SECONDS = 10


def acquire_producer(app: Celery) -> AbstractContextManager[Producer]:
    """Lend a producer from a pool; what it has published when it returns is in the broker's hands.

    Celery's own producers do not wait for RabbitMQ's confirmation unless the site configures that.
    Waits for at most 10 seconds for a connection, and for RabbitMQ. Raises whatever the broker's
    client raises, then and while it publishes.
    """
    return _acquire(_make_connection(app))


def delete_copy(app: Celery, task_id: str) -> None:
    """Delete the copy of a task's message, if the broker has one, for the task is done.

    Never raises: a copy that is left behind is worked on once more, and its events are told from
    those that have been recorded if duplicates are.
    """
    try:
        connection = _make_connection(app)
        if not _is_redis(connection):
            return
        with _acquire(connection) as producer:  # pragma: no cover - needs Redis: tests/services
            delete = producer.connection.ensure(
                producer,
                lambda: producer.channel.delete_copy(task_id),
                # Once more with a new connection, for the pool may hold one that has died.
                max_retries=1,
                interval_start=0,
            )
            delete()
    except Exception as error:  # pragma: no cover - needs Redis: tests/services
        logger.warning(
            "The copy of a chunk of events could not be deleted: the chunk will be recorded again, "
            "unless duplicates are told apart.",
            exc_info=withheld(error),
        )


def _make_connection(app: Celery) -> Connection:
    """Return a connection that is not made yet, and stands for the pool of those like it."""
    options = {
        "read_timeout": _TIMEOUT_SECONDS,
        "write_timeout": _TIMEOUT_SECONDS,
        **app.conf.broker_transport_options,
        "confirm_publish": True,
    }
    connection = app.connection_for_write(transport_options=options)
    if _is_redis(connection):  # pragma: no cover - needs Redis: tests/services
        connection.transport_cls = _with_copies(connection.get_transport_cls())
    return connection


def _acquire(connection: Connection) -> AbstractContextManager[Producer]:
    producer: AbstractContextManager[Producer] = producers[connection].acquire(
        block=True, timeout=_TIMEOUT_SECONDS
    )
    return producer


def _is_redis(connection: Connection) -> bool:
    is_redis: bool = connection.get_transport_cls().driver_type == "redis"
    return is_redis


@cache
def _with_copies(transport: Any) -> Any:  # pragma: no cover - needs Redis: tests/services
    """Return kombu's transport for Redis, or for its sentinels, but with a copy of each message."""

    class Channel(transport.Channel):  # type: ignore[misc]  # known at run time only
        def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
            if not self.ack_emulation:
                # Nobody looks for what a dead worker had taken: nor would anybody find a copy.
                super()._put(queue, message, **kwargs)
                return
            properties = message["properties"]
            name = _name_copy(properties["correlation_id"])
            route = properties["delivery_info"]
            text = dumps(message)
            # As the client writes it, but a message is large, and encoded already.
            copy = f"[{text}, {dumps(route['exchange'])}, {dumps(route['routing_key'])}]"
            # The client puts back what was taken longer than one visibility timeout ago.
            date = time.time() + (COPY_VISIBILITY_TIMEOUTS - 1) * self.visibility_timeout
            priority = self._get_message_priority(message, reverse=False)
            with self.conn_or_acquire() as client, client.pipeline(transaction=True) as pipeline:
                pipeline.zadd(self.unacked_index_key, {name: date})
                pipeline.hset(self.unacked_key, name, copy)
                pipeline.lpush(self._q_for_pri(queue, priority), text)
                pipeline.execute()

        def delete_copy(self, task_id: str) -> None:
            name = _name_copy(task_id)
            with self.conn_or_acquire() as client, client.pipeline(transaction=True) as pipeline:
                pipeline.zrem(self.unacked_index_key, name)
                pipeline.hdel(self.unacked_key, name)
                pipeline.execute()

    return type("Transport", (transport,), {"Channel": Channel})


def _name_copy(task_id: str) -> str:  # pragma: no cover - needs Redis: tests/services
    return f"segmentio_bridge.{task_id}"
