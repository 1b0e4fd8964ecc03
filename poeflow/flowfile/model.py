"""A flow as data: the shape of `schemas/flow.schema.json`, field for field.

Values are as the file gives them; defaults and aliases are resolved in `step_settings`. Durations
stay as written (`seconds` reads them), templates stay text.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from poeflow.clock import PATTERN as DURATION_PATTERN
from poeflow.digest import Json

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
StepId = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*$")]
Text = Annotated[str, Meta(min_length=1)]
TemplateText = Annotated[str, Meta(pattern=r"\{\{")]
Seconds = Annotated[float, Meta(gt=0)]
Duration = Seconds | Annotated[str, Meta(pattern=DURATION_PATTERN)]
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors everywhere."""


class TextFile(_Shape, frozen=True):
    """Text that stands in a file, relative to the file that names it; `raw` means no template."""

    file: Text
    raw: bool = False


Prose = Text | TextFile


class InputSpec(_Shape, frozen=True):
    """A typed parameter. Without `default` it must be given."""

    type: Literal["string", "integer", "number", "boolean", "array", "object", "file"] = "string"
    description: str = ""
    default: Json | msgspec.UnsetType = msgspec.UNSET
    enum: list[Json] | msgspec.UnsetType = msgspec.UNSET
    items: dict[str, Json] | msgspec.UnsetType = msgspec.UNSET
    minimum: float | None = None
    maximum: float | None = None


class Params(_Shape, frozen=True):
    """The documented completion parameters. A `"{{ ... }}"` is checked again once rendered."""

    max_tokens: Count | TemplateText | None = None
    max_completion_tokens: Count | TemplateText | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | TemplateText | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | TemplateText | None = None
    stop: Text | Annotated[list[Text], Meta(min_length=1, max_length=4)] | None = None
    n: Literal[1] | None = None
    seed: int | TemplateText | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | TemplateText | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | TemplateText | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: Text | None = None
    response_format: dict[str, Json] | None = None
    service_tier: Text | None = None
    store: bool | None = None
    metadata: dict[str, Json] | None = None
    user: Text | None = None
    stream_options: dict[str, Json] | None = None


ExtraBody = dict[str, Json]


class Retry(_Shape, frozen=True):
    """`attempts` counts every send of one request."""

    attempts: Annotated[int, Meta(ge=1, le=20)] = 4


class Timeout(_Shape, frozen=True):
    """`attempt` is for one send, `step` for all a step does: retries, repairs, rounds of tools."""

    attempt: Duration | None = None
    step: Duration | None = None


class ModelAlias(_Shape, frozen=True):
    model: Text
    provider: Name | None = None
    params: Params = Params()
    extra_body: ExtraBody = {}
    fallback: list[Text] = []


class Defaults(_Shape, frozen=True):
    model: Text | None = None
    provider: Name | None = None
    params: Params = Params()
    extra_body: ExtraBody = {}
    system: Prose | None = None
    timeout: Duration | Timeout | None = None
    retry: Retry | None = None
    stream: bool | None = None
    cache: bool | None = None


class Limits(_Shape, frozen=True):
    concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    requests_per_minute: Count | None = None
    max_requests: Whole | None = None
    max_tokens: Whole | None = None
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None
    max_points: Whole | None = None


class Attachment(_Shape, frozen=True):
    """Exactly one of `path` (a glob is fine), `url` (https, images) and `from` (a step's media)."""

    path: Text | None = None
    url: Annotated[str, Meta(pattern=r"^https://|\{\{")] | None = None
    from_: Text | None = msgspec.field(name="from", default=None)
    as_: Literal["auto", "image", "file"] = msgspec.field(name="as", default="auto")
    name: Text | None = None
    media_type: Annotated[str, Meta(pattern=r"^[a-z]+/[A-Za-z0-9.+-]+$")] | None = None


class MessagePart(_Shape, frozen=True):
    """Exactly one of `text` and `attach`."""

    text: Text | None = None
    attach: Text | Attachment | None = None


class Example(_Shape, frozen=True):
    """What a user might say and what the answer should be. Plain texts, no templates."""

    user: Text
    assistant: Text


class MessageSpec(_Shape, frozen=True):
    """One turn, or with `few_shot` a list of examples, each a `user` and an `assistant` text."""

    role: Literal["system", "user", "assistant", "tool"] | None = None
    content: Text | list[MessagePart] | TextFile | None = None
    name: Text | None = None
    tool_calls: Annotated[list[dict[str, Json]], Meta(min_length=1)] | None = None
    tool_call_id: Text | None = None
    few_shot: Text | list[Example] | TextFile | None = None


class Tool(_Shape, frozen=True):
    name: Name
    description: str = ""
    parameters: dict[str, Json] = {}
    run: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None


class Output(_Shape, frozen=True):
    format: Literal["text", "json", "yaml", "csv"] | None = None
    schema: dict[str, Json] | None = None
    one_of: Annotated[list[Text], Meta(min_length=1)] | None = None
    repair: Annotated[int, Meta(ge=0, le=10)] | None = None
    extract: Literal["fenced"] | None = None
    accept: list[Annotated[str, Meta(pattern=r"^[A-Za-z][\w.-]{0,63}$")]] = []
    reasoning: Literal["keep"] | None = None
    save: Text | None = None
    media: Text | None = None
    tracked: bool = True


class Judge(_Shape, frozen=True):
    rubric: Prose
    model: Text | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5


class Expectation(_Shape, frozen=True):
    """Exactly one check, with an optional `level`."""

    contains: Text | None = None
    not_contains: Text | None = None
    equals: Json | msgspec.UnsetType = msgspec.UNSET
    matches: Text | None = None
    min_length: Whole | None = None
    max_length: Whole | None = None
    json_schema: dict[str, Json] | None = None
    that: Text | None = None
    judge: Judge | None = None
    level: Literal["error", "warn"] = "error"


class Loop(_Shape, frozen=True):
    """What `for_each` runs over: an expression or a file; `key` names each instance."""

    in_: Text | list[Json] | None = msgspec.field(name="in", default=None)
    file: Text | None = None
    key: Text | None = None


class Matrix(_Shape, frozen=True):
    axes: dict[str, Text | list[Json] | TextFile]
    include: list[dict[str, Json]] = []
    exclude: list[dict[str, Json]] = []


class Samples(_Shape, frozen=True):
    """Ask `count` times; `pass_rate` is the least share of answers that must pass `expect`."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    pass_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Step(_Shape, frozen=True):
    """One step. Exactly one of `prompt`, `messages`, `render` and `use` is set."""

    description: str = ""
    needs: list[StepId] = []
    if_: Text | bool | None = msgspec.field(name="if", default=None)
    for_each: Text | list[Json] | Loop | None = None
    matrix: Matrix | None = None
    continue_on_error: bool = False
    timeout: Duration | Timeout | None = None
    retry: Retry | None = None
    cache: bool | None = None

    prompt: Prose | None = None
    messages: Annotated[list[MessageSpec], Meta(min_length=1)] | None = None
    render: Prose | None = None
    use: Text | None = None
    with_: dict[str, Json] | None = msgspec.field(name="with", default=None)

    model: Text | None = None
    provider: Name | None = None
    fallback: list[Text] | None = None
    system: Prose | None = None
    history: StepId | None = None
    attachments: list[Text | Attachment] = []
    params: Params = Params()
    extra_body: ExtraBody = {}
    tools: list[Tool] | None = None
    tool_choice: Text | dict[str, Json] | None = None
    tools_mode: Literal["run", "return"] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    samples: Annotated[int, Meta(ge=1, le=1000)] | Samples | None = None
    output: Output = Output()
    expect: list[Expectation] = []

    @property
    def kind(self) -> Literal["model", "render", "flow"]:
        if self.render is not None:
            return "render"
        return "flow" if self.use is not None else "model"


class Flow(_Shape, frozen=True):
    """A flow file, valid by its schema. `poeflow` is the format version."""

    poeflow: Literal[1]
    steps: Annotated[dict[StepId, Step], Meta(min_length=1)]
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    description: str = ""
    inputs: dict[StepId, InputSpec] = {}
    models: dict[Name, ModelAlias] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    outputs: dict[Name, Json] = {}
