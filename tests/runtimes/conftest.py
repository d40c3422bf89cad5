"""Servers that play image registries and what they lead to."""

from __future__ import annotations

import pytest
from webs import Internet


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    """Names and addresses that are not of this machine."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Internet(monkeypatch)
