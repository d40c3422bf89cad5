"""What is mounted when something that was planned is not there."""

from __future__ import annotations

import pytest

from packtivity import errors
from packtivity.runtimes.supervise import with_what_is_there
from packtivity.types import Execution, Mount


def test_a_directory_to_be_read_that_is_not_there_is_left_out(tmp_path):
    here, gone = (str(tmp_path / name) for name in ("here", "gone"))
    (tmp_path / "here").mkdir()
    planned = Execution(("true",), mounts=(Mount(here, here), Mount(here, "/in", True), Mount(gone, gone, True)))
    assert with_what_is_there(planned).mounts == planned.mounts[:2]


def test_an_execution_with_everything_there_stays_the_same(tmp_path):
    planned = Execution(("true",), mounts=(Mount(str(tmp_path), str(tmp_path), True),))
    assert with_what_is_there(planned) is planned


@pytest.mark.parametrize(
    ("mount", "error"),
    [
        (Mount("/not/there", "/not/there"), errors.StateError),
        (Mount("/not/there", "/recast_auth", True), errors.EnvironmentUnavailable),
        (Mount("/not/there", "/cvmfs", True), errors.EnvironmentUnavailable),
    ],
)
def test_anything_else_that_is_not_there_is_an_error(mount, error):
    with pytest.raises(error, match="/not/there"):
        with_what_is_there(Execution(("true",), mounts=(mount,)))
