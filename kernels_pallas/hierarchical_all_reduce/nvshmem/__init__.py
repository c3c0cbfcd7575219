"""The inter-node step of the hierarchical all-reduce, on NVSHMEM."""
