"""What a result must not depend on, such as clocks, and what a method must leave alone; read `PURITY`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from mergecore.testing.findings import Property, demand
from mergecore.testing.methods.cases import MethodCase, same
from mergecore.testing.methods.elsewhere import digests_elsewhere, digests_here
from mergecore.testing.methods.listening import Listening


def _asks_nobody(case: MethodCase) -> None:
    merge: object = case.method.merge
    while isinstance(merge, partial):
        merge = merge.func
    package = str(getattr(merge, "__module__", None) or type(merge).__module__).partition(".")[0]
    for given in [*case.ordinary, *case.normal((7,))]:
        case.tried(given)  # what is made once is made now
        with Listening(package) as listening:
            case.tried(given)
        demand(
            not listening.heard,
            f"it asks for {next(iter(listening.heard), '')}; let it depend on its inputs and parameters alone",
        )


STATES: Mapping[str, Callable[[], object]] = {
    "the random numbers of torch": lambda: torch.get_rng_state().tolist(),
    "the random numbers of numpy": lambda: [str(one) for one in np.random.get_state()],
    "the random numbers of Python": random.getstate,
    "the default dtype of torch": torch.get_default_dtype,
    "the number of threads of torch": torch.get_num_threads,
    "whether torch records gradients": torch.is_grad_enabled,
}


def _leaves_the_process_alone(case: MethodCase) -> None:
    for given in [*case.ordinary, *case.normal((7,))]:
        made = []
        for seed in (1, 2):
            with _seeded(seed):
                before = {what: state() for what, state in STATES.items()}
                made.append(case.tried(given))
                changed = [what for what, state in STATES.items() if state() != before[what]]
            demand(
                not changed,
                f"it changes {' and '.join(changed)}, which all code shares; "
                "take random numbers from `block.uniform`, and set nothing",
            )
        demand(
            same(*made),
            f"the result for {given.what} depends on global random numbers; take them from `block.uniform`",
        )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Global random numbers begin at a seed, and settings are as they are at the start of Python, but for threads."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    settings = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    _set(torch.float32, 2, True)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        _set(*settings)


def _set(dtype: torch.dtype, threads: int, gradients: bool) -> None:
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)


def _any_thread(case: MethodCase) -> None:
    for given in case.ordinary:
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(case.tried, given).result()
        demand(
            same(found, case.tried(given)),
            f"another thread makes another result for {given.what}; keep nothing by thread",
        )


def _any_process(case: MethodCase) -> None:
    here = digests_here(case)
    for [there] in digests_elsewhere([case]):
        for what, digest in here.items():
            demand(
                there[what] == digest,
                f"another process makes another result for {what}; go by no hash and by the order of no set, "
                "and keep nothing from call to call",
            )


PURITY: Sequence[Property[MethodCase]] = (
    Property("asks", "it asks for no clock, process, thread or address", _asks_nobody),
    Property(
        "shared", "it leaves alone what all code shares, such as random states", _leaves_the_process_alone
    ),
    Property("thread", "another thread makes the same result", _any_thread),
    Property("process", "another process makes the same result", _any_process),
)
"""What every method keeps: its result comes of its inputs and parameters alone."""
