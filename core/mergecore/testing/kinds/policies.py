"""Checks of policies, which choose numbers of a config; read `check_policy`, then `POLICY`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from mergecore.config.documents import Config, document_of
from mergecore.config.parameters.declared import describe_params, parameters_of
from mergecore.errors import ConfigError
from mergecore.pipeline.coefficients import with_coefficients
from mergecore.pipeline.plans import plan
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.testing.registries import registry_with
from mergecore.types import Json, Policy

METHODS = ("task_arithmetic", "linear")
"""Methods for which numbers are chosen, where no config is given."""


def check_policy(
    policy: Policy[Any],
    *,
    params: Mapping[str, Json] | None = None,
    config: Config | None = None,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check the numbers that a policy chooses: plain ones, the same each time, with which the config is planned.

    params: its parameters; None for the defaults.
    config: a merge config for which it chooses numbers; None for a merge of tiny Llamas.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with policy_case(policy, params, config, registry) as case:
        hold(f"policy '{policy.name}'", POLICY, case, without)


@dataclass
class PolicyCase:
    """A policy with its parameters, and configs for which it may choose numbers."""

    policy: Policy[Any]
    params: Mapping[str, Json]
    configs: Sequence[Config]
    registry: Registry
    folder: Path

    def chosen(self) -> dict[str, Json]:
        """The first config for which it chooses numbers, with these."""
        lacking = [
            word
            for word, one in parameters_of(self.policy.params).items()
            if one.required and word not in self.params
        ]
        if lacking:
            raise NotCheckedError(f"it needs parameters: {', '.join(lacking)}")
        refusals = []
        for config in self.configs:
            try:
                return with_coefficients(
                    config, self.policy.name, registry=self.registry, **cast("Any", self.params)
                )[0]
            except ConfigError as error:
                refusals.append(str(error))
        raise AssertionError(f"it chooses no numbers for the configs that are tried: {refusals[0]}")


@contextmanager
def policy_case(
    policy: Policy[Any],
    params: Mapping[str, Json] | None = None,
    config: Config | None = None,
    registry: Registry | None = None,
) -> Iterator[PolicyCase]:
    """A case for `POLICY`."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        base, *models = [str(tiny_model(folder / f"model-{seed}", seed=seed)) for seed in range(4)]
        listed = [{"model": one} for one in models]
        tried = [{"merge_method": method, "base_model": base, "models": listed} for method in METHODS]
        known = registry or registry_with(Policy, policy)
        yield PolicyCase(policy, params or {}, [config] if config else tried, known, folder)


def _is_described(case: PolicyCase) -> None:
    summary = case.policy.summary
    demand(summary.strip(), "nothing says what it does: say it by `summary`")
    demand(
        len(summary) <= 59 and "\n" not in summary,
        f"its summary has {len(summary)} characters; one line of at most 59 is expected",
    )
    for row in describe_params(case.policy.params):
        demand(row.help, f"nothing says what its parameter '{row.name}' means: Field(description=…)")


def _chooses(case: PolicyCase) -> None:
    case.chosen()


def _chooses_the_same(case: PolicyCase) -> None:
    first, again = case.chosen(), case.chosen()
    demand(
        first == again, "it chooses other numbers each time; let them depend on config, models and parameters"
    )


def _is_planned(case: PolicyCase) -> None:
    made = document_of(case.chosen())
    try:
        plan(made, registry=case.registry)
    except ConfigError as error:
        raise AssertionError(f"with the numbers that it chooses, the config is refused: {error}") from error


def _leaves_models_alone(case: PolicyCase) -> None:
    before = _listing(case.folder)
    case.chosen()
    demand(_listing(case.folder) == before, "it writes into the folders of the models")


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(one), one.stat().st_mtime_ns) for one in folder.rglob("*"))


POLICY: Sequence[Property[PolicyCase]] = (
    Property("described", "it says what it does, and what its parameters mean", _is_described),
    Property("chooses", "it chooses numbers for a merge of tiny models", _chooses),
    Property("same", "asked again, it chooses the same numbers", _chooses_the_same),
    Property("planned", "the config with its numbers is a config", _is_planned),
    Property("inputs", "the models stay as they are", _leaves_models_alone),
)
"""What every policy keeps."""
