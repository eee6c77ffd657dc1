"""Services that must run with the configuration on the disk."""

import time

import watching
from salt.exceptions import CommandExecutionError

from saltern.system import systemd


@watching.failure_counts
def asked(name):
    """Start to ask systemd what the run will have to know of its units. This changes nothing.

    :param name: what is asked, in words.
    """
    among = _among()
    if among:
        systemd.begin(among)
    return {"name": name, "changes": {}, "result": True, "comment": "systemd is asked"}


@watching.failure_counts
def loaded(name, files, package=None):
    """Restart a running service that is older than its configuration; it ``watch``es the states that write that.

    Salt's ``service.running`` would restart it in the run that writes a file. Where that run is interrupted in between,
    the next one finds the file as it should be, and the service would keep its old configuration for good.

    :param name: the unit, such as ``redis-server@tickets``.
    :param files: what it reads at its start.
    :param package: the package that starts it when it is installed, before the files are written.
    """
    started = systemd.started(name, among=_among())
    is_older = started is not None and systemd.newer(files, started, time.time())
    return _restarted(name, is_older)


@watching.failure_counts
def unit_read(name, units):
    """Reload systemd where files of units changed. It ``watch``es the states that write these files.

    :param name: what is read, in words.
    :param units: the units.
    """
    among = _among()
    is_older = not all(systemd.is_read(unit, among=among) for unit in units)
    return _read_again(name, is_older)


def mod_watch(name, sfun=None, files=(), package=None, **_):
    """Act on files that were written. In a dry run, tell what would be done."""
    if sfun == "unit_read":
        return _read_again(name, True)
    # A service that started after the files were written has read them. A stopped service reads them when it starts.
    if __opts__["test"]:
        is_older = watching.would_write(__running__, files) and _would_run(name, package)
    else:
        is_older = _was_running(name, files)
    return _restarted(name, is_older)


def _among():
    return systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)


def _was_running(name, files):
    """Tell whether a service was started before its files were written, by the clock of this run alone."""
    started = systemd.started(name, recorded=False)
    return started is not None and systemd.newer(files, started, time.time())


def _would_run(name, package):
    """Tell in a dry run whether a service will run when its files are written."""
    is_to_come = package and not __salt__["pkg.version"](package)
    return is_to_come or systemd.started(name) is not None


def _restarted(name, is_older):
    changes = {name: {"old": "older than its configuration", "new": "restarted"}}
    return _done(name, is_older, changes, lambda: systemd.restart(name))


def _read_again(name, is_older):
    return _done(name, is_older, {"systemd": {"old": f"older than {name}", "new": "reloaded"}}, systemd.read)


def _done(name, is_due, changes, act):
    """Do what is due, or tell it in a dry run. Return what a state returns."""
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} was read"}
    if not is_due:
        return ret
    if __opts__["test"]:
        return ret | {"changes": changes, "result": None, "comment": f"{name} would be read"}
    try:
        act()
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"{name} was read again"}
