"""Durable writes: the one module that puts bytes on disk. Nothing bypasses it, and no switch turns it off.

A document's folder is committed in this order, so that after a crash or a power cut at any point it
is there whole or not at all:

    1. stage    a new folder under .tmp/, on the same filesystem
    2. write    each file: create exclusively, write all bytes, fsync, close; metadata.json last
    3. fsync    sub-folders, then the staged folder
    4. rename   to its final place, never replacing anything
    5. fsync    the folder that now holds it; only then is the commit acknowledged

Why each step: a folder renamed without the fsyncs of 2 and 3 can be present after a power cut with
every file empty, on ext4 and on xfs; without 5 an acknowledged document can be gone. Where many threads
write, they share the fsyncs of 2 and 3, and those of 5; see flushing.py.

Traps: an fsync that failed is never repeated, because the kernel has then marked the lost pages as
clean and a second one reports success. Modes are set before the rename and do not follow the umask.
Folders stay writable for their owner, because renaming a folder without write permission fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath

from store.errors import WriteFailed
from store.flushing import Flush, open_flush

BATCH_FROM = 16  # folders that are cheaper with one flush for all, although that also takes what others have written

FILE_MODE = 0o444
FOLDER_MODE = 0o755
NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_FICLONE = 0x40049409  # from linux/fs.h
_LIBC = ctypes.CDLL(None, use_errno=True)
HOST = "".join(character for character in os.uname().nodename if character.isalnum())[:32]


def create_folder(path: Path) -> None:
    """Make `path` and the folders above it; each new name is durable in the folder that holds it."""
    if not _is_folder(path):
        holders = make_folder(path)
        with _flush_for(path, into=path) as flush:
            flush.finish(holders)


def make_folder(path: Path) -> list[Path]:
    """Make `path` and the folders above it, and return the folders that hold new names, which are to be flushed."""
    if _is_folder(path):
        return []
    holders = make_folder(path.parent)
    # If it is there now, another process made it a moment ago and may not have flushed it yet.
    _make_folder_exclusively(path)
    return [path.parent, *holders]


def make_numbered_folder(folder: Path, number: int) -> tuple[Path, int]:
    """Make the folder `folder`/0001, or the first number after it that is free; return it and its number."""
    while not _make_folder_exclusively(folder / f"{number:04d}"):
        number += 1
    return folder / f"{number:04d}", number


def _make_folder_exclusively(path: Path) -> bool:
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        return False
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error
    return True


def create_temporary_folder(path: Path) -> None:
    """Make the folder for files under way. Its own name needs no flush: nothing in it is promised."""
    if not _is_folder(path):
        create_folder(path.parent)
        _make_folder_exclusively(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # a disk that is broken does not even tell what is there
        raise WriteFailed(path, problem=_describe(error)) from error


@contextmanager
def _flush_for(path: Path, *, into: Path, is_batch: bool = False) -> Iterator[Flush]:
    """Yield a flush; what the disk refuses becomes WriteFailed of `path`."""
    try:
        with open_flush(into, is_batch=is_batch) as flush:
            yield flush
    except FileExistsError:
        raise
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error


class SharedBytes(bytes):
    """Bytes that the file `source` holds, too: a new file with them shares its blocks where the filesystem can.

    Neither file changes when the other one is written to, so this is no link.
    """

    source: Path

    @classmethod
    def read(cls, source: Path) -> SharedBytes:
        content = cls(source.read_bytes())
        content.source = source
        return content


class NewFile:
    """A file being written: created exclusively, appended to, complete with `finish`."""

    def __init__(self, path: Path | str) -> None:
        # Paths are joined as text where many files are written: Path takes 20 times as long.
        self._name = os.fspath(path)
        self.size_bytes = 0
        try:
            self._descriptor = os.open(self._name, NEW_FILE, FILE_MODE)
        except OSError as error:
            raise WriteFailed(self.path, problem=_describe(error)) from error

    @property
    def path(self) -> Path:
        return Path(self._name)

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

    def share(self, content: SharedBytes) -> None:
        """Write `content` as blocks shared with its source; as a copy, if that is not possible or not the same."""
        try:
            with content.source.open("rb") as source:
                fcntl.ioctl(self._descriptor, _FICLONE, source.fileno())
            if self.path.read_bytes() == content:
                self.size_bytes = len(content)
                return
            os.ftruncate(self._descriptor, 0)  # the source has changed since it was read
        except OSError:
            pass  # another filesystem, or one without shared blocks
        self.append(content)

    def finish(self, flush: Flush) -> None:
        """Hand the bytes to `flush` and close. Raises WriteFailed if fewer bytes arrived than were written."""
        try:
            found = os.fstat(self._descriptor)
            if stat.S_IMODE(found.st_mode) != FILE_MODE:  # the umask has had its say in os.open
                os.fchmod(self._descriptor, FILE_MODE)
            flush.add_file(self._descriptor)
        except OSError as error:
            self.abandon()
            raise WriteFailed(self.path, problem=_describe(error)) from error
        self._close()
        if found.st_size != self.size_bytes:
            raise WriteFailed(self.path, problem=f"wrote {self.size_bytes} bytes, the disk holds {found.st_size}")

    def hold(self) -> None:
        """Show that somebody is at it as long as it is written: see leftovers.py."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def is_finished(self) -> bool:
        return self._descriptor < 0

    def abandon(self) -> None:
        """Close without a promise; what was written stays."""
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)  # some network filesystems report a lost write only here


class AppendedFile:
    """A file that many threads append whole records to. What the disk has refused once takes nothing more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        create_folder(path.parent)
        try:
            self._descriptor = os.open(path, NEW_FILE | os.O_APPEND, FILE_MODE)
        except OSError as error:
            raise WriteFailed(path, problem=_describe(error)) from error
        # Closed when nobody has it any more: a thread may flush while another sees the disk refuse.
        weakref.finalize(self, os.close, self._descriptor)
        self._writing = threading.Lock()
        self._is_named = self._is_refused = False

    def append(self, content: bytes) -> None:
        """Write whole records and make them durable, with all that were appended before."""
        with _flush_for(self.path, into=self.path.parent) as flush:
            self.append_with(flush, content, [])

    def append_with(self, flush: Flush, content: bytes, folders: Sequence[Path]) -> None:
        """Make the names in `folders` durable, and records that tell of them: never a record without its names."""
        with self._refusing():
            own = [] if self._is_named else [self.path.parent]
            flush.finish_before(lambda: self._write(content), [*folders, *own])
            self._is_named = True

    def append_unflushed(self, content: bytes) -> None:
        """Write whole records that a power cut may take until the next ones are durable."""
        with self._refusing():
            self._write(content)

    def _write(self, content: bytes) -> int:
        with self._writing:
            if os.write(self._descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, "the disk took a part of the records")
        return self._descriptor

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        if self._is_refused:
            raise WriteFailed(self.path, problem="the disk has refused an earlier record")
        try:
            yield
        except WriteFailed:
            self._is_refused = True
            raise
        except OSError as error:
            self._is_refused = True
            raise WriteFailed(self.path, problem=_describe(error)) from error


def seal_file(file: NewFile) -> None:
    """Make a file that was appended to, and its name, durable."""
    with _flush_for(file.path, into=file.path.parent) as flush:
        file.finish(flush)
        flush.finish([file.path.parent])


def write_in_new_folder(folder: Path, name: str, content: bytes, *, holders: Iterable[Path]) -> None:
    """Write the first file of a folder that this process has just made; `holders` hold the folder's new names.

    A power cut before this returns can leave the file empty, so only a file may be written like this of which
    an empty one means nothing.
    """
    with _flush_for(folder / name, into=folder) as flush:
        _write_file(folder / name, content, flush)
        flush.finish([folder, *holders])


@contextmanager
def stage_file(temporary_folder: Path) -> Iterator[NewFile]:
    """Yield a file to append to under `temporary_folder`, for `commit_folder`; it is removed if it is not taken."""
    create_temporary_folder(temporary_folder)
    staged = unique_path(temporary_folder, "staged")
    file = NewFile(staged)
    file.hold()
    try:
        yield file
    finally:
        file.abandon()
        staged.unlink(missing_ok=True)


def _write_file(path: Path | str, content: bytes | NewFile, flush: Flush) -> None:
    if isinstance(content, NewFile):
        content.finish(flush)
        rename_without_replacing(content.path, path)
        return
    file = NewFile(path)
    if isinstance(content, SharedBytes):
        file.share(content)
    else:
        file.append(content)
    file.finish(flush)


def place_file(path: Path, content: bytes, *, temporary_folder: Path, replace: bool = False) -> bool:
    """Put a whole file at `path`, durably; return False if it was there already and is not to be replaced."""
    create_folder(path.parent)
    create_temporary_folder(temporary_folder)
    staged = unique_path(temporary_folder, path.name)
    with _flush_for(path, into=temporary_folder) as flush:
        _write_file(staged, content, flush)
        flush.finish([])
        try:
            if replace:
                staged.replace(path)
            else:
                rename_without_replacing(staged, path)
        except FileExistsError:
            staged.unlink()  # holds the same bytes that are at `path`, or ones that the caller still has
            flush.finish([path.parent])  # the other may not have flushed its name yet, or have died before
            return False
        flush.finish([path.parent])
    return True


def place_written_file(written: Path, path: Path) -> bool:
    """Give a whole file, written on the same filesystem, its final name, durably; return False if that is taken."""
    with _flush_for(path, into=path.parent) as flush:
        descriptor = os.open(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flush.add_file(descriptor)
        finally:
            os.close(descriptor)
        flush.finish([])
        try:
            rename_without_replacing(written, path)
        except FileExistsError:
            return False
        flush.finish([path.parent])
    return True


def place_derived_file(path: Path, content: bytes, *, temporary_folder: Path) -> None:
    """Put a whole file at `path`, in the place of any that is there, without flushing it. Raises OSError.

    Only for what can be made again from what is durable, and is checked when it is read: after a power cut the
    file may be gone, empty or the one before.
    """
    staged = unique_path(temporary_folder, path.name)
    try:
        _write_unflushed(staged, content)
    except FileNotFoundError:
        temporary_folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        _write_unflushed(staged, content)
    try:
        staged.replace(path)
    except FileNotFoundError:
        path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        staged.replace(path)


def _write_unflushed(path: Path, content: bytes) -> None:
    descriptor = os.open(path, NEW_FILE, FILE_MODE)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


@contextmanager
def place_new_file(path: Path) -> Iterator[NewFile]:
    """Yield a file to append to, which is at `path`, whole and durably, when the block has ended well.

    Until then it lies beside `path` under another name; if the block raises, it is removed. Raises FileExistsError.
    """
    create_folder(path.parent)
    file = NewFile(unique_path(path.parent, f".{path.name}"))
    try:
        yield file
        with _flush_for(path, into=path.parent) as flush:
            file.finish(flush)
            flush.finish([])
            rename_without_replacing(file.path, path)
            flush.finish([path.parent])
    except BaseException:
        file.abandon()
        file.path.unlink(missing_ok=True)
        raise


Acknowledge = Callable[[Flush, Sequence[Path]], None]  # makes the names in these folders durable, and may say so


def commit_folder(
    files: Mapping[str, bytes | NewFile],
    final: Path,
    *,
    temporary_folder: Path,
    acknowledge: Acknowledge | None = None,
) -> Path | None:
    """Write `files` as the new folder `final`, in their order, durably. See the module's docstring.

    A NewFile, as `stage_file` yields it, is moved into the folder: what is too big to be in memory. `acknowledge` does
    the last step, if it is to do more. Returns None; or, if something is at `final` already because somebody else was
    faster, the folder under `temporary_folder` in which the files lie, durably.
    """
    create_folder(final.parent)
    create_temporary_folder(temporary_folder)
    staged = unique_path(temporary_folder, final.name)
    with _flush_for(final, into=temporary_folder) as flush:
        folders = _write_folder(staged, files, flush)
        flush.finish(folders)
        try:
            rename_without_replacing(staged, final)
        except FileExistsError:
            flush.finish([final.parent])  # the other may not have flushed its name yet, or have died before
            return staged
        if acknowledge is None:
            flush.finish([final.parent])
        else:
            acknowledge(flush, [final.parent])
    return None


AcknowledgeAll = Callable[[Flush, Sequence[Path], Iterable[str]], None]  # as Acknowledge; and what is in its place


def commit_folders(
    folder: Path,
    files_by_name: Mapping[str, Mapping[str, bytes | NewFile]],
    *,
    temporary_folder: Path,
    acknowledge: AcknowledgeAll,
) -> Generator[None, None, dict[str, Path]]:
    """Write many new folders into `folder`, each as `commit_folder` does, with the two flushes of one.

    `acknowledge` does the last step, and is told the names of those that are in their place. Returns where the others
    lie, by name. After a crash some of them can be there and others not.

    Yields once, where the waiting for the disk begins, so that a thread can do the rest. Files are written before it if
    nothing waits for each: two threads that hand the interpreter on at each system call take longer than one.
    """
    create_folder(folder)
    create_temporary_folder(temporary_folder)
    staged = {name: unique_path(temporary_folder, name) for name in files_by_name}
    with _flush_for(folder, into=temporary_folder, is_batch=len(staged) >= BATCH_FROM) as flush:
        if flush.waits_for_files:
            yield
        written = [_write_folder(staged[name], files, flush) for name, files in files_by_name.items()]
        if not flush.waits_for_files:
            yield
        flush.finish([folder for folders in written for folder in folders])
        losers = {name: source for name, source in staged.items() if not _rename_into_place(source, folder / name)}
        acknowledge(flush, [folder], [name for name in staged if name not in losers])
    return losers


def _rename_into_place(staged: Path, final: Path) -> bool:
    try:
        rename_without_replacing(staged, final)
    except FileExistsError:
        return False
    return True


def _write_folder(folder: Path, files: Mapping[str, bytes | NewFile], flush: Flush) -> list[Path]:
    """Write files into a new folder and return it and its sub-folders, the deepest first."""
    inner = {str(parent) for name in files if "/" in name for parent in PurePath(name).parents[:-1]}
    folders = [folder, *sorted(folder / name for name in inner)]
    for path in folders:
        path.mkdir(FOLDER_MODE)
    for name, content in files.items():
        _write_file(f"{folder}/{name}", content, flush)
    return folders[::-1]


def move_folder(source: Path, final: Path) -> None:
    """Rename a folder whose files are durable, durably. Raises FileExistsError."""
    create_folder(final.parent)
    with _flush_for(final, into=final.parent) as flush:
        rename_without_replacing(source, final)
        flush.finish([final.parent])


def delete_folder(path: Path) -> None:
    """Delete a folder with all it holds, for good. Only what nobody can ask for any more may be given to it."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error


def delete_file(path: Path) -> None:
    """Delete a file for good, as `delete_folder` does."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteFailed(path, problem=_describe(error)) from error


def rename_without_replacing(source: Path | str, target: Path | str) -> None:
    """Rename, or raise FileExistsError if `target` exists, be it an empty folder."""
    if not hasattr(_LIBC, "renameat2"):  # not Linux, or a C library from before 2018
        _rename_after_looking(Path(source), Path(target))
        return
    outcome = _LIBC.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if outcome == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):  # an old kernel, or a filesystem without the flag
        _rename_after_looking(Path(source), Path(target))
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
    return folder / f"{name}.{HOST}.{os.getpid()}.{os.urandom(6).hex()}"


def _describe(error: OSError) -> str:
    return f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'unknown')})"
