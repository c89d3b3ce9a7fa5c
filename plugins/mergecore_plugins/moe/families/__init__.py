"""The families that are built in; read `mergecore_moe_families`."""

from __future__ import annotations

from collections.abc import Iterator

from mergecore import MoeFamily, hookimpl
from mergecore_plugins.moe.families.deepseek import deepseek, dots1, glm4_moe
from mergecore_plugins.moe.families.ernie import ernie4_5_moe
from mergecore_plugins.moe.families.granite import granitemoe, granitemoeshared
from mergecore_plugins.moe.families.hunyuan import hunyuan_v1_moe
from mergecore_plugins.moe.families.mixtral import mixtral
from mergecore_plugins.moe.families.olmo import flex_olmo
from mergecore_plugins.moe.families.qwen import qwen2_moe, qwen3_moe


@hookimpl
def mergecore_moe_families() -> Iterator[MoeFamily]:
    """Yield those that transformers, vLLM or llama.cpp can load."""
    yield from (mixtral, deepseek, qwen2_moe, qwen3_moe)
    yield from (
        granitemoe,
        granitemoeshared,
        flex_olmo,
        ernie4_5_moe,
        dots1,
        glm4_moe,
        hunyuan_v1_moe,
    )
