"""Outside artefacts, model files, tokenizers and texts."""
