"""What each kind of publisher means, apart from making the result: known when, needs what, described how.

Who makes the result is :mod:`packtivity.handlers.publisher_handlers`. A kind that is not here comes from a plug-in:
nothing is known of it before the run, and nothing about it is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from packtivity.types import Part


class PublisherKind(NamedTuple):
    """One kind of publisher.

    :ivar names: key below which strings are names of parameters.
    :ivar templates: key below which strings have placeholders for parameters and ``{workdir}``.
    :ivar outputs: key whose leaves are the outputs, so that their names are known before the run.
    :ivar program: key with a jq program.
    :ivar pattern: key with the pattern of the files whose paths it publishes.
    :ivar known: when the result is known: ``before`` the run, ``after`` it, or after it only if files are ``globbed``.
    :ivar looks: whether it looks for files in the work directory: always, never, or if files are ``globbed``.
    :ivar description: what is published, where the names of the outputs are only known after the run.
    """

    names: str = ""
    templates: str = ""
    outputs: str = ""
    program: str = ""
    pattern: str = ""
    known: Literal["before", "globbed", "after"] = "after"
    looks: Literal["always", "globbed", "never"] = "never"
    description: str = "known after the run"

    def is_known_before(self, publisher: Part) -> bool:
        """Return whether the result does not depend on what the task does."""
        return self.known == "before" or (self.known == "globbed" and not publisher.get("glob", False))

    def looks_for_files(self, publisher: Part) -> bool:
        """Return whether a work directory is needed to make the result."""
        return self.looks == "always" or (self.looks == "globbed" and bool(publisher.get("glob")))


PUBLISHERS = {
    "frompar-pub": PublisherKind(names="outputmap", outputs="outputmap", known="before"),
    "constant-pub": PublisherKind(outputs="publish", known="before"),
    "interpolated-pub": PublisherKind(templates="publish", outputs="publish", known="globbed", looks="globbed"),
    "fromparjq-pub": PublisherKind(
        program="script", known="globbed", description="what a jq program makes of the parameters"
    ),
    "fromglob-pub": PublisherKind(pattern="globexpression", looks="always"),
    "fromyaml-pub": PublisherKind(looks="always", description="whatever the task writes into its YAML file"),
    "manual-instructions-pub": PublisherKind(description="what a person types after the run"),
}

_UNKNOWN = PublisherKind()


def kind_of(publisher: Part) -> PublisherKind:
    """Return the kind of a publisher."""
    return PUBLISHERS.get(publisher.get("publisher_type", ""), _UNKNOWN)
