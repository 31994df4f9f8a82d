"""A forked program sees and leaves what one sees and leaves that was started anew."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.programs import BIN, SERVER, run, start

SEEN = """
import json, os, resource, signal, sys, tempfile, threading, warnings
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path[0],
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "temporary": tempfile.gettempdir(),
    "descriptors": sorted(set(os.listdir("/dev/fd")) & {str(number) for number in range(100)}),
    "signals": {number: str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)},
    "input": [sys.stdin.isatty(), sys.stdin.read()],
    "output": [sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.errors, sys.stderr.isatty()],
    "threads": threading.active_count(),
    "group": os.getpgid(0),
    "mask": os.umask(0),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
}))
"""
ENDINGS = {
    "nothing": "print(1)",
    "a code": "import sys; sys.exit(7)",
    "a large code": "import sys; sys.exit(259)",
    "a text": "import sys; sys.exit('why')",
    "an error": "print(1); raise ValueError('what')",
    "an interruption": "raise KeyboardInterrupt",
    "a signal": "import os; os.kill(os.getpid(), 15)",
    "what is left to the end": (
        "import atexit, threading, time\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
        "print('main', end='')"
    ),
}


def test_a_forked_program_sees_what_one_sees_that_was_started_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("DAYBOOK_DATA_ROOT", "of the shell")
    words = ["-c", SEEN, "one", "--two"]

    forked = json.loads(run(tmp_path, "python", *words, TMPDIR=str(tmp_path), X="1").stdout)
    anew = json.loads(run(tmp_path, sys.executable, *words, TMPDIR=str(tmp_path), X="1").stdout)

    assert forked == anew
    assert "DAYBOOK_DATA_ROOT" not in forked["environment"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_forked_program_ends_as_one_that_was_started_anew(ending, tmp_path):
    forked = run(tmp_path, "python", "-c", ENDINGS[ending], code=None)
    anew = run(tmp_path, sys.executable, "-c", ENDINGS[ending], code=None)

    assert (forked.returncode, forked.stdout) == (anew.returncode, anew.stdout)
    assert forked.stderr.splitlines()[-1:] == anew.stderr.splitlines()[-1:]


def test_programs_run_at_the_same_time_and_can_be_interrupted(tmp_path):
    waiting = "import signal, sys\nprint('here', flush=True)\nsignal.pause()"
    first, second = (start(tmp_path, "python", "-c", waiting) for _ in range(2))

    assert [process.stdout.readline() for process in (first, second)] == ["here\n"] * 2
    assert first.pid != second.pid
    assert second.poll() is None
    second.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in second.communicate()[1]
    first.kill()
    first.communicate()
    assert (first.returncode, second.returncode) == (-signal.SIGKILL, -signal.SIGINT)


def test_a_program_changes_nothing_for_the_next_one(tmp_path):
    run(tmp_path, "python", "-c", "import os, store.identity as i; i.hash_bytes = None; os.environ['X'] = '1'")

    run(tmp_path, "python", "-c", "import os, store.identity as i; assert i.hash_bytes; assert 'X' not in os.environ")


def test_luigi_reads_the_settings_of_its_folder(tmp_path):
    (tmp_path / "luigi.cfg").write_text("[daybook]\ndata_root = of-this-folder\n")
    code = (
        "from luigi.configuration import get_config; from luigi.setup_logging import InterfaceLogging\n"
        "for config in (get_config(), InterfaceLogging.config):\n"
        "    print(dict(config['daybook']), config.has_section('core'))"
    )

    assert run(tmp_path, "python", "-c", code).stdout == "{'data_root': 'of-this-folder'} False\n" * 2


def test_a_program_whose_environment_is_read_when_it_starts_is_started_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(SERVER, "start", lambda *_: pytest.fail("it was forked"))

    assert run(tmp_path, "python", "-c", "import sys; print(sys.flags.utf8_mode)", PYTHONUTF8="1").stdout == "1\n"
    assert run(tmp_path, str(BIN / "daybook"), "--help").stdout


def test_a_forked_program_can_be_told_to_call_a_function_first(tmp_path):
    process = start(tmp_path, "python", "-c", "print('then this')", before="tests.test_programs:say_first")

    assert process.communicate()[0] == f"first this, in {tmp_path.resolve()}\nthen this\n"


def say_first() -> None:
    print("first this, in", Path.cwd())
