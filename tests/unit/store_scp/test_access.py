"""The files that hold, on their way from the supervisor to the workers."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp import files
from store_scp.access import Access, AccessFiles, HeldAccess, SharedFiles
from store_scp.certificates import CertificateWatch
from store_scp.errors import PolicyInvalid
from store_scp.settings import Settings

POLICY = '[[ae]]\nname = "{}"\n'


def settings(policy: Path) -> Settings:
    return Settings.from_env({"SCP_POLICY": str(policy)})


@given(st.dictionaries(st.text() | st.binary().map(os.fsdecode), st.binary()))
def test_any_files_arrive_as_they_were_sent(contents: dict[str, bytes]) -> None:
    shared = SharedFiles()
    shared.write(AccessFiles({"before": bytes(100)}))
    shared.write(AccessFiles(contents))
    assert shared.read() == AccessFiles(contents)
    os.close(shared._descriptor)


def test_files_that_are_being_written_are_none() -> None:
    shared = SharedFiles()
    assert shared.read() is None
    shared.write(AccessFiles({"policy.toml": b"a longer one"}))
    os.pwrite(shared._descriptor, b"half", 40)
    assert shared.read() is None


def test_what_was_read_is_what_another_process_builds_though_the_file_has_changed(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format("first"))
    access = Access.read(settings(policy))
    policy.write_text(POLICY.format("second"))
    again = Access.of(settings(policy), AccessFiles.from_bytes(access.files.to_bytes()))
    assert [each.name for each in again.policy.entries] == ["first"]


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("no policy")
    watch = CertificateWatch(lambda _: None)
    with pytest.raises(PolicyInvalid):
        HeldAccess(settings(policy), watch)
    policy.write_text(POLICY.format("first"))
    held = HeldAccess(settings(policy), watch)
    first = held.access
    policy.write_text("no policy")
    assert not held.reload()
    assert held.access is first
    assert held.shared.read() == first.files
    policy.write_text(POLICY.format("second"))
    assert held.reload()
    assert held.shared.read() == held.access.files != first.files


def test_a_file_that_is_far_too_large_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_BYTES", 1000)
    with pytest.raises(OSError, match="too large") as caught:
        files.read_file(Path("/dev/zero"))
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("descriptors", ["/proc/self/fd", "/nowhere"])
def test_a_library_reads_bytes_by_a_path_that_is_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch, descriptors: str
) -> None:
    monkeypatch.setattr(files, "_DESCRIPTORS", Path(descriptors))
    with files.path_of(b"secret") as path:
        assert Path(path).read_bytes() == b"secret"
    assert not Path(path).exists()
