"""JSON lines on stdin and stdout, and what is timed in between."""

import json
import os
import sys
import time


def milliseconds(run):
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1000


def answer_lines(command):
    """Answers each line `{cmd, ...}` with what `command(cmd, ...)` gives, until it is told to close."""
    # what libraries print must not end up between the lines of the protocol
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["cmd"] == "close":
            break
        try:
            answer = command(**asked)
        except Exception as error:  # the driver prints it and goes on with the other peers
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers)
