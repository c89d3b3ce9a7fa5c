"""What is asked of models as the command line to type; read `chat` and `evaluate`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from mergecore_plugins.ui.runs.run import PLACE

MOST = 40
"""Prompts, and models, at most."""


def _named(name: str) -> str:
    if not name.strip() or name.startswith("-") or "\0" in name:
        raise ValueError("a model is a folder or a name on the hub")
    return name


Text = Annotated[str, StringConstraints(max_length=20_000)]
Model = Annotated[Text, AfterValidator(_named)]


class _Asked(BaseModel):
    """Who is asked: the merge of what is in the editor, in memory, and models as a config names them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str
    merge: bool
    models: Annotated[list[Model], Field(max_length=MOST)]
    online: bool = False

    @property
    def who(self) -> list[str]:
        """The merge first."""
        return [*([PLACE] if self.merge else []), *dict.fromkeys(self.models)]

    @property
    def network(self) -> list[str]:
        """The option that says whether the network is used."""
        return [] if self.online else ["--offline"]


class Question(_Asked):
    """Prompts to models."""

    prompts: Annotated[list[Text], Field(min_length=1, max_length=MOST)]
    tokens: Annotated[int, Field(ge=1, le=4096)] = 60
    raw: bool = False


class Examination(_Asked):
    """What models are evaluated with: a file of evaluators, or of texts; `limit`: the first samples only."""

    data: Text
    limit: Annotated[int, Field(ge=1)] | None = None


def chat(asked: Question) -> list[str]:
    """The command line that asks."""
    prompts = [f"--prompt={one}" for one in asked.prompts]
    raw = ["--raw"] if asked.raw else []
    return ["chat", *asked.who, *prompts, f"--max-tokens={asked.tokens}", *raw, *asked.network]


def evaluate(asked: Examination, file: str) -> list[str]:
    """The command line that evaluates with a file of evaluators."""
    limit = [f"--limit={asked.limit}"] if asked.limit else []
    return ["evaluate", *asked.who, f"--with={file}", "--no-parents", *limit, *asked.network]
