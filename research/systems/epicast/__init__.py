"""EpiCast: an epidemic among agents in nested and daily groups."""
