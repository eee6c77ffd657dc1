"""A Vagrant box made of Debian's own packages, for machines that cannot download one: ``make vagrant-check``.

It is like the usual box: a small Debian that boots, with networkd, sshd, sudo, rsync and the user vagrant, who logs in
with Vagrant's well-known key. It has no boot loader, since libvirt gives qemu the kernel.
"""

import json
import shlex
import subprocess
import tempfile
from pathlib import Path

from lab import image
from lab.podman import LabError

# The size of its disk, in GiB. Only used blocks are stored.
SIZE = 6
PACKAGES = (
    *("systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "linux-image-cloud-amd64", "initramfs-tools"),
    *("openssh-server", "sudo", "rsync", "ca-certificates", "iproute2", "python3"),
)
# The key that every box trusts; `vagrant up` replaces it with a new one.
INSECURE_KEY = Path("keys/vagrant.pub")
NETWORK = "[Match]\nName=eth0\n[Network]\nDHCP=yes\n"
# The box's settings for Vagrant. Debian's kernel does not start on every machine's KVM, so the box is emulated.
VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.driver = "qemu"
    libvirt.kernel = File.expand_path("vmlinuz", __dir__)
    libvirt.initrd = File.expand_path("initrd.img", __dir__)
    libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 net.ifnames=0"
  end
end
"""


def make(suite: str, path: Path) -> None:
    """Make a box.

    :param suite: its Debian.
    :param path: the file to write, ``.box``.
    :raises LabError: with the reason that mmdebstrap or another tool gives.
    """
    wanted = image.recipe(suite)
    with tempfile.TemporaryDirectory(prefix="saltern-box-", dir=path.parent) as scratch:
        root, box, log = Path(scratch) / "root", Path(scratch) / "box", Path(scratch) / "log"
        box.mkdir()
        authorities = []
        for name, content in wanted.authorities:
            authorities.append(Path(scratch) / name)
            authorities[-1].write_bytes(content)
        options = image.mmdebstrap_options(wanted, authorities)
        # These options belong to containers: a list of packages, a tarball, masked units.
        options = [one for one in options if not one.startswith(("--include=", "--format=")) and " mask " not in one]
        options += ["--format=directory", f"--include={','.join(PACKAGES)}", *hooks(scratch)]
        with log.open("w") as errors:
            done = subprocess.run(
                ["mmdebstrap", *options, wanted.suite, str(root), *wanted.mirrors], stderr=errors, check=False
            )
        if done.returncode:
            raise LabError(f"mmdebstrap could not make {suite}: {image.first_error(log.read_text())}")
        for name in ("vmlinuz", "initrd.img"):
            (box / name).write_bytes((root / name).resolve(strict=True).read_bytes())
        disk = Path(scratch) / "disk"
        run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), f"{SIZE}G")
        run("qemu-img", "convert", "-O", "qcow2", str(disk), str(box / "box.img"))
        (box / "metadata.json").write_text(json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": SIZE}))
        (box / "Vagrantfile").write_text(VAGRANTFILE)
        run("tar", "-C", str(box), "-cf", f"{path}.new", *sorted(one.name for one in box.iterdir()))
        Path(f"{path}.new").rename(path)


def hooks(scratch: str) -> list[str]:
    """Return mmdebstrap's options that make a Debian usable for Vagrant.

    :param scratch: a directory for the files that are copied.
    """
    files = {
        "etc/hostname": "saltern-box\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 saltern-box\n",
        "etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n",
        "etc/systemd/network/20-wired.network": NETWORK,
        # Names come from DNS only: LLMNR and mDNS would listen on ports that nobody declared.
        "etc/systemd/resolved.conf.d/dns.conf": "[Resolve]\nLLMNR=no\nMulticastDNS=no\n",
        "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD: ALL\n",
        "etc/ssh/sshd_config.d/vagrant.conf": "UseDNS no\n",
        "home/vagrant/.ssh/authorized_keys": insecure_key(),
    }
    options = ['--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash vagrant']
    for n, (name, text) in enumerate(files.items()):
        source = Path(scratch) / f"file{n}"
        source.write_text(text)
        options.append(f'--customize-hook=install -D -m 0644 {shlex.quote(str(source))} "$1/{name}"')
    home = "chown -R vagrant: /home/vagrant && chmod 0700 /home/vagrant/.ssh && chmod 0440 /etc/sudoers.d/vagrant"
    options.append(f"--customize-hook=chroot \"$1\" sh -c '{home}'")
    options.append('--customize-hook=chroot "$1" systemctl enable systemd-networkd systemd-resolved ssh')
    # resolved makes this file when it starts, if nothing else has.
    options.append('--customize-hook=ln -sfn /run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"')
    return options


def insecure_key() -> str:
    """Return Vagrant's well-known public key from the installed Vagrant.

    :raises LabError: when it has none.
    """
    gem = run("ruby", "-e", 'puts Gem::Specification.find_by_name("vagrant").gem_dir').strip()
    for path in (Path(gem) / INSECURE_KEY, Path("/usr/share/vagrant") / INSECURE_KEY):
        if path.exists():
            return path.read_text()
    raise LabError(f"{gem}/{INSECURE_KEY}: not there; expected Debian's package vagrant")


def run(*command: str) -> str:
    """Run a command and return its output.

    :raises LabError: with its reason.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{command[0]}: {image.first_error(done.stderr or done.stdout)}")
    return done.stdout


if __name__ == "__main__":
    import sys

    make(sys.argv[1], Path(sys.argv[2]).resolve())
