"""Which nodes a profile selects: Kubernetes label selectors, every fault with its path and the right form. Pure."""

from __future__ import annotations

from typing import cast, get_args

from tuneagent.contracts.node_selector import NodeSelector, Operator, Requirement
from tuneagent.formats.lazy_regex import lazy_regex

OPERATORS: tuple[str, ...] = get_args(Operator)
_FIELDS = ("matchLabels", "matchExpressions")
_EXPRESSION_FIELDS = ("key", "operator", "values")
# A label's key and value (k8s.io/apimachinery, IsQualifiedName and IsValidLabelValue).
_KEY = lazy_regex(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z",
)
_VALUE = lazy_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
LIMIT = 64


def parse_selector(raw: object, path: str, faults: list[str]) -> NodeSelector:
    """Selector of a plain document; faults are added, and an empty selector is returned with them."""
    before = len(faults)
    if not isinstance(raw, dict):
        faults.append(f"{path}: expected a mapping with matchLabels or matchExpressions, got {raw!r}")
        return NodeSelector()
    for key, value in raw.items():
        if key not in _FIELDS:
            faults.append(f"{path}.{key}: unknown field; {_right_form(str(key), value)}")
    labels = _labels(raw.get("matchLabels"), f"{path}.matchLabels", faults)
    expressions = raw.get("matchExpressions")
    found: list[Requirement] = []
    if expressions is not None and not isinstance(expressions, list):
        faults.append(f"{path}.matchExpressions: expected a list, got {expressions!r}")
    elif len(expressions or ()) > LIMIT:
        faults.append(f"{path}.matchExpressions: {len(expressions or ())} lines, at most {LIMIT}")
    else:
        for number, one in enumerate(expressions or ()):
            requirement = _expression(one, f"{path}.matchExpressions[{number}]", faults)
            if requirement is not None:
                found.append(requirement)
    return NodeSelector(labels, tuple(found)) if len(faults) == before else NodeSelector()


def _right_form(key: str, value: object) -> str:
    from tuneagent.errors import nearest

    close = nearest(key, _FIELDS)
    if close:
        return close.removeprefix("; ")
    shown = value if isinstance(value, str) else "VALUE"
    return f"a label is selected with `nodeSelector: {{matchLabels: {{{key}: {shown}}}}}`"


def _labels(raw: object, path: str, faults: list[str]) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        faults.append(f"{path}: expected a mapping of label to value, got {raw!r}")
        return {}
    if len(raw) > LIMIT:
        faults.append(f"{path}: {len(raw)} labels, at most {LIMIT}")
    for key, value in raw.items():
        _check_key(key, path, faults)
        _check_value(value, f"{path}.{key}", faults)
    return raw


def _check_key(key: object, path: str, faults: list[str]) -> None:
    if not isinstance(key, str) or not _KEY.match(key):
        faults.append(f"{path}: {key!r} is not a label's key")


def _check_value(value: object, path: str, faults: list[str]) -> None:
    if not isinstance(value, str):
        text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
        faults.append(f'{path}: a label\'s value is text, got {text}; write it in quotes: "{text}"')
    elif not _VALUE.match(value):
        faults.append(f"{path}: {value!r} is not a label's value (at most 63 letters, digits, '-', '_' and '.')")


def _expression(raw: object, path: str, faults: list[str]) -> Requirement | None:
    before = len(faults)
    if not isinstance(raw, dict):
        faults.append(f"{path}: expected key, operator and values, got {raw!r}")
        return None
    from tuneagent.errors import nearest

    faults += [
        f"{path}.{name}: unknown field{nearest(str(name), _EXPRESSION_FIELDS)}"
        for name in raw
        if name not in _EXPRESSION_FIELDS
    ]
    _check_key(raw.get("key"), f"{path}.key", faults)
    operator, values = raw.get("operator"), raw.get("values")
    if operator not in OPERATORS:
        faults.append(
            f"{path}.operator: {operator!r} is not one of {', '.join(OPERATORS)}{nearest(str(operator), OPERATORS)}"
        )
    if values is not None and not isinstance(values, list):
        faults.append(f"{path}.values: expected a list, got {values!r}")
        return None
    for number, value in enumerate(values or ()):
        _check_value(value, f"{path}.values[{number}]", faults)
    if operator in ("In", "NotIn") and not values:
        faults.append(f"{path}.values: {operator} needs at least one value")
    if operator in ("Exists", "DoesNotExist") and values:
        faults.append(f"{path}.values: {operator} takes no values")
    if len(faults) > before:
        return None
    return Requirement(raw["key"], cast("Operator", operator), tuple(values or ()))
