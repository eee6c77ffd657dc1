"""An app's release, serving."""

from salt.exceptions import CommandExecutionError

from saltern import host
from saltern.releases import ends


def current(name):
    """Release the declared build and config of an app, with the declared formation.

    A new release is made exactly when build or config differ from the current release's. An app that is held stays
    where it is.

    :param name: the app.
    """
    ret = {"name": name, "changes": {}, "result": True}
    try:
        plan = __salt__["release.plan"](name)
        comment = f"v{plan['number']} serves"
        if plan["held"]:
            # A report shows the warnings of a state that changed nothing, and nothing else of it.
            ret["warnings"] = __salt__["notes.of_app"](name)
            comment = "\n".join(ret["warnings"])
        if not plan["changes"]:
            dying = ends.dying(host.Host.of(__salt__, __pillar__, __opts__), name, plan["number"], __context__)
            return ret | ({"result": False, "comment": "\n".join(dying)} if dying else {"comment": comment})
        ret["changes"] = plan["changes"]
        if __opts__["test"]:
            return ret | {"result": None, "comment": "\n".join([f"v{plan['number']} would serve", *plan["stay"]])}
        done = __salt__["release.deploy"](name)
        # A run of a job may have begun or ended since the plan was made.
        ret["changes"] = {key: value for key, value in ret["changes"].items() if key != "pruned"}
        ret["changes"] |= {"pruned": done["pruned"]} if done["pruned"] else {}
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": "\n".join([comment, *done["told"]])}
