"""Show executions in Django's admin (read-only). For verbs, use ``manage.py sagas`` or ``fsm-mediator ui``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.template.response import TemplateResponse
from django.urls import path

from fsm_mediator.contrib.django.helpers import configured_app
from fsm_mediator.contrib.django.models import Execution
from fsm_mediator.errors import MediatorError
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.mediator.finding import filter_of, find
from fsm_mediator.narration import timeline

if TYPE_CHECKING:  # Django has no type annotations

    class ModelAdmin:
        """The members of Django's ``ModelAdmin`` that this module uses, for type checkers."""

        admin_site: Any
        opts: Any
        has_view_permission: Any

else:
    from django.contrib.admin import ModelAdmin

PAGE: Final = 100
"""The maximum number of executions on one page of the list."""

PHASES: Final = ("stuck", "waiting", "failed", "succeeded")


@admin.register(Execution)
class ExecutionAdmin(ModelAdmin):
    """Lists executions, newest first, and shows the timeline of each. Payloads and results are not shown."""

    def get_urls(self) -> list[Any]:
        """The URLs of the list and of one execution. Django's other pages are left out, because they need a table."""
        view, name = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", view(self.changelist_view), name=f"{name}_changelist"),
            path("<path:object_id>/change/", view(self.change_view), name=f"{name}_change"),
        ]

    def has_add_permission(self, request: Any) -> bool:  # noqa: ARG002
        """Always False: the admin cannot start an execution. Views start sagas."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002
        """Always False: the admin cannot change an execution. Operators use verbs."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002
        """Always False: the admin cannot delete an execution. Retention and ``prune`` delete executions."""
        return False

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:  # noqa: ARG002
        """The page with the list of executions.

        In the URL, ``state`` selects a state, ``q`` a text in the id, and ``after`` the page after a cursor.
        """
        asked = {name: request.GET.get(name) or None for name in ("state", "q", "after")}
        entries: list[Entry] = []
        message = ""
        try:
            chosen = filter_of(state=asked["state"], text=asked["q"])
            entries = find(self._journal(request), chosen, asked["after"], PAGE)
        except MediatorError as error:
            message = str(error)
        rows = [(entry, dt.datetime.fromtimestamp(entry.changed_at, dt.UTC)) for entry in entries]
        after = entries[-1].cursor if len(entries) == PAGE else None
        shown = {"rows": rows, "after": after, "message": message, "phases": PHASES, "asked": asked}
        return self._page(request, "executions", "Executions", shown)

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:  # noqa: ARG002
        """The page with the state and the timeline of one execution."""
        from django.contrib.admin.utils import unquote

        journal = self._journal(request)
        entry = journal.find(unquote(object_id))
        if entry is None:
            raise Http404(f"there is no execution {object_id!r}")
        shown = {"entry": entry, "timeline": timeline(journal.records(entry.saga_id))}
        return self._page(request, "execution", entry.saga_id, shown)

    def _journal(self, request: Any) -> Journal:
        if not self.has_view_permission(request):
            raise PermissionDenied
        journal = configured_app().journal
        if journal is None:
            raise Http404("the setting FSM_MEDIATOR_APP names sagas without a mediator")
        return journal

    def _page(self, request: Any, template: str, title: str, shown: dict[str, Any]) -> TemplateResponse:
        context = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, **shown}
        return TemplateResponse(request, f"admin/fsm_mediator_sagas/{template}.html", context)
