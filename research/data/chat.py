"""Chat templates: messages to the text that a chat model was trained on.

Templates come with the weights, so they are strangers' code: they run in
jinja2's immutable sandbox, which keeps them from Python's attributes and
from changing their arguments.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import sandbox


class ChatTemplateError(ValueError):
  """A chat template cannot be rendered."""


class _Refused(jinja2.TemplateError):
  """The template called `raise_exception`."""


def render(
  template: str,
  messages: Sequence[Mapping[str, Any]],
  add_generation_prompt: bool = True,
  **kw: Any,
) -> str:
  """Renders a conversation.

  Args:
    template: jinja2 source, as model files and tokenizer configs hold it.
    messages: the turns, each with "role" and "content" (or "tool_calls").
    add_generation_prompt: end with the opening of the assistant's turn.
    **kw: further variables of the template (`bos_token`, `tools`, ...).

  Returns:
    The prompt, special tokens written out.

  Raises:
    ChatTemplateError: bad messages, a broken or hostile template, or a
      conversation that the template refuses.

  Example:
    >>> render("{% for m in messages %}{{ m.content }}!{% endfor %}",
    ...        [{"role": "user", "content": "Hi"}])
    'Hi!'
  """
  _check(messages)
  try:
    compiled = _environment().from_string(template, globals=_HELPERS)
    return compiled.render(
      messages=messages, add_generation_prompt=add_generation_prompt, **kw
    )
  except _Refused as error:
    raise ChatTemplateError(
      f"the chat template refused these messages: {error}"
    ) from None
  except jinja2.TemplateSyntaxError as error:
    raise ChatTemplateError(
      f"the chat template is broken at line {error.lineno}: {error.message}"
    ) from None
  except sandbox.SecurityError as error:
    raise ChatTemplateError(
      f"the chat template tried what the sandbox forbids: {error}"
    ) from None
  # Whatever a stranger's template runs into is the template's fault.
  except Exception as error:
    text = " ".join(str(error).split())
    raise ChatTemplateError(
      f"the chat template failed: {type(error).__name__}: {text}"
    ) from None


def _check(messages: Sequence[Mapping[str, Any]]) -> None:
  for index, message in enumerate(messages):
    body = "tool_calls" if "tool_calls" in message else "content"
    for key in ("role", body):
      if key not in message:
        raise ChatTemplateError(
          f"message {index} has no {key!r}: got {sorted(message)}, expected "
          "'role' and 'content'"
        )


def _environment() -> sandbox.ImmutableSandboxedEnvironment:
  # The white-space rules and loop controls that published templates expect.
  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols"],
  )
  environment.filters["tojson"] = _to_json
  return environment


def _raise_exception(message: str) -> None:
  raise _Refused(message)


def _strftime_now(pattern: str) -> str:
  return datetime.datetime.now().strftime(pattern)


def _to_json(value: Any, indent: int | None = None) -> str:
  # jinja2's own filter escapes for HTML, which prompts must not be.
  return json.dumps(value, ensure_ascii=False, indent=indent)


_HELPERS = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
