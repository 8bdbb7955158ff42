"""`fsm_mediator.contrib`: the statuses of errors, and the Django app under Django's own server and commands."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fsm_mediator import (
    InvalidSagaIdError,
    JournalError,
    LeaseLostError,
    Mediator,
    MediatorError,
    PayloadError,
    RefusedError,
    Saga,
    SagaIdTakenError,
    StillRunningError,
    UnknownExecutionError,
    UnknownSagaError,
    step,
)
from fsm_mediator.contrib.http import error_body, error_status, payload_from
from tests.drivers import eventually
from tests.test_in_apps import Shop

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent

SITE = """
import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
        "django.contrib.sessions", "fsm_mediator.contrib.django", "fsm_mediator.transactions.django_app",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
        "context_processors": [
            "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]}}],
    FSM_MEDIATOR_APP=MEDIATOR,
    ROOT_URLCONF="site_urls",
    SECRET_KEY="of a test",
    USE_TZ=True,
)
django.setup()
"""

SAGAS = """
from fsm_mediator import Mediator, Saga, Signal, step


@step
def reserve(order):
    return "a shelf"


@step
def ship(order):
    raise ValueError("no parcel service")


order = Saga("order", [reserve, Signal("approval"), ship])
mediator = Mediator(order, journal="sagas.db", park_after=0)
forgetful = Mediator(order)
"""

URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""


@pytest.fixture
def site(tmp_path):
    """A Django site with the app; returns a function that runs a program in it."""
    (tmp_path / "site_sagas.py").write_text(SAGAS)
    (tmp_path / "site_urls.py").write_text(URLS)

    def run(program, mediator="site_sagas:mediator", code=0):
        text = SITE.replace("MEDIATOR,", f"{mediator!r},") + textwrap.dedent(program)
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownExecutionError("x"), 404),
        (PayloadError("x"), 422),
        (InvalidSagaIdError("x"), 422),
        (SagaIdTakenError("x"), 409),
        (RefusedError("x"), 409),
        (StillRunningError("o-1", "executing.ship", 1.0), 202),
        (JournalError("x"), 503),
        (LeaseLostError("x"), 503),
        (UnknownSagaError("x"), 500),
        (MediatorError("x"), 500),
    ],
)
def test_error_has_the_status_that_a_client_can_act_on(error, status):
    """A client learns whether to mend the request, to look again or to send it again; inner errors stay inside."""
    assert error_status(error) == status
    assert (error_body(error)["error"] == str(error)) is (status < 500)


def test_malformed_id_is_an_error_of_its_own():
    """An id with reserved characters is told from one that is taken; code that catches the old class still does."""

    @step
    def nothing(order):
        return None

    with Mediator(Saga("order", [nothing])) as mediator:
        for malformed in ("", "a/b", "a:b", " a", "x" * 256):
            with pytest.raises(InvalidSagaIdError, match="cannot be a saga_id"):
                mediator.start("order", 1, saga_id=malformed)
    assert issubclass(InvalidSagaIdError, RefusedError)


@pytest.mark.parametrize("body", [b"{", b'{"cents": 1}', b'{"item": 1, "cents": 1}', b"", b"\xff"])
def test_malformed_body_is_a_payload_error(body):
    """A body that is not JSON, or is no order, is refused with one class of error."""
    from examples.in_apps.shop import Order

    with pytest.raises(PayloadError, match="the body of the request"):
        payload_from(body, Order)
    assert payload_from(b'{"item": "lamp", "cents": 1}', Order) == Order("lamp", 1)


def test_system_check_reports_what_is_wrong_with_the_mediator(site):
    """`manage.py check` is silent for a mediator with a file, and names every other case."""
    check = "from django.core.management import execute_from_command_line as go\ngo(['manage.py', 'check'])"

    assert "no issues" in site(check)
    assert "E001" in site(check, "site_sagas:nobody", code=1)
    assert "the setting FSM_MEDIATOR_APP is missing" in site(check, "", code=1)
    assert "E002" in site(check, "site_sagas:order", code=1)
    assert "W001" in site(check, "site_sagas:forgetful")


def test_manage_sagas_is_the_command_line(site):
    """`manage.py sagas` takes every command and option of `fsm-mediator`, with its exit codes; no table is missing."""
    go = "from django.core.management import execute_from_command_line as go\n"
    site(f"{go}import site_sagas\nsite_sagas.mediator.start('order', 1, saga_id='o-1')\nsite_sagas.mediator.close()")

    assert "o-1" in site(f"{go}go(['manage.py', 'sagas', 'list'])")
    assert "o-1" in site(f"{go}go(['manage.py', 'sagas', 'list', '--state', 'waiting', '--json'])")
    assert "no execution" in site(f"{go}go(['manage.py', 'sagas', 'show', 'o-2'])", code=3)
    assert "o-1" in site("from django.core.management import call_command\ncall_command('sagas', 'list')")
    assert "No changes detected" in site(f"{go}go(['manage.py', 'makemigrations', '--check', '--dry-run'])")


def test_admin_lists_executions_for_those_who_may_view(site):
    """The admin lists executions, finds them by state and id, shows a timeline, and lets nobody change anything."""
    site(
        """
        from django.core.management import call_command
        call_command("migrate", verbosity=0)
        from django.contrib.auth.models import Permission, User
        from django.test import Client
        from site_sagas import mediator

        for number in range(3):
            mediator.start("order", number, saga_id=f"o-{number}")
            mediator.wait(f"o-{number}", check=False)
        mediator.signal("o-0", "approval", True)
        assert mediator.wait("o-0", check=False).state == "failed"

        def client(name, *permissions):
            user = User.objects.create_user(name, is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            found = Client(SERVER_NAME="127.0.0.1")
            found.force_login(user)
            return found

        ours = "/admin/fsm_mediator_sagas/execution/"
        viewer = client("viewer", "view_execution")
        page = viewer.get(ours).content.decode()
        assert all(f">o-{n}<" in page for n in range(3)), page
        found = viewer.get(ours, {"state": "failed"}).content.decode()
        assert ">o-0<" in found and ">o-1<" not in found
        found = viewer.get(ours, {"q": "o-2"}).content.decode()
        assert ">o-2<" in found and ">o-1<" not in found
        found = viewer.get(ours, {"state": "nonsense"}).content.decode()
        assert "is no state" in found, found
        shown = viewer.get(ours + "o-0/change/")
        assert (shown.status_code, b"no parcel service" in shown.content) == (200, True), shown.content.decode()
        assert viewer.get(ours + "o-9/change/").status_code == 404
        assert [viewer.get(ours + page).status_code for page in ("add/", "o-0/delete/", "o-0/history/")] == [404] * 3
        assert ours in viewer.get("/admin/").content.decode()
        assert client("other").get(ours).status_code == 403
        assert client("another").get(ours + "o-0/change/").status_code == 403
        assert [p.codename for p in Permission.objects.filter(content_type__app_label="fsm_mediator_sagas")] \\
            == ["view_execution"]
        """
    )


def test_admin_is_served_by_djangos_own_server(site, tmp_path):
    """`manage.py runserver` serves the admin with the app in it: who is not logged in is sent to the login page."""
    shop = Shop("in_django", tmp_path)
    words = f"go(['manage.py', 'runserver', '--noreload', '--nothreading', '127.0.0.1:{shop.port}'])"
    text = SITE.replace("MEDIATOR,", "'site_sagas:mediator',")
    text += "from django.core.management import call_command, execute_from_command_line as go\n"
    text += f"call_command('migrate', verbosity=0)\n{words}\n"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", text], cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        seen = []

        def answers():
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            try:
                address = f"http://127.0.0.1:{shop.port}/admin/fsm_mediator_sagas/execution/"
                with urllib.request.urlopen(address, timeout=30) as response:
                    seen.append(response.url)
            except (ConnectionError, urllib.error.URLError):
                return False
            return True

        eventually(answers)
        assert "/admin/login/" in seen[0]
    finally:
        server.terminate()
        server.wait(60)
