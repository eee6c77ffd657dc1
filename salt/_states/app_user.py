"""The system user that an app's processes run as."""

import pwd

from saltern import kept


def free(name, home):
    """Refuse an app whose user name is another account's.

    ``user.present`` would turn that account into the app's.

    :param name: the app.
    :param home: the app's directory, which is its user's home.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"The user {name} is the app's"}
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return ret
    found = user.pw_dir
    # The user was kept when the app was removed, because files of it are left.
    is_kept = user.pw_uid == kept.of("app", name).get("uid")
    if found != home and not is_kept:
        ret["result"] = False
        ret["comment"] = (
            f"app.{name}: the host has a user of this name already, with the home {found}; expected none. "
            "Give the app another name, or remove that user"
        )
    return ret
