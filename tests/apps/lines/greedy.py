"""Takes more than its share once it gets SIGUSR1."""

import os
import signal
import sys
import time


def memory():
    taken = []
    while True:
        taken.append(bytearray(1 << 20))


def processes():
    while True:
        try:
            os.fork()
        except OSError:
            print("no more processes", flush=True)
            time.sleep(5)


def chain():
    # Each process starts the next one and ends at once.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        while not os.fork():
            os.setsid()
    finally:
        os._exit(0)


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.sigwait({signal.SIGUSR1})
{"memory": memory, "processes": processes, "chain": chain}[sys.argv[1]]()
