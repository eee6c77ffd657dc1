"""The certificates of a host and those whom it trusts; see the module ``certificate``."""

import glob
import os
import pwd

import watching
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.tls import host as certificates
from saltern.tls import site as sites


@watching.failure_counts
def authorities(name):
    """Write the authorities that the host's apps trust to one file that everybody may read.

    :param name: the file.
    """
    host = certificates.Host.of(__pillar__, __opts__["id"])
    text = certificates.authorities(host)
    return _written(name, text, "root", 0o644, lambda: certificates.write_authorities(host, name, text))


@watching.failure_counts
def present(name, user):
    """Write a service's key and certificate to one file, which only that service may read.

    One file, so that both change at once. A certificate that the host issued is renewed when a third of its life is
    left.

    :param name: the file.
    :param user: the service's user.
    """
    host = certificates.Host.of(__pillar__, __opts__["id"])
    text = certificates.pair(host, name)
    return _written(name, text, user, 0o600, lambda: certificates.write_pair(host, name, text, user))


@watching.failure_counts
def site(name, app):
    """Write the key and the certificates by which nginx serves an app to one file, which only root may read.

    :param name: the file.
    :param app: the app.
    """
    host, text = Host.of(__salt__, __pillar__, __opts__), sites.pair(__pillar__, app)
    return _written(name, text, "root", 0o600, lambda: sites.write(host, app, text))


@watching.failure_counts
def retired(name):
    """Remove the keys of apps that nginx no longer serves.

    :param name: the directory.
    """
    return watching.removed(name, sites.unused(__pillar__), "No other key is there", __opts__["test"])


@watching.failure_counts
def bundled(name, directory):
    """Make the host's own bundle of authorities from the declared ones. It ``watch``es the states that write them.

    The state compares the bundle itself. After a failed ``update-ca-certificates`` the files are there, and the bundle
    is not.

    :param name: the bundle.
    :param directory: where the declared authorities are.
    """
    return _bundled(name, directory, will_change=False)


def mod_watch(name, directory, sfun=None, **_):
    """Tell in a dry run that the bundle would be made again. In a run, ``bundle`` has made it by then."""
    return _bundled(name, directory, will_change=__opts__["test"])


def _bundled(name, directory, will_change):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} has the declared authorities"}
    if not will_change and _is_bundled(name, directory):
        return ret
    ret["changes"] = {name: {"old": "other authorities", "new": "made anew"}}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would be made anew"}
    done = __salt__["cmd.run_all"](["update-ca-certificates"], python_shell=False)
    if done["retcode"]:
        comment = f"update-ca-certificates: {done['stderr'] or done['stdout']}"
        return ret | {"changes": {}, "result": False, "comment": comment}
    # update-ca-certificates leaves the link of an authority that is gone: the link shows that it ran before that.
    for link in _dangling(name, directory):
        os.unlink(link)
    return ret | {"comment": f"{name} was made anew"}


def _is_bundled(name, directory):
    """Tell whether a bundle has the authorities of a directory, and was made after the last one was removed."""
    if not os.path.isdir(directory):
        return True
    if not os.path.exists(name) or _dangling(name, directory):
        return False
    bundle = _text(name)
    return all(_text(path).strip() in bundle for path in glob.glob(f"{directory}/*.crt"))


def _dangling(name, directory):
    """List the links beside a bundle that lead to authorities of a directory which are gone."""
    links = [entry.path for entry in os.scandir(os.path.dirname(name)) if entry.is_symlink()]
    return [link for link in links if os.readlink(link).startswith(f"{directory}/") and not os.path.exists(link)]


def _text(path):
    with open(path, encoding="ascii", errors="replace") as stream:
        return stream.read()


def _written(name, text, user, mode, write):
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is as it should be"}
    if text is not None and _is_there(name, text, user, mode):
        return ret
    # Neither value shows a key.
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
