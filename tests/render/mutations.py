"""Mutations of valid pillars: mistakes that people make when they edit YAML, the same for the same seed."""

import copy
import dataclasses
import datetime
import random

import yaml

KINDS = ("drop", "rename", "retype", "nest", "oversize", "unicode", "null", "garble")

# Part of each secret value, as text and as a number.
CANARY = "canary"
CANARY_NUMBER = 918273645

# Values of another type, and unexpected values of the same type.
VALUES = (0, -1, CANARY_NUMBER, 1.5, float("nan"), True, CANARY, "", [], [CANARY], {}, {"value": CANARY})
VALUES += (datetime.date(2026, 1, 1), b"canary")

# Text that is harmless in some places only: decomposed, right to left, a zero-width character, half a surrogate pair,
# control characters, two kinds of line ends, text that looks like Jinja.
TEXTS = ("cafe\u0301", "\u202eabc", "\ufeff", "\ud800", "\x00", "\x1b[31m", "a\nb", "\u2028", "\U0001f9c2", "{{ abc }}")

# Text that is inserted at the start of a line.
LINES = ("\tx: 1\n", "- canary\n", "canary\n", "x: [canary\n", "app: {}\n", "x: *canary\n", "x: !canary 1\n", "\x00\n")
LINES += ("x: &a [*a]\n", "? [canary]\n: 1\n", f"x: {'[' * 2000}\n", "%canary\n", "---\n", "'canary\n", "<<: 1\n")
LINES += ("x: {{ abc }}\n", "{% if %}\n", "include: canary\n")


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A changed file of a pillar: the mutation's kind, the change in words, the file's name, its new text."""

    kind: str
    about: str
    name: str
    text: bytes


def mutations(kind, files, seed, count):
    """Yield mutations of a pillar.

    :param kind: one of ``KINDS``.
    :param files: a mapping of file name to content, as data.
    :param seed: the same seed gives the same mutations.
    :param count: the number of mutations.
    """
    draw = random.Random(f"{seed}/{kind}")
    for _ in range(count):
        name = draw.choice(sorted(files))
        if kind == "garble":
            about, text = _garbled(written(name, files[name]), draw)
        else:
            about, content = _changed(kind, files[name], draw)
            text = written(name, content)
        yield Mutation(kind, f"{name}: {kind}: {about}", name, text)


def written(name, content):
    """Write a pillar file, as bytes.

    :param name: the file's name.
    :param content: data.
    """
    # A password may look like Jinja.
    head = "#!yaml\n" if name.startswith("secrets/") else ""
    return (head + yaml.safe_dump(content)).encode()


def places(content, path=()):
    """Yield the path of each part of a content, without the content itself.

    :param content: data, as YAML gives it.
    :param path: the path of the content.
    """
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def _changed(kind, content, draw):
    """Return the change in words, and a content with one part changed."""
    # The whole content is a part too; it has no name.
    content = {"": copy.deepcopy(content)}
    path = draw.choice([path for path in places(content) if len(path) > 1 or kind not in ("drop", "rename")])
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    where = ".".join(map(str, path[1:]))
    # A part's name is changed as often as its value.
    if len(path) > 1 and (kind == "rename" or (kind in ("oversize", "unicode") and draw.random() < 0.5)):
        return f"the name of {where}", _renamed(content, path, kind, draw)[""]
    if kind == "drop":
        del parent[key]
    else:
        change = {"retype": _retyped, "nest": _nested, "oversize": _oversized, "unicode": _texted, "null": _nothing}
        parent[key] = change.get(kind, _nothing)(parent[key], key, draw)
    return where, content.get("")


def _renamed(content, path, kind, draw):
    """Return a content with the last name of a path replaced; the order stays."""
    *above, last = path
    while not isinstance(last, str):
        *above, last = above
    names = {
        "rename": [last[::-1], f"{last}s", last.upper(), f"_{last}", f"{last} ", last[:-1], 1, True, None, "include"],
        "oversize": [last * 3000],
        "unicode": [f"{last}{text}" for text in TEXTS],
    }
    parent = content
    for key in above:
        parent = parent[key]
    name = draw.choice(names[kind])
    renamed = {name if key == last else key: item for key, item in parent.items()}
    parent.clear()
    parent.update(renamed)
    return content


def _retyped(value, _key, draw):
    return draw.choice([other for other in VALUES if type(other) is not type(value)])


def _nested(value, key, draw):
    deep = value
    for _ in range(300):
        deep = [deep]
    inner = next(iter(value.values()), {}) if isinstance(value, dict) else [value, value]
    return draw.choice([[value], {"value": value}, {str(key): value}, {key: {key: value}}, deep, inner])


def _oversized(value, _key, draw):
    if isinstance(value, bool):
        return 10**400
    if isinstance(value, int):
        return draw.choice([value + 10**9, -(10**9), 10**400])
    if isinstance(value, str):
        return draw.choice([value * 20000, f"{value}{CANARY * 300}"])
    if isinstance(value, list):
        return [*value, *(f"{CANARY}{number}" for number in range(3000))]
    return value | {f"more{number}": copy.deepcopy(next(iter(value.values()), 1)) for number in range(300)}


def _nothing(_value, _key, _draw):
    return None


def _texted(value, _key, draw):
    return f"{value if isinstance(value, str) else ''}{draw.choice(TEXTS)}"


def _garbled(text, draw):
    """Return the change in words, and a text that may no longer be YAML."""
    lines = text.splitlines(keepends=True)
    number = draw.randrange(len(lines))
    before, here, after = lines[:number], lines[number], lines[number + 1 :]
    changes = {f"{line[:20]!r} before": [line.encode(), here] for line in LINES}
    changes |= {"twice": [here, here], "indented": [b"   ", here], "not in UTF-8 before": [b"# \xff\xfe\n", here]}
    changes |= {"cut short": [here[: len(here) // 2]], "the file ends at": None}
    about = draw.choice(list(changes))
    changed = [*changes[about], *after] if changes[about] else []
    return f"{about} line {number + 1}", b"".join([*before, *changed])
