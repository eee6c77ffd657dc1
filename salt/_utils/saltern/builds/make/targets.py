"""The hosts for which builds are made: one Python and one glibc for each Debian."""

import dataclasses

import yaml

MACHINES = ("x86_64", "aarch64")


@dataclasses.dataclass(frozen=True)
class Target:
    """What the hosts of one Debian have.

    :param python: their Python, as in ``3.11``.
    :param full: its full version, which locks do tell apart.
    :param glibc: the x of glibc's 2.x.
    :param machine: their architecture, as in ``x86_64``.
    """

    python: str
    full: str
    glibc: int
    machine: str

    def markers(self) -> dict[str, str]:
        """Return what environment markers are asked on a host."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.full,
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def tags(self) -> list[str]:
        """List the platforms whose wheels a host can use, best first."""
        aliases = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        oldest = 5 if self.machine == "x86_64" else 17
        tags = []
        for minor in range(self.glibc, oldest - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in aliases:
                tags.append(f"{aliases[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]


def read(tree: str) -> dict[str, tuple[str, int]]:
    """Return the Pythons of the hosts: the full version of each and the x of its Debian's glibc 2.x.

    :param tree: the directory of the tree. The first Debian of its list is the one where none is given.
    """
    with open(f"{tree}/salt/debian.yaml", encoding="utf-8") as stream:
        debians = yaml.safe_load(stream).values()
    return {
        debian["python"].rpartition(".")[0]: (debian["python"], int(debian["glibc"].removeprefix("2.")))
        for debian in debians
    }
