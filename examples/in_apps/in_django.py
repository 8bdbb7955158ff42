"""The shop on Django, in one file: ``gunicorn --workers 2 examples.in_apps.in_django:application``.

Start ``fsm-mediator serve --app examples.in_apps.in_django:mediator`` beside it.
"""

from __future__ import annotations

import atexit
import functools
from dataclasses import asdict

import django
from django.conf import settings

from examples.in_apps import shop
from examples.in_apps.responses import order_status
from fsm_mediator import Context, Mediator, Saga, Signal, UnknownExecutionError, step
from fsm_mediator.contrib.django import fresh_connections, json_errors, payload_from

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": shop.FOLDER / "django.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        FSM_MEDIATOR_APP=f"{__name__}:mediator",
        INSTALLED_APPS=["fsm_mediator.contrib.django"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for this example only",  # noqa: S106
        USE_TZ=True,
    )
    django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path


class Purchase(models.Model):
    """An order in the database of the site."""

    order_id = models.CharField(max_length=40, primary_key=True)
    item = models.CharField(max_length=100)
    cents = models.IntegerField()
    paid = models.BooleanField(default=False)

    class Meta:
        """The app label, which Django cannot derive from a single file."""

        app_label = "shop"


@step
def mark_paid(order: shop.Order, context: Context) -> None:
    """Show the order as paid. Safe to repeat."""
    Purchase.objects.filter(order_id=context.saga_id).update(paid=True)


order = Saga(
    "order", [shop.reserve, Signal("approval", payload=bool), shop.charge, shop.ship, mark_paid], payload=shop.Order
)
mediator = Mediator(order, journal=shop.JOURNAL, close_grace=10.0, around=[fresh_connections])
atexit.register(mediator.close)


@json_errors
def order_view(request: HttpRequest, order_id: str) -> JsonResponse:
    """PUT places an order, GET reports its status, DELETE cancels it."""
    if request.method == "PUT":
        body = payload_from(request.body, shop.Order)
        with transaction.atomic():
            Purchase.objects.get_or_create(order_id=order_id, defaults={"item": body.item, "cents": body.cents})
            # Start the saga after the commit: the row can still be rolled back before it.
            transaction.on_commit(functools.partial(mediator.start, "order", body, saga_id=order_id))
    elif request.method == "DELETE":
        mediator.cancel(order_id, "the customer cancelled")
    return status_response(order_id, 200 if request.method == "GET" else 202)


@json_errors
def approval_view(request: HttpRequest, order_id: str) -> JsonResponse:
    """Approve or refuse an order. A webhook can be delivered twice: the first value counts."""
    mediator.signal(order_id, "approval", request.GET["approved"] == "true")
    return status_response(order_id, 202)


def status_response(order_id: str, status: int) -> JsonResponse:
    """Return the status of an order as JSON."""
    return JsonResponse(asdict(order_status(mediator.outcome(order_id))), status=status)


def start_missing_sagas() -> None:
    """Start the sagas of orders whose process ended between the commit and the start. Call it from a timer."""
    for purchase in Purchase.objects.filter(paid=False):
        try:
            mediator.outcome(purchase.order_id)
        except UnknownExecutionError:
            mediator.start("order", shop.Order(purchase.item, purchase.cents), saga_id=purchase.order_id)


urlpatterns = [
    path("orders/<str:order_id>", order_view),
    path("orders/<str:order_id>/approval", approval_view),
]
application = get_wsgi_application()
