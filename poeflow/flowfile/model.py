"""A flow as data: the shape of `schemas/flow.schema.json`, field for field.

Values are as the file gives them; defaults and aliases are resolved in `step_settings`. Durations
stay as written (`seconds` reads them), templates stay text.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta
from msgspec import UnsetType as Unset

from poeflow.clock import PATTERN as DURATION_PATTERN
from poeflow.digest import Json
from poeflow.flowfile.key_marks import (
    FILES,
    JUDGEMENT,
    NOTHING,
    REQUEST,
    RESOLVED,
    RUN,
    TO_TEXT,
    TO_TRUTH,
    TO_VALUE,
)

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
StepId = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*$")]
Text = Annotated[str, Meta(min_length=1)]
TemplateText = Annotated[str, Meta(pattern=r"\{\{")]
Seconds = Annotated[float, Meta(gt=0)]
Duration = Seconds | Annotated[str, Meta(pattern=DURATION_PATTERN)]
Count = Annotated[int, Meta(ge=1)]
PAGES: Final = r"^[1-9][0-9]{0,5}(-([1-9][0-9]{0,5})?)?(, ?[1-9][0-9]{0,5}(-([1-9][0-9]{0,5})?)?)*$"
Whole = Annotated[int, Meta(ge=0)]
FunctionName = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors everywhere."""


class TextFile(_Shape, frozen=True):
    """Text in a file, relative to the file that names it; `raw` if it is not a template."""

    file: Text
    raw: bool = False


Prose = Text | TextFile
SystemText = Prose | Unset | None
"""A system message. None leaves out that of the alias and of `defaults`."""


class PartFile(_Shape, frozen=True):
    """A JSON or YAML file with a part of the flow; loading puts that in its place."""

    file: Text


class InputSpec(_Shape, frozen=True):
    """A typed parameter. Without `default` or `default_from`, another input, it must be given."""

    type: Literal["string", "integer", "number", "boolean", "array", "object", "file"] = "string"
    description: str = ""
    default: Json | Unset = UNSET
    default_from: StepId | None = None
    enum: list[Json] | Unset = UNSET
    items: dict[str, Json] | Unset = UNSET
    properties: dict[str, Json] | None = None
    required: list[str] | None = None
    additional: bool | dict[str, Json] | None = msgspec.field(
        name="additionalProperties", default=None
    )
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False

    @property
    def schema(self) -> dict[str, Json]:
        """The JSON Schema of a list or mapping, empty for another value."""
        parts: dict[str, Json] = {}
        if self.items is not UNSET:
            parts["items"] = self.items
        if self.properties is not None:
            parts["properties"] = self.properties
        if self.required is not None:
            parts["required"] = [*self.required]
        if self.additional is not None:
            parts["additionalProperties"] = self.additional
        return parts

    @property
    def is_required(self) -> bool:
        return self.default is UNSET and self.default_from is None


class Params(_Shape, frozen=True):
    """The documented completion parameters. A `"{{ ... }}"` is checked again once rendered.

    None leaves out what an alias or `defaults` has.
    """

    max_tokens: Count | TemplateText | Unset | None = UNSET
    max_completion_tokens: Count | TemplateText | Unset | None = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | TemplateText | Unset | None = UNSET
    top_p: Annotated[float, Meta(ge=0, le=1)] | TemplateText | Unset | None = UNSET
    stop: Text | Annotated[list[Text], Meta(min_length=1, max_length=4)] | Unset | None = UNSET
    n: Literal[1] | Unset = UNSET
    seed: int | TemplateText | Unset | None = UNSET
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | TemplateText | Unset | None = UNSET
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | TemplateText | Unset | None = UNSET
    logprobs: bool | Unset | None = UNSET
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | Unset | None = UNSET
    logit_bias: dict[str, float] | Unset | None = UNSET
    reasoning_effort: Text | Unset | None = UNSET
    response_format: dict[str, Json] | Unset | None = UNSET
    service_tier: Text | Unset | None = UNSET
    store: bool | Unset | None = UNSET
    metadata: dict[str, Json] | Unset | None = UNSET
    user: Text | Unset | None = UNSET
    stream_options: dict[str, Json] | Unset | None = UNSET

    @property
    def by_name(self) -> dict[str, Json]:
        """Every parameter, None for one that is not sent."""
        written: dict[str, Json] = msgspec.to_builtins(self)
        return {name: written.get(name) for name in self.__struct_fields__}


ExtraBody = dict[str, Json]


class Retry(_Shape, frozen=True):
    """`attempts` counts every send of one request."""

    attempts: Annotated[int, Meta(ge=1, le=20)] = 4


class Timeout(_Shape, frozen=True):
    """`attempt` limits one send, `step` all work of a step: retries, repairs, rounds of tools."""

    attempt: Duration | None = None
    step: Duration | None = None


class Defaults(_Shape, frozen=True):
    model: Text | None = None
    provider: Name | None = None
    params: Params = Params()
    extra_body: ExtraBody = {}
    system: SystemText = UNSET
    timeout: Duration | Timeout | None = None
    retry: Retry | None = None
    stream: bool | None = None
    cache: bool | None = None


class Limits(_Shape, frozen=True):
    concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_requests: Whole | None = None
    max_tokens: Whole | None = None
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None
    max_points: Whole | None = None


class Attachment(_Shape, frozen=True):
    """Exactly one of `path` (a glob is fine), `url` (https, images) and `from` (a step's media)."""

    path: Text | None = None
    url: Annotated[str, Meta(pattern=r"^https://|\{\{")] | None = None
    from_: Text | None = msgspec.field(name="from", default=None)
    as_: Literal["auto", "image", "file", "text"] = msgspec.field(name="as", default="auto")
    resize: Annotated[int, Meta(ge=16, le=16384)] | None = None
    pages: Count | Annotated[str, Meta(pattern=PAGES)] | None = None
    name: Text | None = None
    media_type: Annotated[str, Meta(pattern=r"^[a-z]+/[A-Za-z0-9.+-]+$")] | None = None


class MessagePart(_Shape, frozen=True):
    """Exactly one of `text` and `attach`."""

    text: Text | None = None
    attach: Text | Attachment | None = None


class Example(_Shape, frozen=True):
    """An example of a user's message and its answer. Plain texts, not templates."""

    user: Text
    assistant: Text


class ExampleFile(_Shape, frozen=True):
    """Examples in a table; `user` and `assistant` are the columns with their texts."""

    file: Text
    user: Text = "user"
    assistant: Text = "assistant"


class MessageSpec(_Shape, frozen=True):
    """One turn, or with `few_shot` a list of examples, each a `user` and an `assistant` text."""

    role: Literal["system", "user", "assistant", "tool"] | None = None
    content: Text | list[MessagePart] | TextFile | None = None
    name: Text | None = None
    tool_calls: Annotated[list[dict[str, Json]], Meta(min_length=1)] | None = None
    tool_call_id: Text | None = None
    few_shot: Text | list[Example] | ExampleFile | None = None


class Tool(_Shape, frozen=True):
    name: Name
    description: str = ""
    parameters: dict[str, Json] = {}
    run: FunctionName | None = None


Format = Literal["text", "json", "yaml", "csv"]
"""The formats of answers; `answers/formats.py` reads them."""


class Output(_Shape, frozen=True):
    format: Annotated[Format | None, REQUEST] = None
    schema: Annotated[dict[str, Json] | None, REQUEST] = None
    one_of: Annotated[Annotated[list[Text], Meta(min_length=1)] | TemplateText | None, REQUEST] = (
        None
    )
    repair: Annotated[Annotated[int, Meta(ge=0, le=10)] | None, JUDGEMENT] = None
    extract: Annotated[Literal["fenced"] | None, REQUEST] = None
    accept: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Za-z][\w.-]{0,63}$")]], JUDGEMENT] = []
    default: Annotated[Json | Unset, JUDGEMENT] = UNSET
    reasoning: Annotated[Literal["keep"] | None, JUDGEMENT] = None
    save: Annotated[Text | None, FILES] = None
    media: Annotated[Text | None, FILES] = None
    tracked: Annotated[bool, FILES] = True

    @property
    def choices(self) -> list[str] | None:
        """The words of `one_of`: an expression has given way to them once inputs are known."""
        return self.one_of if isinstance(self.one_of, list) else None

    @property
    def form(self) -> Format:
        """How an answer is read: a schema without a format means JSON."""
        return self.format or ("text" if self.schema is None else "json")

    @property
    def has_default(self) -> bool:
        """Whether a value stands in place of an answer that cannot be read."""
        return self.default is not UNSET


class ModelAlias(_Shape, frozen=True):
    """A model, and keys of a step or of `limits` for the steps that name it.

    What a step says itself wins; of `output` it does so key by key.
    """

    model: Text
    provider: Name | None = None
    params: Params = Params()
    extra_body: ExtraBody = {}
    fallback: list[Text] = []
    system: SystemText = UNSET
    timeout: Duration | Timeout | None = None
    retry: Retry | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tools: list[Tool] | PartFile = []
    output: Output = Output()


class JudgedExample(_Shape, frozen=True):
    """An answer and the score it deserves. Plain texts, not templates."""

    answer: Text
    score: Annotated[float, Meta(ge=0, le=1)]
    reason: str = ""


class Judge(_Shape, frozen=True):
    """A model that judges by one `rubric`, or by several in one request.

    With `attachments` it sees those of the step.
    """

    rubric: Prose | None = None
    rubrics: Annotated[dict[Name, Prose], Meta(min_length=1)] | None = None
    model: Text | None = None
    system: Prose | None = None
    examples: list[JudgedExample] = []
    attachments: bool = False
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5


Severity = Literal["error", "warn", "score"]
"""What comes of an expectation that is not met, beside a lower score: the step fails, says so, or
nothing."""


class Similar(_Shape, frozen=True):
    """A text that an answer is to resemble: of each 100 characters, how many stay as they are."""

    text: Text
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.8


class Expectation(_Shape, frozen=True):
    """Exactly one check, with a `level` and a `weight`; `answers/expect.py` says what each means.

    A text in `contains_any` or `contains_all` may be a template that gives several.
    """

    contains: Annotated[Text | None, TO_TEXT] = None
    not_contains: Annotated[Text | None, TO_TEXT] = None
    contains_any: Annotated[Annotated[list[Text], Meta(min_length=1)] | None, TO_VALUE] = None
    contains_all: Annotated[Annotated[list[Text], Meta(min_length=1)] | None, TO_VALUE] = None
    starts_with: Annotated[Text | None, TO_TEXT] = None
    ends_with: Annotated[Text | None, TO_TEXT] = None
    equals: Annotated[Json | Unset, TO_VALUE] = UNSET
    similar_to: Annotated[Text | Similar | None, TO_VALUE] = None
    matches: Annotated[Text | None, TO_TEXT] = None
    min_length: Whole | None = None
    max_length: Whole | None = None
    is_json: bool | None = None
    json_schema: dict[str, Json] | None = None
    that: Annotated[Text | None, TO_TRUTH] = None
    max_cost: Annotated[float, Meta(ge=0)] | None = None
    max_seconds: Seconds | None = None
    call: FunctionName | None = None
    judge: Judge | None = None
    level: Severity = "error"
    weight: Annotated[float, Meta(gt=0)] = 1.0


class Loop(_Shape, frozen=True):
    """The items of `for_each`: of exactly one of `in`, `file` and `glob`.

    `file` is a table, or a pattern for several. `where` filters the items; then `key` names each
    instance, or `group_by` makes one of all items with equal values. Of the instances the first
    `limit` run, or a `sample` that depends on their keys and `seed`. With `carry`
    they run in order, each with a value of the one before.
    """

    in_: Text | list[Json] | None = msgspec.field(name="in", default=None)
    file: Text | None = None
    glob: Text | None = None
    where: Text | None = None
    key: Text | None = None
    group_by: Text | None = None
    limit: Count | TemplateText | None = None
    sample: Count | TemplateText | None = None
    seed: int = 0
    carry: Text | None = None

    @property
    def filters(self) -> tuple[str, ...]:
        """The keys that need items of the loop's own: not the instances of another step."""
        given: dict[str, str | int | None] = {"where": self.where, "group_by": self.group_by}
        given |= {"limit": self.limit, "sample": self.sample}
        return tuple(key for key, value in given.items() if value is not None)


class Matrix(_Shape, frozen=True):
    axes: dict[str, Text | list[Json] | TextFile]
    include: list[dict[str, Json]] = []
    exclude: list[dict[str, Json]] = []


class Samples(_Shape, frozen=True):
    """Request `count` answers; at least the share `pass_rate` of them must pass `expect`.

    One in whose place the default of `output` stands has not passed.
    """

    count: Annotated[int, Meta(ge=1, le=1000)]
    pass_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0


Messages = Annotated[list[MessageSpec], Meta(min_length=1)] | Text | TextFile
"""Turns that are written, an expression for a list of messages, or a table of them."""


class Repeat(_Shape, frozen=True):
    """Ask again until `until` holds, or without it until nothing in `expect` fails.

    The last of `max` turns at most counts. If its answer will not do either, the step fails, or
    with `else` takes that answer. A flow that is used is run again instead.
    """

    max: Annotated[int, Meta(ge=1, le=100)]
    until: Text | None = None
    else_: Literal["keep"] | None = msgspec.field(name="else", default=None)


StepKind = Literal["model", "render", "command", "flow"]


class Step(_Shape, frozen=True):
    """One step. Exactly one of `prompt`, `messages`, `render`, `command`, `call` and `use` is set.

    The annotation of each key, and of each key of `output`, says what it `Decides`.
    """

    description: Annotated[str, NOTHING] = ""
    needs: Annotated[list[StepId], RUN] = []
    if_: Annotated[Text | bool | None, REQUEST] = msgspec.field(name="if", default=None)
    for_each: Annotated[Text | list[Json] | Loop | None, RESOLVED] = None
    matrix: Annotated[Matrix | None, RESOLVED] = None
    continue_on_error: Annotated[bool, RUN] = False
    timeout: Annotated[Duration | Timeout | None, RUN] = None
    retry: Annotated[Retry | None, RUN] = None
    cache: Annotated[bool | None, RUN] = None

    prompt: Annotated[Prose | None, REQUEST] = None
    messages: Annotated[Messages | None, REQUEST] = None
    render: Annotated[Prose | None, REQUEST] = None
    command: Annotated[Annotated[list[str], Meta(min_length=1)] | None, REQUEST] = None
    stdin: Annotated[Prose | None, REQUEST] = None
    env: Annotated[list[Variable] | None, REQUEST] = None
    call: Annotated[FunctionName | None, REQUEST] = None
    reads: Annotated[list[Text] | None, REQUEST] = None
    use: Annotated[Text | None, REQUEST] = None
    with_: Annotated[dict[str, Json] | None, REQUEST] = msgspec.field(name="with", default=None)

    model: Annotated[Text | None, RESOLVED] = None
    provider: Annotated[Name | None, RESOLVED] = None
    fallback: Annotated[list[Text] | None, RUN] = None
    system: Annotated[SystemText, RESOLVED] = UNSET
    history: Annotated[StepId | None, REQUEST] = None
    attachments: Annotated[list[Text | Attachment], RESOLVED] = []
    params: Annotated[Params, RESOLVED] = Params()
    extra_body: Annotated[ExtraBody, RESOLVED] = {}
    tools: Annotated[list[Tool] | PartFile | None, REQUEST] = None
    tool_choice: Annotated[Text | dict[str, Json] | None, REQUEST] = None
    tools_mode: Annotated[Literal["run", "return"] | None, JUDGEMENT] = None
    parallel_tool_calls: Annotated[bool | None, REQUEST] = None
    stream: Annotated[bool | None, RUN] = None
    samples: Annotated[Annotated[int, Meta(ge=1, le=1000)] | Samples | None, REQUEST] = None
    repeat: Annotated[Repeat | None, JUDGEMENT] = None
    output: Output = Output()
    expect: Annotated[list[Expectation], JUDGEMENT] = []

    @property
    def turns(self) -> list[MessageSpec]:
        """The messages that are written in the flow."""
        return self.messages if isinstance(self.messages, list) else []

    @property
    def functions(self) -> list[Tool]:
        """The tools: those of a file stand in its place once a flow is loaded."""
        if isinstance(self.tools, PartFile):
            raise AssertionError("loading puts the tools of a file in its place")
        return self.tools or []

    @property
    def readable_functions(self) -> list[Tool]:
        """The tools, none if the file that has them cannot be read."""
        return [] if isinstance(self.tools, PartFile) else self.functions

    @property
    def kind(self) -> StepKind:
        if self.render is not None:
            return "render"
        if self.command is not None or self.call is not None:
            return "command"
        return "flow" if self.use is not None else "model"

    @property
    def runs_always(self) -> bool:
        """Whether a command or call runs on every run: it does not say what decides its result."""
        return self.kind == "command" and (self.reads is None or self.cache is False)


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
