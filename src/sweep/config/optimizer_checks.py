"""Check `optimizer.optim_args`: transformers drops every name that it does not look for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from sweep.config.schema import OptimizerConfig

KEY = "optimizer.optim_args"


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _is_switch(text: str) -> bool:
    return text.lower() in ("true", "false", "1", "0", "yes", "no")


NUMBER = (_is_share, "a number of 0 or more")
NAMES: dict[str, dict[str, tuple[Callable[[str], bool], str]]] = {
    "sgd": {"momentum": NUMBER, "dampening": NUMBER, "nesterov": (_is_switch, "true or false")}
}
"""Per optimizer, what is looked for; none of the others has any."""


def check(optimizer: OptimizerConfig) -> list[str]:
    """Return one message per argument that would be dropped, or fail when training starts."""
    if optimizer.optim_args is None:
        return []
    names = NAMES.get(optimizer.optim)
    if names is None:
        return [
            f"{KEY}={optimizer.optim_args!r} has no effect on optimizer.optim={optimizer.optim!r}."
            f" Set {KEY}=null, or use optimizer=sgd."
        ]
    given = dict(re.findall(r"(\w+)=([^=,]+)", optimizer.optim_args.replace(" ", "")))
    errors = [_problem(name, value, names) for name, value in given.items()]
    if not any(errors) and given.get("nesterov", "no").lower() in ("true", "1", "yes"):
        errors.append(_nesterov_problem(given))
    return [error for error in errors if error]


def _problem(name: str, value: str, names: dict[str, tuple[Callable[[str], bool], str]]) -> str:
    if name == "weight_decay":
        return f"{KEY}: weight_decay is optimizer.weight_decay. Set that."
    if name not in names:
        return (
            f"{KEY}: {name!r} is no argument of sgd. Its arguments are {', '.join(names)}. Correct"
            " the name."
        )
    is_right, allowed = names[name]
    if is_right(value):
        return ""
    return f"{KEY}: {name}={value!r} is not allowed. It has to be {allowed}."


def _nesterov_problem(given: dict[str, str]) -> str:
    """Return the error that torch raises when the optimizer is made."""
    if float(given.get("momentum", 0)) > 0 and float(given.get("dampening", 0)) == 0:
        return ""
    return f"{KEY}: nesterov needs a momentum above 0, and no dampening. Set momentum=0.9."
