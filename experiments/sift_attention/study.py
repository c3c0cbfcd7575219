"""The experiment: first the law, then what policies built on it cost."""

from experiments import models
from experiments.sift_attention import config as config_lib
from experiments.sift_attention import law_study, quality_study
from research import runs
from research.runs import config as runs_config


def run(config: config_lib.Config, context: runs.Context) -> runs.Result:
  """Runs both parts.

  Args:
    config: the settings.
    context: where to put what it makes.

  Returns:
    The judged claims, the law's first.
  """
  config.check()
  model, tokenizer = models.load(config.model)
  law = law_study.run(config, context, model, tokenizer.encode)
  quality = quality_study.run(config, context, model, tokenizer.encode)
  return runs.Result(
    paper="sift_attention",
    config=runs_config.to_dict(config),
    claims=(*law, *quality),
  )


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  config.check()
  return f"{law_study.rehearse(config)}\n{quality_study.rehearse(config)}"
