"""Claims on the folder of partial files, and who sweeps what."""

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_scp.errors import CannotStart
from store_scp.sinks.incoming import Claim, Directory, prepare_directory, sweep


def partial(claim: Claim) -> Path:
    path = Path(claim.partial())
    path.touch()
    return path


def test_a_sweep_removes_what_is_nobodys_and_nothing_else(tmp_path: Path) -> None:
    alive, dead = Claim(tmp_path), Claim(tmp_path)
    kept, gone = partial(alive), partial(dead)
    os.close(dead._descriptor)  # as its worker's end does it
    (tmp_path / "0123").touch()
    (tmp_path / "0123456789abcdef-7").touch()
    sweep(tmp_path)
    assert not gone.exists()
    assert set(tmp_path.iterdir()) == {kept, alive._path}
    alive.release()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_two_partial_files_have_one_name(tmp_path: Path) -> None:
    claims = [Claim(tmp_path), Claim(tmp_path)]
    names = [each.partial() for each in claims * 3]
    assert len(set(names)) == len(names)


def test_a_claim_that_a_sweep_takes_at_its_birth_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    born: list[Path] = []
    lock = fcntl.flock

    def swept_before(descriptor: int, operation: int) -> None:
        if not born:
            born.extend(tmp_path.iterdir())
            sweep(tmp_path)  # in another process
        lock(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", swept_before)
        claim = Claim(tmp_path)
    assert born
    assert [*tmp_path.iterdir()] == [claim._path] != born
    claim.check()


def test_a_claim_that_is_gone_or_another_is_none(tmp_path: Path) -> None:
    claim = Claim(tmp_path)
    claim.check()
    claim._path.unlink()
    with pytest.raises(FileNotFoundError):
        claim.check()
    claim._path.touch()
    with pytest.raises(FileNotFoundError):
        claim.check()
    claim.release()
    assert claim._path.exists()  # it is somebody else's


@dataclass
class Space:
    """What statvfs() tells."""

    f_flag: int = 0
    f_blocks: int = 100
    f_bavail: int = 10
    f_files: int = 100
    f_favail: int = 10


@pytest.mark.parametrize(
    ("space", "number"),
    [
        (Space(), None),
        (Space(f_flag=os.ST_RDONLY), errno.EROFS),
        (Space(f_bavail=0), errno.ENOSPC),
        (Space(f_favail=0), errno.ENOSPC),
        (Space(f_blocks=0, f_bavail=0, f_files=0, f_favail=0), None),
    ],
)
def test_a_disk_that_is_read_only_or_full_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Space, number: int | None
) -> None:
    claim = Claim(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: space)
    if number is None:
        claim.check()
        return
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        claim.check()
    assert caught.value.errno == number


def test_the_root_is_made_at_the_start_only(tmp_path: Path) -> None:
    directory = prepare_directory(tmp_path / "deep" / "storage")
    assert not directory.mounted
    directory.incoming.rmdir()
    directory.claim().release()
    directory.incoming.rmdir()
    directory.root.rmdir()
    with pytest.raises(FileNotFoundError):
        directory.claim()
    assert not directory.root.exists()


def test_a_disk_that_is_mounted_no_more_is_not_written_under(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such device"):
        Directory(tmp_path, mounted=True).claim()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(CannotStart, match="No locks available"):
        prepare_directory(tmp_path)
    assert list((tmp_path / ".incoming").iterdir()) == []
