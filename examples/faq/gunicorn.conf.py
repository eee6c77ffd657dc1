"""gunicorn's settings on every host. Settings that differ are in the Procfile's command line."""

# Everything is logged to standard output, without the time, which the journal adds.
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %(M)sms'
logconfig_dict = {
    "formatters": {"generic": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "loggers": {"gunicorn.error": {"propagate": True}, "gunicorn.access": {"propagate": True}},
}

# A release leaves nothing behind on disk, not even a socket.
control_socket_disable = True

# The app is loaded before gunicorn forks: an app that cannot be loaded says so once and ends gunicorn.
preload_app = True
