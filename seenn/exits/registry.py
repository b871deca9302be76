"""Exit rules by name: one file each in ``seenn.exits.rules``, and those that plugins add."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from seenn.exits.deprecated import accept_timesteps
from seenn.registry import Registry

EXIT_RULES: Registry[type[Any]] = Registry("exit rule", "seenn.exits.rules")

PolicyClass = TypeVar("PolicyClass", bound=type[Any])


def register_policy(name: str) -> Callable[[PolicyClass], PolicyClass]:
    """Class decorator: names an exit policy, a frozen dataclass, for files and the command line.

    Raises:
        ValueError: the name is taken: a file that names it would mean two rules.
    """

    def add(cls: PolicyClass) -> PolicyClass:
        EXIT_RULES.register(name)(cls)
        cls.kind = name
        accept_timesteps(cls)
        return cls

    return add


def make_rule(name: str, *, threshold: float | None = None, inner: str | None = None, **options: Any) -> Any:
    """The rule ``name`` with the options that are not None, and its own defaults for the others.

    Args:
        name: as registered.
        threshold: in the unit that a person thinks in: a probability, a gap, equal answers in a row, timesteps.
        inner: name of the rule inside another; threshold and options that the outer rule lacks are for it.
        options: fields of the rule, beside its threshold and those that it learns.

    Raises:
        PluginError: there is no such rule.
        ValueError: an option that the rule does not take, or a value that it refuses.
    """
    rule = EXIT_RULES.get(name)
    given = {option: value for option, value in options.items() if value is not None}
    required, own_threshold = _required(rule), getattr(rule, "threshold_field", None)
    others = {"inner", own_threshold, *getattr(rule, "learned", ())}
    takes = [field for field in required if field not in others]
    if "inner" in required:
        own = {option: given.pop(option) for option in takes if option in given}
        inside = make_rule(inner or "confidence", threshold=threshold, **given)
        if "calibrate" in vars(type(inside)):
            raise ValueError(f"the {name} rule needs an inner rule with one threshold to calibrate; {inner} has none")
        return rule(inner=inside, **own)
    if inner is not None:
        raise ValueError(f"inner goes with rules that hold another, as two-sided does; {name} does not: leave it out")
    if wrong := [option for option in given if option not in takes]:
        takes_words = ", ".join(takes) or "no options of its own"
        raise ValueError(f"the {name} rule does not take {', '.join(wrong)}: it takes {takes_words}; leave it out")
    if missing := [field for field, needed in required.items() if needed and field not in given]:
        made = f": make one with `{rule.made_with}`" if hasattr(rule, "made_with") else ": give them"
        raise ValueError(f"the {name} rule cannot be made by its name, it needs {', '.join(missing)}{made}")
    if threshold is None:
        return rule(**given)
    if own_threshold in required:
        return rule(**given, **{own_threshold: int(threshold) if float(threshold).is_integer() else threshold})
    if not hasattr(rule, "at"):
        raise ValueError(f"the {name} rule has no threshold: leave it out")
    return rule(**given).at(threshold)


def default_rules() -> dict[str, Any]:
    """Every registered rule that needs nothing but its name, with its defaults."""
    return {name: make_rule(name) for name, rule in EXIT_RULES.items() if not any(_required(rule).values())}


def threshold_of(policy: Any) -> Any:
    """What a report shows as the threshold of a policy, or of the one inside it; None where it has none."""
    rule = getattr(policy, "inner", policy)
    return getattr(rule, getattr(rule, "threshold_field", ""), None)


def _required(rule: type[Any]) -> dict[str, bool]:
    """The fields of a rule, and whether it cannot be made without them."""
    own = dataclasses.fields(rule) if dataclasses.is_dataclass(rule) else ()
    none = dataclasses.MISSING
    return {field.name: field.default is none and field.default_factory is none for field in own if field.init}
