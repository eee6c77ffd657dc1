"""The pillar file that declares builds."""

import contextlib
import fcntl
import glob
import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from saltern.builds.make.telling import ascii_name, say
from saltern.refusal import Refusal
from saltern.system import files

HEADER = "# yaml-language-server: $schema=../../docs/environment.schema.json\n"
HEADER += "# Written by bin/build --declare, which overwrites it: the build of each app that is deployed.\n"
# The settings of apps by name.
Apps = dict[str, dict[str, Any]]
Schema = Mapping[str, Any]


def app_schema(tree: str) -> tuple[str, str, Schema]:
    """Return the pattern of an app's name, what that expects in words, and the schema of one app.

    The patterns that names must fit stand where the hosts read them.

    :param tree: the directory of the tree.
    """
    with open(f"{tree}/formulas/app/settings.yaml", encoding="utf-8") as stream:
        schema = yaml.safe_load(stream)
    [(pattern, one)] = schema["patternProperties"].items()
    return pattern, schema["x-expected"], one


def declared_builds(path: str, pattern: str, build: Schema) -> Apps:
    """Return what a pillar file that ``--declare`` wrote says, or nothing where there is none.

    :param path: the file.
    :param pattern: what an app's name must fit.
    :param build: the schema of one build.
    :raises Refusal: for a file that holds anything else, since it would be lost.
    """
    import jsonschema

    def closed(**properties: Any) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}

    apps = {"type": "object", "additionalProperties": False, "patternProperties": {pattern: closed(build=build)}}
    try:
        with open(path, encoding="utf-8") as stream:
            found: Any = yaml.safe_load(stream)
        if found is None:
            return {}
        jsonschema.validate(found, closed(app=apps))
    except FileNotFoundError:
        return {}
    except (ValueError, yaml.YAMLError, jsonschema.ValidationError) as error:
        raise Refusal(
            f"{path}: holds something else than builds; expected a file that --declare wrote. Name another"
        ) from error
    return dict(found["app"])


def declare(path: str, app: str, declared: Mapping[str, Any], pattern: str, build: Schema) -> None:
    """Say in a pillar file which build of an app is deployed; the other apps' entries stay.

    :param path: the file; its directory is made where it is not there.
    :param app: the app's name.
    :param declared: where hosts find the build, its digest and its process types.
    :param pattern: what an app's name must fit.
    :param build: the schema of one build.
    :raises Refusal: for a file that holds anything else.
    """
    os.makedirs(os.path.dirname(os.path.realpath(path)), exist_ok=True)
    with edited(path, pattern, build) as apps:
        apps[app] = {"build": declared}


@contextlib.contextmanager
def edited(path: str, pattern: str, build: Schema) -> Iterator[Apps]:
    """Yield the entries of a pillar file of builds, by app, and write what was made of them.

    :param path: the file; its directory is there.
    :param pattern: what an app's name must fit.
    :param build: the schema of one build.
    :raises Refusal: for a file that holds anything else.
    """
    path = os.path.realpath(path)
    lock = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Two apps may be built at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        apps = declared_builds(path, pattern, build)
        yield apps
        files.write(path, HEADER + yaml.safe_dump({"app": apps}, allow_unicode=True, width=1000), mode=None)
    finally:
        os.close(lock)


def forget(path: str, app: str, tree: str) -> dict[str, str]:
    """Take an app's build out of a pillar file; the other apps' entries stay, and the tarball too.

    :param path: the file.
    :param app: the app's name.
    :param tree: the directory of the tree.
    :return: the file, the app, and where its build is said to be.
    :raises Refusal: for a file that declares no build of it, or holds anything else.
    """
    pattern, _, schema = app_schema(tree)
    build = schema["properties"]["build"]
    if not os.path.exists(path):
        hint = _elsewhere(path, app, pattern, build) or f"the one that declares the build of {ascii_name(app)}"
        raise Refusal(f"{path}: no such file; expected {hint}")
    with edited(path, pattern, build) as apps:
        if app not in apps:
            known = ", ".join(sorted(apps))
            name = ascii_name(app) or "an app without a name"
            hint = _elsewhere(path, app, pattern, build) or (f"one of {known}" if known else "")
            raise Refusal(f"{path}: declares no build of {name}{f'; expected {hint}' if hint else ' or another'}")
        source = apps.pop(app)["build"]["source"]
    say(f"{path} declares no build of {app} any more; the tarball stays where it is: {source}")
    return {"app": app, "forgotten": path, "source": source}


def _elsewhere(path: str, app: str, pattern: str, build: Schema) -> str:
    """Name the files beside a pillar file that declare a build of an app, empty where there is none.

    :param path: the file that declares none.
    :param app: the app's name.
    :param pattern: what an app's name must fit.
    :param build: the schema of one build.
    """
    found = []
    for other in sorted(glob.glob(f"{glob.escape(os.path.dirname(path))}/*.sls")):
        # A file that holds anything else is not one of builds.
        with contextlib.suppress(Refusal):
            found += [other] if app in declared_builds(other, pattern, build) else []
    environments = [os.path.basename(other).removesuffix(".sls") for other in found]
    return " or ".join(f"{other} (ENV={name})" for other, name in zip(found, environments, strict=True))
