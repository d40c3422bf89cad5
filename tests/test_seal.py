"""The key of a user: one for all programs, and what is known by it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from packtivity import seal
from packtivity.errors import ConfigurationError
from packtivity.files import is_id


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(seal, "_keys", {})


def test_an_id_proves_whose_it_is():
    task_id = seal.own_id("18ec3a48ea0e43e4-b059f1ad")
    assert is_id(task_id)
    assert seal.is_own(task_id)
    assert not seal.is_own(task_id[:-1] + ("0" if task_id[-1] != "0" else "1"))
    assert not seal.is_own("0123456789abcdef-0000000000")


def test_another_user_s_id_is_not_ours(tmp_path, monkeypatch):
    task_id = seal.own_id("18ec3a48ea0e43e4-b059f1ad")
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "theirs"))
    assert not seal.is_own(task_id)


def test_replicas_may_share_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(tmp_path / "key"))
    task_id = seal.own_id("18ec3a48ea0e43e4-b059f1ad")
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "replica"))
    assert seal.is_own(task_id)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_programs_that_make_the_key_at_the_same_time_have_the_same_one():
    program = "from packtivity import seal; print(seal.user_key().hex())"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(6)]
    assert len({each.communicate()[0] for each in started}) == 1


def test_a_key_that_never_reached_the_disk_is_made_again(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "seal.key").touch()
    assert seal.is_own(seal.own_id("18ec3a48ea0e43e4-b059f1ad"))


def test_without_a_place_for_a_key_ids_are_given_and_nobody_s(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "file" / "state"))
    first, second = (seal.own_id("18ec3a48ea0e43e4-b059f1ad") for _ in range(2))
    assert first != second
    assert not seal.is_own(first)


# --- a key that replicas share ----------------------------------------------------------------------------------


def test_a_shared_key_may_be_a_link_as_secrets_of_kubernetes_are(tmp_path, monkeypatch):
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "key").write_bytes(b"k" * 40)
    (tmp_path / "key").symlink_to("..data/key")
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(tmp_path / "key"))
    assert seal.user_key() == b"k" * 40


@pytest.mark.parametrize("folder_mode", [0o770, 0o700])
def test_a_group_that_may_write_beside_it_may_read_a_shared_key(tmp_path, monkeypatch, folder_mode):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(folder_mode)
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(tmp_path / "shared" / "key"))
    assert seal.is_own(seal.own_id("18ec3a48ea0e43e4-b059f1ad"))
    mode = (tmp_path / "shared" / "key").stat().st_mode & 0o777
    assert mode == (0o640 if folder_mode == 0o770 else 0o600)


@pytest.mark.parametrize("fault", ["too short", "for everybody to write", "in no directory", "a directory"])
def test_a_shared_key_that_cannot_be_used_is_an_error_for_who_needs_it(tmp_path, monkeypatch, fault):
    path = tmp_path / "key"
    if fault == "in no directory":
        path = tmp_path / "missing" / "key"
    elif fault == "a directory":
        path.mkdir()
    else:
        path.write_bytes(b"k" * (31 if fault == "too short" else 32))
        path.chmod(0o600 if fault == "too short" else 0o602)
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(path))
    with pytest.raises(ConfigurationError, match=f"PACKTIVITY_SEAL_KEY_FILE: {path} "):
        seal.own_id("18ec3a48ea0e43e4-b059f1ad")
    assert not seal.is_own("18ec3a48ea0e43e4-b059f1ad00000000")


def test_a_key_where_everybody_may_write_is_not_believed(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "seal.key").write_bytes(b"k" * 32)
    (tmp_path / "state").chmod(0o777)
    assert seal.user_key() is None
