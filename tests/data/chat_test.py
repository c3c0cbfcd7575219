import re

import pytest

from research.data import chat

_HI = [{"role": "user", "content": "Hi"}]


def test_smollm2_renders_as_transformers_does(golden, smollm2_words):
  template = smollm2_words.chat_template
  assert template == golden["chat"]["template"]
  for messages, expected in zip(
    golden["chat"]["conversations"], golden["chat"]["rendered"], strict=True
  ):
    assert chat.render(template, messages) == expected


def test_without_generation_prompt(golden):
  template = golden["chat"]["template"]
  text = chat.render(template, _HI, add_generation_prompt=False)
  assert text.endswith("<|im_start|>user\nHi<|im_end|>\n")


def test_further_variables_and_helpers():
  template = (
    "{{ bos_token }}{% for m in messages %}\n"
    "    {%- if m.role == 'skip' %}{% continue %}{% endif %}\n"
    "{{ m.content | tojson }} {{ strftime_now('%Y') }}{% endfor %}"
  )
  messages = [{"role": "skip", "content": ""}, {"role": "u", "content": "<é>"}]
  text = chat.render(template, messages, bos_token="<s>")
  assert re.fullmatch(r'<s>"<é>" \d{4}', text)


def test_block_lines_leave_no_blanks():
  template = "{% if true %}\n  {% if true %}\nx\n  {% endif %}\n{% endif %}\n"
  assert chat.render(template, []) == "x\n"


@pytest.mark.parametrize(
  "template",
  [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}",
    "{{ raise_exception.__globals__['datetime'] }}",
    "{{ strftime_now.__code__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='x') }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% include '/etc/passwd' %}",
  ],
)
def test_hostile_templates_reach_nothing(template):
  messages = [dict(_HI[0])]
  try:
    text = chat.render(template, messages)
  except chat.ChatTemplateError:
    text = ""
  assert text.strip() == ""  # jinja2 shows some forbidden things as nothing
  assert messages == _HI


def test_what_is_forbidden_is_said():
  with pytest.raises(chat.ChatTemplateError, match="what the sandbox forbids"):
    chat.render("{{ ''.__class__.__mro__ }}", _HI)


def test_refused_messages():
  with pytest.raises(chat.ChatTemplateError) as caught:
    chat.render("{{ raise_exception('roles must alternate') }}", _HI)
  assert str(caught.value) == (
    "the chat template refused these messages: roles must alternate"
  )


def test_broken_template():
  with pytest.raises(chat.ChatTemplateError, match="broken at line 2: "):
    chat.render("x\n{% for %}", _HI)


def test_failing_template():
  with pytest.raises(
    chat.ChatTemplateError, match="the chat template failed: ZeroDivisionError"
  ):
    chat.render("{{ 1 / 0 }}", _HI)


@pytest.mark.parametrize("key", ["role", "content"])
def test_messages_without_a_field(key):
  message = {"role": "user", "content": "Hi"}
  del message[key]
  with pytest.raises(chat.ChatTemplateError) as caught:
    chat.render("", [*_HI, message])
  assert f"message 1 has no {key!r}: got [" in str(caught.value)


def test_tool_calls_need_no_content():
  call = {"role": "assistant", "tool_calls": []}
  assert chat.render("{{ messages|length }}", [call]) == "1"
