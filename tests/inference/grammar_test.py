"""Answers within a grammar, whatever the model would rather say."""

import functools
import json
import pathlib
import re

import numpy as np
import pytest

from research.inference import engine as engine_lib
from research.inference import grammar, guides, sampling, speculation, stopping
from research.inference.request import Finish, Request
from research.transformer import config as config_lib
from research.transformer.checkpoints import model as model_lib
from tests.inference import invariants
from tests.workspace import markdown

_SCHEMA = {
  "type": "object",
  "properties": {
    "name": {"enum": ["Ada", "Grace"]},
    "year": {"type": "integer", "minimum": 1800, "maximum": 1999},
    "tags": {
      "type": "array",
      "items": {"type": "string", "maxLength": 6},
      "maxItems": 2,
    },
  },
  "required": ["name", "year", "tags"],
  "additionalProperties": False,
  "x-guidance": {"whitespace_flexible": False},
}
_CALL = r"<tool_call>[a-z]{2,6}\([0-9]{1,3}\)</tool_call>"


@pytest.fixture(scope="module")
def babbler(smollm2_words) -> model_lib.Model:
  """SmolLM2's vocabulary and random weights, padding included."""
  config = config_lib.DecoderConfig(
    vocab_size=smollm2_words.vocab_size + 40,
    embed_dim=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=16,
    context_length=256,
  )
  return model_lib.initialise(config, seed=0)


@pytest.fixture(scope="module")
def grammars(smollm2_words, babbler) -> grammar.Grammars:
  return grammar.Grammars(smollm2_words, babbler.config.vocab_size)


@pytest.fixture(scope="module")
def _verifying(babbler, smollm2_words):
  return _engine(babbler, smollm2_words, speculation.PromptLookup())


def _engine(babbler, words, drafter) -> engine_lib.Engine:
  settings = engine_lib.Settings(
    num_pages=48, page_size=16, rows=(4,), pieces=(16,), block=16, drafts=(3,)
  )
  return engine_lib.Engine(
    babbler, settings, eos_ids=[words.eos_id], drafter=drafter
  )


@pytest.fixture
def make_engine(babbler, smollm2_words, _verifying):
  def make(drafter=None) -> engine_lib.Engine:
    engine = _engine(babbler, smollm2_words, drafter)
    engine.runner._steps = _verifying.runner._steps
    return engine

  return make


def _requests(starts, temperature=1.0) -> list[Request]:
  return [
    Request(
      [seed + 5, 6],
      max_tokens=120,
      sampling=sampling.Sampling(temperature=temperature, seed=seed),
      guides=(start,) if start else (),
    )
    for seed, start in enumerate(starts)
  ]


def _texts(words, completions) -> list[str]:
  return [
    words.decode([t for t in one.tokens if t != words.eos_id])
    for one in completions
  ]


def test_answers_follow_a_schema_beside_free_ones(
  make_engine, smollm2_words, grammars
):
  engine = make_engine()
  schema = grammars.json_schema(_SCHEMA)
  number = grammars.regex(r"-?[0-9]{1,4}")
  found = engine.generate(_requests([schema, None, number, schema, schema]))
  texts = _texts(smollm2_words, found)
  for index in (0, 3, 4):
    value = json.loads(texts[index])
    assert value["name"] in ("Ada", "Grace")
    assert 1800 <= value["year"] <= 1999
    assert len(value["tags"]) <= 2
  assert re.fullmatch(r"-?[0-9]{1,4}", texts[2])
  assert found[1].finish is Finish.LENGTH
  assert [found[i].finish for i in (0, 2, 3, 4)] == [Finish.STOP] * 4
  assert len({texts[0], texts[3], texts[4]}) > 1
  alone = make_engine().generate(_requests([schema]))
  assert alone[0].tokens == found[0].tokens


def test_a_grammar_of_rules_with_recursion(
  make_engine, smollm2_words, grammars
):
  """Brackets, to any depth that the chances choose."""
  rules = 'start: "(" (start | "x") ")"'
  found = make_engine().generate(_requests([grammars.lark(rules)] * 4))
  for one, text in zip(found, _texts(smollm2_words, found), strict=True):
    if one.finish is Finish.STOP:
      depth = text.count("(")
      assert text == "(" * depth + "x" + ")" * depth
  assert any(one.finish is Finish.STOP for one in found)


class _Scatter:
  """Guesses what an answer said, with wrong tokens here and there."""

  def __init__(self, answers, every: int):
    self._answers, self._every = answers, every

  def propose(self, prefixes, most):
    return [self._guess(list(prefix.tokens), most) for prefix in prefixes]

  def _guess(self, tokens, most):
    for text in self._answers:
      if tokens == text[: len(tokens)]:
        places = range(len(tokens), min(len(tokens) + most, len(text)))
        return [text[i] + (i % self._every == 0) for i in places]
    return []


@pytest.mark.parametrize("every", [1, 2, 3, 1000])
def test_trap_16_the_grammar_survives_rejected_guesses(
  make_engine, grammars, every
):
  """Wrong ones inside, outside of and across the end of the grammar."""
  requests = _requests([grammars.regex(_CALL), grammars.json_schema(_SCHEMA)])
  want = make_engine().generate(requests)
  said = [
    [*request.prompt, *one.tokens, 7, 8, 9]
    for request, one in zip(requests, want, strict=True)
  ]
  engine = make_engine(_Scatter(said, every))
  found = engine.generate(requests)
  assert [one.tokens for one in found] == [one.tokens for one in want]
  assert [one.finish for one in found] == [Finish.STOP] * 2
  if every == 1000:
    assert engine.steps < 0.5 * sum(len(one.tokens) for one in want)
  invariants.check(engine)


def test_masks_are_those_of_each_draft_and_are_forgotten(
  smollm2_words, grammars
):
  matcher = grammars.regex("(yes|no) [0-9]")()
  size = smollm2_words.vocab_size + 40
  ids = smollm2_words.encode("yes 1")
  kept, masks = guides.combine([matcher], (*ids, 5, 6), size)
  assert list(kept) == ids  # what does not fit is cut off
  assert masks is not None
  assert masks.shape == (len(ids) + 1, guides.num_words(size))
  again, same = guides.combine([matcher], tuple(ids), size)
  np.testing.assert_array_equal(same, masks)
  allowed = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")
  allowed = allowed[:, :size]
  assert not allowed[:, smollm2_words.vocab_size :].any()
  for row, token in enumerate(ids):
    assert allowed[row, token]
    one = grammars.regex("(yes|no) [0-9]")()
    for before in ids[:row]:
      one.push(before)
    free = [t for t in np.flatnonzero(allowed[row]) if _fits(one, int(t))]
    assert len(free) == allowed[row].sum()


def _fits(matcher, token: int) -> bool:
  return matcher._matcher.validate_tokens([token]) == 1


def test_two_guides_allow_what_both_do(grammars, smollm2_words):
  size = smollm2_words.vocab_size + 40
  both = [grammars.regex("[0-9]+")(), grammars.regex("[5-9a-z]+")()]
  _, masks = guides.combine(both, (), size)
  assert masks is not None
  bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")[0]
  texts = {smollm2_words.decode([int(t)]) for t in np.flatnonzero(bits)}
  assert {"5", "9"} <= texts
  assert all(re.fullmatch("[5-9]+", text) for text in texts)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda g: g.regex("("), "grammar: .*unclosed group"),
    (lambda g: g.json_schema({"type": "number of"}), "grammar: .*number of"),
    (lambda g: g.lark("start: missing"), "grammar: .*missing"),
  ],
)
def test_a_wrong_grammar_is_refused_in_one_line(grammars, make, message):
  with pytest.raises(grammar.GrammarError, match=message) as caught:
    make(grammars)
  assert "\n" not in str(caught.value)


class _Failing:
  """A guide that breaks: where it is asked, or where it is told."""

  def __init__(self, when: str):
    self.narrows, self._when = True, when

  def push(self, token):
    if self._when == "push":
      raise RuntimeError("planted")
    return False

  def masks(self, drafts, out):
    if self._when == "masks":
      raise RuntimeError("planted")
    return len(drafts)


@pytest.mark.parametrize("when", ["push", "masks"])
def test_a_guide_that_fails_ends_its_own_request_alone(make_engine, when):
  engine = make_engine()
  good, bad = _requests([None, functools.partial(_Failing, when)])
  (want,) = make_engine().generate([good])
  found, failed = engine.generate([good, bad])
  assert found.tokens == want.tokens
  assert failed.finish is Finish.ERROR
  assert failed.error == "a guide failed: planted"
  invariants.check(engine)


def test_an_answer_stops_at_a_text(make_engine, smollm2_words):
  """Wherever the tokens' borders are."""
  engine = make_engine()
  (free,) = engine.generate(_requests([None]))
  text = smollm2_words.decode(list(free.tokens))
  stop = text[40:46]
  start = functools.partial(stopping.StopTexts, smollm2_words, [stop, "\0"])
  (found,) = engine.generate(_requests([start]))
  assert found.finish is Finish.STOP
  assert found.tokens == free.tokens[: len(found.tokens)]
  cut = smollm2_words.decode(list(found.tokens))
  assert stop in cut
  assert stop not in smollm2_words.decode(list(found.tokens[:-1]))


def test_the_examples_of_the_engines_readme_run(babbler, smollm2_words, capsys):
  page = pathlib.Path(engine_lib.__file__).with_name("README.md")
  blocks = markdown.code(page.read_text(encoding="utf-8"), "python")
  small = (
    "Settings(num_pages=48, page_size=16, rows=(4,), pieces=(16,), block=16)"
  )
  code = "\n".join(blocks).replace("Settings()", small)
  found = {"model": babbler, "words": smollm2_words}
  exec(code, found)
  assert len(capsys.readouterr().out.splitlines()) == 2
  date = smollm2_words.decode(list(found["answer"].tokens))
  assert re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", date)


def test_guides_satisfy_the_protocol(grammars, smollm2_words):
  assert isinstance(grammars.regex("a")(), guides.Guide)
  assert isinstance(stopping.StopTexts(smollm2_words, ["a"]), guides.Guide)
