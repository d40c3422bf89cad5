"""What a stranger's document cannot make us do: reach into the user's network, or give the user's logins away.

Servers are real ones on loopback; only names and addresses are a test's own. ``stranger`` serves the documents of
somebody we do not know, ``inner`` is a server in the user's network that must not be asked.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
import traceback

import pytest
from webs import certified, serve

from packtivity.errors import ConfigurationError, LoadError
from packtivity.settings import Settings
from packtivity.spec import load as load_spec
from packtivity.spec.document import load_document

TOKEN = "glpat-very-secret"
SHA = "0123456789abcdef0123456789abcdef01234567"
PUBLIC, ELSEWHERE = "93.184.216.34", "93.184.216.35"
PRIVATE_NAMES = {
    "ten.example": "10.1.2.3",
    "twelve.example": "172.20.0.1",
    "home.example": "192.168.1.1",
    "metadata.example": "169.254.169.254",
    "azure.example": "168.63.129.16",
    "carrier.example": "100.64.0.1",
    "group.example": "224.0.0.1",
    "reserved.example": "240.0.0.1",
    "any.example": "0.0.0.0",
    "loop.example": "127.0.0.53",
    "x.localhost": "127.0.0.1",
    "six.example": "::1",
    "mapped.example": "::ffff:10.1.2.3",
    "compatible.example": "::127.0.0.1",
    "nat.example": "64:ff9b::7f00:1",
    "sixtofour.example": "2002:7f00:1::",
    "unique.example": "fd00:ec2::254",
    "link.example": "fe80::1",
    "site.example": "fec0::1",
    "multicast.example": "ff02::1",
}
SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0x7f000001",
    "0177.0.0.1",
    "017700000001",
    "localhost",
    "LOCALHOST",
    "0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
]


@pytest.fixture
def stranger(web, internet):
    """A server at a public address, called stranger.example and raw.example."""
    internet.names["stranger.example"] = internet.names["raw.example"] = [PUBLIC]
    return web


@pytest.fixture
def inner(other_web):
    other_web.routes["/secret.yml"] = b"secret: word\n"
    return other_web


@pytest.fixture
def lab():
    """The user's GitLab server, at a public address."""
    yield from serve()


@pytest.fixture
def usual(stranger, lab, internet, tmp_path, monkeypatch):
    """Settings of a user who has a token for lab.example."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    internet.names["lab.example"] = [ELSEWHERE]
    given = {"github_raw_host": stranger.at("raw.example"), "gitlab_host": lab.at("lab.example"), "load_token": TOKEN}

    def settings(**changes) -> Settings:
        return Settings(**{**given, "cache_dir": str(tmp_path / "cache"), "download_timeout": 5.0, **changes})

    return settings


@pytest.fixture
def netrc(tmp_path):
    def write(**machines):
        lines = [f"machine {host.replace('_', '.')} login ada password {word}\n" for host, word in machines.items()]
        (tmp_path / "netrc").write_text("".join(lines))
        (tmp_path / "netrc").chmod(0o600)

    return write


def basic(user: str, word: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()


def refused(*args, **kwargs) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load_document(*args, **kwargs)
    return caught.value


def refers(address: str) -> bytes:
    return json.dumps({"a": {"$ref": address}}).encode()


def raw(project: str, path: str, ref: str = "master") -> str:
    return f"/api/v4/projects/{project.replace('/', '%2F')}/repository/files/{path}/raw?ref={ref}"


# --- into the user's network -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "host"),
    [
        *(("reference", host) for host in [*SPELLINGS, *PRIVATE_NAMES]),
        *(("redirect", host) for host in [*SPELLINGS, *PRIVATE_NAMES]),
    ],
)
def test_no_document_and_no_server_leads_into_a_private_network(stranger, inner, internet, usual, how, host):
    internet.names.update({name: [address] for name, address in PRIVATE_NAMES.items()})
    address = f"http://{host}:{inner.port}/secret.yml"
    if how == "reference":
        stranger.routes["/spec.yml"] = refers(address)
    else:
        stranger.routes["/spec.yml"] = lambda handler: handler.answer(302, b"", Location=address)
    error = refused("spec.yml", stranger.at("stranger.example"), settings=usual())
    assert inner.seen == []
    assert "--trust-source http://" in error.hint
    assert "PACKTIVITY_TRUSTED_SOURCES" in error.hint
    assert set(internet.connected) == {PUBLIC}
    if how == "reference":
        assert f"(named at {stranger.at('stranger.example')}/spec.yml:1:16)" in error.message


def test_redirects_are_checked_however_many_there_are(stranger, inner, usual):
    stranger.routes["/spec.yml"] = lambda handler: handler.answer(301, b"", Location="/next")
    stranger.routes["/next"] = lambda handler: handler.answer(307, b"", Location=f"{stranger.at('raw.example')}/there")
    stranger.routes["/there"] = lambda handler: handler.answer(308, b"", Location=f"{inner.url}/secret.yml")
    error = refused("spec.yml", stranger.at("stranger.example"), settings=usual())
    assert inner.seen == []
    assert "127.0.0.1 (127.0.0.1, an address of this machine (loopback)) is where the server redirects to" in str(error)


def test_a_document_on_this_machine_names_no_private_server_either(inner, usual, tmp_path):
    (tmp_path / "spec.yml").write_text(f"\na: {{$ref: '{inner.url}/secret.yml'}}\n")
    error = refused("spec.yml", str(tmp_path), settings=usual())
    assert inner.seen == []
    assert f"(named at {tmp_path}/spec.yml:2:11)" in error.message
    for way in ({"trusted_sources": [inner.url]}, {"settings": usual(trusted_sources=(f"{inner.url}/x",))}):
        assert load_document("spec.yml", str(tmp_path), **{"settings": usual(), **way}).data["a"] == {"secret": "word"}


def test_a_server_that_the_user_named_is_reached_wherever_it_is_but_no_other_port(web, inner, usual):
    web.routes["/spec.yml"] = b"a: {$ref: b.yml}\n"
    web.routes["/b.yml"] = b"b\n"
    web.routes["/bad.yml"] = refers(f"{inner.url}/secret.yml")
    assert load_document("spec.yml", web.url, settings=usual()).data == {"a": "b"}
    refused("bad.yml", web.url, settings=usual())
    assert inner.seen == []


def test_an_internal_gitlab_works_with_its_redirects(stranger, lab, inner, internet, usual):
    internet.names["lab.example"] = ["10.1.2.3"]
    lab.routes[raw("me/repo", "a.yml")] = lambda handler: handler.answer(302, b"", Location="/moved")
    lab.routes["/moved"] = lambda handler: handler.answer(302, b"", Location=f"{inner.at('lab.example')}/b.yml")
    inner.routes["/b.yml"] = b"a: {$ref: b.yml}\n"
    lab.routes[raw("me/repo", "b.yml")] = b"b\n"
    assert load_document("a.yml", "gitlab-cern:me/repo", settings=usual()).data == {"a": "b"}
    assert lab.tokens() == [TOKEN, TOKEN, TOKEN]
    assert inner.tokens() == [None]


def test_a_name_server_cannot_move_a_named_server_into_the_private_network(stranger, inner, internet, usual):
    internet.names["stranger.example"] = [[PUBLIC], ["127.0.0.1"]]
    stranger.routes["/spec.yml"] = b"a: {$ref: secret.yml}\n"
    internet.ports[stranger.port] = stranger.port
    stranger.routes["/secret.yml"] = b"secret: word\n"
    refused("spec.yml", stranger.at("stranger.example"), settings=usual())
    assert stranger.paths() == ["/spec.yml"]
    assert internet.connected == [PUBLIC]


def test_the_address_that_was_checked_is_the_one_connected_to(stranger, inner, internet, usual):
    internet.names["twice.example"] = [["93.184.216.36"], ["127.0.0.1"]]
    stranger.routes["/spec.yml"] = refers(f"http://twice.example:{inner.port}/secret.yml")
    assert load_document("spec.yml", stranger.at("stranger.example"), settings=usual()).data["a"]
    assert internet.connected == [PUBLIC, "93.184.216.36"]


def test_a_private_address_beside_a_public_one_is_not_tried(stranger, inner, internet, usual):
    internet.names["both.example"] = ["93.184.216.36", "127.0.0.1"]
    internet.dead.add("93.184.216.36")
    stranger.routes["/spec.yml"] = refers(f"http://both.example:{inner.port}/secret.yml")
    assert "refuses the connection" in refused("spec.yml", stranger.at("stranger.example"), settings=usual()).message
    assert inner.seen == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://stranger.example/x", "gopher://127.0.0.1/x", "//127.0.0.1:9/x"]
)
def test_no_redirect_changes_the_kind_of_address(stranger, usual, location):
    stranger.routes["/spec.yml"] = lambda handler: handler.answer(302, b"", Location=location)
    message = refused("spec.yml", stranger.at("stranger.example"), settings=usual()).message
    assert "not http or https" in message or "loopback" in message


def test_tls_is_checked_for_the_name_though_the_address_is_connected_to(internet, usual, tmp_path, monkeypatch):
    context, authority = certified(tmp_path, "secure.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    internet.names["secure.example"] = internet.names["other.example"] = ["93.184.216.36"]
    for web in serve(context):
        web.routes["/a.yml"] = b"a: 1\n"
        assert load_document("a.yml", web.at("secure.example"), settings=usual()).data == {"a": 1}
        assert web.seen[0].headers["host"] == f"secure.example:{web.port}"
        assert "secure connection" in refused("a.yml", web.at("other.example"), settings=usual()).message
        assert len(web.seen) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "x.localhost", "localhost.", "ten.example"])
def test_a_proxy_is_not_asked_for_private_servers(stranger, inner, internet, usual, monkeypatch, host):
    internet.names.update({name: [address] for name, address in PRIVATE_NAMES.items()})
    monkeypatch.setenv("http_proxy", stranger.url)  # on loopback, and the user's own
    stranger.routes["http://stranger.example/spec.yml"] = refers(f"http://{host}:{inner.port}/secret.yml")
    error = refused("spec.yml", "http://stranger.example", settings=usual())
    assert stranger.paths() == ["http://stranger.example/spec.yml"]
    assert "--trust-source" in error.hint


def test_a_proxy_may_know_names_that_are_not_known_here(stranger, usual, monkeypatch):
    monkeypatch.setenv("http_proxy", stranger.url)
    stranger.routes["http://unknown.example/spec.yml"] = refers("http://unheard-of.example/b.yml")
    stranger.routes["http://unheard-of.example/b.yml"] = b"b\n"
    assert load_document("spec.yml", "http://unknown.example", settings=usual()).data == {"a": "b"}


# --- the token ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        raw("secret/x", "a.yml"),
        raw("secret/x", "a.yml").replace("projects/", "projects/me%2Frepo/../"),
        raw("me/repo/../../secret/x", "a.yml"),
        raw("me/repo", "a.yml").replace("me%2Frepo", "me%252Frepo"),
        "/api/v4/projects/me%2Frepo/repository/%2e%2e/%2e%2e/secret%2Fx/repository/files/a.yml/raw?ref=master",
        "/api/v4/projects/me%2Frepo/repository/..%2f..%2fsecret%2Fx/repository/files/a.yml/raw?ref=master",
        "/api/v4/projects/me%2Frepo/repository//files/a.yml/raw?ref=master",
        "/api/v4/projects/me%2Frepo\\..\\secret%2Fx/repository/files/a.yml/raw?ref=master",
        "/api/v4/projects/42/repository/files/a.yml/raw?ref=master",
        "/api/v4/projects/me%2Frepo/variables",
        "/api/v4/projects/me%2Frepo/jobs/1/trace",
        "/api/v4/user",
        "/API/v4/projects/secret%2Fx/repository/files/a.yml/raw",
        "/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?ref=master&sudo=root",
        "/api/v4/projects/me%2Frepo/repository/files/a.yml/raw?private_token=x",
        "/secret/x/-/raw/master/a.yml",
        "/secret/x/raw/master/a.yml",
        "/me/repo/-/raw/../../../../secret/x/-/raw/master/a.yml",
        "/me/repo/-/raw/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret/x/-/raw/master/a.yml",
        "/me/repo2/-/raw/master/a.yml",
        "/me/repo/-/jobs/1/raw",
        "/dashboard/issues.atom",
        "/me.atom",
    ],
)
@pytest.mark.parametrize("how", ["reference", "redirect of a stranger", "redirect by way of a stranger", "local"])
def test_the_token_is_for_the_named_project_only(stranger, lab, usual, tmp_path, address, how):
    there = lab.at("lab.example") + address

    def redirect(where):
        return lambda handler: handler.answer(302, b"", Location=where)

    stranger.routes["/redirect"] = redirect(there)
    toplevel, local = "gitlab-cern:me/repo", tmp_path / "spec.yml"
    if how == "reference":
        lab.routes[raw("me/repo", "spec.yml")] = refers(there)
    elif how == "redirect of a stranger":
        lab.routes[raw("me/repo", "spec.yml")] = refers(f"{stranger.at('stranger.example')}/redirect")
    elif how == "redirect by way of a stranger":
        lab.routes[raw("me/repo", "spec.yml")] = redirect(f"{stranger.at('stranger.example')}/redirect")
    else:
        toplevel = str(tmp_path)
        local.write_bytes(refers(there))
    with pytest.raises(LoadError):
        load_document("spec.yml", toplevel, settings=usual())
    assert lab.seen[-1].path != raw("me/repo", "spec.yml")
    assert lab.tokens()[-1] is None
    assert stranger.tokens() in ([], [None])


@pytest.mark.parametrize("address", [raw("Me/Repo", "b.yml"), raw("me/repo", "b.yml", "v1"), "/me/repo/-/raw/v1/b.yml"])
def test_the_token_is_for_every_file_of_the_named_project(lab, usual, address):
    lab.routes[raw("me/repo", "spec.yml")] = refers(lab.at("lab.example") + address)
    lab.routes[address] = b"b\n"
    assert load_document("spec.yml", "gitlab-cern:me/repo", settings=usual()).data == {"a": "b"}
    assert lab.tokens() == [TOKEN, TOKEN]


@pytest.mark.parametrize(
    ("toplevel", "spec"),
    [
        ("{lab}/me/repo/-/raw/master", "spec.yml"),
        (None, "{lab}/me/repo/-/raw/master/spec.yml"),
        ("{lab}/me/repo", "-/raw/master/spec.yml"),
        ("{lab}", "me/repo/-/raw/master/spec.yml"),
    ],
)
def test_an_address_of_gitlab_names_its_project_and_no_other(lab, usual, toplevel, spec):
    here = lab.at("lab.example")
    lab.routes["/me/repo/-/raw/master/spec.yml"] = refers("b.yml")
    lab.routes["/me/repo/-/raw/master/b.yml"] = refers("/secret/x/-/raw/master/a.yml")
    refused(spec.format(lab=here), toplevel and toplevel.format(lab=here), settings=usual())
    assert lab.tokens() == [TOKEN, TOKEN, None]


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("gitlab-cern:Secret/X", raw("secret/x", "a.yml")),
        ("{lab}/secret/x", raw("secret/x", "a.yml")),
        ("{lab}/secret", "/secret/x/-/raw/master/a.yml"),
        ("{lab}/secret/x/-/raw/master", raw("secret/x", "a.yml")),
        ("{lab}/api/v4/projects/42", raw("42", "a.yml")),
        ("{lab}/api/v4/projects/secret%2Fx", raw("secret/x", "a.yml")),
        ("{lab}", raw("secret/x", "a.yml")),
    ],
)
def test_an_option_lets_other_projects_have_the_token(lab, usual, tmp_path, source, address):
    (tmp_path / "spec.yml").write_bytes(refers(lab.at("lab.example") + address))
    error = refused("spec.yml", str(tmp_path), settings=usual())
    assert "the token was not sent" in error.hint
    lab.routes[address] = b"a\n"
    source = source.format(lab=lab.at("lab.example"))
    assert load_document("spec.yml", str(tmp_path), settings=usual(), trusted_sources=[source]).data == {"a": "a"}
    load_document("spec.yml", str(tmp_path), settings=usual(trusted_sources=(source,)))
    assert lab.tokens() == [None, TOKEN, TOKEN]
    lab.routes[raw("third/y", "a.yml")] = b"a\n"
    (tmp_path / "spec.yml").write_bytes(refers(lab.at("lab.example") + raw("third/y", "a.yml")))
    load_document("spec.yml", str(tmp_path), settings=usual(), trusted_sources=[source])
    assert lab.tokens()[-1] == (TOKEN if source == lab.at("lab.example") else None)


def test_the_hint_names_the_project_that_the_option_would_take(lab, usual, tmp_path):
    (tmp_path / "spec.yml").write_bytes(refers(lab.at("lab.example") + raw("secret/x", "a.yml")))
    assert "--trust-source gitlab-cern:secret/x " in refused("spec.yml", str(tmp_path), settings=usual()).hint


@pytest.mark.parametrize("name", ["secret/x", "ftp://host/x", "gitlab-cern:secret", "http://me:pass@[bad", "http:///x"])
def test_a_trusted_source_that_is_none_is_told(stranger, usual, name):
    with pytest.raises(ConfigurationError, match="is no source") as caught:
        load_document("a.yml", stranger.url, settings=usual(trusted_sources=(name,)))
    assert "PACKTIVITY_TRUSTED_SOURCES" in caught.value.message
    assert ":pass" not in str(caught.value)


def test_what_gitlab_echoes_of_the_token_is_not_shown(lab, usual):
    body = json.dumps({"message": f"bad token {TOKEN}"}).encode()
    lab.routes[raw("me/repo", "a.yml")] = lambda handler: handler.answer(401, body, Content_Type="application/json")
    error = refused("a.yml", "gitlab-cern:me/repo", settings=usual())
    assert "bad token …" in error.message
    assert TOKEN not in str(error)


def test_a_file_that_was_named_with_a_query_is_named_with_that_one_only(lab, usual):
    path = "/api/v4/projects/42/jobs/artifacts/main/raw/spec.yml"
    lab.routes[f"{path}?job=build"] = refers(f"{path}?job=build&sudo=root")
    refused(f"{lab.at('lab.example')}{path}?job=build", settings=usual())
    assert lab.tokens() == [TOKEN, None]


# --- ~/.netrc ----------------------------------------------------------------------------------------------------


def test_netrc_is_for_the_named_folder_only(stranger, inner, internet, usual, netrc):
    netrc(stranger_example="word", data_example="other-word")
    internet.names["data.example"] = [ELSEWHERE]
    stranger.routes["/mine/spec.yml"] = json.dumps(
        [{"$ref": "b.yml"}, {"$ref": "/theirs/c.yml"}, {"$ref": f"{inner.at('data.example')}/secret.yml"}]
    ).encode()
    stranger.routes["/mine/b.yml"] = stranger.routes["/theirs/c.yml"] = b"1\n"
    load_document("spec.yml", stranger.at("stranger.example") + "/mine", settings=usual())
    assert stranger.logins() == [basic("ada", "word"), basic("ada", "word"), None]
    assert inner.logins() == [None]
    trusted = [stranger.at("stranger.example") + "/theirs"]
    load_document("spec.yml", stranger.at("stranger.example") + "/mine", settings=usual(), trusted_sources=trusted)
    assert stranger.logins()[3:] == [basic("ada", "word")] * 3


def test_no_redirect_gets_another_hosts_login(stranger, inner, internet, usual, netrc):
    netrc(stranger_example="word", data_example="other-word")
    internet.names["data.example"] = [ELSEWHERE]
    stranger.routes["/spec.yml"] = lambda handler: handler.answer(
        302, b"", Location=f"{inner.at('data.example')}/secret.yml"
    )
    load_document("spec.yml", stranger.at("stranger.example"), settings=usual())
    assert stranger.logins() == [basic("ada", "word")]
    assert inner.logins() == [None]


def test_netrc_is_for_the_named_repository_of_github_only(stranger, usual, netrc):
    netrc(raw_example="word")
    stranger.routes["/me/repo/main/spec.yml"] = json.dumps(
        [{"$ref": "b.yml"}, {"$ref": "../../../she/private/main/c.yml"}]
    ).encode()
    stranger.routes["/me/repo/main/b.yml"] = stranger.routes["/she/private/main/c.yml"] = b"1\n"
    load_document("spec.yml", "github:me/repo", settings=usual())
    assert stranger.logins() == [basic("ada", "word"), basic("ada", "word"), None]


def test_a_login_that_was_not_sent_is_told(stranger, inner, internet, usual, netrc, tmp_path):
    netrc(data_example="word")
    internet.names["data.example"] = [ELSEWHERE]
    inner.routes["/x/a.yml"] = lambda handler: handler.answer(401, b"")
    (tmp_path / "spec.yml").write_bytes(refers(f"{inner.at('data.example')}/x/a.yml"))
    hint = refused("spec.yml", str(tmp_path), settings=usual()).hint
    assert f"--trust-source {inner.at('data.example')}/x " in hint


# --- logins in addresses -----------------------------------------------------------------------------------------


def test_a_login_in_an_address_stays_in_its_folder_and_is_not_shown(stranger, inner, internet, usual, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    internet.names["data.example"] = [ELSEWHERE]
    toplevel = stranger.at("me:pa%73s@stranger.example") + "/mine"
    stranger.routes["/mine/spec.yml"] = json.dumps(
        [{"$ref": "b.yml"}, {"$ref": "/theirs/c.yml"}, {"$ref": f"{inner.at('data.example')}/secret.yml"}]
    ).encode()
    stranger.routes["/mine/b.yml"] = stranger.routes["/theirs/c.yml"] = b"1\n"
    found = load_document("spec.yml", toplevel, settings=usual())
    assert stranger.logins() == [basic("me", "pass"), basic("me", "pass"), None]
    assert inner.logins() == [None]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache" / "documents").iterdir())
    shown = found.source + str(found.position((0,))) + caplog.text + kept.decode()
    error = refused("none.yml", toplevel, settings=usual())
    shown += "".join(traceback.format_exception(error)) + repr(error.__dict__)
    assert "pass" not in shown
    assert "pa%73s" not in shown


@pytest.mark.parametrize(
    "address", ["http://me:word/more@host.example/x", "http://me:wo@rd@host.example/a", "http://me:word@[bad/x"]
)
def test_a_login_in_a_broken_address_is_not_shown_either(usual, address):
    for toplevel in (None, "github:me/repo"):
        shown = str(refused(address, toplevel, settings=usual()))
        assert "wo" not in shown.replace("would", "").replace("network", "")


# --- the cache ---------------------------------------------------------------------------------------------------


def test_a_private_document_of_the_cache_is_not_for_a_strangers_document(lab, usual, tmp_path):
    address = raw("secret/x", "a.yml", SHA)
    lab.routes[address] = b"secret\n"
    load_document("a.yml", f"gitlab-cern:secret/x@{SHA}", settings=usual())
    (tmp_path / "spec.yml").write_bytes(refers(lab.at("lab.example") + address))
    assert "not in the cache" in refused("spec.yml", str(tmp_path), settings=usual(offline=True)).message
    again = load_document("a.yml", f"gitlab-cern:secret/x@{SHA}", settings=usual(offline=True))
    assert again.data == "secret"
    refused("a.yml", f"gitlab-cern:secret/x@{SHA}", settings=usual(offline=True, load_token="of somebody else"))


def test_a_commit_that_was_fetched_with_a_login_is_not_for_a_strangers_document(stranger, usual, netrc, tmp_path):
    netrc(raw_example="word")
    path = f"/she/private/{SHA}/a.yml"
    stranger.routes[path] = lambda handler: (
        handler.answer(200, b"secret\n") if handler.headers.get("Authorization") else handler.answer(404, b"")
    )
    load_document("a.yml", f"github:she/private@{SHA}", settings=usual())
    (tmp_path / "spec.yml").write_bytes(refers(stranger.at("raw.example") + path))
    refused("spec.yml", str(tmp_path), settings=usual())
    assert load_document("a.yml", f"github:she/private@{SHA}", settings=usual()).data == "secret"
    assert stranger.logins() == [basic("ada", "word"), None]


def test_a_document_from_the_private_network_is_not_for_a_strangers_document(inner, usual, tmp_path):
    assert load_document("secret.yml", inner.url, settings=usual()).data
    (tmp_path / "spec.yml").write_bytes(refers(f"{inner.url}/secret.yml"))
    refused("spec.yml", str(tmp_path), settings=usual(offline=True))
    assert load_document("secret.yml", inner.url, settings=usual(offline=True)).data


def test_a_public_document_is_for_everybody(stranger, usual, tmp_path):
    stranger.routes["/a.yml"] = b"a\n"
    load_document("a.yml", stranger.at("stranger.example"), settings=usual())
    (tmp_path / "spec.yml").write_bytes(refers(f"{stranger.at('stranger.example')}/a.yml"))
    assert load_document("spec.yml", str(tmp_path), settings=usual(offline=True)).data == {"a": "a"}


# --- commands and programs ---------------------------------------------------------------------------------------


SPEC = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "echo {x}"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "frompar-pub", "outputmap": {}},
}


@pytest.fixture
def command(usual, monkeypatch, tmp_path, lab):
    from click.testing import CliRunner

    from packtivity.cli.declarations import main

    chosen = usual()
    monkeypatch.setenv("YADAGE_SCHEMA_LOAD_TOKEN", TOKEN)
    monkeypatch.setenv("PACKTIVITY_GITLAB_HOST", chosen.gitlab_host)
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", chosen.cache_dir)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, list(words))


def test_the_option_is_one_of_every_command_that_takes_a_spec(command, inner, tmp_path, monkeypatch):
    inner.routes["/process.yml"] = json.dumps(SPEC["process"]).encode()
    spec = {**SPEC, "process": {"$ref": f"{inner.url}/process.yml"}}
    (tmp_path / "spec.yml").write_text(json.dumps(spec))
    (tmp_path / "sets.csv").write_text("x\n1\n2\n")
    for words in (
        ["validate", "spec.yml"],
        ["describe", "spec.yml"],
        ["example", "spec.yml"],
        ["run", "spec.yml", "-p", "x=1"],
        ["map", "spec.yml", "--over", "sets.csv", "-w", "there"],
    ):
        inner.seen.clear()
        refusal = command(*words)
        assert refusal.exit_code == 3, refusal.output
        assert inner.seen == []
        done = command(*words, "--trust-source", inner.url)
        assert done.exit_code == 0, done.output
        assert inner.paths() == ["/process.yml"]
    monkeypatch.setenv("PACKTIVITY_TRUSTED_SOURCES", f"gitlab-cern:a/b, {inner.url}")
    assert command("validate", "spec.yml").exit_code == 0


def test_no_command_prints_a_login(command, stranger):
    stranger.routes["/spec.yml"] = json.dumps(SPEC).encode()
    address = stranger.at("me:word@stranger.example")
    for words in (
        ["describe", "-t", address, "spec.yml"],
        ["describe", f"{address}/spec.yml"],
        ["example", "-t", address, "spec.yml"],
        ["example", f"{address}/spec.yml?access_token=word"],
        ["lock", f"{address}/spec.yml"],
        ["validate", f"{address}/none.yml"],
        ["validate", "--format", "json", f"{address}/none.yml"],
    ):
        assert "word" not in command(*words).output


def test_programs_may_name_sources_too(inner, tmp_path, monkeypatch):
    import packtivity

    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    inner.routes["/process.yml"] = json.dumps(SPEC["process"]).encode()
    (tmp_path / "spec.yml").write_text(json.dumps({**SPEC, "process": {"$ref": f"{inner.url}/process.yml"}}))
    for load in (packtivity.load, load_spec):
        with pytest.raises(LoadError, match="loopback"):
            load("spec.yml", str(tmp_path))
        assert load("spec.yml", str(tmp_path), trusted_sources=[inner.url])["process"]["cmd"] == "echo {x}"


def test_a_slow_name_server_does_not_hold_up_a_load_through_a_proxy(stranger, usual, internet, monkeypatch):
    from packtivity import connections

    monkeypatch.setattr(connections, "_LOOK_UP", 0.2)
    monkeypatch.setenv("http_proxy", stranger.url)
    stranger.routes["http://stranger.example/spec.yml"] = refers("http://slow.example/b.yml")
    stranger.routes["http://slow.example/b.yml"] = b"b\n"
    look, over = internet.getaddrinfo, threading.Event()

    def slowly(host, *arguments, **more):
        if host == "slow.example":
            over.wait(3)
        return look(host, *arguments, **more)

    monkeypatch.setattr("socket.getaddrinfo", slowly)
    began = time.monotonic()
    assert load_document("spec.yml", "http://stranger.example", settings=usual()).data == {"a": "b"}
    assert time.monotonic() - began < 2.5
    over.set()


def test_the_schemas_of_the_day_are_fetched_by_the_same_rules(stranger, inner, usual, monkeypatch, tmp_path):
    from packtivity.spec.custom_schemas import bundle

    monkeypatch.setenv("PACKTIVITY_GITHUB_RAW_HOST", stranger.at("raw.example"))
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    path = "/yadage/yadage-schemas/main/schemas/packtivity/packtivity-schema.json"
    stranger.routes[path] = lambda handler: handler.answer(302, b"", Location=f"{inner.url}/secret.yml")
    with pytest.raises(LoadError, match="loopback"):
        bundle("from-github", "packtivity/packtivity-schema")
    assert inner.seen == []
    assert os.environ["PACKTIVITY_GITHUB_RAW_HOST"] in stranger.at("raw.example")
