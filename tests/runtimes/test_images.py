"""Names of images: tags, digests, folders, SIF files."""

from __future__ import annotations

import pytest

from packtivity.errors import ParameterError
from packtivity.runtimes.images import is_loopback, matching_digest, parse, unpacked_candidates
from packtivity.spec.image_names import full_image, is_path

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("image", "tag", "expected"),
    [
        ("python", "3.12", "python:3.12"),
        ("python", "latest", "python:latest"),
        ("python:3.12", "latest", "python:3.12"),
        ("python:3.12", "3.12", "python:3.12"),
        ("docker.io/library/python", "2.7-slim", "docker.io/library/python:2.7-slim"),
        ("localhost:5000/a/b", "1", "localhost:5000/a/b:1"),
        ("localhost:5000/a/b:2", "latest", "localhost:5000/a/b:2"),
        (f"a/b@{DIGEST}", "latest", f"a/b@{DIGEST}"),
        (f"a/b:1@{DIGEST}", "1", f"a/b:1@{DIGEST}"),
        ("docker://python", "3", "python:3"),
        ("/cvmfs/unpacked.cern.ch/h/a:1", "latest", "/cvmfs/unpacked.cern.ch/h/a:1"),
        ("/cvmfs/unpacked.cern.ch/h/a", "1", "/cvmfs/unpacked.cern.ch/h/a:1"),
        ("/data/x.sif", "latest", "/data/x.sif"),
        ("oras://registry/x:1", "latest", "oras://registry/x:1"),
    ],
)
def test_image_and_tag_make_one_name(image: str, tag: str, expected: str) -> None:
    assert full_image(image, tag) == expected


@pytest.mark.parametrize(
    "image",
    [
        "a b",
        "a;id",
        "$(id)",
        "`id`",
        "--privileged",
        "-v",
        "a\nb",
        "Python",
        "a//b",
        "a'b",
        'a"b',
        "é",
        "",
        "a&b",
        "a|b",
    ],
)
def test_what_is_no_image_name_is_refused(image: str) -> None:
    with pytest.raises(ParameterError, match="is not the name of a container image"):
        full_image(image, "latest")


@pytest.mark.parametrize("tag", ["a b", ";id", "$(id)", "-x", "a/b", "a\n"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ParameterError):
        full_image("python", tag)


def test_two_tags_are_one_too_many() -> None:
    with pytest.raises(ParameterError, match=r"imagetag says '3\.13'"):
        full_image("python:3.12", "3.13")


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("atlas/analysisbase:21", "docker.io/atlas/analysisbase:21"),
        ("registry.hub.docker.com/atlas/x:1", "docker.io/atlas/x:1"),
        ("gitlab-registry.cern.ch/a/b/c", "gitlab-registry.cern.ch/a/b/c:latest"),
        (f"localhost:5000/a@{DIGEST}", f"localhost:5000/a@{DIGEST}"),
    ],
)
def test_references_in_full(image: str, full: str) -> None:
    assert str(parse(image)) == full
    assert parse(str(parse(image))) == parse(image)


def test_the_digest_is_that_of_the_image_s_own_repository() -> None:
    other = "sha256:" + "f" * 64
    assert matching_digest("python:3", [f"quay.io/python@{other}", f"python@{DIGEST}"]) == DIGEST
    assert matching_digest("python:3", [f"quay.io/python@{other}"]) == ""
    assert matching_digest(f"python@{DIGEST}", [f"python@{other}", f"python@{DIGEST}"]) == DIGEST


def test_where_unpacked_images_are() -> None:
    assert unpacked_candidates("atlas/x:1")[0] == "/cvmfs/unpacked.cern.ch/registry.hub.docker.com/atlas/x:1"
    assert unpacked_candidates("/cvmfs/x") == ["/cvmfs/x", "/cvmfs/x:latest"]
    assert is_path("x.sif")
    assert not is_path("a/b")


def test_only_this_machine_is_spoken_to_without_encryption() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1:5000", "localhost", "127.evil.example", "docker.io")] == [
        True, True, False, False,
    ]  # fmt: skip
