"""Where things of ours are kept, and who else may write there."""

from __future__ import annotations

import grp
import json
import logging
import os
import pwd
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from specs import command_spec, constant

from packtivity import errors, folders, record
from packtivity.backends.registry import backend_from_string
from packtivity.runtimes import image_store
from packtivity.runtimes.base import Host
from packtivity.runtimes.images import Image
from packtivity.runtimes.oci import Docker
from packtivity.settings import current
from packtivity.spec.access import of_file
from packtivity.spec.fetch import fetch
from packtivity.spec.remote import WebFile
from packtivity.statecontexts import LocalFSState
from packtivity.worker import answer

NOBODY = 65534
BIN = Path(sys.executable).parent
ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can make others' directories")

SPEC = command_spec("true", constant({"o": 1}))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    monkeypatch.setattr(folders, "_warned", set())
    folders.look_above.cache_clear()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The directory for state and copies."""
    path = tmp_path / "place"
    path.mkdir(0o700)
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(path))
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(path))
    return path


def local(tmp_path):
    backend_from_string("local:1")[1].submit(SPEC, {}, LocalFSState([str(tmp_path / "work")]))


def multiproc(tmp_path):
    backend = backend_from_string("multiproc:1")[1]
    return backend.result(backend.submit(SPEC, {}, LocalFSState([str(tmp_path / "work")])))


def no_work_directory(_):
    document = {"version": 1, "spec": SPEC, "parameters": {}, "id": "one"}
    said = answer(document)
    if said["status"] != "succeeded":
        raise getattr(errors, said["error"]["type"])(said["error"]["message"])


def documents(_):
    file = WebFile("http://127.0.0.1:1/")
    fetch(file, of_file(file, current()), offline=True)


def images(_):
    image_store.folder()


def celery(tmp_path):
    app = pytest.importorskip("celery").Celery("folders", broker="memory://", backend="cache+memory://")
    from packtivity.backends.engines.celery import CeleryBackend

    CeleryBackend(app).submit(SPEC, {}, LocalFSState([str(tmp_path / "work")]))


USES = [local, multiproc, no_work_directory, documents, images, celery]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
@pytest.mark.parametrize("use", USES)
def test_a_directory_that_all_may_write_to_is_refused(place, tmp_path, mode, use):
    place.chmod(mode)
    with pytest.raises(errors.UnsafeDirectory, match="every user of this machine may write to") as caught:
        use(tmp_path)
    assert caught.value.exit_code == 15
    assert str(place) in str(caught.value)
    assert list(place.iterdir()) == []


@ROOT
@pytest.mark.parametrize("use", USES)
def test_a_directory_that_another_user_has_put_where_all_may_is_refused(tmp_path, monkeypatch, use):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    theirs = shared / "theirs"
    theirs.mkdir(0o755)
    os.chown(theirs, NOBODY, NOBODY)
    for name in ("", "/below"):
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", f"{theirs}{name}")
        monkeypatch.setenv("PACKTIVITY_CACHE_DIR", f"{theirs}{name}")
        with pytest.raises(errors.UnsafeDirectory, match="was put there by another user"):
            use(tmp_path)
    assert list(theirs.iterdir()) == []


@ROOT
@pytest.mark.parametrize("through", ["", "/below", "a link of ours"])
@pytest.mark.parametrize("use", USES)
def test_one_that_a_link_of_another_user_leads_to_is_refused(tmp_path, monkeypatch, use, through):
    shared, theirs = tmp_path / "shared", tmp_path / "theirs"
    shared.mkdir()
    shared.chmod(0o1777)
    theirs.mkdir(0o755)
    (shared / "link").symlink_to("../theirs")
    for path in (theirs, shared / "link"):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    (tmp_path / "own").symlink_to(shared / "link")
    chosen = tmp_path / "own" if through == "a link of ours" else f"{shared}/link{through}"
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(chosen))
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(chosen))
    with pytest.raises(errors.UnsafeDirectory, match="shared/link was put there by another user"):
        use(tmp_path)
    assert list(theirs.iterdir()) == []


def test_our_own_links_may_lead_anywhere(tmp_path, monkeypatch, caplog):
    (tmp_path / "real").mkdir(0o700)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(tmp_path / "real")
    (shared / "round").symlink_to("round")
    folders.check(str(shared / "link"), "")
    folders.check(str(shared / "round"), "")
    assert caplog.records == []


def test_a_command_says_so_and_ends_with_its_own_exit_code(place, tmp_path):
    place.chmod(0o777)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    argv = [BIN / "packtivity-run", "-b", "local:1", "--async", "-w", tmp_path / "work", tmp_path / "spec.json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 15
    assert f"every user of this machine may write to {place}" in done.stderr
    assert f"chmod go-w {place}" in done.stderr
    assert "Traceback" not in done.stderr


def is_of_a_group(place):
    os.chown(place, -1, NOBODY)
    place.chmod(0o2770)


def is_another_user_s(place):
    os.chown(place, NOBODY, -1)


@ROOT
@pytest.mark.parametrize("how", [is_of_a_group, is_another_user_s])
def test_one_that_others_can_change_is_used_with_one_warning(place, tmp_path, caplog, how):
    how(place)
    with caplog.at_level(logging.WARNING, "packtivity"):
        for _ in range(3):
            no_work_directory(tmp_path)
            images(tmp_path)
        assert multiproc(tmp_path).json() == {"o": 1}
    assert len([line for line in caplog.messages if str(place) in line]) == 1
    assert record.read_outcome(f"{place}/tasks/packtivity.one.outcome.json")["status"] == "succeeded"


@ROOT
def test_a_command_warns_of_one_that_others_can_change(place, tmp_path):
    is_of_a_group(place)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    argv = [BIN / "packtivity-run", "-b", "local:1", "-w", tmp_path / "work", tmp_path / "spec.json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count(f"{place} is writable by its group")) == (0, 1)


def test_one_whose_parent_has_no_sticky_bit_is_used_with_a_warning(place, tmp_path, caplog):
    tmp_path.chmod(0o777)
    with caplog.at_level(logging.WARNING, "packtivity"):
        no_work_directory(tmp_path)
    assert "can be replaced by every user of this machine" in caplog.text


@ROOT
def test_one_that_is_replaced_meanwhile_is_refused(place, tmp_path):
    tmp_path.chmod(0o777)
    no_work_directory(tmp_path)
    place.rename(tmp_path / "old")
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    with pytest.raises(errors.UnsafeDirectory):
        no_work_directory(tmp_path)


def test_our_own_group_is_nobody_else(place, tmp_path, caplog):
    if grp.getgrgid(os.getgid()).gr_name != pwd.getpwuid(os.getuid()).pw_name:
        pytest.skip("this system gives users no groups of their own")
    place.chmod(0o770)  # as on systems where each user has a group
    with caplog.at_level(logging.WARNING, "packtivity"):
        no_work_directory(tmp_path)
    assert caplog.messages == []


def test_in_a_shared_directory_ours_is_made_for_us_alone(tmp_path, monkeypatch):
    tmp_path.chmod(0o1777)
    before = os.umask(0)
    try:
        for name, use in (("a", local), ("b", multiproc), ("c", no_work_directory), ("d", celery)):
            monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "made" / name))
            use(tmp_path)
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "made").rglob("*") if path.is_dir()]
    assert len(made) > 8
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}


@pytest.mark.parametrize("place", ["its directory", "the file"])
def test_a_cluster_that_any_user_can_name_is_not_connected_to(tmp_path, place):
    pytest.importorskip("ipyparallel")
    from packtivity.backends.engines.ipyparallel_cluster import Cluster

    security = tmp_path / "security"
    security.mkdir()
    file = security / "ipcontroller-client.json"
    file.write_text("{}")
    (security if place == "its directory" else file).chmod(0o777)
    with pytest.raises(errors.UnsafeDirectory, match="every user of this machine may write to"):
        Cluster({"profile_dir": str(tmp_path)}).client  # noqa: B018 - that it connects is what is tested


@pytest.mark.parametrize("mask", [0, 0o002, 0o022])
def test_the_cache_that_we_make_is_one_that_we_use_without_a_word(tmp_path, monkeypatch, caplog, mask):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PACKTIVITY_CACHE_DIR", raising=False)
    monkeypatch.setattr(folders, "_is_own_group", lambda _: False)
    runtime = Docker(Host(1000, 1000, "ada"))
    before = os.umask(mask)
    try:
        with caplog.at_level(logging.WARNING):
            for name in ("one", "two"):
                image_store.write_note(runtime, Image(name, name))
                with image_store._one_at_a_time(f"{image_store.folder()}/{name}.lock", bool, bool):
                    assert image_store.read_note(runtime, name)
    finally:
        os.umask(before)
    assert caplog.records == []
    assert (tmp_path / "cache" / "packtivity" / "images").stat().st_mode & 0o022 == 0


def test_a_group_may_share_the_cache_that_it_has_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    before = os.umask(0o002)
    try:
        made = image_store.folder(make=True)
    finally:
        os.umask(before)
    assert os.stat(made).st_mode & 0o777 == 0o775


@pytest.mark.parametrize(
    ("part", "use"), [("images", images), ("tasks", local), ("tasks", no_work_directory), ("tasks", celery)]
)
def test_a_directory_inside_that_all_may_write_to_is_refused(place, tmp_path, part, use):
    (place / part).mkdir()
    (place / part).chmod(0o777)
    with pytest.raises(errors.UnsafeDirectory, match=f"may write to .*/{part}"):
        use(tmp_path)


def test_many_make_the_same_directories_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    def make(number, together):
        together.wait()
        folders.make_private(str(tmp_path / str(number) / "a" / "b" / "c"))

    with ThreadPoolExecutor(8) as threads:
        for number in range(100):
            together = Barrier(8)
            for done in [threads.submit(make, number, together) for _ in range(8)]:
                done.result()
    assert len(list(tmp_path.glob("*/a/b/c"))) == 100


def test_a_directory_below_nothing_cannot_be_made(monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    monkeypatch.setattr(os, "mkdir", lambda path, mode: (_ for _ in ()).throw(FileNotFoundError(2, "gone", path)))
    with pytest.raises(FileNotFoundError):
        folders.make_private("gone")


# --- no home ---


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """A user without HOME and without an entry in passwd, as containers and batch systems have them."""

    def nobody(_):
        raise KeyError("uid not found")

    for name in ("HOME", "PACKTIVITY_STATE_DIR", "PACKTIVITY_CACHE_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.chdir(tmp_path)
    return temporary / f"packtivity-{os.getuid()}"


@pytest.mark.parametrize("home", [None, "", "~", "here"])
def test_a_user_without_a_home_has_a_private_directory_and_none_called_tilde(homeless, monkeypatch, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert folders.state("tasks") == f"{homeless}/.local/state/packtivity/tasks"
    assert folders.cached(None) == f"{homeless}/.cache/packtivity"
    assert homeless.stat().st_mode & 0o777 == 0o700
    assert os.listdir() == ["temporary"]


@ROOT
def test_a_directory_that_another_user_has_put_there_first_is_refused(homeless):
    homeless.parent.chmod(0o1777)
    homeless.mkdir()
    os.chown(homeless, NOBODY, NOBODY)
    with pytest.raises(errors.UnsafeDirectory, match="was put there by another user"):
        folders.state("tasks")


IN_NO_LIST = """
import os, sys
from packtivity import folders
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
print(folders.state("tasks"))
"""


@ROOT
def test_a_user_who_is_in_no_list_has_a_directory_by_number(tmp_path):
    tmp_path.chmod(0o777)
    for above in takewhile(lambda folder: folder.name.startswith(("popen-", "pytest-")), tmp_path.parents):
        above.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-c", IN_NO_LIST]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{tmp_path}/packtivity-54321/.local/state/packtivity/tasks\n", done.stderr
    assert os.listdir(tmp_path) == ["packtivity-54321"]
