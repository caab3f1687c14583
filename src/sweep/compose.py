"""Command line -> checked jobs: the only module that talks to Hydra.

Every job is composed before the first one starts, and all mistakes are reported together. Only
Hydra, OmegaConf and the schema are imported here, so that an error shows within a second.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep import config
from sweep.config import Config, ConfigError

GROUPS = ("data", "model", "freeze", "optimizer", "trainer", "tracking", "experiment")


@dataclass(frozen=True)
class Job:
    """One run to be: its overrides as typed, the ones that vary in the sweep, and its config."""

    overrides: tuple[str, ...]
    swept: dict[str, str]
    cfg: Config

    @property
    def name(self) -> str:
        """Name of the run, from the strategy and whatever else was swept."""
        others = [f"{k}={v}" for k, v in self.swept.items() if k != "freeze"]
        return " ".join([self.cfg.freeze.name, *others])


def compose_jobs(overrides: Sequence[str], config_dir: str | None = None) -> list[Job]:
    """Expand the command line into jobs.

    Args:
        overrides: As typed; `key=a,b` sweeps.
        config_dir: A folder laid out like `conf/`, searched first.

    Raises:
        ConfigError: With all mistakes of all jobs.
    """
    with _hydra(config_dir):
        parsed = _parse(overrides)
        _raise_all(_option_errors(parsed))
        axes = _axes(parsed)
        lines = [tuple(line) for line in product(*axes.values())]
        swept = {key for key, values in axes.items() if len(values) > 1} | {"freeze"} & set(axes)
        configs = [_compose_or_errors(line) for line in lines]
    _raise_all([message for found in configs for message in _messages(found)])
    jobs = [
        Job(line, {k: v.split("=", 1)[1] for k, v in zip(axes, line, strict=True) if k in swept}, c)
        for line, c in zip(lines, cast("list[Config]", configs), strict=True)
    ]
    _raise_all(_duplicate_errors(jobs))
    return jobs


def options(config_dir: str | None = None) -> dict[str, dict[str, str]]:
    """Per group, its options and what the first line of each file says about it."""
    with _hydra(config_dir):
        return {group: {name: _summary(group, name) for name in _names(group)} for group in GROUPS}


class _ConfigDirPlugin(SearchPathPlugin):
    """Puts the folder given with --config-dir in front of the built-in configuration."""

    folder: str | None = None

    def manipulate_search_path(self, search_path: Any) -> None:
        if self.folder:
            search_path.prepend(provider="command-line", path=f"file://{self.folder}")


@contextmanager
def _hydra(config_dir: str | None) -> Iterator[None]:
    if config_dir is not None and not os.path.isdir(config_dir):
        raise ConfigError(f"--config-dir {config_dir!r} is not a folder.")
    config.register()
    _ConfigDirPlugin.folder = os.path.abspath(config_dir) if config_dir else None
    Plugins.instance().register(_ConfigDirPlugin)
    GlobalHydra.instance().clear()
    with initialize_config_module("sweep.conf", version_base="1.3"):
        yield


def _parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides of the command line, behind the sweep that the configuration itself asks for."""
    parser, parsed, errors = OverridesParser.create(config_loader=_loader()), [], []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            errors.append(
                f"{text!r} cannot be read ({reason}). Write key=value, key=a,b to sweep,"
                " and quote values with special characters: key='\"a=b\"'."
            )
    _raise_all(errors)
    return parsed


def _axes(parsed: list[Override]) -> dict[str, list[str]]:
    """Per key, the overrides to try, in the order typed; one entry for what does not vary."""
    fixed = [o.input_line for o in parsed if not o.is_sweep_override()]
    found = _try_compose(fixed, return_hydra_config=True)
    if isinstance(found, str):
        everything = [f"{o.key_or_group}={value}" for o in parsed for value in _values(o)]
        _raise_all(_diagnose(everything) or [found])
    params = cast(DictConfig, found).hydra.sweeper.get("params") or {}
    default = OverridesParser.create(config_loader=_loader()).parse_overrides(
        [f"{key}={value}" for key, value in params.items()]
    )
    try:
        jobs = BasicSweeper.split_arguments([*default, *parsed], max_batch_size=None)[0]
    except HydraException as error:
        raise ConfigError(f"{error}. Sweep over a list: key=a,b,c.") from None
    axes = [list(dict.fromkeys(values)) for values in zip(*jobs, strict=True)]
    return {values[0].split("=", 1)[0]: values for values in axes}


def _option_errors(parsed: list[Override]) -> list[str]:
    """Unknown keys, unknown options of a group and keys added with `+`, before composing."""
    errors = []
    known = config.keys(Config)
    for override in parsed:
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if override.is_add() or override.is_delete():
            errors.append(
                f"{override.input_line!r} adds or deletes a key. Only existing keys can be set,"
                f" with {key}=value."
            )
        elif key in GROUPS:
            errors += [
                _unknown_option(key, name)
                for name in _values(override)
                if name not in [*_names(key), *(["null"] if key == "experiment" else [])]
            ]
        elif key not in known and not key.startswith(("families.", "model.parts.")):
            errors.append(_unknown_key(key, known))
    return errors


def _values(override: Override) -> list[str]:
    if override.is_sweep_override() and override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _unknown_option(group: str, name: str) -> str:
    return (
        f"{group}={name!r} is no option of {group}. Its options are:"
        f" {', '.join(_names(group))}.{_did_you_mean(name, _names(group))}"
    )


def _unknown_key(key: str, known: Sequence[str]) -> str:
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    siblings = sorted(k for k in known if k.startswith(prefix) and "." not in k[len(prefix) :])
    where = f"Keys of {parent}" if parent else "Top-level keys"
    return f"{key} is no key. {where}: {', '.join(siblings)}.{_did_you_mean(key, known)}"


def _did_you_mean(word: str, candidates: Sequence[str]) -> str:
    last = {c.rpartition(".")[2]: c for c in candidates}
    close = difflib.get_close_matches(word, candidates, n=1) or [
        last[name] for name in difflib.get_close_matches(word.rpartition(".")[2], last, n=1)
    ]
    return f" Did you mean {close[0]}?" if close else ""


def _compose_or_errors(line: tuple[str, ...]) -> Config | list[str]:
    found = _try_compose(line)
    if isinstance(found, str):
        return _diagnose(list(line)) or [found]
    try:
        missing = sorted(OmegaConf.missing_keys(found))
        if missing:
            return [f"{key} is required. Set it with {key}=VALUE." for key in missing]
        return cast(Config, OmegaConf.to_object(found))
    except ConfigError as error:
        return list(error.messages)
    except OmegaConfBaseException as error:
        return [_plain(error)]


def _messages(found: Config | list[str]) -> list[str]:
    return found if isinstance(found, list) else config.check(found)


def _diagnose(line: list[str]) -> list[str]:
    """Find each override that fails: every one is tried alone, on top of the group choices."""
    chosen = {text.split("=", 1)[0]: text for text in line if text.split("=", 1)[0] in GROUPS}
    groups = list(chosen.values())
    single = [text for text in line if text.split("=", 1)[0] not in GROUPS]
    tried = {text: _try_compose([*groups, text]) for text in single}
    return [_explain(text, found) for text, found in tried.items() if isinstance(found, str)]


def _explain(override: str, error: str) -> str:
    key, _, value = override.partition("=")
    kind = re.search(r"be converted to (\w+)|is incompatible with type hint '(.+?)'", error)
    if kind:
        wanted = (kind[1] or kind[2]).replace("typing.", "").replace("Union", "one of ")
        return f"{key}={value!r} has the wrong type. It has to be: {wanted}."
    return f"{key}={value!r} is not accepted: {error}"


def _try_compose(
    overrides: Sequence[str | None], return_hydra_config: bool = False
) -> DictConfig | str:
    try:
        kept = [text for text in overrides if text]
        found = compose("config", overrides=kept, return_hydra_config=return_hydra_config)
        return cast(DictConfig, found)
    except (HydraException, OmegaConfBaseException) as error:
        return _plain(error.__cause__ or error)


def _plain(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(line for line in lines if not line.startswith(("reference_", "object_type")))


def _duplicate_errors(jobs: list[Job]) -> list[str]:
    """Two YAML files that claim one strategy name would be merged in every table."""
    owners: dict[str, set[str]] = {}
    for job in jobs:
        option = dict(text.split("=", 1) for text in job.overrides).get("freeze", "")
        owners.setdefault(job.cfg.freeze.name, set()).add(option)
    return [
        f"freeze={','.join(sorted(found))}: these options share the name {name!r}."
        " Give each strategy's YAML its own `name`."
        for name, found in owners.items()
        if len(found) > 1
    ]


def _raise_all(errors: Sequence[str]) -> None:
    if errors:
        raise ConfigError(*errors)


def _loader() -> Any:
    return GlobalHydra.instance().config_loader()


def _names(group: str) -> list[str]:
    return [name for name in _loader().get_group_options(group) if not name.startswith("_")]


def _summary(group: str, name: str) -> str:
    """First comment line of an option file that is not a Hydra directive."""
    for source in _loader().get_sources():
        if source.scheme() in ("pkg", "file") and source.is_config(f"{group}/{name}"):
            folder = Path(__file__).parent / "conf"
            if source.scheme() == "file":
                folder = Path(source.path)
            elif not folder.is_dir():  # an editable install keeps conf/ at the top of the checkout
                folder = Path(__file__).parents[2] / "conf"
            lines = (folder / group / f"{name}.yaml").read_text("utf-8").splitlines()
            comments = [line[1:].strip() for line in lines if line.startswith("#")]
            return next((c for c in comments if c and not c.startswith("@")), "")
    return ""
