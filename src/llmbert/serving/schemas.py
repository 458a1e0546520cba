"""What may be asked, field by field: OpenAI's requests, and ours for what its protocol has no word for.

A field that is not known is refused rather than ignored. Numbers beyond OpenAI's (top_k, min_p, …) are the names of
`GenerationSettings`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_TEXTS = 2048
Text = Annotated[str, Field(max_length=1 << 20)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


def _one_kind(value: Any) -> Any:
    """A text, or a list of one kind alone. pydantic would find fault with each element in each way that it could be
    meant, which takes seconds for a list that is long and wrong."""
    if not isinstance(value, list):
        return value
    kind = type(value[0]) if value else str
    if kind not in (str, int, list) or any(type(each) is not kind for each in value):
        raise ValueError("a text, a list of texts, or token ids are wanted, all of one kind")
    if kind is not int and len(value) > MOST_TEXTS:
        raise ValueError(f"there are {len(value)}, more than {MOST_TEXTS}")
    if kind is list and any(type(token) is not int for each in value for token in each):
        raise ValueError("a list of lists holds token ids alone")
    return value


def _texts_alone(value: Any) -> Any:
    if isinstance(value, list) and value and not isinstance(value[0], str):
        raise ValueError(
            "texts are wanted: token ids of another tokeniser mean nothing here "
            "(LangChain: check_embedding_ctx_length=False)"
        )
    return _one_kind(value)


Prompts = Annotated[Text | list[Text] | Ids | list[Ids], BeforeValidator(_one_kind)]
Several = Annotated[Text | list[Text], BeforeValidator(_texts_alone)]
Count = Annotated[int, Field(ge=1, le=16)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Languages = Annotated[str, Field(pattern="^[a-z]{2,8}(-[A-Za-z0-9]{1,8})?$")]


class Strict(BaseModel):
    """No field that is not known, no number as text; null is as good as leaving a field out, as OpenAI has it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    empty: ClassVar[tuple[str, ...]] = ()  # fields of the protocol that are taken where they hold nothing

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            name: value
            for name, value in given.items()
            if value is not None and not (name in cls.empty and value in ([], {}, ""))
        }


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # accepted; nothing is added


class JsonSchema(Strict):
    name: str = Field("answer", max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """text: anything; json_object: an object; json_schema: what the schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Sampling(Strict):
    """How tokens are chosen; None: as the run or OpenAI has it."""

    model: str = Field(min_length=1, max_length=256)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    top_k: int = Field(0, ge=0, le=2**31)
    min_p: float = Field(0.0, ge=0, le=1)
    typical_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)
    no_repeat_ngram: int = Field(0, ge=0, le=100)


class Generation(Sampling):
    """How many texts, how they end, and how they are told. user, metadata, store: accepted, and kept nowhere."""

    empty = ("logit_bias", "tools", "functions")

    stop: Annotated[str, Field(min_length=1, max_length=256)] | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Seed | None = None
    n: Count = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    user: str | None = Field(None, max_length=256)
    metadata: dict[str, Any] | None = None
    store: bool | None = None


class Completion(Generation):
    """Text that goes on from a prompt; of an encoder-decoder the target of a source.

    prompt: one or several texts, or token ids of one or several; source: of an encoder-decoder what it writes from, the
    prompt being what the target begins with (without it, prompts are the sources); suffix: what is to stand behind, of
    runs that fill in; logprobs: so many alternatives at each token.
    """

    prompt: Prompts = ""
    source: Text | None = None
    suffix: Text | None = None
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    best_of: Literal[1] | None = None


class Part(Strict):
    type: Literal["text"]
    text: Text


class Message(Strict):
    """One turn: system or developer text holds for all of it; the assistant is the run. name: accepted, and not looked
    at, since a run knows two speakers."""

    empty = ("refusal", "annotations", "audio", "tool_calls", "function_call")  # of an answer that is given back

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=64)] = ""
    name: str | None = Field(None, max_length=64)

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class Chat(Generation):
    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)


class Embedding(Strict):
    model: str = Field(min_length=1, max_length=256)
    input: Several
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = Field(None, max_length=256)


class Texts(Strict):
    """Texts for a run; one alone may be given as it is."""

    model: str = Field(min_length=1, max_length=256)
    input: Several


class Translation(Texts):
    source_language: Languages | None = None
    target_language: Languages | None = None
    beams: int = Field(5, ge=1, le=8)
    max_tokens: int | None = Field(None, ge=1)


class Summary(Texts):
    beams: int = Field(4, ge=1, le=8)
    max_tokens: int = Field(128, ge=1)
    truncation: Literal["lead", "head", "tail", "head+tail"] | None = None


class Classification(Texts):
    head: str | None = Field(None, max_length=64)


class Tracing(Texts):
    """Where texts stand in the training text; least: characters of a span."""

    least: int | None = Field(None, ge=1)


class Scoring(Texts):
    """sources: what an encoder-decoder's texts are targets of, as many."""

    source: Several | None = None


class Distribution(Sampling):
    """The next token after a prompt (text or ids): what the model thinks, and what sampling makes of it."""

    prompt: Text | Ids = ""
    source: Text | None = None
    count: int = Field(20, ge=1, le=100)


class Attention(Texts):
    """Where a Transformer looks while it reads a text; target: what an encoder-decoder writes."""

    input: Text
    target: Text | None = None


class Thumb(Strict):
    """What somebody thought of an answer. better: what it should have said."""

    id: str = Field(min_length=1, max_length=64)
    good: bool
    note: str = Field("", max_length=4096)
    better: str | None = Field(None, max_length=1 << 16)
