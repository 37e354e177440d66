"""Rules between parameters, and those a pattern cannot say."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from infra.deploy.templates import Template, as_text

_NETWORKS = ("VpcCIDR", "PeerCIDR1", "PeerCIDR2", "PeerCIDR3")


def broken(values: Mapping[str, str], region: str, templates: Sequence[Template]) -> Iterator[str]:
    """What is wrong with the parameters together; ``values`` has the defaults, too."""
    yield from _networks(values)
    yield from dict.fromkeys(_assertions(templates, values))
    yield from _tasks(values)
    yield from _certificate(values, region)


def _networks(values: Mapping[str, str]) -> Iterator[str]:
    for name in _NETWORKS:
        try:
            IPv4Network(values.get(name) or "0.0.0.0/32")
        except ValueError as error:
            yield f"parameters.{name} = {values[name]!r}: {error}"


def _assertions(templates: Sequence[Template], values: Mapping[str, str]) -> Iterator[str]:
    """The templates' own Rules, as CloudFormation evaluates them."""
    for rule in (rule for each in templates for rule in each.document.get("Rules", {}).values()):
        if evaluate(rule.get("RuleCondition", True), values):
            for each in rule["Assertions"]:
                if not evaluate(each["Assert"], values):
                    yield each["AssertDescription"].rstrip(".")


def evaluate(expression: Any, values: Mapping[str, str]) -> Any:
    """A rule's expression; raises KeyError for a function it does not know."""
    if not isinstance(expression, dict):
        return expression
    ((name, argument),) = expression.items()
    if name == "Ref":
        return values.get(argument, "")
    return _FUNCTIONS[name]([evaluate(each, values) for each in argument])


_FUNCTIONS: Mapping[str, Callable[[list[Any]], bool]] = {
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Not": lambda arguments: not arguments[0],
    "Fn::Equals": lambda arguments: as_text(arguments[0]) == as_text(arguments[1]),
    "Fn::Contains": lambda arguments: arguments[1] in [as_text(each) for each in arguments[0]],
}


def _tasks(values: Mapping[str, str]) -> Iterator[str]:
    desired, most = _number(values, "TaskDesiredCount"), _number(values, "AutoscaleMaxCapacity")
    if desired is not None and most is not None and desired > most:
        yield f"parameters.TaskDesiredCount = '{desired}': more than AutoscaleMaxCapacity, {most}"


def _certificate(values: Mapping[str, str], region: str) -> Iterator[str]:
    """An ARN's fourth part is its Region; that it is an ARN, the template's pattern says."""
    arn = values.get("TLSCertificateARN", "")
    if arn and f":acm:{region}:" not in arn:
        yield (
            f"parameters.TLSCertificateARN = {arn!r}: a load balancer takes only certificates of "
            "its Region"
        )


def _number(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
