"""Users with a UUID, a text, and an inherited primary key."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class UUIDUser(AbstractBaseUser):
    """A user whose key is a UUID, and who is known by an email address."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"


class TextUser(AbstractBaseUser):
    """A user whose key is a short text."""

    code = models.CharField(primary_key=True, max_length=12)

    USERNAME_FIELD = "code"


class Person(AbstractBaseUser):
    """What an inherited user inherits from."""

    nickname = models.CharField(max_length=40, unique=True)

    USERNAME_FIELD = "nickname"


class InheritedUser(Person):
    """A user whose key is a relation to the table it inherits from."""

    motto = models.CharField(max_length=40)


class TwiceInheritedUser(InheritedUser):
    """A user whose key is a relation to a relation."""


class ActiveUsers(models.Manager["GuardedUser"]):
    """Hides the users that are not active."""

    def get_queryset(self) -> models.QuerySet[GuardedUser]:
        return super().get_queryset().filter(active=True)


class GuardedUser(AbstractBaseUser):
    """A user whom the model's manager may hide."""

    nickname = models.CharField(max_length=40, unique=True)
    active = models.BooleanField(default=True)

    objects = ActiveUsers()

    USERNAME_FIELD = "nickname"
