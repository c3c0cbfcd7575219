"""Shared systems code: models, engine, trainer, graphs, experiment contract."""
