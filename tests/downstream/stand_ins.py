"""Stand-ins for the Open edX platform, for what edx-event-routing-backends imports from it.

That package runs inside the platform, which is not to be had from a registry, and asks it three
things: who a retired username was, under which id a learner is known outside, and what a course is
called. Nothing here stands for the package itself.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

COURSE_ID = "course-v1:ExampleX+EX101+2026_T1"
CCX_ID = "ccx-v1:ExampleX+EX101+2026_T1+ccx@7"

#: The courses that exist, with their names.
COURSES = {COURSE_ID: "An example", CCX_ID: "An example, for a few"}


class ExternalIdType:
    """The kinds of external ids that the package asks for."""

    XAPI = "xapi"
    CALIPER = "caliper"


def find_external_id(user_id: object, kind: str) -> str:
    """Return the id that a learner is known under outside: a UUID that stays the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {user_id}"))


class ExternalId:
    """The platform's model of external ids, without its table."""

    @staticmethod
    def add_new_user_id(user: Any, kind: str) -> tuple[SimpleNamespace, bool]:
        """Return the external id of a user."""
        return SimpleNamespace(external_user_id=find_external_id(user.pk, kind)), False


def get_course_overviews(course_keys: Sequence[object]) -> list[dict[str, str]]:
    """Return what is known of the courses, none for those that do not exist."""
    names = (COURSES.get(str(course_key)) for course_key in course_keys)
    return [{"display_name": name} for name in names if name]


def get_potentially_retired_user_by_username(username: str) -> object:
    """Fail as the platform does if nobody has retired under a name."""
    raise LookupError(username)


def install() -> None:
    """Have the stand-ins imported in place of the platform's modules."""
    modules: dict[str, dict[str, object]] = {
        "common.djangoapps.student.models": {
            "get_potentially_retired_user_by_username": get_potentially_retired_user_by_username
        },
        "openedx.core.djangoapps.content.course_overviews.api": {
            "get_course_overviews": get_course_overviews
        },
        "openedx.core.djangoapps.external_user_ids.models": {
            "ExternalId": ExternalId,
            "ExternalIdType": ExternalIdType,
        },
    }
    for path, names in modules.items():
        parts = path.split(".")
        for count in range(1, len(parts)):
            sys.modules.setdefault(".".join(parts[:count]), ModuleType(parts[count - 1]))
        module = ModuleType(path)
        vars(module).update(names)
        sys.modules[path] = module
