"""Tensors that are factors of a change and mean nothing alone, such as those of a LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mergecore.errors import some
from mergecore.types import Checkpoint, Step

_FACTOR = re.compile(
    r"(.*[._])?(lora_(A|B|up|down|mid|embedding_A|embedding_B)|hada_[wt][12](_[ab])?|lokr_[wt][12](_[ab])?)"
    r"([._][\w-]+)?(\.weight)?"
)


def factors(models: Sequence[Checkpoint], steps: Sequence[Step]) -> Iterator[str]:
    """A sentence when factors of models without a config are merged one by one."""
    of = {i for i, model in enumerate(models) if not model.config}
    found = [
        step.name
        for step in steps
        if step.method
        and len(step.operands) > 1
        and step.operands[0].model in of
        and _FACTOR.fullmatch(step.name)
    ]
    if found:
        yield (
            f"{some(found, 2)} are factors of a change, as adapters have them: each factor is merged by itself, and "
            "their product is not the merge of the changes; to merge the changes, write BASE+ADAPTER"
        )
