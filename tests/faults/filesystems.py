"""Filesystems of a test's own, and the power cut: what had not reached the disk is gone after it.

    with mounted("ext4", tmp_path) as disk:
        run_child(lambda tell: write_until(disk.cut_power), when_stopped=disk.keep_image)
        disk.restart()                          as after the power came back: mount again, and recover

The power is cut by FS_IOC_SHUTDOWN without flushing the journal; btrfs has no such call, so there the writer is
stopped, the disk's image copied, and the copy mounted: what was only in memory is not in it either.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.children import die
from tests.faults.requirements import require_mounts

FS_IOC_SHUTDOWN, NO_FLUSH_OF_THE_LOG = 0x8004587D, 2  # from linux/fs.h and ext4's and xfs's headers
IMAGE_MIB = {"ext4": 64, "xfs": 320, "btrfs": 128}  # the least that mkfs takes without complaint; the files are sparse
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}


class Disk:
    """A mounted filesystem in an image file."""

    def __init__(self, kind: str, image: Path, folder: Path) -> None:
        self.kind, self.image, self.folder = kind, image, folder
        self._image_at_cut = image.with_suffix(".cut")

    def mount(self) -> None:
        run("mount", "-t", self.kind, "-o", "loop", self.image, self.folder)

    def unmount(self) -> None:
        run("umount", self.folder)

    def cut_power(self) -> None:
        """Cut the power, and end this process: to be called by the child that writes."""
        if self.kind == "btrfs":
            os.kill(os.getpid(), signal.SIGSTOP)  # whoever waits for the child keeps the image
        else:
            cut_power(self.folder)
        die()

    def keep_image(self) -> None:
        """Keep the disk as it is now: the next restart begins with it."""
        run("cp", "--sparse=always", self.image, self._image_at_cut)

    def restart(self) -> None:
        """Mount the disk as it was when the power was cut."""
        self.unmount()
        if self._image_at_cut.exists():
            self._image_at_cut.replace(self.image)
        self.mount()


def cut_power(folder: Path) -> None:
    """Cut the power of an ext4 or xfs filesystem: every later write of it fails."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NO_FLUSH_OF_THE_LOG))


@contextmanager
def mounted(kind: str, workplace: Path, *, image_folder: Path | None = None) -> Iterator[Disk]:
    """Yield a new filesystem: ext4, xfs or btrfs. Its image lies in memory where it can."""
    require_mounts(kind)
    is_own = image_folder is None
    image_folder = image_folder or _make_image_folder(workplace)
    folder = workplace / f"mounted-{kind}"
    folder.mkdir()
    image = image_folder / f"{kind}.image"
    with image.open("wb") as file:
        file.truncate(IMAGE_MIB[kind] * 1024 * 1024)
    run(*MKFS[kind], image)
    disk = Disk(kind, image, folder)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", folder], capture_output=True, check=False)
        if is_own:
            shutil.rmtree(image_folder)


def _make_image_folder(workplace: Path) -> Path:
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="daybook-", dir=memory if memory.is_dir() else workplace))


@contextmanager
def mounted_tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """Yield a filesystem in memory with limits: "size=64k" or "nr_inodes=20"."""
    require_mounts("tmpfs")
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], capture_output=True, check=False)


def run(*command: str | Path) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{' '.join(map(str, command))}: {finished.stderr.strip()}"


def flush_something_else(folder: Path) -> None:
    """Write and fsync another file of the filesystem in another process: the filesystem's journal is then on disk."""
    pid = os.fork()
    if pid == 0:
        descriptor = os.open(folder / "another program's file", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.write(descriptor, b"nothing to do with the store")
        os.fsync(descriptor)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
