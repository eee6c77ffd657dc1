"""One long job, which goes on to its end after SIGTERM and writes each signal down.

With `pool` it waits for two child processes with a job each. With `stopped` it is stopped by SIGSTOP first.
It writes to a file besides its log, and that file survives a reboot.
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
