"""supervisor's unit: the apps' processes go on when supervisord dies, and end when it is stopped."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "formulas/supervisor/files/supervisor.service.jinja"
ENDED = UNIT.with_name("supervisor-ended.sh")
# What systemd reports of supervisord's end, the unit's job at that time, the unit's next states, and whether the apps'
# processes end.
ENDS = {
    "it ended by itself": ("success", "", "", True),
    "it was killed": ("signal", "", "activating activating active", False),
    "it was killed again and again": ("signal", "", "activating failed activating inactive activating active", False),
    "a file of its configuration is none": ("exit-code", "", "deactivating activating active", False),
    "it was killed while it started": ("signal", "57 supervisor.service start running", "activating active", False),
    "it was killed, and its restart called off": ("signal", "", "deactivating activating inactive inactive", True),
    "it was killed, and systemd gave up": ("signal", "", "activating failed failed", True),
    "it was stopped": ("success", "57 supervisor.service stop running", "", True),
    "it was stopped while it started": ("signal", "57 supervisor.service stop running", "", True),
    "it did not stop in time, for a restart": ("timeout", "57 supervisor.service restart running", "", True),
}


@pytest.fixture
def run_of_unit(tmp_path):
    """A function that runs one of the unit's shell commands as systemd would, and returns its exit status."""

    def run(setting, systemctl="", supervisorctl="", **variables):
        text = UNIT.read_text().replace("\\\n", "").replace("/usr/local/lib/saltern", str(tmp_path))
        (line,) = (line for line in text.splitlines() if line.startswith(f"{setting}="))
        commands = {"systemctl": systemctl, "supervisorctl": supervisorctl, "process": 'echo "$@" >"$0.ran"'}
        # systemd can run these commands itself.
        commands |= {"sleep": "", "systemd-run": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'}
        scripts = {name: f"#!/bin/sh\n{command}\n" for name, command in commands.items()}
        scripts["supervisor-ended"] = ENDED.read_text().replace("/usr/local/lib/saltern", str(tmp_path))
        for name, script in scripts.items():
            (tmp_path / name).write_text(script)
            (tmp_path / name).chmod(0o755)
        command = shlex.split(line.partition("=")[2].removeprefix("-"))
        return subprocess.run(command, env={"PATH": f"{tmp_path}:{os.defpath}"} | variables, check=False).returncode

    return run


@pytest.mark.parametrize("result, job, states, is_end", ENDS.values(), ids=ENDS)
def test_processes_end_where_supervisor_was_to_stop_and_go_on_where_it_died(
    run_of_unit, tmp_path, result, job, states, is_end
):
    (tmp_path / "states").write_text("".join(f"{state}\n" for state in states.split()))
    state = f"sed -n 1p {tmp_path}/states; sed -i 1d {tmp_path}/states"
    systemctl = f"case $1 in list-jobs) echo '{job}';; is-active) {state};; esac"
    assert run_of_unit("ExecStopPost", systemctl=systemctl, SERVICE_RESULT=result) == 0
    ran = tmp_path / "process.ran"
    assert (ran.read_text() if ran.exists() else "") == ("--end\n" if is_end else "")


def test_a_supervisord_that_dies_while_it_starts_is_not_waited_for(run_of_unit):
    with subprocess.Popen(["true"]) as ended:
        pass
    assert run_of_unit("ExecStartPost", supervisorctl="exit 1", MAINPID=str(ended.pid)) == 1
    assert run_of_unit("ExecStartPost", supervisorctl="exit 0", MAINPID=str(os.getpid())) == 0
