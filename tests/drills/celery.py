"""The drills' Celery application, configured as Celery's documentation does it for Django."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import task_postrun, task_prerun

from .apps import note_begin, note_end

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.drills.settings")

app = Celery("drills")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

task_prerun.connect(note_begin)
task_postrun.connect(note_end)
