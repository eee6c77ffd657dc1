"""The authority of an environment, which an operator keeps: no host ever sees its key."""

import datetime
import os
import stat

from saltern.refusal import Refusal
from saltern.system import files
from saltern.tls import certificate


class Authority:
    """The authority of an environment, in a directory that no host ever sees.

    :param directory: where its key is, or is to be.
    :param environment: whose it is.
    :param tree: the directory of the tree, in which it must not be.
    :raises Refusal: where it would be.
    """

    def __init__(self, directory: str, environment: str, tree: str) -> None:
        self.directory, self.environment = os.path.realpath(directory), environment
        if os.path.commonpath([self.directory, tree]) == tree:
            raise Refusal(f"{directory}: lies in the tree, which is on every host; expected a directory outside of it")

    def path(self, name: str) -> str:
        """Return the path of one of its files."""
        return os.path.join(self.directory, f"{name}.pem")

    def read(self, name: str = "authority") -> str | None:
        """Return one of its files, ``None`` where it is not there.

        :raises Refusal: when others than its owner may read it.
        """
        try:
            with open(self.path(name), encoding="ascii") as stream:
                if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                    raise Refusal(
                        f"{self.path(name)}: others may read it; expected mode 0600, and a new one: see --help"
                    )
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Write one of its files, which nobody else reads."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        files.write(self.path(name), text, 0o600)

    def make(self, name: str, now: datetime.datetime) -> None:
        """Make a new key and certificate as one of its files."""
        self.write(name, certificate.new_authority(self.environment, now))

    def replace(self, now: datetime.datetime) -> str:
        """Go one step on from this authority to a new one, and return what is to be done then."""
        again = "converge all hosts, then run this again with --replace-authority"
        if new := self.read("next"):
            self.write("previous", self.read() or "")
            self.write("authority", new)
            os.unlink(self.path("next"))
            return f"the new authority issues, the old one is still trusted: {again}"
        if self.read("previous"):
            os.unlink(self.path("previous"))
            return "the old authority is no longer trusted: converge all hosts"
        self.make("next", now)
        return f"a new authority is trusted, and issues nothing yet: {again}"

    @property
    def trusted(self) -> list[str]:
        """The certificates that hosts are to trust, the one first that issues theirs."""
        texts = [self.read(name) for name in ("authority", "next", "previous")]
        return [certificate.parted(text)[1] for text in texts if text]


def default_directory(environment: str) -> str:
    """Return where an environment's authority is, where the operator says nothing else."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "saltern", "authorities", environment)
