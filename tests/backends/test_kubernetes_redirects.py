"""Our credentials for a cluster are for its API server, whatever that server, or one in its place, redirects to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from packtivity.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from webs import Web

pytest.importorskip("kubernetes")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_the_api_is_an_error_and_is_not_followed(
    web: Web, other_web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    from packtivity.backends.engines.kubernetes.api import Api
    from packtivity.backends.engines.kubernetes.options import Options

    (tmp_path / "netrc").write_text("machine localhost login ada password word\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": web.url}}],
        "users": [{"name": "u", "user": {"token": "cluster-secret"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    path = "/apis/batch/v1/namespaces/default/jobs/x"
    there = other_web.at("localhost") + path
    web.routes[path] = lambda handler: handler.answer(status, b"", Location=there)
    other_web.routes[path] = b'{"kind": "Job"}'
    api = Api(Options(kubeconfig=str(tmp_path / "kubeconfig")))
    with pytest.raises(BackendError, match=str(status)):
        api.job("x", "default")
    assert web.logins() == ["Bearer cluster-secret"]
    assert other_web.seen == []
