"""What a host compiles to, as facts by which two hosts can be compared."""

import dataclasses
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import salt.utils.json
import salt.utils.templates
from salt.exceptions import CommandExecutionError, SaltRenderError

from saltern.parity.tree import Functions, refuse
from saltern.web import tree

Chunk = dict[str, Any]
# A value by kind and name.
Facts = dict[tuple[str, str], Any]


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a host compiles to.

    :param names: the state files of the top file: the base's, and ``roles.…``.
    :param formulas: which formulas each includes.
    :param chunks: its states, in order.
    :param texts: what their templates render to.
    """

    names: list[str]
    formulas: dict[str, set[str]]
    chunks: list[Chunk]
    texts: dict[str, str]

    def of(self, name: str, ids: Collection[str], texts: bool = True) -> Facts:
        """Return the facts of one of the state files; see ``facts``."""
        chunks = [chunk for chunk in self.chunks if chunk["__sls__"].partition(".")[0] in self.formulas[name]]
        named = {chunk["__id__"] for chunk in chunks}
        mine = {what: text for what, text in self.texts.items() if what.partition(" ")[0] in named}
        return facts(chunks, ids, mine if texts else None)


def compiled(functions: Functions) -> Compiled:
    """Compile a host.

    :param functions: its execution modules.
    :raises CommandExecutionError: when its states do not compile.
    """
    names = functions["state.show_top"]().get("base", [])
    formulas: dict[str, set[str]] = {}
    for name in names:
        included = []
        if name.startswith("roles."):
            role = functions["slsutil.renderer"](f"salt://{name.replace('.', '/')}.sls")
            included = [one.partition(".")[0] for one in role.get("include", [])]
        formulas[name] = {name.partition(".")[0], *included}
    chunks = functions["state.show_lowstate"]()
    refuse(chunk for chunk in chunks if not isinstance(chunk, dict))
    return Compiled(names, formulas, chunks, contents(functions, chunks))


def contents(functions: Functions, chunks: Sequence[Chunk]) -> dict[str, str]:
    """Render the templates of states.

    :return: text, by what it is of.
    """
    found: dict[str, str] = {}
    for chunk in chunks:
        if chunk["state"] == "nginx_tree":
            rendered = tree.rendered(
                lambda name, *arguments, **named: functions[name](*arguments, **named),
                functions["settings.load"]("nginx"),
                chunk["template"],
                chunk["apps"],
                functions.opts["cachedir"],
            )
            found |= {f"{chunk['__id__']} {path}": text for path, text in rendered.items()}
        elif chunk.get("template") == "jinja":
            found[chunk["__id__"]] = _rendered(functions, chunk["source"], chunk.get("context", {}))
    return found


def _rendered(functions: Functions, source: str, context: Mapping[str, Any]) -> str:
    """Render a template as ``file.managed`` does.

    :param source: its ``salt://`` URL.
    :raises CommandExecutionError: when it is missing or cannot be rendered, in one line.
    """
    opts = functions.opts
    paths = (os.path.join(root, source.removeprefix("salt://")) for root in opts["file_roots"]["base"])
    path = next((path for path in paths if os.path.isfile(path)), None)
    if path is None:
        raise CommandExecutionError(f"{source}: missing; expected a template in the directory files of its formula")
    try:
        # As one of the modules: Salt looks up what they have while it renders.
        done = functions.run(
            salt.utils.templates.JINJA,
            path,
            to_str=True,
            context=context,
            opts=opts,
            saltenv="base",
            salt=functions,
            grains=opts["grains"],
            pillar=opts["pillar"],
        )
    except SaltRenderError as error:
        # After its first line come a traceback and the template, in which there may be secrets.
        raise CommandExecutionError(f"{source}: {str(error).splitlines()[0]}") from None
    if not done["result"]:
        # A traceback ends with its error.
        raise CommandExecutionError(f"{source}: {str(done['data']).strip().splitlines()[-1]}")
    return str(done["data"])


def facts(chunks: Sequence[Chunk], ids: Collection[str], texts: Mapping[str, str] | None = None) -> Facts:
    """Say what states come to, so that two hosts can be compared.

    :param chunks: the states, in order.
    :param ids: of all hosts: what is called by its host's name is the same on each.
    :param texts: of what their templates render to.
    :return: a value by kind and name, and by ``('order', '')`` the IDs in order.
    """
    names = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, sorted(ids)))})(?![\w.-])")

    def plain(value: Any) -> str:
        return str(
            names.sub("<host>", value if isinstance(value, str) else salt.utils.json.dumps(value, sort_keys=True))
        )

    found: Facts = {("order", ""): [plain(chunk["__id__"]) for chunk in chunks]}
    for chunk in chunks:
        one = plain(chunk["__id__"])
        found["state", one] = f"{chunk['state']}.{chunk['fun']}"
        for name, version in _packages(chunk):
            found["package", name] = version
        told_already = {"state", "fun", "order", *(("name", "pkgs", "version") if chunk["state"] == "pkg" else ())}
        for key, value in chunk.items():
            if key.startswith("__") or key in told_already:
                continue
            is_source = isinstance(value, str) and value.startswith("salt://")
            found["source" if is_source else "argument", f"{one} {key}"] = plain(value)
    for name, text in (texts or {}).items():
        found["content", plain(name)] = plain(text)
    return found


def _packages(chunk: Chunk) -> Iterator[tuple[str, str]]:
    """Yield the packages of a state and their versions, empty where Debian's is taken."""
    if chunk["state"] == "pkg":
        for package in chunk.get("pkgs") or [{chunk["name"]: chunk.get("version", "")}]:
            yield from package.items() if isinstance(package, dict) else [(package, "")]
