"""What Salt does anew in each run, done once; the commands that bootstrap.sh writes begin with it.

Salt compiles each Jinja template in each run, and counts all of its options whenever it asks whether there are any.
docs/explanation/speed.md says what that costs.
"""

import contextlib
import hashlib
import marshal
import os
import sys
import tempfile
from pathlib import Path

# Only root writes here, and a new version of Salt or of Jinja has a directory of its own.
KEPT = Path(sys.prefix, "templates")
# Some ten times what a host's run compiles. Edited templates leave theirs behind, until there are as many.
MOST = 500
# What Jinja's compiler reads of an environment, besides the template.
ASPECTS = (
    *("block_start_string", "block_end_string", "variable_start_string", "variable_end_string"),
    *("comment_start_string", "comment_end_string", "line_statement_prefix", "line_comment_prefix"),
    *("trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline", "optimized", "is_async"),
)


def install():
    """Have Jinja keep what it compiles from a text, and have Salt's options be true or not without a count."""
    import jinja2
    from salt.utils.optsdict import OptsDict

    jinja2.Environment.compile = keeping(jinja2.Environment.compile)
    OptsDict.__bool__ = filled


def filled(options):
    """Tell whether there are any options.

    :param options: a ``salt.utils.optsdict.OptsDict``, which holds some itself and has the rest from its parents.
    """
    while options is not None:
        if options._local or options._base:
            return True
        options = options._parent
    return False


def keeping(compile_):
    """Return a function that compiles a template only if no run has compiled it before.

    :param compile_: ``jinja2.Environment.compile``.
    """

    def kept(environment, source, name=None, filename=None, raw=False, defer_init=False):
        # Where a template is a file of Jinja's own loader, Jinja keeps it. A file of the pillar may have secrets in it.
        is_of_states = getattr(environment.loader, "pillar_rend", True) is False
        if not is_of_states or name or filename or raw or defer_init or not isinstance(source, str):
            return compile_(environment, source, name, filename, raw, defer_init)
        aspects = [getattr(environment, aspect) for aspect in ASPECTS]
        key = repr((aspects, type(environment).__qualname__, sorted(environment.extensions), source))
        path = KEPT / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        with contextlib.suppress(OSError, EOFError, TypeError, ValueError):
            return marshal.loads(path.read_bytes())
        code = compile_(environment, source)
        with contextlib.suppress(OSError):
            keep(path, marshal.dumps(code))
        return code

    return kept


def keep(path, data):
    """Write a file at once, so that another run reads all of it or nothing.

    :param path: where; its directory is made.
    :param data: bytes.
    :raises OSError: when it cannot be written.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    others = list(path.parent.iterdir())
    for other in others if len(others) >= MOST else ():
        other.unlink(missing_ok=True)
    number, new = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(number, "wb") as file:
        file.write(data)
    os.replace(new, path)
