"""gpg directories of hosts and operators, each with one key."""

import shutil
import subprocess
import tempfile
from pathlib import Path


class Keyring:
    """A directory of gpg with one key, without a passphrase.

    It lies directly in the directory for temporary files, since the path of its agent's socket may have 107 bytes at
    most.

    :param name: whose key it is.
    :param usage: the key's usage as gpg writes it; nothing can be encrypted to a key that is for ``sign`` alone.
    :param expires: when the key expires, as gpg writes it.
    :param made: the key's creation time, as gpg writes it; the default is now.
    """

    def __init__(self, name: str, usage: str = "default", expires: str = "never", made: str | None = None):
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix="gpg-"))
        algorithm = "future-default" if usage == "default" else "ed25519"
        clock = ["--faked-system-time", made] if made else []
        self.gpg(*clock, "--passphrase", "", "--quick-generate-key", name, algorithm, usage, expires)

    def gpg(self, *arguments: str, input: bytes | None = None, check: bool = True) -> subprocess.CompletedProcess:
        """Run gpg on the directory."""
        command = ["gpg", "--homedir", str(self.directory), "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=input, capture_output=True, check=check)

    @property
    def public(self) -> str:
        """The public key."""
        return self.gpg("--armor", "--export").stdout.decode()

    @property
    def private(self) -> str:
        """The private key."""
        return self.gpg("--armor", "--export-secret-keys").stdout.decode()

    def revoke(self) -> None:
        """Revoke the key."""
        [certificate] = (self.directory / "openpgp-revocs.d").glob("*.rev")
        self.gpg("--import", input=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))

    def encrypt(self, value: bytes, *others: "Keyring") -> str:
        """Return the PGP message of a value that this key and those of others can decrypt."""
        keys = [self, *others]
        files = [word for key in keys for word in ("--recipient-file", key.write_public())]
        return self.gpg("--trust-model", "always", "--armor", *files, "--encrypt", input=value).stdout.decode()

    def write_public(self) -> str:
        """Write the public key into the directory, and return its path."""
        path = self.directory / "public.asc"
        path.write_text(self.public)
        return str(path)

    def decrypt(self, message: str) -> bytes | None:
        """Return what is in a PGP message, or ``None`` where the key does not decrypt it."""
        done = self.gpg("--decrypt", input=message.encode(), check=False)
        return done.stdout if done.returncode == 0 else None

    def stop_agent(self) -> None:
        """End the agent that gpg has left running."""
        subprocess.run(["gpgconf", "--homedir", self.directory, "--kill", "gpg-agent"], check=True)

    def close(self) -> None:
        """End the agent and remove the directory."""
        self.stop_agent()
        # The agent may remove its sockets at the same time.
        shutil.rmtree(self.directory, ignore_errors=True)
