"""salt-call from a process that has already imported Salt, which saves half of each call's time.

Each call is a child of that process with its own command line and directory, and does what salt-call does. The process
has no threads, so a child never finds a lock taken.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORTED = (
    "salt.cli.call",
    "salt.cli.caller",
    "salt.fileclient",
    "salt.loader",
    "salt.minion",
    "salt.modules.state",
    "salt.pillar",
    "salt.renderers.jinja",
    "salt.scripts",
    "salt.state",
    "salt.utils.jinja",
)


class SaltCall:
    """The process, which is started at the first call and ends with this one."""

    def __init__(self):
        self.process = None

    def run(self, *arguments):
        """Run salt-call, and return its exit code and all that it printed.

        :param arguments: the command line after the program.
        """
        if self.process is None:
            command = [sys.executable, "-m", __spec__.name]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps([os.getcwd(), dict(os.environ), [str(each) for each in arguments]]) + "\n")
        self.process.stdin.flush()
        code, output = json.loads(self.process.stdout.readline())
        return code, output


def answer(directory, environment, arguments):
    """Run salt-call in a child, and return its exit code and what it printed: the output, then the errors."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if not pid:
            become(directory, environment, arguments, output.fileno(), errors.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        printed = b""
        for stream in (output, errors):
            stream.seek(0)
            printed += stream.read()
    return code, printed.decode()


def become(directory, environment, arguments, output, errors):
    """Be salt-call, and end as it ends."""
    code = 1
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(Path(sys.executable).with_name("salt-call")), *arguments]
        import salt.scripts

        salt.scripts.salt_call()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main():
    """Answer the calls on standard input, each a line, until it ends."""
    import importlib

    from bootstrap import swift

    for name in IMPORTED:
        importlib.import_module(name)
    swift.install()
    # Each call must read the files again, since tests change them.
    assert not [name for name in sys.modules if name.partition(".")[0] == "saltern"]
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
