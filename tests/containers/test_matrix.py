"""The same tasks on every container tool, by root and by an ordinary user: the same files, owners and results."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import threading
import time
from pathlib import Path
from typing import Any

import pytest

OUT = {"out": "{workdir}/out"}


def owner(path: Path) -> int:
    return path.lstat().st_uid


def test_a_command_runs_with_its_variables_and_publishes(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec(
        'printf "%s|%s|%s" "$WORD" "$FROM_IMAGE" {who} > {out}', env={"WORD": "$(id) `id` \"a\" 'b' \\ \n é"}
    )
    done = lab.run(spec, {**OUT, "who": "me"}, workdir, "-o", str(workdir / "result.json"))
    assert (done.code, done.err) == (0, "")
    assert (workdir / "out").read_text() == "$(id) `id` \"a\" 'b' \\ \n é|yes|me"
    assert json.loads((workdir / "result.json").read_text()) == {"out": f"{workdir}/out"}
    assert owner(workdir / "out") == lab.person.uid
    assert lab.containers() == []


def test_a_script_goes_to_its_interpreter_after_the_environment_script(lab: Any) -> None:
    workdir = lab.workdir()
    process = {
        "process_type": "interpolated-script-cmd",
        "interpreter": "sh -e",
        "script": "echo $FROM_ENVSCRIPT > {out}\ncat >> {out} <<'E'\n{text}\nE\n",
    }
    done = lab.run(lab.spec(process, envscript="/etc/setup.sh"), {**OUT, "text": "é $x"}, workdir)
    assert (done.code, done.err) == (0, "")
    assert (workdir / "out").read_text() == "yes\né $x\n"


def test_outputs_belong_to_the_caller_whose_home_can_be_written(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec(
        'mkdir {workdir}/d && echo 1 > {workdir}/d/f && id -u && echo 1 > "$HOME/x" && echo "$USER" > {out}'
    )
    done = lab.run(spec, {**OUT, "workdir": "{workdir}"}, workdir, "--user", "caller")
    assert (done.code, done.err) == (0, "")
    assert {owner(path) for path in [*workdir.rglob("*")]} == {lab.person.uid}
    assert done.lines() == [str(lab.person.uid)]
    assert (workdir / "out").read_text() == f"{lab.person.name}\n"
    own = lab.run(spec, {**OUT, "workdir": "{workdir}"}, lab.workdir())
    assert (own.code, own.err) == (0, "")
    assert {owner(path) for path in [*own.workdir.rglob("*")]} == {lab.person.uid}
    assert own.lines() == [str(lab.person.uid) if lab.kind == "apptainer" else "0"]


def test_read_only_is_read_only_and_nothing_else_is_there(lab: Any) -> None:
    workdir, other, hidden = lab.workdir(), lab.workdir(), lab.workdir()
    (other / "in").write_text("input")
    spec = lab.spec(f"cat {{file}} > {{out}}; ls {hidden}; echo x > {{file}}")
    done = lab.run(spec, {**OUT, "file": "{readdir0}/in"}, workdir, "-r", str(other))
    assert done.code == 6
    assert "Read-only file system" in done.err
    assert f"{hidden}: No such file" in done.log()
    assert (workdir / "out").read_text() == (other / "in").read_text() == "input"


def test_parameters_appear_as_files(lab: Any) -> None:
    workdir = lab.workdir()
    mounts = [
        {"jqscript": "{who: .who}", "mountpath": "/conf/a.json"},
        {"jqscript": ".list[]", "mountpath": "/conf/b c.txt"},
    ]
    done = lab.run(
        lab.spec("cat /conf/a.json > {out}; echo >> {out}; cat '/conf/b c.txt' >> {out}", par_mounts=mounts),
        {**OUT, "who": "é", "list": [1, "x"]},
        workdir,
    )
    assert (done.code, done.err) == (0, "")
    document, *rest = (workdir / "out").read_text().splitlines()
    assert json.loads(document) == {"who": "é"}
    assert rest == ["1", '"x"']


def test_the_work_directory_is_the_one_asked_for_or_the_image_s(lab: Any) -> None:
    workdir = lab.workdir(" a:b")
    asked = lab.run(lab.spec("pwd; echo here > out", workdir="{workdir}"), OUT, workdir)
    assert (asked.code, asked.lines()) == (0, [str(workdir)])
    assert (workdir / "out").read_text() == "here\n"
    other = lab.workdir()
    assert lab.run(lab.spec("pwd; echo > {out}"), OUT, other).lines() == ["/srv"]


def test_a_failure_keeps_its_exit_code_and_last_words(lab: Any) -> None:
    workdir = lab.workdir()
    done = lab.run(lab.spec("echo my last words >&2; exit 42"), OUT, workdir)
    assert done.code == 6
    assert "exit code 42" in done.err
    assert "my last words" in done.err
    assert done.note["exit_code"] == 42
    assert lab.containers() == []
    assert "Traceback" not in done.err


def test_exit_codes_of_tools_are_not_mistaken(lab: Any) -> None:
    for code in (125, 126, 127, 255):
        done = lab.run(lab.spec(f"echo of the task itself; exit {code}"), OUT, lab.workdir())
        assert (done.code, f"exit code {code}" in done.err) == (6, True)


def test_the_time_limit_ends_the_container(lab: Any) -> None:
    workdir = lab.workdir()
    began = time.monotonic()
    done = lab.run(lab.spec("echo started; sleep 60"), OUT, workdir, "--timeout", "2s")
    assert done.code == 7
    assert time.monotonic() - began < 25
    assert lab.containers() == []


def test_a_second_run_in_the_same_directory_works_and_leaves_no_cid_file(lab: Any) -> None:
    workdir = lab.workdir()
    for _ in range(2):
        assert lab.run(lab.spec("echo again >> {out}"), OUT, workdir).code == 0
    assert (workdir / "out").read_text() == "again\nagain\n"
    assert list(workdir.rglob("*.cid")) == []
    names = sorted(path.name for path in (workdir / "_packtivity").iterdir() if ".pull." not in path.name)
    assert names == [
        f"packtivity_syncbackend.{end}" for end in ("container.json", "outcome.json", "run.log", "step.log")
    ]


def test_the_digest_is_recorded_and_can_be_locked(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec("echo > {out}")
    assert lab.run(spec, OUT, workdir).code == 0
    digest = lab.run(spec, OUT, workdir).note["digest"]
    assert digest.startswith("sha256:")
    lock = lab.folder / "packtivity.lock"
    spec_file = lab.folder / "lock.json"
    spec_file.write_text(json.dumps(spec))
    code = "from packtivity.cli.declarations import lock; lock()"
    written = lab.program(code, "--runtime", lab.tool, "--lockfile", str(lock), str(spec_file))
    assert written.returncode == 0, written.stderr
    assert json.loads(lock.read_text())["images"] == {lab.image: digest}
    assert lab.run(spec, OUT, workdir, "--locked", "--lockfile", str(lock)).code == 0
    lock.write_text(lock.read_text().replace(digest, "sha256:" + "0" * 64))
    refused = lab.run(spec, OUT, workdir, "--locked", "--lockfile", str(lock))
    assert refused.code == 10
    assert "0" * 64 in refused.err
    lock.write_text('{"version": 1, "images": {}}')
    assert "not in the lock file" in lab.run(spec, OUT, workdir, "--locked", "--lockfile", str(lock)).err


def test_a_python_image_knows_its_user(lab: Any) -> None:
    workdir = lab.workdir()
    image, _, tag = lab.python_image.rpartition(":")
    process = {
        "process_type": "interpolated-script-cmd",
        "interpreter": "python3",
        "script": "import getpass\nopen('{out}', 'w').write(getpass.getuser())",
    }
    for user, name in (("caller", lab.person.name), ("image", "root")):
        if lab.kind == "apptainer" and user == "image":
            continue
        done = lab.run(lab.spec(process, image=image, imagetag=tag), OUT, workdir, "--user", user)
        assert (done.code, done.err) == (0, "")
        assert (workdir / "out").read_text() == name


def test_authentication_mounts_the_directory_of_credentials(lab: Any) -> None:
    workdir, secrets = lab.workdir(), lab.workdir()
    (secrets / "getkrb.sh").write_text("echo got a ticket\n")
    for resources in (["KRB5Auth"], [{"kerberos": True}], ["GRIDProxy"]):
        done = lab.run(
            lab.spec("sh $KRB_SETUP_SCRIPT > {out}", resources=resources),
            OUT,
            workdir,
            env={"PACKTIVITY_AUTH_LOCATION": str(secrets)},
        )
        assert (done.code, done.err) == (0, "")
        assert (workdir / "out").read_text() == "got a ticket\n"
    lost = lab.run(
        lab.spec("true", resources=["KRB5Auth"]), OUT, workdir, env={"PACKTIVITY_AUTH_LOCATION": f"{secrets}/no"}
    )
    assert (lost.code, "PACKTIVITY_AUTH_LOCATION" in lost.err) == (0, True)
    assert not (secrets / "no").exists()


def token(lab: Any, lifetime: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + lifetime}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{claims}.sig"


def test_credentials_of_the_caller_are_passed_on_while_they_live(lab: Any) -> None:
    workdir, proxy = lab.workdir(), lab.folder / "x509up"
    proxy.write_text("a proxy without certificates")
    os.chown(proxy, lab.person.uid, lab.person.gid)
    proxy.chmod(0o600)
    spec = lab.spec('(cat "$X509_USER_PROXY"; echo " $BEARER_TOKEN") > {out}', resources=[{"voms_proxy": True}])
    good = token(lab, 3600)
    done = lab.run(spec, OUT, workdir, env={"X509_USER_PROXY": str(proxy), "BEARER_TOKEN": good})
    assert (done.code, done.err) == (0, "")
    assert (workdir / "out").read_text() == f"a proxy without certificates {good}\n"
    assert good not in done.log("step")
    late = lab.run(spec, OUT, workdir, env={"BEARER_TOKEN": token(lab, -5)})
    assert (late.code, late.err.count("has expired"), late.err.count("no grid proxy")) == (0, 1, 1)
    assert lab.run(spec, OUT, workdir, "--strict", env={"BEARER_TOKEN": token(lab, -5)}).code == 10


def test_cvmfs_is_bound_read_only(lab: Any) -> None:
    workdir, cvmfs = lab.workdir(), lab.workdir()
    (cvmfs / "software").write_text("a release")
    spec = lab.spec("cp /cvmfs/software {out}; ! touch /cvmfs/x", resources=["CVMFS"])
    done = lab.run(spec, OUT, workdir, env={"PACKTIVITY_CVMFS_LOCATION": str(cvmfs)})
    assert (done.code, done.err) == (0, "")
    assert (workdir / "out").read_text() == "a release"
    spec = lab.spec("ls -d /cvmfs > {out} 2>&1 || true", resources=["CVMFS"])
    for options in ((), ("--print-command",), ("--dry-run",)):
        none = lab.run(spec, OUT, workdir, *options, env={"PACKTIVITY_CVMFS_LOCATION": f"{cvmfs}/no"})
        assert (none.code, none.err.count("asks for CVMFS")) == (0, 1)
        assert f"{cvmfs}/no" not in none.out


def test_another_user_inside_still_writes_for_the_caller(lab: Any) -> None:
    workdir = lab.workdir()
    done = lab.run(lab.spec("id -u > {out}", resources=[{"kubernetes_uid": 500}]), OUT, workdir)
    assert (done.code, done.err) == (0, "")
    # Apptainer's tasks are the caller; there is no way to be somebody else
    assert (workdir / "out").read_text() == (f"{lab.person.uid}\n" if lab.kind == "apptainer" else "500\n")
    assert owner(workdir / "out") == lab.person.uid


def test_another_user_inside_writes_over_what_an_earlier_run_has_left(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec("mkdir -p {workdir}/deep; echo $$ >> {out}; echo x >> {workdir}/deep/file")
    parameters = {**OUT, "workdir": "{workdir}"}
    for runs in (1, 2):
        done = lab.run(spec, parameters, workdir, "--user", "500")
        warned = re.findall(r"warning\[(.*)\]: --user 500 has no effect", done.err)
        assert (done.code, warned) == (0, ["option-ignored"] if lab.kind == "apptainer" else [])
        assert lab.kind == "apptainer" or done.err == ""
        assert (workdir / "deep" / "file").read_text() == "x\n" * runs
    assert owner(workdir / "out") == owner(workdir / "deep" / "file") == lab.person.uid
    assert (workdir / "out").stat().st_mode & 0o777 == 0o644


def test_running_out_of_memory_is_called_that(lab: Any) -> None:
    if lab.person.uid != 0 and lab.tool != "docker":
        pytest.skip("ordinary users cannot limit memory under cgroups version 1")
    done = lab.run(lab.spec("tail /dev/zero"), OUT, lab.workdir(), "--memory", "50M", "--cpus", "1")
    assert (done.code, "ran out of memory of 50 MiB" in done.err) == (6, True)


def test_network_none_has_no_way_out_and_host_has(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec("cat /proc/net/route | wc -l > {out}")
    assert lab.run(spec, OUT, workdir).code == 0
    assert (workdir / "out").read_text().strip() in ("0", "1")
    assert lab.run(spec, OUT, workdir, "--network", "host").code == 0
    assert int((workdir / "out").read_text()) > 1


def test_images_are_pulled_when_the_policy_says_so(lab: Any) -> None:
    workdir = lab.workdir()
    image, _, _tag = lab.image.rpartition(":")
    never = lab.run(lab.spec("true", image=f"{image}-gone"), OUT, workdir, "--pull", "never")
    assert (never.code, "pulling is disabled" in never.err) == (10, True)
    gone = lab.run(lab.spec("true", image=f"{image}-gone"), OUT, workdir)
    assert (gone.code, "cannot be pulled" in gone.err) == (10, True)
    assert lab.run(lab.spec("echo > {out}"), OUT, workdir, "--pull", "always").code == 0
    assert "127.0.0.1" in lab.run(lab.spec("echo > {out}"), OUT, workdir).log("step")
    env = {"PACKTIVITY_DOCKER_NOPULL": "1"}
    assert "is disabled" in lab.run(lab.spec("true", image=f"{image}-gone"), OUT, workdir, env=env).err


def test_an_image_that_was_removed_is_fetched_again(lab: Any) -> None:
    if lab.kind == "apptainer":
        pytest.skip("images are files in our own cache")
    workdir = lab.workdir()
    image, _, _tag = lab.image.rpartition(":")
    other = f"{image}@{lab.run(lab.spec('echo > {out}'), OUT, workdir).note['digest']}"
    spec = lab.spec("echo > {out}", image=other, imagetag="latest")
    assert lab.run(spec, OUT, workdir).code == 0
    lab.person.run([lab.tool, "rmi", "-f", other])
    lab.person.run([lab.tool, "rmi", "-f", lab.image])
    done = lab.run(spec, OUT, workdir)
    assert (done.code, done.err) == (0, "")


def test_many_tasks_pull_an_image_once(lab: Any) -> None:
    if lab.kind != "apptainer":
        lab.person.run([lab.tool, "rmi", "-f", lab.image])
    lab.extra = {"PACKTIVITY_CACHE_DIR": str(lab.folder / "empty-cache")}
    workdirs = [lab.workdir() for _ in range(4)]
    spec = lab.spec("echo > {out}")
    results: list[Any] = []
    threads = [threading.Thread(target=lambda w=w: results.append(lab.run(spec, OUT, w))) for w in workdirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.code for result in results] == [0, 0, 0, 0]
    pulls = [result for result in results if (result.workdir / "_packtivity/packtivity_syncbackend.pull.log").exists()]
    assert len(pulls) == 1


def test_folders_and_sif_files_are_images_where_the_tool_can(lab: Any) -> None:
    workdir = lab.workdir()
    source = Path("/var/lib/packtivity-engines/busybox")
    folder = lab.run(
        lab.spec("echo folder > {out}", image=str(source), imagetag="latest"), OUT, workdir, "--image-dir", str(source)
    )
    if lab.tool == "docker" or (lab.tool == "podman" and lab.person.uid != 0):
        assert (folder.code, f"{lab.tool} cannot run the folder" in folder.err) == (10, True)
        return
    assert (folder.code, folder.err) == (0, "")
    assert (workdir / "out").read_text() == "folder\n"
    gone = lab.run(lab.spec("true", image="/cvmfs/unpacked.cern.ch/x/y:1"), OUT, workdir)
    assert (gone.code, "/cvmfs" in gone.err) == (10, True)


def test_the_printed_command_does_the_same_by_hand(lab: Any) -> None:
    workdir = lab.workdir(" q'x\"y")
    process = {"process_type": "interpolated-script-cmd", "script": "cat /conf > {out}", "interpreter": "sh"}
    mounts = [{"jqscript": ".", "mountpath": "/conf"}]
    spec = lab.spec(process, par_mounts=mounts, env={"A": "x y"})
    printed = lab.run(spec, {"out": "{workdir}/out"}, workdir, "--print-command")
    assert printed.code == 0
    assert not (workdir / "out").exists()
    quoted = lab.spec({**process, "script": "cat /conf > out"}, par_mounts=mounts, workdir="{workdir}")
    line = lab.run(quoted, OUT, workdir, "--print-command").out
    # Apptainer's has a "$(mktemp -d)" in it, which goes with the folder of the test.
    assert lab.person.run(["sh", "-c", f"export TMPDIR={shlex.quote(str(workdir.parent))}; {line}"]).returncode == 0
    assert json.loads((workdir / "out").read_text()) == {"out": f"{workdir}/out"}
