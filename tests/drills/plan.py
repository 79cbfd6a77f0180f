"""The drills: one entry each."""

from __future__ import annotations

from tests.servers import RabbitMQ, Redis

from . import strikes
from .drill import Drill
from .site import SiteOptions

_TRACKER_FAILURES = 0.01

_INLINE = SiteOptions()
_RABBITMQ = SiteOptions(broker=RabbitMQ)
_REDIS = SiteOptions(broker=Redis)

DRILLS = (
    Drill(
        "inline-undeduplicated",
        "inline, no deduplication: web workers killed",
        SiteOptions(deduplication=False),
        (strikes.kill_web_worker,),
        pause=0.3,
        quick=True,
    ),
    Drill(
        "inline-reload",
        "inline, no deduplication: web server reloaded",
        SiteOptions(deduplication=False),
        (strikes.reload_web_server,),
        pause=1.5,
    ),
    Drill(
        "inline-web",
        "inline: web workers and servers killed, and reloaded",
        _INLINE,
        (*[strikes.kill_web_worker] * 8, strikes.kill_web_server, strikes.reload_web_server),
        pause=0.3,
        quick=True,
    ),
    Drill(
        "inline-database",
        "inline: database stopped and killed",
        SiteOptions(postgresql=True),
        (strikes.stop_database, strikes.kill_database),
        quick=True,
    ),
    Drill(
        "inline-cache",
        "inline: cache stopped and killed, which forgets",
        SiteOptions(persistent_cache=False),
        (strikes.stop_cache, strikes.kill_cache),
    ),
    Drill(
        "inline-persistent-cache",
        "inline: cache stopped and killed, which forgets nothing",
        _INLINE,
        (strikes.stop_cache, strikes.kill_cache),
        quick=True,
    ),
    Drill(
        "inline-tracker",
        "inline: 1 % of the emissions fail",
        SiteOptions(tracker_failures=_TRACKER_FAILURES),
        quick=True,
    ),
    Drill(
        "rabbitmq-web",
        "RabbitMQ: web workers and servers killed, and reloaded",
        _RABBITMQ,
        (*[strikes.kill_web_worker] * 8, strikes.kill_web_server, strikes.reload_web_server),
        pause=0.3,
    ),
    Drill(
        "rabbitmq-pool",
        "RabbitMQ: processes of the Celery pool killed",
        _RABBITMQ,
        (strikes.kill_pool_process,),
        pause=0.4,
        quick=True,
    ),
    Drill(
        "rabbitmq-worker",
        "RabbitMQ: Celery workers killed and restarted",
        _RABBITMQ,
        (strikes.kill_worker, strikes.kill_worker, strikes.restart_worker),
        pause=0.7,
        length=2,
    ),
    Drill(
        "rabbitmq-broker",
        "RabbitMQ: broker stopped and killed",
        _RABBITMQ,
        (strikes.stop_broker, strikes.kill_broker),
        pause=0.5,
        length=3,
    ),
    Drill(
        "rabbitmq-database",
        "RabbitMQ: database stopped and killed",
        SiteOptions(broker=RabbitMQ, postgresql=True),
        (strikes.stop_database, strikes.kill_database),
    ),
    Drill(
        "rabbitmq-tracker",
        "RabbitMQ: 1 % of the emissions fail",
        SiteOptions(broker=RabbitMQ, tracker_failures=_TRACKER_FAILURES),
    ),
    Drill(
        "rabbitmq-everything",
        "RabbitMQ: all of the above, and the cache",
        SiteOptions(broker=RabbitMQ, postgresql=True, tracker_failures=_TRACKER_FAILURES),
        (
            strikes.kill_broker,
            *[strikes.kill_cache, strikes.kill_database, strikes.kill_worker] * 2,
            *[strikes.kill_pool_process, strikes.kill_web_worker] * 4,
            strikes.kill_web_server,
            strikes.reload_web_server,
        ),
        pause=0.7,
        length=2.5,
    ),
    Drill(
        "redis-pool",
        "Redis: processes of the Celery pool killed",
        _REDIS,
        (strikes.kill_pool_process,),
        pause=0.4,
    ),
    Drill(
        "redis-worker",
        "Redis: Celery workers killed and restarted",
        _REDIS,
        (strikes.kill_worker, strikes.kill_worker, strikes.restart_worker),
        pause=0.7,
        length=2,
    ),
    Drill(
        "redis-broker",
        "Redis: broker stopped and killed",
        _REDIS,
        (strikes.stop_broker, strikes.kill_broker),
        quick=True,
    ),
)
