"""SiftAttention: does the power law hold, and what do thresholds cost?"""
