"""The certificates of a host and those whom it trusts; see the module ``certificate``."""

import os
import pwd

from salt.exceptions import CommandExecutionError


def authorities(name):
    """Have the authorities that the host's apps trust in one file that all may read.

    :param name: the file.
    """
    text = __salt__["certificate.authorities"]()
    return _written(name, text, "root", 0o644, lambda: __salt__["certificate.write_authorities"](name, text))


def present(name, user):
    """Have a service's key and certificate in one file, so that the two change at once, for that service alone.

    One that the host issued itself is renewed when a third of its life is left.

    :param name: the file.
    :param user: the service's.
    """
    text = __salt__["certificate.pair"](name)
    return _written(name, text, user, 0o600, lambda: __salt__["certificate.write_pair"](name, text, user))


def site(name, app):
    """Have the key and the certificates by which nginx serves an app in one file, for root alone.

    :param name: the file.
    :param app: the app.
    """
    text = __salt__["site_certificate.pair"](app)
    return _written(name, text, "root", 0o600, lambda: __salt__["site_certificate.write"](app, text))


def retired(name):
    """Have no key of an app that nginx serves no more.

    :param name: the directory.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other key is there"}
    unused = __salt__["site_certificate.unused"]()
    if not unused:
        return ret
    ret["changes"] = {path: {"old": "present", "new": None} for path in unused}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{', '.join(unused)} would be removed"}
    try:
        __salt__["site_certificate.retired"](unused)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{', '.join(unused)} was removed"}


def _written(name, text, user, mode, write):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is as it should be"}
    if text is not None and _is_there(name, text, user, mode):
        return ret
    # Neither shows a key.
    ret["changes"] = {name: {"old": "another" if os.path.exists(name) else None, "new": "written"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would be written"}
    try:
        write()
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} was written"}


def _is_there(name, text, user, mode):
    try:
        with open(name, encoding="ascii") as stream:
            status = os.fstat(stream.fileno())
            return (stream.read(), status.st_uid, status.st_mode & 0o7777) == (text, pwd.getpwnam(user).pw_uid, mode)
    except (FileNotFoundError, UnicodeDecodeError, KeyError):
        return False
