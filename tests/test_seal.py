"""The key of a user: one for all programs, and what is known by it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from packtivity import seal
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
