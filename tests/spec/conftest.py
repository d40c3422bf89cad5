"""A server on loopback that plays GitHub's raw host and GitLab's files API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from webs import Internet, Web

from packtivity.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def remote(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings under which ``web`` is both GitHub and GitLab, and the cache is this test's own."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def settings(**changes: object) -> Settings:
        given = {"github_raw_host": web.url, "gitlab_host": web.url, "cache_dir": str(tmp_path / "cache")}
        return Settings(**{**given, "download_timeout": 5.0, **changes})  # type: ignore[arg-type]

    return settings


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    """Names and addresses that are not of this machine."""
    return Internet(monkeypatch)


@pytest.fixture(scope="session")
def upstream(converse: Callable[[str], Callable[[dict[str, str]], Any]]) -> Callable[[dict[str, str]], Any]:
    """Ask packtivity 0.17.1's loader; see ``tests/oracles/loading.py``."""
    return converse("loading.py")
