"""Settings of tickets: every value that differs between deploys comes from the environment."""

import os
from urllib.parse import urlsplit

import dj_database_url

REQUIRED = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FAQ_API")
# Bad config is one line and no traceback, whichever process reads it first.
if missing := [name for name in REQUIRED if not os.environ.get(name)]:
    raise SystemExit(f"tickets: not set in the environment: {', '.join(missing)}")


def url(name: str, *schemes: str) -> str:
    """The variable's value, a URL of one of these schemes."""
    try:
        parts = urlsplit(os.environ[name])
        valid = parts.scheme in schemes and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SystemExit(
            f"tickets: {name}: expected a URL, {schemes[0]}://..., with what is special in it percent-encoded"
        )
    return os.environ[name]


def flag(name: str) -> bool:
    """Whether the variable is set to 1, true, yes or on."""
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def seconds(name: str, default: int) -> int:
    """The variable's value, a whole number of seconds."""
    value = os.environ.get(name) or str(default)
    if not (value.isascii() and value.isdigit()):
        raise SystemExit(f"tickets: {name}: expected a whole number of seconds")
    return int(value)


def listed(name: str) -> list[str]:
    """The variable's values, separated by commas."""
    return [value.strip() for value in os.environ.get(name, "").split(",") if value.strip()]


SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = flag("DEBUG")
ALLOWED_HOSTS = listed("ALLOWED_HOSTS")

DATABASES = {
    "default": dj_database_url.parse(
        url("DATABASE_URL", "postgres", "postgresql"), conn_max_age=60, conn_health_checks=True
    )
}
# If the database stops answering, a request fails after seconds and does not block a thread for minutes.
DATABASES["default"].setdefault("OPTIONS", {}).update(connect_timeout=3, tcp_user_timeout=5000)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["django.contrib.messages", "helpdesk"]
MIDDLEWARE = [
    "helpdesk.health.HealthCheckMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
ROOT_URLCONF = "tickets_site.urls"
WSGI_APPLICATION = "tickets_site.wsgi.application"
APPEND_SLASH = False

# The app runs behind a proxy on the same host, which sets both headers. TLS is off until the proxy serves it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
USE_X_FORWARDED_HOST = True
# Needed only where the proxy does not pass on the host and port that the browser asked for.
CSRF_TRUSTED_ORIGINS = listed("CSRF_TRUSTED_ORIGINS")
SECURE_SSL_REDIRECT = CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = flag("SECURE_SSL_REDIRECT")
SECURE_HSTS_SECONDS = seconds("SECURE_HSTS_SECONDS", 0)
# These would promise TLS for every other host of the domain.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

FAQ_API = url("FAQ_API", "http", "https").rstrip("/")

# Redis gives a job to another worker when a worker has held it for this long. That must be longer than any job and than
# the longest pause before a retry (helpdesk.tasks); otherwise a healthy job runs twice.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": seconds("VISIBILITY_TIMEOUT", 60),
    # A worker looks for such jobs every 5 s; Kombu's default is 100 s.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    # If Redis stops answering, that is an error after seconds too.
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "socket_keepalive": True,
}
CELERY_BROKER_URL = url("REDIS_URL", "redis", "rediss")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

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
