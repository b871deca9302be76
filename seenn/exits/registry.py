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


def rule_options(name: str) -> tuple[str, ...]:
    """The fields of the rule ``name`` that ``make_rule`` takes, beside its threshold and those that it learns.

    Raises:
        PluginError: there is no such rule.
    """
    rule = EXIT_RULES.get(name)
    others = {"inner", getattr(rule, "threshold_field", None), *getattr(rule, "learned", ())}
    return tuple(field for field in _fields(rule) if field not in others)


def make_rule(name: str, *, threshold: float | None = None, inner: str | None = None, **options: Any) -> Any:
    """The rule ``name`` with the options that are not None, and its own defaults for the others.

    Args:
        name: as registered.
        threshold: in the unit that a person thinks in: a probability, a gap, equal answers in a row, timesteps.
        inner: name of the rule inside another; threshold and options that the outer rule lacks are for it.
        options: fields of the rule, see ``rule_options``.

    Raises:
        PluginError: there is no such rule.
        ValueError: an option that the rule does not take, or a value that it refuses.
    """
    rule, takes = EXIT_RULES.get(name), rule_options(name)
    given = {option: value for option, value in options.items() if value is not None}
    if "inner" in _fields(rule):
        own = {option: given.pop(option) for option in takes if option in given}
        inside = make_rule(inner or "confidence", threshold=threshold, **given)
        if "calibrate" in vars(type(inside)):
            raise ValueError(f"the {name} rule needs an inner rule with one threshold to calibrate; {inner} has none")
        return rule(inner=inside, **own)
    if inner is not None:
        raise ValueError(f"inner goes with rules that hold another, as two-sided does; {name} does not")
    if wrong := [option for option in given if option not in takes]:
        takes_words = ", ".join(takes) or "no options of its own"
        raise ValueError(f"the {name} rule does not take {', '.join(wrong)}: it takes {takes_words}")
    if missing := [option for option in _required(rule) if option not in given]:
        made = f": make one with `{rule.made_with}`" if hasattr(rule, "made_with") else ""
        raise ValueError(f"the {name} rule cannot be made by its name, it needs {', '.join(missing)}{made}")
    if threshold is None:
        return rule(**given)
    field = getattr(rule, "threshold_field", None)
    if field in _fields(rule):
        return rule(**given, **{field: int(threshold) if float(threshold).is_integer() else threshold})
    if not hasattr(rule, "at"):
        raise ValueError(f"the {name} rule has no threshold")
    return rule(**given).at(threshold)


def default_rules() -> dict[str, Any]:
    """Every registered rule that needs nothing but its name, with its defaults."""
    return {name: make_rule(name) for name, rule in EXIT_RULES.items() if not _required(rule)}


def _fields(rule: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(rule) if field.init] if dataclasses.is_dataclass(rule) else []


def _required(rule: type[Any]) -> list[str]:
    if not dataclasses.is_dataclass(rule):
        return []
    none = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(rule) if f.init and f.default is none and f.default_factory is none]
