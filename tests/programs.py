"""Programs in processes of their own: `daybook` and `luigi` as a person starts them, in a fraction of the time.

    done = run(folder, "daybook", "build", "demo")              ends with code 0, or the test fails
    done = run(folder, "luigi", "--module", ..., code=30, TRIAL_KEY="k")
    process = start(folder, "daybook", "build", "demo")         to be waited for, interrupted, or killed

`daybook`, `luigi` and `python` (with -c or -m) are forked from a process that has imported what they need, one for each
worker of the tests. Their arguments, folder, environment, pipes, signals and exit code are those of a process that was
started anew, and what runs in it is the installed console script. Any other program is started as it is.

What a forked process cannot show: which modules a command loads, what memory it takes, and that the order of a set
changes nothing: all forks of a process have one hash seed. A test of these starts BIN / "daybook" or sys.executable. So
does `start` itself, where the environment has something else that Python or Luigi read when they start.

What a program prints has to be read: with `communicate`, or it stops when a pipe is full.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
CONSOLE_SCRIPTS = ("daybook", "luigi")
FORKED = (*CONSOLE_SCRIPTS, "python")
IMPORTED = (  # `pipeline` before Luigi, as in `daybook`
    "pipeline.cli",
    "pipeline.building",
    "pipeline.checking",
    "pipeline.litellm_client",
    "pipeline.scheduler_server",
    "pipeline.validation",
    "pipeline.archive.fetching",
    "pipeline.archive.remaking",
    "luigi.retcodes",  # not luigi.cmdline, which keeps the arguments of the process that imports it
)
READ_AT_START = ("PYTHON", "LUIGI_CONFIG", "LC_", "LANG", "TZ")  # variables that begin so

Environment = dict[str, str]
OUR_ENVIRONMENT: Environment = dict(os.environ)


def run(folder: Path, *command: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder to its end, which has to be the exit code `code`; None: any."""
    process = start(folder, *command, **environment)
    output, errors = process.communicate()
    assert code in (process.returncode, None), output + errors
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_json(folder: Path, *command: str, code: int = 0) -> Any:
    return json.loads(run(folder, "daybook", *command, "--json", code=code).stdout)


def start(folder: Path, *command: str, before: str = "", **environment: str) -> Process | subprocess.Popen[str]:
    """Start a program in a folder, with pipes for what it prints, and without settings of Daybook and Luigi but these.

    `before`: a function, "module:name", which a forked program calls first.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DAYBOOK_", "LUIGI_"))}
    whole = {**clean, **environment}
    if command[0] in FORKED and _read_at_start(whole) == _read_at_start(OUR_ENVIRONMENT):
        return SERVER.start(folder, command, whole, before)
    assert not before, f"{command[0]} is started anew, and can call nothing first"
    programs = {"python": sys.executable, **{name: str(BIN / name) for name in CONSOLE_SCRIPTS}}
    words = [programs.get(word, word) for word in command]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=folder, env=whole, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def _read_at_start(environment: Environment) -> Environment:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


class Process:
    """A forked program, with those methods of subprocess.Popen that tests need."""

    def __init__(self, job: socket.socket, stdout: int, stderr: int) -> None:
        self.stdout, self.stderr = os.fdopen(stdout), os.fdopen(stderr)
        self.returncode: int | None = None
        self._job = job
        self._told = job.makefile("r")
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._job], [], [], timeout)[0]:
            self.returncode = int(self._told.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read what it prints, to its end. If it takes longer than `timeout` seconds, it is killed."""
        with self.stdout, self.stderr, self._job, self._told, ThreadPoolExecutor(2) as readers:
            printed = [readers.submit(pipe.read) for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return printed[0].result(), printed[1].result()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks. It starts with the first program, and ends with the process of the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def start(self, folder: Path, command: tuple[str, ...], environment: Environment, before: str) -> Process:
        job = {"folder": str(folder.absolute()), "command": command, "environment": environment, "before": before}
        ours, theirs = socket.socketpair()
        (stdout, their_stdout), (stderr, their_stderr) = os.pipe(), os.pipe()
        with self._lock:
            self._control = self._control or self._start()
            socket.send_fds(self._control, [b"1"], [theirs.fileno(), their_stdout, their_stderr])
        for descriptor in (their_stdout, their_stderr):
            os.close(descriptor)
        theirs.close()
        ours.sendall(json.dumps(job).encode() + b"\n")
        return Process(ours, stdout, stderr)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.programs", str(theirs.fileno())]
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=ROOT, env=OUR_ENVIRONMENT, pass_fds=[theirs.fileno()], stdin=null, stdout=null
        )
        theirs.close()
        atexit.register(lambda: (ours.close(), process.wait()))
        return ours


SERVER = Server()


# In the process that forks


class Job(NamedTuple):
    folder: str
    command: list[str]
    environment: Environment
    before: str
    descriptors: list[int]  # who asked, and for stdout and stderr


def serve(control: socket.socket) -> Job:
    """Fork a process for each job. Returns in each of those, with its job, and never in the process that forks."""
    waking, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the end of a child wakes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the tests and for the programs
    asked_by: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, waking], [], [])
        if waking in ready:
            waking.recv(4096)
            _tell_ends(asked_by)
        if control in ready:
            job = _receive(control)
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                for end in (control, waking, woken):
                    end.close()
                for descriptor in asked_by.values():
                    os.close(descriptor)
                return job
            asked_by[child] = job.descriptors[0]
            for descriptor in job.descriptors[1:]:
                os.close(descriptor)


def _receive(control: socket.socket) -> Job:
    byte, descriptors, _, _ = socket.recv_fds(control, 1, 3)
    if not byte:
        os._exit(0)  # the tests have ended
    with open(descriptors[0], closefd=False) as asked:
        return Job(**json.loads(asked.readline()), descriptors=descriptors)


def _tell_ends(asked_by: dict[int, int]) -> None:
    while asked_by:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        asked = asked_by.pop(child)
        with contextlib.suppress(BrokenPipeError):
            os.write(asked, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os.close(asked)


def become(job: Job) -> None:
    """Make this process one that was started for the job."""
    asked, *pipes = job.descriptors
    for number, pipe in enumerate(pipes, start=1):
        os.dup2(pipe, number)
        os.close(pipe)
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment)
    tempfile.tempdir = None
    settings = sys.modules["luigi"].configuration.get_config()  # of another folder; parts of Luigi hold this object
    settings.clear()
    settings.reload()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.write(asked, f"{os.getpid()}\n".encode())
    os.close(asked)


def work_and_exit(job: Job) -> NoReturn:
    """Run the program of a job, and end as Python does, but for one thing: nothing is freed.

    To free what was imported, the kernel would have to copy all of it first.
    """
    code: object = None
    try:
        work(job)
    except SystemExit as stop:
        code = stop.code
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


def work(job: Job) -> None:
    """Run the program of a job as Python runs it when it starts."""
    if job.before:
        module, _, name = job.before.partition(":")
        getattr(importlib.import_module(module), name)()
    program, *arguments = job.command
    if program in CONSOLE_SCRIPTS:
        sys.argv, sys.path[0] = [str(BIN / program), *arguments], str(BIN)
        if program == "luigi":
            del sys.modules["pipeline"]  # which does more when Luigi is there; Luigi imports it
        runpy.run_path(sys.argv[0], run_name="__main__")
    elif arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], job.folder
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        assert arguments[0] == "-c", "python is forked with -c or -m"
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a collection would write to every object, and have the kernel copy them all
    job = serve(socket.socket(fileno=int(sys.argv[1])))
    become(job)
    work_and_exit(job)
