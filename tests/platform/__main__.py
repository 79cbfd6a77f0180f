"""Delivers to the site, in this process: `python -m tests.platform < deliveries`.

Each line of standard input is the JSON of one delivery: its `url`, and the `events` of its body.
The tracking log goes to standard output as it is written; after it comes one line with the answers,
the messages of the system checks by id, and some settings.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Make the site's users, deliver, and say what came back."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.platform.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.checks import run_checks
    from django.core.management import call_command
    from django.test import Client

    from segmentio_bridge import conf

    call_command("migrate", verbosity=0)
    User.objects.create(pk=1, username="ada")
    client = Client(enforce_csrf_checks=True)
    answers: list[Any] = []
    for line in sys.stdin:
        delivery = json.loads(line)
        answer = client.post(
            delivery["url"],
            json.dumps(delivery["events"]),
            content_type="application/json",
            headers={"user-agent": "Segment (Actions)", "accept-language": "en"},
        )
        answers.append([answer.status_code, answer.content.decode()])
    report = {
        "answers": answers,
        "checks": {message.id: message.msg for message in run_checks()},
        "patterns": getattr(settings, "TRACKING_IGNORE_URL_PATTERNS", None),
        "silenced": settings.SILENCED_SYSTEM_CHECKS,
        "source_map": conf.SOURCE_MAP.get(),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
