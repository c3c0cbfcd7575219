import json
import pathlib

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, trainers

from research.data import gguf, texts, tokenizer

# Characters that SmolLM2's vocabulary can spell; see `Tokenizer.encode`.
_CHARACTERS = st.characters(
  max_codepoint=0x3FFFF,
  exclude_categories=["Cs"],
  exclude_characters="\x04\x06\x13\x14\x16\x1d\ufffd",
)
_FAMILIES = ("gpt-2", "smollm", "llama-bpe", "qwen2")


@pytest.fixture
def from_golden(golden, write_vocab, tmp_path):
  """Builds the golden's small tokenizer with one family's rules."""

  def build(pre: str, **changes) -> tokenizer.Tokenizer:
    fields = {
      "tokens": golden["tokens"],
      "merges": golden["merges"],
      "control": tuple(golden["control"]),
      "pre": pre,
    }
    path = write_vocab(tmp_path / "vocab.gguf", **{**fields, **changes})
    return tokenizer.Tokenizer.from_gguf(gguf.GGUFFile.open(path))

  return build


def _spm_like() -> tokenizers.Tokenizer:
  """A word-joining tokenizer with byte tokens, as Llama 2's."""
  backend = tokenizers.Tokenizer(
    models.BPE(byte_fallback=True, unk_token="<u>")
  )
  backend.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
  )
  byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
  trainer = trainers.BpeTrainer(
    vocab_size=400, special_tokens=["<u>", *byte_tokens], show_progress=False
  )
  backend.train_from_iterator(["the cat sat on the mat, naïve"], trainer)
  backend.decoder = decoders.Sequence(
    [
      decoders.Replace("▁", " "),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(" ", 1, 0),
    ]
  )
  return backend


@pytest.mark.parametrize("pre", _FAMILIES)
def test_each_family_cuts_as_llama_cpp_does(golden, from_golden, pre):
  ours = from_golden(pre)
  for text, expected in zip(
    golden["samples"], golden["families"][pre], strict=True
  ):
    assert ours.encode(text) == expected, text
    assert ours.decode(expected) == text


def test_the_golden_tells_the_families_apart(golden):
  answers = [json.dumps(golden["families"][pre]) for pre in _FAMILIES]
  assert len(set(answers)) == len(_FAMILIES)


def test_smollm2_encodes_as_llama_cpp_does(golden, smollm2_words):
  for text, expected in zip(
    golden["smollm2"]["samples"], golden["smollm2"]["ids"], strict=True
  ):
    assert smollm2_words.encode(text) == expected, text


def test_smollm2_special_tokens(smollm2_words):
  assert smollm2_words.vocab_size == 49152
  assert (smollm2_words.bos_id, smollm2_words.eos_id) == (1, 2)
  assert not smollm2_words.adds_bos
  assert smollm2_words.encode("<|im_start|>") == [1]
  assert smollm2_words.encode("x<|im_end|>")[-1] == 2
  assert smollm2_words.token(2) == "<|im_end|>"
  assert smollm2_words.token(None) is None


@pytest.mark.parametrize(
  "name",
  ["shakespeare/hamlet", "milton/areopagitica", "britannica/shakespeare"],
)
def test_real_text_comes_back(smollm2_words, name):
  text = texts.load(name, progress=False)
  assert smollm2_words.decode(smollm2_words.encode(text)) == text


@given(st.text(_CHARACTERS))
@settings(deadline=None)
def test_any_text_comes_back(smollm2_words, text):
  assert smollm2_words.decode(smollm2_words.encode(text)) == text


def test_text_that_is_no_unicode(smollm2_words):
  # How Python shows a byte of the command line that is no UTF-8.
  with pytest.raises(tokenizer.TokenizerError, match="character 1 of the text"):
    smollm2_words.encode("a\udcff")


def test_qwen2_composes_characters(from_golden):
  ours = from_golden("qwen2")
  assert ours.encode("e\u0301") == ours.encode("\u00e9")
  assert from_golden("gpt-2").decode(ours.encode("e\u0301")) == "\u00e9"


def test_llama_3_wants_its_bos(from_golden):
  assert from_golden("llama-bpe").adds_bos
  assert not from_golden("gpt-2").adds_bos


def test_unknown_pre_tokenizer_is_named(from_golden):
  with pytest.raises(tokenizer.TokenizerError) as caught:
    from_golden("tekken")
  assert (
    "got tokenizer.ggml.pre 'tekken', expected one of default, gpt-2, smollm, "
    "llama-bpe, qwen2; load the model's tokenizer.json instead"
  ) in str(caught.value)


def test_other_vocabularies_are_named(from_golden):
  with pytest.raises(tokenizer.TokenizerError, match="model 'llama', expected"):
    from_golden("default", model="llama")


def test_corrupt_merges(from_golden):
  with pytest.raises(tokenizer.TokenizerError, match="vocabulary is corrupt"):
    from_golden("default", merges=["zz yy"])


def test_file_without_vocabulary(tmp_path):
  path = tmp_path / "empty.gguf"
  path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))
  with pytest.raises(
    tokenizer.TokenizerError, match="tokenizer.ggml.model is missing"
  ):
    tokenizer.Tokenizer.from_gguf(gguf.GGUFFile.open(path))


def _save(folder: pathlib.Path, **config) -> pathlib.Path:
  path = folder / "tokenizer.json"
  _spm_like().save(str(path))
  if config:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
  return path


def test_tokenizer_json_alone(tmp_path):
  ours = tokenizer.Tokenizer.from_file(_save(tmp_path))
  assert ours.decode(ours.encode("the cat ü")) == "the cat ü"
  assert ours.vocab_size == _spm_like().get_vocab_size()
  assert (ours.bos_id, ours.eos_id, ours.chat_template) == (None, None, None)


def test_tokenizer_json_with_config(tmp_path):
  path = _save(
    tmp_path,
    bos_token="<u>",
    eos_token={"content": "<0x00>", "special": True},
    add_bos_token=True,
    chat_template=[
      {"name": "tools", "template": "T"},
      {"name": "default", "template": "D"},
    ],
  )
  ours = tokenizer.Tokenizer.from_file(path)
  assert (ours.bos_id, ours.eos_id, ours.adds_bos) == (0, 1, True)
  assert ours.chat_template == "D"
  (tmp_path / "chat_template.jinja").write_text("J")
  assert tokenizer.Tokenizer.from_file(path).chat_template == "J"


def test_unreadable_tokenizer_files(tmp_path):
  with pytest.raises(tokenizer.TokenizerError, match=r"absent\.json: cannot"):
    tokenizer.Tokenizer.from_file(tmp_path / "absent.json")
  path = _save(tmp_path)
  (tmp_path / "tokenizer_config.json").write_text("{")
  with pytest.raises(tokenizer.TokenizerError, match="config.json: not JSON"):
    tokenizer.Tokenizer.from_file(path)


def test_check_vocab(smollm2_words):
  smollm2_words.check_vocab(49152)
  smollm2_words.check_vocab(49152 + 256)  # padded for the hardware
  for rows in (49151, 151936):
    with pytest.raises(tokenizer.TokenizerError) as caught:
      smollm2_words.check_vocab(rows)
    assert (
      f"mismatched tokenizer: got 49152 tokens, expected the model's {rows}"
    ) in str(caught.value)


def _stream(ours: tokenizer.Tokenizer, ids: list[int]) -> list[str]:
  decoder = tokenizer.StreamDecoder(ours)
  return [*(decoder.push(id) for id in ids), decoder.flush()]


@given(ids=st.lists(st.integers(0, 49151), max_size=40))
@settings(deadline=None, max_examples=200)
def test_pieces_join_to_the_whole_for_any_ids(smollm2_words, ids):
  # Random ids hold broken UTF-8 in every form.
  pieces = _stream(smollm2_words, ids)
  assert "".join(pieces) == smollm2_words.decode(ids)


@given(text=st.text(_CHARACTERS, max_size=30))
@settings(deadline=None, max_examples=200)
def test_no_piece_holds_half_a_character(smollm2_words, text):
  pieces = _stream(smollm2_words, smollm2_words.encode(text))
  assert "".join(pieces) == text
  assert all("\ufffd" not in piece for piece in pieces)
  assert pieces[-1] == ""  # nothing is held back longer than needed


def test_a_cut_off_character_comes_out_at_the_end(smollm2_words):
  ids = smollm2_words.encode("ok 🎉")
  assert _stream(smollm2_words, ids[:-1])[-1] == "\ufffd"


@given(text=st.text("the cat sönµ漢 ", max_size=30))
@settings(deadline=None)
def test_word_joining_decoders_keep_their_spaces(tmp_path_factory, text):
  path = tmp_path_factory.mktemp("spm") / "tokenizer.json"
  _spm_like().save(str(path))
  ours = tokenizer.Tokenizer.from_file(path)
  assert "".join(_stream(ours, ours.encode(text))) == text
