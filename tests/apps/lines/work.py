"""One long job: SIGTERM lets it end, and each is told. With `pool` it has two children with a job each, and waits. With
`stopped` it is sent SIGSTOP before that.

What it says goes to a file beside its log, which outlives a reboot.
"""

import os
import signal
import sys
import time

count = 0


def say(text):
    print(f"{name}: {text}", flush=True)
    with open("/var/tmp/lines.log", "a") as stream:
        stream.write(f"{os.environ['TYPE']} {name}: {text}\n")


def stop(*_):
    global count
    count += 1
    say(f"SIGTERM {count}")


def work():
    say("begins")
    if sys.argv[1:] == ["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    while not count:
        time.sleep(0.05)
    end = time.monotonic() + float(os.environ["JOB"])
    while time.monotonic() < end:
        time.sleep(0.05)
    say(f"done after {count}")


name = "job"
if sys.argv[1:] == ["ready"]:
    say("begins")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
if sys.argv[1:] == ["pool"]:
    name, children = "parent", []
    for number in range(2):
        child = os.fork()
        if not child:
            name = f"child {number}"
            work()
            os._exit(0)
        children.append(child)
    while not count:
        time.sleep(0.05)
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)
    say(f"done after {count}")
else:
    work()
