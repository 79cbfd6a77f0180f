"""From user ids to users: the only user query.

User ids come from the wire. `primary_key_parser` lets none through that a database would choke on,
so that one hostile id cannot spoil the query of a whole delivery. Raises ValueError for those,
and django.db.Error if the database cannot answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DataError, connections, router
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import Field, ForeignKey, Model, QuerySet
from django.db.models.manager import BaseManager

from .events import User

_INTEGER = re.compile(r"-?[0-9]+")
# int() of a longer string would cost more than it can tell: no integer key has so many digits.
_MAX_INTEGER_CHARACTERS = 40
_UUID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def primary_key_parser() -> Callable[[object], Hashable]:
    """Return a function from a raw `userId` to a primary key of the site's user model.

    The function accepts a string that is a valid primary key, and an integer where that is one, and
    raises ValueError for everything else; what else a site's own kind of key raises, it raises too.
    It makes no query.

    An integer in a string has ASCII digits and at most 40 characters, and any is within the range
    of its field: https://docs.djangoproject.com/en/stable/ref/models/fields/#integerfield. A UUID
    has 32 hexadecimal digits, with the usual dashes or none. Any other key is what its field
    accepts, without NUL and lone surrogates, which not every database can hold.
    """
    field = _primary_key_field()
    kind = field.get_internal_type()
    bounds = BaseDatabaseOperations.integer_field_ranges.get(kind)
    if bounds is not None:
        lowest, highest = bounds

        def parse(value: object) -> Hashable:
            key = _read_integer(value)
            if not lowest <= key <= highest:
                raise ValueError("outside the range of the key")
            return key

    else:

        def parse(value: object) -> Hashable:
            text = _read_uuid(value) if kind == "UUIDField" else _read_text(value)
            try:
                key: Hashable = field.clean(text, None)
            except (ValidationError, TypeError, OverflowError):
                raise ValueError("no valid primary key") from None
            return key

    return parse


def find_users(keys: Collection[Hashable]) -> dict[Hashable, User | None]:
    """Return the users that have these primary keys, by key; None for a key that can be nobody's.

    Makes one query, or as many as the database's limit of parameters makes necessary; none for no
    keys. Only if the database refuses a key as no value of its type, which no key that
    `primary_key_parser` lets through should be, it makes more to find out which.

    Raises django.db.Error if the database cannot answer.
    """
    if not keys:
        return {}
    model = get_user_model()
    alias = router.db_for_read(model)
    connection = connections[alias]
    limits = (connection.features.max_query_params, connection.ops.max_in_list_size())
    limit = min(filter(None, limits), default=len(keys))
    select = partial(
        _select_compiled if _is_plain(model) else _select, model, model.USERNAME_FIELD, alias
    )
    remaining: list[Any] = list(keys)
    users: dict[Hashable, User | None] = {}
    for start in range(0, len(remaining), limit):
        users.update(_find(select, remaining[start : start + limit]))
    return users


def _find(
    select: Callable[[list[Any]], Iterable[tuple[Any, Any]]], keys: list[Any]
) -> Iterator[tuple[Hashable, User | None]]:
    try:
        rows = list(select(keys))
    except (DataError, ValueError, OverflowError):
        # The last two come from drivers, of values that they cannot put into a query.
        if len(keys) == 1:
            yield keys[0], None
            return
        middle = len(keys) // 2
        yield from _find(select, keys[:middle])
        yield from _find(select, keys[middle:])
    else:
        for key, username in rows:
            yield key, User(key if isinstance(key, int) else str(key), str(username))


def _select(
    model: type[Model], username_field: str, alias: str, keys: list[Any]
) -> QuerySet[Any, tuple[Any, Any]]:
    queryset = model._default_manager.using(alias).filter(pk__in=keys)
    return queryset.values_list("pk", username_field)


def _select_compiled(
    model: type[Model], username_field: str, alias: str, keys: list[Any]
) -> list[tuple[Any, Any]]:
    # To build and compile the query anew takes the ORM several times as long as to run it, and
    # would be the most expensive part of the delivery of a single event.
    placeholders = ", ".join(["%s"] * len(keys))
    sql = _compile(model, username_field, alias).replace("(%s)", f"({placeholders})")
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, keys)
        rows: list[tuple[Any, Any]] = cursor.fetchall()
    return rows


@lru_cache(maxsize=8)
def _compile(model: type[Model], username_field: str, alias: str) -> str:
    query = _select(model, username_field, alias, [0]).query
    sql: str = query.get_compiler(alias).as_sql()[0]
    return sql


def _is_plain(model: type[Model]) -> bool:
    """Tell whether the query has the same form each time, and its rows need no conversion."""
    return (
        type(model._default_manager).get_queryset is BaseManager.get_queryset
        and _primary_key_field().get_internal_type() in BaseDatabaseOperations.integer_field_ranges
    )


def _primary_key_field() -> Field[Any, Any]:
    field: Field[Any, Any] = get_user_model()._meta.pk
    # The key of a model that inherits from a concrete one is a relation to its parent.
    while isinstance(field, ForeignKey):
        field = field.target_field
    return field


def _read_integer(value: object) -> int:
    # A bool is an int to Python, but no number to JSON.
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or len(value) > _MAX_INTEGER_CHARACTERS:
        raise ValueError("no integer")
    if not _INTEGER.fullmatch(value):
        raise ValueError("no integer")
    return int(value)


def _read_uuid(value: object) -> str:
    # uuid.UUID() would take an integer, underscores and the digits of any script, too.
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError("no UUID")
    return value


def _read_text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("no text that every database can hold")
    value.encode()  # UnicodeEncodeError is a ValueError: a lone surrogate is no text either.
    return value
