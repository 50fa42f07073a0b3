"""Forks a process for every `distill` command it is sent, so that twenty kills import torch once.

A program of its own: JSON requests on stdin, JSON answers on stdout. It stays single-threaded, hence safe to fork,
and a child is what `python -m distill` would be: its own process, streams, folder and exit code.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import child_hooks
from process_lab import DISTILLED

import distill.cli

WARM_UP = [*DISTILLED, "recipe.epochs=1", "teacher.recipe.epochs=1"]


def main() -> None:
    # a test run in the background inherits an ignored SIGINT, which the commands here would rightly leave ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warm_up()
    children: dict[int, int | None] = {}
    say(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            threads = Path("/proc/self/task")
            assert not threads.is_dir() or len(list(threads.iterdir())) == 1, "a process with threads must not fork"
            pid = os.fork()
            if pid == 0:
                child(request)
            children[pid] = None
            answer: dict[str, Any] = {"pid": pid}
        elif request["do"] == "wait":
            answer = {"code": wait(children, request["pid"], request["seconds"])}
        else:
            for pid in [pid for pid, code in children.items() if code is None]:
                os.kill(pid, signal.SIGKILL)
                wait(children, pid, 10)
            answer = {}
        say(answers, answer)


def say(answers: int, answer: dict[str, Any]) -> None:
    os.write(answers, (json.dumps(answer) + "\n").encode())


def warm_up() -> None:
    """Import everything that a training imports, and compose the presets that names are compared with."""
    with tempfile.TemporaryDirectory() as folder:
        code = distill.cli.main([*WARM_UP, f"runs_dir={folder}"])
    assert code == 0


def wait(children: dict[int, int | None], pid: int, seconds: float) -> int | None:
    """The exit code, negative for a signal; None when the process still runs after `seconds`."""
    end = time.monotonic() + seconds
    while children[pid] is None:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > end:
            break
        else:
            time.sleep(0.005)
    return children[pid]


def child(request: dict[str, Any]) -> NoReturn:
    """Become the command: what Python does around `main`, without the server's own ending."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        err = os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, descriptor in enumerate((nothing, out, err)):
            os.dup2(descriptor, number)
        os.chdir(request["cwd"])
        sys.argv = ["distill", *request["argv"]]
        child_hooks.install(request["hooks"], Path(request["report"]))
        code = distill.cli.main(request["argv"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
