"""testinfra's connection to a lab host, named ``lab://CONTAINER``, by way of :mod:`lab.inside`."""

from testinfra.backend.base import BaseBackend, CommandResult

from lab import inside


class LabBackend(BaseBackend):
    """Asks a lab host."""

    NAME = "lab"

    def run(self, command: str, *args: str, **_) -> CommandResult:
        """Run a shell command on the host, as root."""
        command = self.get_command(command, *args)
        done = inside.run(self.hostname, ["/bin/sh", "-c", command])
        return self.result(done.returncode, self.encode(command), done.stdout, done.stderr)
