"""The quarantine in Django's admin: to look at, to release and to discard.

Everything that is shown came over the wire. It reaches a page by way of templates and `format_html`
only, which escape it. A database that does not answer is Django's to report, as on any other page.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from ..exceptions import ServiceUnavailable
from ..outcomes import Reason
from . import chart
from .advice import advise
from .intake import identify_message, identify_user
from .layout import MAX_CHARACTERS, Layout, lay_out, show
from .models import QuarantinedEvent, Status
from .preview import preview
from .release import Released, discard, release

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[QuarantinedEvent]
else:
    _ModelAdmin = admin.ModelAdmin

#: How many events one request releases, which a server allows only so much time for.
MAX_RELEASED_AT_ONCE = 1_000


@admin.register(QuarantinedEvent)
class QuarantinedEventAdmin(_ModelAdmin):
    """Events can be seen with the permission to view them, and released or discarded with change.

    They are never added or edited. The list makes the same number of queries for any number of
    rows, and never reads a payload.
    """

    list_display = (
        "reason",
        "status",
        "age",
        "event_name",
        "user_id",
        "attempts",
        "message_id",
    )
    list_filter = ("status", ("reason", admin.AllValuesFieldListFilter), "created_at")
    date_hierarchy = "created_at"
    # The others have no index.
    sortable_by = ("reason", "age", "status")
    search_fields = ("message_id", "user_id")
    search_help_text = "A whole message id, or a whole user id."
    show_full_result_count = False
    actions = ("release", "discard")
    fieldsets = (
        (None, {"fields": ("status", "since", "attempts", "last_attempt_at")}),
        ("Why it is here", {"fields": ("reason", "meaning", "detail", "advice")}),
        ("If it were released now", {"fields": ("forecast",)}),
        ("The event", {"fields": ("message_id", "event_name", "user_id", "content")}),
    )
    readonly_fields = (
        "status",
        "since",
        "attempts",
        "last_attempt_at",
        "reason",
        "meaning",
        "detail",
        "advice",
        "forecast",
        "message_id",
        "event_name",
        "user_id",
        "content",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[QuarantinedEvent]:
        """Return the events without their payloads, which may be large."""
        return super().get_queryset(request).defer("payload")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: events come from the bridge."""
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: QuarantinedEvent | None = None
    ) -> bool:
        """Refuse to edit an event; whoever may change events may release and discard them."""
        return obj is None and super().has_change_permission(request)

    # A release that a rollback undid would be in the tracking log nevertheless.
    @transaction.non_atomic_requests
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list below the chart, which is drawn only if the page is."""
        draw_chart = partial(chart.draw_chart, QuarantinedEvent.objects.all())
        context = {"draw_chart": draw_chart, "days": chart.DAYS, **(extra_context or {})}
        return super().changelist_view(request, context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show an event, with buttons for what the user may do."""
        context = {"can_change": self.has_change_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list, without the hierarchy of dates where the database would refuse it."""
        changelist = super().get_changelist_instance(request)
        connection = connections[changelist.queryset.db]
        has_days = connection.features.has_zoneinfo_database
        if not has_days and timezone.get_current_timezone_name() != connection.timezone_name:
            # MySQL without its tables of time zones cannot tell on which day an event came.
            changelist.date_hierarchy = None
        return changelist

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[QuarantinedEvent], search_term: str
    ) -> tuple[QuerySet[QuarantinedEvent], bool]:
        """Find by the whole id of a message or a user, for which there are indexes."""
        if term := search_term.strip():
            queryset = queryset.filter(
                Q(message_id=identify_message(term)) | Q(user_id=identify_user(term))
            )
        return queryset, False

    @admin.action(permissions=["change"], description="Release the selected events")
    def release(self, request: HttpRequest, queryset: QuerySet[QuarantinedEvent]) -> None:
        """Release events, at most MAX_RELEASED_AT_ONCE of them, and tell what became of them."""
        try:
            released = release(queryset, MAX_RELEASED_AT_ONCE)
        except ImproperlyConfigured as error:
            self.message_user(request, f"Nothing can be released: {error}", messages.ERROR)
            return
        for level, text in _describe(released):
            self.message_user(request, text, level)

    @admin.action(permissions=["change"], description="Discard the selected events")
    def discard(self, request: HttpRequest, queryset: QuerySet[QuarantinedEvent]) -> None:
        """Discard events, and tell which."""
        counts = discard(queryset)
        if counts:
            self.message_user(request, f"Discarded: {_list(counts)}.", messages.SUCCESS)
        else:
            self.message_user(request, "None of these events is pending.", messages.WARNING)

    @admin.display(description="age", ordering="created_at")
    def age(self, event: QuarantinedEvent) -> SafeString:
        """Return for how long the event has been here."""
        return _show_moment(event, timesince(event.created_at))

    @admin.display(description="since")
    def since(self, event: QuarantinedEvent) -> SafeString:
        """Return when the event came."""
        moment = timezone.localtime(event.created_at)
        return _show_moment(event, f"{moment:%Y-%m-%d %H:%M:%S %Z} ({timesince(moment)} ago)")

    @admin.display(description="meaning")
    def meaning(self, event: QuarantinedEvent) -> str:
        """Return the reason as a sentence."""
        reason = event.find_reason()
        return reason.description if reason else "This version does not know the reason."

    @admin.display(description="what to do")
    def advice(self, event: QuarantinedEvent) -> str:
        """Return what to do about the reason."""
        return advise(event.find_reason())

    @admin.display(description="what would be emitted")
    def forecast(self, event: QuarantinedEvent) -> SafeString | str:
        """Return name, data and context of what would be emitted, or why nothing would be."""
        if event.status != Status.PENDING:
            return f"Nothing: the event has been {event.status}."
        try:
            result = preview(event)
        except ImproperlyConfigured as error:
            return f"Nothing can be emitted: {error}"
        except (DatabaseError, ServiceUnavailable):
            return "That cannot be told: the database does not answer."
        if isinstance(result, Reason):
            return f"Nothing. {result}: {result.description}"
        return format_html(
            "<p>Name: {}</p><p>Data:</p>{}<p>Context, to which the tracker adds its own:</p>{}",
            show(result.name).text,
            _show_value(result.data),
            _show_value(result.context),
        )

    @admin.display(description="payload")
    def content(self, event: QuarantinedEvent) -> SafeString:
        """Return the payload, laid out if it is JSON; no more than its first MAX_CHARACTERS."""
        is_json = event.reason != Reason.MALFORMED_BODY
        return _show_layout((lay_out if is_json else show)(event.payload))


def _describe(released: Released) -> list[tuple[int, str]]:
    """Return what to tell of a release, with the level of each message."""
    texts = []
    if released.recorded:
        texts.append((messages.SUCCESS, f"Released: {_list(released.recorded)}."))
    if released.pending:
        texts.append((messages.WARNING, f"Still pending: {_list(released.pending)}."))
    if released.is_interrupted:
        text = f"The database did not answer. Not tried: {released.left:,}."
        texts.append((messages.ERROR, text))
    elif released.left:
        text = (
            f"No more than {MAX_RELEASED_AT_ONCE:,} are released at once. Not tried: "
            f"{released.left:,}. manage.py segmentio_release has no such limit."
        )
        texts.append((messages.WARNING, text))
    if released.skipped:
        texts.append((messages.WARNING, f"Somebody else was releasing: {released.skipped:,}."))
    return texts or [(messages.WARNING, "None of these events is pending.")]


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def _show_moment(event: QuarantinedEvent, text: str) -> SafeString:
    moment = event.created_at.isoformat(timespec="seconds")
    return format_html('<time datetime="{}" title="{}">{}</time>', moment, moment, text)


def _show_value(value: Any) -> SafeString:
    return _show_layout(lay_out(json.dumps(value, ensure_ascii=False, default=str)))


def _show_layout(layout: Layout) -> SafeString:
    # An event can be a single line. The keyboard scrolls what can have the focus.
    shown = format_html(
        '<pre tabindex="0" style="white-space: pre-wrap; overflow-wrap: anywhere; '
        'max-height: 40em; overflow-y: auto">{}</pre>',
        layout.text,
    )
    if not layout.is_cut:
        return shown
    return format_html(
        "{}<p>There is more: no more than the first {} characters are shown.</p>",
        shown,
        f"{MAX_CHARACTERS:,}",
    )
