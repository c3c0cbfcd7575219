"""GPU kernels in Pallas, and the checks that prove them without a GPU."""
