"""A site of Django and Channels: a login with CSRF token and session, and a WebSocket that greets who is logged in.

Run by daphne: daphne django_app:application. SITE_HOST is a name in ALLOWED_HOSTS, beside loopback. The database is in
the current folder and is made at the start.
"""

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a secret of the tests",
    ALLOWED_HOSTS=["127.0.0.1", os.environ["SITE_HOST"]],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.auth"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path("site.sqlite3").resolve()}},
    LOGIN_REDIRECT_URL="home",
    LOGIN_URL="login",
    USE_TZ=True,
)
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402  # needs the settings above
from channels.generic.websocket import WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path, re_path  # noqa: E402

FORM = """<form method="post">{% csrf_token %}{{ form.username }}{{ form.password }}<button>Log in</button></form>"""


class Login(LoginView):
    """Django's own login, with a template from this file."""

    def render_to_response(self, context: dict[str, Any], **options: Any) -> HttpResponse:
        return HttpResponse(engines["django"].from_string(FORM).render(context, self.request))


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Greet who is logged in."""
    return HttpResponse(f"<p>Hello {request.user} at {request.get_host()}</p>")


urlpatterns = [path("", home, name="home"), path("login/", Login.as_view(), name="login")]


class Echo(WebsocketConsumer):
    """Echo each message, with the name of the user of the session."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(f"{self.scope['user']}: {text_data}")


call_command("migrate", verbosity=0)
if not get_user_model().objects.exists():
    get_user_model().objects.create_user("ada", password="a password")

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([re_path("echo$", Echo.as_asgi())]))),
    }
)
