"""Outside artefacts, model files, tokenizers, texts and questions."""
