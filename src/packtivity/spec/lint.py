"""What is allowed and yet surely not meant: misspelt parameters, shell braces in templates, doubled image tags.

Everything here is a warning, because upstream 0.17.1 takes such a spec for valid; most of it fails when the task is
run. Nothing is said that is not certain: what depends on parameters is only said when they are given. The rules
stand in the modules ``rules_…``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.spec.diagnostics import arrange, locate
from packtivity.spec.rules_braces import template_findings
from packtivity.spec.rules_environment import environment_findings, jq_findings
from packtivity.spec.rules_parameters import ParameterCheck
from packtivity.spec.templates import needs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packtivity.spec.diagnostics import Located
    from packtivity.spec.document import Document
    from packtivity.types import JSON, Diagnostic

__all__ = ["lint_parameters", "lint_spec", "needs"]


def lint_spec(document: Located | None, spec: dict[str, Any], given: Iterable[str] | None = None) -> list[Diagnostic]:
    """Return warnings about a spec alone.

    :param document: where it was read from, for places.
    :param spec: valid, with defaults filled.
    :param given: names of the parameters, when they are known; braces around them are placeholders.
    """
    names = None if given is None else frozenset(given)
    found = [*template_findings(spec, names), *environment_findings(spec), *jq_findings(spec)]
    return arrange(locate(finding, document) for finding in found)


def lint_parameters(
    spec: dict[str, Any],
    parameters: Document | JSON,
    state_names: Iterable[str] | None = None,
    *,
    document: Located | None = None,
) -> list[Diagnostic]:
    """Return warnings about a spec compared with its parameters; those of :func:`lint_spec` are not repeated.

    :param spec: valid, with defaults filled.
    :param parameters: parameter document, or plain data when its places are of no interest.
    :param state_names: names of the state's directories (``workdir``, ``readdir0`` …), empty without a state,
        ``None`` when they are not known.
    :param document: where the spec was read from, for places.
    """
    data, where = plain(parameters)
    check = ParameterCheck(spec, data, None if state_names is None else frozenset(state_names))
    of_spec = [locate(finding, document) for finding in check.of_spec()]
    return arrange([*of_spec, *(locate(finding, where) for finding in check.of_parameters())])


def plain(parameters: Any) -> tuple[JSON, Located | None]:
    """Return the data of a parameter document, and the document if it knows places."""
    return (parameters.data, parameters) if hasattr(parameters, "offset_position") else (parameters, None)


def names_of(data: JSON) -> tuple[str, ...]:
    """Return the names of parameters: none for a list or a scalar."""
    return tuple(data) if isinstance(data, dict) else ()
