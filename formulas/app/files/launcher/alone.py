"""A process that is alone in its environment: it runs while its launcher holds a lease, and stands by otherwise.

The launcher has ended the process before its lease ends, whatever becomes of etcd and the network. So another host
that takes the lease finds nothing running here.
"""

import _signal as signal
import os
import sys
import threading
import time

from . import ENTRY
from .ending import Ending, finish, listed
from .log import say, stream
from .scope import scopes

# Saltern's modules are beside the launcher.
sys.path.append(os.path.dirname(os.path.dirname(ENTRY)))

from saltern import leases

# Seconds for which etcd may be away before the process ends.
PATIENCE = 15
# Seconds between two renewals, between two tries after one that failed, and between two looks in standby.
RENEWED, TRIED, POLL = 3, 1, 1
# Seconds between the end of the process, by SIGKILL at last, and that of the lease.
MARGIN = 5
# Seconds in which a question that is under way has its answer, before the launcher ends without.
ANSWERED = 5
# Has a file for each process in standby that says why.
STANDBY = "/run/saltern/standby"


class Guard:
    """What lets a process run, and ends it in time.

    :param scope: the scope of the process.
    """

    def __init__(self, scope):
        self.scope, self.grace = scope, scope.grace()
        self.name, self.ttl = f"process/{scope.kind}", self.grace + MARGIN + PATIENCE
        self.path = f"{STANDBY}/{scope.app}.v{scope.number}.{scope.process}"
        self.leases = self.seen = self.lease = self.thread = None
        self.lost = self.moved = self.trouble = ""
        self.is_agreed = False
        # Of the thread: whether it is to end, and whether it has.
        self.is_over, self.has_ended = threading.Event(), threading.Event()

    # --- In standby ---------------------------------------------------------------------------------------------------

    def stand_by(self, wait_for_signals):
        """Wait for the lease, and end what runs of the process on this host. Return whether the process may run.

        :param wait_for_signals: returns the next signals.
        """
        self._begin(self._wait_for_lease)
        while not self.has_ended.is_set():
            if signal.SIGTERM in wait_for_signals(None):
                self.end()
                return False
        self.thread.join()
        if not self.lease:
            return False
        self._told("")
        self._end_others()
        return True

    def _wait_for_lease(self):
        said = None
        while not self.is_over.is_set():
            topic, text = self._try()
            if self.lease:
                return
            if topic != said:
                said = topic
                say(self.scope, f"standby: {text}")
                self._told(text)
            self.is_over.wait(POLL)

    def _try(self):
        """Try to take the lease. Return why that cannot be, and what to compare that with."""
        try:
            self._open()
            if not self.is_agreed and (missing := self.leases.missing(self.name, not self._others())):
                text = f"waits until {', '.join(missing)} has converged, which may run it yet"
                return text, text
            self.is_agreed = True
            if leases.is_drained():
                text = "this host is drained"
                return text, text
            self.lease = self.leases.take(self.name, self.ttl, f"v{self.scope.number}")
            found = None if self.lease else self.leases.read(self.name)
        except (leases.Unreachable, OSError) as error:
            return "unreachable", str(error)
        holder = found.holder if found else "nobody"
        text = "its lease of before has not ended" if holder == self.leases.host else f"{holder} runs it"
        return text, text

    def _open(self):
        """Open the leases, again where a converge has written other settings."""
        seen = seen_of(leases.SETTINGS)
        if self.leases is None or seen != self.seen:
            self.leases, self.seen, self.is_agreed = leases.opened(self.scope.app), seen, False

    def _others(self):
        """Return the other scopes of this name on this host that have processes of the app's."""
        own = (self.scope.number, self.scope.process)
        found = [one for one in scopes() if (one.app, one.kind) == (self.scope.app, self.scope.kind)]
        found = [one for one in found if (one.number, one.process) != own]
        return [one for one in found if any(not process.is_root for process in one.found().values())]

    def _end_others(self):
        """End processes of this name that a launcher has left behind, such as those of another release."""
        left = self._others()
        for one in left:
            one.log = stream(one)
            say(one, f"ends what is left of it: {listed(one.found())}")
        if left:
            finish([Ending(one) for one in left])
            self._renew()

    def _told(self, text):
        """Write why the process does not run, for who asks; nothing where it does."""
        try:
            if text:
                os.makedirs(STANDBY, mode=0o700, exist_ok=True)
                with open(f"{self.path}.new", "w", encoding="utf-8") as file:
                    file.write(text)
                os.rename(f"{self.path}.new", self.path)
            else:
                os.unlink(self.path)
        except OSError:
            return

    # --- While the process runs ---------------------------------------------------------------------------------------

    def hold(self):
        """Renew the lease from now on."""
        self._begin(self._keep)

    def _keep(self):
        pause = RENEWED
        while not self.is_over.wait(pause) and not self.lost:
            self._follow()
            pause = RENEWED if self._renew() else TRIED

    def _follow(self):
        """Ask the members of etcd that a converge names, or end where another engine decides from now on."""
        seen = seen_of(leases.SETTINGS)
        if seen == self.seen:
            return
        try:
            now = leases.opened(self.scope.app)
        except leases.Unreachable:
            # It may be being written.
            return
        self.seen = seen
        if now.cluster != self.leases.cluster:
            self.moved = "a converge has changed who decides which host runs it"
        else:
            self.leases.members = now.members

    def _renew(self):
        try:
            if not self.lease.renew():
                self.lost = "its lease was taken away"
            self.trouble = ""
        except (leases.Unreachable, OSError) as error:
            self.trouble = str(error)
        return not self.trouble

    def reason(self):
        """Return why the process must end, nothing where it may run."""
        if self.lost:
            return self.lost
        if self.moved:
            return self.moved
        if leases.now() >= self.lease.deadline - self.grace - MARGIN:
            return f"its lease cannot be renewed: {self.trouble or 'the host has slept'}"
        if leases.is_drained():
            return "this host is drained"
        return ""

    def hurry(self, ending):
        """Have a process killed that would outlive the lease.

        :param ending: the end of its scope.
        """
        if self.lost or leases.now() >= self.lease.deadline - MARGIN:
            ending.deadline = min(ending.deadline, time.monotonic())

    def end(self):
        """Give the lease back, once nothing of the process runs."""
        self.is_over.set()
        self.thread.join(ANSWERED)
        self._told("")
        try:
            if self.lease:
                self.lease.give_back()
        except (leases.Unreachable, OSError) as error:
            say(self.scope, f"its lease ends by itself within {self.ttl} s: {error}")

    def _begin(self, target):
        # No thread is there when the launcher forks: one begins and ends before, and one begins after.
        def run():
            try:
                target()
            finally:
                self.has_ended.set()
                # The launcher waits for signals alone.
                os.kill(os.getpid(), signal.SIGCHLD)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()


def seen_of(path):
    """Return what changes with a file, ``None`` where it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
