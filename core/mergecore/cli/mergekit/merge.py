"""What `merge` and `plan` do about the options of all of mergekit's commands."""

from __future__ import annotations

from mergecore.cli.mergekit.command import ForeignCommand
from mergecore.cli.mergekit.shared import SHARED

_RENAMED = {
    "intermediate_dir": "--intermediate {value}",
    "I": "--intermediate {value}",
    "tensor_union": "--missing skip --unexpected merge",
    "u": "--missing skip --unexpected merge",
    "tensor_intersection": "--missing drop --unexpected drop",
    "i": "--missing drop --unexpected drop",
}
_HARMLESS = {
    **dict.fromkeys(("naive_count", "int8_mask"), "it never changed a result"),
    **dict.fromkeys(("load_in_4bit", "load_in_8bit"), "models are read as they are stored, a part at a time"),
    "lazy": "what is there and unchanged is not made again",
    "no_lazy": "what is there and unchanged is not made again; delete it to have it made anew",
    "no_reshard": "models are read as they are",
    "i_understand_this_is_not_useful_without_training": "'allow_identical: true' in the config allows equal experts",
}
_IN_CONFIG = {
    "dtype": "the config says it: write 'dtype: {value}' there, or 'out_dtype:' for the output alone",
    "out_dtype": "the config says it: write 'out_dtype: {value}' there",
    "bf16": "the config says it: write 'dtype: bfloat16' there",
    "fp16": "the config says it: write 'dtype: float16' there",
    "method": "the config says it: write 'merge_method: {value}' there",
    "merge_method": "the config says it: write 'merge_method: {value}' there",
    "base_model": "the config says it: write 'base_model: {value}' there",
    "merge": "the config says it: write '- model: {value}' under 'models:' there",
    "model": "the config says it: write '- model: {value}' under 'models:' there",
    "m": "the config says it: write '- model: {value}' under 'models:' there",
    "weight": "the config says it: write 'weight: {value}' under 'parameters:' there",
    "w": "the config says it: write 'weight: {value}' under 'parameters:' there",
    "density": "the config says it: write 'density: {value}' under 'parameters:' there",
    "normalize": "the config says it: write 'normalize: true' or 'false' under 'parameters:' there",
    "tokenizer_source": "the config says it: write 'tokenizer_source: {value}' there",
    "chat_template": "the config says it: write 'chat_template: {value}' there",
    "print_yaml": "the config is the one that you write; `mergecore plan` shows what it does",
    "write_yaml": "the config is the one that you write; `mergecore plan` shows what it does",
    "dry_run": "`mergecore plan CONFIG` shows what a merge would do",
    "out_path": "write the folder of the output after the config: mergecore merge CONFIG OUT",
    "output": "write the folder of the output after the config: mergecore merge CONFIG OUT",
    "output_dir": "write the folder of the output after the config: mergecore merge CONFIG OUT",
    "config": "write the config as the first word: mergecore merge CONFIG OUT",
}
_NO_COMMAND = {
    "mergekit-multi": "require_nameless R",
    "mergekit-evolve": "max_fevals vllm strategy in_memory storage_path num_gpus merge_cuda sigma0 wandb wandb_project "
    "wandb_entity task_search_path i_understand_the_depths_of_the_evils_i_am_unleashing save_final_model reshard "
    "timeout force_population_size",
}
_DONE_BY = {
    "mergekit-multi": "where --result NAME says here which of several documents is the output",
    "mergekit-evolve": "which searches for parameters, as `mergecore search` does",
}


class MergeCommand(ForeignCommand):
    """A command that understands the options of `mergekit-yaml`, and knows those of its siblings."""

    foreign = SHARED.extended(
        renamed=_RENAMED,
        harmless=_HARMLESS,
        elsewhere={
            option: f"it is an option of {command}, {_DONE_BY[command]}"
            for command, options in _NO_COMMAND.items()
            for option in options.split()
        }
        | _IN_CONFIG,
    )
