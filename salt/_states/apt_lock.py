"""apt, when a run needs it."""


def free(name, timeout=300):
    """Wait until no other process uses apt, where this run is to install a package.

    The state tells who uses it, because apt itself waits without a word. For a process that begins later, apt waits.

    :param name: what the state is for, in words.
    :param timeout: seconds to wait at most.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No package is to be installed"}
    packages = __salt__["apt_lock.missing"](__lowstate__)
    if not packages:
        return ret
    if __opts__["test"]:
        return ret | {"comment": "It would be waited for"}
    held, holds = __salt__["apt_lock.wait"](timeout)
    if holds:
        comment = (
            f"{', '.join(packages)} cannot be installed: {holds}, after {timeout} s still. Nothing was touched; let it "
            "end, or end it, and run this again"
        )
        return ret | {"result": False, "comment": comment}
    return ret | {"comment": f"It was waited for: {held}" if held else "Nobody holds its lock"}
