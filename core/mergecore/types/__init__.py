"""Every value that crosses the border between the core and a plugin, in the order a merge meets them.

All are frozen.  What a plugin yields comes with the name users write; what a plugin is handed is plain data.
"""

from mergecore.files.strict_json import Json
from mergecore.types.architectures import (
    Architecture,
    Description,
    Fit,
    Layers,
    Module,
    Proposal,
    Stack,
    TensorFacts,
)
from mergecore.types.events import Display, Event, ModelSealed, PlanReady, StepDone, Warned
from mergecore.types.execution import Alone, Executor, Job, RunStep, StepResult, Workers
from mergecore.types.groups import Block, Blocks, Cut, Matrix, TensorGroup
from mergecore.types.methods import Merged, MergeMethod
from mergecore.types.models import (
    AdapterReference,
    Checkpoint,
    ModelReference,
    ModelSource,
    OpenModel,
    OpenOptions,
    SmallFile,
    TensorInfo,
    WeightFile,
)
from mergecore.types.outputs import Layout, OutputFile, OutputTensor, OutputWriter, Slot
from mergecore.types.plans import Chosen, ConfigEdit, Dropped, Plan, Planner, PlanOptions, Recipe
from mergecore.types.side_files import SideFile, SideFileRequest, SideFiles
from mergecore.types.steps import Depth, Step, TensorInput
from mergecore.types.tensors.composed import Computed, Joined, MovedRows, RowSource, Segment
from mergecore.types.tensors.data import (
    ForEach,
    InMemory,
    Origin,
    Prepares,
    Read,
    Reader,
    Stored,
    TensorData,
    held,
    one_by_one,
    prepared,
)
from mergecore.types.vocabularies import Rows, TokenizerRequest, TokenizerStrategy, TokenTable, Vocabulary

__all__ = [
    "AdapterReference",
    "Alone",
    "Architecture",
    "Block",
    "Blocks",
    "Checkpoint",
    "Chosen",
    "Computed",
    "ConfigEdit",
    "Cut",
    "Depth",
    "Description",
    "Display",
    "Dropped",
    "Event",
    "Executor",
    "Fit",
    "ForEach",
    "InMemory",
    "Job",
    "Joined",
    "Json",
    "Layers",
    "Layout",
    "Matrix",
    "MergeMethod",
    "Merged",
    "ModelReference",
    "ModelSealed",
    "ModelSource",
    "Module",
    "MovedRows",
    "OpenModel",
    "OpenOptions",
    "Origin",
    "OutputFile",
    "OutputTensor",
    "OutputWriter",
    "Plan",
    "PlanOptions",
    "PlanReady",
    "Planner",
    "Prepares",
    "Proposal",
    "Read",
    "Reader",
    "Recipe",
    "RowSource",
    "Rows",
    "RunStep",
    "Segment",
    "SideFile",
    "SideFileRequest",
    "SideFiles",
    "Slot",
    "SmallFile",
    "Stack",
    "Step",
    "StepDone",
    "StepResult",
    "Stored",
    "TensorData",
    "TensorFacts",
    "TensorGroup",
    "TensorInfo",
    "TensorInput",
    "TokenTable",
    "TokenizerRequest",
    "TokenizerStrategy",
    "Vocabulary",
    "Warned",
    "WeightFile",
    "Workers",
    "held",
    "one_by_one",
    "prepared",
]
