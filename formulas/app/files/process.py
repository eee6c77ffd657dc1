#!/usr/bin/python3 -IS
"""Run one process of an app, and end whatever it started.

    process APP RELEASE PROCESS [PORT|alone]
    process --end [PROGRAM ...]
    process --run APP COMMAND [ARGUMENT ...]
    process --psql APP [ATTACHMENT] [ARGUMENT ...]

PROCESS is a process type and a number, as in web.1, or a process type alone, as in release. Of a job it is the type,
the job and the run, as in clearsessions.nightly.1764454512345. Supervisor, or the runner of jobs, runs this launcher as
root. The launcher moves into a scope of its own, a control group below the app's slice, which nothing that the process
starts can leave. There the launcher starts the line of the Procfile as the app's user, stays as its parent,
and hands signals on. The config is read as bytes from one file for each variable, so that nothing ever quotes, expands
or trims a value. Standard output and error of the process go straight to the journal, as APP[PROCESS].

SIGTERM means the same for each line: the programs that the line's shells wait for get it once, and the shells start no
further command. What a program started itself is that program's to end. After the grace, what is left is killed. Where
a process ends by itself, what it left is killed before supervisor starts it again.

In place of a port, alone says that the process runs on one host of the environment at a time; see launcher/alone.py.

With --end, what is left of processes is ended in the same way: of all, or of those named as supervisor names them, such
as shop.v3.web.1.

With --run, the launcher starts a command in the terminal, with the environment of the current release. APP-run calls
this. With --psql it starts psql there in the same way, at a database of the release. Root looks up the release, and
the command has it also where another one serves meanwhile.

This file stays small, because Python compiles it at each start. The modules that it imports are compiled once.
"""

import os
import sys

# First on the path, so that no module of Python's own or of the current directory takes its place.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

name, *words = sys.argv[1:]
if name == "--first":
    from launcher.first import first as command
elif name in ("--run", "--psql", "--run-there", "--run-of", "--psql-of"):
    from launcher import command as one_off

    command = getattr(one_off, name.removeprefix("--").replace("-", "_"))
elif name == "--end":
    from launcher.start import end as command
else:
    from launcher.start import start as command

    words.insert(0, name)
command(*words)
