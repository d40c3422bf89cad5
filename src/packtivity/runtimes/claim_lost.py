"""Ends a task whose claim was lost, where file locks do not work; see :mod:`packtivity.heartbeat`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.heartbeat import either
from packtivity.runtimes.cancellation import Cancellation

if TYPE_CHECKING:
    from packtivity.heartbeat import Heartbeat


class ClaimLost(Cancellation):
    """What ends a task when its claim is lost; it is then run again by another runner.

    :param given: what else may end it.
    """

    def __init__(self, heartbeat: Heartbeat, given: Cancellation | None) -> None:
        self._heartbeat, self._given = heartbeat, given
        self._both = None if given is None else either(heartbeat.fileno(), given.fileno())

    def fileno(self) -> int:
        """Return a descriptor that is readable once the task is to end."""
        return self._heartbeat.fileno() if self._both is None else self._both.fileno()

    @property
    def cancelled(self) -> bool:  # type: ignore[override]
        """Whether the task is to end."""
        return self._heartbeat.lost or (self._given is not None and self._given.cancelled)

    @property
    def abandoned(self) -> bool:  # type: ignore[override]
        """Whether nobody has decided that the task should not be run."""
        return self._heartbeat.lost or (self._given is not None and self._given.abandoned)

    @property
    def signalled(self) -> bool:  # type: ignore[override]
        """Whether the runner has to go, and nobody has asked for the end of the task."""
        return self._given is not None and self._given.signalled

    def gives_back(self, error: BaseException) -> bool:
        """Return whether a run that has ended with an error is to be made again."""
        return super().gives_back(error) or (self._given is not None and self._given.gives_back(error))

    def gives_up(self, waited: float) -> bool:
        """Return whether to stop waiting for another run."""
        return self._heartbeat.lost or (self._given is not None and self._given.gives_up(waited))

    def cancel(self) -> None:
        """Ask for the end."""
        if self._given is not None:
            self._given.cancel()

    def close(self) -> None:
        """Watch no more; what was given stays as it is."""
        if self._both is not None:
            self._both.close()

    __del__ = close
