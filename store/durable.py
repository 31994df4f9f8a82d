"""Durable writes: the one module that puts bytes on disk. Nothing bypasses it, and no switch turns it off.

A document's folder is committed in this order, so that after a crash or a power cut at any point it
is there whole or not at all:

    1. stage    a new folder under .tmp/, on the same filesystem
    2. write    each file: create exclusively, write all bytes, fsync, close; metadata.json last
    3. fsync    sub-folders, then the staged folder
    4. rename   to its final place, never replacing anything
    5. fsync    the folder that now holds it; only then is the commit acknowledged

Why each step: a folder renamed without the fsyncs of 2 and 3 can be present after a power cut with
every file empty, on ext4 and on xfs; without 5 an acknowledged document can be gone.

Traps: an fsync that failed is never repeated, because the kernel has then marked the lost pages as
clean and a second one reports success. Modes are set before the rename and do not follow the umask.
Folders stay writable for their owner, because renaming a folder without write permission fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import socket
from pathlib import Path

from store.errors import WriteFailed

FILE_MODE = 0o444
FOLDER_MODE = 0o755
NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def create_folder(path: Path) -> None:
    """Make `path` and the folders above it; each new name is fsynced into the folder that holds it."""
    if path.is_dir():
        return
    create_folder(path.parent)
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        # Another process made it a moment ago and may not have fsynced it yet.
        pass
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error
    sync_folder(path.parent)


def create_temporary_folder(path: Path) -> None:
    """Make the folder for files under way. Its own name needs no fsync: nothing in it is promised."""
    create_folder(path.parent)
    try:
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error


def create_folder_exclusively(path: Path) -> bool:
    """Make the folder `path`, fsync its name, and return whether it was this call that made it."""
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        return False
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error
    sync_folder(path.parent)
    return True


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises WriteFailed; a failed fsync is not tried again."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error


def create_staging_folder(path: Path) -> None:
    """Make a folder that becomes durable only with `commit_folder`."""
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True)
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error


class NewFile:
    """A file being written: created exclusively, appended to, made durable by `finish`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        try:
            self._descriptor = os.open(path, NEW_FILE, FILE_MODE)
            os.fchmod(self._descriptor, FILE_MODE)  # the umask has had its say in os.open
        except OSError as error:
            raise WriteFailed(path, problem=_describe(error)) from error

    def append(self, content: bytes) -> None:
        """Write all of `content`: a write may take fewer bytes than it was given."""
        rest = memoryview(content)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                if written == 0:
                    raise OSError(errno.EIO, "the disk took no bytes")
                self.size_bytes += written
                rest = rest[written:]
        except OSError as error:
            self.abandon()
            raise WriteFailed(self.path, problem=_describe(error)) from error

    def finish(self) -> None:
        """Make the bytes durable and close. Raises WriteFailed if fewer bytes arrived than were written."""
        try:
            os.fsync(self._descriptor)
            found = os.fstat(self._descriptor).st_size
        except OSError as error:
            self.abandon()
            raise WriteFailed(self.path, problem=_describe(error)) from error
        self._close()
        if found != self.size_bytes:
            raise WriteFailed(self.path, problem=f"wrote {self.size_bytes} bytes, the disk holds {found}")

    def abandon(self) -> None:
        """Close without a promise; what was written stays."""
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)  # some network filesystems report a lost write only here


def write_new_file(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet and make its bytes, not yet its name, durable."""
    file = NewFile(path)
    file.append(content)
    file.finish()


def place_file(path: Path, content: bytes, *, temporary_folder: Path, replace: bool = False) -> bool:
    """Put a whole file at `path`, durably; return False if it was there already and is not to be replaced."""
    create_folder(path.parent)
    create_temporary_folder(temporary_folder)
    staged = unique_path(temporary_folder, path.name)
    write_new_file(staged, content)
    try:
        if replace:
            staged.replace(path)
        else:
            rename_without_replacing(staged, path)
    except FileExistsError:
        staged.unlink()  # holds the same bytes that are at `path`, or ones that the caller still has
        return False
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error
    sync_folder(path.parent)
    return True


def commit_folder(staged: Path, final: Path) -> None:
    """Rename a folder whose files are written to its final place, durably. See the module's docstring.

    Raises FileExistsError if something is there already: somebody else was faster.
    """
    for folder in sorted((path for path in staged.rglob("*") if path.is_dir()), reverse=True):
        sync_folder(folder)
    sync_folder(staged)
    try:
        rename_without_replacing(staged, final)
    except FileExistsError:
        raise
    except OSError as error:
        raise WriteFailed(final, problem=_describe(error)) from error
    sync_folder(final.parent)


def rename_without_replacing(source: Path, target: Path) -> None:
    """Rename, or raise FileExistsError if `target` exists, be it an empty folder."""
    if not hasattr(_LIBC, "renameat2"):  # not Linux, or a C library from before 2018
        _rename_after_looking(source, target)
        return
    outcome = _LIBC.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if outcome == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):  # an old kernel, or a filesystem without the flag
        _rename_after_looking(source, target)
    elif code in (errno.EEXIST, errno.ENOTEMPTY):
        raise FileExistsError(code, os.strerror(code), str(target))
    else:
        raise OSError(code, os.strerror(code), str(target))


def _rename_after_looking(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        source.rename(target)  # between look and rename a full folder still refuses with ENOTEMPTY
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(error.errno, os.strerror(error.errno), str(target)) from error
        raise


def unique_path(folder: Path, name: str) -> Path:
    """Return a path in `folder` that no other process, host or call will choose."""
    host = "".join(character for character in socket.gethostname() if character.isalnum())[:32]
    return folder / f"{name}.{host}.{os.getpid()}.{secrets.token_hex(6)}"


def _describe(error: OSError) -> str:
    return f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'unknown')})"
