"""Whether the serving releases are as declared, and log no errors."""

import pwd
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.attachments import config
from saltern.fleet import drain
from saltern.host import Host
from saltern.releases import ends, plan, steps, store, supervisor
from saltern.releases.errors import errors_in
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal, shown
from saltern.releases.report import LOG_LINES
from saltern.system import journal
from saltern.system.masking import masked

LOG_READ = 1000


@shown
def verify(host: Host, apps: Sequence[str], context: MutableMapping[str, Any]) -> dict[str, str]:
    """Check that the serving releases are as declared, healthy, true to their contracts, and log no errors.

    :param host: the host.
    :param apps: the apps' names, all of this host's where none is given.
    :param context: see ``ends.dying``.
    :return: what serves, by app.
    :raises CommandExecutionError: with what is wrong, and what its processes logged of it.
    """
    return {app: _verified(host, app, context) for app in apps or sorted(host.pillar["app"])}


def _verified(host: Host, app: str, context: MutableMapping[str, Any]) -> str:
    plan.declared(host, app)
    wanted = plan.plan(host, app)
    number = wanted["number"]
    if wanted["changes"]:
        what = ", ".join(sorted(wanted["changes"]))
        raise CommandExecutionError(f"{app}: v{number} is not as declared ({what}); salt-call state.apply says why")
    if dead := ends.dying(host, app, number, context):
        raise CommandExecutionError(f"{app}: {'; '.join(dead)}")
    sha256 = store.record(app, number).get("build") or ""
    if damage := host.ask("build.damage", app, sha256, deeply=True):
        raise CommandExecutionError(
            f"{app}: build {sha256[:12]} is damaged: {damage}; salt-call build.unpack {app} deeply=True puts the "
            "declared build right, while its processes go on"
        )
    move = Move(host, app, number, wanted["ports"], number, plan.declared(host, app))
    try:
        steps.contract(move)
    except Refusal as error:
        raise CommandExecutionError(f"{app}: v{number}: {error}") from error
    if lines := _errors(host, app, number):
        text = "\n".join(f"  {line}" for line in lines[-LOG_LINES:])
        text = masked(text, config.environ(host, app))
        raise CommandExecutionError(f"{app}: v{number} has logged {len(lines)} errors, at last:\n{text}")
    return f"v{number} serves, without an error in its log"


def _errors(host: Host, app: str, number: int) -> list[str]:
    """Return the lines that tell of errors, in the log of a release's processes.

    They count since the processes were started, or since the host was drained, where that is later.
    """
    up = max((one["up"] for one in supervisor.info(app, number).values()), default=0)
    since = max(time.time() - up - 1, drain.since())
    own = [f"_UID={pwd.getpwnam(app).pw_uid}"]
    lines = journal.texts(journal.lines(host.run, own, raw=True, since=f"@{int(since)}", lines=LOG_READ))
    return errors_in(lines)
