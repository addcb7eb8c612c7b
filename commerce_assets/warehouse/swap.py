"""Files beside a database: the copy that a writer works on, its swap into place, and what a killed process leaves.

.shop.duckdb.lock        the writer lock, while a writer works
.shop.duckdb.part/       the writer's copy with its WAL, and what DuckDB spills
.shop.duckdb.read-XXXX/  what DuckDB spills for one reader
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")
_NOT_SUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
_CHUNK_BYTES = 64 << 20


class FileVersion(NamedTuple):
    """What changes when another program writes to a file or replaces it."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileVersion | None":
        """The version of the file at `path`; None if there is none."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def wal_path(path: Path) -> Path:
    """DuckDB's write-ahead log of a database."""
    return path.with_name(f"{path.name}.wal")


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """Create the writer's folder; the caller holds the writer lock.

    Removes what killed processes left, this folder among it.
    """
    folder = path.with_name(f".{path.name}.part")
    _remove(folder)
    for spilled in path.parent.glob(f"{_spill_prefix(path)}*"):
        _remove_abandoned(spilled)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def spill_folder(path: Path) -> Iterator[str]:
    """A folder for what DuckDB spills while one reader reads; "" where the reader may not create one.

    The reader holds a lock on the folder: one that nobody locks belongs to a killed process.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=_spill_prefix(path), dir=path.parent))
    except OSError:
        yield ""
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def copy_file(source: int, target: Path) -> None:
    """Copy an open file; file systems with reflink share its blocks instead of writing them again."""
    size = os.fstat(source).st_size
    with target.open("xb") as file:
        copied = 0
        try:
            while copied < size:
                count = os.copy_file_range(source, file.fileno(), min(size - copied, _CHUNK_BYTES), copied, copied)
                if not count:
                    break
                copied += count
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        file.seek(copied)
        while chunk := os.pread(source, 1 << 20, copied):
            file.write(chunk)
            copied += len(chunk)


def swap_in(part: Path, path: Path) -> None:
    """Replace a database by its finished copy, which keeps mode, owner and extended attributes; both are synced."""
    if path.exists():
        before, now = path.stat(), part.stat()
        if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            os.chown(part, before.st_uid, before.st_gid)
        shutil.copystat(path, part)
        # Backup programs notice a change by the time.
        os.utime(part)
    else:
        # The WAL of a file that was deleted does not belong to the new one.
        wal_path(path).unlink(missing_ok=True)
    _sync(part)
    part.replace(path)
    # Outside programs leave a WAL when they are killed. The copy contains its rows.
    wal_path(path).unlink(missing_ok=True)
    _sync(path.parent)


def is_mount_point(path: Path) -> bool:
    """Whether a single file is mounted at `path`; nothing can replace it then."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return False
    # The kernel writes a space, tab, line feed or backslash of a path as an octal number.
    escaped = str(path).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011").replace("\n", r"\012")
    return any(line.split(" ")[4:5] == [escaped] for line in lines)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _spill_prefix(path: Path) -> str:
    return f".{path.name}.read-"


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _remove_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
