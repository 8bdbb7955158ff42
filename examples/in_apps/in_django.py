"""The shop on Django, in one file: ``gunicorn --workers 2 examples.in_apps.in_django:application``.

Beside it runs ``fsm-mediator serve --app examples.in_apps.in_django:mediator``.
"""

from __future__ import annotations

import atexit
import functools
import json
from collections.abc import Callable
from typing import Any

import django
import msgspec
from django.conf import settings

from examples.in_apps import shop
from examples.in_apps.answers import status_of, told
from fsm_mediator import Context, Mediator, MediatorError, PayloadError, Saga, Signal, UnknownExecutionError, step

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": shop.FOLDER / "django.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ROOT_URLCONF=__name__,
        SECRET_KEY="of the example",  # noqa: S106
        USE_TZ=True,
    )
    django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path


class Purchase(models.Model):
    """An order as the site's own database has it."""

    order_id = models.CharField(max_length=40, primary_key=True)
    item = models.CharField(max_length=100)
    cents = models.IntegerField()
    paid = models.BooleanField(default=False)

    class Meta:
        """Of an app that this one file is."""

        app_label = "shop"


def in_the_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """Steps run in threads that live on: Django closes the connections of requests only, so a step does it itself."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        close_old_connections()
        try:
            return function(*arguments)
        finally:
            close_old_connections()

    return call


@step
@in_the_database
def note_paid(order: shop.Order, context: Context) -> None:
    """What the site shows; to be told twice does no harm."""
    Purchase.objects.filter(order_id=context.saga_id).update(paid=True)


order = Saga(
    "order", [shop.reserve, Signal("approval", payload=bool), shop.charge, shop.ship, note_paid], payload=shop.Order
)
mediator = Mediator(order, journal=shop.JOURNAL, close_grace=10.0)
atexit.register(mediator.close)


def orders(request: HttpRequest, order_id: str) -> JsonResponse:
    """PUT places an order, GET tells where it stands, DELETE cancels it."""
    if request.method == "PUT":
        try:
            what = msgspec.convert(json.loads(request.body), shop.Order)
        except ValueError as error:
            return refused(PayloadError(f"this is no order: {error}"))
        with transaction.atomic():
            Purchase.objects.get_or_create(order_id=order_id, defaults={"item": what.item, "cents": what.cents})
            # Not before: a saga must not begin for a row that is rolled back.
            transaction.on_commit(functools.partial(mediator.start, "order", what, saga_id=order_id))
    elif request.method == "DELETE":
        mediator.cancel(order_id, "the customer cancelled")
    return JsonResponse(told(mediator.outcome(order_id)), status=200 if request.method == "GET" else 202)


def approve(request: HttpRequest, order_id: str) -> JsonResponse:
    """A webhook may come twice: the first value counts."""
    mediator.signal(order_id, "approval", request.GET["yes"] == "true")
    return JsonResponse(told(mediator.outcome(order_id)), status=202)


def start_what_was_not() -> None:
    """For a timer: a process that ended right after the row was committed has not started its saga."""
    for purchase in Purchase.objects.filter(paid=False):
        try:
            mediator.outcome(purchase.order_id)
        except UnknownExecutionError:
            mediator.start("order", shop.Order(purchase.item, purchase.cents), saga_id=purchase.order_id)


def refused(error: MediatorError) -> JsonResponse:
    """What the mediator refuses, in its words."""
    return JsonResponse({"error": str(error)}, status=status_of(error))


def telling(view: Callable[..., JsonResponse]) -> Callable[..., JsonResponse]:
    """A view whose refusals are told."""

    @functools.wraps(view)
    def call(request: HttpRequest, **named: Any) -> JsonResponse:
        try:
            return view(request, **named)
        except MediatorError as error:
            return refused(error)

    return call


urlpatterns = [
    path("orders/<str:order_id>", telling(orders)),
    path("orders/<str:order_id>/approval", telling(approve)),
]
application = get_wsgi_application()
