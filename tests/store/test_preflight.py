"""No call begins in a store that could not keep its answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from store import preflight
from store.data_root import DataRoot
from store.errors import NoRoom
from store.preflight import Reserve

CALL_ID = "fedcba9876543210"
ENDLESS = 1 << 62


@pytest.mark.parametrize(("reserve", "what"), [(Reserve(ENDLESS, 0), "MB"), (Reserve(0, ENDLESS), "inodes")])
def test_a_call_does_not_begin_while_less_than_the_reserve_is_free(tmp_path, reserve, what):
    if what == "inodes" and os.statvfs(tmp_path).f_files == 0:
        pytest.skip("this filesystem has no limit of inodes")

    with pytest.raises(NoRoom, match=f"{what} free"):
        DataRoot(tmp_path, reserve=reserve).calls.begin(CALL_ID, {"messages": []})

    assert list(tmp_path.iterdir()) == []


BEGIN = """
import sys
from pathlib import Path
from store.data_root import DataRoot
DataRoot(Path(sys.argv[1])).calls.begin("fedcba9876543210", {"messages": []})
"""
# root passes every mode: without this capability it does not
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("name", ["docs", "docs/draft", "journal", ".tmp"])
@pytest.mark.skipif(bool(AS_ANYBODY) and not shutil.which("setpriv"), reason="setpriv is not installed")
def test_a_call_does_not_begin_where_a_folder_cannot_be_written(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name).chmod(0o555)

    command = [*AS_ANYBODY, sys.executable, "-c", BEGIN, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert f"{tmp_path / name} cannot be written. Nothing was sent" in ended.stderr
    assert not (tmp_path / "calls").exists()


def test_many_calls_look_at_the_filesystem_once_a_second(tmp_path, monkeypatch):
    looks: list[object] = []
    real, now = os.statvfs, [100.0]
    monkeypatch.setattr(os, "statvfs", lambda path: looks.append(path) or real(path))
    monkeypatch.setattr(preflight.time, "monotonic", lambda: now[0])
    data = DataRoot(tmp_path)

    for _ in range(20):
        data.calls.begin(CALL_ID, {"messages": []})
    assert len(looks) == 1
    now[0] += preflight.GOOD_SECONDS
    data.calls.begin(CALL_ID, {"messages": []})

    assert len(looks) == 2


def test_too_little_room_is_looked_at_again_at_once(tmp_path, monkeypatch):
    data = DataRoot(tmp_path, reserve=Reserve(1 << 20, 0))
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([4096, 4096, 0, 0, 0, *list(real)[5:]]))
    with pytest.raises(NoRoom):
        data.calls.begin(CALL_ID, {"messages": []})
    monkeypatch.undo()

    assert data.calls.begin(CALL_ID, {"messages": []}).number == 1
