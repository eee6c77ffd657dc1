"""The source of a requirement, as pip finds it with its own configuration.

pip has no command that brings a source and leaves it at that: `pip download` runs what is in it. So this asks the
parts of pip, in the version that requirements/dev.txt locks.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from saltern.builds.form import sha256_of
from saltern.builds.make.pins import Pin
from saltern.builds.make.targets import Target
from saltern.builds.make.wheels import pip_reason
from saltern.refusal import Refusal

PART = 1 << 18


def bring(pin: Pin, target: Target, directory: str) -> str:
    """Bring the source of a locked requirement.

    :param pin: the requirement.
    :param target: the hosts.
    :param directory: where to write it.
    :return: the file's path; empty where there is a wheel for the hosts.
    :raises Refusal: where there is neither, or an index does not answer.
    """
    from pip._internal.cli.cmdoptions import make_target_python
    from pip._internal.commands import create_command
    from pip._internal.exceptions import PipError
    from pip._internal.utils.hashes import Hashes
    from pip._vendor.packaging.specifiers import SpecifierSet

    name = f"{pin.name}=={pin.version}"
    words = ["--no-input", "--implementation=cp", f"--python-version={target.python}"]
    words += [f"--abi=cp{target.python.replace('.', '')}", *(f"--platform={tag}" for tag in target.tags())]
    hashes = Hashes({"sha256": sorted(pin.hashes)})
    with _told() as lines:
        try:
            command: Any = create_command("download")
            options, _ = command.parse_args([*words, name])
            with command.main_context():
                session = command.get_default_session(options)
                finder = command._build_package_finder(options, session, make_target_python(options))
                found = finder.find_best_candidate(pin.name, SpecifierSet(f"=={pin.version}"), hashes).best_candidate
                if found and found.link.is_wheel:
                    return ""
                if found is None:
                    raise Refusal(
                        _reason(lines, f"{name}: the index has neither a wheel for the hosts nor a source of it")
                    )
                path = f"{directory}/{os.path.basename(found.link.filename)}"
                with session.get(found.link.url_without_fragment, stream=True) as answer, open(path, "wb") as stream:
                    answer.raise_for_status()
                    for part in answer.iter_content(PART):
                        stream.write(part)
        except (PipError, OSError) as error:
            raise Refusal(_reason(lines, f"{name}: cannot be fetched ({type(error).__name__})")) from error
    if sha256_of(path) not in pin.hashes:
        raise Refusal(f"{name}: what the index has is not what requirements.txt locks; lock it again")
    return path


def _reason(lines: list[str], else_: str) -> str:
    """Say that an index does not answer, if that is why."""
    log = "\n".join(lines)
    return pip_reason(log, "", "") if "Could not fetch URL" in log else f"{else_}; lock it again"


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """Yield the lines that pip says, which nobody else gets."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("pip"), Lines()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
