"""`experiments.tools.generate` as a user calls it, in this process."""

import re

import pytest
from absl.testing import flagsaver

from experiments.tools import generate
from research.telemetry import metrics


@pytest.fixture
def run(smollm2_path, capsys):
  """Runs the tool with some flags; returns its code, output and errors."""
  del smollm2_path  # skips where the model cannot be had

  def call(**flags):
    with flagsaver.flagsaver(**flags):
      code = generate.main([])
    captured = capsys.readouterr()
    return code, captured.out, captured.err

  return call


def test_answers_and_says_how_fast(run):
  code, out, err = run(prompt="What is the capital of France?", max_tokens=12)
  assert code == 0
  assert "Paris" in out
  assert "prefill" in err
  assert "memory-bandwidth limit" in err


def test_a_stop_text_ends_the_answer(run):
  _, out, _ = run(
    prompt="What is the capital of France?", max_tokens=12, stop=["Paris"]
  )
  assert out == "The capital of France is \n"


def test_draws_follow_the_seed(run):
  sampled = {"prompt": "Tell me a story.", "temperature": 1.5, "max_tokens": 12}
  first, other = (run(**sampled, seed=seed)[1] for seed in (1, 2))
  assert first != other


def test_a_policy_says_what_it_read(
  run, tmp_path, smollm2_start, smollm2_words, monkeypatch
):
  load = lambda name, offline: (smollm2_start, smollm2_words)
  monkeypatch.setattr(generate.models, "load", load)
  code, _, err = run(
    prompt="What is the capital of France?",
    max_tokens=12,
    policy="relative_to_max:scale=4",
    metrics=str(tmp_path),
  )
  assert code == 0
  found = re.search(r"read ([\d.]+)% of value rows after the union", err)
  assert found
  (row,) = metrics.read(tmp_path / metrics.FILE_NAME)
  share = row["values"]["sift/row_share"] or 0.0
  assert float(found[1]) == pytest.approx(100 * share, abs=0.06)
  assert 0 < share < 1
  assert "sift/layer_01/head_08_kept_share" in row["values"]


def test_a_raw_prompt_is_left_as_it_is(smollm2_words):
  ids = generate.encode_prompt(smollm2_words, "Once upon", raw=True)
  assert ids == smollm2_words.encode("Once upon")
  chat = generate.encode_prompt(smollm2_words, "Once upon", raw=False)
  text = smollm2_words.decode(chat)
  assert "<|im_start|>user\nOnce upon<|im_end|>" in text
  assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ({"prompt": " "}, "empty prompt: got no text"),
    ({"prompt": "x", "model": "smolm2-135m"}, "did you mean smollm2-135m?"),
    ({"prompt": "x", "temperature": -1.0}, "temperature: got -1.0, expected"),
    ({"prompt": "x", "top_p": 0.0}, "top_p: got 0.0, expected 0 < top_p <= 1"),
    ({"prompt": "x", "policy": "relative_to_mac"}, "did you mean relative_to"),
    ({"prompt": "x", "metrics": "out"}, "got no policy whose reading to"),
    ({"prompt": "x", "max_tokens": 9000}, "prompt over the context: got"),
  ],
)
def test_bad_input_has_one_line(run, flags, message):
  code, out, err = run(**flags)
  assert code == 2
  assert out == ""
  assert err.count("\n") == 1
  assert err.startswith("error: ")
  assert message in err


def test_a_truncated_model_file_is_named(run, smollm2_path, tmp_path):
  half = tmp_path / "half.gguf"
  with smollm2_path.open("rb") as whole:
    half.write_bytes(whole.read(smollm2_path.stat().st_size // 2))
  code, _, err = run(prompt="x", model=str(half))
  assert code == 2
  assert "half.gguf" in err
  assert err.count("\n") == 1


def test_a_folder_without_a_tokenizer_is_named(run, tmp_path):
  code, _, err = run(prompt="x", model=str(tmp_path))
  assert code == 2
  assert "config.json is missing" in err
