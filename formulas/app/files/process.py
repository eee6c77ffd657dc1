#!/usr/bin/python3 -IS
"""Run one process of an app, and end whatever it started.

    process APP RELEASE PROCESS [PORT]
    process --end [PROGRAM ...]
    process --run APP COMMAND [ARGUMENT ...]

PROCESS is a process type and a number, as in web.1, or a process type alone, as in release. Supervisor runs this as
root. It moves into a scope of its own, a control group below the app's slice, which nothing that the process starts
can leave. There it starts the line of the Procfile as the app's user, stays as its parent, and hands signals on.
The config is read as bytes from one file for each variable, so that nothing ever quotes, expands or trims a value.
Standard output and error of the process go straight to the journal, as APP[PROCESS].

SIGTERM means the same for each line: what the line's shells wait for gets it once, and the shells go on to no other
command. What a program started itself is left to that program. Whatever is left after the grace is killed, and so is
what a process that ended by itself has left behind, before supervisor starts it again.

With --end what is left of processes is ended in the same way: of those that are named as supervisor names them, as in
shop.v3.web.1, or of all.

With --run it starts a command in the same environment, but in the terminal, from the current release. It is what
APP-run calls.

This file stays small, since Python compiles it each time; what it calls is compiled once.
"""

import os
import sys

# Neither what is in Python's own directories nor the current one comes before it, and nothing else is beside it.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

name, *words = sys.argv[1:]
if name == "--first":
    from launcher.first import first as command
elif name in ("--run", "--run-there"):
    from launcher import command as one_off

    command = one_off.run if name == "--run" else one_off.run_there
elif name == "--end":
    from launcher.start import end as command
else:
    from launcher.start import start as command

    words.insert(0, name)
command(*words)
