"""PCCL: training whose collectives are chosen by name, sharded or not."""
