"""Where the configs of models differ in what their weights mean: shapes agree there, so nothing else would tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mergecore.models.row_names import subject_of
from mergecore.types import Checkpoint, Json

_NO_MEANING = re.compile(
    r"_.*|name_or_path|architectures|auto_map|model_type|\w*version|(torch_)?dtype|\w*(token|layer|block|stage)s?(_\w+)?"
    r"|vocab_size|\w*dropout\w*|\w*_p?drop|\w*initializer\w*|init_\w+|(id2)?label(2id)?|num_labels|problem_type|\w*task(_\w+)?"
    r"|use_cache|use_bfloat16|output_\w+|return_dict\w*|gradient_\w+|pretraining_tp|torchscript|quantization_config"
    r"|tie_\w+|\w*_coef|prune\w*|keys_to_ignore\w*"
)
"""Keys that speak of files, tokens, layers, training or use: weights mean the same without them."""
_NAMED = 6


def differences(models: Sequence[Checkpoint], donor: Checkpoint) -> Iterator[str]:
    """A sentence for each model whose config gives weights another meaning than that of `donor`, which is written.

    Only what both configs state is compared: versions of transformers write different keys for the same.
    """
    for model in models:
        found = list(_differing(donor.config, model.config))
        if found:
            told = ", ".join(f"{key} {ours!r} and {theirs!r}" for key, ours, theirs in found[:_NAMED])
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            yield (
                f"the weights of {donor.name} and {model.name} may not mean the same, their configs differ: "
                f"{told}{more}; the config of {donor.name} is written"
            )


def _differing(
    ours: Mapping[str, Json], theirs: Mapping[str, Json], path: str = ""
) -> Iterator[tuple[str, Json, Json]]:
    for key in sorted(ours.keys() & theirs.keys()):
        if _NO_MEANING.fullmatch(key):
            continue
        one, other = ours[key], theirs[key]
        if isinstance(one, dict) and subject_of(key):
            continue  # names of rows, which are compared by name
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differing(one, other, f"{path}{key}.")
        elif not isinstance(one, (list, dict)) and not isinstance(other, (list, dict)) and one != other:
            yield f"{path}{key}", one, other
