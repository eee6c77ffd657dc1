"""Settings of faq: every value that differs between deploys comes from the environment."""

import os
from urllib.parse import urlsplit

import dj_database_url

REQUIRED = ("SECRET_KEY", "DATABASE_URL")
# Bad config is one line and no traceback, whichever process reads it first.
if missing := [name for name in REQUIRED if not os.environ.get(name)]:
    raise SystemExit(f"faq: not set in the environment: {', '.join(missing)}")


def url(name: str, *schemes: str) -> str:
    """The variable's value, a URL of one of these schemes."""
    try:
        parts = urlsplit(os.environ[name])
        valid = parts.scheme in schemes and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SystemExit(f"faq: {name}: expected a URL, {schemes[0]}://..., with what is special in it percent-encoded")
    return os.environ[name]


def flag(name: str) -> bool:
    """Whether the variable is set to 1, true, yes or on."""
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def seconds(name: str, default: int) -> int:
    """The variable's value, a whole number of seconds."""
    value = os.environ.get(name) or str(default)
    if not (value.isascii() and value.isdigit()):
        raise SystemExit(f"faq: {name}: expected a whole number of seconds")
    return int(value)


SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = flag("DEBUG")
ALLOWED_HOSTS = [host.strip() for host in os.environ.get("ALLOWED_HOSTS", "").split(",") if host.strip()]

DATABASES = {
    "default": dj_database_url.parse(
        url("DATABASE_URL", "postgres", "postgresql"), conn_max_age=60, conn_health_checks=True
    )
}
# If the database stops answering, a request fails after seconds and does not block a thread for minutes.
DATABASES["default"].setdefault("OPTIONS", {}).update(connect_timeout=3, tcp_user_timeout=5000)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["questions"]
MIDDLEWARE = [
    "questions.health.HealthCheckMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
ROOT_URLCONF = "faq_site.urls"
WSGI_APPLICATION = "faq_site.wsgi.application"
APPEND_SLASH = False

# The app runs behind a proxy on the same host, which sets both headers. TLS is off until the proxy serves it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
USE_X_FORWARDED_HOST = True
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT")
SECURE_HSTS_SECONDS = seconds("SECURE_HSTS_SECONDS", 0)
# Checks about frames and cross-site forms concern pages and cookies, which this API lacks. W005 and W021 would promise
# TLS for every other host of the domain.
SILENCED_SYSTEM_CHECKS = ["security.W002", "security.W003", "security.W005", "security.W021"]

TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain"}},
    "root": {"handlers": ["stdout"], "level": "INFO"},
    "loggers": {"django": {"level": "INFO"}},
}
