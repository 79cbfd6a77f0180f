"""Which user ids are primary keys, and whom they belong to, for four kinds of user model."""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Iterator
from typing import Any, NoReturn
from uuid import UUID

import pytest
from django.contrib.auth.models import User as AuthUser
from django.db import OperationalError, connection
from django.db.models import Model
from pytest_django import DjangoAssertNumQueries, Settings

from segmentio_bridge.events import User
from segmentio_bridge.users import find_users, primary_key_parser
from tests.accounts.models import (
    GuardedUser,
    InheritedUser,
    Person,
    TextUser,
    TwiceInheritedUser,
    UUIDUser,
)

AUTH = "auth.User"  # its key has 32 bits
UUIDS = "accounts.UUIDUser"
TEXTS = "accounts.TextUser"
INHERITED = "accounts.InheritedUser"  # its key has the 64 bits of its parent's
TWICE_INHERITED = "accounts.TwiceInheritedUser"

INTEGERS = (AUTH, INHERITED, TWICE_INHERITED)
EVERY_KIND = (*INTEGERS, UUIDS, TEXTS)

UUID_1 = UUID("0b5cd7a9-5c43-4f0e-9d3a-6a8f2c1e7b90")


def accepted_by_integers(model: str) -> list[tuple[str, object, Hashable]]:
    highest = 2**31 - 1 if model == AUTH else 2**63 - 1
    return [
        (model, 1, 1),
        (model, "1", 1),
        (model, "0", 0),
        (model, "007", 7),
        (model, -1, -1),
        (model, "-1", -1),
        (model, highest, highest),
        (model, str(highest), highest),
        (model, -highest - 1, -highest - 1),
        (model, str(-highest - 1), -highest - 1),
    ]


ACCEPTED: list[tuple[str, object, Hashable]] = [
    *[row for model in INTEGERS for row in accepted_by_integers(model)],
    (UUIDS, str(UUID_1), UUID_1),
    (UUIDS, UUID_1.hex, UUID_1),
    (UUIDS, str(UUID_1).upper(), UUID_1),
    (UUIDS, "0" * 32, UUID(int=0)),
    (UUIDS, "1" * 32, UUID("1" * 32)),
    (TEXTS, "ada", "ada"),
    (TEXTS, "Ada", "Ada"),
    (TEXTS, "1", "1"),
    (TEXTS, 1, "1"),
    (TEXTS, "001", "001"),
    # What is no clean integer can be a clean text, and is taken as it is.
    (TEXTS, "1_0", "1_0"),
    (TEXTS, " 1", " 1"),
    (TEXTS, "1 ", "1 "),
    (TEXTS, "+1", "+1"),
    (TEXTS, "\u0663", "\u0663"),
    (TEXTS, "x" * 12, "x" * 12),
    (TEXTS, "\U0001f600" * 12, "\U0001f600" * 12),
    (TEXTS, 10**12 - 1, "9" * 12),
]

# What JSON can say beside integers and strings, and strings that some database cannot hold.
REFUSED_BY_ALL: dict[str, object] = {
    "true": True,
    "false": False,
    "1.0": 1.0,
    "1e300": 1e300,
    "a float without a fraction": 2.0**53,
    "null": None,
    "a list": [],
    "a list of an id": [1],
    "a list of a string": ["1"],
    "an object": {},
    "an object with an id": {"id": 1},
    "an empty string": "",
    "NUL": "\0",
    "NUL at the end": "1\0",
    "NUL in the middle": "a\0b",
    "a lone surrogate": "\ud800",
    "a lone surrogate at the end": "1\udfff",
    "10,000 digits": "1" * 10_000,
    "10,000 zeros": "0" * 10_000,
    # Few enough for int() to read them, and still no key that anybody sends.
    "4,000 zeros and a one": "0" * 4_000 + "1",
    "a minus and 10,000 digits": "-" + "1" * 10_000,
    "10,000 letters": "a" * 10_000,
    # More digits than Python prints.
    "a number of 10,001 digits": 10**10_000,
    "a negative number of 10,001 digits": -(10**10_000),
}

REFUSED_BY_INTEGERS = [
    "1_0",
    " 1",
    "1 ",
    "1\n",
    "\t1",
    "+1",
    "--1",
    "-",
    "- 1",
    "1-",
    "1,000",
    "1.0",
    "1e3",
    "0x1",
    "1L",
    "one",
    "None",
    "nan",
    "\u0663",  # an Arabic-Indic digit, which int() would read
    "\uff11",  # a full-width digit
    "\u00b2",  # a superscript digit
    "1\u0663",
    "\u22121",  # a minus sign that is no hyphen
    "1\u200b",
    2**63,
    str(2**63),
    -(2**63) - 1,
    str(-(2**63) - 1),
    10**40,
    str(10**40),
    str(UUID_1),
]

REFUSED_BY_UUIDS = [
    1,
    "1",
    -1,
    UUID_1.int,
    str(UUID_1.int),
    # As many decimal digits as a UUID has hexadecimal ones; but a number is no UUID.
    int("1" * 32),
    f"{{{UUID_1}}}",
    f"{{{UUID_1.hex}}}",
    UUID_1.urn,
    f"uuid:{UUID_1}",
    str(UUID_1).replace("-", "_"),
    f"{UUID_1.hex[:8]}_{UUID_1.hex[9:]}",
    f"{UUID_1.hex[:8]}-{UUID_1.hex[8:]}",
    f"{UUID_1}-",
    f"-{UUID_1}",
    f" {UUID_1}",
    f"{UUID_1}\n",
    UUID_1.hex[:-1],
    f"{UUID_1.hex}0",
    f"{UUID_1.hex[:-1]}g",
    f"{UUID_1.hex[:-1]}\u0663",
    f"0x{UUID_1.hex[2:]}",
    f"+{UUID_1.hex[1:]}",
]

REFUSED: list[tuple[str, object]] = [
    *[(model, value) for model in INTEGERS for value in REFUSED_BY_INTEGERS],
    (AUTH, 2**31),
    (AUTH, str(2**31)),
    (AUTH, -(2**31) - 1),
    (AUTH, str(-(2**31) - 1)),
    *[(UUIDS, value) for value in REFUSED_BY_UUIDS],
    (TEXTS, "x" * 13),
    (TEXTS, 10**12),
    (TEXTS, -(10**11)),
    (TEXTS, str(UUID_1)),
]


def read(value: object) -> Hashable:
    """The primary key in `value`, or None; what is raised beside ValueError fails the test."""
    parse = primary_key_parser()
    try:
        return parse(value)
    except ValueError:
        return None


# These run without access to the database: a parser makes no query.


@pytest.mark.parametrize(("model", "value", "key"), ACCEPTED, ids=ascii)
def test_accepted(model: str, value: object, key: Hashable, settings: Settings) -> None:
    settings.AUTH_USER_MODEL = model
    parsed = read(value)
    assert parsed == key
    assert type(parsed) is type(key)


@pytest.mark.parametrize("model", EVERY_KIND)
@pytest.mark.parametrize("value", REFUSED_BY_ALL.values(), ids=REFUSED_BY_ALL)
def test_refused_by_all(model: str, value: object, settings: Settings) -> None:
    settings.AUTH_USER_MODEL = model
    assert read(value) is None


@pytest.mark.parametrize(("model", "value"), REFUSED, ids=ascii)
def test_refused(model: str, value: object, settings: Settings) -> None:
    settings.AUTH_USER_MODEL = model
    assert read(value) is None


def test_the_user_model_is_looked_up_when_a_parser_is_made(settings: Settings) -> None:
    of_integers = primary_key_parser()
    settings.AUTH_USER_MODEL = TEXTS
    assert primary_key_parser()("1") == "1"
    assert of_integers("1") == 1


def make_user(model: str) -> Any:
    """Create a user of this kind, known by the name `ada@example.org` or a part of it."""
    if model == UUIDS:
        return UUIDUser.objects.create(id=UUID_1, email="ada@example.org")
    if model == TEXTS:
        return TextUser.objects.create(code="ada")
    if model == INHERITED:
        return InheritedUser.objects.create(pk=2**40, nickname="ada@example.org")
    if model == TWICE_INHERITED:
        return TwiceInheritedUser.objects.create(pk=7, nickname="ada@example.org")
    return AuthUser.objects.create(pk=7, username="ada")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "user_id", "found"),
    [
        (AUTH, "7", User(7, "ada")),
        (AUTH, 7, User(7, "ada")),
        (UUIDS, str(UUID_1), User(str(UUID_1), "ada@example.org")),
        (UUIDS, UUID_1.hex.upper(), User(str(UUID_1), "ada@example.org")),
        (TEXTS, "ada", User("ada", "ada")),
        (INHERITED, str(2**40), User(2**40, "ada@example.org")),
        (TWICE_INHERITED, "7", User(7, "ada@example.org")),
    ],
)
def test_a_user_is_found_by_what_the_parser_returns(
    model: str,
    user_id: object,
    found: User,
    settings: Settings,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_user(model)
    settings.AUTH_USER_MODEL = model
    key = primary_key_parser()(user_id)
    with django_assert_num_queries(1):
        users = find_users({key})
    assert users == {key: found}
    (user,) = users.values()
    assert user is not None
    assert type(user.id) is type(found.id)
    assert type(user.username) is str


# Outside of a transaction, as the endpoint is: PostgreSQL goes no further in one after an error.
@pytest.mark.django_db(transaction=True)
def test_a_key_that_the_database_refuses_spoils_none_of_the_others(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    # No parser lets these through. SQLite refuses the first two, PostgreSQL the others.
    refused = [2**70, -(2**70), "one", "1\0"]
    for pk in range(1, 21):
        AuthUser.objects.create(pk=pk, username=f"learner-{pk}")
    keys: list[Any] = [*range(1, 11), *refused, *range(11, 21)]
    with django_assert_max_num_queries(2 * len(refused) * len(keys)):
        users = find_users(keys)
    assert [key for key in keys if users.get(key)] == list(range(1, 21))


@pytest.mark.django_db
def test_a_database_that_is_out_of_order_is_told_from_a_key_that_is() -> None:
    def fail(*arguments: Any) -> NoReturn:
        raise OperationalError

    with connection.execute_wrapper(fail), pytest.raises(OperationalError):
        find_users([1, 2, 3])


@pytest.mark.django_db
@pytest.mark.parametrize("model", EVERY_KIND)
def test_no_user_no_entry(
    model: str, settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    settings.AUTH_USER_MODEL = model
    key = primary_key_parser()("1" * 32 if model == UUIDS else "404")
    with django_assert_num_queries(1):
        assert find_users([key]) == {}


@pytest.mark.django_db
@pytest.mark.parametrize("keys", [[], (), set(), frozenset(), {}.keys()], ids=repr)
def test_no_keys_no_query(keys: Any, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert find_users(keys) == {}


@pytest.mark.django_db
def test_many_users_in_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    AuthUser.objects.bulk_create(
        AuthUser(pk=number, username=f"user{number}") for number in range(1, 101)
    )
    with django_assert_num_queries(1):
        users = find_users(range(51, 151))
    assert users == {number: User(number, f"user{number}") for number in range(51, 101)}


@pytest.mark.django_db
def test_the_parent_of_an_inherited_user_is_none_itself(settings: Settings) -> None:
    parent = Person.objects.create(nickname="only a person")
    settings.AUTH_USER_MODEL = INHERITED
    assert find_users([parent.pk]) == {}


@pytest.mark.django_db
@pytest.mark.parametrize(("field", "name"), [("email", "ada@example.org"), ("id", "7")])
def test_the_name_is_what_the_model_says_it_is(
    field: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    AuthUser.objects.create(pk=7, username="ada", email="ada@example.org")
    monkeypatch.setattr(AuthUser, "USERNAME_FIELD", field)
    assert find_users([7]) == {7: User(7, name)}


@pytest.mark.django_db
def test_a_renamed_or_deleted_user_is_seen_at_once() -> None:
    user = AuthUser.objects.create(username="ada")
    assert find_users([user.pk]) == {user.pk: User(user.pk, "ada")}
    AuthUser.objects.update(username="grace")
    assert find_users([user.pk]) == {user.pk: User(user.pk, "grace")}
    AuthUser.objects.all().delete()
    assert find_users([user.pk]) == {}


@pytest.fixture
def parameter_limit(db: None) -> Iterator[int]:
    """How many parameters a query may have; few enough to be quick.

    Old versions of Django always take SQLite's limit to be 999, new ones ask SQLite itself, which
    may have been compiled to allow 250,000.
    """
    limit = 999
    sqlite: sqlite3.Connection = connection.connection
    before = sqlite.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, limit)
    assert connection.features.max_query_params == limit
    yield limit
    sqlite.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, before)


only_sqlite = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="only SQLite's limit can be lowered"
)


@only_sqlite
def test_the_limit_of_parameters_is_real(parameter_limit: int) -> None:
    with pytest.raises(OperationalError, match="too many SQL variables"):
        AuthUser.objects.filter(pk__in=range(parameter_limit + 1)).exists()


@only_sqlite
@pytest.mark.parametrize(
    ("full_queries", "more_keys", "queries"),
    [(0, 1, 1), (1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 1, 3)],
)
def test_split_beyond_the_limit_of_parameters(
    full_queries: int,
    more_keys: int,
    queries: int,
    parameter_limit: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    highest = full_queries * parameter_limit + more_keys
    # Every 37th key is a user's, and so is the last: each of the queries finds some.
    numbers = {*range(1, highest, 37), highest}
    AuthUser.objects.bulk_create(AuthUser(pk=n, username=f"user{n}") for n in numbers)
    with django_assert_num_queries(queries):
        users = find_users(set(range(1, highest + 1)))
    assert users == {number: User(number, f"user{number}") for number in numbers}


@pytest.mark.django_db
def test_a_database_that_cannot_answer_is_no_empty_answer() -> None:
    def gone(*arguments: Any) -> NoReturn:
        raise OperationalError

    with connection.execute_wrapper(gone), pytest.raises(OperationalError):
        find_users([1])


@pytest.mark.django_db
def test_the_manager_of_the_model_may_hide_users(settings: Settings) -> None:
    settings.AUTH_USER_MODEL = "accounts.GuardedUser"
    shown = GuardedUser.objects.create(nickname="ada")
    hidden = GuardedUser.objects.create(nickname="grace", active=False)
    for _ in range(2):
        assert find_users({shown.pk, hidden.pk}) == {shown.pk: User(shown.pk, "ada")}


class Router:
    """A database router that notes which models it was asked about."""

    asked: list[type[Model]] = []  # noqa: RUF012 - Django makes an instance of its own

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        self.asked.append(model)
        return "default"


@pytest.mark.django_db
def test_database_routers_are_asked(settings: Settings) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
    AuthUser.objects.create(pk=7, username="ada")
    Router.asked.clear()
    assert find_users([7]) == {7: User(7, "ada")}
    assert Router.asked == [AuthUser]
