"""SiftAttention: thresholds for attention scores from a power law."""
