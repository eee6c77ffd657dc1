#!/usr/bin/python3 -IS
"""Run a job of an app; see ``saltern.jobs.runner``.

    job start APP JOB [hand RUN]
    job run APP JOB RUN BY
    job abandoned APP JOB RUN
    job known APP JOB

A timer calls the first, and the unit of a run the next two. The last tells what all hosts know of a job. Python
compiles the modules of the package once.
"""

import os
import sys

# Saltern's modules are beside this file.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from saltern.jobs.runner import main

main(*sys.argv[1:])
