"""Where documents come from: repositories, web addresses, the cache, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import pickle
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time
import traceback
from pathlib import Path

import pytest
from needs import missing
from webs import endless

from packtivity.errors import InvalidSpec, LoadError
from packtivity.settings import Settings
from packtivity.spec.document import load_document
from packtivity.spec.remote import GitLabFile, WebFile
from packtivity.spec.sources import LocalFile, locate

SHA = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "glpat-very-secret"
DEFAULTS = Settings()


def refused(*args, **kwargs) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load_document(*args, **kwargs)
    return caught.value


# --- forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toplevel", "spec", "url"),
    [
        ("github:me/repo", "a.yml", "https://raw.githubusercontent.com/me/repo/main/a.yml"),
        ("github:me/repo@v1", "a.yml", "https://raw.githubusercontent.com/me/repo/v1/a.yml"),
        (
            "github:me/repo@feature/x:sub/dir",
            "a.yml",
            "https://raw.githubusercontent.com/me/repo/feature/x/sub/dir/a.yml",
        ),
        ("github:me/repo:sub/", "../a.yml", "https://raw.githubusercontent.com/me/repo/main/a.yml"),
        ("github:me/repo", "a b.yml", "https://raw.githubusercontent.com/me/repo/main/a b.yml"),
        (
            "from-github/phenochain",
            "a.yml",
            "https://raw.githubusercontent.com/lukasheinrich/yadage-workflows/master/phenochain/a.yml",
        ),
        (
            "gitlab-cern:group/sub/repo",
            "a.yml",
            "https://gitlab.cern.ch/api/v4/projects/group%2Fsub%2Frepo/repository/files/a.yml/raw?ref=master",
        ),
        (
            "gitlab-cern:group/repo@v/1:sub",
            "x/a.yml",
            "https://gitlab.cern.ch/api/v4/projects/group%2Frepo/repository/files/sub%2Fx%2Fa.yml/raw?ref=v%2F1",
        ),
        ("https://host/dir", "a.yml", "https://host/dir/a.yml"),
        ("https://host/dir/", "../a.yml", "https://host/a.yml"),
        (None, "https://host/dir/a.yml", "https://host/dir/a.yml"),
        (".", "HTTP://host/a.yml", "HTTP://host/a.yml"),
        (None, "github:me/repo@v1:sub/a.yml", "https://raw.githubusercontent.com/me/repo/v1/sub/a.yml"),
        (
            "elsewhere",
            "gitlab-cern:me/repo:a.yml",
            "https://gitlab.cern.ch/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master",
        ),
    ],
)
def test_each_form_of_source_names_its_address(toplevel, spec, url):
    file, fragment = locate(spec + "#/x/y", toplevel, DEFAULTS)
    assert (file.url, fragment) == (url, "/x/y")


def test_hosts_come_from_the_settings():
    settings = Settings(github_raw_host="http://mirror/raw/", gitlab_host="http://lab/")
    assert locate("a.yml", "github:me/repo", settings)[0] == WebFile("http://mirror/raw/me/repo/main/a.yml")
    assert locate("a.yml", "gitlab-cern:me/repo", settings)[0] == GitLabFile("http://lab", "me/repo", "master", "a.yml")


@pytest.mark.parametrize(
    "toplevel", ["github:", "github:me", "github:me/repo@", "github:/repo", "gitlab-cern:me repo/x", "github:a/b?c"]
)
def test_a_source_that_names_no_repository_is_refused_with_the_form(toplevel):
    error = refused("a.yml", toplevel)
    assert "USER/REPOSITORY[@BRANCH_OR_COMMIT][:FOLDER]" in error.hint


@pytest.mark.parametrize("spec", ["", "#/a", "github:me/repo", "gitlab-cern:a:b:c:d"])
def test_a_spec_that_names_no_file_is_refused(spec):
    with pytest.raises(LoadError, match=r"names no file|which file"):
        locate(spec, None, DEFAULTS)


def test_the_dead_source_of_upstream_says_that_it_is_dead():
    assert "no longer served" in refused("name", "from-cap/12").message


def test_a_local_directory_that_looks_like_a_source_counts_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "from-github" / "x").mkdir(parents=True)
    (tmp_path / "from-github" / "x" / "a.yml").write_text("a: 1\n")
    assert load_document("a.yml", "from-github/x").data == {"a": 1}


def test_a_local_toplevel_may_be_written_as_a_file_address(tmp_path):
    (tmp_path / "a b.yml").write_text("a: 1\n")
    assert load_document("a b.yml", f"file://{tmp_path}").data == {"a": 1}


# --- reading over the network ------------------------------------------------------------------------------------


def test_a_spec_comes_from_github_with_the_files_it_refers_to(web, remote):
    web.routes["/me/repo/main/sub/a.yml"] = b"process: {$ref: 'p.yml#/cmd'}\nother: {$ref: ../b.json}\n"
    web.routes["/me/repo/main/sub/p.yml"] = b"cmd: {cmd: echo}\n"
    web.routes["/me/repo/main/b.json"] = b'{"b": [1, 2.5]}'
    found = load_document("a.yml", "github:me/repo:sub", settings=remote())
    assert found.data == {"process": {"cmd": "echo"}, "other": {"b": [1, 2.5]}}
    assert found.source == f"{web.url}/me/repo/main/sub/a.yml"
    assert str(found.position(("process", "cmd"))) == f"{web.url}/me/repo/main/sub/p.yml:1:12"
    assert found.excerpt(found.position(("process",))) == "cmd: {cmd: echo}"


def test_a_spec_comes_from_gitlab_with_the_files_it_refers_to(web, remote):
    files = "/api/v4/projects/group%2Frepo/repository/files"
    web.routes[f"{files}/sub%2Fa.yml/raw?ref=master"] = b"a: {$ref: ../b%20c.yml}\nb: {$ref: /b c.yml}\n"
    web.routes[f"{files}/b%20c.yml/raw?ref=master"] = b"1\n"
    found = load_document("a.yml", "gitlab-cern:group/repo:sub", settings=remote())
    assert found.data == {"a": 1, "b": 1}
    assert found.source == f"{web.url}/group/repo/-/raw/master/sub/a.yml"


def test_a_local_spec_may_refer_to_a_remote_document(web, remote, tmp_path):
    web.routes["/x/a.yml"] = b"a: {b: {$ref: 'c.yml'}}\n"
    web.routes["/x/c.yml"] = b"[1]\n"
    (tmp_path / "main.yml").write_text(f"one: {{$ref: '{web.url}/x/a.yml#/a/b'}}\n")
    assert load_document("main.yml", str(tmp_path), settings=remote()).data == {"one": [1]}


@pytest.mark.parametrize(
    ("toplevel", "reference"),
    [
        ("github:me/repo", "file:///etc/hostname"),
        ("github:me/repo", "ftp://host/x.yml"),
        ("github:me/repo", "http://[bad/x.yml"),
        ("github:me/repo", "data:text/plain,x"),
        ("gitlab-cern:me/repo", "file:///etc/hostname"),
        ("gitlab-cern:me/repo", "FILE:///etc/hostname"),
        ("gitlab-cern:me/repo", "http://[bad/x.yml"),
    ],
)
def test_a_remote_document_cannot_pull_in_local_files(web, remote, toplevel, reference):
    body = f"a: {{$ref: '{reference}'}}\n".encode()
    web.routes["/me/repo/main/a.yml"] = body
    web.routes["/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master"] = body
    with pytest.raises(InvalidSpec) as caught:
        load_document("a.yml", toplevel, settings=remote())
    (found,) = caught.value.diagnostics
    assert (found.code, found.path) == ("reference-not-allowed", ("a",))
    assert (found.position.line, found.position.column) == (1, 11)


def test_an_unknown_scheme_in_a_local_reference_is_refused(tmp_path):
    (tmp_path / "a.yml").write_text("a: {$ref: 'ftp://host/x'}\n")
    with pytest.raises(InvalidSpec, match="'ftp' are not known"):
        load_document("a.yml", str(tmp_path))


def test_an_absolute_reference_beyond_the_repository_stays_inside(web, remote):
    web.routes["/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master"] = b"{$ref: ../../../b.yml}\n"
    web.routes["/api/v4/projects/me%2Frepo/repository/files/b.yml/raw?ref=master"] = b"b\n"
    assert load_document("a.yml", "gitlab-cern:me/repo", settings=remote()).data == "b"


def test_a_gitlab_document_may_refer_to_a_web_address_and_to_itself(web, remote):
    web.routes["/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master"] = (
        f"a: {{$ref: '{web.url}/b.yml'}}\nb: {{$ref: '#/a'}}\n".encode()
    )
    web.routes["/b.yml"] = b"b\n"
    assert load_document("a.yml", "gitlab-cern:me/repo", settings=remote()).data == {"a": "b", "b": "b"}


# --- the token ---------------------------------------------------------------------------------------------------


def test_the_token_goes_to_gitlab(web, remote):
    web.routes["/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master"] = b"a: 1\n"
    load_document("a.yml", "gitlab-cern:me/repo", settings=remote(load_token=f"{TOKEN}\n"))
    load_document("a.yml", "gitlab-cern:me/repo", settings=remote(load_token=" "))
    assert web.tokens() == [TOKEN, None]


def test_the_token_goes_to_no_other_host(web, other_web, remote):
    other_web.routes["/me/repo/main/a.yml"] = b"a: {$ref: b.yml}\n"
    other_web.routes["/me/repo/main/b.yml"] = b"b\n"
    settings = remote(load_token=TOKEN, github_raw_host=other_web.url)
    load_document("a.yml", "github:me/repo", settings=settings)
    assert other_web.tokens() == [None, None]


def test_the_token_is_not_carried_along_when_the_host_changes(web, other_web, remote):
    start = "/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master"
    web.routes[start] = lambda handler: handler.answer(302, b"", Location="/next")
    web.routes["/next"] = lambda handler: handler.answer(307, b"", Location=f"{other_web.url}/there")
    other_web.routes["/there"] = lambda handler: handler.answer(301, b"", Location=f"{web.url}/back")
    web.routes["/back"] = b"a: 1\n"
    load_document("a.yml", "gitlab-cern:me/repo", settings=remote(load_token=TOKEN))
    assert web.tokens() == [TOKEN, TOKEN, TOKEN]
    assert other_web.tokens() == [None]


def test_the_token_of_an_https_host_never_goes_over_http(web, remote):
    web.routes["/a.yml"] = b"a: 1\n"
    settings = remote(load_token=TOKEN, gitlab_host=web.url.replace("http:", "https:"))
    load_document("a.yml", web.url, settings=settings)
    assert web.tokens() == [None]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_the_token_is_in_no_error_and_no_log(web, remote, status, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    web.routes["/a.yml"] = lambda handler: handler.answer(status, b"no")
    error = refused("a.yml", web.url, settings=remote(load_token=TOKEN))
    assert web.tokens() == [TOKEN]
    shown = "".join(traceback.format_exception(error)) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in shown + repr(error.__dict__) + repr(remote(load_token=TOKEN))
    assert TOKEN.encode() not in pickle.dumps(error)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_the_token_is_in_no_error_when_the_connection_fails(remote):
    error = refused("a.yml", "http://127.0.0.1:9", settings=remote(load_token=TOKEN, gitlab_host="http://127.0.0.1:9"))
    assert TOKEN not in "".join(traceback.format_exception(error))
    assert error.__context__ is None


def test_a_token_that_cannot_be_sent_is_told_without_showing_it(web, remote):
    error = refused("a.yml", web.url, settings=remote(load_token="se cret\nX: y"))
    assert "YADAGE_SCHEMA_LOAD_TOKEN" in error.message
    assert "cret" not in str(error).replace("secret", "")
    assert web.seen == []


def test_secrets_in_an_address_are_not_shown(web, remote):
    url = web.url.replace("//", "//me:pass@") + "/a.yml?private_token=abc&x=1"
    error = refused(url, settings=remote())
    assert "pass" not in str(error)
    assert "abc" not in str(error)
    assert "x=1" in str(error)


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "token", "words"),
    [
        (401, None, "set YADAGE_SCHEMA_LOAD_TOKEN"),
        (403, TOKEN, "wrong, expired"),
        (404, None, "a private repository answers like this without YADAGE_SCHEMA_LOAD_TOKEN"),
        (404, TOKEN, "Check the repository"),
        (429, None, "too many requests"),
        (500, None, "try again later"),
        (204, None, "Check the address"),
        (304, None, "Check the address"),
    ],
)
def test_each_refusal_of_gitlab_says_what_to_do(web, remote, status, token, words):
    web.routes["/a.yml"] = lambda handler: handler.answer(status, b"")
    error = refused("a.yml", web.url, settings=remote(load_token=token))
    assert f"{web.url}/a.yml: the server answers {status}" in error.message
    assert words in error.hint


@pytest.mark.parametrize(("status", "words"), [(401, "GitLab only"), (404, "Check the repository")])
def test_other_hosts_are_not_given_advice_about_tokens(web, remote, status, words):
    web.routes["/a.yml"] = lambda handler: handler.answer(status, b"")
    assert words in refused("a.yml", web.url, settings=remote(gitlab_host="https://lab")).hint


def test_what_gitlab_says_is_passed_on(web, remote):
    body = b'{"message":"404 Project Not Found"}'
    web.routes["/a.yml"] = lambda handler: handler.answer(404, body, Content_Type="application/json")
    assert "(404 Project Not Found)" in refused("a.yml", web.url, settings=remote()).message


def test_an_answer_that_is_json_without_a_message_is_no_trouble(web, remote):
    web.routes["/a.yml"] = lambda handler: handler.answer(404, b"{}", Content_Type="application/json")
    assert refused("a.yml", web.url, settings=remote()).message.endswith("404 Not Found")


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Sign in", b"\n <html lang=en>"])
def test_a_login_page_is_not_taken_for_a_spec(web, remote, body):
    web.routes["/a.yml"] = body
    error = refused("a.yml", web.url, settings=remote())
    assert "web page instead of YAML" in error.message
    assert "token" in error.hint


def test_an_unknown_host_is_named(remote, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", _no_name)
    assert "no host is called nowhere.example" in refused("http://nowhere.example/a.yml", settings=remote()).message


def _no_name(*_args, **_kwargs):
    raise socket.gaierror(-2, "Name or service not known")


def test_a_refused_connection_is_told(remote):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = refused(f"http://127.0.0.1:{port}/a.yml", settings=remote())
    assert "127.0.0.1 refuses the connection" in error.message
    assert "--offline" in error.hint


def test_a_proxy_that_is_not_there_is_told(remote, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "proxy" in refused("http://host.example/a.yml", settings=remote()).message


def test_a_server_that_does_not_speak_tls_is_told(web, remote):
    error = refused(web.url.replace("http:", "https:") + "/a.yml", settings=remote())
    assert "secure connection to 127.0.0.1 fails" in error.message


def test_a_certificate_nobody_vouches_for_is_told(remote, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    if not shutil.which("openssl"):
        missing("openssl", "install it to make certificates")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_shake_hands, args=(listening, context))
        thread.start()
        error = refused(f"https://127.0.0.1:{listening.getsockname()[1]}/a.yml", settings=remote())
        thread.join()
    assert "secure connection" in error.message
    assert "REQUESTS_CA_BUNDLE" in error.hint


def _shake_hands(listening, context):
    client, _ = listening.accept()
    with client:
        with contextlib.suppress(OSError):
            context.wrap_socket(client, server_side=True).close()


def test_a_connection_that_breaks_is_told(web, remote):
    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"a: 1\n")
        handler.close_connection = True

    web.routes["/a.yml"] = broken
    assert "the connection to 127.0.0.1 broke" in refused("a.yml", web.url, settings=remote()).message


def test_damaged_compression_is_told(web, remote):
    web.routes["/a.yml"] = lambda handler: handler.answer(200, b"no gzip", Content_Encoding="gzip")
    assert "damaged compressed data" in refused("a.yml", web.url, settings=remote()).message


def test_a_size_that_is_no_number_is_an_error_of_ours(web, remote):
    def odd(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "many")
        handler.end_headers()
        handler.close_connection = True

    web.routes["/a.yml"] = odd
    assert refused("a.yml", web.url, settings=remote())


def test_an_address_that_is_none_is_an_error_of_ours(remote):
    assert "cannot be fetched" in refused("http:///a.yml", settings=remote()).message
    assert "is no address" in refused("http://[::1/a.yml", settings=remote()).message
    assert "is no address: Port out of range" in refused("http://host:99999999/a.yml", settings=remote()).message
    error = refused("http://host/a.yml", settings=remote(gitlab_host="https://[lab"))
    assert "PACKTIVITY_GITLAB_HOST is no address" in error.message


def test_a_silent_server_is_cut_off(web, remote):
    over = threading.Event()
    web.routes["/a.yml"] = lambda _: over.wait(10)
    started = time.monotonic()
    error = refused("a.yml", web.url, settings=remote(download_timeout=0.3))
    over.set()
    assert "did not arrive within 0.3 seconds" in error.message
    assert time.monotonic() - started < 8


def test_a_trickling_server_is_cut_off(web, remote):
    over = threading.Event()

    def trickle(handler):
        handler.send_response(200)
        handler.end_headers()
        while not over.wait(0.05):
            handler.wfile.write(b"a")

    web.routes["/a.yml"] = trickle
    started = time.monotonic()
    error = refused("a.yml", web.url, settings=remote(download_timeout=0.5))
    over.set()
    assert "did not arrive within 0.5 seconds" in error.message
    assert "PACKTIVITY_DOWNLOAD_TIMEOUT" in error.hint
    assert time.monotonic() - started < 8


def test_a_name_server_that_does_not_answer_is_cut_off(remote, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: over.wait(10) and _no_name())
    started = time.monotonic()
    error = refused("http://host.example/a.yml", settings=remote(download_timeout=0.3))
    over.set()
    assert "did not arrive" in error.message
    assert time.monotonic() - started < 8


def test_a_document_as_large_as_allowed_comes_and_a_larger_one_does_not(web, remote):
    web.routes["/a.yml"] = b"a" * 1000
    assert load_document("a.yml", web.url, settings=remote(download_limit=1000)).data == "a" * 1000
    web.routes["/b.yml"] = b"a" * 1000
    error = refused("b.yml", web.url, settings=remote(download_limit=999))
    assert "larger than 999 bytes" in error.message
    assert "PACKTIVITY_DOWNLOAD_LIMIT" in error.hint


def test_a_document_that_does_not_say_its_size_is_cut_off_at_the_limit(web, remote):
    web.routes["/a.yml"], sent = endless(b"a" * 10_000, 2000)
    assert "larger than" in refused("a.yml", web.url, settings=remote(download_limit=50_000)).message
    assert sum(sent) < 20_000_000


def test_compressed_data_is_counted_unpacked(web, remote):
    bomb = gzip.compress(b"a" * 50_000_000)
    assert len(bomb) < 100_000
    web.routes["/a.yml"] = lambda handler: handler.answer(200, bomb, Content_Encoding="gzip")
    assert "larger than 100,000 bytes" in refused("a.yml", web.url, settings=remote(download_limit=100_000)).message


def test_compressed_documents_are_read(web, remote):
    body = gzip.compress(b"a: 1\n")
    web.routes["/a.yml"] = lambda handler: handler.answer(200, body, Content_Encoding="gzip")
    assert load_document("a.yml", web.url, settings=remote()).data == {"a": 1}


def test_redirects_are_followed_up_to_five(web, remote):
    for step in range(6):
        web.routes[f"/{step}"] = lambda handler, step=step: handler.answer(302, b"", Location=f"/{step + 1}")
    web.routes["/6"] = b"a: 1\n"
    assert load_document("1", web.url, settings=remote()).data == {"a": 1}
    assert "redirected more than 5 times" in refused("0", web.url, settings=remote()).message


def test_a_redirect_leads_to_http_and_https_only(web, remote, tmp_path):
    (tmp_path / "secret.yml").write_text("a: 1\n")
    web.routes["/a.yml"] = lambda handler: handler.answer(302, b"", Location=f"file://{tmp_path}/secret.yml")
    assert "not http or https (file:)" in refused("a.yml", web.url, settings=remote()).message


def test_a_redirect_from_https_to_http_is_refused():
    from packtivity.spec.fetch import _redirected

    with pytest.raises(LoadError, match=r"from https to plain http \(b\)"):
        _redirected("https://a/x", "http://b/x", "https://a/x")
    assert _redirected("http://a/x", "https://b/x", "http://a/x") == "https://b/x"


def test_a_broken_remote_document_is_explained_with_its_address(web, remote):
    web.routes["/a.yml"] = b"a: [1\n"
    with pytest.raises(InvalidSpec) as caught:
        load_document("a.yml", web.url, settings=remote())
    assert caught.value.diagnostics[0].position.file == f"{web.url}/a.yml"


def test_a_missing_remote_document_is_told_with_the_place_that_names_it(web, remote, tmp_path):
    (tmp_path / "main.yml").write_text(f"\none: {{$ref: '{web.url}/x.yml'}}\n")
    error = refused("main.yml", str(tmp_path), settings=remote())
    assert "x.yml: the server answers 404" in error.message
    assert f"(named at {tmp_path}/main.yml:2:13)" in error.message


# --- the cache ---------------------------------------------------------------------------------------------------


def test_a_commit_is_fetched_once_only(web, remote):
    web.routes[f"/me/repo/{SHA}/a.yml"] = b"a: 1\n"
    web.routes[f"/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref={SHA}"] = b"b: 1\n"
    for _ in range(3):
        assert load_document("a.yml", f"github:me/repo@{SHA}", settings=remote()).data == {"a": 1}
        assert load_document("a.yml", f"gitlab-cern:me/repo@{SHA}", settings=remote()).data == {"b": 1}
    assert len(web.seen) == 2


def test_forty_digits_elsewhere_in_an_address_pin_nothing(web, other_web, remote):
    web.routes[f"/me/{SHA}/main/a.yml"] = other_web.routes[f"/me/repo/{SHA}/a.yml"] = b"a: 1\n"
    for _ in range(2):
        load_document("a.yml", f"github:me/{SHA}", settings=remote())
        load_document(f"{other_web.url}/me/repo/{SHA}/a.yml", settings=remote())
    assert (len(web.seen), len(other_web.seen)) == (2, 2)


def test_a_branch_is_asked_for_each_time_but_sent_only_when_it_changed(web, remote):
    web.routes["/me/repo/main/a.yml"] = b"a: 1\n"
    assert load_document("a.yml", "github:me/repo", settings=remote()).data == {"a": 1}
    assert load_document("a.yml", "github:me/repo", settings=remote()).data == {"a": 1}
    web.routes["/me/repo/main/a.yml"] = b"a: 2\n"
    assert load_document("a.yml", "github:me/repo", settings=remote()).data == {"a": 2}
    asked = ["if-none-match" in one.headers for one in web.seen]
    assert asked == [False, True, True]


def test_a_server_without_versions_is_read_each_time(web, remote):
    web.etags = False
    web.routes["/a.yml"] = b"a: 1\n"
    for _ in range(2):
        load_document("a.yml", web.url, settings=remote())
    assert ["if-none-match" in one.headers for one in web.seen] == [False, False]


def test_offline_takes_what_the_cache_has_and_asks_nobody(web, remote):
    web.routes["/me/repo/main/a.yml"] = b"a: {$ref: b.yml}\n"
    web.routes["/me/repo/main/b.yml"] = b"b\n"
    load_document("a.yml", "github:me/repo", settings=remote())
    web.seen.clear()
    assert load_document("a.yml", "github:me/repo", settings=remote(offline=True)).data == {"a": "b"}
    assert load_document("a.yml", "github:me/repo", offline=True, settings=remote()).data == {"a": "b"}
    assert web.seen == []
    load_document("a.yml", "github:me/repo", offline=False, settings=remote(offline=True))
    assert len(web.seen) == 2


def test_offline_without_a_copy_says_what_the_cache_has(web, remote):
    error = refused("a.yml", "github:me/repo", offline=True, settings=remote())
    assert "not in the cache" in error.message
    assert "Load it once without --offline" in error.hint
    web.routes["/me/repo/main/a.yml"] = b"a: 1\n"
    load_document("a.yml", "github:me/repo", settings=remote())
    error = refused("b.yml", "github:me/repo", offline=True, settings=remote())
    assert error.hint == f"The cache has {web.url}/me/repo/main/a.yml."


def test_an_old_copy_is_never_used_silently(web, remote):
    web.routes["/a.yml"] = b"a: 1\n"
    load_document("a.yml", web.url, settings=remote())
    web.routes["/a.yml"] = lambda handler: handler.answer(503, b"")
    error = refused("a.yml", web.url, settings=remote())
    assert "503" in error.message
    assert f"--offline would use the copy of {time.strftime('%Y-%m-%d', time.gmtime())}" in error.hint


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[:-1],
        lambda content: content.replace(b"a: 1", b"a: 2"),
        lambda content: b"{}\n" + content,
        lambda content: b"[]\n" + content,
        lambda _: b"\xff\n",
        lambda _: b"[" * 100_000,
    ],
)
def test_a_damaged_copy_counts_as_none(web, remote, tmp_path, damage):
    web.routes[f"/me/repo/{SHA}/a.yml"] = b"a: 1\n"
    load_document("a.yml", f"github:me/repo@{SHA}", settings=remote())
    (kept,) = (tmp_path / "cache" / "documents").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert load_document("a.yml", f"github:me/repo@{SHA}", settings=remote()).data == {"a": 1}
    assert len(web.seen) == 2
    kept.write_bytes(damage(kept.read_bytes()))
    refused("b.yml", f"github:me/repo@{SHA}", offline=True, settings=remote())


def test_copies_are_for_the_user_only(web, remote, tmp_path):
    web.routes["/a.yml"] = b"a: 1\n"
    load_document("a.yml", web.url, settings=remote(load_token=TOKEN))
    (kept,) = (tmp_path / "cache" / "documents").iterdir()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert TOKEN.encode() not in kept.read_bytes()
    assert json.loads(kept.read_bytes().splitlines()[0])["url"] == f"{web.url}/a.yml"


def test_a_cache_that_cannot_be_written_keeps_nobody_from_loading(web, remote, tmp_path):
    web.routes["/a.yml"] = b"a: 1\n"
    (tmp_path / "file").write_text("")
    for _ in range(2):
        settings = remote(cache_dir=str(tmp_path / "file"))
        assert load_document("a.yml", web.url, settings=settings).data == {"a": 1}
    refused("b.yml", web.url, offline=True, settings=settings)


def test_a_failed_write_leaves_nothing_behind(web, remote, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    web.routes["/a.yml"] = b"a: 1\n"
    monkeypatch.setattr(os, "fsync", full)
    assert load_document("a.yml", web.url, settings=remote()).data == {"a": 1}
    assert list((tmp_path / "cache" / "documents").iterdir()) == []


def test_many_at_once_see_whole_documents(web, remote):
    body = b"- " + b"x" * 200_000 + b"\n"
    web.routes["/a.yml"] = body
    whole = []

    def load():
        whole.extend(load_document("a.yml", web.url, settings=remote()).data == ["x" * 200_000] for _ in range(5))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole == [True] * 20


def test_without_a_setting_the_cache_is_the_users(web, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("PACKTIVITY_GITHUB_RAW_HOST", web.url)
    web.routes["/me/repo/main/a.yml"] = b"a: 1\n"
    load_document("a.yml", "github:me/repo")
    assert len(list((tmp_path / "xdg" / "packtivity" / "documents").iterdir())) == 1


# --- local files -------------------------------------------------------------------------------------------------


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path):
    (tmp_path / "delphes.yml").write_text("")
    error = refused("delfes.yml", str(tmp_path))
    assert f"no such file in {tmp_path}" in error.message
    assert error.hint == "Did you mean 'delphes.yml'?"


def test_a_missing_file_is_told_with_what_there_is(tmp_path):
    assert refused("zzz", str(tmp_path)).hint == "It has no YAML files."
    for number in range(9):
        (tmp_path / f"a{number}.yml").write_text("")
    assert refused("zzz", str(tmp_path)).hint.endswith("a7.yml, ….")


def test_a_missing_directory_is_told_with_what_is_there_of_it(tmp_path):
    error = refused("a.yml", str(tmp_path / "no" / "such"))
    assert f"there is no directory {tmp_path}/no/such" in error.message
    assert f"{tmp_path} is there" in error.hint


def test_a_file_taken_for_a_directory_is_told(tmp_path):
    (tmp_path / "a.yml").write_text("")
    assert "there is no directory" in refused("b.yml", str(tmp_path / "a.yml")).message


def test_a_directory_taken_for_a_spec_is_told_with_its_files(tmp_path):
    assert "no YAML files" in refused(str(tmp_path)).hint
    (tmp_path / "a.yml").write_text("")
    assert "Name a file in it: a.yml" in refused(str(tmp_path)).hint


def test_a_name_that_cannot_be_one_is_told():
    assert "cannot be read" in refused("a\0b.yml").message
    assert "File name too long" in refused("a" * 5000).message


def test_a_file_that_never_ends_is_cut_off(monkeypatch):
    from packtivity.spec import sources

    monkeypatch.setattr(sources, "LOCAL_LIMIT", 1000)
    assert "larger than 1,000 bytes" in refused("/dev/zero").message


def test_an_unreadable_file_is_told(tmp_path, monkeypatch):
    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    assert "Permission denied" in refused("a.yml", str(tmp_path)).message


def test_a_directory_that_cannot_be_listed_is_no_second_error(tmp_path, monkeypatch):
    def denied(*_args):
        raise PermissionError

    monkeypatch.setattr(os, "listdir", denied)
    assert "no such file" in refused("a.yml", str(tmp_path)).message


@pytest.mark.parametrize(
    ("name", "error"), [("no.yml", FileNotFoundError), ("a.yml/b", NotADirectoryError), (".", IsADirectoryError)]
)
def test_what_the_system_refuses_is_an_error_of_the_system_too(tmp_path, name, error):
    (tmp_path / "a.yml").write_text("")
    with pytest.raises(error) as caught:
        load_document(name, str(tmp_path))
    assert isinstance(caught.value, LoadError)
    assert caught.value.filename


def test_a_spec_can_come_through_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: Path(pipe).write_text("a: 1\n"))
    thread.start()
    assert load_document(str(pipe)).data == {"a": 1}
    thread.join()


def test_places_of_local_files_are_the_same_whatever_they_are_called():
    assert LocalFile("/a", "x") == LocalFile("/a", "y")
