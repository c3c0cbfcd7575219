"""Records what llama.cpp and transformers answer, for the tests here.

`make goldens` runs it with the peers' environment and SmolLM2's file:
  .venv-peers/bin/python tests/data/record_goldens.py MODEL.gguf
"""

import importlib.metadata
import json
import pathlib
import runpy
import sys
import tempfile

import llama_cpp  # pyrefly: ignore
import tokenizers
from gguf import GGUFReader
from tokenizers import models, pre_tokenizers, trainers
from transformers.utils import chat_template_utils  # pyrefly: ignore

HERE = pathlib.Path(__file__).parent
CONTROL = ("<|start|>", "<|end|>")
SAMPLES = [
  "Hello world, it's 1234567 o'clock; we'll see 3.14159!",
  "I'M SURE THEY'VE DON'T\n\n\n  indented\n\ttabbed \r\n windows\r\n",
  "   leading and   inner  runs   ",
  "naïve café — “quotes” … 漢字かな 안녕 Привет 🎉👩‍👩‍👧 ½ ² ٣٤٥",
  "def f(x):\n    return x['a']+1 # no??!!...\n\n}",
  "<|start|>user\nhi<|end|>\n<|start|>x",
  "a/b\\c_d-e@f.com https://x.org/?q=1&r=22#333",
  "\u00a0nbsp\u3000wide \n \n  \n x",
]
CORPUS = SAMPLES + [
  "it's we'll they've don't can't I'm you're she'd. " * 3,
  "12 123 1234 12345 2024 2025 100 1000 10000 3.14 " * 3,
  "\n\n\n  \n    return self.x\n\n  if x:\n    y = 1\r\n\r\n" * 3,
  "the quick brown fox jumps over the lazy dog, and then... stops!!! " * 3,
]
CONVERSATIONS = [
  [{"role": "user", "content": "Hi"}],
  [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Quoth <b>&</b> "x"?\n'},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Why? 漢字"},
  ],
]


def small_vocabulary() -> tuple[list[str], list[str]]:
  """Merges that cross every word boundary, so that each rule shows."""
  small = tokenizers.Tokenizer(models.BPE())
  small.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  trainer = trainers.BpeTrainer(
    vocab_size=900,
    max_token_length=8,
    special_tokens=list(CONTROL),
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  small.train_from_iterator(CORPUS, trainer)
  state = json.loads(small.to_str())["model"]
  tokens = sorted(state["vocab"], key=state["vocab"].__getitem__)
  return tokens, [" ".join(pair) for pair in state["merges"]]


def llama_cpp_ids(path: pathlib.Path, samples: list[str]) -> list[list[int]]:
  model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
  return [
    model.tokenize(text.encode(), add_bos=False, special=True)
    for text in samples
  ]


def record(model: pathlib.Path) -> dict:
  tokens, merges = small_vocabulary()
  families = {}
  write = runpy.run_path(str(HERE / "vocab_files.py"))["write"]
  with tempfile.TemporaryDirectory() as folder:
    for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
      path = write(
        pathlib.Path(folder) / f"{pre}.gguf",
        tokens=tokens,
        merges=merges,
        pre=pre,
        control=CONTROL,
      )
      families[pre] = llama_cpp_ids(path, SAMPLES)
  smollm2_samples = [
    *(text for text in SAMPLES if "<|" not in text),
    "a\U00040000b",  # its first byte has no token in this vocabulary
    "<|im_start|>user\nWhat is 12345 + 678?<|im_end|>\n<|im_start|>assistant\n",
  ]
  template = GGUFReader(model).fields["tokenizer.chat_template"].contents()
  rendered, _ = chat_template_utils.render_jinja_template(
    conversations=CONVERSATIONS,
    chat_template=template,
    add_generation_prompt=True,
  )
  packages = ("llama_cpp_python", "transformers", "tokenizers")
  return {
    "versions": {name: importlib.metadata.version(name) for name in packages},
    "tokens": tokens,
    "merges": merges,
    "control": CONTROL,
    "samples": SAMPLES,
    "families": families,
    "smollm2": {
      "samples": smollm2_samples,
      "ids": llama_cpp_ids(model, smollm2_samples),
    },
    "chat": {
      "template": template,
      "conversations": CONVERSATIONS,
      "rendered": rendered,
    },
  }


if __name__ == "__main__":
  golden = record(pathlib.Path(sys.argv[1]))
  target = HERE.parent / "golden" / "tokenizers.json"
  target.write_text(json.dumps(golden, ensure_ascii=True) + "\n")
